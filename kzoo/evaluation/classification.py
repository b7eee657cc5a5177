"""How often the class of a picture is right: accuracy, and the recall and precision of each class."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from kzoo.evaluation.answers import Predict, batches_and_answers

TOP = 5


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """How often each class was taken for each.

    Args:
        truth: integers of any shape, for instance [N] pictures or [H, W] pixels. Negative ones are left out.
        predicted: integers of the same shape, 0 to C - 1 wherever the truth is not negative.
        num_classes: C.

    Returns:
        int64 [C, C]; the row is the truth, the column what was predicted.

    Raises:
        ValueError: shapes that differ, or a class that is not one of the C.

    >>> confusion_matrix(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise ValueError(f"truth is {list(truth.shape)}, but predicted is {list(predicted.shape)}")
    known = truth >= 0
    rows, columns = truth[known].astype(np.int64), predicted[known].astype(np.int64)
    for argument, values in (("truth", rows), ("predicted", columns)):
        outside = values[(values < 0) | (values >= num_classes)]
        if len(outside):
            raise ValueError(
                f"{argument} has class {outside[0]}; the {num_classes} classes are 0 to {num_classes - 1}"
            )
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def classification_metrics(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> dict[str, float]:
    """How often the most probable class is the right one, over all pictures and for each class.

    Among equal probabilities the lower class comes first.

    Args:
        truth: integers [N]; pictures whose class is negative are left out.
        probabilities: float [N, C].
        classes: the names of the C classes.

    Returns:
        From 0 to 1: `accuracy`; `top5_accuracy`, how often the right class is among the five most probable,
        if there are more than five; and for each class `recall/NAME`, the share of its pictures that were
        taken for it, and `precision/NAME`, the share of those taken for it that are. NaN stands where there
        is nothing to divide.

    Raises:
        ValueError: arrays that do not fit each other or the classes; a probability that is not finite.

    Example:
        >>> answers = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
        >>> result = classification_metrics(np.array([0, 0, 1, 1]), answers, ["cat", "dog"])
        >>> result["accuracy"], result["recall/dog"]
        (0.5, 0.5)
    """
    truth, probabilities = np.asarray(truth), np.asarray(probabilities)
    if probabilities.shape != (*truth.shape, len(classes)) or truth.ndim != 1:
        raise ValueError(
            f"truth is {list(truth.shape)} and probabilities {list(probabilities.shape)}; "
            f"[N] and [N, {len(classes)}] are expected, for {len(classes)} classes"
        )
    check_finite(probabilities)
    known = truth >= 0
    truth, probabilities = truth[known], probabilities[known]
    matrix = confusion_matrix(truth, probabilities.argmax(axis=1), len(classes))
    right = np.diag(matrix)
    result = {"accuracy": share(right.sum(), len(truth))}
    if len(classes) > TOP:
        foremost = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
        result["top5_accuracy"] = share((foremost == truth[:, None]).sum(), len(truth))
    for index, name in enumerate(classes):
        result[f"recall/{name}"] = share(right[index], matrix[index].sum())
        result[f"precision/{name}"] = share(right[index], matrix[:, index].sum())
    return result


def evaluate_classification(
    predict: Predict, dataset: Iterable[Mapping], classes: Sequence[str]
) -> dict[str, float]:
    """How well `predict` tells the classes of a dataset's pictures.

    Args:
        predict: from `images` of a batch to answers with `probabilities` [B, C]; `model.predict_on_batch` is
            one, and so is what `kzoo.load` gives.
        dataset: batches with `images` and `classes` int [B].
        classes: the names of the classes.

    Returns:
        The result of `classification_metrics`.

    Raises:
        ValueError: what `truth_and_probabilities` and `classification_metrics` raise.
    """
    return classification_metrics(*truth_and_probabilities(predict, dataset), classes)


def truth_and_probabilities(predict: Predict, dataset: Iterable[Mapping]) -> tuple[np.ndarray, np.ndarray]:
    """What the pictures of a dataset are, and what `predict` takes them for: for figures and for drawing.

    Args:
        predict: as for `evaluate_classification`.
        dataset: as for `evaluate_classification`.

    Returns:
        The true classes [N], and the probabilities [N, C].

    Raises:
        ValueError: the dataset is empty; a batch or an answer lacks a key; predict answers for another number
            of pictures.

    Example:
        truth, probabilities = truth_and_probabilities(model.predict_on_batch, test)
        result = classification_metrics(truth, probabilities, test.classes)
        matrix = confusion_matrix(truth, probabilities.argmax(axis=1), len(test.classes))
    """
    pairs = [
        (batch["classes"], answers["probabilities"])
        for batch, answers in batches_and_answers(predict, dataset, ("images", "classes"), ("probabilities",))
    ]
    truth, probabilities = zip(*pairs, strict=True)
    return np.concatenate(truth), np.concatenate(probabilities)


def share(part: float, whole: float) -> float:
    """A part of a whole, NaN where the whole is nothing."""
    return float(part / whole) if whole else math.nan


def check_finite(probabilities: np.ndarray) -> None:
    """Raises a `ValueError` if a probability is not finite: `argmax` would take NaN for the largest."""
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is not finite; has the training diverged?")
