"""Pictures that lie in a folder for each class, behind `"folder:DIR"` (`kzoo.data.sources.folder`)."""

from pathlib import Path

import numpy as np

from kzoo.data.faults import DataError, Faults, refuse
from kzoo.data.pictures import MAX_PIXELS, read_picture
from kzoo.data.sources.folder import SPLITS, Names, files, folders, in_order, is_picture, natural
from kzoo.data.sources.sizes import picture_size, picture_sizes
from kzoo.data.sources.source import Info, Split, check_name, check_split, draw_splits

_LAYOUT = "DIR/SPLIT/CLASS/* or DIR/CLASS/*"


class FolderClasses:
    """Pictures whose folder is their class.

    In the order of a split the classes alternate, each as often as it has pictures, so that every slice holds
    about the same share of each; within a class pictures are in the order of their names.

    Args:
        spec: the text that messages call it by.
        directory: which must be there.
        named: the classes and where they are from; by default the folders by name, the same in every split.
        max_pixels: the most that a picture may have.
    """

    def __init__(
        self, spec: str, directory: Path, named: Names | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        self._max_pixels = max_pixels
        found = folders(directory)
        if not found:
            raise DataError(f"{spec}: there is no folder in {directory}; expected {_LAYOUT}")
        if any(map(folders, found)) or all(path.name in SPLITS for path in found):
            there = in_order({path.name: _classes_of(spec, path, max_pixels) for path in found})
            splits = {name: _alternating(by_class) for name, by_class in there.items()}
        else:
            found = [directory]
            there = {directory.name: _classes_of(spec, directory, max_pixels)}
            splits = _drawn(there[directory.name])
        self._splits = splits
        filled = {name for by_class in there.values() for name, paths in by_class.items() if paths}
        there = {split: [name for name in by_class if name in filled] for split, by_class in there.items()}
        self._empty = [path for part in found for path in folders(part) if not files(path)]
        classes = named.names if named else _agreed(spec, there)
        for part in found if named else ():
            for name in there[part.name]:
                check_name(f"{part / name} (the classes are from {named.origin})", "class", name, classes)
        counts = {name: len(paths) for name, paths in splits.items()}
        self.info = Info(spec, classes, counts, ("classification",))
        self.max_objects = 1

    def split(self, name: str, *, strict: bool = False, part: slice = slice(None)) -> Split:
        """The faultless pictures of one split, or of a part of its list."""
        check_split(self.info, name)
        self._tell_empty(strict)
        listed = self._splits[name][part]
        sizes = picture_sizes(listed, max_pixels=self._max_pixels)
        faults = Faults(f'{self.info.spec}, split "{name}"')
        kept = []
        for path, size in zip(listed, sizes, strict=True):
            if isinstance(size, DataError):
                faults.add(str(path), str(size), size.kind)
            else:
                kept.append((path, size))
        faults.close(len(listed), strict=strict)
        self._check_folders({path.parent for path in listed} - {path.parent for path, _ in kept})
        classes = [self.info.classes.index(path.parent.name) for path, _ in kept]
        return Split(
            name=name,
            boxes=None,
            classes=tuple(np.array([label], np.int32) for label in classes),
            names=tuple(str(path) for path, _ in kept),
            sizes=tuple(size for _, size in kept),
            read=lambda index: read_picture(kept[index][0], max_pixels=self._max_pixels),
        )

    def _tell_empty(self, strict: bool) -> None:
        """Tells of folders without any file: of splits that are drawn, none has them more than another."""
        faults = Faults(f"{self.info.spec}, all folders")
        for folder in self._empty:
            told = f"there is nothing in {folder}; expected pictures of its class, or no such folder"
            faults.add(str(folder), told, "missing")
        faults.close(len({path for paths in self._splits.values() for path in paths}), strict=strict)

    def _check_folders(self, missing: set[Path]) -> None:
        """Refuses a folder of which no picture is left, unless there are whole ones in other splits."""
        for folder in sorted(missing):
            if not any(_can_be_read(path, self._max_pixels) for path in files(folder)):
                told = f"{self.info.spec}: no picture of {folder} can be read"
                error = DataError(f"{told}; expected one at least, or no such folder", "unreadable")
                refuse(str(folder), error)


def _can_be_read(path: Path, max_pixels: int) -> bool:
    return not isinstance(picture_size(path, max_pixels=max_pixels), DataError)


def _classes_of(spec: str, directory: Path, max_pixels: int) -> dict[str, list[Path]]:
    """The files of each class that a directory has a folder for."""
    by_class = {path.name: files(path) for path in folders(directory)}
    if not by_class:
        raise DataError(f"{spec}: there is no folder of a class in {directory}; expected {_LAYOUT}")
    if not any(by_class.values()):
        raise DataError(f"{spec}: there is no picture in the folders of {directory}; expected {_LAYOUT}")
    for name, paths in by_class.items():
        if paths and not any(is_picture(path) or _can_be_read(path, max_pixels) for path in paths):
            raise DataError(f"{spec}: there is no picture in {directory / name}; expected those of its class")
    return by_class


def _agreed(spec: str, there: dict[str, list[str]]) -> tuple[str, ...]:
    """The classes, which all splits must have."""
    (first, classes), *others = ((split, tuple(by_class)) for split, by_class in there.items())
    for split, other in others:
        if other != classes:
            raise DataError(
                f"{spec}: the folders of {split} are {', '.join(other)}, but those of {first} are "
                f"{', '.join(classes)}; expected the same classes in every split, or all of them in classes="
            )
    return classes


def _alternating(by_class: dict[str, list[Path]]) -> list[Path]:
    """The files of all classes: each class spread evenly."""
    placed = [
        ((2 * place + 1) / (2 * len(paths)), natural(name), path)
        for name, paths in by_class.items()
        for place, path in enumerate(paths)
    ]
    return [path for *_, path in sorted(placed, key=lambda one: one[:2])]


def _drawn(by_class: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Splits where nobody made any, of each class in the same proportions."""
    splits: dict[str, dict[str, list[Path]]] = {}
    for name, paths in by_class.items():
        by_name = {f"{name}/{path.name}": path for path in paths}
        for split, drawn in draw_splits(by_name).items():
            splits.setdefault(split, {})[name] = [by_name[one] for one in sorted(drawn, key=natural)]
    return in_order({split: _alternating(of_split) for split, of_split in splits.items()})
