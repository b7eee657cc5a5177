"""COCO's average precision of boxes: the arithmetic on arrays, and the loop over a dataset that feeds it.

The matching and the precision curves are faster-coco-eval's. It gives pycocotools' figures in a tenth of the
time, which is what an evaluation after every epoch needs; the tests hold it to plain arithmetic.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from kzoo.data import to_own_pixels

Arrays = Mapping[str, np.ndarray]

ANSWER_KEYS = ("boxes", "scores", "classes", "num_detections")
BATCH_KEYS = ("images", "boxes", "classes", "original_size", "scale")


def coco_average_precision(
    truths: Sequence[Arrays],
    detections: Sequence[Arrays],
    classes: Sequence[str],
    max_detections: int = 100,
) -> dict[str, float]:
    """COCO's average precision of detections, over all classes and for each of them.

    AP is the mean over ten IoU thresholds (0.50, 0.55 ... 0.95) of the precision interpolated at 101 recalls:
    https://cocodataset.org/#detection-eval. Small, medium and large are the objects with a box of less than
    32², of up to 96² and of more than 96² pixels. Among equal scores the order of the arguments decides.

    Args:
        truths: A dict for each picture: `boxes` [n, 4] xyxy in pixels of the picture itself, `classes` [n]
            integers from 0. No padding. n may be 0.
        detections: A dict for each picture, in the same order: `boxes` [m, 4], `scores` [m] in any order and
            `classes` [m]. m may be 0.
        classes: The names of the classes.
        max_detections: How many detections of a picture and class count, those with the highest scores first.

    Returns:
        From 0 to 1: `AP`, `AP50`, `AP75`, `AP_small`, `AP_medium`, `AP_large`, and for each class `AP/NAME`
        and `AP50/NAME`. NaN stands where there is no true object to find, and such a class is left out of the
        means; `nan_to_none` makes the result fit for JSON.

    Raises:
        ValueError: No picture; lists of different lengths; a class outside `classes`; arrays of lengths that
            disagree; a box or score that is not finite; max_detections below 1.

    Example:
        >>> truth = {"boxes": np.array([[0, 0, 40, 40]]), "classes": np.array([0])}
        >>> answer = truth | {"boxes": np.array([[0, 0, 40, 30]]), "scores": np.array([0.9])}
        >>> round(coco_average_precision([truth], [answer], ["cell"])["AP"], 3)  # IoU 0.75: six of ten
        0.6
    """
    if not truths:
        raise ValueError("truths holds no picture: there is nothing to evaluate")
    if len(truths) != len(detections):
        raise ValueError(f"{len(truths)} pictures in truths, but {len(detections)} in detections")
    if max_detections < 1:
        raise ValueError(f"max_detections is {max_detections}, and must be 1 or more")

    evaluation = COCOeval_faster(
        _annotations(truths, len(classes), "truths"),
        _annotations(detections, len(classes), "detections"),
        iouType="bbox",
    )
    evaluation.params.maxDets = [max_detections]
    evaluation.evaluate()
    evaluation.accumulate()

    precision = evaluation.eval["precision"][..., 0]  # [10 thresholds, 101 recalls, K classes, 4 area ranges]
    # One class in one area range is -1 throughout where it has no truth.
    average = np.where(precision < 0, math.nan, precision).mean(axis=1)  # [10, K, 4]
    at_50, at_75 = 0, 5
    everywhere, small, medium, large = range(4)
    result = {
        "AP": _mean(average[:, :, everywhere]),
        "AP50": _mean(average[at_50, :, everywhere]),
        "AP75": _mean(average[at_75, :, everywhere]),
        "AP_small": _mean(average[:, :, small]),
        "AP_medium": _mean(average[:, :, medium]),
        "AP_large": _mean(average[:, :, large]),
    }
    for index, name in enumerate(classes):
        result[f"AP/{name}"] = _mean(average[:, index, everywhere])
        result[f"AP50/{name}"] = _mean(average[at_50, index, everywhere])
        result[f"AP75/{name}"] = _mean(average[at_75, index, everywhere])
    return result


def evaluate_detection(
    predict: Callable[[np.ndarray], Arrays],
    dataset: Iterable[Arrays],
    classes: Sequence[str],
    max_detections: int = 100,
) -> dict[str, float]:
    """COCO's average precision of what `predict` answers on a dataset, in the pictures' own pixels.

    Args:
        predict: From `images` of a batch to answers: `boxes` [B, N, 4], `scores` [B, N], `classes` [B, N] and
            `num_detections` [B], boxes in pixels of `images`. `model.predict_on_batch` is one, and so is what
            `kzoo.load` gives.
        dataset: Batches as `kzoo.data.load` gives them without augmentation: `images`, `boxes` [B, G, 4],
            `classes` [B, G] with -1 for padding, `scale` [B, 2] and `original_size` [B, 2].
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
    truths, detections = [], []
    for batch in dataset:
        batch = _as_arrays(batch, BATCH_KEYS, "a batch of the dataset")
        answers = _as_arrays(predict(batch["images"]), ANSWER_KEYS, "the answer of predict")
        if len(answers["boxes"]) != len(batch["boxes"]):
            found, given = len(answers["boxes"]), len(batch["boxes"])
            raise ValueError(f"predict answered for {found} pictures when it was given {given}")
        for true, answered in _pictures(batch, answers):
            truths.append(true)
            detections.append(answered)
    if not truths:
        raise ValueError("the dataset is empty: it gave no batch to evaluate")
    return coco_average_precision(truths, detections, classes, max_detections)


