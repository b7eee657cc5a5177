"""What is wrong with a file of weights."""

_LONGEST_SHOWN = 200


class WeightsError(ValueError):
    """A file of weights is broken, is another than it should be, or cannot be had."""


def shown(name: str) -> str:
    """A name out of a file, as messages have it: escaped where not printable, and cut.

    Files come from anywhere, and what they call their weights is shown on a terminal.
    """
    start = name[: _LONGEST_SHOWN + 1]
    if not start.isprintable():
        start = ascii(start)[1:-1]
    return start if len(start) <= _LONGEST_SHOWN else start[: _LONGEST_SHOWN - 3] + "..."
