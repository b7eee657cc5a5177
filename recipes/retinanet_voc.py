"""RetinaNet on pictures with Pascal VOC annotations, from random weights.

    python recipes/retinanet_voc.py --data voc:DIR --minutes 10

DIR holds JPEGImages, Annotations and ImageSets/Main, or just pictures with annotations beside them. A small residual
backbone, three levels of pyramid and strong augmentation: made for hundreds of pictures and a few cores.

Takes: the minutes given, and half a minute to start, to measure and to export.
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
    """RetinaNet on pictures with Pascal VOC annotations, from random weights."""

    data: str
    epochs: int = 20
    minutes: float | None = None
    batch_size: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    backbone: str = "compact"
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    seed: int = 0
    output: Path = Path("runs/retinanet_voc")
    export: Path = Path("saved_models/retinanet_voc")
    image_size: tuple[int, int] = (256, 320)
    """Height and width that pictures are fitted into."""
    anchor_sizes: tuple[float, ...] = (16.0, 32.0, 64.0)
    """The smallest anchor of each level from P3 upwards, in pixels of the fitted picture."""
    splits: tuple[str, str, str] = ("train", "val", "test")
    """To learn from, to watch the training by, to measure the result on."""
    upright: bool = False
    """Whether pictures have an up and a down; where not, they are also turned and flipped upside down."""
    pictures_per_epoch: int = 2000
    """An epoch is not one pass: small sets would be validated more than trained on."""


def main(settings: Settings) -> None:
    """Trains, measures, exports."""
    training.set_precision(settings.precision)
    keras.utils.set_random_seed(settings.seed)

    sides = {} if settings.upright else {"vertical_flip": 0.5, "quarter_turns": True}
    loading = {"image_size": settings.image_size, "batch_size": settings.batch_size, "seed": settings.seed}
    train, validation, test = (
        kzoo.data.load(settings.data, split=split, augment=augment, **loading)
        for split, augment in zip(settings.splits, (kzoo.data.Augmentation(**sides), False, False), strict=True)
    )

    model = kzoo.build(
        "retinanet",
        num_classes=len(train.classes),
        input_shape=(*settings.image_size, 3),
        backbone=settings.backbone,
        pyramid_channels=64,
        head_depth=2,
        normalization="batch",
        anchor_sizes=settings.anchor_sizes,
    )
    model.compile(training.adamw(settings.learning_rate, settings.weight_decay))

    run = training.Run(settings, train.classes)
    run.fit(model, train, validation, steps_per_epoch=settings.pictures_per_epoch // settings.batch_size)
    run.measure(model, test)
    run.export(model, test)
    run.summary()


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