def nan_to_none(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The same figures with None for NaN, because JSON knows null and no NaN.

    Example:
        >>> nan_to_none({"AP": 0.5, "AP_small": float("nan")})
        {'AP': 0.5, 'AP_small': None}
    """
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def _pictures(batch: Arrays, answers: Arrays) -> Iterator[tuple[Arrays, Arrays]]:
    """Truth and detections of each picture, without padding, in the pixels of the picture itself."""
    own_boxes = to_own_pixels(batch["boxes"], batch["scale"], batch["original_size"])
    found_boxes = to_own_pixels(answers["boxes"], batch["scale"], batch["original_size"])
    for index, count in enumerate(answers["num_detections"]):
        real = batch["classes"][index] >= 0
        true = {"boxes": own_boxes[index][real], "classes": batch["classes"][index][real]}
        answered = {
            "boxes": found_boxes[index][:count],
            "scores": answers["scores"][index][:count],
            "classes": answers["classes"][index][:count],
        }
        yield true, answered


def _as_arrays(tensors: Mapping, keys: Sequence[str], what: str) -> dict[str, np.ndarray]:
    missing = [key for key in keys if key not in tensors]
    if missing:
        raise ValueError(f"{what} lacks {missing}; it has {sorted(tensors)}")
    return {key: np.asarray(tensors[key]) for key in keys}


def _annotations(pictures: Sequence[Arrays], num_classes: int, argument: str) -> COCO:
    """Per-picture arrays in the form that COCO's tools read."""
    annotations = []
    for index, picture in enumerate(pictures):
        boxes, labels, scores = _checked(picture, num_classes, f"{argument}[{index}]")
        sides = boxes[:, 2:] - boxes[:, :2]  # [n, 2] width, height
        xywh = np.concatenate([boxes[:, :2], sides], axis=1).tolist()
        areas = sides.prod(axis=1).tolist()
        for box, area, label, score in zip(xywh, areas, labels.tolist(), scores.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # from 1, because COCO's tools take 0 for "not matched"
                    "image_id": index,
                    "category_id": label,
                    "bbox": box,
                    "area": area,
                    "score": score,
                    "iscrowd": 0,
                }
            )
    coco = COCO()
    coco.dataset = {
        "images": [{"id": index} for index in range(len(pictures))],
        "categories": [{"id": index} for index in range(num_classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _checked(picture: Arrays, num_classes: int, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [n, 4], classes [n] and scores [n] (ones for the truth, which has none)."""
    boxes = np.asarray(picture["boxes"], np.float64).reshape(-1, 4)
    labels = np.asarray(picture["classes"]).astype(np.int64)
    scores = np.asarray(picture.get("scores", np.ones(len(boxes))), np.float64)
    if not len(boxes) == len(labels) == len(scores):
        raise ValueError(f"{where} has {len(boxes)} boxes, {len(labels)} classes and {len(scores)} scores")
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(
            f"{where} has class {outside[0]}; the {num_classes} classes given are 0 to {num_classes - 1}"
        )
    # A NaN box would pass for a match with anything, since no comparison with it is true.
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError(f"{where} has a box or score that is not finite; has the training diverged?")
    return boxes, labels, scores


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
