"""How well pixels are told apart: intersection over union and Dice of each class."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from kzoo.evaluation.answers import Predict, batches_and_answers
from kzoo.evaluation.classification import check_finite, confusion_matrix, share

IGNORED = -1


def segmentation_metrics(matrix: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """The figures of a confusion matrix of pixels.

    With p_ij pixels of class i taken for class j, T_i = sum_j p_ij and F_i = sum_j p_ji:

        IoU_i = p_ii / (T_i + F_i - p_ii)      Dice_i = 2 p_ii / (T_i + F_i)

    Args:
        matrix: int [C, C]; the row is the truth, as `confusion_matrix` tells it, over all pictures.
        classes: the names of the C classes.

    Returns:
        From 0 to 1: `mean_iou` and `mean_dice` over the classes, `pixel_accuracy`, and for each class
        `IoU/NAME` and `Dice/NAME`. A class that is neither in the truth nor found anywhere is NaN, and left
        out of the means.

    Raises:
        ValueError: a matrix that does not fit the classes.

    Example:
        >>> segmentation_metrics(np.array([[6, 2], [0, 4]]), ["background", "cell"])["IoU/cell"]
        0.6666666666666666
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (len(classes), len(classes)):
        raise ValueError(
            f"the matrix is {list(matrix.shape)}, but there are {len(classes)} classes: [C, C] is expected"
        )
    right, true, found = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    ious = [share(*pair) for pair in zip(right, true + found - right, strict=True)]
    dices = [share(*pair) for pair in zip(2 * right, true + found, strict=True)]
    result = {
        "mean_iou": _mean(ious),
        "mean_dice": _mean(dices),
        "pixel_accuracy": share(right.sum(), matrix.sum()),
    }
    for name, iou, dice in zip(classes, ious, dices, strict=True):
        result |= {f"IoU/{name}": iou, f"Dice/{name}": dice}
    return result


def evaluate_segmentation(
    predict: Predict, dataset: Iterable[Mapping], classes: Sequence[str], ignored_label: int = IGNORED
) -> dict[str, float]:
    """How well `predict` tells the classes of pixels, in the pictures' own ones where the dataset knows them.

    A dataset of `kzoo.data.load` knows the labels as they lie on disk: the probabilities are brought to
    their pixels (`own_probabilities`), one picture at a time. Of any other, the `classes` of the batch are
    held against those of the answer.

    Of a model that answers for the central part of its pictures only (a U-Net with padding="valid"), that
    part is measured.

    Args:
        predict: from `images` [B, H, W, 3] of a batch to answers: `probabilities` [B, h, w, C] (for a dataset
            of `kzoo.data.load`) or `classes` [B, h, w] (for any other). `model.predict_on_batch` is one.
        dataset: batches as `kzoo.data.load` gives them without augmentation, with `images`, `image_id`,
            `scale` and `original_size`; or any with `images` and `classes` int [B, H, W], -1 for ignored.
        classes: the names of the classes of pixels.
        ignored_label: what else than -1 is ignored in the `classes` of a batch, as 255 often is. The datasets
            of `kzoo.data.load` have -1 alone.

    Returns:
        The result of `segmentation_metrics` over all pixels whose truth is not ignored.

    Raises:
        ValueError: the dataset is empty; a batch or an answer lacks a key; predict answers for another number
            of pictures; a class outside `classes`; a probability that is not finite; labels of another size
            than their picture.
    """
    pictures = getattr(dataset, "pictures", None)
    in_own_pixels = pictures is not None and pictures.read_labels is not None
    pairs = _in_own_pixels(predict, dataset) if in_own_pixels else _in_given_pixels(predict, dataset)
    matrix = np.zeros([len(classes), len(classes)], np.int64)
    for truth, found in pairs:
        if not in_own_pixels:
            truth = np.where(truth == ignored_label, np.int64(IGNORED), truth)
        matrix += confusion_matrix(truth, found, len(classes))
    return segmentation_metrics(matrix, classes)


