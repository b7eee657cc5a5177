"""`"shapes"`: coloured shapes on a textured ground, drawn on demand and the same on every machine.

`"shapes:N"` has one to N of them in a picture.

A picture is made from a stream of random bytes that depends on the seed, the split and the picture's
number alone: first the layout (what lies where: all that annotations need), then the paint (colours, ground,
grain). The bytes are those of the Mersenne twister, seeded the way that NumPy has frozen for good. From there
on arithmetic is exact, so that no machine's rounding reaches a pixel: it is in integers but for two places,
which say why they are exact all the same.

Later shapes cover earlier ones, and an object is what remains visible of it: its mask holds the visible
pixels and its box is tight around them. At least half of each shape remains visible.
"""

import math
import re
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from kzoo.data.class_names import object_classes, pixel_classes
from kzoo.data.faults import DataError
from kzoo.data.masks import encode
from kzoo.data.sources.labels import labels_of_masks
from kzoo.data.sources.source import ONE_OBJECT, Info, Split, check_name, check_split
from kzoo.tasks import TASKS

KINDS = ("circle", "square", "triangle", "star", "ring")
SPLITS = {"train": 2000, "val": 200, "test": 200}
SIDE = 128  # pixels, of a picture

MOST_OBJECTS = 6  # of a picture, where nothing else is asked for
MOST_EVER = 30  # more would find neither place nor a colour of their own
_RADII = (8, 32)  # pixels, from the centre to the farthest point
_VISIBLE = (1, 2)  # of a shape's pixels at least so many remain visible
_TURN = 120  # steps of rotation in a full turn; a multiple of each polygon's corners


