"""`"yolo:DIR"`: pictures with text files of normalised boxes or polygons, as Ultralytics has them.

    DIR/data.yaml                    or dataset.yaml: names, and train, val and test, folders or lists
    DIR/images/SPLIT/NAME.jpg        and DIR/labels/SPLIT/NAME.txt
    DIR/SPLIT/images/NAME.jpg        and DIR/SPLIT/labels/NAME.txt
    DIR/images/NAME.jpg              and DIR/labels/NAME.txt: splits are drawn, as of voc:DIR
    DIR/NAME.jpg                     and DIR/NAME.txt, or both in a folder for each split

What data.yaml says of splits goes before the folders; `"yolo:FILE.yaml"` is the same as the folder that it
lies in, whatever it is called. Pictures may lie in folders within these, text files then in the same; hidden
files are left out. A picture without a text file is one without objects. Beside folders that are called
train, val or test, or begin so, pictures are in no split, which is a fault.

The classes are the names of data.yaml, classes.txt, labels.txt or obj.names. Without any of them they are
called "0", "1", ... up to the highest number that a row has. A row is `class cx cy w h` or a polygon
(`kzoo.data.sources.yolo_labels`), whose box goes around its points. Of rows with key points, which
`kpt_shape` in data.yaml tells, the box is read. All is in shares of the picture as it is seen.

Where more than half of all rows are polygons there are masks; then a row that is only a box is a fault for
the tasks that are about them. For the task "segmentation" the classes are those of pixels: "background", then
those of the objects.
"""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kzoo.data.class_names import object_classes, pixel_classes
from kzoo.data.faults import DataError, Faults, kind_of, note
from kzoo.data.paths import check_folder, read_path
from kzoo.data.pictures import MAX_PIXELS, read_picture
from kzoo.data.sources.folder import Names
from kzoo.data.sources.labels import labels_of_masks
from kzoo.data.sources.segmentations import check_segmentation, to_rle
from kzoo.data.sources.sizes import picture_sizes
from kzoo.data.sources.source import MASKED, Info, Split, check_name, check_split, clip_box
from kzoo.data.sources.yolo_labels import NO_LABELS, Labels, read_labels
from kzoo.data.sources.yolo_layout import Entry, find_layout
from kzoo.data.threads import in_threads


class _Picture(NamedTuple):
    """A faultless picture, and the faultless rows of its text file."""

    path: str
    size: tuple[int, int]
    boxes: np.ndarray  # float32 [n, 4]
    classes: np.ndarray  # int32 [n]
    polygons: list[list[np.ndarray]]  # of each box, where masks are looked at


def open_yolo(
    spec: str, where: str, *, task: str | None, classes: tuple[str, ...] | None, max_pixels: int
) -> "Yolo":
    """The source behind `"yolo:..."`, where `where` is a directory or its data.yaml; otherwise as `Yolo`."""
    if not where:
        raise DataError(f"{spec!r} lacks the directory; expected 'yolo:DIR'")
    path, description = read_path(spec, where), None
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        path, description = path.parent, path
    check_folder(spec, path, "a directory in the layout of YOLO, or its data.yaml")
    return Yolo(spec, path, task=task, classes=classes, description=description, max_pixels=max_pixels)


