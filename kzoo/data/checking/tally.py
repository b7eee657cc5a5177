"""What pictures have, counted: how many, of which sizes and classes, how large their boxes are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kzoo.classes import CROWD
from kzoo.data.sources import Split


@dataclass(frozen=True)
class Tally:
    """Of P pictures with N objects in all, or of their pixels.

    Attributes:
        sizes: int [P, 2], height and width.
        counts: int [P], the objects of each; None where only pixels have classes.
        classes: int [N], of the objects picture by picture; where pictures have a class, that.
        boxes: float32 [N, 4], xyxy; None where there are none.
        crowds: the number of crowd regions.
        pixels: int64 [P, C + 1], how many pixels of each picture are ignored and how many of each class; None
            where only objects have classes.
    """

    sizes: np.ndarray
    counts: np.ndarray | None
    classes: np.ndarray
    boxes: np.ndarray | None
    crowds: int = 0
    pixels: np.ndarray | None = None


def tally(split: Split, read: Sequence[int], pixels: Sequence[np.ndarray] | None = None) -> Tally:
    """Counts some pictures of a split.

    Args:
        split: that has them.
        read: their places in it.
        pixels: of each int [C + 1], as a tally has them.
    """
    sizes = np.array([split.sizes[index] for index in read], np.int64).reshape(-1, 2)
    if pixels is not None:
        return Tally(sizes, None, np.zeros(0, np.int32), None, 0, np.array(pixels, np.int64))
    objects = [split.classes[index] >= 0 for index in read]
    classes = [split.classes[index][there] for index, there in zip(read, objects, strict=True)]
    boxes = None
    if split.boxes is not None:
        boxes = [split.boxes[index][there] for index, there in zip(read, objects, strict=True)]
        boxes = np.concatenate([np.zeros([0, 4], np.float32), *boxes])
    return Tally(
        sizes,
        np.array([len(one) for one in classes], np.int64),
        np.concatenate([np.zeros(0, np.int32), *classes]),
        boxes,
        sum(int(np.count_nonzero(split.classes[index] == CROWD)) for index in read),
    )


def total(tallies: Iterable[Tally]) -> Tally:
    """Several tallies of one source as one."""
    tallies = list(tallies)

    def joined(name: str) -> np.ndarray | None:
        parts = [getattr(one, name) for one in tallies]
        return None if parts[0] is None else np.concatenate(parts)

    arrays = {name: joined(name) for name in ("sizes", "counts", "classes", "boxes", "pixels")}
    return Tally(crowds=sum(one.crowds for one in tallies), **arrays)


def examples(of: Tally, num_classes: int) -> np.ndarray:
    """How many objects each class has, int [C]; of classes of pixels how many pictures have each."""
    if of.pixels is not None:
        return np.count_nonzero(of.pixels[:, 1:], axis=0)
    return np.bincount(of.classes, minlength=num_classes)


def figures(of: Tally, classes: Sequence[str]) -> dict:
    """A tally as what JSON takes: counts, and of what varies the least, the median and the greatest."""
    found: dict = {"pictures": len(of.sizes)}
    height, width = of.sizes.T
    spreads = {"width": width, "height": height}
    if of.pixels is None:
        found |= {"objects": len(of.classes), "crowds": of.crowds}
    found["classes"] = dict(zip(classes, examples(of, len(classes)).tolist(), strict=True))
    if of.pixels is not None:
        shares = of.pixels.sum(axis=0) / max(1, of.pixels.sum())
        found["pixels"] = dict(zip(classes, shares[1:].tolist(), strict=True))
        found["ignored_pixels"] = float(shares[0])
    if of.boxes is not None:
        box_width, box_height = (of.boxes[:, 2:] - of.boxes[:, :2]).T
        spreads |= {"objects_per_picture": of.counts, "box_width": box_width, "box_height": box_height}
        spreads |= {"box_aspect": box_width / box_height}
    return found | {name: _spread(values) for name, values in spreads.items()}


def _spread(values: np.ndarray) -> dict[str, float] | None:
    """The least, the median and the greatest of values; None where there are none."""
    if not len(values):
        return None
    least, median, greatest = np.quantile(values.astype(np.float64), (0, 0.5, 1)).tolist()
    return {"least": least, "median": median, "greatest": greatest}
