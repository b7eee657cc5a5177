"""The rows of a table of pictures as arrays, behind `"csv:FILE"`."""

import csv
import math
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kzoo.data.csv_columns import WITHOUT_HEADER, Columns, find_columns, has_header
from kzoo.data.faults import DataError, shortened
from kzoo.data.numbers import read_number


class RowFault(NamedTuple):
    """What is wrong with a row."""

    picture: int | None  # None where the row does not tell
    told: str
    kind: str


class Rows(NamedTuple):
    """What the rows say, ordered by their pictures; of a picture they are in their own order."""

    pictures: list[tuple[str, str]]  # split, and the path as it is written
    first_lines: list[int]  # of each picture
    starts: np.ndarray  # [pictures + 1], where the boxes of each picture begin
    names: list[str]  # of classes
    labels: np.ndarray  # int32 [n], the place in `names`
    lines: np.ndarray  # int32 [n]
    boxes: np.ndarray  # float64 [n, 4] xyxy, or [n, 0]
    faults: list[RowFault]


def read_rows(file: Path, options: Mapping[str, str], boxes: bool) -> tuple[Columns, Rows]:
    """A table of pictures. What single rows say wrong is kept to be told.

    Args:
        file: the table.
        options: which column is what, by `kzoo.data.csv_columns.OPTIONS`.
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
        columns, cells = WITHOUT_HEADER, chain([(line, first)], cells)
    places: dict[tuple[str, str], int] = {}
    names: dict[str, int] = {}
    first_lines, faults = [], []
    of_picture, labels, lines, sides = array("i"), array("i"), array("i"), array("d")
    for line, row in cells:
        place = None
        try:
            place = places.setdefault(_picture_of(row, columns), len(places))
            if place == len(first_lines):
                first_lines.append(line)
            found = _read_row(row, columns)
        except DataError as error:
            faults.append(RowFault(place, f"{file}, line {line}: {error}", error.kind))
            continue
        if found:
            name, box = found
            of_picture.append(place)
            labels.append(names.setdefault(name, len(names)))
            lines.append(line)
            sides.extend(box)
    if not places:
        raise DataError("; ".join([f"{file}: no row has a picture", *(one.told for one in faults[:1])]))
    pictures = np.array(of_picture, np.int32)
    order = np.argsort(pictures, kind="stable")
    ordered_boxes = np.array(sides).reshape(len(order), len(columns.box))[order]
    if ordered_boxes.size and ordered_boxes.max() <= 1:
        raise DataError(f"{file}: no box reaches beyond pixel 1; expected pixels, not shares of the picture")
    rows = Rows(
        pictures=list(places),
        first_lines=first_lines,
        starts=np.searchsorted(pictures[order], np.arange(len(places) + 1)),
        names=list(names),
        labels=np.array(labels, np.int32)[order],
        lines=np.array(lines, np.int32)[order],
        boxes=ordered_boxes,
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
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: {error}; expected rows of text in UTF-8") from error


def _delimiter(line: str) -> str:
    """What sets the cells of a line apart: that which makes the most of them."""
    return max(",;\t", key=lambda delimiter: len(next(csv.reader([line], delimiter=delimiter), [])))


def _picture_of(row: Sequence[str], columns: Columns) -> tuple[str, str]:
    """The split and the path of a row's picture."""
    path = row[columns.image].strip().replace("\\", "/") if columns.image < len(row) else ""
    if not path:
        raise DataError("a row without a picture; expected its path", "missing")
    if columns.split is None:
        return "", os.path.normpath(path)
    split = row[columns.split].strip() if columns.split < len(row) else ""
    if not split:
        raise DataError(f"{shortened(path)} has no split; expected its name in the column split")
    return split, os.path.normpath(path)


def _read_row(row: Sequence[str], columns: Columns) -> tuple[str, tuple[float, ...]] | None:
    """The class and the box of a row, xyxy; None where it is that of a picture without objects."""
    if len(row) != len(columns.names):
        expected = f"{len(columns.names)}, {','.join(columns.names)[:100]}"
        raise DataError(f"{len(row)} cells; expected {expected}")
    name, texts = row[columns.label].strip(), [row[place] for place in columns.box]
    if columns.box and not name and not any(map(str.strip, texts)):
        return None
    if not name:
        raise DataError("a row without a class; expected its name", "unknown_class")
    return name, _read_box(texts, columns) if columns.box else ()


def _read_box(texts: Sequence[str], columns: Columns) -> tuple[float, ...]:
    """A box as xyxy; a DataError says what is wrong with it."""
    try:
        x1, y1, x2, y2 = map(read_number, texts)
        if columns.format == "xywh":
            x2, y2 = x1 + x2, y1 + y2
        if not all(map(math.isfinite, (x1, y1, x2, y2))):
            raise ValueError("not finite")
    except ValueError:
        told = f"{_told_box(texts, columns)} is not of four finite numbers; expected pixels"
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
