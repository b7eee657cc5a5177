"""How a picture is made to fit the size that a model is given, and how its boxes find back. No TensorFlow.

`"letterbox"` keeps the proportions: the picture lies at the top left, grey fills what is left at the bottom
and at the right. `"stretch"` fills the whole size. Either way a point moves by one factor along each axis:

    given pixels = own pixels * scale
"""

import math

import numpy as np
from PIL import Image

RESIZES = ("letterbox", "stretch")
PADDING = 114  # a mid grey: near the mean of photographs, so that the edge of the picture stays a weak one
FILLS = {
    "images": PADDING,
    "labels": 0,
    "borders": 0,
}  # what lies beyond the picture; of labels it is ignored


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


def letterbox(picture: np.ndarray, image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One picture as a model is given it, the same way as `kzoo.data.load` does.

    Args:
        picture: uint8 [h, w, 3].
        image_size: height H and width W that the model is given.

    Returns:
        The picture, uint8 [H, W, 3], and the scale, float32 [2] (y, x): the factor from own to given pixels.
    """
    size = fit(picture.shape[:2], image_size, "letterbox")
    return padded(resized(picture, size), image_size, PADDING), scale_to(size, picture.shape[:2])


def scale_to(size: tuple[int, int], original_size: tuple[int, int]) -> np.ndarray:
    """The factor float32 [2] (y, x) from a picture's own pixels to those that it has at another size."""
    return (np.array(size) / original_size).astype(np.float32)


def resized(
    layer: np.ndarray,
    size: tuple[int, int],
    resampling: Image.Resampling = Image.Resampling.BILINEAR,
) -> np.ndarray:
    """A layer uint8 [H, W] or [H, W, 3] at another (height, width); int32 [H, W] by the nearest pixel only.

    It is antialiased by Pillow, which lets other threads run meanwhile. Of the same size it is
    the layer itself.
    """
    if layer.shape[:2] == tuple(size):
        return layer
    return np.asarray(Image.fromarray(layer).resize(size[::-1], resampling))


def padded(layer: np.ndarray, image_size: tuple[int, int], fill: int) -> np.ndarray:
    """A layer [h, w, C] at the top left of [H, W, C], the rest filled."""
    gaps = [(0, given - kept) for given, kept in zip(image_size, layer.shape, strict=False)]
    return np.pad(layer, [*gaps, (0, 0)], constant_values=fill)


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
