"""RetinaNet on pictures with Pascal VOC annotations, from random weights.

    python recipes/retinanet_voc.py --data voc:DIR --minutes 10

DIR holds JPEGImages, Annotations and ImageSets/Main, or pictures and annotations side by side. A small
residual backbone, three levels of pyramid and strong augmentation: made for hundreds of pictures and a few
cores.

Takes: the minutes given, and half a minute to start, to measure and to export.
Reached: AP 0.595, AP50 0.905 on the test pictures of BCCD (205 to learn from) in 10 minutes on two cores
(docs/results.md).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import kzoo
from kzoo import command_line, training
from kzoo.checks import check_integer


@dataclass(frozen=True, kw_only=True)
class Settings(training.Settings):
    """RetinaNet on pictures with Pascal VOC annotations, from random weights."""

    output: Path = Path("runs/retinanet_voc")
    export: Path = Path("saved_models/retinanet_voc")
    image_size: tuple[int, int] = (256, 320)
    """Height and width that pictures are fitted into."""
    anchor_sizes: tuple[float, ...] = (16.0, 32.0, 64.0)
    """The smallest anchor of each level from P3 upwards, in pixels of the fitted picture."""
    splits: tuple[str, str, str] = ("train", "val", "test")
    """To learn from, to watch the training by, to measure the result on."""
    any_way_up: bool = False
    """Whether pictures have no up and down, as from a microscope: then they are turned, not just mirrored."""
    pictures_per_epoch: int = 2000
    """An epoch is not one pass: small sets would be validated more than trained on."""

    def check(self) -> None:
        """Refuses what cannot be, before anything is read or written."""
        super().check()
        check_integer("pictures_per_epoch", self.pictures_per_epoch, least=1)


def main(settings: Settings) -> None:
    """Trains, measures, exports."""
    training.prepare(settings)

    turned = kzoo.data.Augmentation(
        vertical_flip=0.5 if settings.any_way_up else 0.0, quarter_turns=settings.any_way_up
    )
    loading = {"image_size": settings.image_size, "batch_size": settings.batch_size, "seed": settings.seed}
    train, validation, test = (
        kzoo.data.load(settings.data, split=split, augment=augment, **loading)
        for split, augment in zip(settings.splits, (turned, False, False), strict=True)
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
        box_loss="giou",
    )
    model.compile(training.adamw(settings.learning_rate, settings.weight_decay))

    run = training.Run(settings, train.classes)
    run.fit(
        model, train, validation, steps_per_epoch=math.ceil(settings.pictures_per_epoch / settings.batch_size)
    )
    run.measure(model, test)
    run.export(model, test)
    run.summary()


if __name__ == "__main__":
    command_line.run_recipe(main, Settings, __doc__)
