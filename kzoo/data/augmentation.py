"""Random changes of a picture that leave its labels true: geometry in one resampling, colour in one matrix.

Everything here is TensorFlow operations without state: the same seed gives the same picture, in any process.
"""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kzoo.checks import check_number
from kzoo.classes import CROWD
from kzoo.data.masks import MASK_SIZE
from kzoo.data.resize import FILLS


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
            (Ronneberger et al. 2015, section 3.1). Not for tasks about boxes or masks within them.
        zoom: smallest and largest factor on top of the one with which the whole picture fits.
        aspect: smallest and largest factor of width against height.
        brightness: largest shift of all values, as a share of 255.
        contrast: largest change of the factor by which values differ from mid grey.
        saturation: largest change of the factor by which colours differ from grey.
        hue: largest turn of the colours, as a share of the full circle.
        min_visible: an object whose box keeps a smaller share of its area within the picture is left out.

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
    zoom: tuple[float, float] = (0.7, 1.4)
    aspect: tuple[float, float] = (0.9, 1.1)
    brightness: float = 0.12
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.02
    min_visible: float = 0.3

    def __post_init__(self):
        shares = (
            "horizontal_flip",
            "vertical_flip",
            "brightness",
            "contrast",
            "saturation",
            "hue",
            "min_visible",
        )
        for name in shares:
            check_number(name, getattr(self, name), least=0, most=1)
        check_number("elastic", self.elastic, least=0)
        for name in ("zoom", "aspect"):
            value = getattr(self, name)
            if not (isinstance(value, tuple) and len(value) == 2 and 0 < value[0] <= value[1] < math.inf):
                raise ValueError(
                    f"Augmentation({name}={value!r}): give a pair (smallest, largest) of factors above 0."
                )


