"""The checks that the builders' options share. Each names the option, what it got and what it takes."""

from collections.abc import Sequence
from numbers import Integral, Real


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


def check_normalization(normalization: object) -> None:
    """Raises a `ValueError` unless `normalization` is None or `"batch"`."""
    if normalization not in (None, "batch"):
        raise ValueError(f'normalization={normalization!r}: None or "batch" is expected.')


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
            f"the least is ({stride}, {stride}, 3). Give larger pictures, or ask for fewer levels."
        )


def _is_side(side: object) -> bool:
    return side is None or (isinstance(side, Integral) and not isinstance(side, bool))
