"""Which pictures and text files a directory of YOLO has, split by split, behind `"yolo:DIR"`."""

import os
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kzoo.data.class_names import check_classes, read_lines, written_classes
from kzoo.data.faults import DataError
from kzoo.data.pictures import EXTENSIONS
from kzoo.data.sources.folder import SPLITS, Names, files, folders, in_order, is_picture, natural
from kzoo.data.sources.source import draw_splits
from kzoo.data.sources.yolo_yaml import Description, read_description

IMAGES, LABELS = "images", "labels"
_DARKNET_NAMES = "obj.names"
# Text files beside pictures that are not about a picture of the same name.
_OTHERS = ("classes.txt", "labels.txt", "train.txt", "val.txt", "valid.txt", "test.txt")
_EXPECTED = (
    "data.yaml with train: and val:, or pictures and text files in images/SPLIT and labels/SPLIT, in "
    "SPLIT/images and SPLIT/labels, in images and labels, or side by side"
)


class Entry(NamedTuple):
    """A picture and its text file."""

    picture: str
    text: str | None  # None: a picture without objects
    fault: DataError | None = None


class Stray(NamedTuple):
    """A text file without a picture, or a picture that is in no split."""

    path: str
    fault: DataError


class _Found(NamedTuple):
    """What a split has."""

    entries: list[Entry]
    strays: list[Stray]


class Layout(NamedTuple):
    """What a directory has."""

    splits: dict[str, list[Entry]]
    strays: dict[str, list[Stray]]  # of each split
    outside: list[Stray]  # of none of them
    absent: dict[str, str]  # splits that are described but not there, and what is to be told of them
    named: Names | None
    keypoints: int


def find_layout(spec: str, directory: Path, description: Path | None = None) -> Layout:
    """The splits of a directory, by its description or else by its folders.

    Args:
        spec: the text that messages call it by.
        directory: which must be there.
        description: the file of that, where it is known.

    Raises:
        DataError: there are no pictures where they should be.
    """
    described = read_description(directory, description)
    if described and described.splits:
        (found, absent), outside = _described_splits(directory, described), []
        if not found:
            raise DataError(f"{spec}: {'; '.join(absent.values())}")
    else:
        (found, outside), absent = _splits_of_folders(directory), {}
    if not any(one.entries for one in found.values()):
        raise DataError(f"{spec}: there is no picture in {directory}; expected {_EXPECTED}")
    for name in [name for name, one in found.items() if one.strays and not one.entries]:
        told, *others = found.pop(name).strays
        more = f" (and {len(others)} more)" if others else ""
        absent[name] = f"{name} has no picture; {told.fault}{more}"
    splits = {name: one.entries for name, one in found.items()}
    strays = {name: one.strays for name, one in found.items()}
    named = _written_names(directory, described, splits)
    return Layout(splits, strays, outside, absent, named, described.keypoints if described else 0)


def _splits_of_folders(directory: Path) -> tuple[dict[str, _Found], list[Stray]]:
    """Splits by the names of folders, or drawn where there are none; and what is of none of them."""
    images, labels = directory / IMAGES, directory / LABELS
    if images.is_dir() and _is_divided(images):
        names = {folder.name for place in (images, labels) if place.is_dir() for folder in folders(place)}
        parts = {name: _pair(images / name, _text_folder(images / name)) for name in names}
        return in_order(parts), _beside(images, parts)
    if images.is_dir():
        return _drawn(directory, _pair(images, _text_folder(images)))
    parts = [folder for folder in folders(directory) if (folder / IMAGES).is_dir()]
    if parts:
        pictures = [folder / IMAGES for folder in parts]
        return in_order({one.parent.name: _pair(one, _text_folder(one)) for one in pictures}), []
    if not _is_divided(directory):
        return _drawn(directory, _pair(directory, directory))
    parts = {one.name: _pair(one, one) for one in folders(directory) if _has_pictures(one)}
    return in_order(parts), _beside(directory, parts)


def _is_divided(place: Path) -> bool:
    """Whether the folders in a place are splits; where pictures lie beside them only if one is called so."""
    if not _has_pictures(place):
        return True
    called = [one for one in folders(place) if one.name.lower().startswith(SPLITS)]
    return any(_walk(folder, EXTENSIONS) for folder in called)


def _beside(place: Path, splits: Iterable[str]) -> list[Stray]:
    """The pictures beside the folders of splits."""
    strays = []
    for path in filter(is_picture, files(place)):
        told = f"{path}: lies beside the folders of the splits; expected it in {' or '.join(sorted(splits))}"
        strays.append(Stray(str(path), DataError(told, "no_split")))
    return strays


def _has_pictures(folder: Path) -> bool:
    return any(is_picture(path) and not path.name.startswith(".") for path in folder.iterdir())


def _text_folder(pictures: Path) -> Path:
    """Where the text files of a folder of pictures are: `images` in its path is `labels` then."""
    parts = list(pictures.parts)
    for place in reversed(range(len(parts))):
        if parts[place] == IMAGES:
            parts[place] = LABELS
            found = Path(*parts)
            return found if os.path.isdir(found) else pictures
    return pictures


