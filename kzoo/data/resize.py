"""How a picture is made to fit the size that a model is given, and how boxes find the way back. NumPy only.

`"letterbox"` keeps the proportions: the picture lies at the top left, grey fills what is left at the bottom
and at the right. `"stretch"` fills the whole size. Either way a point moves by one factor along each axis:

    given pixels = own pixels * scale
"""

import math

import numpy as np

RESIZES = ("letterbox", "stretch")
PADDING = 114  # a mid grey: near the mean of photographs, so that the edge of the picture stays a weak one


def fit(original_size: tuple[int, int], image_size: tuple[int, int], resize: str) -> tuple[int, int]:
    """The height and width that a picture takes within `image_size`, in whole pixels.

    Args:
        original_size: height and width of the picture.
        image_size: height and width that the model is given.
        resize: "letterbox" or "stretch".

    Returns:
        (height, width), each at least 1 and at most that of `image_size`.

    >>> fit((480, 640), (256, 320), "letterbox")
    (240, 320)
    """
    if resize == "stretch":
        return image_size
    factor = min(given / own for given, own in zip(image_size, original_size, strict=True))
    height, width = (max(1, round(own * factor)) for own in original_size)
    return height, width


def working_size(
    original_size: tuple[int, int], image_size: tuple[int, int], resize: str, zoom: float | None
) -> tuple[int, int]:
    """The height and width at which a picture is kept until it is augmented: enough to zoom in sharply.

    Args:
        original_size: height and width of the picture.
        image_size: height and width that the model is given.
        resize: "letterbox" or "stretch".
        zoom: the largest factor on top of the one with which the picture fits. None: no augmentation.

    >>> working_size((480, 640), (256, 320), "letterbox", 1.5)
    (360, 480)
    """
    fitted = fit(original_size, image_size, resize)
    if zoom is None:
        return fitted
    height, width = (
        min(math.ceil(least * zoom), max(least, own))
        for least, own in zip(fitted, original_size, strict=True)
    )
    return height, width


def to_own_pixels(boxes: np.ndarray, scale: np.ndarray, original_size: np.ndarray) -> np.ndarray:
    """Boxes of the picture that the model was given, in the pixels of the picture as it lies on disk.

    Args:
        boxes: [..., N, 4] xyxy in given pixels.
        scale: [..., 2] (y, x), the factor from own to given pixels, as `kzoo.data.load` tells it.
        original_size: [..., 2] (height, width) of the picture in own pixels; boxes are clipped to it.

    Returns:
        float32 [..., N, 4] xyxy in own pixels.

    >>> to_own_pixels(np.array([[10, 20, 400, 40]]), np.array([0.5, 0.5]), np.array([480, 640]))
    array([[ 20.,  40., 640.,  80.]], dtype=float32)
    """
    xyxy = [1, 0, 1, 0]
    scale = np.asarray(scale, np.float64)[..., None, xyxy]
    limit = np.asarray(original_size)[..., None, xyxy]
    return np.clip(np.asarray(boxes) / scale, 0, limit).astype(np.float32)
