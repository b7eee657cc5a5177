"""Masks of objects outside the graph: within their box, in a picture, and as COCO's run lengths. No TensorFlow.

A mask is told within its box: a square of samples onto which the box is stretched. Sample (i, j) of m by m
lies at (x1 + (j + 0.5) / m * width, y1 + (i + 0.5) / m * height), as a pixel (x, y) lies at its centre
(x + 0.5, y + 0.5). In the picture's own pixels a mask is kept as run lengths, a dict
`{"size": [H, W], "counts": bytes}` as pycocotools has it.
"""

from collections.abc import Sequence

import numpy as np
from faster_coco_eval import mask as coco

MASK_SIZE = 56  # samples along each side of a true mask within its box: twice what the mask branch answers

_HALF = 0.5 - 1e-6  # a share of exactly a half is object, whatever rounding does to it


def encode(masks: np.ndarray) -> list[dict]:
    """Masks as run lengths.

    Args:
        masks: bool or uint8 [n, H, W]; what is not 0 is object.
    """
    masks = np.asarray(masks)
    if not masks.size:
        return [{"size": [int(side) for side in masks.shape[1:]], "counts": b""} for _ in masks]
    return coco.encode(np.asfortranarray((masks != 0).view(np.uint8).transpose(1, 2, 0)))


def decode(rle: dict) -> np.ndarray:
    """Run lengths as a mask, bool [H, W]."""
    return coco.decode(rle).view(bool)


def within_box(mask: np.ndarray, box: Sequence[float], size: int = MASK_SIZE) -> np.ndarray:
    """A mask of a picture's pixels as the samples of a box.

    Along an axis on which the box has fewer pixels than samples, a sample is the pixel in which it lies. Else
    it is the mean of the pixels that its part of the box covers, each by the share that is covered, and the
    sample is object where that is at least a half. Beyond the picture nothing is object.

    Args:
        mask: bool [H, W].
        box: xyxy in pixels.
        size: samples along each side.

    Returns:
        uint8 [size, size], 0 or 1.
    """
    x1, y1, x2, y2 = (float(side) for side in box)
    rows, columns = _pixels(y1, y2, mask.shape[0]), _pixels(x1, x2, mask.shape[1])
    if rows is None or columns is None:
        return np.zeros([size, size], np.uint8)
    crop = mask[rows, columns].astype(np.float32)
    means = _shares(y1, y2, rows, size) @ crop @ _shares(x1, x2, columns, size).T
    return (means >= _HALF).astype(np.uint8)


def _pixels(start: float, end: float, length: int) -> slice | None:
    """The pixels along an axis that a box touches, None where there is none."""
    if not -np.inf < start < end < np.inf:
        return None
    first, last = max(0, int(np.floor(start))), min(length, int(np.ceil(end)))
    return slice(first, last) if first < last else None


def _shares(start: float, end: float, pixels: slice, size: int) -> np.ndarray:
    """float32 [size, pixels]: how much of each sample each pixel is."""
    step = (end - start) / size
    if step < 1:
        places = np.floor(start + (np.arange(size) + 0.5) * step)
        return (places[:, None] == np.arange(pixels.start, pixels.stop)).astype(np.float32)
    borders = start + np.arange(size + 1)[:, None] * step
    covered = np.clip(borders - np.arange(pixels.start, pixels.stop), 0, 1)  # of each pixel, before a border
    return (np.diff(covered, axis=0) / step).astype(np.float32)


def paste(mask: np.ndarray, box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """The samples of a box as a mask of a picture's pixels: the way back of `within_box`.

    A pixel whose centre lies in the box gets the value there, bilinear between samples and that of the
    outermost samples towards the box's border. It is object where that is at least a half.

    Args:
        mask: float [m, n], the share or the probability of each sample.
        box: xyxy in pixels; it may reach beyond the picture.
        size: height H and width W of the picture.

    Returns:
        bool [H, W].
    """
    height, width = (int(side) for side in size)
    pasted = np.zeros([height, width], bool)
    x1, y1, x2, y2 = (float(side) for side in box)
    rows, columns = _centres(y1, y2, height), _centres(x1, x2, width)
    if rows is None or columns is None:
        return pasted
    values = _between(y1, y2, rows, mask.shape[0]) @ mask.astype(np.float32)  # [h, n]
    values = values @ _between(x1, x2, columns, mask.shape[1]).T  # [h, w]
    pasted[rows, columns] = values >= _HALF
    return pasted


def _centres(start: float, end: float, length: int) -> slice | None:
    """The pixels along an axis whose centres lie in a box, None where there is none."""
    if not -np.inf < start < end < np.inf:
        return None
    first, last = max(0, int(np.ceil(start - 0.5))), min(length, int(np.ceil(end - 0.5)))
    return slice(first, last) if first < last else None


def _between(start: float, end: float, pixels: slice, samples: int) -> np.ndarray:
    """float32 [pixels, samples]: the weights of the samples at each pixel's centre."""
    centres = (np.arange(pixels.start, pixels.stop) + 0.5 - start) * (samples / (end - start)) - 0.5
    distances = np.abs(np.clip(centres, 0, samples - 1)[:, None] - np.arange(samples))
    return np.maximum(1 - distances, 0).astype(np.float32)


def to_own_masks(
    masks: np.ndarray, boxes: np.ndarray, scale: np.ndarray, original_size: np.ndarray
) -> list[dict]:
    """A model's masks of one picture as run lengths in the picture's own pixels.

    Only one mask at a time is laid out in full.

    Args:
        masks: float [N, m, m], samples within `boxes`; or uint8 [N, H, W], in the pixels of the picture that
            the model was given.
        boxes: [N, 4] xyxy in own pixels, as `to_own_pixels` makes them.
        scale: [2] (y, x), the factor from own to given pixels.
        original_size: [2] (height, width) of the picture in own pixels.
    """
    height, width = (int(side) for side in original_size)
    own = []
    for mask, box in zip(np.asarray(masks), np.asarray(boxes), strict=True):
        if mask.dtype == np.uint8:
            mask, box = _cut_out(mask, np.asarray(scale, np.float64))
        own += encode(paste(mask, box, (height, width))[None])
    return own


def _cut_out(mask: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """What is object of a mask [H, W] in given pixels, and the box that it fills in own pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask, (0, 0, 0, 0)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return mask[top:bottom, left:right], (
        left / scale[1],
        top / scale[0],
        right / scale[1],
        bottom / scale[0],
    )
