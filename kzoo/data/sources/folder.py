"""`"folder:DIR"`: folders of pictures, of one of two kinds, which is seen from what lies in them.

Classes as folders (`kzoo.data.sources.folder_classes`):

    DIR/SPLIT/CLASS/*                any names of splits
    DIR/CLASS/*                      splits are drawn, of each class a tenth

Pairs of pictures and label pictures of the same name (`kzoo.data.sources.folder_pairs`):

    DIR/SPLIT/image/NAME.*           and DIR/SPLIT/label/NAME.*
    DIR/image/NAME.*                 and DIR/label/NAME.*: splits are drawn

The two folders may also be called images, img or imgs, and labels, mask or masks, where most of the label
pictures have a picture of their name.

Options of pairs stand behind commas: `"folder:DIR,image=raw,label=masks,values=0:0+255:1"`.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from kzoo.data.class_names import by_value, written_classes
from kzoo.data.faults import DataError
from kzoo.data.paths import check_folder
from kzoo.data.pictures import EXTENSIONS
from kzoo.data.sources.source import Source
from kzoo.data.sources.spec_options import read_options

_OPTIONS = ("image", "label", "values")
_PAIRS = ("image", "images", "img", "imgs"), ("label", "labels", "mask", "masks")
SPLITS = ("train", "val", "test")  # what splits are called, in their order; there may be others
_LITTER = ("thumbs.db", "desktop.ini")  # what file managers leave behind


class Names(NamedTuple):
    """A list of classes, and where it is from."""

    names: tuple[str, ...]
    origin: str


def open_folder(
    spec: str, where: str, *, task: str | None, classes: tuple[str, ...] | None, max_pixels: int
) -> Source:
    """The source behind `"folder:..."`.

    Args:
        spec: the text that messages call it by.
        where: the directory, and the options behind it.
        task: what is to be learnt, as far as that is known.
        classes: names in the order of their numbers; by default those of classes.txt or labels.txt in DIR, or
            what the folders or the values are called.
        max_pixels: the most that a picture may have.

    Raises:
        DataError: there is no such directory, or nothing of either kind in it.
    """
    from kzoo.data.sources.folder_classes import FolderClasses
    from kzoo.data.sources.folder_pairs import FolderPairs

    directory, options = read_options(spec, where, _OPTIONS, "directory")
    expected = "a directory with classes as folders, or with image and label"
    if ",values=" in str(directory):
        expected = "VALUE:CLASS pairs joined by +, as in values=0:0+255:1"
    check_folder(spec, directory, expected)
    written = written_classes(directory) if classes is None else None
    named = Names(classes, "classes=") if classes else written and Names(written[0], str(written[1]))
    image, label = options.get("image", "image"), options.get("label", "label")
    places = [directory, *folders(directory)]
    if not options:
        image, label = _names_of_pair(spec, places, task) or (image, label)
    if options or any(os.path.isdir(place / side) for place in places for side in (image, label)):
        return FolderPairs(spec, directory, image, label, options.get("values"), named, max_pixels)
    if task == "segmentation":
        there = ", ".join(path.name for path in folders(directory)) or "no folder"
        raise DataError(
            f"{spec}: task={task!r} takes pictures and label pictures, but {directory} has neither image nor "
            f"label, but {there}; expected both, or their names, as in '{spec},image=raw,label=masks'"
        )
    return FolderClasses(spec, directory, named, max_pixels)


def _names_of_pair(spec: str, places: list[Path], task: str | None) -> tuple[str, str] | None:
    """What the folders of pictures and of label pictures are called, if they are called as most are.

    They are it where one folder of each is there, and most label pictures have a picture of their name. Where
    there is nothing else, but names differ, they are hardly classes.
    """
    found = set()
    for place in places:
        images, labels = ([name for name in names if os.path.isdir(place / name)] for names in _PAIRS)
        if not len(images) == len(labels) == 1:
            continue
        of_pictures, of_labels = (
            {path.stem for path in files(place / name) if is_picture(path)} for name in (*images, *labels)
        )
        both = len(of_pictures & of_labels)
        if 2 * both > len(of_labels):
            found.add((images[0], labels[0]))
        elif not of_labels or task == "classification" or (images, labels) == (["image"], ["label"]):
            continue  # of the last the faults are told one by one
        elif len(folders(place)) == 2:
            told = f"{place / images[0]} and {labels[0]} are called like pictures and label pictures, but"
            told = f"{told} {both} of {len(of_labels)} label pictures have a picture of their name"
            expected = "those of the same name, or task='classification' if these are classes"
            raise DataError(f"{spec}: {told}; expected {expected}")
    return found.pop() if len(found) == 1 else None


def folders(directory: Path) -> list[Path]:
    """The folders in a directory but hidden ones and litter, by name."""
    return sorted((path for path in _seen(directory) if path.is_dir()), key=lambda path: natural(path.name))


def files(directory: Path) -> list[Path]:
    """The files in a directory but hidden ones and litter, by name."""
    found = [path for path in _seen(directory) if path.is_file() and path.name.lower() not in _LITTER]
    return sorted(found, key=lambda path: natural(path.name))


def _seen(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if not path.name.startswith((".", "__MACOSX"))]


def is_picture(path: Path) -> bool:
    """Whether a file is called like a picture."""
    return path.suffix.lower() in EXTENSIONS


def natural(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """What names are sorted by, so that 2 comes before 10."""
    parts = re.split(r"(\d+)", name, flags=re.ASCII)  # text and digits by turns
    parts[1::2] = map(by_value, parts[1::2])
    return parts, name


def split_of_folder(folder: Path) -> str:
    """What the split of a folder is called, which Roboflow and others call "valid" where it is "val"."""
    return "val" if folder.name == "valid" and not (folder.parent / "val").exists() else folder.name


def in_order(splits: dict) -> dict:
    """Splits by name, but train, val and test before all others."""
    first = [name for name in SPLITS if name in splits]
    return {name: splits[name] for name in [*first, *sorted(splits.keys() - set(first), key=natural)]}
