"""Slices of splits, as in `"train[:80%]"`."""

import re
from dataclasses import replace

from kzoo.data.faults import DataError
from kzoo.data.sources.source import Source, Split, check_split


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
