"""What COCO writes as an annotation's `segmentation`: polygons or run lengths, checked and made a mask."""

from collections.abc import Sequence

import numpy as np
from faster_coco_eval import mask as coco

from kzoo.data.faults import shortened
from kzoo.data.masks import read_runs
from kzoo.data.sources.source import ROUNDING

EXPECTED = "a list of polygons [x1, y1, x2, y2, ...] or run lengths {size, counts}"


def check_segmentation(found: object, size: tuple[int, int]) -> list[np.ndarray] | dict:
    """A segmentation as it is kept in memory: polygons float64 [2 n], or COCO's compressed run lengths.

    Args:
        found: as it lies in the file; it may be anything.
        size: height and width of the picture.

    Raises:
        ValueError: it is no segmentation of such a picture; the message says what is expected.
    """
    if isinstance(found, dict):
        return _check_rle(found, size)
    if not isinstance(found, list) or not found:
        told = "no segmentation" if found in (None, []) else f"segmentation {shortened(found)}"
        raise ValueError(f"{told}; expected {EXPECTED}")
    polygons = [_check_polygon(polygon, size) for polygon in found]
    if all(map(_is_on_a_line, polygons)):
        raise ValueError("segmentation has polygons without area; expected those around the object")
    return polygons


def check_in_box(segmentation: list[np.ndarray] | dict, box: tuple[float, float, float, float]) -> None:
    """Refuses polygons of which none comes near their object's box, xyxy, and shares of a picture.

    Raises:
        ValueError: so it is; the message says what is expected.
    """
    if isinstance(segmentation, dict):
        return
    x1, y1, x2, y2 = box
    may_be_a_pixel = min(x2, y2) <= 1 + ROUNDING
    for polygon in segmentation:
        left, top = polygon[::2].min(), polygon[1::2].min()
        right, bottom = polygon[::2].max(), polygon[1::2].max()
        is_near = (
            left <= x2 + ROUNDING
            and top <= y2 + ROUNDING
            and x1 <= right + ROUNDING
            and y1 <= bottom + ROUNDING
        )
        if is_near and (may_be_a_pixel or max(right, bottom) > 1):
            return
    points = np.concatenate(segmentation).reshape(-1, 2)
    told = f"segmentation has polygons from {points.min(axis=0).tolist()} to {points.max(axis=0).tolist()}"
    raise ValueError(f"{told}; expected pixels in the object's box, [{x1:g}, {y1:g}] to [{x2:g}, {y2:g}]")


def _is_on_a_line(polygon: np.ndarray) -> bool:
    x, y = (polygon.reshape(-1, 2) - polygon[:2]).T
    farthest = np.argmax(np.hypot(x, y))
    return not np.any(x * y[farthest] - y * x[farthest])


def to_rle(segmentation: list[np.ndarray] | dict, size: Sequence[int]) -> dict:
    """The run lengths of a segmentation that was checked; polygons are one mask together."""
    if isinstance(segmentation, dict):
        return segmentation
    height, width = size
    return coco.merge(coco.frPyObjects([polygon.tolist() for polygon in segmentation], height, width))


def _check_polygon(found: object, size: tuple[int, int]) -> np.ndarray:
    try:
        polygon = np.array(found)
    except ValueError:  # lists of several lengths
        polygon = np.zeros(0, object)
    if not isinstance(found, list) or polygon.ndim != 1 or (found and polygon.dtype.kind not in "iuf"):
        raise ValueError(f"segmentation has a polygon {shortened(found)}; expected {EXPECTED}")
    if len(polygon) % 2 or len(polygon) < 6:
        raise ValueError(
            f"segmentation has a polygon of {len(polygon)} numbers; expected x and y of at least three points"
        )
    polygon = polygon.astype(np.float64)
    if not np.isfinite(polygon).all():
        raise ValueError(f"segmentation has a polygon {shortened(found)}; expected finite numbers of pixels")
    height, width = size
    points = polygon.reshape(-1, 2)
    if points.min() < -ROUNDING or (points > [width + ROUNDING, height + ROUNDING]).any():
        raise ValueError(
            f"segmentation has a polygon from {points.min(axis=0).tolist()} to "
            f"{points.max(axis=0).tolist()}; expected it within {width} x {height} pixels"
        )
    return polygon


def _check_rle(found: dict, size: tuple[int, int]) -> dict:
    """All of it, because the library reads what it is given without looking."""
    height, width = size
    if found.get("size") != [height, width]:
        raise ValueError(
            f"segmentation has the size {shortened(found.get('size'))}; "
            f"expected {[height, width]}, height and width of its picture"
        )
    counts = found.get("counts")
    try:
        runs = _read_counts(counts)
    except ValueError as error:
        raise ValueError(f"segmentation has {error}; expected COCO's run lengths") from None
    if runs.min() < 0:
        raise ValueError("segmentation has counts with a run of negative length; expected COCO's run lengths")
    pixels = sum(runs.tolist())  # of Python, which cannot overflow
    if pixels != height * width:
        raise ValueError(
            f"segmentation has counts of {pixels} pixels; expected {height * width}, "
            f"those of {width} x {height}"
        )
    if not runs[1::2].any():
        raise ValueError("segmentation has no pixel; expected those of the object")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts.encode()}
    return coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def _read_counts(counts: object) -> np.ndarray:
    if isinstance(counts, str):
        if not counts.isascii():
            raise ValueError("counts that no mask is written as")
        return read_runs(counts.encode())
    if not isinstance(counts, list) or not all(type(run) is int for run in counts) or not counts:
        raise ValueError(f"counts {shortened(counts)}")
    if max(counts) >= 2**62 or min(counts) <= -(2**62):
        raise ValueError("counts beyond all pictures")
    return np.array(counts)
