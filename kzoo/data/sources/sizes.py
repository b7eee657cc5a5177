"""The sizes of many pictures at once."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kzoo.data.faults import DataError
from kzoo.data.pictures import MAX_PIXELS, check_picture
from kzoo.data.threads import in_threads


def picture_size(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int] | DataError:
    """(height, width) of a picture file as seen, or what is wrong with it; as `check_picture` otherwise."""
    try:
        return check_picture(path, max_pixels=max_pixels)
    except DataError as error:
        return error


def picture_sizes(
    paths: Sequence[str | Path], *, max_pixels: int = MAX_PIXELS
) -> list[tuple[int, int] | DataError]:
    """(height, width) of each picture file as seen, or what is wrong with it.

    Args:
        paths: of the files.
        max_pixels: the most that a picture may have.
    """
    return in_threads(partial(picture_size, max_pixels=max_pixels), paths)
