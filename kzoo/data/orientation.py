"""How a stored picture is turned to be seen, and what annotations tell of it with it. No TensorFlow.

Cameras store pixels as their sensor lay and write into EXIF how the picture is to be turned: by a number from
1, as it is, to 8. The zoo knows pictures only as they are SEEN, as viewers and annotation tools show them. An
annotation may all the same be of the picture as it is STORED, for not every tool reads EXIF. It is taken

- to be of the stored picture where it tells the stored size and turning makes another one of that (5 to 8,
  and the picture is no square): then boxes and masks are turned with the picture;
- to be of the seen picture where it tells the seen size, or none, or where both are the same.

A label picture tells its size by its own pixels, after what its own EXIF asks for.
"""

import numpy as np

from kzoo.data import masks

# For each number of EXIF: whether rows and columns change places and whether, after that, the picture is
# turned over from top to bottom and from left to right.
ORIENTATIONS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def turn_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Height and width as seen of a picture that is stored with this height and width; and the way back."""
    return size[::-1] if ORIENTATIONS[orientation][0] else size


def turn_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A stored picture as it is seen.

    Args:
        pixels: [h, w] or [h, w, channels].
        orientation: 1 to 8, as EXIF has it.

    Returns:
        The same values, [H, W] or [H, W, channels], contiguous.
    """
    exchanged, upside_down, mirrored = ORIENTATIONS[orientation]
    if exchanged:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = slice(None, None, -1 if upside_down else 1), slice(None, None, -1 if mirrored else 1)
    return np.ascontiguousarray(pixels[rows, columns])


def turn_boxes(boxes: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Boxes of a stored picture as boxes of the picture that is seen.

    Args:
        boxes: [n, 4] xyxy in pixels as stored.
        size: height and width as stored.
        orientation: 1 to 8, as EXIF has it.

    Returns:
        [n, 4] xyxy in pixels as seen, of the same dtype.
    """
    exchanged, upside_down, mirrored = ORIENTATIONS[orientation]
    x1, y1, x2, y2 = boxes.T
    if exchanged:
        x1, y1, x2, y2 = y1, x1, y2, x2
    height, width = turn_size(size, orientation)
    if upside_down:
        y1, y2 = height - y2, height - y1
    if mirrored:
        x1, x2 = width - x2, width - x1
    return np.stack([x1, y1, x2, y2], axis=1)


def turn_mask(rle: dict, orientation: int) -> dict:
    """The run lengths (`kzoo.data.masks`) of a mask of a stored picture as those of the picture as seen."""
    if orientation == 1:
        return rle
    return masks.encode(turn_pixels(masks.decode(rle), orientation)[np.newaxis])[0]


def orientation_of_annotation(
    told: tuple[int | None, int | None], size: tuple[int, int], orientation: int
) -> int:
    """By what an annotation is to be turned to be one of the picture as seen; the rule is above.

    Args:
        told: height and width that the annotation tells of its picture, each of them if it does.
        size: height and width of the picture as seen.
        orientation: of the picture, 1 to 8, as EXIF has it.

    Returns:
        `orientation`, or 1 where the annotation is of the picture as seen, or of another picture.
    """
    stored = turn_size(size, orientation)
    return orientation if fits(told, stored) and not fits(told, size) else 1


def fits(told: tuple[int | None, int | None], size: tuple[int, int]) -> bool:
    """Whether what an annotation tells of a picture's height and width, if anything, is this size."""
    return all(one is None or one == real for one, real in zip(told, size, strict=True))
