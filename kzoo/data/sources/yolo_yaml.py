"""The description of a data set of YOLO, `data.yaml`: classes, and where splits are."""

from pathlib import Path
from typing import NamedTuple

import yaml

from kzoo.data.class_names import check_classes
from kzoo.data.faults import DataError, shortened

_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_SPLITS = ("train", "val", "valid", "validation", "test")
_MOST_BYTES = 2**20


class Description(NamedTuple):
    """What a description says."""

    path: Path
    names: tuple[str, ...] | None
    root: str  # the folder that splits are in, "" for that of the description
    splits: dict[str, list[str]]  # what each split is: folders, or lists of pictures
    keypoints: int  # how many numbers of key points rows have behind the box


def read_description(directory: Path, file: Path | None = None) -> Description | None:
    """The description of a directory, if it has one.

    Args:
        directory: where one may lie.
        file: which it is, where that is known.

    Raises:
        DataError: it is no YAML, or does not say what it should.
    """
    path = file or next((directory / name for name in _FILES if (directory / name).is_file()), None)
    if path is None:
        return None
    found = _read_yaml(path)
    root = found.get("path") or ""
    if not _is_path(root):
        raise DataError(f"{path}: path: is not text; expected a folder")
    splits = {name: _read_paths(path, name, found[name]) for name in _SPLITS if found.get(name)}
    names = _read_names(path, found["names"]) if found.get("names") else None
    count = found.get("nc")
    if count is not None and names is None:
        if type(count) is not int or not 1 <= count <= _MOST_BYTES:
            raise DataError(f"{path}: nc: is not a number of classes; expected one, or names:")
        names = tuple(map(str, range(count)))
    if names and count not in (None, len(names)):
        raise DataError(f"{path}: nc: is not the number of names:, {len(names)}; expected the same")
    return Description(path, names, root, splits, _read_keypoints(path, found.get("kpt_shape")))


def _read_yaml(path: Path) -> dict:
    expected = "expected YAML with names:, train: and val:"
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise DataError(f"{path}: is of more than {_MOST_BYTES} bytes; {expected}")
        text = text.decode("utf-8-sig")
        # References to what stands elsewhere in the document can expand it without bound.
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise DataError(f"{path}: has aliases, which no description needs; {expected}")
        found = yaml.safe_load(text)
    except DataError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise DataError(f"{path}: {told}; {expected}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: is not a mapping; {expected}")
    return found


def _read_names(path: Path, found: object) -> tuple[str, ...]:
    """The names of classes, a list or a mapping from their numbers."""
    if isinstance(found, dict):
        numbers = [int(key) if _is_number(key) else -1 for key in found]
        if sorted(numbers) != list(range(len(numbers))):
            raise DataError(f"{path}: names: are not numbered 0, 1, 2, ...; expected each number once")
        found = [
            name for _, name in sorted(zip(numbers, found.values(), strict=True), key=lambda one: one[0])
        ]
    if not isinstance(found, list):
        raise DataError(f"{path}: names: is not a list; expected a name for each class")
    for number, name in enumerate(found):
        is_name = isinstance(name, str | float) or (type(name) is int and abs(name) < 2**63)
        if not is_name:
            told = shortened(name) if isinstance(name, bool | None) else "not text"
            raise DataError(
                f"{path}: names: {number} is {told}; expected a name, in quotes if YAML needs them"
            )
    return check_classes([str(name) for name in found], f"{path}: names:")


def _is_number(key: object) -> bool:
    return type(key) is int or (isinstance(key, str) and key.isdecimal() and len(key) < 10)


def _read_paths(path: Path, name: str, found: object) -> list[str]:
    paths = found if isinstance(found, list) else [found]
    if not all(map(_is_path, paths)):
        raise DataError(f"{path}: {name}: is not text; expected folders of pictures, or lists of them")
    return paths


def _is_path(found: object) -> bool:
    return isinstance(found, str) and "\0" not in found


def _read_keypoints(path: Path, found: object) -> int:
    """How many numbers the key points of an object are: their number times that of each."""
    if found is None:
        return 0
    is_shape = isinstance(found, list) and [type(one) for one in found] == [int, int]
    if not is_shape or not all(0 < one < 10_000 for one in found):
        raise DataError(f"{path}: kpt_shape: is not two numbers; expected those of key points, and of each")
    return found[0] * found[1]
