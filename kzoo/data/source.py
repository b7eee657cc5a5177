"""Where pictures come from: `"shapes"`, `"voc:DIR"`, `"coco:DIR"`, behind one interface, without TensorFlow.

A source knows its classes and its splits. A split holds the annotations of its faultless pictures in memory
and reads the pictures themselves on demand.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from kzoo.checks import check_choice
from kzoo.data.faults import DataError
from kzoo.tasks import TASKS

MASKED = ("segmentation", "instance_segmentation")  # the tasks that are about the pixels of each object
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
        boxes: for each picture float32 [n, 4], xyxy in the picture's own pixels.
        classes: for each picture int32 [n]; crowd regions (`CROWD`) come behind the objects.
        names: what messages call each picture: a file's path, or `shapes:train[17]`.
        sizes: (height, width) of each picture, known without decoding.
        read: index -> uint8 [H, W, 3] RGB. Several threads may call it; raises DataError naming the file.
        read_masks: index -> the run lengths (`kzoo.data.masks`) of each of the n rows, where the source has
            instance masks and the task is about them.
        crowd_classes: for each picture int32 [k], the classes of its crowd regions, where they are known.
        areas: for each picture float32 [n], the areas in own pixels that the annotations tell, if they do.
    """

    name: str
    boxes: tuple[np.ndarray, ...]
    classes: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    read: Callable[[int], np.ndarray]
    read_masks: Callable[[int], list[dict]] | None = None
    areas: tuple[np.ndarray, ...] | None = None
    crowd_classes: tuple[np.ndarray, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)


class Source(Protocol):
    """Pictures with annotations, in splits.

    Attributes:
        info: what it has.
        max_objects: most objects and crowd regions in any picture of any split, at least 1.
    """

    info: Info
    max_objects: int

    def split(self, name: str, *, strict: bool = False) -> Split:
        """The faultless pictures of one split; with `strict` any fault is a DataError."""
        ...


def open_source(
    spec: str, *, task: str = "detection", classes: Sequence[str] | None = None, seed: int = 0
) -> Source:
    """Opens the data that a spec such as `"shapes"`, `"voc:DIR"` or `"coco:DIR"` names.

    Args:
        spec: the scheme and, after a colon, where the data is.
        task: what is to be learnt from it; one of `kzoo.tasks.TASKS`.
        classes: names in the order of their numbers; by default the source's own.
        seed: for data that is drawn; files do not depend on it.

    Raises:
        DataError: an unknown scheme, a task that the source cannot teach, or no data where it should be.
    """
    if not isinstance(spec, str):
        raise DataError(f"the data must be named by text such as 'shapes' or 'voc:DIR', got {spec!r}")
    scheme, _, where = spec.partition(":")
    if spec and scheme not in _SCHEMES and Path(spec).is_dir():
        raise DataError(f"data {spec!r} is a directory; of which kind? Write 'voc:{spec}' or 'coco:{spec}'")
    check_name(f"data {spec!r}", "kind of data", scheme, _SCHEMES)
    check_name(spec, "task", task, TASKS)
    if classes is not None:
        classes = check_classes(classes, "classes")
    source = _SCHEMES[scheme](spec, where, task, classes, seed)
    if task not in source.info.tasks:
        teaches = ", ".join(source.info.tasks)
        masks = ", for no masks are read from it" if task in MASKED else ""
        raise DataError(f"{spec}: task={task!r} cannot be learnt from it{masks}; what can: {teaches}")
    return source


def check_name(where: str, argument: str, value: object, known: Iterable[str]) -> None:
    """Raises a DataError that offers the nearest names unless `value` is one of the known ones."""
    try:
        check_choice(argument, value, known)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def check_classes(classes: Sequence[str], origin: str) -> tuple[str, ...]:
    """A class list as a tuple, refused when it is empty, holds anything but names, or repeats one."""
    if isinstance(classes, str) or not all(isinstance(name, str) and name for name in classes):
        raise DataError(f"{origin} must be a list of names, got {classes!r}")
    if not classes:
        raise DataError(f"{origin} is empty; expected at least one name")
    repeated = sorted({name for name in classes if list(classes).count(name) > 1})
    if repeated:
        raise DataError(
            f"{origin} must name each class once, but it repeats {', '.join(map(repr, repeated))}"
        )
    return tuple(classes)


def check_split(info: Info, name: str) -> None:
    """Refuses a split that the source does not have, or that is empty."""
    check_name(info.spec, "split", name, info.splits)
    if info.splits[name] == 0:
        there = ", ".join(f"{split} ({count} pictures)" for split, count in info.splits.items())
        raise DataError(f'{info.spec}: split="{name}" is empty; the splits are: {there}')


def draw_splits(names: Iterable[str]) -> dict[str, list[str]]:
    """Splits where nobody made any, drawn from the names alone: the same on every machine."""
    drawn = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    tenth = math.ceil(len(drawn) / 10)
    parts = drawn[:tenth], drawn[tenth : 2 * tenth], drawn[2 * tenth :]
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
        ValueError: it lies farther outside.
    """
    height, width = size
    x1, y1, x2, y2 = box
    left, top, right, bottom = max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
    farthest = max(-x1, -y1, x2 - width, y2 - height)
    if farthest > ROUNDING or left >= right or top >= bottom:
        raise ValueError(f"{told} lies outside its picture; expected it within {width} x {height} pixels")
    return left, top, right, bottom


def _open_shapes(spec: str, where: str, task: str, classes: tuple[str, ...] | None, seed: int) -> Source:
    from kzoo.data.shapes import Shapes

    if where:
        raise DataError(f"'shapes' takes nothing behind a colon, got {spec!r}")
    return Shapes(task=task, classes=classes, seed=seed)


def _open_voc(spec: str, where: str, task: str, classes: tuple[str, ...] | None, seed: int) -> Source:
    from kzoo.data.voc import Voc

    if not where:
        raise DataError(f"{spec!r} lacks the directory; expected 'voc:DIR'")
    directory = _folder(spec, where, "a directory in the layout of Pascal VOC")
    return Voc(spec, directory, classes=classes)


def _open_coco(spec: str, where: str, task: str, classes: tuple[str, ...] | None, seed: int) -> Source:
    from kzoo.data.coco import Coco

    if not where:
        expected = "'coco:DIR' or 'coco:INSTANCES.json,IMAGE_DIR'"
        raise DataError(f"{spec!r} lacks the directory; expected {expected}")
    file, comma, pictures = where.partition(",")
    if comma and not (file and pictures):
        missing = "directory behind" if file else "file before"
        raise DataError(f"{spec!r} lacks the {missing} the comma; expected 'coco:INSTANCES.json,IMAGE_DIR'")
    if not comma or Path(where).expanduser().is_dir():
        directory = _folder(spec, where, "a directory with instances_SPLIT.json, or INSTANCES.json,IMAGE_DIR")
        return Coco(spec, directory, task=task, classes=classes)
    directory = _folder(spec, pictures, "the directory of the pictures behind the comma")
    return Coco(spec, directory, Path(file).expanduser(), task=task, classes=classes)


def _folder(spec: str, where: str, expected: str) -> Path:
    directory = Path(where).expanduser()
    if not directory.is_dir():
        found = "is not a directory" if directory.exists() else "does not exist"
        raise DataError(f"{spec!r}: {directory} {found}; expected {expected}")
    return directory


_SCHEMES = {"shapes": _open_shapes, "voc": _open_voc, "coco": _open_coco}
