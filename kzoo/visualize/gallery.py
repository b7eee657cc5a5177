"""Some pictures of data with what their annotations say."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kzoo.data.faults import DataError
from kzoo.data.masks import within_box
from kzoo.data.sources import Split
from kzoo.printable import printable
from kzoo.visualize.drawing import font_of
from kzoo.visualize.pages import CELL, GAP, draw_answer
from kzoo.visualize.pixels import class_legend

_COLUMNS = 4
_TEXT_SIZE = 14


def gallery(
    splits: Mapping[str, Split],
    classes: Sequence[str],
    path: str | os.PathLike,
    count: int = 12,
    seed: int = 0,
) -> None:
    """Writes a page of pictures drawn at random, with their boxes, masks or classes.

    Args:
        splits: to draw from. Pictures that cannot be read are passed over.
        classes: the names of the classes.
        path: the file to write; its ending tells the format (.png).
        count: how many pictures.
        seed: the same seed draws the same pictures.

    Raises:
        ValueError: no picture can be read.

    Example:
        source = kzoo.data.open_source("voc:bccd")
        gallery({"train": source.split("train")}, source.info.classes, "gallery.png")
    """
    classes = [printable(name) for name in classes]
    places = [(name, index) for name, split in splits.items() for index in range(len(split))]
    cells, captions, present = [], [], set()
    for place in np.random.default_rng(seed).permutation(len(places)).tolist():
        name, index = places[place]
        try:
            image, answer = splits[name].read(index), _truth(splits[name], index)
        except DataError:
            continue
        if answer["classes"].ndim == 2:
            present |= set(np.unique(answer["classes"]).tolist())
        cells.append(draw_answer(image, answer, classes))
        captions.append(printable(f"{name} · {_short_name(splits[name].names[index])}"))
        if len(cells) == count:
            break
    if not cells:
        raise ValueError("splits: there is no picture in them that can be read")
    _page(cells, captions, sorted(present), classes).save(path)


def _short_name(name: str) -> str:
    """A picture's file without its folder, and of a set its record, which is what tells pictures apart."""
    record = re.search(r"record \d+ of .*$", name)
    if record is None or os.path.isfile(name):
        return Path(name).name
    number, _, of = record[0].partition(" of ")
    return f"{number} of {Path(of).name}"


def _truth(split: Split, index: int) -> dict[str, np.ndarray]:
    """What the annotations say of a picture, as `draw_answer` takes it."""
    if split.boxes is not None and split.read_labels is None:
        truth = {"boxes": split.boxes[index], "classes": split.classes[index]}
        if split.read_masks is not None:
            masks = [
                within_box(mask, box)
                for mask, box in zip(split.read_masks(index), split.boxes[index], strict=True)
            ]
            truth["masks"] = np.array(masks)
        return truth
    if split.read_labels is not None:
        return {"classes": split.read_labels(index)}
    return {"classes": split.classes[index][0]}


def _page(
    cells: Sequence[np.ndarray], captions: Sequence[str], labels: Sequence[int], classes: Sequence[str]
) -> Image.Image:
    """Pictures in rows, each above its caption, and a legend for classes of pixels."""
    font = font_of(_TEXT_SIZE)
    caption_height = sum(font.getmetrics())
    columns = min(_COLUMNS, len(cells))
    starts = range(0, len(cells), columns)
    heights = [max(cell.shape[0] for cell in cells[start : start + columns]) for start in starts]
    width = GAP + columns * (CELL + GAP)
    strip = class_legend(labels, classes, width, text_size=18)
    height = GAP + sum(heights) + len(heights) * (caption_height + 2 * GAP) + strip.height
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    top = GAP
    for start, row_height in zip(starts, heights, strict=True):
        for column, cell in enumerate(cells[start : start + columns]):
            left = GAP + column * (CELL + GAP)
            page.paste(Image.fromarray(cell), (left, top))
            caption = _shortened(captions[start + column], font)
            draw.text((left, top + cell.shape[0]), caption, fill=(90, 90, 90), font=font)
        top += row_height + caption_height + 2 * GAP
    page.paste(strip, (0, top))
    return page


def _shortened(text: str, font) -> str:
    """As much of a text as goes under a picture."""
    if font.getlength(text) <= CELL:
        return text
    while font.getlength(f"{text}…") > CELL:
        text = text[:-1]
    return f"{text}…"
