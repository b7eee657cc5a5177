"""Faults in data: the zoo's one rule for them, and the errors that tell of them.

What is faulty is left out, counted, and told once with its first ten places. When more than a tenth of the
pictures have a fault the data as a whole is not to be trusted: an error, as is any fault with `strict=True`.

Whoever wants all faults rather than data takes them with `collected`: then none is told and none is an error.
"""

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

PLACES_TOLD = 10  # how many places a message lists
FAULTY_PICTURES_ALLOWED = 10  # one picture in so many may have faults

# What can be wrong, and how many things of that kind are called.
KINDS = {
    "missing": "missing pictures",
    "unreadable": "unreadable pictures",
    "truncated": "truncated pictures",
    "damaged": "pictures that can be decoded, but are damaged within",
    "too_large": "pictures of too many pixels",
    "duplicate": "duplicate pictures",
    "no_annotation": "pictures without their annotation",
    "no_picture": "annotations of no picture",
    "annotation": "faulty annotations",
    "size": "annotations for another size of picture",
    "unknown_class": "unknown classes",
    "no_area": "boxes without area",
    "reversed": "reversed boxes",
    "outside": "boxes outside their picture",
    "not_numbers": "boxes that are not of finite numbers",
    "mask": "faulty masks",
    "split": "splits that cannot be read",
    "no_split": "pictures in no split",
    "two_splits": "pictures in two splits",
}

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"


class DataError(ValueError):
    """Data that cannot be used: the message says what was found, where, and what is expected.

    Args:
        told: the message.
        kind: what is wrong, where that is a single picture or its annotation; one of `KINDS`.
    """

    def __init__(self, told: str = "", kind: str = "annotation") -> None:
        super().__init__(told)
        self.kind = kind


class DataWarning(UserWarning):
    """Data that can be used once its faulty parts are left out: the message lists them."""


class Fault(NamedTuple):
    """One fault of a picture."""

    picture: str  # its name
    told: str  # "place: what is there; expected what would be right"
    kind: str  # of KINDS


_collected: ContextVar[list[Fault] | None] = ContextVar("collected", default=None)


@contextlib.contextmanager
def collected() -> Iterator[list[Fault]]:
    """The faults that are found meanwhile: they are handed over, neither told nor an error.

    ```python
    with collected() as faults:
        split = source.split("train")
    ```
    """
    faults: list[Fault] = []
    before = _collected.set(faults)
    try:
        yield faults
    finally:
        _collected.reset(before)


def refuse(picture: str, error: DataError) -> None:
    """Raises an error about the data as a whole, unless faults are collected: then it is one of them."""
    collector = _collected.get()
    if collector is None:
        raise error
    collector.append(Fault(picture, str(error), error.kind))


def note(picture: str, told: str, kind: str) -> None:
    """Hands over a fault where they are collected: all other uses of the data do without what it is about."""
    collector = _collected.get()
    if collector is not None:
        collector.append(Fault(picture, told, kind))


def told_by_tensorflow(error: Exception) -> str | None:
    """What a DataError said where an error of TensorFlow's tells of it, as of a file that broke meanwhile."""
    within = re.search(r"DataError: (.*)", str(error))
    return within[1] if within and type(error).__module__.startswith("tensorflow") else None


@contextlib.contextmanager
def as_data_errors() -> Iterator[None]:
    """Faults that were found while TensorFlow read data, as the DataErrors that they were."""
    try:
        yield
    except Exception as error:
        told = told_by_tensorflow(error)
        if told is None:
            raise
        raise DataError(told) from None


def kind_of(error: Exception) -> str:
    """What kind of fault an error tells of."""
    return getattr(error, "kind", "annotation")


def shortened(found: object) -> str:
    """How a message tells a value that may be anything: as Python writes it, but no more than fits a line."""
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:60]}..."


@dataclass
class Faults:
    """Collects the faults of one split, to tell all of them at once.

    A picture counts as faulty when anything about it is, be it the file, its annotation or one of its boxes.

        faults = Faults('voc:DIR, split "train"')
        faults.add("a", "Annotations/a.xml, object 2 (cat): box has no area; expected xmin < xmax")
        faults.close(pictures=205)  # warns: 1 fault in 1 of 205 pictures ...

    Args:
        source: what the messages call the data, for example `voc:DIR, split "train"`.
    """

    source: str
    found: list[Fault] = field(default_factory=list)

    def add(self, picture: str, told: str, kind: str = "annotation") -> None:
        """Notes one fault.

        Args:
            picture: name of the picture that has it; several faults of one picture make one faulty picture.
            told: "place: what is there; expected what would be right".
            kind: one of `KINDS`.
        """
        self.found.append(Fault(picture, told, kind))

    def close(self, pictures: int, *, strict: bool = False, noun: str = "pictures") -> None:
        """Tells what was found: nothing when there is no fault, a `DataWarning` when there are few.

        Within `collected` it hands the faults over instead.

        Args:
            pictures: how many pictures the split has, the faulty ones among them.
            strict: whether any fault is an error.
            noun: what is counted, where the faults are of no picture.

        Raises:
            DataError: more than a tenth of the pictures have faults, or any has and `strict` is set.
        """
        collector = _collected.get()
        if collector is not None:
            collector += self.found
            return
        if not self.found:
            return
        told = [f"  {fault.told}" for fault in self.found[:PLACES_TOLD]]
        if len(self.found) > PLACES_TOLD:
            told.append(f"  ... and {len(self.found) - PLACES_TOLD} more")
        faulty = len({fault.picture for fault in self.found})
        faults = "fault" if len(self.found) == 1 else "faults"
        count = f"{len(self.found)} {faults} in {faulty} of {pictures} {noun}"
        if strict:
            raise DataError("\n".join([f"{self.source}: {count}, and strict=True allows none:", *told]))
        if faulty * FAULTY_PICTURES_ALLOWED > pictures:
            head = f"{self.source}: {count}, which is more than a tenth. Please mend the data:"
            raise DataError("\n".join([head, *told]))
        head = f"{self.source}: {count}. What is faulty is left out:"
        warnings.warn("\n".join([head, *told]), DataWarning, stacklevel=_level_outside())


def _level_outside() -> int:
    """The `stacklevel` with which a warning of the caller points to the code that called the zoo."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
