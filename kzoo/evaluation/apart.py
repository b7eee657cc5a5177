"""Whether the classes of pixels alone tell objects apart, over a whole dataset."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from kzoo.data.masks import decode
from kzoo.evaluation.answers import Predict, batches_and_answers
from kzoo.evaluation.rand import cells_of, foreground_rand
from kzoo.evaluation.segmentation import own_probabilities
from kzoo.evaluation.touching import touching_kept_apart

THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))


def evaluate_rand(
    predict: Predict, dataset: Iterable[Mapping], cells: int, thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """The foreground-restricted Rand score where the connected regions of one class are objects.

    Each picture is scored in its own pixels, whatever its size, and the scores are averaged. What the truth
    ignores counts neither as cell nor as found, and a picture whose truth has no cell is left out. No border
    is thinned first, so that the figures are not comparable with the challenge's (see `foreground_rand`).

    Args:
        predict: from `images` of a batch to answers with `probabilities` [B, H, W, C].
        dataset: of `kzoo.data.load` for segmentation, without augmentation.
        cells: the class whose connected regions are objects, in the truth too.
        thresholds: of its probability, to seek the best among: one for all pictures.

    Returns:
        `rand` at a threshold of 0.5, `best_rand`, and its `best_rand_threshold`, the first of several; all
        NaN where no picture's truth has a cell.

    Raises:
        ValueError: no threshold; the dataset is empty; a batch or an answer lacks a key; predict answers for
            other pictures or pixels than it was given.
    """
    if not len(thresholds):
        raise ValueError("thresholds holds none: there is nothing to try")
    tried = (0.5, *thresholds)
    scores = []  # of each picture that has a cell, one for each that is tried
    for picture, own in _own_answers(predict, dataset):
        labels = dataset.pictures.read_labels(picture)
        truth = cells_of(labels == cells)
        if truth.any():
            probability = np.where(labels < 0, 0, own[..., cells])
            scores.append([foreground_rand(truth, cells_of(probability > threshold)) for threshold in tried])
    if not scores:
        return {"rand": math.nan, "best_rand": math.nan, "best_rand_threshold": math.nan}
    rand, *means = np.mean(scores, axis=0).tolist()
    best = int(np.argmax(means))
    return {"rand": rand, "best_rand": means[best], "best_rand_threshold": float(thresholds[best])}


def evaluate_touching(predict: Predict, dataset: Iterable[Mapping]) -> dict[str, int]:
    """How many objects that touch another stay apart in the connected regions of what is no background.

    Args:
        predict: from `images` of a batch to answers with `probabilities` [B, H, W, C], the background first.
        dataset: of `kzoo.data.load` for segmentation, without augmentation, from data with instance masks.

    Returns:
        `touching` and `kept_apart`, summed over the pictures; see `touching_kept_apart`.

    Raises:
        ValueError: the dataset is empty; a batch or an answer lacks a key; predict answers for other pictures
            or pixels than it was given.
    """
    total = np.zeros(2, int)
    for picture, own in _own_answers(predict, dataset):
        instances = [decode(mask) for mask in dataset.pictures.read_masks(picture)]
        total += touching_kept_apart(instances, own.argmax(axis=-1) > 0)
    return {"touching": int(total[0]), "kept_apart": int(total[1])}


def _own_answers(predict: Predict, dataset: Iterable[Mapping]) -> Iterator[tuple[int, np.ndarray]]:
    """The place of each picture in its split, and its probabilities [H, W, C] in its own pixels."""
    keys = ("images", "image_id", "scale", "original_size")
    for batch, answers in batches_and_answers(predict, dataset, keys, ("probabilities",)):
        rows = (batch["image_id"], answers["probabilities"], batch["scale"], batch["original_size"])
        for picture, probabilities, scale, size in zip(*rows, strict=True):
            yield int(picture), own_probabilities(probabilities, scale, size)
