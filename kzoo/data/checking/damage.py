"""Damage within a picture file that decoders pass over in silence. No TensorFlow."""

import re
from pathlib import Path

import simplejpeg

from kzoo.data.pictures import MAX_PIXELS, open_picture

_END = b"\xff\xd9"  # of a JPEG
_BEHIND = re.compile(r"(\d+) extraneous bytes before marker 0xd9$")  # which is the end, too


def find_damage(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> str | None:
    """What is broken in a JPEG file that `read_picture` decodes all the same.

    Where the data of a JPEG stop making sense its decoder goes on with what it can make of the rest: with
    shifted colours, or with grey. It counts that as a warning, which Pillow and TensorFlow keep to
    themselves; here it is an answer. All data are looked through, at an eighth of the size, which takes less
    than half as long as decoding them.

    Data that are left over behind the last pixel tell of damage before; zeros there are but filling.

    A JPEG has no checksum: bytes that were changed into others that make sense too cannot be told from the
    right ones, and of single changed bytes that is nearly half. Of other formats nothing is to be found that
    `read_picture` would not have refused.

    Args:
        path: the file. Several threads may look at once.
        max_pixels: the most that the picture may have.

    Returns:
        What libjpeg says of it, or None.

    Raises:
        DataError: no such file, no picture, or one of too many pixels. Names the file.
    """
    with open_picture(path, max_pixels) as picture:
        if picture.format not in ("JPEG", "MPO"):
            return None
        picture.fp.seek(0)
        content = picture.fp.read()
    try:
        _decode(content, strict=True)
    except ValueError as error:
        harmless = _is_filling(content, str(error)) or not _is_decodable(content)
        return None if harmless else str(error)
    return None


def _is_filling(content: bytes, told: str) -> bool:
    """Whether what is left over is nothing but zeros."""
    left_over = _BEHIND.search(told)
    last = content[: content.rfind(_END)]
    return left_over is not None and len(last) - len(last.rstrip(b"\0")) >= int(left_over[1])


def _is_decodable(content: bytes) -> bool:
    """Whether it is only broken, and not of a kind of JPEG that this decoder does not know."""
    try:
        _decode(content, strict=False)
    except ValueError:
        return False
    return True


def _decode(content: bytes, strict: bool) -> None:
    smallest = {"min_height": 1, "min_width": 1, "min_factor": 8}
    simplejpeg.decode_jpeg(content, "GRAY", fastdct=True, fastupsample=True, strict=strict, **smallest)
