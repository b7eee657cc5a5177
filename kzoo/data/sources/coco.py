"""`"coco:DIR"` and `"coco:INSTANCES.json,IMAGE_DIR"`: objects with boxes and masks in the layout of COCO.

    DIR/instances_SPLIT.json         or DIR/annotations/instances_SPLIT.json
    DIR/SPLIT/FILE_NAME              or in DIR/images/SPLIT, DIR/images or DIR

or, as Roboflow exports it, where the split "val" may be called "valid",

    DIR/SPLIT/_annotations.coco.json
    DIR/SPLIT/FILE_NAME

Of a single file a tenth of the pictures each is drawn for "val" and "test", the rest is "train"; and there is
"all". The classes are the categories in the order of their ids. Masks are polygons or run lengths, compressed
or not. Boxes are read as they are written, [x, y, width, height] of the object's borders.

File names start from their folder, with either kind of slash, or are absolute and lie in it. More than a
tenth of all annotations without their picture is an error, as is a split without any object unless the task
is about pixels, and boxes of which most are shares of a picture.

A region with `iscrowd` 1 holds objects that nobody told apart: its class is `CROWD`, behind the objects of
its picture. A picture without annotations is one of ground alone. Where the size that is told is that of a
picture as it is stored, and not as EXIF turns it, boxes and masks are turned with it
(`kzoo.data.orientation`).

For the task "segmentation" the classes are those of pixels: "background", then the categories.
"""

import hashlib
import math
import os
from collections import defaultdict
from functools import cache, partial
from operator import itemgetter
from pathlib import Path, PurePath, PureWindowsPath
from typing import NamedTuple

import numpy as np

from kzoo.classes import CROWD
from kzoo.data.class_names import object_classes, pixel_classes
from kzoo.data.faults import DataError, Faults, kind_of, refuse, shortened
from kzoo.data.orientation import fits, orientation_of_annotation, turn_boxes, turn_mask, turn_size
from kzoo.data.pictures import MAX_PIXELS, check_picture, read_orientation, read_picture
from kzoo.data.sources.coco_file import (
    ROBOFLOW,
    Instances,
    as_number,
    find_directory,
    find_files,
    read_instances,
)
from kzoo.data.sources.labels import labels_of_masks
from kzoo.data.sources.segmentations import check_in_box, check_segmentation, to_rle
from kzoo.data.sources.source import (
    MASKED,
    Info,
    Split,
    check_name,
    check_split,
    clip_box,
    draw_splits,
)
from kzoo.data.threads import in_threads

_TRIED = 10  # pictures that a folder is looked through for


class _Picture(NamedTuple):
    path: Path
    size: tuple[int, int]  # (height, width) as seen
    orientation: int  # by which its annotations are to be turned

    @property
    def told_size(self) -> tuple[int, int]:
        """(height, width) of the picture that its annotations are of."""
        return turn_size(self.size, self.orientation)


class _Row(NamedTuple):
    """One annotation of a picture."""

    box: tuple[float, float, float, float]
    label: int
    crowd: bool
    area: float
    segmentation: object


def open_coco(
    spec: str, where: str, *, task: str | None, classes: tuple[str, ...] | None, max_pixels: int
) -> "Coco":
    """The source behind `"coco:..."`, where `where` is DIR or INSTANCES.json,IMAGE_DIR; else as `Coco`."""
    directory, file = find_directory(spec, where)
    return Coco(spec, directory, file, task=task, classes=classes, max_pixels=max_pixels)


