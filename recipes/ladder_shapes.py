"""The ladder: seven models answer about the same six pictures, each rung more than the one below.

    python recipes/ladder_shapes.py --minutes 2

A classifier says one thing of a picture with many. A box can be regressed for one object; for several it
gets messy. Faster R-CNN finds them in two stages, RetinaNet in one. U-Net tells the class of each pixel, Mask
R-CNN which object each pixel belongs to. Each is trained on shapes for the minutes given; `ladder.png` has a
row for each of them. The first two learn from pictures with one object, for they can do no more, and are
shown pictures with one to six all the same.

Takes: seven times the minutes given, and half a minute for each rung to start, to measure and to export.
Reached, two minutes a rung and tests beside it: accuracy 0.435, mean IoU 0.793, AP50 0.000 with six slots,
0.887 in two stages, 0.918 in one, mean IoU 0.411 of the pixels, mask AP50 0.510 (docs/results.md).
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import kzoo
from kzoo import command_line, training
from kzoo.visualize import compare_rungs, draw_answer
from kzoo.visualize.curves import figure_name

SHOWN = 6  # pictures
SIDE = 256  # of each on the page, in pixels

DETECTOR = {"pyramid_channels": 64, "normalization": "batch", "box_loss": "giou"}
TWO_STAGES = DETECTOR | {
    "anchor_sizes": (16, 32, 64),
    "proposals_train": 300,
    "proposals_test": 100,
    "roi_samples": 64,
    "head_units": 256,
}


@dataclass(frozen=True)
class Rung:
    """A model, what it learns from, and its options beyond."""

    title: str
    name: str
    task: str
    figure: str  # what stands below its title
    options: dict[str, object]
    data: str | None = None  # where it is not the recipe's


RUNGS = (
    Rung("classifier", "classifier", "classification", "accuracy", {}, "shapes:1"),
    Rung("box regressor\none object", "box_regressor", "box_regression", "mean_iou", {}, "shapes:1"),
    Rung("box regressor\nsix slots", "box_regressor", "detection", "AP50", {"max_objects": 6}),
    Rung("Faster R-CNN", "faster_rcnn", "detection", "AP50", TWO_STAGES),
    Rung(
        "RetinaNet",
        "retinanet",
        "detection",
        "AP50",
        # In so short a training the paper's gamma of 2 learns more slowly.
        DETECTOR | {"head_depth": 2, "anchor_sizes": (16, 32), "focal_gamma": 1.0},
    ),
    Rung(
        "U-Net",
        "unet",
        "segmentation",
        "mean_iou",
        {"width": 16, "depth": 3, "upsampling": "resize", "normalization": "batch", "loss": "cross_entropy"},
    ),
    Rung(
        "Mask R-CNN",
        "mask_rcnn",
        "instance_segmentation",
        "mask_AP50",
        TWO_STAGES | {"mask_channels": 64},
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(training.Shapes):
    """Seven models on shapes, from the class of a picture to the mask of each object."""

    minutes: float | None = 2.0
    """Train each by the clock, the schedule fitted to it; None is by --epochs."""
    output: Path = Path("runs/ladder_shapes")
    export: Path = Path("saved_models/ladder_shapes")


def climb(rung: Rung, settings: Settings, images: np.ndarray) -> tuple[str, list[np.ndarray]]:
    """Trains the model of a rung: its title with what it reached, and its answers, drawn."""
    place = rung.title.replace("\n", "_").replace(" ", "_").lower()
    settings = dataclasses.replace(
        settings,
        data=rung.data or settings.data,
        output=settings.output / place,
        export=settings.export / place,
    )
    strategy = training.prepare(settings, several_workers=False)
    train, validation, test = settings.load(rung.task)
    options = rung.options if rung.name == "unet" else {"backbone": settings.backbone} | rung.options
    with strategy.scope():
        model = kzoo.build(rung.name, num_classes=len(train.classes), input_shape=(128, 128, 3), **options)
        model.compile(settings.make_optimizer())

    run = training.Run(settings, train.classes)
    run.fit(model, train, validation)
    run.measure(model, test)
    run.export(model, test)

    answers = model.predict_on_batch(images)
    drawn = [
        draw_answer(image, {name: of[index] for name, of in answers.items()}, train.classes, longer_side=SIDE)
        for index, image in enumerate(images)
    ]
    return f"{rung.title}\n{figure_name(rung.figure)} {run.metrics[rung.figure]:.3f}", drawn


def main(settings: Settings) -> None:
    """Climbs the ladder and writes the page."""
    settings.check()
    shown = kzoo.data.load(settings.data, split="test", batch_size=SHOWN)
    batch = {name: of.numpy() for name, of in next(iter(shown)).items()}
    images = batch["images"]
    truth = [
        draw_answer(
            image,
            {name: batch[name][index] for name in ("boxes", "classes")},
            shown.classes,
            longer_side=SIDE,
        )
        for index, image in enumerate(images)
    ]
    page = settings.output / "ladder.png"
    rows = {"truth": truth}
    for rung in RUNGS:
        title, drawn = climb(rung, settings, images)
        rows[title] = drawn
        print(title.replace("\n", ": "))
    compare_rungs(rows, page)
    print(f"{page}   all rungs, the same pictures")


if __name__ == "__main__":
    command_line.run_recipe(main, Settings, __doc__)
