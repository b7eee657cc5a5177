"""The annotation files of Pascal VOC: what they say, and how their boxes are read."""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from kzoo.data.faults import DataError
from kzoo.data.numbers import read_number
from kzoo.data.sources.source import clip_box

_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Annotation:
    """What a file says, as text."""

    path: Path
    fault: str = ""  # what is wrong with the whole file, if anything is
    filename: str = ""  # of the picture, as the annotation has it
    size: tuple[int, int] | None = None  # (height, width), as the annotation has it
    objects: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)  # name, text of each of _SIDES


def read_box(texts: tuple[str, ...], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box of VOC as continuous xyxy inside a picture of `size`; a DataError says what is wrong with it."""
    try:
        xmin, ymin, xmax, ymax = map(read_number, texts)
        if 1 <= xmin < xmax <= size[1] and 1 <= ymin < ymax <= size[0]:
            return xmin - 1, ymin - 1, xmax, ymax
    except ValueError:
        pass  # it is told below
    told = f"box ({', '.join(f'{side} {text!r}' for side, text in zip(_SIDES, texts, strict=True))})"
    told = told.replace("'", "")
    try:
        xmin, ymin, xmax, ymax = map(read_number, texts)
    except ValueError:
        raise DataError(f"{told} is not of numbers; expected four numbers of pixels", "not_numbers") from None
    if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
        raise DataError(f"{told} is not finite; expected four numbers of pixels", "not_numbers")
    if xmax < xmin or ymax < ymin:
        raise DataError(f"{told} is reversed; expected xmin < xmax and ymin < ymax", "reversed")
    if xmax == xmin or ymax == ymin:
        raise DataError(f"{told} has no area; expected xmin < xmax and ymin < ymax", "no_area")
    return clip_box(told, (xmin - 1, ymin - 1, xmax, ymax), size)


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds the tree of a document, unless that declares entities, which can expand without bound."""

    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise ValueError("a document type declaration, which no annotation needs")


def read_annotation(path: Path) -> Annotation:
    """An annotation file, or what is wrong with it as a whole."""
    try:
        parser = ElementTree.XMLParser(target=_NoDoctype())
        parser.feed(path.read_bytes())
        root = parser.close()
        if root.tag != "annotation":
            raise ValueError(f"its root is <{root.tag}>")
        return Annotation(path, "", _text(root, "filename"), _read_size(root), _read_texts(root))
    except ElementTree.ParseError as error:
        return Annotation(path, f"broken XML ({error})")
    except (ValueError, LookupError, OSError) as error:  # LookupError: an encoding that there is not
        return Annotation(path, str(error))


def _read_texts(root: ElementTree.Element) -> list[tuple[str, tuple[str, ...]]]:
    objects = []
    for one in root.iterfind("object"):
        box = one.find("bndbox")
        sides = {} if box is None else {side.tag: (side.text or "").strip() for side in box}
        objects.append((_text(one, "name"), tuple([sides.get(side, "") for side in _SIDES])))
    return objects


def _read_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """(height, width), or None where the annotation does not tell: none or zero, as some tools write it."""
    width, height = _text(root, "size/width"), _text(root, "size/height")
    try:
        size = int(read_number(height or "0")), int(read_number(width or "0"))
    except (ValueError, OverflowError):
        raise ValueError(f"<size> of width {width!r} and height {height!r}") from None
    return size if all(size) else None


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
