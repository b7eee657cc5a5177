"""Where pictures come from: `"shapes"`, `"voc:DIR"`, all behind one small interface, without TensorFlow.

A source knows its classes and its splits. A split holds the annotations of its faultless pictures in memory
and reads the pictures themselves on demand.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from kzoo.checks import check_choice
from kzoo.data.faults import DataError


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
        classes: for each picture int32 [n].
        names: what messages call each picture: a file's path, or `shapes:train[17]`.
        sizes: (height, width) of each picture, known without decoding.
        read: index -> uint8 [H, W, 3] RGB. Several threads may call it; raises DataError naming the file.
        read_masks: index -> bool [n, H, W], the pixels of each object, where the source has instance masks.
    """

    name: str
    boxes: tuple[np.ndarray, ...]
    classes: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    read: Callable[[int], np.ndarray]
    read_masks: Callable[[int], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.names)


class Source(Protocol):
    """Pictures with annotations, in splits.

    Attributes:
        info: what it has.
        max_objects: most objects in any picture of any split, at least 1.
    """

    info: Info
    max_objects: int

    def split(self, name: str, *, strict: bool = False) -> Split:
        """The faultless pictures of one split; with `strict` any fault is a DataError."""
        ...


def open_source(
    spec: str, *, task: str = "detection", classes: Sequence[str] | None = None, seed: int = 0
) -> Source:
    """Opens the data that a spec such as `"shapes"` or `"voc:DIR"` names.

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
    check_name(f"data {spec!r}", "kind of data", scheme, _SCHEMES)
    if classes is not None:
        classes = check_classes(classes, "classes")
    source = _SCHEMES[scheme](spec, where, task, classes, seed)
    if task not in source.info.tasks:
        teaches = ", ".join(source.info.tasks)
        raise DataError(f"{spec}: task={task!r} cannot be learnt from it; what can: {teaches}")
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


def _open_shapes(spec: str, where: str, task: str, classes: tuple[str, ...] | None, seed: int) -> Source:
    from kzoo.data.shapes import Shapes

    if where:
        raise DataError(f"'shapes' takes nothing behind a colon, got {spec!r}")
    return Shapes(task=task, classes=classes, seed=seed)


def _open_voc(spec: str, where: str, task: str, classes: tuple[str, ...] | None, seed: int) -> Source:
    from kzoo.data.voc import Voc

    if not where:
        raise DataError(f"{spec!r} lacks the directory; expected 'voc:DIR'")
    directory = Path(where).expanduser()
    if not directory.is_dir():
        found = "is not a directory" if directory.exists() else "does not exist"
        raise DataError(f"{spec!r}: {directory} {found}; expected a directory in the layout of Pascal VOC")
    return Voc(spec, directory, classes=classes)


_SCHEMES = {"shapes": _open_shapes, "voc": _open_voc}
