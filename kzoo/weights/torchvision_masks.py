"""Masks in pixels as torchvision makes them, for which its figures were published."""

from collections.abc import Callable, Mapping

import numpy as np

from kzoo.data.masks import paste

_MARGIN = 1  # samples around a mask


def paste_as_torchvision(mask: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The samples of a box as a mask of a picture's pixels, as torchvision's `paste_masks_in_image` does it.

    Mask and box get a margin of a sample, and then the box is one of whole pixels, the last one included. So
    masks are about a pixel larger than those of `kzoo.data.masks.paste`, which are where their boxes are to
    the fraction of a pixel.

    Args:
        mask: float [m, m], the probability of each sample.
        box: xyxy in pixels; it may reach beyond the picture.
        size: height H and width W of the picture.

    Returns:
        bool [H, W].
    """
    padded = np.pad(np.asarray(mask, np.float32), _MARGIN)
    corners = np.asarray(box, np.float32).reshape(2, 2)  # x, y of the first and of the last corner
    middle, half = corners.mean(axis=0), (corners[1] - corners[0]) / 2
    half = half * np.float32(len(padded) / len(mask))
    first, last = np.trunc(middle - half), np.trunc(middle + half)
    return paste(padded, (*first, *np.maximum(last + 1, first + 1)), size)


def pasting_as_torchvision(
    predict: Callable[[np.ndarray], Mapping[str, np.ndarray]],
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The same answers, with masks uint8 `[B, N, H, W]` in pixels of the pictures as torchvision has them.

    Args:
        predict: from pictures `[B, H, W, 3]` to answers; `masks` are float `[B, N, m, m]` within `boxes`.
    """

    def predict_pasted(images: np.ndarray) -> dict[str, np.ndarray]:
        answers = dict(predict(images))
        masks, boxes = np.asarray(answers["masks"]), np.asarray(answers["boxes"])
        size = tuple(images.shape[1:3])
        pasted = np.zeros([*masks.shape[:2], *size], np.uint8)  # [B, N, H, W]
        for picture, count in enumerate(np.asarray(answers["num_detections"])):
            for place in range(int(count)):
                pasted[picture, place] = paste_as_torchvision(
                    masks[picture, place], boxes[picture, place], size
                )
        return answers | {"masks": pasted}

    return predict_pasted
