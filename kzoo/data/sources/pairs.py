"""Pictures and the pictures of their labels, in which a pixel's value tells its class. No TensorFlow.

A label picture is read as it is stored: indices of a palette, or grey of up to 16 bits. Colours tell nothing;
only where all three channels are alike are they grey after all. Where 255 is no class it is ignored. Where it
has the size of a picture as that is stored, and not as EXIF turns it, it is turned with it
(`kzoo.data.orientation`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from kzoo.data.faults import DataError, Faults
from kzoo.data.orientation import orientation_of_annotation, turn_pixels, turn_size
from kzoo.data.pictures import (
    MAX_PIXELS,
    check_picture,
    open_picture,
    read_orientation,
    read_picture,
    told_of,
    turn_left,
)
from kzoo.data.sources.source import Split
from kzoo.data.threads import in_threads

IGNORED = 255  # the value of pixels without a class

_GREY = ("1", "L", "I", "I;16", "I;16B", "I;16L")
_NO_CLASS = -2
_TOLD = 10  # values that a message lists
_EXPECTED = "a label picture (PNG, say) of palette indices or grey values"


@dataclass(frozen=True)
class Pair:
    """A picture and its label picture.

    Attributes:
        name: of both.
        picture: its file.
        label: the file of its labels.
        fault: what is wrong with the pair, if anything is; then the files need not be there.
    """

    name: str
    picture: Path | None = None
    label: Path | None = None
    fault: DataError | None = None


class Scan(NamedTuple):
    """What a label picture holds."""

    size: tuple[int, int]  # height and width
    values: frozenset[int]


def read_values(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The values of a label picture's pixels as seen: uint8 or uint16 [H, W].

    Args:
        path: the file.
        max_pixels: the most that it may have.

    Raises:
        DataError: it is no whole picture, or one of colours. Names the file.
    """
    with open_picture(path, max_pixels, _EXPECTED) as picture:
        if picture.format in ("JPEG", "MPO"):
            raise DataError("a JPEG, which does not keep values exactly")
        orientation = turn_left(picture)
        picture.load()
        return turn_pixels(pixel_values(picture), orientation)


def pixel_values(picture: Image.Image) -> np.ndarray:
    """The values of a label picture that was read: uint8 or uint16 [H, W]."""
    if picture.mode == "P":
        return np.array(picture)
    if picture.mode == "1":
        return np.array(picture.convert("L"))  # white is 255, as in a PNG of one bit
    if picture.mode in _GREY:
        values = np.array(picture)
        if values.min() < 0 or values.max() > 65535:
            raise DataError("a picture of 32 bits a pixel")
        return values if values.dtype == np.uint8 else values.astype(np.uint16)
    if picture.mode not in ("LA", "RGB", "RGBA"):
        raise DataError(f"a picture of the kind {picture.mode}")
    channels = np.array(picture)[..., : 1 if picture.mode == "LA" else 3]
    if (channels != channels[..., :1]).any():
        raise DataError("a picture of colours")
    return np.ascontiguousarray(channels[..., 0])


def scan_labels(path: Path, max_pixels: int = MAX_PIXELS) -> Scan:
    """The size of a label picture, and the values that occur in it; raises as `read_values`.

    A file that has not changed since is not decoded again.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {told_of(error)}; expected {_EXPECTED}") from error
    return _scan(path, max_pixels, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2**16)
def _scan(path: Path, max_pixels: int, _time: int, _size: int) -> Scan:
    values = read_values(path, max_pixels)
    return Scan(values.shape, frozenset(np.flatnonzero(np.bincount(values.reshape(-1))).tolist()))


def open_pairs(
    name: str,
    pairs: Sequence[Pair],
    class_of_value: Mapping[int, int],
    faults: Faults,
    *,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Split:
    """A split of the faultless pairs. All label pictures are looked through, and none is kept.

    Args:
        name: of the split.
        pairs: in the order of the split.
        class_of_value: the class that a value stands for, -1 for one that is ignored.
        faults: to be told; this closes them.
        strict: whether a single fault is a DataError.
        max_pixels: the most that a picture may have.
    """

    def check(pair: Pair) -> tuple[tuple[int, int], int] | DataError:
        try:
            return pair.fault or _check(pair, class_of_value, max_pixels)
        except DataError as error:
            return error

    kept = []
    for pair, one in zip(pairs, in_threads(check, pairs), strict=True):
        if isinstance(one, DataError):
            faults.add(pair.name, str(one), one.kind)
        else:
            kept.append((pair, *one))
    faults.close(len(pairs), strict=strict)
    table = np.full(2**16, _NO_CLASS, np.int16)
    table[list(class_of_value)] = list(class_of_value.values())

    def read_labels(index: int) -> np.ndarray:
        pair, _, orientation = kept[index]
        path = pair.label
        values = read_values(path, max_pixels)
        labels = table[values]
        if (labels == _NO_CLASS).any():  # it was changed since it was looked through
            unknown = np.unique(values[labels == _NO_CLASS]).tolist()
            raise DataError(_unknown(path, unknown, class_of_value), "unknown_class")
        return turn_pixels(labels, orientation)

    def label_state(index: int) -> str:
        pair, _, orientation = kept[index]
        try:
            found = pair.label.stat()
        except OSError:
            return ""
        return repr((str(pair.label), found.st_size, found.st_mtime_ns, orientation, classes))

    classes = sorted(class_of_value.items())
    return Split(
        name=name,
        boxes=None,
        classes=(np.zeros(0, np.int32),) * len(kept),
        names=tuple(str(pair.picture) for pair, *_ in kept),
        sizes=tuple(size for _, size, _ in kept),
        read=lambda index: read_picture(kept[index][0].picture, max_pixels=max_pixels),
        read_labels=read_labels,
        label_state=label_state,
    )


def _check(pair: Pair, class_of_value: Mapping[int, int], max_pixels: int) -> tuple[tuple[int, int], int]:
    """Height and width of a pair's picture, and by what orientation its label picture is to be turned.

    A DataError says what is wrong with them.
    """
    height, width = seen = check_picture(pair.picture, max_pixels=max_pixels)
    size, values = scan_labels(pair.label, max_pixels)
    orientation = 1
    if size != seen:
        orientation = orientation_of_annotation(size, seen, read_orientation(pair.picture))
    if turn_size(size, orientation) != seen:
        expected = f"{width} x {height}, the size of {pair.picture}"
        told = f"{pair.label}: a picture of {size[1]} x {size[0]} pixels; expected {expected}"
        raise DataError(told, "size")
    unknown = sorted(values - class_of_value.keys())
    if unknown:
        raise DataError(_unknown(pair.label, unknown, class_of_value), "unknown_class")
    return seen, orientation


def _unknown(path: Path, values: Sequence[int], class_of_value: Mapping[int, int]) -> str:
    known = sorted(value for value, label in class_of_value.items() if label >= 0)
    ignored = sorted(value for value, label in class_of_value.items() if label < 0)
    of_no_class = "a value" if len(values) == 1 else "values"
    told = f"{path}: {of_no_class} of no class, {listed(values)}; expected {listed(known)}"
    return f"{told}, or {listed(ignored)}, which is ignored" if ignored else told


def listed(values: Sequence[int]) -> str:
    """Sorted values as a message has them."""
    if len(values) > 2 and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]} to {values[-1]}"
    more = [f"... ({len(values)} in all)"] if len(values) > _TOLD else []
    return ", ".join([*map(str, values[:_TOLD]), *more])
