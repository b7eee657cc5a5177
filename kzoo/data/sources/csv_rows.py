"""The rows of a table of pictures as arrays, behind `"csv:FILE"`."""

import csv
import math
import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kzoo.data.faults import DataError, shortened
from kzoo.data.numbers import read_number
from kzoo.data.sources.csv_columns import OF_CLASSES, WITHOUT_HEADER, Columns, find_columns, has_header

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # what it begins with


class RowFault(NamedTuple):
    """What is wrong with a row."""

    picture: int | None  # None where the row does not tell
    told: str
    kind: str


class Rows(NamedTuple):
    """What the rows say, ordered by their pictures; of a picture they are in their own order."""

    pictures: list[tuple[str, str]]  # split, and the path from the table's folder
    first_lines: list[int]  # of each picture
    starts: np.ndarray  # [pictures + 1], where the boxes of each picture begin
    names: list[str]  # of classes
    labels: np.ndarray  # int32 [n], the place in `names`
    lines: np.ndarray  # int32 [n]
    boxes: np.ndarray  # float64 [n, 4] xyxy, or [n, 0]
    told_sizes: (
        np.ndarray
    )  # float64 [n, 2], height and width of the picture, 0 where a row does not tell; or [n, 0]
    faults: list[RowFault]


def read_rows(file: Path, options: Mapping[str, str], boxes: bool) -> tuple[Columns, Rows]:
    """A table of pictures. What single rows say wrong is kept to be told.

    Args:
        file: the table.
        options: which column is what, by `kzoo.data.sources.csv_columns.OPTIONS`.
        boxes: whether a table without boxes is refused.

    Raises:
        DataError: it is not a table, lacks a column, or has no picture.
    """
    cells = read_cells(file)
    line, first = next(cells, (0, []))
    if not first:
        raise DataError(f"{file}: is empty; expected a row for each box or picture")
    if options or has_header(first):
        columns = find_columns(str(file), first, options, boxes)
    else:
        columns = OF_CLASSES if len(first) == 2 else WITHOUT_HEADER
        cells = chain([(line, first)], cells)
        if boxes and not columns.box:
            expected = f"expected {','.join(WITHOUT_HEADER.names)}, or a header that tells the columns"
            raise DataError(f"{file}: rows of {','.join(columns.names)} have no box; {expected}")
    places: dict[tuple[str, str], int] = {}
    names: dict[str, int] = {}
    first_lines, faults = [], []
    of_picture, labels, lines, sides, sizes = array("i"), array("i"), array("i"), array("d"), array("d")
    path_of = cache(partial(_path_from, os.path.abspath(file.parent)))
    for line, row in cells:
        place = None
        try:
            place = places.setdefault(_picture_of(row, columns, path_of), len(places))
            if place == len(first_lines):
                first_lines.append(line)
            found = _read_row(row, columns)
        except DataError as error:
            faults.append(RowFault(place, f"{file}, line {line}: {error}", error.kind))
            continue
        if found:
            name, box, size = found
            of_picture.append(place)
            labels.append(names.setdefault(name, len(names)))
            lines.append(line)
            sides.extend(box)
            sizes.extend(size)
    if not places:
        raise DataError("; ".join([f"{file}: no row has a picture", *(one.told for one in faults[:1])]))
    pictures = np.array(of_picture, np.int32)
    order = np.argsort(pictures, kind="stable")
    ordered_boxes = np.array(sides).reshape(len(order), len(columns.box))[order]
    if ordered_boxes.size and np.mean((ordered_boxes <= 1).all(axis=1)) > 0.5:
        raise DataError(f"{file}: most boxes end before pixel 1; expected pixels, not shares of the picture")
    rows = Rows(
        pictures=list(places),
        first_lines=first_lines,
        starts=np.searchsorted(pictures[order], np.arange(len(places) + 1)),
        names=list(names),
        labels=np.array(labels, np.int32)[order],
        lines=np.array(lines, np.int32)[order],
        boxes=ordered_boxes,
        told_sizes=np.array(sizes).reshape(len(order), len(columns.size))[order],
        faults=faults,
    )
    return columns, rows


