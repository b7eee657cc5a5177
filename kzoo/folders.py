"""Folders to write to, checked before the work whose result goes there."""

from pathlib import Path


def check_directory(directory: Path, argument: str = "directory") -> None:
    """Raises an error unless `directory` is one or can be made.

    Args:
        directory: the path; it need not be there.
        argument: what the caller calls it.

    Raises:
        ValueError: it is a file, or lies in one.
    """
    for path in (directory, *directory.parents):
        if path.is_dir():
            return
        if path.exists():
            raise ValueError(
                f"{argument}={str(directory)!r}: {str(path)!r} is a file; give the path of a folder."
            )
