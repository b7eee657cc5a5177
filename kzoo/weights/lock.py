"""One process at a time: a lock that the operating system takes back when its holder dies."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def _acquire(file: BinaryIO) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _release(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _acquire(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock of a file, after waiting for whoever holds it.

    The file is made, and stays: were it deleted, one process could hold the lock of the deleted file and
    another that of a new one.

    Args:
        path: the file that stands for the lock, in a folder that exists.
        waiting: called once if another holds the lock.
    """
    with path.open("ab") as file:
        if not _acquire(file):
            waiting()
            while not _acquire(file):
                time.sleep(0.1)
        try:
            yield
        finally:
            _release(file)
