"""The files of COCO's instances behind `"coco:..."`: where they lie, and what they hold."""

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kzoo.data.class_names import check_classes
from kzoo.data.faults import DataError, shortened
from kzoo.data.paths import check_folder, is_there, read_path
from kzoo.data.sources.folder import in_order, split_of_folder

_PREFIX = "instances_"
ROBOFLOW = "_annotations.coco.json"  # in each folder of pictures
_FEW_PIXELS = 4  # a side of a picture in which a box may well be of one pixel


@dataclass(frozen=True)
class Instances:
    """What a file has."""

    path: Path
    classes: dict[int, str]  # by id of the category, ids ascending
    pictures: list[dict]
    annotations: dict[object, list[dict]]  # by id of the picture, which need not be there


def find_directory(spec: str, where: str) -> tuple[Path, Path | None]:
    """The directory that a spec names, and the file of instances, if it names one.

    Args:
        spec: the text that messages call the data by.
        where: what stands behind the scheme.

    Raises:
        DataError: there is no such directory.
    """
    if not where:
        expected = "'coco:DIR' or 'coco:INSTANCES.json,IMAGE_DIR'"
        raise DataError(f"{spec!r} lacks the directory; expected {expected}")
    file, comma, pictures = where.partition(",")
    if comma and not (file and pictures):
        missing = "directory behind" if file else "file before"
        raise DataError(f"{spec!r} lacks the {missing} the comma; expected 'coco:INSTANCES.json,IMAGE_DIR'")
    if not comma or is_there(where):
        directory = read_path(spec, where)
        expected = "a directory with instances_SPLIT.json, or INSTANCES.json,IMAGE_DIR"
        check_folder(spec, directory, expected)
        return directory, None
    directory = read_path(spec, pictures)
    check_folder(spec, directory, "the directory of the pictures behind the comma")
    return directory, read_path(spec, file)


def find_files(spec: str, directory: Path) -> dict[str, tuple[Path, list[Path]]]:
    """The file of each split, and where its pictures may be."""
    images = directory / "images"
    for folder in (directory, directory / "annotations"):
        named = {path.stem.removeprefix(_PREFIX): path for path in sorted(folder.glob(f"{_PREFIX}?*.json"))}
        if named:
            return {
                name: (path, [directory / name, images / name, images, directory])
                for name, path in named.items()
            }
    found = {split_of_folder(path.parent): (path, [path.parent]) for path in directory.glob(f"*/{ROBOFLOW}")}
    if found:
        return in_order(found)
    others = [path for folder in (directory, directory / "annotations") for path in folder.glob("*.json")]
    offered = f"'coco:{min(others)},IMAGE_DIR'" if others else "'coco:INSTANCES.json,IMAGE_DIR'"
    raise DataError(
        f"{spec}: there is no {_PREFIX}SPLIT.json in {directory} or {directory / 'annotations'}, and no "
        f"SPLIT/{ROBOFLOW}; expected one for each split, such as instances_train.json, or one file alone "
        f"as {offered}"
    )


def as_number(found: object) -> float:
    """A number of JSON, NaN for anything else."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return math.nan
    try:
        return float(found)
    except OverflowError:
        return math.inf


def read_instances(path: Path) -> Instances:
    """A file of instances, of which the layout is checked, but not what single annotations say."""
    try:
        state = path.stat()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; expected COCO's instances as JSON") from None
    except OSError as error:
        raise DataError(f"{path}: {error}; expected COCO's instances as JSON") from error
    return _parse_version(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)  # the splits that a recipe opens, one after the other, have the same files
def _parse_version(path: Path, modified: int, size: int) -> Instances:
    """One version of a file: the last two arguments only tell it apart from others."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}; expected COCO's instances as JSON") from error
    parts = ("images", "annotations", "categories")
    for part in parts:
        entries = found.get(part) if isinstance(found, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{path}: has no list of objects `{part}`; expected {', '.join(parts)}")
        for number, entry in enumerate(entries, 1):
            if type(entry.get("id")) is not int:
                told = f"{path}: the id of entry {number} of `{part}` is {shortened(entry.get('id'))}"
                raise DataError(f"{told}; expected an integer")
    for part, key in (("images", "file_name"), ("categories", "name")):
        for entry in found[part]:
            if not _is_text(entry.get(key)):
                told = f"{path}: the {key} of {entry['id']} in `{part}` is {shortened(entry.get(key))}"
                raise DataError(f"{told}; expected text")
    categories = sorted(found["categories"], key=lambda category: category["id"])
    check_classes([category["name"] for category in categories], f"{path}: `categories`")
    classes = {category["id"]: category["name"] for category in categories}
    if len(classes) < len(categories):
        ids = [category["id"] for category in categories]
        raise DataError(f"{path}: `categories` have the ids {shortened(ids)}; expected each id once")
    _refuse_shares(path, found["images"], found["annotations"])
    annotations = defaultdict(list)
    for annotation in found["annotations"]:
        picture = annotation.get("image_id")
        annotations[picture if type(picture) is int else repr(picture)].append(annotation)
    return Instances(path, classes, found["images"], dict(annotations))


def _refuse_shares(path: Path, pictures: list[dict], annotations: list[dict]) -> None:
    """Refuses boxes of which most lie within the first pixel, as shares of a picture do."""
    boxes = [one["bbox"] for one in annotations if one.get("bbox")]
    within = [box for box in boxes if isinstance(box, list) and len(box) == 4 and _is_within_a_pixel(box)]
    sides = [max(map(as_number, (one.get("width"), one.get("height")))) for one in pictures]
    if 2 * len(within) > len(boxes) and not all(side <= _FEW_PIXELS for side in sides):
        told = f"{path}: {len(within)} of {len(boxes)} boxes reach no farther than pixel 1, as {within[0]}"
        raise DataError(f"{told}; expected pixels, not shares of the picture")


def _is_within_a_pixel(box: list) -> bool:
    if not as_number(box[2]) <= 1:  # as of nearly all that are in pixels
        return False
    x, y, width, height = map(as_number, box)
    return x >= 0 and y >= 0 and width > 0 and height > 0 and max(x + width, y + height) <= 1.001


def _is_text(found: object) -> bool:
    """Whether it is a name that files and messages can have."""
    return isinstance(found, str) and re.fullmatch("[^\0\ud800-\udfff]+", found) is not None
