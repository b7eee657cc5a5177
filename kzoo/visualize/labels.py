"""The class of a picture as a whole, written on it."""

import numpy as np
from PIL import ImageDraw

from kzoo.visualize.drawing import as_picture, draw_tag, font_of

RIGHT, WRONG, UNKNOWN = (30, 130, 60), (200, 30, 45), (50, 50, 50)
_LEAST = 8  # pixels of the text's height; names that are too long for it are cut short


def draw_label(
    image: np.ndarray, name: str, probability: float | None = None, right: bool | None = None
) -> np.ndarray:
    """A copy of a picture with its class written in the corner.

    Args:
        image: uint8 or float [H, W, 3], RGB, 0-255.
        name: of the class.
        probability: of the class, 0 to 1, where it is an answer.
        right: whether the answer is right: then the name stands on green, else on red. None: not known.

    Returns:
        uint8 [H, W, 3].

    Example:
        drawn = draw_label(image, "cat", 0.93, right=True)
    """
    picture = as_picture(image)
    draw = ImageDraw.Draw(picture)
    behind = "" if probability is None else f" {probability:.2f}"
    text_size = min(max(11, min(picture.size) / 16), 32)
    font = font_of(text_size)
    while text_size > _LEAST and font.getlength(name + behind) + 4 > picture.width:
        text_size -= 1
        font = font_of(max(text_size, _LEAST))
    text = name
    while text and font.getlength(text + behind) + 4 > picture.width:
        name = name[:-1]
        text = f"{name}…" if name else ""
    colour = UNKNOWN if right is None else RIGHT if right else WRONG
    draw_tag(draw, (0, 0), picture.size, (text + behind).strip(), colour, font)
    return np.asarray(picture)
