"""The names of classes: lists that callers give or that lie beside the data. Their order is their numbers."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from kzoo.data.faults import DataError

BACKGROUND = "background"  # the first class of pixels where objects are told apart from all else

_FILES = ("classes.txt", "labels.txt")


def check_classes(classes: Sequence[str], origin: str) -> tuple[str, ...]:
    """A class list as a tuple, refused when it is empty, holds anything but names, or repeats one."""
    if isinstance(classes, str) or not all(isinstance(name, str) and name for name in classes):
        raise DataError(f"{origin} must be a list of names, got {classes!r}")
    if not classes:
        raise DataError(f"{origin} is empty; expected at least one name")
    repeated = sorted(name for name, times in Counter(classes).items() if times > 1)
    if repeated:
        raise DataError(
            f"{origin} must name each class once, but it repeats {', '.join(map(repr, repeated))}"
        )
    return tuple(classes)


def object_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of objects in a list that may have the background in front of them."""
    return tuple(classes[1:] if classes[0] == BACKGROUND else classes)


def pixel_classes(objects: Sequence[str]) -> tuple[str, ...]:
    """The names that pixels have where objects have these: the background comes first."""
    return check_classes((BACKGROUND, *objects), "the list of the classes of pixels")


def written_classes(directory: Path) -> tuple[tuple[str, ...], Path] | None:
    """The classes that a directory's classes.txt or labels.txt lists, if it has one, and that file."""
    for path in (directory / name for name in _FILES):
        if path.is_file():
            return check_classes(read_lines(path), str(path)), path
    return None


def found_classes(found: Iterable[str]) -> tuple[str, ...]:
    """The classes of objects where no list tells them: the most frequent first, then by name.

    Where all are whole numbers they are in the order of these.
    """
    count = Counter(found)
    if all(re.fullmatch(r"\d+", name, re.ASCII) for name in count):
        return tuple(sorted(count, key=lambda name: (*by_value(name), name)))
    return tuple(sorted(count, key=lambda name: (-count[name], name)))


def by_value(digits: str) -> tuple[int, str]:
    """What whole numbers of any length are sorted by; `int` refuses long ones."""
    plain = digits.lstrip("0")
    return len(plain), plain


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without what is blank.

    Raises:
        DataError: it is no text.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}; expected lines of text in UTF-8") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
