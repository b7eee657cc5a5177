"""What all drawings have in common: pictures to draw into, the colours of classes, and names on a ground."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kzoo.data.class_names import BACKGROUND

# Light and dark, warm and cold alternate, so that the first classes differ most. Class 20 begins again.
COLOURS = (
    (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48),
    (145, 30, 180), (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212),
    (0, 128, 128), (220, 190, 255), (170, 110, 40), (255, 250, 200), (128, 0, 0),
    (170, 255, 195), (128, 128, 0), (255, 215, 180), (0, 0, 128), (128, 128, 128),
)  # fmt: skip

Colour = tuple[int, int, int]


def as_picture(image: np.ndarray) -> Image.Image:
    """A picture [H, W, 3] of any type as one to draw into."""
    return Image.fromarray(np.clip(np.round(np.asarray(image)), 0, 255).astype(np.uint8))


def name_of(label: int, names: Sequence[str]) -> str:
    """The name of a class, its number where it has none."""
    return names[label] if label < len(names) else str(label)


def pixel_colour(label: int, names: Sequence[str]) -> Colour | None:
    """The colour of a class of pixels: that of the same object's box; None for the background."""
    if not names or names[0] != BACKGROUND:
        return COLOURS[label % len(COLOURS)]
    return COLOURS[(label - 1) % len(COLOURS)] if label else None


def tag_font(picture: Image.Image) -> ImageFont.FreeTypeFont:
    """The font for names in a picture, as large as goes with it."""
    return font_of(min(max(9, min(picture.size) / 26), 22))


def font_of(size: float) -> ImageFont.FreeTypeFont:
    """The font for names, of this height in pixels: one that has more than the letters of English."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def draw_tag(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    size: tuple[int, int],
    text: str,
    colour: Colour,
    font: ImageFont.FreeTypeFont,
) -> None:
    """The text on a ground of its colour: on top of its box's corner, or inside where the picture ends."""
    left, _, right, _ = draw.textbbox((0, 0), text, font=font)
    ascent, descent = font.getmetrics()  # the same height for every name, with and without a "p" or a "g"
    width, height = int(right - left) + 4, ascent + descent
    x = max(0, min(corner[0], size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    bright = np.dot(colour, (0.299, 0.587, 0.114)) > 140
    draw.text((x + 2 - left, y), text, fill="black" if bright else "white", font=font)


def legend(entries: Iterable[tuple[str, Image.Image]], width: int, text_size: float = 14) -> Image.Image:
    """Names beside swatches, in as many lines as a width takes.

    Args:
        entries: of each name, and the swatch, which is scaled to the height of the text.
        width: of the strip, in pixels.
        text_size: of the names, in pixels.

    Returns:
        The strip, of this width; without entries its height is 0.
    """
    font = font_of(text_size)
    ascent, descent = font.getmetrics()
    height, gap = ascent + descent, max(4, round(text_size / 2))
    swatch = (round(1.4 * height), height - 2)
    placed, x, y = [], gap, gap
    for name, colours in entries:
        taken = swatch[0] + gap + round(font.getlength(name))
        if x > gap and x + taken + gap > width:
            x, y = gap, y + height + gap
        placed.append((x, y, name, colours))
        x += taken + 2 * gap
    strip = Image.new("RGB", (width, y + height + gap if placed else 0), "white")
    draw = ImageDraw.Draw(strip)
    for x, y, name, colours in placed:
        strip.paste(colours.resize(swatch, Image.Resampling.NEAREST), (x, y + 1))
        draw.rectangle((x, y + 1, x + swatch[0] - 1, y + swatch[1]), outline=(60, 60, 60))
        draw.text((x + swatch[0] + gap, y), name, fill="black", font=font)
    return strip
