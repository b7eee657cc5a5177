"""Objects taken along where their picture goes: boxes, classes, and masks within the boxes."""

import math

import numpy as np
import tensorflow as tf

from kzoo.classes import CROWD
from kzoo.data.augmentation.geometry import View
from kzoo.data.masks import MASK_SIZE

# What a box is taken to be full of where nothing tells more: the ellipse that touches its four sides, of
# which turning makes a box that is near what an annotator would draw; the box about the turned corners is
# too large for nearly any object (Kalra et al. 2021, "Towards Rotation Invariance in Object Detection").
# Of a crowd region all that lies in it stays ignored, so that there it is the corners.
_CIRCLE = np.linspace(0, 2 * math.pi, 64, endpoint=False, dtype=np.float32)
_CIRCLE = np.stack([np.sin(_CIRCLE), np.cos(_CIRCLE)], axis=-1)  # y, x
_ELLIPSE = 0.5 + 0.5 * _CIRCLE  # [64, 2] shares of height and width
_RECTANGLE = 0.5 + 0.5 * _CIRCLE / np.abs(_CIRCLE).max(axis=1, keepdims=True)
MIN_SIDE = 1.0  # given pixels: of an object with a shorter side nothing is to be learnt
_CORNERS = [0, MASK_SIZE * (MASK_SIZE - 1), MASK_SIZE - 1]  # samples at the top left, low left, top right


def move_objects(
    boxes: tf.Tensor, classes: tf.Tensor, masks: tf.Tensor | None, view: View, min_visible: float
) -> dict[str, tf.Tensor]:
    """What is still to be seen of objects.

    Where the picture is turned or displaced, a new box is that of the object's mask, or, where there are no
    masks, of the ellipse that touches the four sides of the old one.

    Args:
        boxes: [G, 4] xyxy in the picture's own pixels.
        classes: int32 [G]; padding comes last.
        masks: uint8 [n, 56, 56] of the n that are no padding, within their boxes; or None.
        view: how the picture is seen.
        min_visible: the least share of its box's area that an object keeps within the picture. One that is
            less than a pixel wide or high there goes in any case.

    Returns:
        `boxes` [G, 4] in given pixels and `classes` [G], padding last; with masks, `masks` [k, 56, 56].
    """
    whole = _straight_boxes(boxes, view) if view.is_straight else _bent_boxes(boxes, classes, masks, view)
    limit = tf.cast(tf.gather(view.size, [1, 0, 1, 0]), tf.float32)
    visible = tf.clip_by_value(whole, 0, limit)
    kept = _still_seen(whole, visible, classes, min_visible)
    moved = {}
    if masks is not None:
        if view.is_straight:
            masks = cut_masks(*(tf.gather(rows, kept) for rows in (masks, whole, visible)), view.flip)
        else:
            masks = _bent_masks(*(tf.gather(rows, kept) for rows in (masks, boxes, visible)), view)
        has_samples = tf.reduce_any(masks > 0, axis=[1, 2]) | (tf.gather(classes, kept) == CROWD)
        kept, moved["masks"] = kept[has_samples], masks[has_samples]
    moved["boxes"] = close_ranks(visible, kept, boxes.shape[0])
    moved["classes"] = close_ranks(classes + 1, kept, boxes.shape[0]) - 1  # padding is -1
    return moved


def _still_seen(whole, visible, classes, min_visible):
    """The places [K] of the boxes of which enough is visible; of a crowd region anything is enough."""
    area, rest = (tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (whole, visible))
    enough = (classes >= 0) & (rest >= min_visible * area) & is_learnable(visible)
    enough |= classes == CROWD
    return tf.where(enough & (rest > 0))[:, 0]


def is_learnable(boxes: tf.Tensor) -> tf.Tensor:
    """Whether boxes [G, 4] in given pixels are at least a pixel wide and high."""
    return tf.reduce_min(boxes[:, 2:] - boxes[:, :2], axis=1) >= MIN_SIDE


def close_ranks(values: tf.Tensor, kept: tf.Tensor, slots: int) -> tf.Tensor:
    """The rows that are kept, then zeros, [slots, ...]."""
    free = slots - tf.shape(kept)[0]
    padded = tf.pad(tf.gather(values, kept), [[0, free]] + [[0, 0]] * (values.shape.rank - 1))
    return tf.ensure_shape(padded, [slots, *values.shape[1:]])


def _straight_boxes(boxes, view):
    """Boxes [G, 4] from own to given pixels."""
    limit = tf.cast(tf.gather(view.size, [1, 0, 1, 0]), tf.float32)
    moved = boxes * tf.gather(view.scale, [1, 0, 1, 0]) + tf.gather(view.offset, [1, 0, 1, 0])
    mirrored = tf.gather(limit - moved, [2, 3, 0, 1], axis=1)
    return tf.where(tf.gather(view.flip, [1, 0, 1, 0]), mirrored, moved)


def _bent_boxes(boxes, classes, masks, view):
    """Boxes [G, 4] in given pixels around what is in boxes; where a mask has no samples there is none."""
    is_crowd = (classes == CROWD)[:, None, None]
    hull = _hull(view.forth(_within(boxes, tf.where(is_crowd, _RECTANGLE, _ELLIPSE))))
    if masks is None:
        return hull
    count = tf.shape(masks)[0]
    corners, there = _mask_corners(masks)
    tight = _hull(view.forth(_within(boxes[:count], corners)), there)
    return tf.concat([tf.where(is_crowd[:count, 0], hull[:count], tight), hull[count:]], axis=0)


