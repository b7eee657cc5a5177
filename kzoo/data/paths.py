"""Text that people give for a path, as the path."""

import os
from pathlib import Path

from kzoo.data.faults import DataError, shortened


def read_path(spec: str, text: str) -> Path:
    """The path that a text names, with `~` for the home. Nothing need be there.

    Args:
        spec: the text that messages call the data by.
        text: the path.

    Raises:
        DataError: no path can be called so, or it leads where nobody may look.
    """
    path = Path(os.path.expanduser(text))  # Path's own raises for users that there are not
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise DataError(f"{shortened(spec)}: {told}; expected a path that may be read") from error
    return path


def is_there(text: str) -> bool:
    """Whether there is anything at the path that a text names."""
    return os.path.exists(os.path.expanduser(text))


def check_folder(spec: str, path: Path, expected: str) -> None:
    """Refuses a path that is no directory.

    Args:
        spec: the text that messages call the data by.
        path: which should be one.
        expected: what it should be, for the message.
    """
    if not path.is_dir():
        found = "is not a directory" if path.exists() else "does not exist"
        raise DataError(f"{spec!r}: {path} {found}; expected {expected}")
