"""Boxes and masks, drawn into pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from kzoo.classes import CROWD
from kzoo.data.masks import decode, paste
from kzoo.visualize.drawing import COLOURS, as_picture, draw_tag, name_of, tag_font

CROWD_COLOUR = (150, 150, 150)
MANY = 15  # objects in a picture; the names of more would hide them
FILL = 0.4  # how much of an object's colour lies over its pixels


def draw_detections(
    image: np.ndarray,
    objects: Mapping[str, np.ndarray],
    classes: Sequence[str],
    score_threshold: float = 0.3,
) -> np.ndarray:
    """A copy of a picture with its objects drawn in: boxes in the colour of their class, with name and score.

    Masks are laid over their objects, with a contour. If all objects with masks are of one class each has its
    own colour, so that those which touch can be told apart. Crowds are outlined in grey. Where there are more
    than `MANY` objects, boxes around masks are left out, and names if they are all the same.

    Args:
        image: uint8 or float [H, W, 3], RGB, 0-255.
        objects: One picture's truth or answers: `boxes` [N, 4] xyxy in pixels of `image`, `classes` [N] with
            -1 for padding and -2 for crowds, for answers `scores` [N], and where there are some `masks`:
            samples within the boxes [N, m, m]; uint8 or bool [N, H, W] in pixels of `image`; or a list of
            COCO's run lengths, of these pixels too.
        classes: The names of the classes. A class without a name is tagged with its number.
        score_threshold: Answers below this score are not drawn. Truth, having no scores, is drawn whole.

    Returns:
        uint8 [H, W, 3].

    Example:
        drawn = draw_detections(image, {"boxes": boxes, "classes": labels}, info.classes)
        PIL.Image.fromarray(drawn).save("drawn.png")
    """
    picture = as_picture(image)
    short_side = min(picture.size)
    line = max(1, round(short_side / 160))
    font = tag_font(picture)

    labels = np.asarray(objects["classes"]).astype(int)
    boxes = np.asarray(objects["boxes"], float).reshape(-1, 4)
    shown = _shown(labels, objects.get("scores"), score_threshold)
    one_class = len({labels[row] for row in shown} - {CROWD}) == 1
    masks = objects.get("masks")
    colours = {
        row: COLOURS[(row if masks is not None and one_class else labels[row]) % len(COLOURS)]
        for row in shown
    }
    colours |= {row: CROWD_COLOUR for row in shown if labels[row] == CROWD}
    many = len(shown) > MANY

    if masks is not None:
        pixels = np.array(picture)
        for row in shown:
            if labels[row] != CROWD:
                mask = _full_size(masks[row], boxes[row], pixels.shape[:2])
                _draw_mask(pixels, mask, colours[row], line)
        picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for row in shown:
        if masks is None or not many or labels[row] == CROWD:
            draw.rectangle(_on_pixels(boxes[row], picture.size), outline=colours[row], width=line)
    for row in shown:  # after all the boxes, so that no line crosses a name
        if labels[row] == CROWD or (many and one_class):
            continue
        text = name_of(labels[row], classes)
        if "scores" in objects:
            text = f"{text} {objects['scores'][row]:.2f}"
        corner = _on_pixels(boxes[row], picture.size)[:2]
        draw_tag(draw, corner, picture.size, text, colours[row], font)
    return np.asarray(picture)


def _shown(labels: np.ndarray, scores: np.ndarray | None, score_threshold: float) -> list[int]:
    """The rows of the objects to draw, the best last so that it ends on top."""
    if scores is None:
        return np.flatnonzero((labels >= 0) | (labels == CROWD)).tolist()
    scores = np.asarray(scores, float)
    return [row for row in np.argsort(scores).tolist() if labels[row] >= 0 and scores[row] >= score_threshold]


def in_pixels(mask: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether masks are those of a picture's pixels: the other kind are samples within their boxes."""
    return mask.dtype in (np.uint8, bool) and mask.shape[-2:] == tuple(size)


def _full_size(mask: np.ndarray | dict, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask of any kind as bool [H, W]."""
    if isinstance(mask, Mapping):
        return decode(mask)
    return mask.astype(bool) if in_pixels(mask, size) else paste(mask, box, size)


def _draw_mask(pixels: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], line: int) -> None:
    """Lays a mask [H, W] over a picture [H, W, 3], in place: a tint, and the colour itself at the border."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    mask, view = mask[window], pixels[window]
    inner = mask
    for _ in range(line):
        around = np.pad(inner, 1)
        inner = inner & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    view[mask] = np.round((1 - FILL) * view[mask] + FILL * np.array(colour))
    view[mask & ~inner] = colour


def _on_pixels(box: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """First and last pixel, inclusive, of the part of a box within the picture."""
    width, height = size
    x1, y1, x2, y2 = np.clip(np.round(box), 0, (width, height, width, height)).astype(int).tolist()
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    return x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)
