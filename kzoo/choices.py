"""The one way in which kzoo says that a name is not among the known ones."""

import difflib
import json
from collections.abc import Iterable


def check_choice(argument: str, value: object, known: Iterable[str]) -> None:
    """Raises a helpful error unless `value` is one of the known names.

    ```python
    check_choice("backbone", "resnet5", ["resnet50", "resnet34", "small"])
    # ValueError: backbone="resnet5": unknown. Nearest: "resnet50", "resnet34". Known: "resnet50", ...
    ```

    Args:
        argument: name of what was given, as the reader knows it: an argument, an option, "class".
        value: what was given. Anything but a string is unknown.
        known: the names that are right, in the order in which the error lists them.

    Raises:
        ValueError: `value` is not in `known`. The message has the value, up to three near names
            and all known ones.
    """
    known = list(known)
    if isinstance(value, str) and value in known:
        return
    message = f"{argument}={_quote(value)}: unknown."
    nearest = _nearest(value, known) if isinstance(value, str) else []
    if nearest:
        message += f" Nearest: {', '.join(map(_quote, nearest))}."
    raise ValueError(f"{message} Known: {', '.join(map(_quote, known)) or 'none'}.")


def _nearest(value: str, known: list[str]) -> list[str]:
    """Up to three known names that look like `value`, whatever their case."""
    by_lower_case = {name.lower(): name for name in known}
    return [by_lower_case[name] for name in difflib.get_close_matches(value.lower(), by_lower_case, n=3)]


def _quote(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
