"""Whether the classes of pixels alone tell objects apart, over a whole dataset."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from kzoo.data.masks import decode
from kzoo.evaluation.answers import Predict, batches_and_answers
from kzoo.evaluation.rand import THRESHOLDS, best_foreground_rand
from kzoo.evaluation.segmentation import own_probabilities
from kzoo.evaluation.touching import touching_kept_apart


def evaluate_rand(
    predict: Predict, dataset: Iterable[Mapping], cells: int, thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """The foreground-restricted Rand score where the connected regions of one class are objects.

    Args:
        predict: from `images` of a batch to answers with `probabilities` [B, H, W, C].
        dataset: of `kzoo.data.load` for segmentation, without augmentation, of pictures of one size.
        cells: the class whose connected regions are objects, in the truth too.
        thresholds: of its probability, to seek the best among.

    Returns:
        `rand` at a threshold of 0.5, `best_rand`, and its `best_rand_threshold`; see `best_foreground_rand`.
    """
    probabilities, truths = [], []
    for picture, own in _own_answers(predict, dataset):
        probabilities.append(own[..., cells])
        truths.append(dataset.pictures.read_labels(picture) == cells)
    found, true = np.stack(probabilities), np.stack(truths)
    rand, _ = best_foreground_rand(found, true, (0.5,))
    best, threshold = best_foreground_rand(found, true, thresholds)
    return {"rand": rand, "best_rand": best, "best_rand_threshold": threshold}


def evaluate_touching(predict: Predict, dataset: Iterable[Mapping]) -> dict[str, int]:
    """How many objects that touch another stay apart in the connected regions of what is no background.

    Args:
        predict: from `images` of a batch to answers with `probabilities` [B, H, W, C], the background first.
        dataset: of `kzoo.data.load` for segmentation, without augmentation, from data with instance masks.

    Returns:
        `touching` and `kept_apart`, summed over the pictures; see `touching_kept_apart`.
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
