"""Reads picture files as the zoo wants them: uint8 RGB, as they are seen.

A turn that EXIF asks for is carried out, so that sizes and pixels are those that viewers and annotation tools
show (`kzoo.data.orientation`). What is in a file tells its format, not what it is called. Of several pages or
moving pictures the first is read. Only regular files are opened, and a picture of more pixels than are
allowed is refused by its header, before anything is decoded. Pillow's own limit for the whole process holds
for WebP alone, which above twice `PIL.Image.MAX_IMAGE_PIXELS` is refused however many pixels are allowed.
"""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from kzoo.data.faults import DataError
from kzoo.data.orientation import ORIENTATIONS, turn_pixels

MAX_PIXELS = 100_000_000  # of a picture: 300 MB decoded, more than any camera for the hand takes

# What may be tried; Pillow's PostScript reader, for one, starts another program.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

_PLUGINS = (  # each of them makes itself known to Pillow when it is imported
    JpegImagePlugin,
    PngImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    PpmImagePlugin,
)

# What stands at the end of a whole file. It cannot be part of what a JPEG or PNG has before its end.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_TAIL = 64  # bytes: cameras pad their files
_HEAD = 16  # bytes: what formats are told apart by
_EXPECTED = "a whole picture file"


def read_picture(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a picture file, and turns the picture as EXIF asks for.

    Grey is repeated, alpha dropped, a palette looked up; 16 bits are scaled to 8.

    Args:
        path: the file. Several threads may read at once.
        max_pixels: the most that the picture may have.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        DataError: no such file, no picture, a truncated one, or one of too many pixels. Names the file.
    """
    with open_picture(path, max_pixels) as picture:
        orientation = turn_left(picture)
        return turn_pixels(_decoded(picture), orientation)


def check_picture(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Checks a picture file, nearly always without decoding it.

    The header is read, and the file has to end the way its format ends; only where it does not (or where the
    format has no fixed end) is it decoded to find out whether it is truncated.

    Args:
        path: the file. Several threads may check at once.
        max_pixels: the most that the picture may have.

    Returns:
        (height, width) in pixels of the picture as seen.

    Raises:
        DataError: as `read_picture`.
    """
    with open_picture(path, max_pixels) as picture:
        width, height = picture.size
        exchanged = ORIENTATIONS[turn_left(picture)][0]
        whole = picture.format in _ENDS and _ENDS[picture.format] in _tail(picture.fp)
        if picture.format == "PNG" and whole:
            whole = _verified(picture)
    if not whole:
        read_picture(path, max_pixels=max_pixels)
    return (width, height) if exchanged else (height, width)


def read_orientation(path: str | Path) -> int:
    """How a stored picture is to be turned, 1 to 8 as EXIF has it; 1 where EXIF is broken or not there.

    Raises:
        DataError: no such file, or no picture. Names the file.
    """
    with open_picture(path, None) as picture:
        return _orientation(picture)


@contextlib.contextmanager
def open_picture(
    path: str | Path, max_pixels: int | None, expected: str = _EXPECTED
) -> Iterator[ImageFile.ImageFile]:
    """A picture file of which the header was read. Whatever is wrong with it, within too, is a DataError.

    Args:
        path: the file.
        max_pixels: the most that the picture may have; None where it is not going to be decoded.
        expected: what the error says that was expected.
    """
    with _faults_told(path, expected):
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe or a device can wait without end
            raise DataError("a directory" if os.path.isdir(path) else "a pipe or a device, not a file")
        with open(path, "rb") as file, _opened(file, max_pixels) as picture:
            yield picture


@contextlib.contextmanager
def open_stored(
    data: bytes, place: str, max_pixels: int | None, expected: str = _EXPECTED
) -> Iterator[ImageFile.ImageFile]:
    """As `open_picture`, of the bytes of a file that lies within another one.

    Args:
        data: the bytes.
        place: what errors call it.
        max_pixels: the most that the picture may have; None where it is not going to be decoded.
        expected: what the error says that was expected.
    """
    with _faults_told(place, expected), _opened(io.BytesIO(data), max_pixels) as picture:
        yield picture


def read_stored(data: bytes, place: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As `read_picture`, of bytes and without the turn that EXIF asks for."""
    with open_stored(data, place, max_pixels) as picture:
        return _decoded(picture)


def check_stored(data: bytes, place: str, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """As `check_picture`, of bytes and without the turn that EXIF asks for."""
    with open_stored(data, place, max_pixels) as picture:
        width, height = picture.size
        whole = picture.format in _ENDS and _ENDS[picture.format] in data[-_TAIL:]
    if not whole:
        read_stored(data, place, max_pixels=max_pixels)
    return height, width


class _Tiff(TiffImagePlugin.TiffImageFile):
    """As Pillow has it, which would ask for its own limit where it makes room for the pixels."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)
        super().load_prepare()


@contextlib.contextmanager
def _faults_told(place: str | Path, expected: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # on broken files Pillow raises nearly anything, down to IndexError
        kind = _kind_of(error)
        if kind == "too_large":
            expected = "at most that, or a larger max_pixels"
        raise DataError(f"{place}: {told_of(error)}; expected {expected}", kind) from error


def _opened(file: BinaryIO, max_pixels: int | None) -> ImageFile.ImageFile:
    """As `Image.open` does it, but without its limit, which is one number for the whole process."""
    head = file.read(_HEAD)
    for name in FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts(head):
            file.seek(0)
            picture = _Tiff(file, "") if name == "TIFF" else factory(file, "")
            width, height = picture.size
            if max_pixels is not None and width * height > max_pixels:
                of = f"a picture of {width} x {height} pixels, which is more than max_pixels={max_pixels}"
                raise DataError(of, "too_large")
            return picture
    raise DataError("not a picture (or of a format other than " + ", ".join(FORMATS) + ")")


def _orientation(picture: ImageFile.ImageFile) -> int:
    try:
        # Of the class, because the one of PNG decodes all pixels to look for EXIF behind them.
        found = Image.Image.getexif(picture).get(ExifTags.Base.Orientation)
    except Exception:  # broken EXIF turns nothing
        return 1
    return found if isinstance(found, int) and found in ORIENTATIONS else 1


def turn_left(picture: ImageFile.ImageFile) -> int:
    """What is left to be turned of a picture that is not decoded yet; Pillow turns a TIFF by itself."""
    return 1 if picture.format == "TIFF" else _orientation(picture)


def _verified(picture: Image.Image) -> bool:
    """Whether the checksums of a PNG file are right, which it has for each of its parts."""
    try:
        picture.verify()
    except Exception:  # as in read_picture, which has the last word
        return False
    return True


def _decoded(picture: ImageFile.ImageFile) -> np.ndarray:
    pixels = _usual_jpeg(picture)
    if pixels is None:
        picture.load()
        pixels = _rgb(picture)
    return pixels


def _usual_jpeg(picture: ImageFile.ImageFile) -> np.ndarray | None:
    """The pixels of a faultless JPEG of colours or grey: those of Pillow, in half the time.

    None of any other file: what is not faultless Pillow decodes, or says what is wrong with it.
    """
    if picture.format not in ("JPEG", "MPO") or picture.mode not in ("RGB", "L"):
        return None
    picture.fp.seek(0)
    content = picture.fp.read()
    picture.fp.seek(0)
    try:
        if simplejpeg.decode_jpeg_header(content)[1::-1] != picture.size:  # max_pixels was asked of that
            return None
        return simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError as error:
        if "premature end" in str(
            error
        ):  # Pillow would fill up with grey and say nothing, if the file ends well
            raise DataError("truncated within (premature end of data)") from error
        return None


def _rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion would clip them
        grey = np.asarray(picture)
        if grey.min() < 0 or grey.max() > 65535:
            raise DataError("a picture of 32 bits a pixel, which has no known range of values")
        grey = ((grey.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=-1)  # [H, W, 3]
    if picture.mode == "F":
        raise DataError("a picture of floating-point numbers, which has no known range of values")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _tail(file: BinaryIO) -> bytes:
    """The last bytes of a file, which stays where it is in it."""
    place = file.tell()
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    tail = file.read()
    file.seek(place)
    return tail


def _kind_of(error: Exception) -> str:
    """What kind of fault it is (`kzoo.data.faults`) that a picture cannot be read because of an error."""
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, Image.DecompressionBombError):
        return "too_large"
    if isinstance(error, DataError) and error.kind == "too_large":
        return error.kind
    return "truncated" if isinstance(error, EOFError) or "truncated" in str(error).lower() else "unreadable"


def told_of(error: Exception) -> str:
    """What a message says that was found."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "the file may not be read"
    return str(error) or type(error).__name__
