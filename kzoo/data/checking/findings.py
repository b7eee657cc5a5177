"""What only shows when all pictures of all splits are looked at together."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from kzoo.data.checking.report import Finding
from kzoo.data.checking.tally import Tally, examples, total
from kzoo.data.faults import Fault
from kzoo.data.sources import Info, Split
from kzoo.data.sources.folder import is_picture

TINY = 4.0  # pixels: of a box with a shorter side hardly anything is left in a network's features
FEW = 10  # examples of a class
_NAMES_TOLD = 20


def find_copies(digests: Mapping[str, Sequence[tuple[str, bytes]]]) -> list[Finding]:
    """Pictures that are in a split twice, or in two of them.

    Args:
        digests: of each split the pictures' names and what tells their pixels apart.
    """
    of_digest: dict[bytes, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for split, pictures in digests.items():
        for name, digest in pictures:
            of_digest[digest][split].append(name)
    found = []
    for splits in of_digest.values():
        for split, (first, *others) in splits.items():
            for name in others:
                told = f"{name}: the same pixels as {first}; expected each picture once"
                found.append(Finding("duplicate", split, name, told))
        (split, (first, *_)), *further = splits.items()
        for other, (name, *_) in further:
            same = f"the same pixels as {first}, which" if name != first else "it"
            told = f"{name}: {same} is in the split {split} too; expected each picture in one split"
            found.append(Finding("two_splits", other, name, told))
    return found


def find_tiny(name: str, split: Split, index: int, classes: Sequence[str]) -> list[Finding]:
    """The boxes of a picture that are tiny."""
    found = []
    for box, label in zip(split.boxes[index], split.classes[index], strict=True):
        width, height = (box[2:] - box[:2]).tolist()
        if label >= 0 and min(width, height) < TINY:
            corner = f"({box[0]:g}, {box[1]:g})"
            told = f"{split.names[index]}: {classes[label]} of {width:g} x {height:g} pixels at {corner}"
            found.append(Finding("tiny", name, split.names[index], told))
    return found


def find_rare(info: Info, tallies: Mapping[str, Tally]) -> list[Finding]:
    """Classes of few examples, and those that a split lacks though another has them."""
    noun = "objects"
    if any(one.pixels is not None or one.boxes is None for one in tallies.values()):
        noun = "pictures"
    found = []
    every = examples(total(tallies.values()), len(info.classes)) if tallies else ()
    for label in np.flatnonzero(np.less(every, FEW)):
        counted = f"{every[label]} {noun if every[label] != 1 else noun.removesuffix('s')}"
        told = f"{info.classes[label]}: {counted} in all splits"
        found.append(Finding("rare_class", "", "", told))
    for split, one in tallies.items():
        lacking = np.flatnonzero((examples(one, len(info.classes)) == 0) & (np.asarray(every) > 0))
        if len(lacking) and len(one.sizes):
            names = [info.classes[label] for label in lacking]
            more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
            told = f"no example of {', '.join(names[:_NAMES_TOLD])}{more}"
            found.append(Finding("absent_class", split, "", told))
    return found


def is_faulty(picture: str, faulty: Set[str]) -> bool:
    """Whether a picture file is among the names of faulty ones, which sources call by name or by path."""
    path = Path(picture)
    return not faulty.isdisjoint((picture, path.name, path.stem))


def find_unlisted(splits: Iterable[Split], faults: Iterable[Fault | Finding]) -> list[Finding]:
    """Picture files beside those of the splits that are in none of them."""
    names = {name for split in splits for name in split.names}
    listed = {Path(name) for name in names if os.path.isfile(name)}  # others are drawn or from an archive
    faulty = {fault.picture for fault in faults}
    found = []
    for folder in sorted({path.parent for path in listed}):
        there = sorted(path for path in folder.iterdir() if is_picture(path))
        others = [path for path in there if path not in listed and not is_faulty(str(path), faulty)]
        if others:
            noun = f"{len(others):,} pictures" if len(others) > 1 else "1 picture"
            told = f"{folder}: {noun} that no split lists, such as {others[0].name}"
            found.append(Finding("unlisted", "", "", told))
    return found
