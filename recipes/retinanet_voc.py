"""RetinaNet on pictures with Pascal VOC annotations, from random weights.

    python recipes/retinanet_voc.py --data voc:DIR --minutes 10

DIR holds JPEGImages, Annotations and ImageSets/Main, or pictures and annotations side by side. A small
residual backbone, three levels of pyramid and strong augmentation: made for hundreds of pictures and a few
cores.

Takes: the minutes given, and half a minute to start, to measure and to export.
Reached: AP 0.595, AP50 0.905 on the test pictures of BCCD (205 to learn from) in 10 minutes on two cores
(docs/results.md).
"""

from dataclasses import dataclass
from pathlib import Path

import kzoo
from kzoo import command_line, training


@dataclass(frozen=True, kw_only=True)
class Settings(training.OwnObjects):
    """RetinaNet on pictures with Pascal VOC annotations, from random weights."""

    output: Path = Path("runs/retinanet_voc")
    export: Path = Path("saved_models/retinanet_voc")
    anchor_sizes: tuple[float, ...] = (16.0, 32.0, 64.0)
    """The smallest anchor of each level from P3 upwards, in pixels of the fitted picture."""


def main(settings: Settings) -> None:
    """Trains, measures, exports."""
    strategy = training.prepare(settings)
    train, validation, test = settings.load()

    with strategy.scope():
        model = kzoo.build(
            "retinanet",
            num_classes=len(train.classes),
            input_shape=(*settings.image_size, 3),
            backbone=settings.backbone,
            pyramid_channels=64,
            head_depth=2,
            normalization="batch",
            anchor_sizes=settings.anchor_sizes,
            box_loss="giou",
            max_detections=settings.max_detections,
        )
        model.compile(settings.make_optimizer())

    run = training.Run(settings, train.classes, settings.max_detections)
    run.fit(model, train, validation, settings.steps_per_epoch)
    run.measure(model, test)
    run.export(model, test)
    run.summary()


if __name__ == "__main__":
    command_line.run_recipe(main, Settings, __doc__)