def _within(boxes, shares):
    """Points [G, P, 2] at shares of the heights and widths of boxes [G, 4]."""
    begin, end = tf.gather(boxes, [1, 0], axis=1)[:, None], tf.gather(boxes, [3, 2], axis=1)[:, None]
    return begin + shares * (end - begin)


def _hull(points, there=None):
    """The boxes [G, 4] about points [G, P, 2], of which some may not be there; of none it has no area."""
    least = greatest = points
    if there is not None:
        least, greatest = (tf.where(there[..., None], points, far) for far in (math.inf, -math.inf))
    hull = tf.concat(
        [tf.reduce_min(least, axis=1)[:, ::-1], tf.reduce_max(greatest, axis=1)[:, ::-1]], axis=1
    )
    return tf.where(tf.math.is_finite(hull), hull, 0.0)


def _mask_corners(masks):
    """The corners of the first and the last sample in each row and in each column, as shares of the box.

    Where masks have any samples these are all that a box about them needs.

    Returns:
        [n, 448, 2], and whether there is such a sample, bool [n, 448].
    """
    corners, there = [], []
    for axis in (2, 1):  # along rows, along columns
        seen = tf.transpose(masks > 0, [0, 3 - axis, axis])  # [n, line, sample]
        first = tf.argmax(seen, axis=2, output_type=tf.int32)
        last = MASK_SIZE - tf.argmax(seen[:, :, ::-1], axis=2, output_type=tf.int32)
        line = tf.broadcast_to(tf.range(MASK_SIZE), tf.shape(first))
        for along in (first, last):
            for across in (line, line + 1):
                corners.append(tf.stack([across, along] if axis == 2 else [along, across], axis=-1))
                there.append(tf.reduce_any(seen, axis=2))
    return tf.cast(tf.concat(corners, axis=1), tf.float32) / MASK_SIZE, tf.concat(there, axis=1)


def _samples():
    """Where the samples of a mask lie, as shares of a box's height or width, [56]."""
    return (tf.range(MASK_SIZE, dtype=tf.float32) + 0.5) / MASK_SIZE


def _grid():
    """Where the samples of a mask lie, row by row, [56 * 56, 2]."""
    return tf.reshape(tf.stack(tf.meshgrid(_samples(), _samples(), indexing="ij"), axis=-1), [-1, 2])


def sampled_pixels(layer: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """The pixels of a layer [H, W] in which samples of masks within boxes [K, 4] lie, [K, 56, 56]."""
    places = _within(boxes, tf.stack([_samples(), _samples()], axis=-1))  # [K, 56, 2]
    pixels = tf.clip_by_value(tf.cast(places, tf.int32), 0, tf.shape(layer) - 1)
    flat = pixels[:, :, None, 0] * tf.shape(layer)[1] + pixels[:, None, :, 1]
    return tf.gather(tf.reshape(layer, [-1]), flat)


def _bent_masks(masks, boxes, visible, view):
    """Masks [K, 56, 56] within boxes [K, 4] in own pixels, within what is visible of the new boxes."""
    begin, end = (tf.gather(boxes, sides, axis=1)[:, None] for sides in ([1, 0], [3, 2]))
    samples = _grid() if view.displacement is not None else tf.gather(_grid(), _CORNERS)
    places = (view.back(_within(visible, samples)) - begin) / (end - begin) * MASK_SIZE  # [K, P, 2]
    if view.displacement is None:  # then three samples tell where all are
        start, down, right = (places[:, corner, None, None] for corner in range(3))  # [K, 1, 1, 2]
        steps = tf.range(MASK_SIZE, dtype=tf.float32) / (MASK_SIZE - 1)
        down, right = (down - start) * steps[:, None, None], (right - start) * steps[:, None]
        rows, columns = (start[..., axis] + down[..., axis] + right[..., axis] for axis in (0, 1))
    else:
        rows, columns = (tf.reshape(places[..., axis], [-1, MASK_SIZE, MASK_SIZE]) for axis in (0, 1))
    inside = (rows >= 0) & (rows < MASK_SIZE) & (columns >= 0) & (columns < MASK_SIZE)  # [K, 56, 56]
    nearest = tf.where(inside, tf.cast(rows, tf.int32) * MASK_SIZE + tf.cast(columns, tf.int32), 0)
    flat = tf.reshape(masks, [-1, MASK_SIZE**2])
    return tf.where(inside, tf.gather(flat, nearest, axis=1, batch_dims=1), 0)


def cut_masks(
    masks: tf.Tensor, whole: tf.Tensor, visible: tf.Tensor, flip: tf.Tensor | None = None
) -> tf.Tensor:
    """Masks [K, 56, 56] within whole boxes [K, 4], mirrored and cut to what is visible of the boxes.

    Each sample is the nearest one. Two gathers are the fastest way: of rows, then of columns as rows.
    """
    begin, extent = whole[:, :2], whole[:, 2:] - whole[:, :2]  # [K, 2], x and y
    along = _samples()[:, None]  # [56, 1]
    places = visible[:, None, :2] + along * (visible[:, None, 2:] - visible[:, None, :2])  # [K, 56, 2]
    shares = (places - begin[:, None]) / extent[:, None]
    if flip is not None:
        shares = tf.where(flip[::-1], 1 - shares, shares)
    nearest = tf.clip_by_value(tf.cast(shares * MASK_SIZE, tf.int32), 0, MASK_SIZE - 1)
    masks = tf.gather(masks, nearest[..., 1], axis=1, batch_dims=1)
    masks = tf.gather(tf.transpose(masks, [0, 2, 1]), nearest[..., 0], axis=1, batch_dims=1)
    return tf.transpose(masks, [0, 2, 1])
