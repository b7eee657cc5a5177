"""Where torchvision pastes the masks of its detections, for which its figures were published."""

from collections.abc import Callable, Mapping

import numpy as np

_MARGIN = 1  # samples around a mask


def frame_as_torchvision(masks: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks and the boxes within which torchvision's `paste_masks_in_image` lays them out.

    Both get a margin of a sample, and then boxes are of whole pixels, the last one included. So masks become
    about a pixel larger than they are where their boxes are to the fraction of a pixel.

    Args:
        masks: float [..., m, m], the probability of each sample.
        boxes: [..., 4], xyxy in pixels of the pictures.

    Returns:
        float32 [..., m + 2, m + 2] and float32 [..., 4], which may reach beyond the pictures;
        `kzoo.data.masks.paste` makes pixels of one of them.
    """
    samples = masks.shape[-1]
    margins = [(0, 0)] * (masks.ndim - 2) + [(_MARGIN, _MARGIN)] * 2
    padded = np.pad(np.asarray(masks, np.float32), margins)
    first, last = np.split(np.asarray(boxes, np.float32), 2, axis=-1)  # [..., 2], x and y
    middle, half = (first + last) / 2, (last - first) / 2 * np.float32((samples + 2 * _MARGIN) / samples)
    first, last = np.trunc(middle - half), np.trunc(middle + half)
    return padded, np.concatenate([first, np.maximum(last, first) + 1], axis=-1)


def framing_as_torchvision(
    predict: Callable[[np.ndarray], Mapping[str, np.ndarray]],
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The same answers, whose masks lie within `mask_boxes`, where torchvision would paste them.

    Args:
        predict: from pictures `[B, H, W, 3]` to answers; `masks` are float `[B, N, m, m]` within `boxes`.
    """

    def predict_framed(images: np.ndarray) -> dict[str, np.ndarray]:
        answers = dict(predict(images))
        masks, boxes = frame_as_torchvision(np.asarray(answers["masks"]), np.asarray(answers["boxes"]))
        return answers | {"masks": masks, "mask_boxes": boxes}

    return predict_framed
