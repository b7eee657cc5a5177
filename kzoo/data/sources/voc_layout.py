"""Where things lie in the layout of Pascal VOC, and what its lists say."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from kzoo.data.class_names import read_lines
from kzoo.data.faults import DataError, Faults
from kzoo.data.pictures import EXTENSIONS
from kzoo.data.sources.folder import folders, in_order, is_picture, split_of_folder

LABELS = "SegmentationClass"  # the folder of label pictures


def has_labels(directory: Path) -> bool:
    """Whether there are label pictures, which tell the class of each pixel."""
    return (directory / LABELS).is_dir() and bool(index_pictures(directory / LABELS))


def find_annotations(directory: Path) -> list[Path]:
    """The annotations, in a folder of their own or in the directory itself."""
    return sorted(first_folder(directory / "Annotations", directory).glob("*.xml"), key=str)


def find_split_folders(directory: Path) -> dict[str, Path]:
    """The folders that have pictures and annotations side by side, by their splits."""
    found = {split_of_folder(path): path for path in folders(directory) if any(path.glob("*.xml"))}
    return in_order({name: path for name, path in found.items() if any(map(is_picture, path.iterdir()))})


def find_voc(spec: str, directory: Path) -> Path:
    """The directory in the layout of VOC: itself, or the only one in it or in a VOCdevkit in it.

    Raises:
        DataError: there are several.
    """
    if find_annotations(directory) or has_labels(directory) or find_split_folders(directory):
        return directory
    inner = [
        path for place in (directory, directory / "VOCdevkit") if place.is_dir() for path in folders(place)
    ]
    found = [path for path in inner if (path / "Annotations").is_dir() or has_labels(path)]
    if len(found) > 1:
        offered = " or ".join(f"'voc:{path}'" for path in found)
        raise DataError(
            f"{spec}: there are {len(found)} folders of Pascal VOC in it; expected one: {offered}"
        )
    return found[0] if found else directory


def first_folder(wanted: Path, otherwise: Path) -> Path:
    """The wanted folder if it is there."""
    return wanted if wanted.is_dir() else otherwise


def index_pictures(folder: Path) -> dict[str, list[Path]]:
    """The picture files of a folder by their names, with and without extension."""
    index = defaultdict(list)
    for path in sorted(folder.iterdir(), key=str):
        stem, extension = os.path.splitext(path.name)
        if extension.lower() in EXTENSIONS:
            index[stem].append(path)
            index[path.name].append(path)
    return dict(index)


def match_picture(picture: str, filename: str, index: dict[str, list[Path]]) -> Path | None:
    """An annotation's picture: the file of the same name, or else the one that it names.

    In this order because a picture and its annotation are renamed together, but not what is written inside.
    """
    filename = re.split(r"[/\\]", filename)[-1]
    same_name = index.get(picture, [])
    named = index.get(filename, []) or index.get(Path(filename).stem, [])
    both = [path for path in same_name if path in named]
    return next(iter([*both, *same_name, *named]), None)


def read_splits(folder: Path) -> dict[str, list[str]]:
    """Names of pictures by split, of all files of the folder that list a split."""
    splits = {}
    for path in sorted(folder.glob("*.txt")) if folder.is_dir() else ():
        lines = read_lines(path)
        of_one_class = "_" in path.stem and all(re.fullmatch(r"\S+\s+(-1|0|1)", line) for line in lines)
        if not lines or not of_one_class:
            splits[path.stem] = lines
    return splits


def each_once(split: str, listed: Sequence[str], part: slice, faults: Faults) -> list[str]:
    """A part of the names that a split lists, each once; a fault is added for what is listed again."""
    times = Counter(listed)  # in the order of the list
    names = list(times)[part]
    for name in names:
        if times[name] > 1:
            told = f"{name} is listed {times[name]} times in the split {split}; expected once"
            faults.add(name, told, "duplicate")
    return names
