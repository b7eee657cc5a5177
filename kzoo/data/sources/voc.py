"""`"voc:DIR"`: pictures with boxes in the layout of Pascal VOC.

    DIR/Annotations/NAME.xml         one a picture
    DIR/JPEGImages/NAME.jpg          or another format
    DIR/ImageSets/Main/SPLIT.txt     a NAME a line; without such files a tenth of the names each is drawn for
                                     "val" and "test", the rest is "train"; and there is "all"
    DIR/classes.txt or labels.txt    a class a line; without it those found are taken, most frequent first

Annotations and pictures may also lie in DIR itself, as labelImg leaves them, or in a folder for each split,
as Roboflow exports them, where "val" may be called "valid". Where DIR has neither, but one folder that does,
as VOCdevkit has VOC2012, that is taken. The lists of single classes that Pascal VOC has beside its splits
(`aeroplane_train.txt`, a name and 1, 0 or -1 a line) are no splits. Objects marked `difficult` are objects
like all others. The class of each pixel is another source's (`kzoo.data.sources.voc_segmentation`).

Boxes are written in VOC as the first and the last pixel of an object, counted from 1. They are read as
(xmin - 1, ymin - 1, xmax, ymax), the object's borders. Tools that count from 0 write such boxes too, so that
one may lie a pixel outside its picture; like torchvision and detectron2 this clips them, but only by as much
as rounding explains (`ROUNDING`). A box farther outside was drawn on something else than this picture, and is
a fault. So is one with xmin = xmax or ymin = ymax: read by the letter it would be one pixel wide, but it is
what a click without a drag leaves behind. Where <size> tells the size of a picture as it is stored, and not
as EXIF turns it, boxes are turned with it (`kzoo.data.orientation`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kzoo.data.class_names import found_classes, written_classes
from kzoo.data.faults import DataError, Faults, kind_of, refuse
from kzoo.data.orientation import orientation_of_annotation, turn_boxes, turn_size
from kzoo.data.paths import check_folder, read_path
from kzoo.data.pictures import MAX_PIXELS, check_picture, read_orientation, read_picture
from kzoo.data.sources.folder import folders
from kzoo.data.sources.source import Info, Source, Split, check_name, check_split, draw_splits
from kzoo.data.sources.voc_annotations import Annotation, read_annotation, read_box
from kzoo.data.sources.voc_layout import (
    each_once,
    find_annotations,
    find_split_folders,
    find_voc,
    first_folder,
    has_labels,
    index_pictures,
    match_picture,
    read_splits,
)
from kzoo.data.sources.voc_segmentation import VocSegmentation
from kzoo.data.threads import in_threads


class _Picture(NamedTuple):
    path: Path
    size: tuple[int, int]  # (height, width) as seen
    orientation: int  # by which its annotation is to be turned


def open_voc(
    spec: str, where: str, *, task: str | None, classes: tuple[str, ...] | None, max_pixels: int
) -> Source:
    """The source behind `"voc:..."`: of boxes, or of the class of each pixel.

    Args:
        spec: the text that messages call it by.
        where: the directory.
        task: what is to be learnt, as far as that is known.
        classes: names in the order of their numbers; by default those of the directory.
        max_pixels: the most that a picture may have.

    Raises:
        DataError: there is no such directory, or not the one kind of files or the other in it.
    """
    if not where:
        raise DataError(f"{spec!r} lacks the directory; expected 'voc:DIR'")
    path = read_path(spec, where)
    check_folder(spec, path, "a directory in the layout of Pascal VOC")
    directory = find_voc(spec, path)
    pixels_only = task is None and has_labels(directory) and not find_annotations(directory)
    if task == "segmentation" or pixels_only:
        return VocSegmentation(spec, directory, classes=classes, max_pixels=max_pixels)
    return Voc(spec, directory, classes=classes, max_pixels=max_pixels)


class Voc:
    """The source behind `"voc:DIR"`. Annotations are parsed once, here; pictures are checked split by split.

    Args:
        spec: the text that messages call it by.
        directory: which must be there.
        classes: names in the order of their numbers; by default those of the directory.
        max_pixels: the most that a picture may have.
    """

    def __init__(
        self,
        spec: str,
        directory: Path,
        *,
        classes: tuple[str, ...] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._max_pixels = max_pixels
        folder, paths = first_folder(directory / "Annotations", directory), find_annotations(directory)
        self._annotation_folder = folder
        picture_folder = first_folder(directory / "JPEGImages", directory)
        if paths:
            self._annotations = {one.path.stem: one for one in in_threads(read_annotation, paths)}
            self._ids = read_splits(directory / "ImageSets" / "Main") or draw_splits(self._annotations)
            self._picture_folders = dict.fromkeys(self._ids, picture_folder)
        else:
            self._picture_folders = find_split_folders(directory)
            if not self._picture_folders:
                there = [f", but in {path}" for path in folders(directory) if any(path.glob("*.xml"))][:1]
                told = f"{spec}: there is no annotation in {folder}{''.join(there)}"
                raise DataError(f"{told}; expected files NAME.xml in Annotations, or beside their pictures")
            self._annotations, self._ids = {}, {}
            for name, folder in self._picture_folders.items():
                parsed = in_threads(read_annotation, find_annotations(folder))
                of_split = {f"{folder.name}/{one.path.stem}": one for one in parsed}
                self._annotations |= of_split
                self._ids[name] = list(of_split)
        classes, self._classes_from = _choose_classes(spec, directory, classes, self._annotations.values())
        tasks = ("detection", "segmentation") if has_labels(directory) else ("detection",)
        self.info = Info(spec, classes, {name: len(ids) for name, ids in self._ids.items()}, tasks)
        listed = {picture for ids in self._ids.values() for picture in ids} & self._annotations.keys()
        self.max_objects = max([1, *(len(self._annotations[picture].objects) for picture in listed)])

    def split(self, name: str, *, strict: bool = False, part: slice = slice(None)) -> Split:
        """The faultless pictures of one split, or of a part of its list."""
        check_split(self.info, name)
        faults = Faults(f'{self.info.spec}, split "{name}"')
        ids = each_once(name, self._ids[name], part, faults)
        folder = self._picture_folders[name]
        index = index_pictures(folder)
        found = in_threads(lambda picture: self._find_picture(picture, folder, index), ids)
        paths, sizes, boxes, classes = [], [], [], []
        for picture, one in zip(ids, found, strict=True):
            if picture in self._annotations:
                self._check_names(picture)
            if isinstance(one, DataError):
                faults.add(picture, str(one), one.kind)
                continue
            picture_boxes, picture_classes = self._read_objects(picture, one, faults)
            paths.append(one.path)
            sizes.append(one.size)
            boxes.append(picture_boxes)
            classes.append(picture_classes)
        faults.close(len(ids), strict=strict)
        return Split(
            name=name,
            boxes=tuple(boxes),
            classes=tuple(classes),
            names=tuple(str(path) for path in paths),
            sizes=tuple(sizes),
            read=lambda index: read_picture(paths[index], max_pixels=self._max_pixels),
        )

    def _find_picture(self, picture: str, folder: Path, index: dict[str, list[Path]]) -> _Picture | DataError:
        """The picture, or what is wrong with it or its annotation as a whole."""
        annotation = self._annotations.get(picture)
        if annotation is None:
            path = self._annotation_folder / f"{picture}.xml"
            expected = f"the annotation of {picture}, which the split lists"
            return DataError(f"{path}: there is no such file; expected {expected}", "no_annotation")
        if annotation.fault:
            return DataError(f"{annotation.path}: {annotation.fault}; expected a Pascal VOC annotation")
        path = match_picture(annotation.path.stem, annotation.filename, index)
        if path is None:
            expected = annotation.filename or f"{picture}.jpg"
            expected = folder / expected
            return DataError(f"{annotation.path}: its picture is missing; expected {expected}", "missing")
        try:
            size, orientation = check_picture(path, max_pixels=self._max_pixels), 1
            if annotation.size not in (None, size):
                orientation = orientation_of_annotation(annotation.size, size, read_orientation(path))
        except DataError as error:
            return error
        if annotation.size not in (None, turn_size(size, orientation)):
            (height, width), (real_height, real_width) = annotation.size, size
            told = f"{annotation.path}: says that its picture is {width} x {height}"
            expected = f"{real_width} x {real_height}, the size of {path}"
            return DataError(f"{told}; expected {expected}", "size")
        return _Picture(path, size, orientation)

    def _check_names(self, picture: str) -> None:
        annotation = self._annotations[picture]
        for number, (name, _) in enumerate(annotation.objects, 1):
            if name and name not in self.info.classes:
                place = f"{annotation.path}, object {number} (the classes are from {self._classes_from})"
                try:
                    check_name(place, "class", name, self.info.classes, "unknown_class")
                except DataError as error:
                    refuse(picture, error)

    def _read_objects(self, picture: str, found: _Picture, faults: Faults) -> tuple[np.ndarray, np.ndarray]:
        """Boxes float32 [n, 4] and classes int32 [n] of the faultless objects."""
        size = turn_size(found.size, found.orientation)  # that the annotation tells
        annotation = self._annotations[picture]
        boxes, classes = [], []
        for number, (name, sides) in enumerate(annotation.objects, 1):
            if name and name not in self.info.classes:
                continue  # _check_names told of it
            try:
                if not name:
                    raise ValueError("an object without a name; expected its class in <name>")
                boxes.append(read_box(sides, size))
                classes.append(self.info.classes.index(name))
            except ValueError as error:
                told = f"{annotation.path}, object {number} ({name or 'nameless'}): {error}"
                faults.add(picture, told, kind_of(error))
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        return turn_boxes(boxes, size, found.orientation), np.array(classes, np.int32)


def _choose_classes(
    spec: str, directory: Path, given: tuple[str, ...] | None, annotations: Iterable[Annotation]
) -> tuple[tuple[str, ...], str]:
    """The class names, and where they are from."""
    if given is not None:
        return given, "classes="
    written = written_classes(directory)
    if written:
        names, path = written
        return names, str(path)
    found = found_classes(name for one in annotations for name, _ in one.objects if name)
    if not found:
        faults = [f"{one.path}: {one.fault}" for one in annotations if one.fault][:1]
        raise DataError("; ".join([f"{spec}: no annotation has an object with a class", *faults]))
    return found, "the annotations"
