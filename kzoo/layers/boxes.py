"""Box arithmetic: areas, overlaps, boxes as deltas to anchors. Boxes are float32 xyxy pixels."""

import math
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf

# Regressed sizes are clamped before `exp`: no anchor grows by more than 1000 / 16, as in torchvision.
MAX_LOG_SCALE = math.log(1000.0 / 16.0)


def area(boxes: tf.Tensor) -> tf.Tensor:
    """Areas `[...]` of boxes `[..., 4]`; a reversed box has none."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return tf.maximum(x2 - x1, 0.0) * tf.maximum(y2 - y1, 0.0)


def pairwise_iou(boxes1: tf.Tensor, boxes2: tf.Tensor) -> tf.Tensor:
    """Intersection over union of every box with every other.

    Args:
        boxes1: `[..., N, 4]`.
        boxes2: `[..., M, 4]`.

    Returns:
        `[..., N, M]` in 0-1; a box without area overlaps nothing.
    """
    intersection = _pairwise_intersection(boxes1, boxes2)
    union = area(boxes1)[..., :, None] + area(boxes2)[..., None, :] - intersection
    return tf.math.divide_no_nan(intersection, union)


def pairwise_share(regions: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """How much of every box lies within every region: its overlap with a crowd, as COCO counts it.

    Args:
        regions: `[..., N, 4]`.
        boxes: `[..., M, 4]`.

    Returns:
        `[..., N, M]` in 0-1: the intersection over the area of the box.
    """
    return tf.math.divide_no_nan(_pairwise_intersection(regions, boxes), area(boxes)[..., None, :])


def _pairwise_intersection(boxes1: tf.Tensor, boxes2: tf.Tensor) -> tf.Tensor:
    left1, top1, right1, bottom1 = tf.split(boxes1, 4, axis=-1)  # [..., N, 1]
    left2, top2, right2, bottom2 = tf.unstack(boxes2[..., None, :, :], axis=-1)  # [..., 1, M]
    width = tf.maximum(tf.minimum(right1, right2) - tf.maximum(left1, left2), 0.0)
    height = tf.maximum(tf.minimum(bottom1, bottom2) - tf.maximum(top1, top2), 0.0)
    return width * height


def generalized_iou(boxes1: tf.Tensor, boxes2: tf.Tensor) -> tf.Tensor:
    """Generalised IoU, box by box (Rezatofighi et al. 2019, algorithm 1).

    Args:
        boxes1: `[..., 4]`.
        boxes2: `[..., 4]`.

    Returns:
        `[...]` in -1 to 1: the IoU less the share of the enclosing box that neither covers.
    """
    top_left = tf.maximum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = tf.minimum(boxes1[..., 2:], boxes2[..., 2:])
    intersection = area(tf.concat([top_left, bottom_right], axis=-1))
    union = area(boxes1) + area(boxes2) - intersection
    enclosing = area(
        tf.concat(
            [tf.minimum(boxes1[..., :2], boxes2[..., :2]), tf.maximum(boxes1[..., 2:], boxes2[..., 2:])],
            axis=-1,
        )
    )
    return tf.math.divide_no_nan(intersection, union) - tf.math.divide_no_nan(enclosing - union, enclosing)


def encode(
    boxes: tf.Tensor, anchors: tf.Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> tf.Tensor:
    """Boxes as deltas to their anchors (Girshick et al. 2014, appendix C).

    Args:
        boxes: `[..., 4]`; a box without size is coded as one of a hundredth of a pixel, so that nothing is
            infinite.
        anchors: `[..., 4]`, with area.
        weights: factors of the four deltas, which bring them to a similar scale.

    Returns:
        `[..., 4]`: (dx, dy) in anchor sizes, (dw, dh) as logarithms of the ratio of sizes; times the weights.
    """
    anchor_centre, anchor_size = _centre_and_size(anchors)
    centre, size = _centre_and_size(boxes)
    deltas = [(centre - anchor_centre) / anchor_size, tf.math.log(tf.maximum(size, 0.01) / anchor_size)]
    return tf.concat(deltas, axis=-1) * tf.constant(weights, boxes.dtype)


def decode(
    deltas: tf.Tensor, anchors: tf.Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> tf.Tensor:
    """Deltas `[..., 4]` to their anchors `[..., 4]` as boxes `[..., 4]`: the inverse of `encode`."""
    deltas = deltas / tf.constant(weights, deltas.dtype)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    centre = deltas[..., :2] * anchor_size + anchor_centre
    half_size = 0.5 * tf.exp(tf.minimum(deltas[..., 2:], MAX_LOG_SCALE)) * anchor_size
    return tf.concat([centre - half_size, centre + half_size], axis=-1)


def of_all_levels(anchors: Mapping[int, tf.Tensor] | tf.Tensor) -> tf.Tensor:
    """Anchors by level, each `[A_l, 4]`, as one tensor `[A, 4]`; what is one tensor stays as it is."""
    return tf.concat(list(anchors.values()), axis=0) if isinstance(anchors, Mapping) else anchors


def by_level(anchors: Mapping[int, tf.Tensor], *answers: tf.Tensor) -> Iterator[tuple[tf.Tensor, ...]]:
    """What is said of all anchors, each `[B, A, ...]`, level by level, with the anchors `[A_l, 4]` behind."""
    sizes = [tf.shape(level)[0] for level in anchors.values()]
    parts = (tf.split(answer, sizes, axis=1, num=len(sizes)) for answer in answers)
    return zip(*parts, anchors.values(), strict=True)


def has_sides(boxes: tf.Tensor, least: float) -> tf.Tensor:
    """Whether boxes `[..., 4]` are at least so many pixels wide and high: bool `[...]`."""
    return tf.reduce_all(boxes[..., 2:] - boxes[..., :2] >= least, axis=-1)


def clip(boxes: tf.Tensor, height: tf.Tensor | float, width: tf.Tensor | float) -> tf.Tensor:
    """Boxes `[..., 4]` cut off at the borders of a picture of the given height and width in pixels."""
    limit = tf.cast(tf.stack([width, height, width, height]), boxes.dtype)
    return tf.clip_by_value(boxes, 0.0, limit)


def _centre_and_size(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    return 0.5 * (top_left + bottom_right), bottom_right - top_left
