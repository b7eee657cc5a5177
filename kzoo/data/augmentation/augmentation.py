"""Random changes of a picture that leave its labels true: geometry in one resampling, colour in one matrix.

First each picture is seen in a random way (`kzoo.data.augmentation.geometry`), and with it what is in it
(`kzoo.data.augmentation.moving`), then its colours change (`kzoo.data.augmentation.colour`). Mosaic puts four
pictures, each seen in its own way, into one; then copy-paste, then MixUp add another one
(`kzoo.data.augmentation.combining`).

Everything here is TensorFlow operations without state: the same seed gives the same picture, in any process.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Real

import numpy as np
import tensorflow as tf

from kzoo.checks import check_boolean, check_number
from kzoo.data.augmentation.colour import recolour
from kzoo.data.augmentation.combining import copy_paste, joined, mixup, mosaic
from kzoo.data.augmentation.geometry import View, displacement, resample
from kzoo.data.augmentation.moving import move_objects
from kzoo.data.resize import FILLS

# What of an example changes with how it is seen, or tells how.
_SEEN = (*FILLS, "boxes", "classes", "masks", "original_size", "scale")
# What combines pictures, and the tasks that can be learnt from it.
_COMBINING = {
    "mosaic": ("detection", "segmentation", "instance_segmentation"),
    "copy_paste": ("instance_segmentation",),
    "mixup": ("detection", "instance_segmentation"),
}


@dataclass(frozen=True)
class Augmentation:
    """How strongly pictures are changed. The values are drawn anew for each picture in each epoch.

    Args:
        horizontal_flip: probability that left and right are exchanged.
        vertical_flip: probability that top and bottom are exchanged; 0.5 suits pictures without an up, as
            from a microscope.
        quarter_turns: whether half of the pictures have rows and columns exchanged; with both flips at 0.5
            this makes all four quarter turns and their mirror pictures.
        elastic: standard deviation, in pixels of the given picture, of the random displacements of a grid of
            3 x 3 points, between which all pixels are displaced smoothly, by bicubic interpolation
            (Ronneberger et al. 2015, section 3.1).
        rotate: largest angle, in degrees, by which a picture is turned about its middle, either way. A new
            box is that of the object's mask; without masks, that of the ellipse that touches the sides of
            the old box (Kalra et al. 2021), which is nearer to most objects than the turned corners are.
        zoom: smallest and largest factor on top of the one with which the whole picture fits. A larger
            picture is cropped at a random place, a smaller one lies at a random place, on grey:
            "scale jitter". Any factor of two is as likely as any other. The usual scale jitter of detectors
            is (0.8, 1.25), large-scale jitter (0.1, 2.0) (Ghiasi et al. 2021, section 3).
        aspect: smallest and largest factor of width against height.
        brightness: largest shift of all values, as a share of 255.
        contrast: largest change of the factor by which values differ from mid grey.
        saturation: largest change of the factor by which colours differ from grey.
        hue: largest turn of the colours, as a share of the full circle.
        min_visible: an object whose box keeps a smaller share of its area within the picture, or within its
            part of a mosaic, is left out; so is one of whose mask pasted objects leave a smaller share, and
            one that is less than a pixel of `images` wide or high.
        mosaic: probability that four pictures, each in one quarter, make one (YOLOv4). Objects keep their
            sizes. Not for tasks about one object.
        copy_paste: probability that some objects of another picture are pasted upon this one, along their
            masks (Ghiasi et al. 2021). For "instance_segmentation".
        mixup: probability that the picture is mixed with another one by about a half, and the objects of
            both are kept (Zhang et al. 2018 and 2019). For "detection" and "instance_segmentation";
            `kzoo.build("classifier", mixup=0.2)` is the way for classes.

    Raises:
        ValueError: a value out of its range.

    Example:
        tissue = Augmentation(vertical_flip=0.5, quarter_turns=True, elastic=10.0)
        batches = kzoo.data.load("folder:membrane", task="segmentation", augment=tissue)
    """

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    quarter_turns: bool = False
    elastic: float = 0.0
    rotate: float = 0.0
    zoom: tuple[float, float] = (0.7, 1.4)
    aspect: tuple[float, float] = (0.9, 1.1)
    brightness: float = 0.12
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.02
    min_visible: float = 0.3
    mosaic: float = 0.0
    copy_paste: float = 0.0
    mixup: float = 0.0

    def __post_init__(self):
        shares = (
            "horizontal_flip",
            "vertical_flip",
            "brightness",
            "contrast",
            "saturation",
            "hue",
            "min_visible",
            *_COMBINING,
        )
        for name in shares:
            check_number(name, getattr(self, name), least=0, most=1)
        check_number("elastic", self.elastic, least=0)
        check_number("rotate", self.rotate, least=0, most=180)
        for name in ("zoom", "aspect"):
            value = getattr(self, name)
            is_pair = isinstance(value, tuple) and len(value) == 2 and all(map(_is_factor, value))
            if not is_pair or value[0] > value[1]:
                raise ValueError(
                    f"Augmentation({name}={value!r}): give a pair (smallest, largest) of factors above 0."
                )
        check_boolean("quarter_turns", self.quarter_turns)

    @property
    def shrinks(self) -> float:
        """How many times a picture that is kept as large as `zoom` may need it may be larger than given."""
        return max(self.zoom[1], 1.0) / self.zoom[0]

    def check_task(self, task: str) -> None:
        """Raises a `ValueError` if pictures changed like this cannot teach a task."""
        for name, tasks in _COMBINING.items():
            probability = getattr(self, name)
            if probability and task not in tasks:
                advice = ""
                if name == "mixup" and task == "classification":
                    advice = ' The model mixes pictures itself: kzoo.build("classifier", mixup=0.2).'
                raise ValueError(
                    f"Augmentation({name}={probability!r}) with task={task!r}: its labels cannot be combined "
                    f"like this. The tasks that can: {', '.join(tasks)}.{advice}"
                )


def _is_factor(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < value < math.inf


def augment(
    example: dict[str, tf.Tensor],
    seed: tf.Tensor,
    image_size: tuple[int, int],
    settings: Augmentation,
    partner: Callable[[int], dict[str, tf.Tensor]] | None = None,
) -> dict[str, tf.Tensor]:
    """One picture and its labels, changed at random and brought to the size that the model is given.

    Args:
        example: `images` uint8 [h, w, 3], the whole picture at a size to sample from; `original_size` [2] of
            the picture on disk; `scale` [2] (y, x) with which it would fit `image_size`. Optionally further
            layers of pixels, `labels` and `borders`, uint8 [h, w, 1]; or `boxes` [G, 4] xyxy in own pixels,
            `classes` [G] where padding is -1 and `masks` uint8 [n, 56, 56], within the boxes of the n rows
            that are no padding. Anything else is passed on.
        seed: int64 [2].
        image_size: height and width that the model is given.
        settings: how strongly.
        partner: another example, by a number from 1 to 5, for what combines pictures. It is asked for only
            where it is drawn that pictures are combined.

    Returns:
        The same structure: `images` uint8 [H, W, 3]; `labels` and `borders` [H, W, 1], 0 outside the picture;
        `boxes` [S, 4] in given pixels and `classes` [S], objects that are still to be seen first, then crowd
        regions, then padding; `masks` of those within what is left of their boxes; `scale` the factors used.
        S is G, times four with mosaic, and G more with each of copy-paste and MixUp. Of what is passed on,
        and of `scale`, it is this picture's.
    """
    seen_one = partial(_seen, settings=settings)
    if any(getattr(settings, name) for name in _COMBINING):
        # Traced once for all pictures that are combined, and optimised once.
        seen_one = tf.function(seen_one, autograph=False, experimental_attributes={"_noinline": True})

    def see(picture, seed, size=image_size):
        parts = {name: part for name, part in picture.items() if name in _SEEN}
        return picture | seen_one(parts, seed, tf.convert_to_tensor(size))

    draws = tf.random.stateless_uniform([3], tf.random.fold_in(seed, 3))
    keys = [tf.random.fold_in(seed, number) for number in range(4, 8)]
    slots = example["boxes"].shape[0] if "boxes" in example else 0
    if settings.mosaic:
        if min(image_size) < 2:
            raise ValueError(f"image_size={image_size!r}: a mosaic of four takes at least two pixels a side.")
        seen = tf.cond(
            draws[0] < settings.mosaic,
            lambda: mosaic([example, partner(1), partner(2), partner(3)], seed, image_size, see),
            lambda: _with_slots(see(example, seed), 4 * slots),
        )
    else:
        seen = see(example, seed)
    if settings.copy_paste:
        seen = tf.cond(
            draws[1] < settings.copy_paste,
            lambda below=seen: copy_paste(below, see(partner(4), keys[0]), keys[1], settings.min_visible),
            lambda alone=seen: _with_slots(alone, alone["classes"].shape[0] + slots),
        )
    if settings.mixup:
        seen = tf.cond(
            draws[2] < settings.mixup,
            lambda first=seen: mixup(first, see(partner(5), keys[2]), keys[3]),
            lambda alone=seen: _with_slots(alone, alone["classes"].shape[0] + slots),
        )
    for name in FILLS.keys() & seen.keys():
        seen[name] = tf.ensure_shape(seen[name], [*image_size, example[name].shape[-1]])
    return seen


def _with_slots(seen, slots):
    """The same with more rows of padding."""
    return seen | joined([seen], slots)


def _seen(example, seed, image_size, settings):
    """What changes of one picture when it is seen in a random way, at a size int32 [2]."""
    draws = tf.random.stateless_uniform([11], seed)
    geometry, colour = draws[:7], draws[7:]
    layers = {name: example[name] for name in FILLS if name in example}
    boxes, masks = example.get("boxes"), example.get("masks")
    size = tf.cast(example["original_size"], tf.float32)
    scale = example["scale"] * _zoom(geometry[:2], settings)
    if settings.quarter_turns:
        layers, boxes, masks, size, scale = tf.cond(
            geometry[6] < 0.5,
            lambda: _turn(layers, boxes, masks, size, scale),
            lambda: (layers, boxes, masks, size, scale),
        )
    view = View(
        own_size=size,
        size=image_size,
        scale=scale,
        # Along an axis where the picture is smaller it lies anywhere within the given size, else covers it.
        offset=geometry[2:4] * (tf.cast(image_size, tf.float32) - size * scale),
        flip=geometry[4:6] < tf.constant([settings.vertical_flip, settings.horizontal_flip]),
    )
    if settings.rotate:
        share = tf.random.stateless_uniform([], tf.random.fold_in(seed, 2), -1.0, 1.0)
        view = view._replace(angle=math.radians(settings.rotate) * share)
    if settings.elastic:
        displaced = displacement(tf.random.fold_in(seed, 1), image_size, settings.elastic)
        view = view._replace(displacement=displaced)

    moved = {"scale": scale}
    if boxes is not None:
        moved |= move_objects(boxes, example["classes"], masks, view, settings.min_visible)
    moved |= resample(layers, view, settings.shrinks)
    strengths = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    if any(strengths):
        moved["images"] = recolour(moved["images"], colour, *strengths)
    for name in layers.keys() - ({"images"} if any(strengths) else set()):
        moved[name] = tf.cast(tf.round(moved[name]), tf.uint8)
    return moved


def _turn(layers, boxes, masks, size, scale):
    """Rows and columns exchanged."""
    layers = {name: tf.transpose(layer, [1, 0, 2]) for name, layer in layers.items()}
    if boxes is not None:
        boxes = tf.gather(boxes, [1, 0, 3, 2], axis=1)
    if masks is not None:
        masks = tf.transpose(masks, [0, 2, 1])
    return layers, boxes, masks, size[::-1], scale[::-1]


def _zoom(draws, settings):
    """Factors (y, x) on top of the fit: equal steps of a logarithm, so that twice is as likely as half."""
    logarithms = np.log([settings.zoom, settings.aspect]).astype(np.float32)  # [zoom or aspect, low or high]
    zoom, aspect = tf.unstack(logarithms[:, 0] + draws * (logarithms[:, 1] - logarithms[:, 0]))
    return tf.exp(tf.stack([zoom - aspect / 2, zoom + aspect / 2]))
