"""Where a two-stage detector's time goes: operations of a training step and an inference, summed by stage.

    python benchmarks/time_by_stage.py --model faster_rcnn

The same model and pictures as in speed.py. TensorFlow's profiler tells how long every operation ran; some run
side by side, so the sum is more than the time of a step, and it is the shares that tell. Prints a table.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tensorflow as tf
import tyro
from speed import detector
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from kzoo import training

# The beginnings of layers' names, in the order of the data.
STAGES = {
    "backbone": ("backbone_",),
    "pyramid": ("fpn_",),
    "region proposal network": ("rpn_conv", "rpn_relu", "rpn_bn", "rpn_objectness_head", "rpn_box_head"),
    "matching and sampling": ("anchors", "match", "sample_", "regions"),
    "proposals": ("proposals",),
    "crops": ("crop_",),
    "box head": ("box_head_",),
    "mask head": ("mask_head", "mask_regions"),
    "detections": ("detections", "masks_of_detections"),
    "losses": ("rpn_objectness", "rpn_box", "classification", "box", "mask"),
}


@dataclass(frozen=True)
class Settings:
    """Where a two-stage detector's time goes."""

    model: str = "faster_rcnn"
    side: int = 512
    """Height and width of the pictures."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "float32"


def stage_of(operation: str, model: str) -> str:
    """The stage that an operation such as `gradient_tape/MODEL_1/LAYER_1/convolution` belongs to."""
    found = re.search(rf"{model}(?:_\d+)?/(\w+)", operation)
    layer = found[1] if found else ""
    return next((stage for stage, names in STAGES.items() if layer.startswith(names)), "optimizer and others")


def seconds_by_stage(step: Callable[[], object], model: str) -> Counter:
    """Seconds of operations in one step, by stage."""
    with tempfile.TemporaryDirectory() as directory:
        with tf.profiler.experimental.Profile(directory):
            step()
        [file] = Path(directory).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    seconds = Counter()
    for plane in space.planes:
        names = {number: event.name for number, event in plane.event_metadata.items()}
        for event in (event for line in plane.lines for event in line.events):
            operation = re.fullmatch(r"([\w/.-]+):\w+", names[event.metadata_id])  # NAME:KIND
            if operation:
                seconds[stage_of(operation[1], model)] += event.duration_ps / 1e12
    return seconds


def main(settings: Settings) -> None:
    """Profiles both and prints a table."""
    training.set_precision(settings.precision)
    model, batch = detector(settings.model, settings.side)
    steps = {
        "training": lambda: model.train_on_batch(batch),
        "inference": lambda: model.predict_on_batch(batch["images"][:1]),
    }
    tables = {}
    for name, step in steps.items():
        step()
        step()
        tables[name] = seconds_by_stage(step, settings.model)
    print(f"| | {' | '.join(tables)} |\n|---|{'---|' * len(tables)}")
    for stage in (*STAGES, "optimizer and others"):
        shares = [f"{table[stage] / table.total():.1%}" for table in tables.values()]
        if any(table[stage] for table in tables.values()):
            print(f"| {stage} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