def _pair(pictures: Path, texts: Path) -> _Found:
    """The pictures below a folder, and the text files below another one that has the same paths in it."""
    of_pictures, of_texts = _walk(pictures, EXTENSIONS), _walk(texts, (".txt",))
    entries, strays = [], []
    for name in sorted(of_pictures.keys() | of_texts.keys(), key=natural):
        text = next(iter(of_texts.get(name, ())), None)
        found = of_pictures.get(name, ())
        if not found and not _is_other(text):
            told = f"{text}: its picture is missing; expected {pictures / name}.jpg or the like"
            strays.append(Stray(text, DataError(told, "no_picture")))
        for picture in found[:1]:
            entries.append(Entry(picture, text))
        for picture in found[1:]:
            told = f"{picture}: there is {os.path.basename(found[0])} too; expected one picture of each name"
            entries.append(Entry(picture, None, DataError(told, "duplicate")))
    return _Found(entries, strays)


def _is_other(text: str) -> bool:
    name = os.path.basename(text).lower()
    return name in _OTHERS or name.startswith("readme")


def _walk(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """The files below a folder by their paths in it without suffix.

    Hidden ones are left out. Links to folders are followed, but no folder is entered twice.
    """
    found, seen = defaultdict(list), set()
    for parent, inner, names in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(parent)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        prefix = os.path.relpath(parent, folder)
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes and not name.startswith("."):
                key = stem if prefix == os.curdir else f"{prefix}/{stem}"
                found[key].append(os.path.join(parent, name))
    return found


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise DataError(f"{error.filename}: {error.strerror}; expected a folder that may be read") from error


def _drawn(directory: Path, found: _Found) -> tuple[dict[str, _Found], list[Stray]]:
    """Splits where nobody made any, by paths in the directory, which are the same on every machine.

    Which of them a text file without a picture is of, nobody knows.
    """
    by_name = {entry.picture.removeprefix(f"{directory}{os.sep}"): entry for entry in found.entries}
    place = {name: number for number, name in enumerate(by_name)}
    drawn = draw_splits(by_name)
    parts = {name: [by_name[one] for one in sorted(drawn[name], key=place.get)] for name in drawn}
    return {name: _Found(part, []) for name, part in parts.items()}, found.strays


def _described_splits(directory: Path, described: Description) -> tuple[dict[str, _Found], dict[str, str]]:
    """The splits of a description that are there, and what is to be told of the others."""
    roots = [directory / described.root, directory]  # an absolute root stands alone
    splits, absent = {}, {}
    for name, paths in described.splits.items():
        splits[name] = _Found([], [])
        for path in paths:
            places = [root / path for root in roots]
            if path.startswith("../"):  # Roboflow writes what is beside the description so
                places += [root / path[3:] for root in roots]
            place = next((place for place in places if os.path.exists(place)), None)
            if place is None:
                tried = " or ".join(map(str, dict.fromkeys(places)))
                absent[name] = f"{described.path}: {name}: {path} is not there; expected {tried}"
            elif place.is_dir():
                entries, strays = _pair(place, _text_folder(place))
                splits[name] = _Found(splits[name].entries + entries, splits[name].strays + strays)
            elif place.is_file():
                splits[name].entries.extend(_listed(place, roots))
            else:
                absent[name] = (
                    f"{described.path}: {name}: {place} is neither a folder nor a file; expected one"
                )
    return {name: splits[name] for name in splits if name not in absent}, absent


def _listed(file: Path, roots: list[Path]) -> list[Entry]:
    """The pictures that a file lists, a path a line, from its own folder or that of the description."""
    roots = [*dict.fromkeys([file.parent, *roots])]
    text_folder = cache(lambda folder: str(_text_folder(Path(folder))))
    entries = []
    for line in read_lines(file):
        places = [os.path.normpath(os.path.join(root, line.replace("\\", "/"))) for root in roots]
        picture = next(filter(os.path.isfile, places), places[0])
        folder, name = os.path.split(picture)
        text = os.path.join(text_folder(folder), os.path.splitext(name)[0] + ".txt")
        entries.append(Entry(picture, text if os.path.isfile(text) else None))
    return entries


def _written_names(
    directory: Path, described: Description | None, splits: dict[str, list[Entry]]
) -> Names | None:
    """The names of classes, and where they are from, if any file tells them."""
    if described and described.names:
        return Names(described.names, str(described.path))
    texts = {os.path.dirname(entry.text) for entries in splits.values() for entry in entries if entry.text}
    for folder in dict.fromkeys([directory, directory / LABELS, *map(Path, sorted(texts))]):
        written = written_classes(folder)
        if written:
            return Names(written[0], str(written[1]))
        path = folder / _DARKNET_NAMES
        if path.is_file():
            return Names(check_classes(read_lines(path), str(path)), str(path))
    return None
