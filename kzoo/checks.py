"""Checks of what kzoo is given, at its edges. An error has the argument, what it got and what is right."""

import difflib
import json
import os
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path


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


def check_boolean(option: str, value: object) -> None:
    """Raises a `ValueError` unless `value` is True or False; text such as "no" would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"{option}={value!r}: True or False is expected.")


def check_integer(option: str, value: object, least: int) -> None:
    """Raises a `ValueError` unless `value` is a whole number of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{option}={value!r}: a whole number of at least {least} is expected.")


def check_number(option: str, value: object, least: float, most: float = float("inf")) -> None:
    """Raises a `ValueError` unless `value` is a number from `least` to `most`; NaN and infinity are none."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not least <= value <= most or value == float("inf"):
        expected = f"of at least {least}" if most == float("inf") else f"from {least} to {most}"
        raise ValueError(f"{option}={value!r}: a number {expected} is expected.")


def check_numbers(option: str, values: object, most: int | None = None) -> None:
    """Raises a `ValueError` unless `values` is a sequence of 1 to `most` positive, finite numbers."""
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    if not is_list or not values or (most is not None and len(values) > most):
        count = "one or more" if most is None else f"1 to {most}"
        raise ValueError(f"{option}={values!r}: a list of {count} numbers is expected.")
    for value in values:
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise ValueError(f"{option}={values!r}: {value!r} is in it, but positive numbers are expected.")


def check_normalization(
    normalization: object, option: str = "normalization", known: Sequence[str] = ("batch",)
) -> None:
    """Raises a `ValueError` unless `normalization` is None or one of the known kinds."""
    if normalization is not None and normalization not in known:
        kinds = "".join(f', "{kind}"' for kind in known[:-1])
        raise ValueError(f'{option}={normalization!r}: None{kinds} or "{known[-1]}" is expected.')


def check_input_shape(input_shape: object, stride: int) -> None:
    """Raises a `ValueError` unless pictures of this shape suffice for a network.

    Args:
        input_shape: what was given; `(height, width, 3)` in pixels is right, with None for any.
        stride: pixels a cell of the network's coarsest feature map: the least height and width.
    """
    is_shape = (
        isinstance(input_shape, Sequence) and not isinstance(input_shape, str) and len(input_shape) == 3
    )
    sides = input_shape[:2] if is_shape else ()
    if not is_shape or input_shape[2] != 3 or not all(_is_side(side) for side in sides):
        raise ValueError(
            f"input_shape={input_shape!r}: (height, width, 3) is expected, in pixels, with None for any "
            f"height or width; the least is ({stride}, {stride}, 3)."
        )
    if any(side is not None and side < stride for side in sides):
        raise ValueError(
            f"input_shape={input_shape!r}: too small for the coarsest level, whose stride is {stride}; "
            f"the least is ({stride}, {stride}, 3). Give larger pictures, or ask for fewer levels "
            "if the model has a choice."
        )


def check_resize(resize: object) -> None:
    """Raises a `ValueError` unless `resize` is None or two lengths in pixels, the shorter side's first."""
    if resize is None:
        return
    is_pair = isinstance(resize, Sequence) and not isinstance(resize, str) and len(resize) == 2
    if (
        not is_pair
        or None in resize
        or not all(_is_side(side) for side in resize)
        or not 1 <= resize[0] <= resize[1]
    ):
        raise ValueError(
            f"resize={resize!r}: (shorter, longest) is expected, the pixels of the shorter side and the most "
            "that the longer side may have, as in (800, 1333)."
        )


def check_known_size(input_shape: Sequence[int | None], what: str) -> None:
    """Raises a `ValueError` unless height and width are known, which `what` needs."""
    if None in input_shape[:2]:
        raise ValueError(
            f"input_shape={tuple(input_shape)!r}: {what} needs to know height and width, as in "
            "(128, 128, 3); kzoo.data.load(..., image_size=(128, 128)) fits pictures into one size."
        )


def _is_side(side: object) -> bool:
    return side is None or (isinstance(side, Integral) and not isinstance(side, bool))


def check_directory(directory: Path, argument: str = "directory") -> None:
    """Raises an error unless `directory` is one or can be made.

    Args:
        directory: the path; it need not be there.
        argument: what the caller calls it.

    Raises:
        ValueError: it is a file, or lies in one, or may not be written to.
    """
    for path in (directory, *directory.parents):
        if path.is_dir():
            if not os.access(path, os.W_OK):
                raise ValueError(f"{argument}={str(directory)!r}: {str(path)!r} may not be written to.")
            return
        if path.exists():
            raise ValueError(
                f"{argument}={str(directory)!r}: {str(path)!r} is a file; give the path of a folder."
            )


def listed(names: Iterable[object], most: int | None = None) -> str:
    """Names as a message has them: `"a, b, c and 4 more"`, and `"none"` of none.

    Args:
        names: what is listed.
        most: how many are named; None is all.
    """
    names = list(map(str, names))
    more = f" and {len(names) - most} more" if most is not None and len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
