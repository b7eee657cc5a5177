"""The size that pictures are fitted into before a model is asked about them."""

from kzoo.checks import check_integer


def check_image_size(image_size: object, where: str = "") -> None:
    """Raises an error unless this is a height and a width in whole pixels.

    Args:
        image_size: what was given.
        where: what the message begins with, such as the file that it is from.

    Raises:
        ValueError: it is something else.
    """
    told = f"{where}image_size={image_size!r}"
    if not isinstance(image_size, tuple | list) or len(image_size) != 2:
        raise ValueError(f"{told}: give (height, width) in whole pixels.")
    for side in image_size:
        check_integer(f"{told}, where a side", side, least=1)
