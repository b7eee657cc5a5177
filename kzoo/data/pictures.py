"""Reads picture files as the zoo wants them: uint8 RGB, as they are stored.

A rotation that EXIF asks for is not carried out: sizes, pixels and boxes are all those of the stored picture.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from kzoo.data.faults import DataError

# What Pillow may try; its PostScript reader, for one, starts another program.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

# What stands at the end of a whole file. It cannot be part of what a JPEG or PNG has before its end.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_TAIL = 64  # bytes: cameras pad their files


def read_picture(path: str | Path) -> np.ndarray:
    """Decodes a picture file.

    Grey is repeated, alpha dropped, a palette looked up; 16 bits are scaled to 8.

    Args:
        path: the file. Several threads may read at once.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        DataError: no such file, no picture, a truncated one, or one of absurd size. Names the file.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            picture.load()
            return _rgb(picture)
    except Exception as error:  # on broken files Pillow raises nearly anything, down to IndexError
        raise DataError(f"{path}: {told_of(error)}; expected a whole picture file") from error


def check_picture(path: str | Path) -> tuple[int, int]:
    """Checks a picture file, nearly always without decoding it.

    The header is read, and the file has to end the way its format ends; only where it does not (or where the
    format has no fixed end) is it decoded to find out whether it is truncated.

    Args:
        path: the file. Several threads may check at once.

    Returns:
        (height, width) in pixels.

    Raises:
        DataError: as `read_picture`.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            whole = picture.format in _ENDS and _ENDS[picture.format] in _tail(path)
            if picture.format == "PNG" and whole:
                whole = _verified(picture)
    except Exception as error:  # as in read_picture
        raise DataError(f"{path}: {told_of(error)}; expected a whole picture file") from error
    if not whole:
        read_picture(path)
    return height, width


def _verified(picture: Image.Image) -> bool:
    """Whether the checksums of a PNG file are right, which it has for each of its parts."""
    try:
        picture.verify()
    except Exception:  # as in read_picture, which has the last word
        return False
    return True


def _rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion would clip them
        grey = np.asarray(picture).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise DataError("a picture of 32 bits a pixel, which has no known range of values")
        grey = ((grey * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=-1)  # [H, W, 3]
    if picture.mode == "F":
        raise DataError("a picture of floating-point numbers, which has no known range of values")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return np.array(picture.convert("RGB"))


def _tail(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        return file.read()


def told_of(error: Exception) -> str:
    """What a message says that Pillow found."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "a directory"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture (or of a format other than " + ", ".join(FORMATS) + ")"
    if isinstance(error, Image.DecompressionBombError):
        return f"a picture of absurd size ({error})"
    return str(error) or type(error).__name__
