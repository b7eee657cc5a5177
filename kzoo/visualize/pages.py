"""Pages of pictures with what is in them: truth beside prediction, one model beside the other."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from kzoo.visualize.drawing import as_picture, font_of, name_of
from kzoo.visualize.labels import draw_label
from kzoo.visualize.objects import draw_detections, in_pixels
from kzoo.visualize.pixels import class_legend, draw_classes

CELL = 400  # pixels of a picture's longer side on a page
GAP = 8
_PARTS = ("boxes", "classes", "scores", "masks", "probabilities")


def draw_answer(
    image: np.ndarray,
    answer: Mapping[str, np.ndarray],
    classes: Sequence[str],
    truth: Mapping[str, np.ndarray] | None = None,
    score_threshold: float = 0.3,
    longer_side: int = CELL,
) -> np.ndarray:
    """A picture with what a model of any task answered about it, or with the truth.

    It is scaled to a readable size before anything is drawn, so that lines and names stay sharp.

    Args:
        image: [H, W, 3], RGB, 0-255.
        answer: about this one picture: `boxes` and `classes` of objects, as `draw_detections` takes them;
            `classes` [H, W] of pixels; or one class as `classes`, with `probabilities` [C] where it is not
            the truth.
        classes: The names of the classes.
        truth: where a class of the whole picture is answered, the true one as `classes`: it tells right from
            wrong.
        score_threshold: Objects below this score are not drawn.
        longer_side: of what is drawn, in pixels.

    Returns:
        uint8 [H, W, 3], scaled.

    Example:
        answers = model.predict(images)
        first = {name: values[0] for name, values in answers.items()}
        drawn = draw_answer(images[0], first, info.classes)
    """
    picture = as_picture(image)
    factor = longer_side / max(picture.size)
    size = [max(1, round(side * factor)) for side in picture.size]
    enlarged = np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
    if "boxes" in answer:
        objects = dict(answer) | {"boxes": np.asarray(answer["boxes"]) * factor}
        if "masks" in answer and in_pixels(answer["masks"], picture.size[::-1]):
            objects["masks"] = [
                np.asarray(Image.fromarray(mask.astype(bool)).resize(size)) for mask in answer["masks"]
            ]
        return draw_detections(enlarged, objects, classes, score_threshold)
    labels = np.asarray(answer["classes"])
    if labels.ndim == 2:
        labels = np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
        return draw_classes(enlarged, labels, classes, with_legend=False)
    probability = float(answer["probabilities"][labels]) if "probabilities" in answer else None
    right = None if truth is None else bool(labels == truth["classes"])
    return draw_label(enlarged, name_of(int(labels), classes), probability, right)


def side_by_side(
    images: Sequence[np.ndarray],
    truths: Mapping[str, Sequence],
    answers: Mapping[str, Sequence],
    classes: Sequence[str],
    path: str | os.PathLike,
    score_threshold: float = 0.3,
) -> None:
    """Writes a gallery: each picture twice, with its truth and with what was predicted, whatever the task.

    Args:
        images: B pictures [H, W, 3], RGB, 0-255: an array or a list.
        truths: As in a batch of data: `classes` B, B x [G] or B x [H, W], and for objects `boxes` B x [G, 4]
            xyxy in pixels of the picture.
        answers: What a model predicts for that batch: the same, and for objects `scores` B x [N]. Both may
            have `masks`, within the boxes or in pixels of the picture, as `draw_detections` takes them.
        classes: The names of the classes.
        path: The file to write; its ending tells the format (.png).
        score_threshold: Objects below this score are not drawn.

    Raises:
        ValueError: There are no pictures.

    Example:
        batch = next(iter(dataset))
        side_by_side(batch["images"], batch, model.predict_on_batch(batch["images"]), info.classes, "val.png")
    """
    if len(images) == 0:
        raise ValueError("images holds no picture to draw")
    cells, labels = [], set()
    for index, image in enumerate(images):
        truth, answer = (
            {name: np.asarray(of[name][index]) for name in _PARTS if name in of} for of in (truths, answers)
        )
        cells.append(draw_answer(image, truth, classes))
        cells.append(draw_answer(image, answer, classes, truth, score_threshold))
        if "boxes" not in answer and answer["classes"].ndim == 2:
            labels |= {*np.unique(truth["classes"]).tolist(), *np.unique(answer["classes"]).tolist()}
    _pairs(cells, ("truth", "prediction"), sorted(labels), classes).save(path)


def compare_rungs(rows: Mapping[str, Sequence[np.ndarray]], path: str | os.PathLike) -> None:
    """Writes a page with a row for each model and a column for each picture.

    Args:
        rows: From a title to the drawn pictures, uint8 [H, W, 3], as many in each row. What stands behind the
            title's first line is written smaller.
        path: The file to write; its ending tells the format (.png, .jpg).

    Raises:
        ValueError: There is no picture, or rows have different numbers of them.

    Example:
        drawn = [draw_answer(image, answer, names) for image, answer in zip(images, answers)]
        compare_rungs({"RetinaNet": drawn, "U-Net": others}, "ladder.png")
    """
    counts = {title: len(pictures) for title, pictures in rows.items()}
    if len(set(counts.values())) != 1 or not all(counts.values()):
        told = ", ".join(f"{title!r} {count}" for title, count in counts.items()) or "no row"
        raise ValueError(f"rows: each must have as many pictures, one or more; there are: {told}.")
    columns = max(counts.values())
    large, small = font_of(20), font_of(15)
    lines = {
        title: [(line, small if behind else large) for behind, line in enumerate(title.split("\n"))]
        for title in rows
    }
    left = 2 * GAP + round(max(font.getlength(line) for of_one in lines.values() for line, font in of_one))
    widths = [max(pictures[column].shape[1] for pictures in rows.values()) for column in range(columns)]
    heights = [max(picture.shape[0] for picture in pictures) for pictures in rows.values()]
    page = Image.new(
        "RGB", (left + sum(widths) + GAP * columns, GAP + sum(heights) + GAP * len(heights)), "white"
    )
    draw = ImageDraw.Draw(page)
    top = GAP
    for (title, pictures), height in zip(rows.items(), heights, strict=True):
        taken = [sum(font.getmetrics()) for _, font in lines[title]]
        y = top + (height - sum(taken)) / 2
        for (line, font), line_height in zip(lines[title], taken, strict=True):
            draw.text((GAP, y), line, fill="black" if font is large else (90, 90, 90), font=font)
            y += line_height
        x = left
        for picture, width in zip(pictures, widths, strict=True):
            page.paste(as_picture(picture), (x, top))
            x += width + GAP
        top += height + GAP
    page.save(path)


def _pairs(
    cells: Sequence[np.ndarray], titles: tuple[str, str], labels: Sequence[int], classes: Sequence[str]
) -> Image.Image:
    """Cells two by two, two pairs in a row, under the titles of their columns and over a legend."""
    columns = min(4, len(cells))
    width = max(cell.shape[1] for cell in cells)
    lefts = [GAP + column * (width + GAP) + column // 2 * 2 * GAP for column in range(columns)]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]

    header = 32
    across = lefts[-1] + width + GAP
    strip = class_legend(labels, classes, across, text_size=18)
    page = Image.new("RGB", (across, header + sum(heights) + GAP * len(rows) + strip.height), "white")
    draw = ImageDraw.Draw(page)
    font = font_of(18)
    for column, left in enumerate(lefts):
        draw.text((left + width / 2, header / 2), titles[column % 2], fill="black", font=font, anchor="mm")
    top = header
    for row, height in zip(rows, heights, strict=True):
        for left, cell in zip(lefts, row, strict=False):  # the last row may be short
            page.paste(Image.fromarray(cell), (left, top))
        top += height + GAP
    page.paste(strip, (0, top))
    return page
