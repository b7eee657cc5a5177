"""The loop over a dataset that feeds the arithmetic: answers and truth in the pictures' own pixels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kzoo.classes import CROWD
from kzoo.data import to_own_pixels
from kzoo.data.masks import to_own_masks
from kzoo.evaluation.answers import Arrays, Predict, batches_and_answers
from kzoo.evaluation.coco import Picture, coco_average_precision

if TYPE_CHECKING:
    from kzoo.data.sources import Split

ANSWER_KEYS = ("boxes", "scores", "classes", "num_detections")
BATCH_KEYS = ("images", "boxes", "classes", "original_size", "scale")


def evaluate_detection(
    predict: Predict,
    dataset: Iterable[Mapping],
    classes: Sequence[str],
    max_detections: int = 100,
) -> dict[str, float]:
    """COCO's average precision of what `predict` answers on a dataset, in the pictures' own pixels.

    Masks are measured where `predict` answers them and the dataset, one that `kzoo.data.load` returned, knows
    the true ones of its pictures. They are kept as run lengths, and only one is laid out in full at a time.

    Args:
        predict: From `images` of a batch to answers: `boxes` [B, N, 4], `scores` [B, N], `classes` [B, N] and
            `num_detections` [B], boxes in pixels of `images`; and, where there are some, `masks`: float
            [B, N, m, m] within the boxes, or within `mask_boxes` [B, N, 4] where these are answered, too; or
            uint8 [B, N, H, W] in pixels of `images`. `model.predict_on_batch` is one, and so is what
            `kzoo.load` gives.
        dataset: Batches as `kzoo.data.load` gives them without augmentation: `images`, `boxes` [B, G, 4],
            `classes` [B, G] with -1 for padding and -2 for crowds, `scale` [B, 2] and `original_size` [B, 2].
        classes: The names of the classes.
        max_detections: As for `coco_average_precision`.

    Returns:
        The result of `coco_average_precision`.

    Raises:
        ValueError: The dataset is empty; a batch or an answer lacks a key; predict answers for another number
            of pictures; and what `coco_average_precision` raises.

    Example:
        dataset = kzoo.data.load("shapes", split="val", image_size=(128, 128), batch_size=8)
        result = evaluate_detection(model.predict_on_batch, dataset, kzoo.data.info("shapes").classes)
    """
    truths, detections = truths_and_detections(predict, dataset, len(classes))
    return coco_average_precision(truths, detections, classes, max_detections)


def truths_and_detections(
    predict: Predict, dataset: Iterable[Mapping], num_classes: int
) -> tuple[list[Picture], list[Picture]]:
    """What is in a dataset's pictures and what `predict` finds there, as `coco_average_precision` takes it.

    Args:
        predict: as for `evaluate_detection`.
        dataset: as for `evaluate_detection`.
        num_classes: the number of classes.

    Returns:
        A dict for each picture of what is there, and one of what was found, in the picture's own pixels.

    Raises:
        ValueError: the dataset is empty; a batch or an answer lacks a key; predict answers for another number
            of pictures.
    """
    split = getattr(dataset, "pictures", None)  # datasets of kzoo.data.load know theirs
    batch_keys = (*BATCH_KEYS, *(["image_id"] if split else []))
    optional = ("masks", "mask_boxes") if split and split.read_masks else ()
    truths, detections = [], []
    for batch, answers in batches_and_answers(predict, dataset, batch_keys, ANSWER_KEYS, optional):
        truths += _truths(batch, split, "masks" in answers, num_classes)
        detections += _detections(batch, answers)
    return truths, detections


def _truths(batch: Arrays, split: "Split | None", masked: bool, num_classes: int) -> Iterator[Picture]:
    """The truth of each picture, without padding, in the pixels of the picture itself."""
    own_boxes = to_own_pixels(batch["boxes"], batch["scale"], batch["original_size"])
    for index, labels in enumerate(batch["classes"]):
        labels = labels[labels != -1]  # padding comes last
        crowds, objects = np.flatnonzero(labels == CROWD), np.flatnonzero(labels != CROWD)
        image_id = int(batch["image_id"][index]) if split else None
        if split and split.crowd_classes is not None:
            crowd_classes = split.crowd_classes[image_id]
        else:  # a batch does not tell, so it is one of every class
            crowd_classes = np.tile(np.arange(num_classes), len(crowds))
            crowds = np.repeat(crowds, num_classes)
        rows = np.concatenate([objects, crowds])
        true = {
            "boxes": own_boxes[index][rows],
            "classes": np.concatenate([labels[objects], crowd_classes]),
            "crowd": np.arange(len(rows)) >= len(objects),
        }
        if split:
            if split.areas is not None:
                true["areas"] = split.areas[image_id][rows]
            if masked:
                masks = split.read_masks(image_id)
                true["masks"] = [masks[row] for row in rows]
        yield true


def _detections(batch: Arrays, answers: Arrays) -> Iterator[Picture]:
    """What was found in each picture, without padding, in the pixels of the picture itself."""
    own_boxes = to_own_pixels(answers["boxes"], batch["scale"], batch["original_size"])
    for index, count in enumerate(answers["num_detections"]):
        found = {
            "boxes": own_boxes[index][:count],
            "scores": answers["scores"][index][:count],
            "classes": answers["classes"][index][:count],
        }
        if "masks" in answers:
            masks, scale, size = answers["masks"][index], batch["scale"][index], batch["original_size"][index]
            mask_boxes = answers["mask_boxes"][index][:count] if "mask_boxes" in answers else None
            found["masks"] = to_own_masks(masks[:count], found["boxes"], scale, size, mask_boxes)
        yield found
