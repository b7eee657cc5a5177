"""`"csv:FILE"`: pictures with boxes, or with a class each, as rows of a table.

Without a header, as keras-retinanet has it; a picture without objects has a row too. Rows of two cells are
pictures with a class each:

    path/a.jpg,10,20,110,220,cat     or path/a.jpg,cat
    path/b.jpg,,,,,

With a header, a column each for the picture (image, path, filename, ...), its class (class, label, ...) and,
for boxes, x1, y1, x2, y2 or xmin, ymin, xmax, ymax or left, top, right, bottom or x, y, width, height, where
x and y are the left top corner (`kzoo.data.sources.csv_columns`). Case does not matter, nor do `_` and
spaces, and columns beyond these are not looked at. A column `split`, `subset` or `set` tells splits; without
it a tenth of the pictures each is drawn for "val" and "test", the rest is "train"; and there is "all".
Columns of other names stand behind commas:
`"csv:FILE,image=COLUMN,class=COLUMN,box=A+B+C+D,format=xywh,split=COLUMN"`.
Where columns tell a box's middle it is `format=cxcywh`.

Cells are set apart by `,`, `;` or tabs. Paths start from the folder of FILE, or are absolute. Boxes are in
pixels of the picture as it is seen, read as they are written, the object's borders. What lies outside
the picture by no more than rounding explains is clipped (`ROUNDING`). Where columns `width` and `height`
beside the box tell the picture's size, another size is a fault; that of the picture as it is stored, and not
as EXIF turns it, says that boxes are to be turned with it (`kzoo.data.orientation`).

    classes.txt or labels.txt        beside FILE: a class a line
    classes.csv                      beside FILE: rows `class,id`, as keras-retinanet has it
    neither                          the classes that are found, most frequent first; numbers in their order

What is found in one file may be in another order in the next: give `classes=` where training and validation
are files of their own.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kzoo.data.class_names import check_classes, found_classes, written_classes
from kzoo.data.faults import DataError, Faults, kind_of, refuse, shortened
from kzoo.data.orientation import orientation_of_annotation, turn_boxes, turn_size
from kzoo.data.pictures import MAX_PIXELS, read_orientation, read_picture
from kzoo.data.sources.csv_columns import OPTIONS
from kzoo.data.sources.csv_rows import read_cells, read_rows
from kzoo.data.sources.folder import Names, in_order
from kzoo.data.sources.sizes import picture_sizes
from kzoo.data.sources.source import Info, Split, check_name, check_split, clip_box, draw_splits
from kzoo.data.sources.spec_options import read_options

_MAPPING = "classes.csv"  # the class names of keras-retinanet


def open_csv(
    spec: str, where: str, *, task: str | None, classes: tuple[str, ...] | None, max_pixels: int
) -> "Csv":
    """The source behind `"csv:..."`.

    Args:
        spec: the text that messages call it by.
        where: the file, and the options behind it.
        task: what is to be learnt, as far as that is known.
        classes: names in the order of their numbers.
        max_pixels: the most that a picture may have.

    Raises:
        DataError: there is no such file, or not a table of pictures in it.
    """
    file, options = read_options(spec, where, OPTIONS, "file")
    if not file.is_file():
        found = "is a directory" if file.is_dir() else "is no file" if file.exists() else "does not exist"
        raise DataError(f"{spec!r}: {file} {found}; expected a table of pictures, as in 'csv:FILE.csv'")
    return Csv(spec, file, options, task=task, classes=classes, max_pixels=max_pixels)


class Csv:
    """Pictures that a table lists. It is parsed once, here; pictures are checked split by split.

    Args:
        spec: the text that messages call it by.
        file: which must be there.
        options: which column is what, by `kzoo.data.sources.csv_columns.OPTIONS`.
        task: what is to be learnt: "detection" takes a table with boxes.
        classes: names in the order of their numbers; by default those of a file beside it, or those found.
        max_pixels: the most that a picture may have.
    """

    def __init__(
        self,
        spec: str,
        file: Path,
        options: dict[str, str],
        *,
        task: str | None = None,
        classes: tuple[str, ...] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._file, self._max_pixels = file, max_pixels
        columns, rows = read_rows(file, options, boxes=task == "detection")
        self._columns, self._rows = columns, rows
        if columns.split is None:
            places = {picture: place for place, (_, picture) in enumerate(rows.pictures)}
            drawn = draw_splits(places)
            self._splits = {name: [places[picture] for picture in drawn[name]] for name in drawn}
        else:
            splits: dict[str, list[int]] = {}
            for place, (name, _) in enumerate(rows.pictures):
                splits.setdefault(name, []).append(place)
            self._splits = in_order(splits)
        self._classes = self._choose_classes(classes)
        counts = {name: len(places) for name, places in self._splits.items()}
        tasks = ("detection",) if columns.box else ("classification",)
        self.info = Info(spec, self._classes.names, counts, tasks)
        self.max_objects = max(1, int(np.diff(rows.starts).max(initial=1)))

    def split(self, name: str, *, strict: bool = False, part: slice = slice(None)) -> Split:
        """The faultless pictures of one split, or of a part of its list."""
        check_split(self.info, name)
        listed = self._splits[name][part]
        paths = {place: self._path(place) for place in listed}
        self._check_strays(strict)
        faults = Faults(f'{self.info.spec}, split "{name}"')
        for fault in self._rows.faults:
            if fault.picture in paths:
                faults.add(paths[fault.picture], fault.told, fault.kind)
        number = {class_name: label for label, class_name in enumerate(self._classes.names)}
        numbers = np.array([number.get(class_name, -1) for class_name in self._rows.names], np.int32)
        labels_of_rows = numbers[self._rows.labels]
        sizes = picture_sizes(list(paths.values()), max_pixels=self._max_pixels)
        kept = []
        for place, size in zip(listed, sizes, strict=True):
            rows = self._known_rows(place, labels_of_rows, paths[place])
            if isinstance(size, DataError):
                told = f"{self._file}, line {self._rows.first_lines[place]}: {size}"
                faults.add(paths[place], told, size.kind)
                continue
            boxes = None
            if self._columns.box:
                boxes, rows = self._boxes_within(rows, size, paths[place], faults)
            else:
                rows = self._one_row(rows, paths[place], faults)
                if not len(rows):
                    continue
            kept.append((paths[place], size, boxes, labels_of_rows[rows]))
        faults.close(len(listed), strict=strict)
        names, sizes, boxes, labels = zip(*kept, strict=True) if kept else ((), (), (), ())
        return Split(
            name=name,
            boxes=boxes if self._columns.box else None,
            classes=labels,
            names=names,
            sizes=sizes,
            read=lambda index: read_picture(names[index], max_pixels=self._max_pixels),
        )

    def _path(self, place: int) -> str:
        written = self._rows.pictures[place][1]
        return os.path.normpath(os.path.join(self._file.parent, written))

    def _check_strays(self, strict: bool) -> None:
        """Tells of rows without a picture or a split: which split they are of, nobody knows."""
        strays = Faults(f"{self.info.spec}, all of {self._file}")
        for picture, told, kind in self._rows.faults:
            if picture is None:
                strays.add(told, told, kind)
        strays.close(len(self._rows.pictures), strict=strict)

    def _known_rows(self, place: int, labels_of_rows: np.ndarray, path: str) -> np.ndarray:
        """The rows of a picture whose class there is."""
        rows = np.arange(*self._rows.starts[place : place + 2])
        for row in rows[labels_of_rows[rows] < 0]:
            name = self._rows.names[self._rows.labels[row]]
            told = f"{self._file}, line {self._rows.lines[row]} (the classes are from {self._classes.origin})"
            try:
                check_name(told, "class", name, self._classes.names, "unknown_class")
            except DataError as error:
                refuse(path, error)
        return rows[labels_of_rows[rows] >= 0]

    def _boxes_within(
        self, rows: np.ndarray, size: tuple[int, int], path: str, faults: Faults
    ) -> tuple[np.ndarray, np.ndarray]:
        """Boxes float32 [n, 4] within a picture, and which rows they are of."""
        boxes, within = [], []
        told_sizes = self._rows.told_sizes[rows].tolist()
        for row, box, told_size in zip(rows, self._rows.boxes[rows].tolist(), told_sizes, strict=True):
            try:
                boxes.append(_box_as_seen(box, tuple(told_size), size, path))
                within.append(True)
            except ValueError as error:
                sides = ", ".join(f"{side:g}" for side in box)
                place = f"{self._file}, line {self._rows.lines[row]}, ({sides})"
                faults.add(path, f"{place}: {error}", kind_of(error))
                within.append(False)
        return np.array(boxes, np.float32).reshape(-1, 4), rows[np.array(within, bool)]

    def _one_row(self, rows: np.ndarray, path: str, faults: Faults) -> np.ndarray:
        """The row of a picture's one class, if they agree; all but the first are faults."""
        if len(rows) > 1:
            first, second = self._rows.lines[rows[:2]]
            told = f"{self._file}, line {second}: {path} is in line {first} too"
            faults.add(path, f"{told}; expected one row, for its one class", "duplicate")
        return rows[:1] if len(np.unique(self._rows.labels[rows])) == 1 else rows[:0]

    def _choose_classes(self, given: tuple[str, ...] | None) -> Names:
        """The classes, and where they are from."""
        if given is not None:
            return Names(given, "classes=")
        written = written_classes(self._file.parent)
        if written:
            return Names(written[0], str(written[1]))
        mapping = self._file.parent / _MAPPING
        if mapping.is_file() and not mapping.samefile(self._file):
            return Names(_read_mapping(mapping), str(mapping))
        names, labels = self._rows.names, self._rows.labels
        if not len(labels):
            faults = [one.told for one in self._rows.faults[:1]]
            raise DataError("; ".join([f"{self._file}: no row has a class", *faults]))
        return Names(found_classes(names[label] for label in labels.tolist()), str(self._file))