class Yolo:
    """The source behind `"yolo:DIR"`. Text files are parsed once, here; pictures are checked split by split.

    Args:
        spec: the text that messages call it by.
        directory: which must be there.
        task: what is to be learnt: it tells whether masks are looked at.
        classes: names in the order of their numbers, with or without "background" in front where it is about
            pixels; by default those of the files.
        description: the file of that, if it is told; by default data.yaml or the like, if there is one.
        max_pixels: the most that a picture may have.
    """

    def __init__(
        self,
        spec: str,
        directory: Path,
        *,
        task: str | None = None,
        classes: tuple[str, ...] | None = None,
        description: Path | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._masked, self._pixels, self._max_pixels = task in MASKED, task == "segmentation", max_pixels
        layout = find_layout(spec, directory, description)
        self._splits, self._absent = layout.splits, layout.absent
        self._strays, self._outside = layout.strays, layout.outside
        texts = [entry.text for entries in self._splits.values() for entry in entries if entry.text]
        texts = list(dict.fromkeys(texts))
        read = partial(read_labels, keypoints=layout.keypoints, polygons=self._masked)
        found = in_threads(read, texts)
        self._labels: dict[str, Labels] = dict(zip(texts, found, strict=True))
        if not texts:
            raise DataError(
                f"{spec}: there is no text file for any picture; expected NAME.txt, a row an object"
            )
        if classes and self._pixels:
            classes = object_classes(classes)
        self._objects, self._named = self._choose_classes(spec, layout.named, classes)
        with_masks = 2 * sum(one.num_polygons for one in found) > sum(len(one.lines) for one in found)
        names = pixel_classes(self._objects) if self._pixels else self._objects
        splits = {name: len(entries) for name, entries in self._splits.items()}
        self.info = Info(spec, names, splits, ("detection", *(MASKED if with_masks else ())))
        self.max_objects = max([1, *(len(one.lines) for one in found)])

    def split(self, name: str, *, strict: bool = False, part: slice = slice(None)) -> Split:
        """The faultless pictures of one split, or of a part of its list."""
        if name in self._absent:
            raise DataError(f"{self.info.spec}: {self._absent[name]}")
        check_split(self.info, name)
        if not any(entry.text for entry in self._splits[name]):
            told = f'{self.info.spec}: split="{name}" has no text file for any of its pictures'
            raise DataError(f"{told}; expected one for each that has objects")
        self._check_strays(name, strict)
        faults = Faults(f'{self.info.spec}, split "{name}"')
        listed = []
        for entry, times in Counter(self._splits[name][part]).items():
            if times > 1:
                told = f"{entry.picture} is listed {times} times in the split; expected once"
                faults.add(entry.picture, told, "duplicate")
            if entry.fault:
                faults.add(entry.picture, str(entry.fault), entry.fault.kind)
            else:
                listed.append(entry)
        sizes = picture_sizes([entry.picture for entry in listed], max_pixels=self._max_pixels)
        kept = [self._read(entry, size, faults) for entry, size in zip(listed, sizes, strict=True)]
        faults.close(len(self._splits[name][part]), strict=strict)
        return self._split_of(name, [picture for picture in kept if picture])

    def _check_strays(self, name: str, strict: bool) -> None:
        """Tells of text files without a picture, pictures in no split and, in a check, splits not there."""
        for told in self._absent.values():
            note("", told, "split")
        pictures = {entry.picture for entries in self._splits.values() for entry in entries}
        for where, strays, count in (
            (f'split "{name}"', self._strays[name], len(self._splits[name])),
            ("beside its splits", self._outside, len(pictures)),
        ):
            faults = Faults(f"{self.info.spec}, {where}")
            for path, fault in strays:
                faults.add(path, str(fault), fault.kind)
            faults.close(count, strict=strict)

    def _split_of(self, name: str, pictures: list[_Picture]) -> Split:
        def read_masks(index: int) -> list[dict]:
            return [to_rle(polygons, pictures[index].size) for polygons in pictures[index].polygons]

        def read_pixels(index: int) -> np.ndarray:
            return labels_of_masks(read_masks(index), pictures[index].classes, pictures[index].size)

        return Split(
            name=name,
            boxes=tuple(picture.boxes for picture in pictures),
            classes=tuple(picture.classes for picture in pictures),
            names=tuple(picture.path for picture in pictures),
            sizes=tuple(picture.size for picture in pictures),
            read=lambda index: read_picture(pictures[index].path, max_pixels=self._max_pixels),
            read_masks=read_masks if self._masked else None,
            read_labels=read_pixels if self._pixels else None,
        )

    def _read(self, entry: Entry, size: tuple[int, int] | DataError, faults: Faults) -> _Picture | None:
        """A picture and what its text file says of it, None if either is faulty as a whole."""
        labels = self._labels[entry.text] if entry.text else NO_LABELS
        for error in (size, labels.broken):
            if isinstance(error, DataError):
                faults.add(entry.picture, str(error), error.kind)
                return None
        for error in labels.faults:
            faults.add(entry.picture, str(error), error.kind)
        boxes, classes, polygons = [], [], []
        height, width = size
        scaled = (labels.boxes * [width, height, width, height]).tolist()
        for row, (box, number) in enumerate(zip(scaled, labels.classes.tolist(), strict=True)):
            try:
                if number >= len(self._named):
                    expected = f"expected 0 to {len(self._named) - 1}, the classes that there are"
                    raise DataError(f"class {number}; {expected}", "unknown_class")
                clipped = clip_box("the box", box, size)
                if self._masked:
                    polygons.append(_scaled(labels.polygons[row], size))
            except ValueError as error:
                sides = ", ".join(f"{side:.1f}" for side in box)
                told = f"{entry.text}, line {labels.lines[row]}, ({sides}): {error}"
                faults.add(entry.picture, told, kind_of(error))
                continue
            boxes.append(clipped)
            classes.append(self._named[number])
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        return _Picture(entry.picture, size, boxes, np.array(classes, np.int32), polygons)

    def _choose_classes(
        self, spec: str, named: Names | None, given: tuple[str, ...] | None
    ) -> tuple[tuple[str, ...], list[int]]:
        """The classes, and which of them each number of the files is."""
        if named is None:
            highest = max((int(one.classes.max(initial=-1)) for one in self._labels.values()), default=-1)
            if given is None and highest < 0:
                faults = [
                    str(error)
                    for one in self._labels.values()
                    for error in (one.broken, *one.faults)
                    if error
                ]
                raise DataError("; ".join([f"{spec}: no text file has an object with a class", *faults[:1]]))
            names = given or tuple(map(str, range(highest + 1)))
            return names, list(range(len(names)))
        for name in named.names if given else ():
            check_name(f"{spec} (the classes are from classes=)", "class", name, given)
        names = given or named.names
        return names, [names.index(name) for name in named.names]


def _scaled(polygon: np.ndarray | None, size: tuple[int, int]) -> list[np.ndarray]:
    """A polygon in pixels; a DataError says what is wrong with it."""
    if polygon is None:
        raise DataError(
            "a box; expected class x1 y1 x2 y2 x3 y3 ..., a polygon, for what is about pixels", "mask"
        )
    try:
        return check_segmentation([(polygon.reshape(-1, 2) * size[::-1]).reshape(-1).tolist()], size)
    except ValueError as error:
        raise DataError(str(error), "mask") from None
