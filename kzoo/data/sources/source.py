"""What a source of pictures is, and what all of them do alike. No TensorFlow.

A source knows its classes and its splits. A split holds the annotations of its faultless pictures in memory
and reads the pictures themselves on demand.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from kzoo.checks import check_choice
from kzoo.data.faults import DataError

MASKED = ("segmentation", "instance_segmentation")  # the tasks that are about the pixels of each object
ONE_OBJECT = ("classification", "box_regression")  # those that are about the one object of a picture
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

    def digest(self) -> str:
        """What tells these pictures from others: names, sizes, classes and boxes; not their pixels."""
        digest = hashlib.sha256(repr(([os.path.basename(name) for name in self.names], self.sizes)).encode())
        for rows in (self.classes, self.boxes or ()):
            for row in rows:
                digest.update(len(row).to_bytes(8) + np.ascontiguousarray(row).tobytes())
        return digest.hexdigest()[:16]

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
