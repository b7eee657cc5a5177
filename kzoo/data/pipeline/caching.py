"""Keeps pictures as they were read, each by its place in the split, so that any order finds them.

In a folder there is a file for each picture, with checksums, and nothing in it is evaluated. It is of use
only to who would read the same: with the same settings, and of a picture whose file and labels are those of
then. Else, or if it is damaged, the picture is read anew and the file written anew. Several processes may
share the folder: a file is written under another name and then put in its place.
"""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kzoo.data.faults import DataError
from kzoo.data.paths import read_path
from kzoo.data.pipeline.reading import Reader
from kzoo.data.sources import Split

_MARK = "of"  # the part of a file that tells what it was made from


def in_memory(reader: Reader) -> Reader:
    """What reads each picture once and keeps it."""
    kept = {}

    def arrays(index):
        found = kept.get(index)
        return kept.setdefault(index, reader.arrays(index)) if found is None else found

    return replace(reader, arrays=arrays)


def in_folder(reader: Reader, folder: str | Path, split: Split, settings: object) -> Reader:
    """What reads each picture once and keeps it in a file.

    Args:
        reader: that reads them.
        folder: made if it is not there. Pictures read with other settings may lie in it, too.
        split: the pictures.
        settings: whatever else what is read depends on; they are told apart by how they print.

    Raises:
        DataError: the folder cannot be made or written to.
    """
    folder = read_path(f"cache={str(folder)!r}", str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        told = error.strerror or error
        raise DataError(f"cache={str(folder)!r}: {told}; expected a folder to write to") from None
    label_state = split.label_state if "labels" in reader.parts else None
    read_labels = split.read_labels if "labels" in reader.parts and not label_state else None
    read_masks = split.read_masks if {"masks", "borders"} & reader.parts.keys() else None
    of_labels = {}

    def mark_of(index: int) -> np.ndarray:
        if index not in of_labels:
            of_labels[index] = _digest_labels(split, index, read_masks, read_labels)
        state = label_state(index) if label_state else ""
        # A picture that lies within another file is told by its bytes.
        within = split.read_bytes(index) if split.read_bytes else None
        mark = _digest(of_labels[index], state, within or b"", *_state(split.names[index]))
        return np.frombuffer(mark, np.uint8)

    def arrays(index: int) -> list[np.ndarray]:
        name = _digest(repr(settings), split.names[index]).hex()
        path, mark = folder / name[:2] / f"{name}.npz", mark_of(index)
        found = _load(path, mark, reader)
        if found is None:
            found = reader.arrays(index)
            _save(path, dict(zip(reader.parts, found, strict=True)) | {_MARK: mark})
        return found

    return replace(reader, arrays=arrays)


def _digest_labels(
    split: Split, index: int, read_masks: Callable | None, read_labels: Callable | None
) -> bytes:
    """What the labels of a picture are, shortened."""
    of_objects = (None if split.boxes is None else split.boxes[index].tolist(), split.classes[index].tolist())
    masks = read_masks and read_masks(index)
    labels = read_labels and read_labels(index)
    return _digest(repr(of_objects), repr(masks), b"" if labels is None else labels.tobytes())


def _state(name: str) -> tuple[str, ...]:
    """What tells that a picture's file was changed; nothing of a picture that is not a file of its own."""
    try:
        found = os.stat(name)
    except (OSError, ValueError):
        return ()
    return str(found.st_size), str(found.st_mtime_ns)


def _digest(*parts: str | bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        content = os.fsencode(part)
        digest.update(len(content).to_bytes(8) + content)
    return digest.digest()


def _load(path: Path, mark: np.ndarray, reader: Reader) -> list[np.ndarray] | None:
    """The parts of a picture, None if the file is not there, damaged, or of what is not so any more."""
    try:
        with open(path, "rb") as stored, np.load(stored, allow_pickle=False) as file:
            if not np.array_equal(file[_MARK], mark):
                return None
            parts = [file[name] for name in reader.parts]
    except Exception:  # on broken files NumPy and its zipfile raise nearly anything
        return None
    fits = all(
        part.dtype == dtype.as_numpy_dtype
        and part.ndim == len(shape)
        and all(want in (None, have) for want, have in zip(shape, part.shape, strict=True))
        for part, (dtype, shape) in zip(parts, reader.parts.values(), strict=True)
    )
    return parts if fits else None


def _save(path: Path, parts: dict[str, np.ndarray]) -> None:
    """Writes a file whole or not at all; where that cannot be, it is told and goes on without."""
    partial = None
    try:
        path.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            partial = file.name
            np.savez(file, **parts)
        os.replace(partial, path)
    except OSError as error:
        if partial:
            Path(partial).unlink(missing_ok=True)
        warnings.warn(f"{path.parent.parent}: pictures are not kept: {error.strerror or error}", stacklevel=2)