def _box_as_seen(
    box: tuple[float, float, float, float], told: tuple[float, ...], seen: tuple[int, int], path: str
) -> Sequence[float]:
    """A box within its picture as that is seen; a DataError says what is wrong with it.

    Args:
        box: xyxy.
        told: height and width that its row tells of the picture, 0 or none of them where it does not.
        seen: height and width of the picture.
        path: of the picture.
    """
    own = box[3] - box[1], box[2] - box[0]  # columns of these names may also tell the box's sides
    if not any(told) or told in (seen, own):
        return clip_box("the box", box, seen)
    orientation = orientation_of_annotation(told, seen, read_orientation(path))
    size = turn_size(seen, orientation)
    if told != size:
        expected = f"expected {seen[1]} x {seen[0]}, the size of {path}"
        raise DataError(f"says that its picture is {told[1]:g} x {told[0]:g}; {expected}", "size")
    return turn_boxes(np.array([clip_box("the box", box, size)]), size, orientation)[0]


def _read_mapping(file: Path) -> tuple[str, ...]:
    """The names of a table of rows `class,id`, in the order of their ids."""
    names: dict[int, str] = {}
    for line, row in read_cells(file):
        name, number = row[0].strip(), row[1].strip() if len(row) == 2 else ""
        if not names and number.lower() == "id":
            continue  # a header
        if not name or not number.isdecimal() or int(number[:18]) in names:
            told = f"{file}, line {line}: {shortened(','.join(row))}"
            raise DataError(f"{told}; expected class,id with whole numbers from 0, each once")
        names[int(number[:18])] = name
    if sorted(names) != list(range(len(names))):
        raise DataError(f"{file}: the ids are {shortened(sorted(names))}; expected 0, 1, 2, ... without gaps")
    return check_classes([names[number] for number in range(len(names))], str(file))
