"""Mask R-CNN on shapes that are drawn as it learns: nothing to download, masks in a quarter of an hour.

    python recipes/mask_rcnn_shapes.py

Five kinds of shapes, one to six in a picture of 128x128 pixels, on textured ground, overlapping: the mask of
one ends where another covers it.

Takes: 14 minutes on two cores with tests beside it.
Reached: mask AP 0.861, mask AP50 0.962 on 200 pictures that it did not learn from (docs/results.md).
"""

from dataclasses import dataclass
from pathlib import Path

import kzoo
from kzoo import command_line, training


@dataclass(frozen=True, kw_only=True)
class Settings(training.Shapes):
    """Mask R-CNN on shapes that are drawn as it learns."""

    epochs: int = 8
    output: Path = Path("runs/mask_rcnn_shapes")
    export: Path = Path("saved_models/mask_rcnn_shapes")


def main(settings: Settings) -> None:
    """Trains, measures, exports."""
    strategy = training.prepare(settings)
    train, validation, test = settings.load("instance_segmentation")

    with strategy.scope():
        model = kzoo.build(
            "mask_rcnn",
            num_classes=len(train.classes),
            input_shape=(128, 128, 3),
            backbone=settings.backbone,
            pyramid_channels=64,
            normalization="batch",
            anchor_sizes=(16, 32, 64),
            proposals_train=300,
            proposals_test=100,
            roi_samples=64,
            head_units=256,
            mask_channels=64,
            box_loss="giou",
        )
        model.compile(settings.make_optimizer())

    run = training.Run(settings, train.classes)
    run.fit(model, train, validation)
    run.measure(model, test)
    run.export(model, test)
    run.summary()


if __name__ == "__main__":
    command_line.run_recipe(main, Settings, __doc__)
