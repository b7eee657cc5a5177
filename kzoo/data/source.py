"""Where pictures come from: `"shapes"`, or `"SCHEME:WHERE"`, as `"voc:DIR"` or `"csv:FILE"`. No TensorFlow.

A source knows its classes and its splits. A split holds the annotations of its faultless pictures in memory
and reads the pictures themselves on demand.
"""

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from kzoo.checks import check_choice, check_integer
from kzoo.data.class_names import check_classes
from kzoo.data.faults import DataError
from kzoo.data.paths import is_there, read_path
from kzoo.data.pictures import MAX_PIXELS
from kzoo.tasks import TASKS

MASKED = ("segmentation", "instance_segmentation")  # the tasks that are about the pixels of each object
ONE_OBJECT = ("classification", "box_regression")  # those that are about the one object of a picture
MOST_PIXEL_CLASSES = 255  # a byte holds the class of a pixel, and that it is ignored
ROUNDING = 1.0  # pixels that a box may lie outside its picture


@dataclass(frozen=True)
class Info:
    """What a source has.

    Attributes:
        spec: the text that it was opened by.
        classes: names; the position of a name is its class.
        splits: number of pictures of each split, before faulty ones are left out.
        tasks: what can be learnt from it.
    """

    spec: str
    classes: tuple[str, ...]
    splits: dict[str, int]
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """The faultless pictures of one split: annotations in memory, pictures read on demand.

    Attributes:
        name: of the split.
        boxes: for each picture float32 [n, 4], xyxy in the picture's own pixels; None where there are none.
        classes: for each picture int32 [n]; crowd regions (`CROWD`) come behind the objects. One row where
            pictures have a class as a whole, none where only `read_labels` tells classes.
        names: what messages call each picture: a file's path, or `shapes:train[17]`.
        sizes: (height, width) of each picture, known without decoding.
        read: index -> uint8 [H, W, 3] RGB. Several threads may call it; raises DataError naming the file.
        read_masks: index -> the run lengths (`kzoo.data.masks`) of each of the n rows, where the source has
            instance masks and the task is about them.
        read_labels: index -> int16 [H, W], the class of each of the picture's own pixels, -1 where it is
            ignored, where the source has them and the task is "segmentation". Several threads may call it;
            raises DataError naming the file.
        crowd_classes: for each picture int32 [k], the classes of its crowd regions, where they are known.
        areas: for each picture float32 [n], the areas in own pixels that the annotations tell, if they do.
        read_bytes: index -> the bytes of a picture's file, where it lies within another one, as in TFDS sets;
            None where there are only pixels.
        label_state: index -> what tells, beside boxes and classes, that what `read_labels` reads is as it
            was, where that takes less than to read it.
    """

    name: str
    boxes: tuple[np.ndarray, ...] | None
    classes: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    read: Callable[[int], np.ndarray]
    read_masks: Callable[[int], list[dict]] | None = None
    read_labels: Callable[[int], np.ndarray] | None = None
    areas: tuple[np.ndarray, ...] | None = None
    crowd_classes: tuple[np.ndarray, ...] | None = None
    read_bytes: Callable[[int], bytes | None] | None = None
    label_state: Callable[[int], str] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def only(self, places: Sequence[int]) -> "Split":
        """The pictures at some places alone, in their order."""

        def at(rows: tuple | None) -> tuple | None:
            return rows and tuple(rows[place] for place in places)

        def moved(read: Callable | None) -> Callable | None:
            return read and (lambda index: read(places[index]))

        rows = ("boxes", "classes", "names", "sizes", "areas", "crowd_classes")
        reads = ("read", "read_masks", "read_labels", "read_bytes", "label_state")
        changes = {name: at(getattr(self, name)) for name in rows}
        return replace(self, **changes, **{name: moved(getattr(self, name)) for name in reads})


