"""Numbers as files write them."""


def read_number(text: str) -> float:
    """The number that a text is.

    Raises:
        ValueError: it is none. Python's own reading allows `1_0`, which is a slip in a file of data.
    """
    if "_" in text:
        raise ValueError(f"{text!r} is no number")
    return float(text)
