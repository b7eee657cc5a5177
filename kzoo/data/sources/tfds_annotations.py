"""What single records of a TFDS set tell: checked like a file that somebody wrote."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from kzoo.data.faults import DataError, shortened
from kzoo.data.masks import encode
from kzoo.data.pictures import check_stored, open_stored, read_stored
from kzoo.data.sources.pairs import IGNORED, pixel_values
from kzoo.data.sources.segmentations import check_segmentation
from kzoo.data.sources.source import MASKED, clip_box
from kzoo.data.sources.tfds_features import COUNTS, IMAGE, LABEL, Features
from kzoo.data.sources.tfds_records import Record, Scanned

_DECIMALS = 3  # of pixels, that shares of 32 bits tell
_NO_CLASS = -2
_BOX = "expected ymin < ymax and xmin < xmax, from 0 to 1"
_TOLD = 10  # values that a message lists


class Row(NamedTuple):
    """One object of a picture."""

    box: tuple[float, float, float, float]
    label: int
    crowd: bool
    area: float | None
    mask: dict | None  # run lengths, where the record has them as such
    number: int  # among the objects of the record


class Picture(NamedTuple):
    """What a record tells, but for the picture itself."""

    scanned: Scanned  # without its record
    size: tuple[int, int]
    label: int  # of the whole picture
    rows: list[Row]  # crowds come last
    faults: list[tuple[str, str]]  # what is wrong with single objects, and of which kind


class Annotations:
    """Reads the records of a set for one task.

    Args:
        features: of the set.
        task: what is to be learnt.
        class_of: the class of each of the set's own numbers.
        max_pixels: the most that a picture may have.
        from_one: whether boxes begin at the first pixel, counted from 1.
    """

    def __init__(
        self, features: Features, task: str, class_of: Sequence[int], max_pixels: int, from_one: bool
    ) -> None:
        self._features = features
        self._masked = task in MASKED
        self._class_of = class_of
        self._max_pixels = max_pixels
        self._from_one = from_one
        self.by_pixels = task == "segmentation" and features.pixels is not None
        self.of_objects = task != "classification" and not self.by_pixels
        if self.by_pixels:
            self._class_of_value = self._label_table()

    def look_at(self, scanned: Scanned) -> Picture | DataError:
        """What a record tells, or what is wrong with it as a whole. Several threads may call it."""
        if isinstance(scanned.record, DataError):
            return scanned.record
        try:
            return self._look_at(scanned.record, scanned)
        except DataError as error:
            return error
        except Exception as error:  # a record may be anything, also other than the set says of its features
            expected = "expected what the set says of its features"
            return DataError(f"{scanned.place}: {type(error).__name__}: {error}; {expected}")

    def _look_at(self, record: Record, scanned: Scanned) -> Picture:
        place = scanned.place
        size = self._size(_value(record, IMAGE, place), place)
        label, rows, faults = -1, [], []
        if self.by_pixels:
            self.read_labels(record, place, size)
        elif self.of_objects:
            rows, faults = self._read_rows(record, place, size)
        else:
            label = self._class(_value(record, LABEL, place), f"{place}: {LABEL}")
        return Picture(scanned._replace(record=None), size, label, rows, faults)

    def read_picture(self, record: Record, place: str) -> np.ndarray:
        """uint8 [H, W, 3] RGB."""
        found = _value(record, IMAGE, place)
        if isinstance(found, np.ndarray):
            return np.broadcast_to(found[..., :3], (*found.shape[:2], 3)).astype(np.uint8)
        return read_stored(found, place, max_pixels=self._max_pixels)

    def read_bytes(self, record: Record, place: str) -> bytes | None:
        """The picture's file as it is stored; None where TFDS hands over pixels."""
        found = _value(record, IMAGE, place)
        return found if isinstance(found, bytes) else None

    def read_labels(self, record: Record, place: str, size: tuple[int, int]) -> np.ndarray:
        """int16 [H, W], the class of each pixel, -1 where it is ignored."""
        feature = self._features.pixels.feature
        place = f"{place}, {feature}"
        values = self._values(_value(record, feature, place), place, size)
        labels = self._class_of_value[values]
        if (labels == _NO_CLASS).any():
            stray = np.unique(values[labels == _NO_CLASS])[:_TOLD].tolist()
            known = np.flatnonzero(self._class_of_value != _NO_CLASS)[:_TOLD].tolist()
            expected = f"expected {', '.join(map(str, known))}"
            raise DataError(f"{place}: values of no class, {', '.join(map(str, stray))}; {expected}", "mask")
        return labels

    def read_masks(self, record: Record, place: str, picture: Picture) -> list[dict]:
        """The run lengths of each row, where they are kept as pictures."""
        pictures = record.get(self._features.objects.masks, ())
        if any(row.number >= len(pictures) for row in picture.rows):
            raise DataError(f"{place}: {len(pictures)} masks; expected one for each object", "mask")
        masks = []
        for row in picture.rows:
            values = self._values(pictures[row.number], f"{place}, mask {row.number + 1}", picture.size)
            masks += encode(values[None])
        return masks

    def _label_table(self) -> np.ndarray:
        """int16 [65536]: the class of each value of a label picture."""
        names = range(len(self._class_of))
        values = self._features.pixels.values or dict(zip(names, names, strict=True)) | {IGNORED: -1}
        table = np.full(2**16, _NO_CLASS, np.int16)
        for value, label in values.items():
            table[value] = self._class_of[label] if label >= 0 else -1
        return table

    def _class(self, found: object, told: str) -> int:
        if not isinstance(found, Integral) or not 0 <= found < len(self._class_of):
            expected = f"expected the number of a class, 0 to {len(self._class_of) - 1}"
            raise DataError(f"{told} {shortened(found)}; {expected}", "unknown_class")
        return self._class_of[int(found)]

    def _read_rows(
        self, record: Record, place: str, size: tuple[int, int]
    ) -> tuple[list[Row], list[tuple[str, str]]]:
        """The faultless objects, crowds last, and what is wrong with others."""
        there = self._features.objects
        shares = np.array(record.get(there.boxes, ()), np.float32)
        columns = [there.label, there.crowd, there.area, there.counts]
        values = [record.get(name, ()) if name else None for name in columns]
        lengths = {len(one) for one in values if one is not None}
        if lengths != {len(shares) / 4}:
            told = ", ".join(filter(None, (there.boxes, *columns)))
            raise DataError(f"{place}: {told} are of several lengths; expected the same of all")
        rows, faults = [], []
        for number, box in enumerate(shares.reshape(-1, 4).tolist()):
            label, crowd, area, counts = (None if one is None else one[number] for one in values)
            try:
                rows.append(
                    Row(
                        self._read_box(box, size),
                        self._class(label, "label"),
                        bool(crowd),
                        None if area is None else _number(area, "area"),
                        self._read_counts(counts, size) if counts is not None and self._masked else None,
                        number,
                    )
                )
            except DataError as error:
                told = ", ".join(f"{share:.6g}" for share in box)
                faults.append((f"object {number + 1}, bbox ({told}): {error}", error.kind))
        return sorted(rows, key=lambda row: row.crowd), faults  # it is stable

    def _read_box(self, shares: list[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Shares (ymin, xmin, ymax, xmax) as xyxy in pixels; a DataError says what is wrong with them."""
        y1, x1, y2, x2 = shares
        if not all(map(math.isfinite, shares)):
            raise DataError(f"it is not finite; {_BOX}", "not_numbers")
        if x2 < x1 or y2 < y1:
            raise DataError(f"it is reversed; {_BOX}", "reversed")
        if x2 == x1 or y2 == y1:
            raise DataError(f"it has no area; {_BOX}", "no_area")
        height, width = size
        left, right = round(x1 * width, _DECIMALS), round(x2 * width, _DECIMALS)
        top, bottom = round(y1 * height, _DECIMALS), round(y2 * height, _DECIMALS)
        return clip_box("it", (left - self._from_one, top - self._from_one, right, bottom), size)

    def _read_counts(self, counts: bytes, size: tuple[int, int]) -> dict:
        if not isinstance(counts, bytes):
            raise DataError(f"{COUNTS} {shortened(counts)}; expected COCO's compressed run lengths", "mask")
        try:
            return check_segmentation({"size": list(size), "counts": counts.decode("ascii", "replace")}, size)
        except ValueError as error:
            raise DataError(str(error), "mask") from error

    def _size(self, picture: bytes | np.ndarray, place: str) -> tuple[int, int]:
        if isinstance(picture, np.ndarray):
            return picture.shape[:2]
        return check_stored(picture, place, max_pixels=self._max_pixels)

    def _values(self, found: bytes | np.ndarray, place: str, size: tuple[int, int]) -> np.ndarray:
        """The values of a label picture of this size: uint8 or uint16 [H, W]."""
        if isinstance(found, np.ndarray):
            values = found[..., 0]
        else:
            with open_stored(found, place, self._max_pixels, "a label picture") as opened:
                opened.load()
                values = pixel_values(opened)
        if values.shape != size:
            told, expected = (f"{width} x {height}" for height, width in (values.shape, size))
            raise DataError(f"{place}: a picture of {told}; expected {expected}, as its picture has", "mask")
        return values


def _number(found: object, told: str) -> float:
    if not isinstance(found, Real):
        raise DataError(f"{told} {shortened(found)}; expected a number")
    return float(found)


def _value(record: Record, feature: str, place: str) -> object:
    values = record.get(feature, ())
    if len(values) != 1:
        raise DataError(f"{place}: {len(values)} values of {feature}; expected one")
    return values[0]
