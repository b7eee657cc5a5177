"""Pictures beside label pictures, in two folders, behind `"folder:DIR"` (`kzoo.data.sources.folder`).

Which value stands for which class is

    values=0:0+255:1            tells for each value
    names that are numbers      tell the values themselves
    other names                 are those of the values 0, 1, 2, ...
    none of this                makes each value that occurs a class, in their order, called as it is itself

and 255 is ignored unless that makes it a class, or `values=` leaves it out, which is a fault. Where nothing
but 0 and 255 occurs and the spec does not tell their classes, they are two classes, and the first two names
are theirs. Where nothing tells the classes and 255 occurs, the other values must be 0, 1, 2, ... without
gaps: else it may well be that 255 is a class too.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kzoo.data.faults import DataError, Faults
from kzoo.data.pictures import MAX_PIXELS
from kzoo.data.sources.folder import Names, files, folders, in_order, is_picture, natural
from kzoo.data.sources.pairs import IGNORED, Pair, listed, open_pairs, scan_labels
from kzoo.data.sources.source import Info, Split, check_split, draw_splits
from kzoo.data.threads import in_threads

_PLACES = 3  # that a message names


class FolderPairs:
    """Pictures whose labels are pictures of the same name in another folder.

    Args:
        spec: the text that messages call it by.
        directory: which must be there.
        image: the folder of pictures, in `directory` or in a folder for each split in it.
        label: the folder of label pictures beside it.
        values: the classes of values as text, "VALUE:CLASS+VALUE:CLASS".
        named: the classes and where they are from; by default the values' own.
        max_pixels: the most that a picture may have.
    """

    def __init__(
        self,
        spec: str,
        directory: Path,
        image: str = "image",
        label: str = "label",
        values: str | None = None,
        named: Names | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._max_pixels = max_pixels
        self._spec = spec
        if any(os.path.isdir(directory / side) for side in (image, label)):
            by_name = {pair.name: pair for pair in _pair(spec, directory / image, directory / label)}
            drawn = draw_splits(by_name)
            self._pairs = {name: [by_name[one] for one in sorted(drawn[name], key=natural)] for name in drawn}
        else:
            places = [
                path
                for path in folders(directory)
                if any(os.path.isdir(path / side) for side in (image, label))
            ]
            if not places:
                expected = f"{directory / image} and {directory / label}, or both in a folder for each split"
                raise DataError(f"{spec}: {directory} has neither {image} nor {label}; expected {expected}")
            self._pairs = in_order({path.name: _pair(spec, path / image, path / label) for path in places})
        if values is not None:
            classes, self._class_of_value = _classes_of_values(spec, values, named)
        else:
            classes, self._class_of_value = _choose_classes(spec, named, self._find_values)
            self._class_of_value.setdefault(IGNORED, -1)
        counts = {name: len(pairs) for name, pairs in self._pairs.items()}
        self.info = Info(spec, classes, counts, ("segmentation",))
        self.max_objects = 1

    def split(self, name: str, *, strict: bool = False, part: slice = slice(None)) -> Split:
        """The faultless pictures of one split, or of a part of its list."""
        check_split(self.info, name)
        faults = Faults(f'{self.info.spec}, split "{name}"')
        pairs = self._pairs[name][part]
        return open_pairs(
            name, pairs, self._class_of_value, faults, strict=strict, max_pixels=self._max_pixels
        )

    def _find_values(self) -> dict[int, list[Path]]:
        """All values of label pictures and the files with each; faults are told when a split is opened."""
        pairs = [pair for pairs in self._pairs.values() for pair in pairs]
        labels = list(dict.fromkeys(pair.label for pair in pairs if pair.label))
        faults = [pair.fault for pair in pairs if pair.fault]
        files_of_value = defaultdict(list)
        found = in_threads(partial(_values_of, max_pixels=self._max_pixels), labels)
        for label, values in zip(labels, found, strict=True):
            if isinstance(values, DataError):
                faults.append(values)
                continue
            for value in values:
                files_of_value[value].append(label)
        if not files_of_value and faults:
            raise DataError(f"{self._spec}: no label picture can be read; the first fault: {faults[0]}")
        return files_of_value


def _values_of(label: Path, max_pixels: int) -> frozenset[int] | DataError:
    try:
        return scan_labels(label, max_pixels).values
    except DataError as error:
        return error


def _pair(spec: str, image: Path, label: Path) -> list[Pair]:
    """What lies in the two folders, by name."""
    for folder, other in ((image, label), (label, image)):
        if not os.path.isdir(folder):
            raise DataError(f"{spec}: there is {other}, but no {folder}; expected both")
    pictures, labels = _by_name(image), _by_name(label)
    if not pictures:
        raise DataError(f"{spec}: there is no picture in {image}; expected those of the labels in {label}")
    pairs = []
    for name in sorted(pictures.keys() | labels.keys(), key=natural):
        of_picture, of_label = pictures.get(name, []), labels.get(name, [])
        fault = None
        if not of_picture:
            told = f"{of_label[0]}: its picture is missing; expected {image / name} with .png or the like"
            fault = DataError(told, "missing")
        elif not of_label:
            told = f"{of_picture[0]}: its label picture is missing; expected {label / name}.png"
            fault = DataError(told, "no_annotation")
        for found in (of_picture, of_label):
            if len(found) > 1:
                told = f"{found[0]}: there is {found[1].name} too; expected one picture of each name"
                fault = DataError(told, "duplicate")
        pairs.append(Pair(name, *(None if fault else found[0] for found in (of_picture, of_label)), fault))
    return pairs


def _by_name(folder: Path) -> dict[str, list[Path]]:
    """The files of a folder by their names without extension; beside pictures no other files count."""
    found = defaultdict(list)
    for path in files(folder):
        found[path.stem].append(path)
    return {name: list(filter(is_picture, paths)) or paths for name, paths in found.items()}


def _classes_of_values(spec: str, text: str, named: Names | None) -> tuple[tuple[str, ...], dict[int, int]]:
    """The classes of a `values=` option, and the class of each value."""
    told = f"{spec!r}: values={text}"
    class_of_value, values_of_class = {}, defaultdict(list)
    for part in text.split("+"):
        match = re.fullmatch(r"\s*(\d{1,5})\s*:\s*(\d{1,5}|-1)\s*", part, re.ASCII)
        if not match or int(match[1]) > 65535:
            raise DataError(f"{told} has {part!r}; expected VALUE:CLASS+VALUE:CLASS, such as 0:0+255:1")
        value, label = int(match[1]), int(match[2])
        if value in class_of_value:
            raise DataError(f"{told} has the value {value} twice; expected once")
        class_of_value[value] = label
        values_of_class[label].append(str(value))
    last = max(values_of_class)
    if last < 0:
        raise DataError(f"{told} has no class; expected at least one, counted from 0")
    if named:
        if last >= len(named.names):
            most = len(named.names) - 1
            raise DataError(f"{told} has the class {last}; expected 0 to {most}, those of {named.origin}")
        return named.names, class_of_value
    missing = [label for label in range(min(last, len(class_of_value))) if label not in values_of_class]
    if missing:
        raise DataError(f"{told} has no class {missing[0]}, but {last}; expected classes from 0 without gaps")
    return tuple("+".join(values_of_class[label]) for label in range(last + 1)), class_of_value


def _choose_classes(
    spec: str, named: Names | None, find_values: Callable[[], dict[int, list[Path]]]
) -> tuple[tuple[str, ...], dict[int, int]]:
    """The classes where no option tells their values, and the class of each value."""
    if named and all(re.fullmatch(r"\d{1,4}", name, re.ASCII) for name in named.names):
        return named.names, {int(name): label for label, name in enumerate(named.names)}
    found = find_values() if named is None or len(named.names) > 1 else {}
    if found.keys() == {0, IGNORED}:
        return named.names if named else ("0", str(IGNORED)), {0: 0, IGNORED: 1}
    if named:
        return named.names, {label: label for label in range(len(named.names))}
    values = sorted(found.keys() - {IGNORED})
    if not values:
        there = f"but {IGNORED}, which is ignored" if found else "that can be read"
        raise DataError(f"{spec}: the label pictures have no value {there}; expected those of classes")
    stray = [value for value in values if value >= len(values)]
    if IGNORED in found and stray:
        places = [f"{found[value][0]} has {value}" for value in stray[:_PLACES]]
        raise DataError(
            f"{spec}: the label pictures have the values {listed(sorted(found))}, and nothing tells their "
            f"classes ({', '.join(places)}); expected 0, 1, 2, ... without gaps beside {IGNORED}, which "
            f"is then ignored, or the class of each value, as in '{spec},values=0:0+255:1', or classes="
        )
    return tuple(map(str, values)), {value: label for label, value in enumerate(values)}
