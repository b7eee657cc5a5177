"""How well the one object of a picture is found."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from kzoo.evaluation.answers import Predict
from kzoo.evaluation.classification import share
from kzoo.evaluation.coco import coco_average_precision
from kzoo.evaluation.dataset import truths_and_detections


def evaluate_box_regression(
    predict: Predict, dataset: Iterable[Mapping], classes: Sequence[str]
) -> dict[str, float]:
    """How well `predict` tells what the one object of each picture is and where, in the pictures' own pixels.

    Args:
        predict: as for `evaluate_detection`.
        dataset: as for `evaluate_detection`, of one object a picture.
        classes: the names of the classes.

    Returns:
        `mean_iou`, the mean intersection over union of the true box with the answered one of the highest
        score, 0 where none was answered, and `accuracy`, how often the class of that one is right; then the
        result of `evaluate_detection`. Pictures without an object are left out of the first two. Where any
        picture has several objects these two are not there: no box is the one to compare then.

    Raises:
        ValueError: what `evaluate_detection` raises.
    """
    truths, detections = truths_and_detections(predict, dataset, len(classes))
    average_precision = coco_average_precision(truths, detections, classes)
    objects = [np.flatnonzero(~true["crowd"]) for true in truths]
    if max(map(len, objects)) > 1:
        return average_precision
    ious, right = [], []
    for rows, true, found in zip(objects, truths, detections, strict=True):
        for row in rows:
            best = found["scores"].argmax() if len(found["scores"]) else None
            answered = best is not None
            ious.append(_iou(true["boxes"][row], found["boxes"][best]) if answered else 0.0)
            right.append(answered and bool(true["classes"][row] == found["classes"][best]))
    figures = {"mean_iou": share(sum(ious), len(ious)), "accuracy": share(sum(right), len(right))}
    return figures | average_precision


def _iou(box: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes, each [4] xyxy, 0 where neither has an area."""
    box, other = box.astype(np.float64), other.astype(np.float64)
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    shared = np.maximum(sides, 0).prod()
    areas = (np.maximum(corners[2:] - corners[:2], 0).prod() for corners in (box, other))
    union = sum(areas) - shared
    return float(shared / union) if union > 0 else 0.0