def own_probabilities(probabilities: np.ndarray, scale: np.ndarray, original_size: np.ndarray) -> np.ndarray:
    """Probabilities of the pixels that a model was given, in the picture's own pixels.

    The picture lies at the top left of what the model was given and covers `original_size * scale` of it; the
    rest is padding. What a pixel of its own gets is bilinear between the centres of the given ones, and
    at the border that of the outermost one. Where the sizes agree, nothing is resampled.

    Args:
        probabilities: float [h, w, C].
        scale: (y, x), the factor from own to given pixels, as `kzoo.data.load` and `letterbox` tell it.
        original_size: (height, width) H, W of the picture.

    Returns:
        float32 [H, W, C].

    Raises:
        ValueError: the picture would cover more than there is.
    """
    original_size = np.asarray(original_size, np.int64)
    size = np.maximum(np.rint(original_size * np.asarray(scale, np.float64)), 1).astype(int)
    if (size > probabilities.shape[:2]).any():
        raise ValueError(
            f"the picture covers {size.tolist()} pixels of what the model was given, "
            f"but the probabilities are {list(probabilities.shape)}; what answers for the middle of pictures "
            'only, as a model with padding="valid" does, is to be wrapped by kzoo.tiles.for_whole_pictures'
        )
    own = np.asarray(probabilities, np.float32)[: size[0], : size[1]]
    for axis in (0, 1):
        if size[axis] != original_size[axis]:
            own = _resampled(own, int(original_size[axis]), axis)
    return own


def _resampled(values: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Values at `length` places along an axis, linear between the centres of those that are there."""
    there = values.shape[axis]
    places = np.clip((np.arange(length) + 0.5) * (there / length) - 0.5, 0, there - 1)
    before = np.floor(places).astype(int)
    after = np.minimum(before + 1, there - 1)
    weights = np.expand_dims(places - before, [other for other in range(3) if other != axis]).astype(
        np.float32
    )
    return values.take(before, axis) * (1 - weights) + values.take(after, axis) * weights


def _in_own_pixels(predict: Predict, dataset: Iterable[Mapping]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Truth and found classes [H, W] of each picture in its own pixels."""
    keys = ("images", "image_id", "scale", "original_size")
    for batch, answers in batches_and_answers(predict, dataset, keys, ("probabilities",)):
        given = batch["images"].shape[1:3]
        for index, probabilities in enumerate(answers["probabilities"]):
            check_finite(probabilities)
            scale, size = batch["scale"][index], batch["original_size"][index]
            truth = dataset.pictures.read_labels(int(batch["image_id"][index]))
            margin = _margin(given, probabilities.shape[:2])
            if margin.any():
                probabilities = np.pad(probabilities, [*np.stack([margin, margin], 1), (0, 0)], mode="edge")
                truth = _central(truth, margin, given, scale)
            yield truth, own_probabilities(probabilities, scale, size).argmax(axis=-1)


def _in_given_pixels(predict: Predict, dataset: Iterable[Mapping]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Truth and found classes [B, h, w] of each batch in the pixels that the model was given."""
    for batch, answers in batches_and_answers(predict, dataset, ("images", "classes"), ("classes",)):
        found, truth = answers["classes"], batch["classes"]
        (top, left), (height, width) = _margin(truth.shape[1:], found.shape[1:]), found.shape[1:]
        yield truth[:, top : top + height, left : left + width], found


def _margin(given: Sequence[int], answered: Sequence[int]) -> np.ndarray:
    """The rows and columns [2] at each side of what the model was given that it does not answer for."""
    if len(given) == len(answered):
        missing = np.subtract(given, answered)
        if (missing >= 0).all() and not (missing % 2).any():
            return missing // 2
    raise ValueError(
        f"predict answered for {list(answered)} pixels when it was given {list(given)}; "
        "as many are expected, or the central part of them"
    )


def _central(truth: np.ndarray, margin: np.ndarray, given: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The truth [H, W] where the centre of a pixel lies in the part that was answered for, else ignored."""
    rows, columns = (
        (margin[axis] <= centres) & (centres <= given[axis] - margin[axis])
        for axis in (0, 1)
        for centres in [(np.arange(truth.shape[axis]) + 0.5) * scale[axis]]
    )
    return np.where(rows[:, None] & columns, truth, IGNORED)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return share(sum(known), len(known))
