"""Reads all data once and tells what there is and everything that is wrong with it. No TensorFlow."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from kzoo.data.checking.findings import find_copies, find_rare, find_tiny, find_unlisted, is_faulty
from kzoo.data.checking.report import Finding, Report
from kzoo.data.checking.tally import Tally, tally
from kzoo.data.faults import DataError, collected
from kzoo.data.orientation import turn_size
from kzoo.data.pictures import MAX_PIXELS, read_orientation
from kzoo.data.progress import progress_bar
from kzoo.data.sources import Source, Split, open_source
from kzoo.data.sources.damage import find_damage
from kzoo.data.sources.source import MASKED
from kzoo.data.sources.unions import find_unions
from kzoo.tasks import most_detailed

_THREADS = os.cpu_count() or 1
_AHEAD = 8 * _THREADS  # pictures that are being read or were not yet counted


@dataclass(frozen=True)
class _Look:
    """What reading one picture showed."""

    fault: DataError | None = None
    digest: bytes = b""  # of the pixels
    pixels: np.ndarray | None = None  # int [C + 1], as `Tally` has them
    orientation: int = 1
    damage: str | None = None  # of what can be decoded all the same


@dataclass
class _Found:
    """What is found on the way."""

    faults: list[Finding] = field(default_factory=list)
    notices: list[Finding] = field(default_factory=list)


def check(
    spec: str,
    task: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Report:
    """Reads all annotations and decodes all pictures of data, in parallel, and reports what is there.

    A fault is all that `kzoo.data.load` leaves out or refuses, a picture that is there twice, be it in one
    split or in two, and one that is damaged though it can be decoded. Where stderr is a terminal a bar shows
    how far it is.

    Args:
        spec: the data, as `kzoo.data.load` takes it.
        task: as what it is read: "instance_segmentation" looks at masks, "segmentation" at the class of each
            pixel. None: the first of these that the data can teach, where it has boxes those rather than
            the classes of pixels.
        classes: names in the order of their numbers. None: those that the data has.
        max_pixels: the most that a picture may have; more is a fault.

    Raises:
        DataError: there is no such data, or nothing of it can be opened.

    Example:
        report = check("voc:bccd")
        print(report.as_text())
    """
    source = open_source(spec, task=task, classes=classes, max_pixels=max_pixels)
    if task is None:
        task = most_detailed(source.info.tasks)
        if task in MASKED or not (source.info.classes and source.info.splits):  # nothing was read yet
            source = open_source(spec, task=task, classes=classes, max_pixels=max_pixels)
    found = _Found()
    opened = _open_splits(source, found)
    unions = find_unions({name: frozenset(split.names) for name, split in opened.items()})
    splits = {name: split for name, split in opened.items() if name not in unions}
    found.faults = _once(found.faults, unions)
    tallies, digests = {}, {}
    with progress_bar("pictures", sum(map(len, splits.values()))) as progress:
        for name, split in splits.items():
            tallies[name], digests[name] = _read(name, split, source.info.classes, task, found, progress)
    found.faults += find_copies(digests)
    found.notices += find_rare(source.info, tallies)
    found.notices += find_unlisted(opened.values(), found.faults)
    return Report(source.info, task, splits, tallies, unions, found.faults, found.notices)


def _open_splits(source: Source, found: _Found) -> dict[str, Split]:
    opened = {}
    for name, count in source.info.splits.items():
        if not count:
            found.notices.append(Finding("empty_split", name, "", f"{source.info.spec}: no pictures"))
            continue
        with collected() as faults:
            try:
                opened[name] = source.split(name)
            except DataError as error:
                found.faults.append(Finding("split", name, "", str(error)))
        found.faults += [Finding(fault.kind, name, fault.picture, fault.told) for fault in faults]
    return opened


def _read(
    name: str,
    split: Split,
    classes: tuple[str, ...],
    task: str,
    found: _Found,
    progress: Callable[[], None],
) -> tuple[Tally, list[tuple[str, bytes]]]:
    """Reads a split: what its pictures have, and the names and digests of those that can be read."""
    faulty = {fault.picture for fault in found.faults}
    num_classes = len(classes) if task == "segmentation" else 0
    read, pixels, digests = [], [], []
    for index, look in enumerate(_looks(split, num_classes)):
        progress()
        picture = split.names[index]
        if look.fault:
            found.faults.append(Finding(look.fault.kind, name, picture, str(look.fault)))
            continue
        read.append(index)
        pixels.append(look.pixels)
        digests.append((picture, look.digest))
        if look.damage:
            told = f"{picture}: {look.damage}; expected a whole picture file"
            found.faults.append(Finding("damaged", name, picture, told))
        if look.orientation != 1:
            height, width = split.sizes[index]
            told = f"{picture}: EXIF's orientation is {look.orientation}"
            told = f"{told}; read as it is seen, {width} x {height}"
            if split.boxes is not None and turn_size((height, width), look.orientation) == (height, width):
                told = f"{told}, and so are its boxes: its size cannot tell whether they are of it as stored"
            found.notices.append(Finding("turned", name, picture, told))
        if split.boxes is not None and not num_classes:
            if not len(split.classes[index]) and not is_faulty(picture, faulty):
                found.notices.append(Finding("empty", name, picture, f"{picture}: no object"))
            found.notices += find_tiny(name, split, index, classes)
    return tally(split, read, pixels if num_classes else None), digests


def _once(faults: list[Finding], unions: dict[str, list[str]]) -> list[Finding]:
    """Each fault once: those of a file are told for each split, and unions have those of their parts."""
    first: dict[str, Finding] = {}
    for fault in sorted(faults, key=lambda fault: fault.split in unions):  # it is stable
        first.setdefault(fault.told, fault)
    return list(first.values())


def _looks(split: Split, num_classes: int) -> Iterator[_Look]:
    """What reading each picture shows, in their order; several are read at once."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        waiting = deque()
        for index in range(len(split)):
            waiting.append(pool.submit(_look, split, index, num_classes))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # nothing is waited for after Ctrl-C


def _look(split: Split, index: int, num_classes: int) -> _Look:
    try:
        picture = np.ascontiguousarray(split.read(index))
        pixels = None
        if num_classes:
            labels = split.read_labels(index)
            pixels = np.bincount(labels.reshape(-1) + 1, minlength=num_classes + 1)
        name = split.names[index]
        of_file = os.path.isfile(name)
        orientation = read_orientation(name) if of_file else 1
        damage = find_damage(name) if of_file else None
    except DataError as error:
        return _Look(error)
    digest = hashlib.blake2b(str(picture.shape).encode(), digest_size=16)
    digest.update(picture)
    return _Look(None, digest.digest(), pixels, orientation, damage)