def read_cells(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that are not blank, with their lines.

    Raises:
        DataError: it is no text, or not of cells.
    """
    line = 1
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            delimiter = _delimiter(next((text for text in lines if text.strip()), ""))
            lines.seek(0)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            for row in reader:
                line = reader.line_num
                if any(map(str.strip, row)):
                    yield line, row
    except csv.Error as error:
        raise DataError(f"{file}, behind line {line}: {error}; expected rows of cells") from error
    except UnicodeDecodeError as error:
        found = "text in UTF-16" if error.object[:2] in _UTF_16 else str(error)
        expected = 'expected rows of text in UTF-8; "CSV UTF-8" is what spreadsheets call it'
        raise DataError(f"{file}: {found}; {expected}") from error
    except OSError as error:
        raise DataError(f"{file}: {error}; expected rows of text in UTF-8") from error


def _delimiter(line: str) -> str:
    """What sets the cells of a line apart: that which makes the most of them."""
    return max(",;\t", key=lambda delimiter: len(next(csv.reader([line], delimiter=delimiter), [])))


def _path_from(folder: str, path: str) -> str:
    """A path, absolute or from a folder, as one from the folder: it is the same however it was written."""
    path = os.path.normpath(path)
    if os.path.isabs(path) or path.startswith(os.pardir):
        return os.path.relpath(os.path.join(folder, path), folder)
    return path


def _picture_of(row: Sequence[str], columns: Columns, path_of: Callable[[str], str]) -> tuple[str, str]:
    """The split and the path of a row's picture."""
    path = row[columns.image].strip().replace("\\", "/") if columns.image < len(row) else ""
    if not path:
        raise DataError("a row without a picture; expected its path", "missing")
    if columns.split is None:
        return "", path_of(path)
    split = row[columns.split].strip() if columns.split < len(row) else ""
    if not split:
        raise DataError(
            f"{shortened(path)} has no split; expected its name in the column {columns.names[columns.split]}"
        )
    return split, path_of(path)


def _read_row(
    row: Sequence[str], columns: Columns
) -> tuple[str, tuple[float, ...], tuple[float, ...]] | None:
    """The class of a row, its box, xyxy, and the size of its picture that it tells, height and width.

    None where it is that of a picture without objects.
    """
    if len(row) != len(columns.names):
        expected = f"{len(columns.names)}, {','.join(columns.names)[:100]}"
        raise DataError(f"{len(row)} cells; expected {expected}")
    name, texts = row[columns.label].strip(), [row[place] for place in columns.box]
    if columns.box and not name and not any(map(str.strip, texts)):
        return None
    if not name:
        raise DataError("a row without a class; expected its name", "unknown_class")
    box = _read_box(texts, columns) if columns.box else ()
    return name, box, _read_size(row, columns) if columns.size else ()


def _read_size(row: Sequence[str], columns: Columns) -> tuple[float, float]:
    """Height and width that a row tells of its picture, 0 where none or zero is written, as some tools do."""
    size = []
    for place in columns.size:
        text = row[place].strip()
        try:
            size.append(read_number(text or "0"))
            if not 0 <= size[-1] < math.inf:
                raise ValueError("no number of pixels")
        except ValueError:
            told = f"{columns.names[place]} {shortened(text)}".replace("'", "")
            raise DataError(f"{told}; expected how many pixels its picture has", "size") from None
    height, width = size if all(size) else (0, 0)
    return height, width


def _read_box(texts: Sequence[str], columns: Columns) -> tuple[float, ...]:
    """A box as xyxy; a DataError says what is wrong with it."""
    try:
        x1, y1, x2, y2 = map(read_number, texts)
        if columns.format == "cxcywh":
            x1, y1 = x1 - x2 / 2, y1 - y2 / 2
        if columns.format != "xyxy":
            x2, y2 = x1 + x2, y1 + y2
        if not all(map(math.isfinite, (x1, y1, x2, y2))):
            raise ValueError("not finite")
    except ValueError:
        expected = "a point before decimals, not a comma" if "," in "".join(texts) else "pixels"
        told = f"{_told_box(texts, columns)} is not of four finite numbers; expected {expected}"
        raise DataError(told, "not_numbers") from None
    if x1 < x2 and y1 < y2:
        return x1, y1, x2, y2
    names = [columns.names[place] for place in columns.box]
    right = f"{names[0]} < {names[2]} and {names[1]} < {names[3]}"
    right = right if columns.format == "xyxy" else f"{names[2]} and {names[3]} above 0"
    if x2 < x1 or y2 < y1:
        raise DataError(f"{_told_box(texts, columns)} is reversed; expected {right}", "reversed")
    raise DataError(f"{_told_box(texts, columns)} has no area; expected {right}", "no_area")


def _told_box(texts: Sequence[str], columns: Columns) -> str:
    sides = zip((columns.names[place] for place in columns.box), texts, strict=True)
    return f"box ({', '.join(f'{side} {shortened(text.strip())}' for side, text in sides)})".replace("'", "")
