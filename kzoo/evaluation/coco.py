"""COCO's average precision of boxes and of masks: the arithmetic on arrays.

The matching and the precision curves are faster-coco-eval's. It gives pycocotools' figures in a tenth of the
time, which is what an evaluation after every epoch needs; the tests hold it to plain arithmetic.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval import mask as run_lengths

Picture = Mapping[str, np.ndarray | list[dict]]


def coco_average_precision(
    truths: Sequence[Picture],
    detections: Sequence[Picture],
    classes: Sequence[str],
    max_detections: int = 100,
) -> dict[str, float]:
    """COCO's average precision of detections, over all classes and for each of them.

    AP is the mean over ten IoU thresholds (0.50, 0.55 ... 0.95) of the precision interpolated at 101 recalls:
    https://cocodataset.org/#detection-eval. Small, medium and large are the objects of less than 32², of up
    to 96² and of more than 96² pixels. Among equal scores the order of the arguments decides.

    A crowd is a region of objects that nobody told apart. It is not to be found, and a detection of its class
    that matches no object is neither right nor wrong if at least the threshold's share of it lies there.

    Args:
        truths: A dict for each picture: `boxes` [n, 4] xyxy in pixels of the picture itself, `classes` [n]
            integers from 0. No padding. n may be 0. Where it is known, `crowd` bool [n] tells crowds from
            objects, `areas` [n] what counts as small, medium and large (else the area of the box, or of the
            mask where masks are measured), and `masks` holds n masks as COCO's run lengths.
        detections: A dict for each picture, in the same order: `boxes` [m, 4], `scores` [m] in any order,
            `classes` [m], and `masks` where there are some. m may be 0.
        classes: The names of the classes.
        max_detections: How many detections of a picture and class count, those with the highest scores first.

    Returns:
        From 0 to 1: `AP`, `AP50`, `AP75`, `AP_small`, `AP_medium`, `AP_large`, and for each class `AP/NAME`,
        `AP50/NAME` and `AP75/NAME`; if all truths and detections have masks, the same of these: `mask_AP`,
        `mask_AP50`, ... NaN stands where there is no true object to find, and such a class is left out of the
        means; `nan_to_none` makes the result fit for JSON.

    Raises:
        ValueError: No picture; lists of different lengths; a class outside `classes`; arrays of lengths that
            disagree; a box or score that is not finite; masks of several sizes in a picture; max_detections
            below 1.

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

    masks = all("masks" in picture for picture in (*truths, *detections))
    sizes = [_size(*pair, f"[{i}]") for i, pair in enumerate(zip(truths, detections, strict=True))]
    true, found = (
        _annotations(pictures, sizes if masks else None, len(classes), argument)
        for pictures, argument in ((truths, "truths"), (detections, "detections"))
    )
    result = _figures(_average_precisions(true, found, "bbox", max_detections), classes)
    if masks:
        figures = _figures(_average_precisions(true, found, "segm", max_detections), classes)
        result |= {f"mask_{name}": value for name, value in figures.items()}
    return result


