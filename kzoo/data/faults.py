"""Faults in data: the zoo's one rule for them, and the errors that tell of them.

What is faulty is left out, counted, and told once with its first ten places. When more than a tenth of the
pictures have a fault the data as a whole is not to be trusted: an error, as is any fault with `strict=True`.
"""

import os
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

PLACES_TOLD = 10  # how many places a message lists
FAULTY_PICTURES_ALLOWED = 10  # one picture in so many may have faults
_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"


class DataError(ValueError):
    """Data that cannot be used: the message says what was found, where, and what is expected."""


class DataWarning(UserWarning):
    """Data that can be used once its faulty parts are left out: the message lists them."""


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
    lines: list[str] = field(default_factory=list)
    pictures: set[str] = field(default_factory=set)

    def add(self, picture: str, told: str) -> None:
        """Notes one fault.

        Args:
            picture: name of the picture that has it; several faults of one picture make one faulty picture.
            told: "place: what is there; expected what would be right".
        """
        self.lines.append(told)
        self.pictures.add(picture)

    def close(self, pictures: int, *, strict: bool = False) -> None:
        """Tells what was collected: nothing when there is no fault, a `DataWarning` when there are few.

        Args:
            pictures: how many pictures the split has, the faulty ones among them.
            strict: whether any fault is an error.

        Raises:
            DataError: more than a tenth of the pictures have faults, or any has and `strict` is set.
        """
        if not self.lines:
            return
        told = [f"  {line}" for line in self.lines[:PLACES_TOLD]]
        if len(self.lines) > PLACES_TOLD:
            told.append(f"  ... and {len(self.lines) - PLACES_TOLD} more")
        faulty = len(self.pictures)
        noun = "fault" if len(self.lines) == 1 else "faults"
        count = f"{len(self.lines)} {noun} in {faulty} of {pictures} pictures"
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
