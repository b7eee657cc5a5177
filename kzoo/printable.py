"""Text that others wrote, as the names of files and classes, made fit to be shown."""

import re

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # control characters but tabs and ends of lines


def printable(text: str, encoding: str | None = None) -> str:
    r"""Text that can be printed whatever is in it, such as the names of files.

    Args:
        text: to print.
        encoding: of the stream that it goes to; by default UTF-8.

    Returns:
        The text with `\x1b` and the like in place of what steers terminals, and of what cannot be encoded.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    encoding = encoding or "utf-8"
    told = _STEERING.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return told.encode(encoding, "backslashreplace").decode(encoding)
