"""Which column of a table is what, seen from what people call them, behind `"csv:FILE"`."""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kzoo.data.faults import DataError
from kzoo.data.numbers import read_number
from kzoo.data.pictures import EXTENSIONS
from kzoo.data.sources.source import check_name

OPTIONS = ("image", "class", "box", "format", "split")
# Of boxes: two corners, or the left top corner or the middle with width and height.
FORMATS = ("xyxy", "xywh", "cxcywh")

# As `_plain` makes them; of several that a table has the first one counts. What is a path stands before what
# may be a number, and what is a class's name before what may be the picture's.
_IMAGES = ("imagepath", "imgpath", "filepath", "path", "filename", "imagefile", "imagename", "file", "image")
_IMAGES += ("img", "picture", "imageid")
_CLASSES = ("classname", "labelname", "categoryname", "class", "label", "category", "name")
_BOXES = {
    ("x1", "y1", "x2", "y2"): "xyxy",
    ("xmin", "ymin", "xmax", "ymax"): "xyxy",
    ("left", "top", "right", "bottom"): "xyxy",
    ("x", "y", "w", "h"): "xywh",  # beside a width and a height, which are then the picture's
    ("x", "y", "width", "height"): "xywh",
    ("left", "top", "width", "height"): "xywh",
}
_CENTRES = ("xcenter", "ycenter", "xcentre", "ycentre", "xc", "yc", "cx", "cy")
_SPLITS = ("split", "subset", "set")
_SIZES = (("imageheight", "imagewidth"), ("imgheight", "imgwidth"), ("height", "width"))
_LONGEST = 300  # characters of a header that a message tells
_WANTED = (
    "expected one of the picture (image, path, filename), one of the class (class, label) and, for boxes, "
    "x1, y1, x2, y2 or x, y, width, height; or their names, as in "
    "image=COLUMN,class=COLUMN,box=LEFT+TOP+RIGHT+BOTTOM; or no header, and path,x1,y1,x2,y2,class "
    "or path,class"
)


class Columns(NamedTuple):
    """Where in a row stands what."""

    names: tuple[str, ...]  # of all columns
    image: int
    label: int
    box: tuple[int, ...] = ()  # four, or none where pictures have a class as a whole
    format: str = "xyxy"
    split: int | None = None
    size: tuple[int, ...] = ()  # two, the picture's height and width, or none


WITHOUT_HEADER = Columns(("path", "x1", "y1", "x2", "y2", "class"), image=0, label=5, box=(1, 2, 3, 4))
OF_CLASSES = Columns(("path", "class"), image=0, label=1)  # without a header, too


def has_header(first: Sequence[str]) -> bool:
    """Whether the first row names columns: it does not if it begins with a picture, or has a box."""
    is_picture = Path(first[0].strip()).suffix.lower() in EXTENSIONS
    has_box = len(first) == len(WITHOUT_HEADER.names) and all(map(_is_number, first[1:5]))
    return not is_picture and not has_box


def find_columns(where: str, header: Sequence[str], options: Mapping[str, str], boxes: bool) -> Columns:
    """What the columns of a header are.

    Args:
        where: what messages call the file.
        header: the names, as they stand there.
        options: what the spec tells of them, by `OPTIONS`.
        boxes: whether a table without boxes is refused.

    Raises:
        DataError: there is no such column, or none that is needed.
    """
    header = [name.strip() for name in header]
    plain = [_plain(name) for name in header]

    def told(option: str, name: str) -> int:
        check_name(where, option, name, header)
        return header.index(name)

    def found(names: Sequence[str]) -> int | None:
        place = next((plain.index(name) for name in names if name in plain), None)
        if place is not None and plain.count(plain[place]) > 1:
            raise DataError(f"{where}: has the column {header[place]} twice; expected it once")
        return place

    image = told("image", options["image"]) if "image" in options else found(_IMAGES)
    label = told("class", options["class"]) if "class" in options else found(_CLASSES)
    if "box" in options:
        names = [name.strip() for name in options["box"].split("+")]
        if len(names) != 4:
            raise DataError(f"{where}: box={options['box']} has {len(names)} columns; expected A+B+C+D")
        box, form = tuple(told("box", name) for name in names), options.get("format", FORMATS[0])
        check_name(where, "format", form, FORMATS)
    elif "format" in options:
        check_name(where, "format", options["format"], FORMATS)
        raise DataError(f"{where}: format={options['format']} without box=; expected box=A+B+C+D with it")
    else:
        names = next((names for names in _BOXES if set(names) <= set(plain)), ())
        box, form = tuple(found([name]) for name in names), _BOXES.get(names, FORMATS[0])
    if "box" not in options and not box:
        _refuse_parts(where, header, plain)
    if image is None or label is None or (boxes and not box):
        lacks = "picture" if image is None else "class" if label is None else "box"
        raise DataError(f"{where}: the columns {_listed(header)} have no {lacks}; {_WANTED}")
    split = told("split", options["split"]) if "split" in options else found(_SPLITS)
    size = _find_size(plain, box) if box else ()
    return Columns(tuple(header), image, label, box, form, split, size)


def _refuse_parts(where: str, header: Sequence[str], plain: Sequence[str]) -> None:
    """Raises a DataError if some columns of a box are there and others are not: a misspelt one, perhaps."""
    if centres := [name for name, short in zip(header, plain, strict=True) if short in _CENTRES]:
        told = f"the columns {_listed(centres)} of a box's middle"
        expected = f"expected corners, or box={'+'.join(centres[:2])}+WIDTH+HEIGHT,format=cxcywh"
        raise DataError(f"{where}: has {told}; {expected}")
    for names in _BOXES:
        there = [name for name in names if name in plain]
        missing = [name for name in names if name not in plain]
        if len({*there} - {"width", "height"}) >= 2:  # these two may be the picture's
            strange = [name for name in header if _plain(name) not in there]
            near = [name for name in strange if difflib.get_close_matches(_plain(name), missing, 1, 0.7)]
            advice = f", perhaps {_listed(near)}" if near else ""
            raise DataError(
                f"{where}: has the columns {_listed(there)} of a box, but not {_listed(missing)}{advice}; "
                "expected all four, or box=A+B+C+D"
            )


def _find_size(plain: Sequence[str], box: Sequence[int]) -> tuple[int, ...]:
    """The columns of the picture's height and width, if there are any that are not the box's."""
    for names in _SIZES:
        places = tuple(plain.index(name) for name in names if plain.count(name) == 1)
        if len(places) == 2 and not set(places) & set(box):
            return places
    return ()


def _listed(header: Sequence[str]) -> str:
    text = ", ".join(header)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _plain(name: str) -> str:
    """A name without what people write differently: `Image Path` is `image_path`."""
    return "".join(filter(str.isalnum, name)).lower()


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(read_number(text))
    except ValueError:
        return False
