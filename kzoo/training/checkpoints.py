"""Checkpoints: files that are whole or not there, of which the last few are kept."""

import contextlib
import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kzoo.data.faults import DataWarning

_FACTS = "facts.json"
_NAME = re.compile(r"step-(\d+)\.npz")


class Checkpoint(NamedTuple):
    """What was saved, and where it lies."""

    path: Path
    arrays: dict[str, np.ndarray]
    facts: dict[str, object]


class DamagedCheckpoint(ValueError):
    """A checkpoint that cannot be read any more, or not any more in whole."""


class Checkpoints:
    """A folder of checkpoints, `step-00000100.npz` and so on.

    A file is written under another name, brought to the disk and then renamed: one that has its name is
    whole, whenever the machine stops. `numpy.load` reads the arrays; each has a checksum, which `load` looks
    at.

    Args:
        directory: made when the first one is saved.
        keep: how many are kept, the latest ones.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 3) -> None:
        self.directory = Path(directory)
        self.keep = keep

    def save(self, step: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> Path:
        """Saves one, and then takes away those beyond the latest, and those of later steps.

        The latter are there where one was damaged and a run went on from the one before it.

        Args:
            step: how many steps were taken.
            arrays: name -> array.
            facts: what else is to be known, of what JSON can tell.

        Raises:
            OSError: it cannot be written, as on a full disk. Those before it are whole.
        """
        path = self.directory / f"step-{step:08d}.npz"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with whole_or_not(path) as partial:
                _write(partial, arrays, {**facts, "step": step, "arrays": len(arrays)})
        except OSError as error:
            before = self.paths()
            left = f"{before[0]} is whole, and training goes on from it" if before else "there is none before"
            raise OSError(f"{path}: not saved: {error.strerror or error}; {left}.") from error
        for later in self.paths()[: self.paths().index(path)]:
            later.unlink(missing_ok=True)
        self.prune(self.keep)
        return path

    def latest(self) -> Checkpoint | None:
        """The latest one that can be read, None if there is none; a warning names those that cannot.

        Raises:
            DamagedCheckpoint: there are some, and none can be read.
        """
        paths = self.paths()
        for number, path in enumerate(paths, start=1):
            try:
                return load(path)
            except DamagedCheckpoint as error:
                if number == len(paths):
                    raise DamagedCheckpoint(
                        f"{error} None before it can be read; --no-resume begins anew."
                    ) from None
                warnings.warn(f"{error} The one before it is taken.", DataWarning, stacklevel=2)
        return None

    def prune(self, keep: int) -> None:
        """Takes away all but the latest `keep`, and what was left half written."""
        for path in [*self.paths()[keep:], *self.directory.glob("step-*.partial.npz")]:
            path.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """Those that there are, the latest first."""
        found = ((_NAME.fullmatch(path.name), path) for path in self.directory.glob("step-*.npz"))
        return [
            path for name, path in sorted(found, key=lambda one: -int(one[0][1]) if one[0] else 0) if name
        ]


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint, each array checked against its sum.

    Raises:
        DamagedCheckpoint: it is not whole. Names the file.
        OSError: it is not there, or may not be read.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                facts = json.loads(archive.read(_FACTS))
                arrays = {  # `read` looks at the sum, which reading an array piece by piece may not
                    name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)))
                    for name in archive.namelist()
                    if name != _FACTS
                }
        except Exception as error:  # on broken files zipfile and NumPy raise nearly anything, also OSError
            raise DamagedCheckpoint(f"{path}: a damaged checkpoint ({error}).") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("step"), int):
        raise DamagedCheckpoint(f"{path}: a damaged checkpoint (it does not tell its step).")
    if facts.pop("arrays", None) != len(arrays):  # the list of what is in the file has no sum of its own
        raise DamagedCheckpoint(f"{path}: a damaged checkpoint (not all arrays are found).")
    return Checkpoint(path, arrays, facts)


def _write(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> None:
    with open(path, "wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_FACTS, json.dumps(facts))
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def whole_or_not(path: Path) -> Iterator[Path]:
    """Another name to write under, of the same ending, which becomes the path's once all is written."""
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # not every file system has folders to bring to the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
