"""The class of each pixel, from masks of objects. No TensorFlow."""

from collections.abc import Sequence

import numpy as np

from kzoo.classes import CROWD
from kzoo.data.masks import decode


def labels_of_masks(masks: Sequence[dict], classes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which class each pixel has, where masks tell which object it is of.

    Later objects cover earlier ones. Crowd regions lie under all of them: what is known of an object's pixels
    stays known.

    Args:
        masks: the run lengths (`kzoo.data.masks`) of each object, in pixels of the picture.
        classes: [n] class of each from 0, or `CROWD`.
        size: height H and width W of the picture.

    Returns:
        int16 [H, W]: 0 where no object is, its class + 1 where one is, -1 where only a crowd region is.
    """
    labels = np.zeros(size, np.int16)
    rows = list(zip(masks, np.asarray(classes).tolist(), strict=True))
    for mask, label in sorted(rows, key=lambda row: row[1] != CROWD):  # it is stable
        labels[decode(mask)] = -1 if label == CROWD else label + 1
    return labels
