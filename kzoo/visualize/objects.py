"""Boxes and masks, drawn into pictures."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kzoo.classes import CROWD
from kzoo.data.masks import decode, paste

# Light and dark, warm and cold alternate, so that the first classes differ most. Class 20 begins again.
COLOURS = (
    (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48),
    (145, 30, 180), (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212),
    (0, 128, 128), (220, 190, 255), (170, 110, 40), (255, 250, 200), (128, 0, 0),
    (170, 255, 195), (128, 128, 0), (255, 215, 180), (0, 0, 128), (128, 128, 128),
)  # fmt: skip
CROWD_COLOUR = (150, 150, 150)
CELL = 400  # pixels of a picture's longer side in a gallery
GAP = 8
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
    picture = _picture(image)
    short_side = min(picture.size)
    line = max(1, round(short_side / 160))
    font = ImageFont.load_default(size=min(max(9, short_side / 26), 22))

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
        text = classes[labels[row]] if labels[row] < len(classes) else str(labels[row])
        if "scores" in objects:
            text = f"{text} {objects['scores'][row]:.2f}"
        corner = _on_pixels(boxes[row], picture.size)[:2]
        _draw_tag(draw, corner, picture.size, text, colours[row], font)
    return np.asarray(picture)


def side_by_side(
    images: Sequence[np.ndarray],
    truths: Mapping[str, Sequence],
    answers: Mapping[str, Sequence],
    classes: Sequence[str],
    path: str | os.PathLike,
    score_threshold: float = 0.3,
) -> None:
    """Writes a gallery: each picture twice, with its truth and with what was predicted.

    Pictures are scaled to a readable size before the boxes are drawn, so that lines and names stay sharp.

    Args:
        images: B pictures [H, W, 3], RGB, 0-255: an array or a list.
        truths: `boxes` B x [G, 4] xyxy in pixels of the picture and `classes` B x [G], as in a batch of data.
        answers: The same and `scores` B x [N]: what a model predicts for that batch. Both may have `masks`,
            within the boxes or in pixels of the picture, as `draw_detections` takes them.
        classes: The names of the classes.
        path: The file to write; its ending tells the format (.png).
        score_threshold: Answers below this score are not drawn.

    Raises:
        ValueError: There are no pictures.

    Example:
        batch = next(iter(dataset))
        side_by_side(batch["images"], batch, model.predict_on_batch(batch["images"]), info.classes, "val.png")
    """
    if len(images) == 0:
        raise ValueError("images holds no picture to draw")
    cells = []
    for index, image in enumerate(images):
        picture = _picture(image)
        factor = CELL / max(picture.size)
        size = [max(1, round(side * factor)) for side in picture.size]
        enlarged = np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
        for objects in (truths, answers):
            scaled = {
                key: np.asarray(objects[key][index])
                for key in ("boxes", "classes", "scores", "masks")
                if key in objects
            }
            scaled["boxes"] = scaled["boxes"] * factor
            if "masks" in scaled and _in_pixels(scaled["masks"], picture.size[::-1]):
                scaled["masks"] = [
                    np.asarray(Image.fromarray(mask.astype(bool)).resize(size)) for mask in scaled["masks"]
                ]
            cells.append(draw_detections(enlarged, scaled, classes, score_threshold))
    _pairs(cells, ("truth", "prediction")).save(path)


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.round(np.asarray(image)), 0, 255).astype(np.uint8))


def _shown(labels: np.ndarray, scores: np.ndarray | None, score_threshold: float) -> list[int]:
    """The rows of the objects to draw, the best last so that it ends on top."""
    if scores is None:
        return np.flatnonzero((labels >= 0) | (labels == CROWD)).tolist()
    scores = np.asarray(scores, float)
    return [row for row in np.argsort(scores).tolist() if labels[row] >= 0 and scores[row] >= score_threshold]


def _in_pixels(mask: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether masks are those of a picture's pixels: the other kind are samples within their boxes."""
    return mask.dtype in (np.uint8, bool) and mask.shape[-2:] == tuple(size)


def _full_size(mask: np.ndarray | dict, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask of any kind as bool [H, W]."""
    if isinstance(mask, Mapping):
        return decode(mask)
    return mask.astype(bool) if _in_pixels(mask, size) else paste(mask, box, size)


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


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    size: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
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


def _pairs(cells: Sequence[np.ndarray], titles: tuple[str, str]) -> Image.Image:
    """Cells two by two, two pairs in a row, under the titles of their columns."""
    columns = min(4, len(cells))
    width = max(cell.shape[1] for cell in cells)
    lefts = [GAP + column * (width + GAP) + column // 2 * 2 * GAP for column in range(columns)]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]

    header = 32
    page = Image.new("RGB", (lefts[-1] + width + GAP, header + sum(heights) + GAP * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=18)
    for column, left in enumerate(lefts):
        draw.text((left + width / 2, header / 2), titles[column % 2], fill="black", font=font, anchor="mm")
    top = header
    for row, height in zip(rows, heights, strict=True):
        for left, cell in zip(lefts, row, strict=False):  # the last row may be short
            page.paste(Image.fromarray(cell), (left, top))
        top += height + GAP
    return page
