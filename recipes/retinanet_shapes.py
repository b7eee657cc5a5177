"""RetinaNet on shapes that are drawn as it learns: nothing to download, and the first thing to run (`make demo`).

    python recipes/retinanet_shapes.py

Five kinds of shapes, one to six in a picture of 128x128 pixels, on textured ground, overlapping.

Takes: under 4 minutes on two cores.
Reached: see docs/results.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras
import tyro

import kzoo
from kzoo import training


@dataclass(frozen=True)
class Settings(training.Settings):
    """RetinaNet on shapes that are drawn as it learns."""

    data: str = "shapes"
    epochs: int = 6
    minutes: float | None = None
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    backbone: str = "compact"
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    seed: int = 0
    output: Path = Path("runs/retinanet_shapes")
    export: Path = Path("saved_models/retinanet_shapes")


def main(settings: Settings) -> None:
    """Trains, measures, exports."""
    training.set_precision(settings.precision)
    keras.utils.set_random_seed(settings.seed)

    train, validation, test = (
        kzoo.data.load(settings.data, split=split, augment=split == "train", batch_size=settings.batch_size)
        for split in ("train", "val", "test")
    )
    model = kzoo.build(
        "retinanet",
        num_classes=len(train.classes),
        input_shape=(128, 128, 3),
        backbone=settings.backbone,
        pyramid_channels=64,
        head_depth=2,
        normalization="batch",
        anchor_sizes=(12, 24, 48),
    )
    model.compile(training.adamw(settings.learning_rate, settings.weight_decay))

    run = training.Run(settings, train.classes)
    run.fit(model, train, validation)
    run.measure(model, test)
    run.export(model, test)
    run.summary()


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
