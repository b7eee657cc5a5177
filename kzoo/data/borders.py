"""The borders between instances that nearly touch, which a U-Net is to learn with more weight. No TensorFlow.

Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", section 3.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects

from kzoo.data.masks import read_runs

_TOUCH = 1.5  # pixels: from a pixel to the eight around it, and no farther
_SMALLEST = 1 / 510  # what is less becomes 0 when it is kept in eight bits


def instances_of(masks: Sequence[dict], size: tuple[int, int]) -> np.ndarray:
    """Which instance each pixel is of.

    Args:
        masks: the run lengths (`kzoo.data.masks`) of each instance; later ones cover earlier ones.
        size: height H and width W of the picture that the masks are of.

    Returns:
        int32 [H, W]: 0 where no instance is, else its place in `masks` plus 1.
    """
    height, width = size
    instances = np.zeros(height * width, np.int32)  # column by column, as the run lengths are
    for number, mask in enumerate(masks, 1):
        runs = read_runs(mask["counts"])
        starts, lengths = np.cumsum(runs)[0::2], runs[1::2]
        shifts = starts[: len(lengths)] - (np.cumsum(lengths) - lengths)
        instances[np.repeat(shifts, lengths) + np.arange(lengths.sum())] = number
    return np.ascontiguousarray(instances.reshape(width, height).T)


def distances(
    instances: np.ndarray, sigma: float, spacing: tuple[float, float] = (1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel is from the nearest instance and from the second nearest one, d1 and d2.

    Each instance is looked at in a window around it, as far as `border_map` with this sigma is not 0.

    Args:
        instances: int32 [h, w], 0 where no instance is.
        sigma: of `border_map`, in units of `spacing`.
        spacing: height and width of a pixel.

    Returns:
        Two of float32 [h, w], in units of `spacing`, centre to centre: 0 in the instance itself, infinite
        where nothing is within reach.
    """
    reach = max(sigma * math.sqrt(-2 * math.log(_SMALLEST)), _touch(spacing))
    margins = [math.ceil(reach / length) for length in spacing]
    first, second = np.full([2, *instances.shape], np.inf, np.float32)
    for number, box in enumerate(find_objects(instances), 1):
        if box is None:
            continue
        window = tuple(
            slice(max(0, side.start - margin), side.stop + margin)
            for side, margin in zip(box, margins, strict=True)
        )
        distance = distance_transform_edt(instances[window] != number, sampling=spacing).astype(np.float32)
        second[window] = np.minimum(second[window], np.maximum(first[window], distance))
        first[window] = np.minimum(first[window], distance)
    return first, second


def border_map(first: np.ndarray, second: np.ndarray, sigma: float) -> np.ndarray:
    """How much each pixel lies between two instances: exp(-(d1 + d2)^2 / (2 sigma^2)) (equation 2).

    Within an instance it goes on with d1 = 0, so that it stays smooth where it is resampled; what is no
    background is for the caller to leave out.

    Args:
        first: float32 [h, w], d1.
        second: float32 [h, w], d2.
        sigma: in the unit of the distances.

    Returns:
        uint8 [h, w]: 255 stands for 1.

    >>> border_map(np.float32([[0, 3, np.inf]]), np.float32([[0, 4, np.inf]]), 5.0)
    array([[255,  96,   0]], dtype=uint8)
    """
    return np.rint(255 * np.exp(-((first + second) ** 2) / (2 * sigma**2))).astype(np.uint8)


def separated(
    labels: np.ndarray,
    instances: np.ndarray,
    second: np.ndarray,
    background: int,
    spacing: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """The labels with a line of background where two instances touch.

    The line takes from each what is within about a pixel of the other, corners included, so that the two
    are apart for any rule of which pixels are connected. Where the pixels of `labels` are larger than those
    that the width is told in, it is one of the larger pixels.

    Args:
        labels: [h, w], the class of each pixel.
        instances: int32 [h, w], 0 where no instance is.
        second: float32 [h, w], d2, in pixels that the line's width is told in.
        background: the label of the line.
        spacing: height and width of a pixel of `labels`.

    Returns:
        A copy of `labels`.
    """
    return np.where((instances > 0) & (second < _touch(spacing)), labels.dtype.type(background), labels)


def _touch(spacing: tuple[float, float]) -> float:
    """Nearer than this two instances touch: never less than what is from a pixel to the eight around it."""
    return _TOUCH * max(1.0, *spacing)
