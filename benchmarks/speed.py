"""How long a detector takes: a training step of two pictures, and the answers for one.

    python benchmarks/speed.py --precision float32

ResNet-50, 91 classes, random weights, the paper's sizes; SGD with momentum, as torchvision's references
train. The median of the runs after two that warm up. Seconds, as JSON.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
import tyro

import kzoo
from kzoo import training


@dataclass(frozen=True)
class Settings:
    """How long a detector takes."""

    model: str = "retinanet"
    side: int = 512
    """Height and width of the pictures."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    runs: int = 5
    score_threshold: float | None = None
    """The model's own by default; with 0 there are 100 detections, whatever the weights."""


def median_seconds(step: Callable[[], object], runs: int) -> float:
    """The median time of a step, after two that warm up."""
    seconds = []
    for _ in range(2 + runs):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds[2:]), 3)


def detector(name: str, side: int, **options: object) -> tuple[keras.Model, dict[str, tf.Tensor]]:
    """A detector to be timed, and a batch of two pictures with two objects each."""
    model = kzoo.build(name, num_classes=91, input_shape=(side, side, 3), **options)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9))
    rng = np.random.default_rng(0)
    boxes = np.array([[0.02, 0.02, 0.4, 0.4], [0.43, 0.2, 0.8, 0.6]], np.float32) * side
    batch = {
        "images": rng.integers(0, 256, (2, side, side, 3)).astype(np.float32),
        "boxes": np.stack([boxes, boxes]),
        "classes": np.array([[1, 2], [1, 2]], np.int32),
    }
    if "masks" in model.input:
        batch["masks"] = np.ones((2, 2, 56, 56), np.uint8)
    return model, {name: tf.constant(values) for name, values in batch.items()}


def main(settings: Settings) -> None:
    """Times both and prints them."""
    precision = training.set_precision(settings.precision)
    options = {} if settings.score_threshold is None else {"score_threshold": settings.score_threshold}
    model, batch = detector(settings.model, settings.side, **options)
    picture = batch["images"][:1]
    seconds = {
        "train_2_s": median_seconds(lambda: model.train_on_batch(batch), settings.runs),
        "infer_1_s": median_seconds(lambda: model.predict_on_batch(picture), settings.runs),
    }
    found = int(model.predict_on_batch(picture)["num_detections"][0])
    what = {"model": settings.model, "side": settings.side, "precision": precision}
    print(json.dumps(what | seconds | {"detections": found}))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