class Source(Protocol):
    """Pictures with annotations, in splits.

    Attributes:
        info: what it has.
        max_objects: most objects and crowd regions in any picture of any split, at least 1; of TFDS sets, of
            those that were opened.

    One whose pictures follow from the seed has an attribute `is_drawn`.
    """

    info: Info
    max_objects: int

    def split(self, name: str, *, strict: bool = False, part: slice = slice(None)) -> Split:
        """The faultless pictures of one split; with `strict` any fault is a DataError.

        `part` cuts the split's list before anything in it is looked at.
        """
        ...


def open_source(
    spec: str,
    *,
    task: str | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Source:
    """Opens the data that a spec such as `"shapes"`, `"voc:DIR"`, `"csv:FILE"` or `"yolo:DIR"` names.

    Args:
        spec: the scheme and, after a colon, where the data is.
        task: what is to be learnt from it; one of `kzoo.tasks.TASKS`. None: to see what there is, whatever it
            can teach.
        classes: names in the order of their numbers; by default the source's own.
        seed: for data that is drawn; files do not depend on it.
        max_pixels: the most that a picture may have; a file of more is a fault, seen before it is decoded.

    Raises:
        DataError: an unknown scheme, a task that the source cannot teach, or no data where it should be.
    """
    check_integer("max_pixels", max_pixels, least=1)
    if not isinstance(spec, str):
        raise DataError(f"the data must be named by text such as 'shapes' or 'voc:DIR', got {spec!r}")
    scheme, _, where = spec.partition(":")
    if scheme not in _SCHEMES:
        _refuse_bare(spec)
    check_name(f"data {spec!r}", "kind of data", scheme, _SCHEMES)
    if task is not None:
        check_name(spec, "task", task, TASKS)
    if classes is not None:
        classes = check_classes(classes, "classes")
    source = _SCHEMES[scheme](spec, where, task, classes, seed, max_pixels)
    if task is not None and task not in source.info.tasks:
        teaches = ", ".join(source.info.tasks)
        masks = ", for no masks are read from it" if task in MASKED else ""
        raise DataError(f"{spec}: task={task!r} cannot be learnt from it{masks}; what can: {teaches}")
    if task == "segmentation" and len(source.info.classes) > MOST_PIXEL_CLASSES:
        count = len(source.info.classes)
        raise DataError(f"{spec}: {count} classes of pixels; expected no more than {MOST_PIXEL_CLASSES}")
    return source


def _refuse_bare(spec: str) -> None:
    """Refuses a path without its kind: it says what to write."""
    if spec and os.path.isdir(os.path.expanduser(spec)):
        kinds = ", ".join(f"'{kind}:{spec}'" for kind in ("folder", "voc", "coco", "yolo"))
        raise DataError(f"data {spec!r} is a directory; of which kind? Write {kinds} or 'tfds:{spec}'")
    suffix = os.path.splitext(spec.partition(",")[0])[1].lower()
    pictures = "" if "," in spec else ",DIR"
    offers = {
        ".csv": f"'csv:{spec}'",
        ".tsv": f"'csv:{spec}'",
        ".json": f"'coco:{spec}{pictures}'" + (", where DIR has the pictures" if pictures else ""),
        ".yaml": f"'yolo:{spec}'",
        ".yml": f"'yolo:{spec}'",
    }
    if suffix in offers:
        raise DataError(f"data {spec!r} is a file; of which kind? Write {offers[suffix]}")


def open_split(source: Source, text: str, *, strict: bool = False) -> Split:
    """The faultless pictures of a split, or of a slice of one.

    A slice is written as for tensorflow-datasets: `"train[10:]"`, `"all[:24]"`, `"train[:80%]"`, with ends as
    in Python, negative ones too, and percentages rounded to whole pictures. It counts pictures in the order
    of the split's list before faulty ones are left out: a mended picture moves no other from slice to slice.
    Sets of tensorflow-datasets themselves take all of that language, such as `"train[:10]+test[:5]"`: their
    source has an attribute `reads_slices`.

    Args:
        source: that has the split.
        text: the split's name and, in brackets, what of it.
        strict: whether a single fault is a DataError.

    Raises:
        DataError: no such split, no slice of it, or an empty one.

    Example:
        held_out = open_split(open_source("shapes"), "train[80%:]")
    """
    if not isinstance(text, str):
        raise DataError(f"{source.info.spec}: split must be a name such as 'train', got {text!r}")
    if text in source.info.splits or "[" not in text or getattr(source, "reads_slices", False):
        return source.split(text, strict=strict)
    name, _, ends = text.partition("[")
    check_split(source.info, name)
    count = source.info.splits[name]
    told = f'{source.info.spec}: split="{text}"'
    end = r"\s*(-?\d+%?)?\s*"
    match = re.fullmatch(f"{end}:{end}]", ends, re.ASCII)
    if not match:
        raise DataError(f"{told} is no slice; expected one such as {name}[:24], {name}[-10:] or {name}[:80%]")
    start, stop = (_place(told, end, count) for end in match.groups())
    part = slice(*slice(start, stop).indices(count)[:2])
    if part.start >= part.stop:
        raise DataError(f"{told} is empty; {name} has {count} pictures")
    return replace(source.split(name, strict=strict, part=part), name=text)


def _place(told: str, end: str | None, count: int) -> int | None:
    """An end of a slice as a number of pictures; a share is one of the `count` that there are."""
    if end is None or not end.endswith("%"):
        return end and int(end[:18])  # more digits are beyond all data
    share = int(end[:-1][:18])
    if not -100 <= share <= 100:
        raise DataError(f"{told} has the end {end}; expected -100% to 100%")
    if end.startswith("-"):
        share += 100  # so that [-20%:] begins where [:80%] ends
    return (share * count + 50) // 100


def check_name(
    where: str, argument: str, value: object, known: Iterable[str], kind: str = "annotation"
) -> None:
    """Raises a DataError of this kind, with the nearest names, unless `value` is one of the known ones."""
    try:
        check_choice(argument, value, known)
    except ValueError as error:
        raise DataError(f"{where}: {error}", kind) from None


def check_split(info: Info, name: str) -> None:
    """Refuses a split that the source does not have, or that is empty."""
    check_name(info.spec, "split", name, info.splits)
    if info.splits[name] == 0:
        there = ", ".join(f"{split} ({count} pictures)" for split, count in info.splits.items())
        raise DataError(f'{info.spec}: split="{name}" is empty; the splits are: {there}')


def draw_splits(names: Iterable[str]) -> dict[str, list[str]]:
    """Splits where nobody made any, drawn from the names alone: the same on every machine.

    A tenth is for each of test and val, rounded up, but of one or two pictures the last one is to train on.
    """
    drawn = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    tenth = math.ceil(len(drawn) / 10)
    first, second = (min(end, max(0, len(drawn) - 1)) for end in (tenth, 2 * tenth))
    parts = drawn[:first], drawn[first:second], drawn[second:]
    test, val, train = map(sorted, parts)
    splits = {"train": train, "val": val, "test": test, "all": sorted(drawn)}
    return {split: part for split, part in splits.items() if part}


def clip_box(
    told: str, box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A box within its picture: clipped, but only by as much as rounding explains (`ROUNDING`).

    Args:
        told: what an error calls the box.
        box: xyxy with x1 < x2 and y1 < y2.
        size: height and width of the picture.

    Raises:
        DataError: it lies farther outside.
    """
    height, width = size
    x1, y1, x2, y2 = box
    left, top, right, bottom = max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
    farthest = max(-x1, -y1, x2 - width, y2 - height)
    if farthest > ROUNDING or left >= right or top >= bottom:
        expected = f"expected it within {width} x {height} pixels"
        raise DataError(f"{told} lies outside its picture; {expected}", "outside")
    return left, top, right, bottom


def _open_shapes(
    spec: str, where: str, task: str | None, classes: tuple[str, ...] | None, seed: int, max_pixels: int
) -> Source:
    from kzoo.data.shapes import Shapes

    if spec != "shapes" and not re.fullmatch(r"\d{1,9}", where, re.ASCII):
        expected = "'shapes', or 'shapes:N' with N from 1"
        raise DataError(f"{spec!r} has no number of objects behind the colon; expected {expected}")
    return Shapes(spec, most=int(where) if where else None, task=task, classes=classes, seed=seed)


def _open_voc(
    spec: str, where: str, task: str | None, classes: tuple[str, ...] | None, seed: int, max_pixels: int
) -> Source:
    from kzoo.data.voc import Voc, find_annotations, find_voc, has_labels
    from kzoo.data.voc_segmentation import VocSegmentation

    if not where:
        raise DataError(f"{spec!r} lacks the directory; expected 'voc:DIR'")
    directory = find_voc(spec, _folder(spec, where, "a directory in the layout of Pascal VOC"))
    pixels_only = task is None and has_labels(directory) and not find_annotations(directory)
    if task == "segmentation" or pixels_only:
        return VocSegmentation(spec, directory, classes=classes, max_pixels=max_pixels)
    return Voc(spec, directory, classes=classes, max_pixels=max_pixels)


def _open_csv(
    spec: str, where: str, task: str | None, classes: tuple[str, ...] | None, seed: int, max_pixels: int
) -> Source:
    from kzoo.data.csv_boxes import open_csv

    return open_csv(spec, where, task, classes, max_pixels)


def _open_yolo(
    spec: str, where: str, task: str | None, classes: tuple[str, ...] | None, seed: int, max_pixels: int
) -> Source:
    from kzoo.data.yolo import Yolo

    if not where:
        raise DataError(f"{spec!r} lacks the directory; expected 'yolo:DIR'")
    file = read_path(spec, where)
    if file.suffix.lower() in (".yaml", ".yml") and file.is_file():
        return Yolo(spec, file.parent, task=task, classes=classes, description=file, max_pixels=max_pixels)
    directory = _folder(spec, where, "a directory in the layout of YOLO, or its data.yaml")
    return Yolo(spec, directory, task=task, classes=classes, max_pixels=max_pixels)


def _open_folder(
    spec: str, where: str, task: str | None, classes: tuple[str, ...] | None, seed: int, max_pixels: int
) -> Source:
    from kzoo.data.folder import open_folder

    return open_folder(spec, where, task, classes, max_pixels)


def _open_coco(
    spec: str, where: str, task: str | None, classes: tuple[str, ...] | None, seed: int, max_pixels: int
) -> Source:
    from kzoo.data.coco import Coco

    if not where:
        expected = "'coco:DIR' or 'coco:INSTANCES.json,IMAGE_DIR'"
        raise DataError(f"{spec!r} lacks the directory; expected {expected}")
    file, comma, pictures = where.partition(",")
    if comma and not (file and pictures):
        missing = "directory behind" if file else "file before"
        raise DataError(f"{spec!r} lacks the {missing} the comma; expected 'coco:INSTANCES.json,IMAGE_DIR'")
    if not comma or is_there(where):
        directory = _folder(spec, where, "a directory with instances_SPLIT.json, or INSTANCES.json,IMAGE_DIR")
        return Coco(spec, directory, task=task, classes=classes, max_pixels=max_pixels)
    directory = _folder(spec, pictures, "the directory of the pictures behind the comma")
    file = read_path(spec, file)
    return Coco(spec, directory, file, task=task, classes=classes, max_pixels=max_pixels)


def _open_tfds(
    spec: str, where: str, task: str | None, classes: tuple[str, ...] | None, seed: int, max_pixels: int
) -> Source:
    from kzoo.data.tfds_source import open_tfds

    return open_tfds(spec, where, task, classes, max_pixels)


def _folder(spec: str, where: str, expected: str) -> Path:
    directory = read_path(spec, where)
    if not directory.is_dir():
        found = "is not a directory" if directory.exists() else "does not exist"
        raise DataError(f"{spec!r}: {directory} {found}; expected {expected}")
    return directory


_SCHEMES = {
    "shapes": _open_shapes,
    "voc": _open_voc,
    "coco": _open_coco,
    "folder": _open_folder,
    "csv": _open_csv,
    "yolo": _open_yolo,
    "tfds": _open_tfds,
}
