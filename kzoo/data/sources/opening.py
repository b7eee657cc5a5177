"""Opens what a spec names: `"shapes"`, or `"SCHEME:WHERE"`, as `"voc:DIR"` or `"csv:FILE"`. No TensorFlow."""

import importlib
import os
from collections.abc import Callable, Sequence

from kzoo.checks import check_integer
from kzoo.data.class_names import check_classes
from kzoo.data.faults import DataError
from kzoo.data.pictures import MAX_PIXELS
from kzoo.data.sources.source import MASKED, Source, check_name
from kzoo.tasks import TASKS

# The module of each scheme, which has `open_SCHEME`: it is imported when it is asked for.
_SCHEMES = {
    "shapes": "shapes",
    "voc": "voc",
    "coco": "coco",
    "folder": "folder",
    "csv": "csv_boxes",
    "yolo": "yolo",
    "tfds": "tfds",
}
_MOST_PIXEL_CLASSES = 255  # a byte holds the class of a pixel, and that it is ignored


def open_source(
    spec: str,
    *,
    task: str | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Source:
    """Opens the data that a spec such as `"shapes"`, `"voc:DIR"`, `"csv:FILE"` or `"yolo:DIR"` names.

    Args:
        spec: the scheme and, after a colon, where the data is.
        task: what is to be learnt from it; one of `kzoo.tasks.TASKS`. None: to see what there is, whatever it
            can teach.
        classes: names in the order of their numbers; by default the source's own.
        seed: for data that is drawn; files do not depend on it.
        max_pixels: the most that a picture may have; a file of more is a fault, seen before it is decoded.

    Raises:
        DataError: an unknown scheme, a task that the source cannot teach, or no data where it should be.
    """
    check_integer("max_pixels", max_pixels, least=1)
    if not isinstance(spec, str):
        raise DataError(f"the data must be named by text such as 'shapes' or 'voc:DIR', got {spec!r}")
    scheme, _, where = spec.partition(":")
    if scheme not in _SCHEMES:
        _refuse_bare(spec)
    check_name(f"data {spec!r}", "kind of data", scheme, _SCHEMES)
    if task is not None:
        check_name(spec, "task", task, TASKS)
    if classes is not None:
        classes = check_classes(classes, "classes")
    options = {"seed": seed} if scheme == "shapes" else {"max_pixels": max_pixels}
    source = _open(scheme)(spec, where, task=task, classes=classes, **options)
    if task is not None and task not in source.info.tasks:
        teaches = ", ".join(source.info.tasks)
        masks = ", for no masks are read from it" if task in MASKED else ""
        raise DataError(f"{spec}: task={task!r} cannot be learnt from it{masks}; what can: {teaches}")
    if task == "segmentation" and len(source.info.classes) > _MOST_PIXEL_CLASSES:
        count = len(source.info.classes)
        raise DataError(f"{spec}: {count} classes of pixels; expected no more than {_MOST_PIXEL_CLASSES}")
    return source


def _open(scheme: str) -> Callable[..., Source]:
    module = importlib.import_module(f"kzoo.data.sources.{_SCHEMES[scheme]}")
    return getattr(module, f"open_{scheme}")


def _refuse_bare(spec: str) -> None:
    """Refuses a path without its kind: it says what to write."""
    if spec and os.path.isdir(os.path.expanduser(spec)):
        kinds = ", ".join(f"'{kind}:{spec}'" for kind in ("folder", "voc", "coco", "yolo"))
        raise DataError(f"data {spec!r} is a directory; of which kind? Write {kinds} or 'tfds:{spec}'")
    suffix = os.path.splitext(spec.partition(",")[0])[1].lower()
    pictures = "" if "," in spec else ",DIR"
    offers = {
        ".csv": f"'csv:{spec}'",
        ".tsv": f"'csv:{spec}'",
        ".json": f"'coco:{spec}{pictures}'" + (", where DIR has the pictures" if pictures else ""),
        ".yaml": f"'yolo:{spec}'",
        ".yml": f"'yolo:{spec}'",
    }
    if suffix in offers:
        raise DataError(f"data {spec!r} is a file; of which kind? Write {offers[suffix]}")