def nan_to_none(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """The same figures with None for NaN, because JSON knows null and no NaN.

    Example:
        >>> nan_to_none({"AP": 0.5, "AP_small": float("nan")})
        {'AP': 0.5, 'AP_small': None}
    """
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def _average_precisions(true: COCO, found: COCO, iou_type: str, max_detections: int) -> np.ndarray:
    """Average precision [10 thresholds, K classes, 4 area ranges], NaN where there is no truth.

    Args:
        true: what `_annotations` made of the truths.
        found: what it made of the detections.
        iou_type: "bbox" or "segm".
        max_detections: as for `coco_average_precision`.
    """
    for annotation in (*true.anns.values(), *found.anns.values()):
        annotation["area"] = annotation["areas"][iou_type]
    evaluation = COCOeval_faster(true, found, iouType=iou_type)
    evaluation.params.maxDets = [max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]  # [10 thresholds, 101 recalls, K classes, 4 area ranges]
    # One class in one area range is -1 throughout where it has no truth.
    return np.where(precision < 0, math.nan, precision).mean(axis=1)


def _figures(average: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """The figures by name, out of [10 thresholds, K classes, 4 area ranges]."""
    at_50, at_75 = 0, 5
    everywhere, small, medium, large = range(4)
    figures = {
        "AP": _mean(average[:, :, everywhere]),
        "AP50": _mean(average[at_50, :, everywhere]),
        "AP75": _mean(average[at_75, :, everywhere]),
        "AP_small": _mean(average[:, :, small]),
        "AP_medium": _mean(average[:, :, medium]),
        "AP_large": _mean(average[:, :, large]),
    }
    for index, name in enumerate(classes):
        figures[f"AP/{name}"] = _mean(average[:, index, everywhere])
        figures[f"AP50/{name}"] = _mean(average[at_50, index, everywhere])
        figures[f"AP75/{name}"] = _mean(average[at_75, index, everywhere])
    return figures


def _annotations(
    pictures: Sequence[Picture],
    sizes: Sequence[tuple[int, int]] | None,
    num_classes: int,
    argument: str,
) -> COCO:
    """Per-picture arrays in the form that COCO's tools read, with masks if there are their sizes."""
    annotations = []
    for index, picture in enumerate(pictures):
        boxes, labels, scores, crowd = _checked(picture, num_classes, f"{argument}[{index}]")
        sides = boxes[:, 2:] - boxes[:, :2]  # [n, 2] width, height
        xywh = np.concatenate([boxes[:, :2], sides], axis=1).tolist()
        masks = list(picture["masks"]) if sizes else [None] * len(boxes)
        box_areas = np.asarray(picture.get("areas", sides.prod(axis=1)), float).tolist()
        mask_areas = box_areas
        if sizes and "areas" not in picture:
            mask_areas = run_lengths.area(masks).tolist()
        for row, mask in enumerate(masks):
            annotations.append(
                {
                    "id": len(annotations) + 1,  # from 1, because COCO's tools take 0 for "not matched"
                    "image_id": index,
                    "category_id": int(labels[row]),
                    "bbox": xywh[row],
                    "segmentation": mask,
                    "areas": {"bbox": box_areas[row], "segm": mask_areas[row]},
                    "score": float(scores[row]),
                    "iscrowd": int(crowd[row]),
                }
            )
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": index, "height": height, "width": width}
            for index, (height, width) in enumerate(sizes or [(0, 0)] * len(pictures))
        ],
        "categories": [{"id": index} for index in range(num_classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _size(true: Picture, found: Picture, where: str) -> tuple[int, int]:
    """Height and width of the masks of a picture, (0, 0) if there are none."""
    sizes = {
        tuple(mask["size"]) for masks in (true.get("masks", ()), found.get("masks", ())) for mask in masks
    }
    if len(sizes) > 1:
        # COCO's tools would call such masks apart, without a word.
        raise ValueError(
            f"picture {where} has masks of {len(sizes)} sizes, {sorted(sizes)}; one was expected"
        )
    return sizes.pop() if sizes else (0, 0)


def _checked(picture: Picture, num_classes: int, where: str) -> tuple[np.ndarray, ...]:
    """Boxes [n, 4], classes [n], scores [n] (ones for the truth, which has none), whether crowds [n]."""
    boxes = np.asarray(picture["boxes"], np.float64).reshape(-1, 4)
    labels = np.asarray(picture["classes"]).astype(np.int64)
    scores = np.asarray(picture.get("scores", np.ones(len(boxes))), np.float64)
    crowd = np.asarray(picture.get("crowd", np.zeros(len(boxes))), bool)
    if not len(boxes) == len(labels) == len(scores):
        raise ValueError(f"{where} has {len(boxes)} boxes, {len(labels)} classes and {len(scores)} scores")
    for name in ("crowd", "areas", "masks"):
        if name in picture and len(picture[name]) != len(boxes):
            raise ValueError(f"{where} has {len(boxes)} boxes and {len(picture[name])} {name}")
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(
            f"{where} has class {outside[0]}; the {num_classes} classes given are 0 to {num_classes - 1}"
        )
    # A NaN box would pass for a match with anything, since no comparison with it is true.
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError(f"{where} has a box or score that is not finite; has the training diverged?")
    return boxes, labels, scores, crowd


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
