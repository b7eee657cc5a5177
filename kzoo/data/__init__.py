"""Pictures and what is in them: `load` makes batches, `info` and `check` tell of them, `convert` writes them.

    sources/       where pictures come from: "voc:DIR", "coco:DIR", ...
    augmentation/  random changes of pictures, and of what is in them
    pipeline/      `load`: order, read, resize, keep, augment, batch
    checking/      `check`: what there is, and what is wrong with it
    conversion.py  `convert`

All other files are what these share, and know none of them. Sources and augmentation know only what is
shared; the rest knows both.

Asking `info` or `check` does not import TensorFlow, unless it is a TFDS set that is asked about; `load`,
`Augmentation` and `convert` do, on first use.
"""

from kzoo.data.faults import DataError
from kzoo.data.resize import to_own_pixels
from kzoo.data.sources import Info, open_source

__all__ = ["Augmentation", "DataError", "Info", "check", "convert", "info", "load", "to_own_pixels"]


def info(spec: str) -> Info:
    """What data holds: its classes, its splits with their numbers of pictures, the tasks it can teach.

    Args:
        spec: "shapes", "shapes:N", "voc:DIR", "coco:DIR", "coco:INSTANCES.json,IMAGE_DIR", "yolo:DIR",
            "yolo:FILE.yaml", "folder:DIR",
            "folder:DIR,image=NAME,label=NAME,values=VALUE:CLASS+VALUE:CLASS",
            "csv:FILE", "csv:FILE,image=COLUMN,class=COLUMN,box=A+B+C+D,format=xyxy,split=COLUMN" (or
            xywh, or cxcywh),
            "tfds:NAME", "tfds:NAME,data_dir=DIR" or "tfds:DIR".

    Raises:
        DataError: there is no such data.

    >>> kzoo.data.info("shapes").splits
    """
    return open_source(spec).info


def __getattr__(name: str):
    if name == "load":
        from kzoo.data.pipeline import load

        return load
    if name == "Augmentation":
        from kzoo.data.augmentation import Augmentation

        return Augmentation
    if name == "check":
        from kzoo.data.checking import check

        return check
    if name == "convert":
        from kzoo.data.conversion import convert

        return convert
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
