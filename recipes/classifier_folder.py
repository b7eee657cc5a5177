"""A classifier for pictures in folders, one folder a class, from random weights.

    python recipes/classifier_folder.py --data folder:DIR --minutes 3

DIR holds a folder a class, DIR/cat/*.jpg; or a folder a split, in it a folder a class, DIR/train/cat/*.jpg,
with train, val and test. A small residual backbone and strong augmentation: made for hundreds of pictures and
a few cores.

Takes: the minutes given, and half a minute to start, to measure and to export.
Reached: accuracy 0.994 on 180 crops of blood cells (600 to learn from, --any-way-up) in 3 minutes on two
cores (docs/results.md).
"""

from dataclasses import dataclass
from pathlib import Path

import kzoo
from kzoo import command_line, training


@dataclass(frozen=True, kw_only=True)
class Settings(training.OwnPictures):
    """A classifier for pictures in folders, one folder a class, from random weights."""

    output: Path = Path("runs/classifier_folder")
    export: Path = Path("saved_models/classifier_folder")
    batch_size: int = 32
    image_size: tuple[int, int] = (64, 64)
    label_smoothing: float = 0.1
    """Share of the truth that is spread over all classes."""
    mixup: float = 0.0
    """Alpha of MixUp, 0.2 is usual; 0 is none."""
    cutmix: float = 0.0
    """Alpha of CutMix, 1 is usual; 0 is none."""


def main(settings: Settings) -> None:
    """Trains, measures, exports."""
    strategy = training.prepare(settings)
    train, validation, test = settings.load("classification")

    with strategy.scope():
        model = kzoo.build(
            "classifier",
            num_classes=len(train.classes),
            input_shape=(*settings.image_size, 3),
            backbone=settings.backbone,
            label_smoothing=settings.label_smoothing,
            mixup=settings.mixup,
            cutmix=settings.cutmix,
        )
        model.compile(settings.make_optimizer())

    run = training.Run(settings, train.classes)
    run.fit(model, train, validation, settings.steps_per_epoch)
    run.measure(model, test)
    run.export(model, test)
    run.summary()


if __name__ == "__main__":
    command_line.run_recipe(main, Settings, __doc__)
