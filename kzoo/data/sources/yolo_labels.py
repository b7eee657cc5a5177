"""The text files of YOLO, a row an object, behind `"yolo:DIR"`.

    class cx cy w h                  a box by its centre, width and height
    class x1 y1 x2 y2 x3 y3 ...      a polygon of at least three points

in shares of the picture's width and height, from 0 to 1.
"""

import math
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kzoo.data.faults import DataError, shortened

MOST_CLASSES = 10_000  # a number beyond is a slip, not a class
_ROUNDED = 0.01  # by which numbers may be beyond 0 to 1: the picture's size tells what is too much
_MOST_BYTES = 16 * 2**20  # of the file of one picture
_FIELDS = "expected class cx cy w h, or class and the points x1 y1 x2 y2 x3 y3 ... of a polygon"


class Labels(NamedTuple):
    """What a file says of its picture, in shares of width and height."""

    lines: np.ndarray  # int32 [n]
    classes: np.ndarray  # int32 [n]
    boxes: np.ndarray  # float64 [n, 4] xyxy
    polygons: tuple[np.ndarray | None, ...]  # of each box float64 [2 k], x and y by turns, if they are read
    num_polygons: int  # rows that are polygons, be they kept or not
    faults: tuple[DataError, ...]  # of single rows
    broken: DataError | None = None  # what is wrong with the file as a whole


NO_LABELS = Labels(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros([0, 4]), (), 0, ())


class _Row(NamedTuple):
    label: int
    box: tuple[float, float, float, float]
    points: list[float] | None


def read_labels(path: str, *, keypoints: int = 0, polygons: bool = True) -> Labels:
    """The rows of a file.

    Args:
        path: the file. Several threads may read at once.
        keypoints: how many numbers of key points stand behind a box; they are not looked at.
        polygons: whether polygons are kept, and not only their boxes.
    """
    try:
        text = _read(path)
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        return NO_LABELS._replace(broken=DataError(f"{path}: {told}; expected a file of rows"))
    rows, lines, faults = [], [], []
    for line, row in enumerate(text.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        fields = row.split()
        if not fields:
            continue
        if keypoints and len(fields) == 5 + keypoints:
            fields = fields[:5]
        try:
            rows.append(_read_row(fields))
            lines.append(line)
        except DataError as error:
            faults.append(DataError(f"{path}, line {line}: {error}", error.kind))
    return Labels(
        lines=np.array(lines, np.int32),
        classes=np.array([row.label for row in rows], np.int32),
        boxes=np.array([row.box for row in rows], np.float64).reshape(-1, 4),
        polygons=tuple(row.points and np.array(row.points) for row in rows) if polygons else (),
        num_polygons=sum(row.points is not None for row in rows),
        faults=tuple(faults),
    )


def _read(path: str) -> bytes:
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode):  # to open a pipe or a device can wait without end
        raise ValueError("not a file")
    if state.st_size > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES} bytes")
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _read_row(fields: Sequence[bytes]) -> _Row:
    """A row's class, box and polygon; a DataError says what is wrong with it."""
    count = len(fields)
    if count == 6:
        told = "6 fields look like a prediction with its confidence"
        raise DataError(f"{told}; expected class cx cy w h")
    if count < 5 or count % 2 == 0:
        raise DataError(f"{count} fields; {_FIELDS}")
    try:
        if any(b"_" in field for field in fields):
            raise ValueError("an underscore, which Python allows in numbers")
        label, *sides = map(float, fields)
    except ValueError:
        raise DataError(f"{_told(fields)} is not of numbers; {_FIELDS}", "not_numbers") from None
    if count > 5:
        box = min(sides[::2]), min(sides[1::2]), max(sides[::2]), max(sides[1::2])
    else:
        x, y, width, height = sides
        box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    within = min(sides) >= -_ROUNDED and max(sides) <= 1 + _ROUNDED
    if not (within and math.isfinite(sum(sides)) and 0 <= label < MOST_CLASSES and not label % 1):
        _refuse(fields, label, sides)
    if box[0] >= box[2] or box[1] >= box[3]:
        shape = "points that are not on a line" if count > 5 else "a width and a height above 0"
        raise DataError(f"{_told(fields)} has no area; expected {shape}", "no_area")
    return _Row(int(label), box, sides if count > 5 else None)


def _refuse(fields: Sequence[bytes], label: float, sides: Sequence[float]) -> None:
    """Says which of its numbers make a row faulty."""
    if not all(map(math.isfinite, (label, *sides))):
        raise DataError(f"{_told(fields)} is not of finite numbers; {_FIELDS}", "not_numbers")
    if label % 1 or not 0 <= label < MOST_CLASSES:
        expected = "expected a whole number from 0"
        raise DataError(f"class {fields[0].decode(errors='replace')[:30]}; {expected}", "unknown_class")
    expected = "expected shares of the picture's width and height"
    raise DataError(f"{_told(fields)} has numbers beyond 0 to 1; {expected}", "outside")


def _told(fields: Sequence[bytes]) -> str:
    return f"row {shortened(b' '.join(fields[:6]).decode(errors='replace') + ' ...' * (len(fields) > 6))}"