class Shapes:
    """The source behind `"shapes"` and `"shapes:N"`.

    Args:
        spec: the text that messages call it by.
        most: pictures have one object to so many, if there is place. None: up to six, or a single one where
            the task is `classification` or `box_regression`.
        task: what is to be learnt.
        classes: an order of the classes other than `KINDS`, with or without "background" in front where it is
            about pixels; it may have further names.
        seed: another seed makes other pictures, 0 to 2**32 - 1.
    """

    is_drawn = True

    def __init__(
        self,
        spec: str = "shapes",
        *,
        most: int | None = None,
        task: str | None = None,
        classes: tuple[str, ...] | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
            raise DataError(f"shapes: seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
        if most is not None and not 1 <= most <= MOST_EVER:
            raise DataError(f"{spec}: {most} objects a picture; expected 1 to {MOST_EVER}")
        self._pixels = task == "segmentation"
        self._objects = object_classes(classes or KINDS) if self._pixels else classes or KINDS
        for kind in KINDS:
            check_name(spec, "class", kind, self._objects)
        names = pixel_classes(self._objects) if self._pixels else self._objects
        tasks = tuple(name for name in TASKS if most in (None, 1) or name not in ONE_OBJECT)
        self.info = Info(spec, names, dict(SPLITS), tasks)
        self.max_objects = most or (1 if task in ONE_OBJECT else MOST_OBJECTS)
        self._seed = int(seed)

    def split(self, name: str, *, strict: bool = False, part: slice = slice(None)) -> Split:
        """One split or a part of it; there are no faults in it for `strict` to find."""
        check_split(self.info, name)
        key = (self._seed, list(SPLITS).index(name))
        numbers = range(SPLITS[name])[part]
        kinds, boxes = _annotations(*key, SPLITS[name], self.max_objects)
        class_of_kind = np.array([self._objects.index(kind) for kind in KINDS], np.int32)
        classes = tuple(class_of_kind[kind] for kind in kinds[part])

        def read(index: int) -> np.ndarray:
            return _read(*key, self.max_objects, numbers[index])

        def read_masks(index: int) -> list[dict]:
            return _read_masks(*key, self.max_objects, numbers[index])

        def read_labels(index: int) -> np.ndarray:
            return labels_of_masks(read_masks(index), classes[index], (SIDE, SIDE))

        return Split(
            name=name,
            boxes=boxes[part],
            classes=classes,
            names=tuple(f"{self.info.spec}:{name}[{number}]" for number in numbers),
            sizes=((SIDE, SIDE),) * len(numbers),
            read=read,
            read_masks=read_masks,
            read_labels=read_labels if self._pixels else None,
            label_state=(lambda index: "drawn") if self._pixels else None,
        )


def open_shapes(
    spec: str, where: str, *, task: str | None, classes: tuple[str, ...] | None, seed: int
) -> Shapes:
    """The source behind `"shapes"` and, with the number `where`, `"shapes:N"`; otherwise as `Shapes`."""
    if spec != "shapes" and not re.fullmatch(r"\d{1,9}", where, re.ASCII):
        expected = "'shapes', or 'shapes:N' with N from 1"
        raise DataError(f"{spec!r} has no number of objects behind the colon; expected {expected}")
    return Shapes(spec, most=int(where) if where else None, task=task, classes=classes, seed=seed)


@dataclass(frozen=True)
class _Layout:
    kinds: np.ndarray  # int32 [n], indices of KINDS
    boxes: np.ndarray  # float32 [n, 4]
    owner: np.ndarray  # uint8 [SIDE, SIDE]: 0 where the ground is, i + 1 where object i is visible


@lru_cache(maxsize=16)
def _annotations(seed: int, split: int, pictures: int, most: int) -> tuple[tuple[np.ndarray, ...], ...]:
    layouts = [_lay_out(_Words(seed, split, index), most) for index in range(pictures)]
    for layout in layouts:
        layout.boxes.flags.writeable = False  # they are shared
    return tuple(layout.kinds for layout in layouts), tuple(layout.boxes for layout in layouts)


def _read(seed: int, split: int, most: int, index: int) -> np.ndarray:
    words = _Words(seed, split, index)
    layout = _lay_out(words, most)
    return _paint(words, layout)


def _read_masks(seed: int, split: int, most: int, index: int) -> list[dict]:
    layout = _lay_out(_Words(seed, split, index), most)
    return encode(layout.owner == np.arange(1, len(layout.kinds) + 1, dtype=np.uint8)[:, None, None])


class _Words:
    """A stream of random integers, the same with every version of NumPy."""

    def __init__(self, *key: int) -> None:
        self._state = np.random.RandomState(np.random.MT19937(0))  # a seed, so as not to wait for entropy
        self._state.seed(list(key))

    def below(self, bounds: list[int]) -> list[int]:
        """For each bound an integer from 0 to less than the bound."""
        words = np.frombuffer(self._state.bytes(4 * len(bounds)), "<u4").tolist()
        return [word * bound >> 32 for word, bound in zip(words, bounds, strict=True)]

    def octets(self, *shape: int) -> np.ndarray:
        """uint8 of the shape, each from 0 to 255."""
        return np.frombuffer(self._state.bytes(math.prod(shape)), np.uint8).reshape(shape)


def _lay_out(words: _Words, most: int) -> _Layout:
    """Places shapes one upon the other; one that would hide too much of another is tried again elsewhere."""
    wanted = 1 + words.below([most])[0]
    owner = np.zeros((SIDE, SIDE), np.uint8)
    kinds, areas, visible = [], [], []
    for _ in range(4 * wanted):
        if len(kinds) == wanted:
            break
        low, high = _RADII
        kind, spread, angle, row, column = words.below([len(KINDS), 1024, _TURN, 2**16, 2**16])
        radius = low + ((high + 1 - low) * spread * spread >> 20)  # squared: small ones are more frequent
        shape = _stencil(KINDS[kind], radius, angle % (_TURN // _CORNERS.get(KINDS[kind], _TURN)))
        height, width = shape.shape
        top, left = row * (SIDE + 1 - height) >> 16, column * (SIDE + 1 - width) >> 16
        below = owner[top : top + height, left : left + width]
        covered = np.bincount(below[shape], minlength=len(kinds) + 1)[1:].tolist()
        least, of = _VISIBLE
        if any(
            (now - lost) * of < area * least for now, lost, area in zip(visible, covered, areas, strict=True)
        ):
            continue
        kinds.append(kind)
        below[shape] = len(kinds)
        areas.append(int(np.count_nonzero(shape)))
        visible = [now - lost for now, lost in zip(visible, covered, strict=True)] + areas[-1:]
    boxes = [_tight_box(owner == number) for number in range(1, len(kinds) + 1)]
    return _Layout(np.array(kinds, np.int32), np.array(boxes, np.float32), owner)


def _tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


_CORNERS = {"triangle": 3, "square": 4, "star": 5}  # by a turn of so many parts the shape falls onto itself

# Sines in 1/2**14. Rounded from floating point, and none is near a tie (tested), so that a last bit that
# differs between two C libraries cannot show.
_SINES = tuple(round(2**14 * math.sin(2 * math.pi * step / _TURN)) for step in range(_TURN))


@cache  # there are some 2,500
def _stencil(kind: str, radius: int, angle: int) -> np.ndarray:
    """The pixels of a shape, bool, cut to its extent; `angle` is in steps of 1 / `_TURN` of a turn."""
    offsets = np.arange(-radius, radius + 1, dtype=np.int64)
    if kind in _CORNERS:
        shape = _inside(_corners(kind, radius, angle), 16 * offsets)
    else:
        squared = offsets[:, None] ** 2 + offsets**2
        shape = squared <= radius**2
        if kind == "ring":
            shape &= 4 * squared > radius**2
    left, top, right, bottom = _tight_box(shape)
    shape = np.ascontiguousarray(shape[top:bottom, left:right])
    shape.flags.writeable = False  # it is shared
    return shape


def _corners(kind: str, radius: int, angle: int) -> list[tuple[int, int]]:
    """Corners (x, y) around the centre, in 1/16 pixel; behind each outer one a star has an inner one."""
    count = _CORNERS[kind]
    corners = []
    for corner in range(count):
        corners.append(_point(16 * radius, angle + corner * _TURN // count))
        if kind == "star":
            corners.append(_point(7 * radius, angle + (2 * corner + 1) * _TURN // (2 * count)))
    return corners


def _point(distance: int, step: int) -> tuple[int, int]:
    """The point at a distance in a direction, rounded to whole units."""
    cosine, sine = _SINES[(step + _TURN // 4) % _TURN], _SINES[step % _TURN]
    return (distance * cosine + 2**13) >> 14, (distance * sine + 2**13) >> 14


def _inside(corners: list[tuple[int, int]], offsets: np.ndarray) -> np.ndarray:
    """The pixels inside a polygon by the even-odd rule: bool [len(offsets), len(offsets)].

    A ray from the pixel's centre to the right crosses the outline an odd number of times.
    """
    x, y = offsets[None, :], offsets[:, None]
    inside = np.zeros((len(offsets), len(offsets)), bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        spans = (y0 <= y) != (y1 <= y)
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)  # the sign says on which side of the edge
        inside ^= spans & ((side > 0) if y1 > y0 else (side < 0))
    return inside


# The octaves of the ground: pixels, powers of two, coarsest first. The first mixes the ground's two colours.
_CELLS = (64, 32, 16, 8)
_APART = 200  # aimed at: the difference, summed over channels, between a shape's colour and any other colour
_CANDIDATES = 48  # colours to choose from for one picture


def _paint(words: _Words, layout: _Layout) -> np.ndarray:
    """uint8 [SIDE, SIDE, 3]."""
    colours = _choose_colours(words, len(layout.kinds))  # [2 + n, 3]: two of the ground, one of each shape
    picture = _ground(words, colours[0], colours[1])  # int16 [3, H, W]: long rows are faster
    _distract(words, picture)
    shades = np.concatenate([colours[:1], colours[2:]])  # row 0 stands for the ground and is not used
    covered = layout.owner > 0
    owner = layout.owner[covered]
    for channel, shade in zip(picture, shades.T, strict=True):
        channel[covered] = shade[owner]
    picture += (words.octets(SIDE, SIDE) >> 4).astype(np.int16) - 8  # grain
    return np.stack(list(np.clip(picture, 0, 255).astype(np.uint8)), axis=-1)


def _choose_colours(words: _Words, shapes: int) -> np.ndarray:
    """int16 [2 + shapes, 3]: two dull ones of the ground, then one of each shape, far from all before it."""
    middle, *tints = words.below([120] + [48] * 6)
    colours = [
        np.array([60 + middle + tint - dim for tint in tints[start : start + 3]], np.int16)
        for start, dim in ((0, 0), (3, 24))
    ]
    candidates = words.octets(_CANDIDATES, 3).astype(np.int16)
    candidates = candidates[candidates.max(axis=1) - candidates.min(axis=1) >= 96]  # vivid
    nearest = np.minimum(*(np.abs(candidates - colour).sum(axis=1) for colour in colours))
    for _ in range(shapes):
        apart = nearest >= _APART
        chosen = apart.argmax() if apart.any() else nearest.argmax()
        colours.append(candidates[chosen])
        nearest = np.minimum(nearest, np.abs(candidates - candidates[chosen]).sum(axis=1))
    return np.stack(colours)


def _ground(words: _Words, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two colours that run into each other, roughened by octaves of smooth noise. int16 [3, SIDE, SIDE]."""
    mix, *rough = (_smooth(words, cell) for cell in _CELLS)  # [H, W], 0 to 255
    first, second = first[:, None, None], second[:, None, None]
    picture = first + ((second - first) * mix >> 8)
    roughness = 2 + words.below([4])[0]  # of 32
    picture += (sum(rough) - np.int16(3 * 128)) * np.int16(roughness) >> 5
    return picture


def _smooth(words: _Words, cell: int) -> np.ndarray:
    """Random values at the corners of cells, interpolated between them. int16 [SIDE, SIDE], 0 to 255."""
    weights = _interpolation(cell)
    corners = words.octets(weights.shape[1], weights.shape[1])
    # Exact in floating point in whatever order it adds: multiples of 1 / cell**2, of 20 bits at the most.
    return (weights @ corners @ weights.T).astype(np.int16)


@cache
def _interpolation(cell: int) -> np.ndarray:
    """float64 [SIDE, SIDE / cell + 1]: the weights of the two corners around each pixel."""
    weights = np.zeros((SIDE, SIDE // cell + 1))
    pixels = np.arange(SIDE)
    weights[pixels, pixels // cell] = (cell - pixels % cell) / cell
    weights[pixels, pixels // cell + 1] = (pixels % cell) / cell
    return weights


def _distract(words: _Words, picture: np.ndarray) -> None:
    """Draws thin lines and dots that are no objects onto the picture."""
    lines, dots = words.below([5, 13])
    for _ in range(lines):
        x0, y0, x1, y1, *change = words.below([SIDE] * 4 + [97] * 3)
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        along = np.arange(steps + 1)
        x, y = x0 + along * (x1 - x0) // steps, y0 + along * (y1 - y0) // steps
        picture[:, y, x] += np.array(change, np.int16)[:, None] - 48
    for _ in range(dots):
        x, y, side, *change = words.below([SIDE - 3, SIDE - 3, 3] + [129] * 3)
        picture[:, y : y + side + 1, x : x + side + 1] += np.array(change, np.int16)[:, None, None] - 64
