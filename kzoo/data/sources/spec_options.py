"""Options behind the commas of a spec, as in `"folder:DIR,image=raw,label=masks"`."""

import re
from collections.abc import Sequence
from pathlib import Path

from kzoo.data.faults import DataError
from kzoo.data.paths import is_there, read_path
from kzoo.data.sources.source import check_name


def read_options(spec: str, where: str, known: Sequence[str], place: str) -> tuple[Path, dict[str, str]]:
    """A path, whose name may have commas, and the options behind it.

    Args:
        spec: the text that messages call the data by.
        where: what stands behind the scheme.
        known: the names that options may have.
        place: what the path is of, "directory" or "file".

    Raises:
        DataError: no path, an unknown option, one that is there twice, or one that says nothing.
    """
    options = {}
    while not is_there(where) and (match := re.fullmatch(r"(.*),([^,=/]*)=([^,]*)", where)):
        where, option, value = match.groups()
        check_name(spec, "option", option.strip(), known)
        if option.strip() in options:
            raise DataError(f"{spec!r} has the option {option.strip()} twice; expected once")
        if not value.strip():
            raise DataError(f"{spec!r} has nothing behind {option.strip()}=; expected what it is to be")
        options[option.strip()] = value.strip()
    if not where:
        expected = {"directory": "DIR", "file": "FILE"}[place]
        raise DataError(f"{spec!r} lacks the {place}; expected '{spec.partition(':')[0]}:{expected}'")
    return read_path(spec, where), options