class Coco:
    """The source behind `"coco:..."`. Annotations are parsed once, here, and checked split by split.

    Args:
        spec: the text that messages call it by.
        directory: which must be there: DIR, or that of the pictures if there is a file of instances.
        file: of instances, to draw splits of. None: DIR has one for each split.
        task: what is to be learnt: it tells whether masks are looked at.
        classes: names in the order of their numbers, with or without "background" in front where it is about
            pixels; by default the categories of the files.
        max_pixels: the most that a picture may have.
    """

    def __init__(
        self,
        spec: str,
        directory: Path,
        file: Path | None = None,
        *,
        task: str | None = None,
        classes: tuple[str, ...] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._max_pixels = max_pixels
        self._masked = task in MASKED
        self._pixels = task == "segmentation"
        self._files: dict[str, Instances] = {}  # by split
        self._pictures: dict[str, list[dict]] = {}  # by split
        self._folders: dict[str, list[Path]] = {}  # by split: where its pictures may be
        if file is None and (directory / ROBOFLOW).is_file():
            file = directory / ROBOFLOW  # one of its splits alone
        if file is not None:
            parsed = read_instances(file)
            if not parsed.pictures:
                raise DataError(f"{file}: `images` is empty; expected pictures to draw splits of")
            by_name = defaultdict(list)
            for picture in parsed.pictures:
                by_name[picture["file_name"]].append(picture)
            for name, drawn in draw_splits(by_name).items():
                self._files[name] = parsed
                self._pictures[name] = [picture for file_name in drawn for picture in by_name[file_name]]
                self._folders[name] = [directory]
        else:
            for name, (path, places) in find_files(spec, directory).items():
                self._files[name] = read_instances(path)
                self._pictures[name] = self._files[name].pictures
                self._folders[name] = places
        found = self._agreed_classes()
        if classes and self._pixels:
            classes = object_classes(classes)
        for name in found if classes else ():
            check_name(f"{spec} (the classes are from classes=)", "class", name, classes)
        self._objects = classes or found
        splits = {name: len(pictures) for name, pictures in self._pictures.items()}
        annotated = [one for file in self._files.values() for one in file.annotations.values()]
        with_masks = any(annotation.get("segmentation") for one in annotated for annotation in one)
        names = pixel_classes(self._objects) if self._pixels else self._objects
        self.info = Info(spec, names, splits, ("detection", *(MASKED if with_masks else ())))
        self.max_objects = max([1, *map(len, annotated)])

    def split(self, name: str, *, strict: bool = False, part: slice = slice(None)) -> Split:
        """The faultless pictures of one split, or of a part of its list."""
        check_split(self.info, name)
        file, listed = self._files[name], self._pictures[name][part]
        faults = Faults(f'{self.info.spec}, split "{name}"')
        self._check_strays(file, strict)
        self._check_objects(name)
        folder = self._find_folder(name)
        found = in_threads(partial(_check_picture, folder, self._max_pixels), listed)
        seen, seen_annotations, kept = set(), set(), []
        for picture, one in zip(listed, found, strict=True):
            place = f"{file.path}, image {picture['id']} ({picture['file_name']})"
            if picture["id"] in seen:
                told = f"{place}: the id is there before; expected each id once"
                faults.add(picture["file_name"], told, "duplicate")
                continue
            seen.add(picture["id"])
            if isinstance(one, DataError):
                faults.add(picture["file_name"], f"{place}: {one}", one.kind)
                continue
            rows = []
            for annotation in file.annotations.get(picture["id"], ()):
                try:
                    if annotation["id"] in seen_annotations:
                        raise ValueError("the id is there before; expected each id once")
                    seen_annotations.add(annotation["id"])
                    rows.append(self._read_annotation(annotation, file, one.told_size))
                except ValueError as error:
                    told = f"{file.path}, annotation {annotation['id']}: {error}"
                    faults.add(picture["file_name"], told, kind_of(error))
            rows.sort(key=lambda row: row.crowd)  # it is stable
            kept.append((one, rows))
        faults.close(len(listed), strict=strict)
        return self._split_of(name, kept)

    def _check_strays(self, file: Instances, strict: bool) -> None:
        """Tells of annotations without a picture: nobody knows how many pictures they are of."""
        strays = Faults(f"{self.info.spec}, all of {file.path}")
        known = {picture["id"] for picture in file.pictures}
        lost = [one for picture in file.annotations.keys() - known for one in file.annotations[picture]]
        for place, annotation in enumerate(sorted(lost, key=itemgetter("id"))):
            told = f"{file.path}, annotation {annotation['id']}: no picture has its image_id"
            told = f"{told} {shortened(annotation.get('image_id'))}; expected the id of one of `images`"
            strays.add(f"stray {place}", told, "no_picture")
        strays.close(sum(map(len, file.annotations.values())), strict=strict, noun="annotations")

    def _check_objects(self, name: str) -> None:
        """Refuses a split without any object for what is about objects."""
        annotations = self._files[name].annotations
        of_split = (one for picture in self._pictures[name] for one in annotations.get(picture["id"], ()))
        if not self._pixels and all(one.get("iscrowd") == 1 for one in of_split):
            told = f'{self.info.spec}: split="{name}" has no object in any of its pictures'
            told = f"{told}; expected some in `annotations` of {self._files[name].path}"
            refuse(name, DataError(told, "no_annotation"))

    def _split_of(self, name: str, kept: list[tuple[_Picture, list[_Row]]]) -> Split:
        """A split of pictures and what their annotations tell."""
        pictures, rows = zip(*kept, strict=True) if kept else ((), ())

        def boxes_of(picture: _Picture, one: list[_Row]) -> np.ndarray:
            boxes = np.array([row.box for row in one], np.float32).reshape(-1, 4)
            return turn_boxes(boxes, picture.told_size, picture.orientation)

        def read_masks(index: int) -> list[dict]:
            picture = pictures[index]
            masks = [to_rle(row.segmentation, picture.told_size) for row in rows[index]]
            return [turn_mask(mask, picture.orientation) for mask in masks]

        def labels(one: list[_Row]) -> list[int]:
            return [CROWD if row.crowd else row.label for row in one]

        def read_labels(index: int) -> np.ndarray:
            return labels_of_masks(read_masks(index), classes[index], pictures[index].size)

        @cache
        def label_state(index: int) -> str:
            return hashlib.sha256(repr(read_masks(index)).encode()).hexdigest()

        classes = tuple(np.array(labels(one), np.int32) for one in rows)
        return Split(
            name=name,
            boxes=tuple(map(boxes_of, pictures, rows)),
            classes=classes,
            crowd_classes=tuple(np.array([row.label for row in one if row.crowd], np.int32) for one in rows),
            names=tuple(str(picture.path) for picture in pictures),
            sizes=tuple(picture.size for picture in pictures),
            read=lambda index: read_picture(pictures[index].path, max_pixels=self._max_pixels),
            read_masks=read_masks if self._masked else None,
            read_labels=read_labels if self._pixels else None,
            label_state=label_state if self._pixels else None,
            areas=tuple(np.array([row.area for row in one], np.float32) for one in rows),
        )

    def _read_annotation(self, annotation: dict, file: Instances, size: tuple[int, int]) -> _Row:
        """What one annotation tells; a ValueError says what is wrong with it."""
        category, crowd = annotation.get("category_id"), annotation.get("iscrowd", 0)
        if type(category) is not int or category not in file.classes:
            expected = "expected the id of one of `categories`"
            raise DataError(f"category_id {shortened(category)}; {expected}", "unknown_class")
        if crowd not in (0, 1):
            raise ValueError(f"iscrowd {shortened(crowd)}; expected 0 or 1")
        box = _read_box(annotation.get("bbox"), size)
        label = self._objects.index(file.classes[category])
        area = as_number(annotation.get("area"))
        if not 0 <= area < math.inf:
            area = (box[2] - box[0]) * (box[3] - box[1])
        segmentation = None
        if self._masked:
            try:
                segmentation = check_segmentation(annotation.get("segmentation"), size)
                check_in_box(segmentation, box)
            except ValueError as error:
                raise DataError(str(error), "mask") from None
        return _Row(box, label, bool(crowd), area, segmentation)

    def _agreed_classes(self) -> tuple[str, ...]:
        """The classes, which all files must have."""
        first, *others = self._files.values()
        classes = tuple(first.classes.values())
        for other in others:
            if tuple(other.classes.values()) != classes:
                raise DataError(
                    f"{other.path} has the categories {', '.join(other.classes.values())}, but {first.path} "
                    f"has {', '.join(classes)}; expected the same, in the order of their ids"
                )
        return classes

    def _find_folder(self, name: str) -> Path:
        """Where the pictures of a split are: the first folder that has one of the first of them."""
        folders = [folder for folder in self._folders[name] if folder.is_dir()]
        for folder in folders:
            first = [picture["file_name"] for picture in self._pictures[name][:_TRIED]]
            if any(path and os.path.isfile(path) for path in map(partial(_path_within, folder), first)):
                return folder
        wanted = self._pictures[name][0]["file_name"]
        if PureWindowsPath(wanted).root:
            wanted = f"paths in `images` that start from their folder, or lead into it, not {wanted},"
        raise DataError(
            f'{self.info.spec}: the pictures of split="{name}" are not to be found; expected '
            f"{wanted} in {' or '.join(map(str, self._folders[name]))}",
            "missing",
        )


def _check_picture(folder: Path, max_pixels: int, picture: dict) -> _Picture | DataError:
    """A picture, or what is wrong with it."""
    name = picture["file_name"]
    path = _path_within(folder, name)
    if path is None:
        return DataError(f"file_name {name!r} leads out of {folder}; expected a path within it", "missing")
    told = picture.get("height") or None, picture.get("width") or None  # 0 is how some tools write nothing
    try:
        height, width = size = check_picture(path, max_pixels=max_pixels)
        if fits(told, size):
            return _Picture(path, size, 1)
        orientation = orientation_of_annotation(told, size, read_orientation(path))
    except DataError as error:
        return error
    if not fits(told, turn_size(size, orientation)):
        found = " x ".join(shortened(one or real) for one, real in ((told[1], width), (told[0], height)))
        expected = f"{width} x {height}, the size of {path}"
        return DataError(f"says that its picture is {found}; expected {expected}", "size")
    return _Picture(path, size, orientation)


def _read_box(found: object, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box [x, y, width, height] as xyxy within its picture; a ValueError says what is wrong with it."""
    if found is None:
        raise ValueError("no bbox; expected [x, y, width, height] in pixels")
    is_four = isinstance(found, list) and len(found) == 4
    x, y, width, height = map(as_number, found) if is_four else [math.nan] * 4
    if 0 <= x < x + width <= size[1] and 0 <= y < y + height <= size[0]:
        return x, y, x + width, y + height
    told = f"bbox {shortened(found)}"
    if not all(map(math.isfinite, (x, y, width, height, x + width, y + height))):
        expected = "expected [x, y, width, height] in pixels"
        raise DataError(f"{told} is not of four finite numbers; {expected}", "not_numbers")
    if width < 0 or height < 0:
        raise DataError(f"{told} is reversed; expected a width and a height above 0", "reversed")
    if width == 0 or height == 0:
        raise DataError(f"{told} has no area; expected a width and a height above 0", "no_area")
    return clip_box(told, (x, y, x + width, y + height), size)


def _path_within(folder: Path, name: str) -> Path | None:
    """The path that a file calls by this name, None if it leads out of the folder."""
    path = PurePath(name.replace("\\", "/"))  # as Windows sets folders apart
    if ".." in path.parts:
        return None
    if not path.is_absolute():
        return folder / path
    whole = os.path.abspath(folder)
    return folder / path.relative_to(whole) if path.is_relative_to(whole) else None