def augment(
    example: dict[str, tf.Tensor], seed: tf.Tensor, image_size: tuple[int, int], settings: Augmentation
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
        settings: how strongly. Boxes do not know of `elastic`.

    Returns:
        The same structure: `images` uint8 [H, W, 3]; `labels` and `borders` [H, W, 1], 0 outside the picture;
        `boxes` [G, 4] in given pixels, those that are still to be seen first, then padding; `masks` of those
        within what the picture's border has left of their boxes; `scale` the factors used.
    """
    draws = tf.random.stateless_uniform([11], seed)
    geometry, colour = draws[:7], draws[7:]
    layers = {name: example[name] for name in FILLS if name in example}
    boxes = example.get("boxes", tf.zeros([0, 4]))
    masks = example.get("masks", tf.zeros([0, MASK_SIZE, MASK_SIZE], tf.uint8))
    size = tf.cast(example["original_size"], tf.float32)
    scale = example["scale"] * _zoom(geometry[:2], settings)
    if settings.quarter_turns:
        layers, boxes, masks, size, scale = tf.cond(
            geometry[6] < 0.5,
            lambda: _turn(layers, boxes, masks, size, scale),
            lambda: (layers, boxes, masks, size, scale),
        )
    # The picture lies anywhere within the given size along an axis where it is smaller, else it covers it.
    offset = geometry[2:4] * (tf.constant(image_size, tf.float32) - size * scale)
    flip = geometry[4:6] < tf.constant([settings.vertical_flip, settings.horizontal_flip])

    moved = {"scale": scale}
    if "boxes" in example:
        moved |= _move_objects(example, boxes, masks, scale, offset, flip, image_size, settings)
    if settings.elastic:
        displacement = _displacement(tf.random.fold_in(seed, 1), image_size, settings.elastic)
        moved |= _deform(layers, size, scale, offset, flip, displacement)
    else:
        window = _window(tf.shape(layers["images"])[:2], size, scale, offset, flip, image_size)
        moved |= {name: _crop(name, layer, window, image_size) for name, layer in layers.items()}
    moved["images"] = _recolour(moved["images"], colour, settings)
    for name in layers.keys() - {"images"}:
        moved[name] = tf.cast(tf.round(moved[name]), tf.uint8)
    return example | moved


def _turn(layers, boxes, masks, size, scale):
    """Rows and columns exchanged."""
    layers = {name: tf.transpose(layer, [1, 0, 2]) for name, layer in layers.items()}
    boxes, masks = tf.gather(boxes, [1, 0, 3, 2], axis=1), tf.transpose(masks, [0, 2, 1])
    return layers, boxes, masks, size[::-1], scale[::-1]


def _zoom(draws, settings):
    """Factors (y, x) on top of the fit: equal steps of a logarithm, so that twice is as likely as half."""
    logarithms = np.log([settings.zoom, settings.aspect]).astype(np.float32)  # [zoom or aspect, low or high]
    zoom, aspect = tf.unstack(logarithms[:, 0] + draws * (logarithms[:, 1] - logarithms[:, 0]))
    return tf.exp(tf.stack([zoom - aspect / 2, zoom + aspect / 2]))


def _window(sampled_size, size, scale, offset, flip, image_size):
    """Where `crop_and_resize` is to take its samples, [1, 4]: y and x of the first one, then of the last one.

    It wants them in units where 0 and 1 are the centres of the first and of the last pixel. So the window
    runs from the centre of the first given pixel to the centre of the last one.
    """
    sampled_size = tf.cast(sampled_size, tf.float32)
    given = tf.constant([[0.5, 0.5], [image_size[0] - 0.5, image_size[1] - 0.5]])  # [first or last, y or x]
    given = tf.where(flip, given[::-1], given)
    window = ((given - offset) / (size * scale) * sampled_size - 0.5) / tf.maximum(sampled_size - 1, 1)
    # Rounding must not push a sample on the very edge out of the picture, where there is only grey.
    return tf.reshape(0.5 + (window - 0.5) * (1 - 2e-6), [1, 4])


def _crop(name, layer, window, image_size):
    """One layer [h, w, C] within a window, float32 [H, W, C]."""
    method = "nearest" if name == "labels" else "bilinear"
    return tf.image.crop_and_resize(layer[None], window, [0], image_size, method, FILLS[name])[0]


def _displacement(seed, image_size, elastic):
    """How far from its own place each given pixel is taken, y and x, float32 [2, H, W] in given pixels."""
    coarse = elastic * tf.random.stateless_normal([3, 3, 2], seed)
    return tf.transpose(tf.image.resize(coarse, image_size, "bicubic"), [2, 0, 1])


def _deform(layers, size, scale, offset, flip, displacement):
    """All layers [h, w, C] with their pixels displaced by [2, H, W], float32 [H, W, C].

    Without displacement it is what `_crop` makes of `_window`, but that the picture ends with the outer
    border of its pixels instead of the centres of the last ones. Bilinear as `kzoo.layers.sampler` is, which
    has gradients and takes several times as long.
    """
    image_size = displacement.shape[1:]
    height, width, _ = tf.unstack(tf.shape(layers["images"]))
    lengths, places = (height, width), []
    for axis, shape in enumerate(([-1, 1], [1, -1])):
        length, given = tf.cast(lengths[axis], tf.float32), image_size[axis]
        centres = tf.range(given, dtype=tf.float32) + 0.5
        centres = tf.reshape(tf.where(flip[axis], given - centres, centres), shape)
        factor = length / (size[axis] * scale[axis])
        places.append((centres - offset[axis]) * factor + displacement[axis] * factor)  # [H, W]
    y, x = (tf.reshape(place, [-1]) for place in places)  # [H * W], from the outer corner
    inside = (y >= 0) & (y <= tf.cast(height, y.dtype)) & (x >= 0) & (x <= tf.cast(width, x.dtype))

    moved = {}
    for name, layer in layers.items():
        channels = layer.shape[-1]
        rows = tf.pad(tf.reshape(layer, [-1, channels]), [[0, 1], [0, 0]], constant_values=FILLS[name])
        if name == "labels":
            sampled = tf.gather(rows, _nearest(y, x, inside, height, width))
        else:
            sampled = _between(tf.cast(rows, tf.float32), y, x, inside, height, width)
        moved[name] = tf.cast(tf.reshape(sampled, [*image_size, channels]), tf.float32)
    return moved


def _nearest(y, x, inside, height, width):
    """The rows of the pixels in which places lie; outside the picture it is the row behind the last pixel."""
    row = tf.clip_by_value(tf.cast(y, tf.int32), 0, height - 1)
    column = tf.clip_by_value(tf.cast(x, tf.int32), 0, width - 1)
    return tf.where(inside, row * width + column, height * width)


def _between(rows, y, x, inside, height, width):
    """Bilinear samples at places [P] of pixels [height * width + 1, C]; outside the picture the last one."""
    y = tf.clip_by_value(y - 0.5, 0.0, tf.cast(height - 1, tf.float32))
    x = tf.clip_by_value(x - 0.5, 0.0, tf.cast(width - 1, tf.float32))
    first = _nearest(y, x, inside, height, width)
    down, right = (y - tf.floor(y))[:, None], (x - tf.floor(x))[:, None]
    # Beyond the last row and the last column it is some other pixel, of which the share is 0.
    neighbours = (tf.minimum(first + step, height * width) for step in (0, 1, width, width + 1))
    top_left, top_right, low_left, low_right = (tf.gather(rows, neighbour) for neighbour in neighbours)
    top = top_left + (top_right - top_left) * right
    low = low_left + (low_right - low_left) * right
    return top + (low - top) * down


def _move_objects(example, boxes, masks, scale, offset, flip, image_size, settings):
    """Boxes, classes and masks of what is still to be seen."""
    whole, visible = _move_boxes(boxes, scale, offset, flip, image_size)
    kept = _still_seen(whole, visible, example["classes"], settings.min_visible)
    moved = {}
    if "masks" in example:
        masks = _move_masks(*(tf.gather(rows, kept) for rows in (masks, whole, visible)), flip)
        has_samples = tf.reduce_any(masks > 0, axis=[1, 2]) | (tf.gather(example["classes"], kept) == CROWD)
        kept, moved["masks"] = kept[has_samples], masks[has_samples]
    moved["boxes"] = _close_ranks(visible, kept)
    moved["classes"] = _close_ranks(example["classes"] + 1, kept) - 1  # padding is -1
    return moved


def _move_boxes(boxes, scale, offset, flip, image_size):
    """Boxes [G, 4] from own to given pixels: whole, and what is visible of them."""
    limit = tf.constant(image_size[::-1] * 2, tf.float32)  # x, y, x, y
    moved = boxes * tf.gather(scale, [1, 0, 1, 0]) + tf.gather(offset, [1, 0, 1, 0])
    mirrored = tf.gather(limit - moved, [2, 3, 0, 1], axis=1)
    moved = tf.where(tf.gather(flip, [1, 0, 1, 0]), mirrored, moved)
    return moved, tf.clip_by_value(moved, 0, limit)


def _still_seen(whole, visible, classes, min_visible):
    """The places [K] of the boxes of which enough is visible; of a crowd region anything is enough."""
    area, rest = (tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (whole, visible))
    enough = ((classes >= 0) & (rest >= min_visible * area)) | (classes == CROWD)
    return tf.where(enough & (rest > 0))[:, 0]


def _move_masks(masks, whole, visible, flip):
    """Masks [K, 56, 56] within whole boxes [K, 4], mirrored and cut to what is visible of the boxes.

    Each sample is the nearest one. Two gathers are the fastest way: of rows, then of columns as rows.
    """
    begin, extent = whole[:, :2], whole[:, 2:] - whole[:, :2]  # [K, 2], x and y
    along = ((tf.range(MASK_SIZE, dtype=tf.float32) + 0.5) / MASK_SIZE)[:, None]  # [56, 1]
    places = visible[:, None, :2] + along * (visible[:, None, 2:] - visible[:, None, :2])  # [K, 56, 2]
    shares = (places - begin[:, None]) / extent[:, None]
    shares = tf.where(flip[::-1], 1 - shares, shares)
    nearest = tf.clip_by_value(tf.cast(shares * MASK_SIZE, tf.int32), 0, MASK_SIZE - 1)
    masks = tf.gather(masks, nearest[..., 1], axis=1, batch_dims=1)
    masks = tf.gather(tf.transpose(masks, [0, 2, 1]), nearest[..., 0], axis=1, batch_dims=1)
    return tf.transpose(masks, [0, 2, 1])


def _close_ranks(values, kept):
    """The rows that are kept, then zeros, the shape as it was."""
    free = values.shape[0] - tf.shape(kept)[0]
    padded = tf.pad(tf.gather(values, kept), [[0, free]] + [[0, 0]] * (values.shape.rank - 1))
    return tf.ensure_shape(padded, values.shape)


# Any colour is a grey (the mean of its channels) and a difference to it. Hue turns the difference about
# the grey axis, saturation makes it longer or shorter. So there are three basis matrices: grey, difference,
# turned difference.
_GREY = np.full([3, 3], 1 / 3)
_TURNED = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
_BASIS = np.stack([_GREY, np.eye(3) - _GREY, _TURNED]).reshape(3, 9).astype(np.float32)


def _recolour(pixels, draws, settings):
    """Brightness, contrast, saturation and hue of float32 [H, W, 3]: all are linear, so one matrix does."""
    strengths = [
        settings.brightness * 255,
        settings.contrast,
        settings.saturation,
        settings.hue * 2 * math.pi,
    ]
    brightness, contrast, saturation, hue = tf.unstack((2 * draws - 1) * strengths)
    contrast, saturation = 1 + contrast, 1 + saturation
    weights = contrast * tf.stack([1.0, saturation * tf.cos(hue), saturation * tf.sin(hue)])
    matrix = tf.reshape(tf.linalg.matvec(_BASIS, weights, transpose_a=True), [3, 3])
    bias = brightness + (1 - contrast) * 127.5 + 0.5  # a half, because the cast cuts the fraction off
    recoloured = tf.matmul(tf.reshape(pixels, [-1, 3]), matrix) + bias
    return tf.cast(tf.reshape(tf.clip_by_value(recoloured, 0, 255), pixels.shape), tf.uint8)
