"""The classes of pixels, drawn into pictures."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from kzoo.visualize.drawing import as_picture, legend, name_of, pixel_colour

FILL = 0.55  # how much of a class's colour lies over its pixels
IGNORED = -1
IGNORED_COLOUR = (150, 150, 150)


def draw_classes(
    image: np.ndarray, classes: np.ndarray, names: Sequence[str], with_legend: bool = True
) -> np.ndarray:
    """A copy of a picture with its pixels tinted in the colours of their classes.

    Class 0 is left as it is where its name is "background". Pixels of class -1, which are ignored, are
    hatched in grey. An object has the same colour here and in `draw_detections`.

    Args:
        image: uint8 or float [H, W, 3], RGB, 0-255.
        classes: integers [H, W], the class of each pixel.
        names: of the classes. A class without a name is told by its number.
        with_legend: whether the names of the classes that are there stand beneath the picture.

    Returns:
        uint8 [H, W, 3]; with a legend it is higher.

    Raises:
        ValueError: picture and classes differ in size.

    Example:
        drawn = draw_classes(image, model.predict(image[None])["classes"][0], ("background", "cell"))
        PIL.Image.fromarray(drawn).save("drawn.png")
    """
    pixels, classes = np.array(as_picture(image)), np.asarray(classes)
    if classes.shape != pixels.shape[:2]:
        raise ValueError(f"classes: shape {classes.shape}, but the picture has {pixels.shape[:2]}.")
    # Over grey, because the colours of the picture would mix with those of the classes.
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    present = np.unique(classes).tolist()
    for label in present:
        colour = pixel_colour(label, names) if label >= 0 else None
        if colour is not None:
            of_it = classes == label
            pixels[of_it] = np.round((1 - FILL) * grey[of_it, None] + FILL * np.array(colour))
    pixels[(classes < 0) & _hatching(classes.shape)] = IGNORED_COLOUR
    if not with_legend:
        return pixels
    text_size = min(max(10, min(pixels.shape[:2]) / 24), 20)
    strip = class_legend(present, names, pixels.shape[1], text_size)
    return np.concatenate([pixels, np.asarray(strip)])


def class_legend(
    classes: Iterable[int], names: Sequence[str], width: int, text_size: float = 14
) -> Image.Image:
    """The colours and the names of these classes of pixels, but for the background, in a strip of this width.

    Args:
        classes: numbers; those below 0 stand for what is ignored.
        names: of the classes.
        width: of the strip in pixels.
        text_size: of the names, in pixels.
    """
    entries = []
    for label in sorted(set(classes)):
        colour = pixel_colour(label, names) if label >= 0 else None
        if colour is not None:
            entries.append((name_of(label, names), Image.new("RGB", (1, 1), colour)))
    if min(classes, default=0) < 0:
        swatch = np.where(_hatching((14, 24))[..., None], np.uint8(IGNORED_COLOUR), np.uint8(255))
        entries.append(("ignored", Image.fromarray(swatch)))
    return legend(entries, width, text_size)


def palette_picture(classes: np.ndarray, names: Sequence[str]) -> Image.Image:
    """The classes of pixels as a picture whose palette has their colours: its values are the classes.

    Args:
        classes: integers [H, W], 0 to 255.
        names: of the classes; the background is black.

    Raises:
        ValueError: a class that a palette has no place for.
    """
    classes = np.asarray(classes)
    if classes.size and not 0 <= classes.min() <= classes.max() <= 255:
        outside = classes.max() if classes.max() > 255 else classes.min()
        raise ValueError(f"classes: {outside} is among them; a palette has place for 0 to 255.")
    picture = Image.fromarray(classes.astype(np.uint8))
    count = max(len(names), int(classes.max(initial=0)) + 1)
    picture.putpalette([value for label in range(count) for value in pixel_colour(label, names) or (0, 0, 0)])
    return picture


def _hatching(size: tuple[int, int]) -> np.ndarray:
    """Diagonal lines, bool [H, W]."""
    period = max(6, 2 * round(min(size) / 80))
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows + columns) % period < period / 3
