"""A detector that learned COCO, fine-tuned on pictures with Pascal VOC annotations.

    python recipes/finetune_voc.py --data voc:DIR --minutes 10
    python recipes/finetune_voc.py --data voc:DIR --weights runs/retinanet_voc/model.keras

DIR holds JPEGImages, Annotations and ImageSets/Main, or pictures and annotations side by side. The stem and
the first stage of the backbone stay as they are, the rest of it learns ten times slower than what is behind
it, and the last layers begin anew where there is another number of classes. COCO's detectors learned from
pictures of 800 pixels: the smaller --image-size is, the fewer small objects their anchors reach. As in
torchvision's first detectors, batch normalisation in the backbone keeps its statistics: those of a few
pictures would be worse.

Takes: the minutes given, and a minute to start, to measure and to export; to begin with, the weights are
fetched once (`kzoo info retinanet` tells their size).
Reached: no figure yet. COCO's weights could not be fetched where this was written; so far the recipe has
run from small models of its own test, and from a file that torchvision wrote, with random weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import kzoo
from kzoo import command_line, training
from kzoo.backbones import is_of_backbone
from kzoo.checks import check_choice, check_number
from kzoo.registry import FREEZABLE
from kzoo.weights.plan import check_related, plan_for


@dataclass(frozen=True, kw_only=True)
class Settings(training.OwnObjects):
    """A detector that learned COCO, fine-tuned on pictures with Pascal VOC annotations."""

    model: Literal["retinanet", "faster_rcnn"] = "retinanet"
    """In one stage or in two."""
    weights: str = "coco"
    """What to begin with: coco, a version such as coco:v1, or the path of a .keras file or of a .pth of
    torchvision's, which tell their architecture."""
    freeze: str | None = "backbone_at_2"
    """What does not learn: backbone, backbone_at_1 to backbone_at_5, batch_norm or None."""
    learning_rate: float = 1e-4
    """The highest, for the recipe's own batch size; it follows the root of others. It rises for 100 steps."""
    backbone_rate: float = 0.1
    """The backbone's learning rate as a share of it."""
    backbone: str | None = None
    """That of a .weights.h5; all other weights tell theirs."""
    output: Path = Path("runs/finetune_voc")
    export: Path = Path("saved_models/finetune_voc")
    anchor_sizes: tuple[float, ...] | None = None
    """Other anchors than those of the weights, as many, in pixels of the fitted picture."""

    def check(self) -> None:
        """Refuses what cannot be, before anything is read or written; raises as `OwnObjects.check` does."""
        super().check()
        check_number("backbone_rate", self.backbone_rate, least=0, most=1)
        if self.freeze is not None:
            check_choice("freeze", self.freeze, FREEZABLE)
        options = kzoo.info(self.model).options
        plan = plan_for(self.model, self.weights, {}, options)
        check_related(plan, self.model)
        anchor_sizes = (options | plan.options)["anchor_sizes"]
        if self.anchor_sizes is not None and len(self.anchor_sizes) != len(anchor_sizes):
            raise ValueError(
                f"anchor_sizes={self.anchor_sizes}: {len(anchor_sizes)} sizes are expected, as many as "
                f"{self.weights} has."
            )


def main(settings: Settings) -> None:
    """Trains, measures, exports."""
    strategy = training.prepare(settings)
    train, validation, test = settings.load()

    given = {"backbone": settings.backbone, "anchor_sizes": settings.anchor_sizes}
    with strategy.scope():
        model = kzoo.build(
            settings.model,
            weights=settings.weights,
            freeze=settings.freeze,
            num_classes=len(train.classes),
            input_shape=(*settings.image_size, 3),
            freeze_statistics=True,
            max_detections=settings.max_detections,
            **{option: value for option, value in given.items() if value is not None},
        )
        print(model.fitted)
        learns = any(is_of_backbone(layer.name) and layer.trainable_weights for layer in model.layers)
        backbone_rate = settings.backbone_rate if learns else 1.0  # a rate of nothing is an error
        model.compile(settings.make_optimizer(backbone_rate))

    run = training.Run(settings, train.classes, settings.max_detections)
    run.fit(model, train, validation, settings.steps_per_epoch)
    run.measure(model, test)
    run.export(model, test)
    run.summary()


if __name__ == "__main__":
    command_line.run_recipe(main, Settings, __doc__)
