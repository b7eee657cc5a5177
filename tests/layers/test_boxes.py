import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from kzoo.layers import boxes as box

# Eighths of a pixel: float32 loses areas below its smallest normal number, and no picture has such boxes.
coordinates = st.integers(-4000, 4000).map(lambda eighths: eighths / 8)
any_boxes = st.lists(st.tuples(*[coordinates] * 4), min_size=1, max_size=5)  # reversed ones, too


@st.composite
def proper_boxes(draw, count):
    """Boxes with sides of 1 to 400 pixels."""
    corners = draw(st.lists(st.tuples(coordinates, coordinates), min_size=count, max_size=count))
    side = st.floats(1, 400, width=32)
    sides = draw(st.lists(st.tuples(side, side), min_size=count, max_size=count))
    return np.float32([[x, y, x + w, y + h] for (x, y), (w, h) in zip(corners, sides, strict=True)])


def plain_area(b):
    return max(b[2] - b[0], 0.0) * max(b[3] - b[1], 0.0)


def plain_intersection(a, b):
    return plain_area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])


def plain_iou(a, b):
    a, b = [float(v) for v in a], [float(v) for v in b]
    if not plain_area(a) or not plain_area(b):
        return 0.0
    intersection = plain_intersection(a, b)
    return intersection / (plain_area(a) + plain_area(b) - intersection)


def plain_giou(a, b):
    a, b = [float(v) for v in a], [float(v) for v in b]
    union = plain_area(a) + plain_area(b) - plain_intersection(a, b)
    enclosing = plain_area([min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])])
    return plain_iou(a, b) - (enclosing - union) / enclosing


def plain_encode(b, a):
    width, height = a[2] - a[0], a[3] - a[1]
    return [
        ((b[0] + b[2]) - (a[0] + a[2])) / 2 / width,
        ((b[1] + b[3]) - (a[1] + a[3])) / 2 / height,
        math.log((b[2] - b[0]) / width),
        math.log((b[3] - b[1]) / height),
    ]


def test_area():
    boxes = tf.constant([[0.0, 0, 3, 4], [3, 4, 0, 0], [3, 0, 0, 4], [1, 1, 1, 9], [-2, -3, -1, -1]])
    np.testing.assert_array_equal(box.area(boxes), [12, 0, 0, 0, 2])


@given(any_boxes, any_boxes)
def test_iou_is_the_plain_one(boxes1, boxes2):
    boxes1, boxes2 = np.float32(boxes1), np.float32(boxes2)
    iou = box.pairwise_iou(tf.constant(boxes1), tf.constant(boxes2)).numpy()
    expected = [[plain_iou(a, b) for b in boxes2] for a in boxes1]
    np.testing.assert_allclose(iou, expected, rtol=1e-3, atol=1e-5)
    assert np.all((iou >= 0) & (iou <= 1 + 1e-6))
    np.testing.assert_allclose(iou, box.pairwise_iou(boxes2, boxes1).numpy().T, rtol=1e-6, atol=1e-7)


@given(proper_boxes(6))
def test_iou_is_that_of_keras(boxes):
    iou = box.pairwise_iou(boxes[:3], boxes[3:])
    second_opinion = keras.utils.bounding_boxes.compute_iou(boxes[:3], boxes[3:], "xyxy")
    np.testing.assert_allclose(iou, second_opinion, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(np.diag(box.pairwise_iou(boxes, boxes)), 1.0, rtol=1e-3)


@pytest.mark.parametrize("degenerate", [[5, 5, 5, 5], [2, 5, 8, 5], [8, 2, 2, 8], [8, 8, 2, 2]])
def test_degenerate_boxes_overlap_nothing(degenerate):
    boxes = tf.constant([degenerate, [0, 0, 10, 10]], tf.float32)
    np.testing.assert_array_equal(box.pairwise_iou(boxes, boxes), [[0, 0], [0, 1]])


def test_iou_of_batches_with_one_set_of_boxes():
    boxes1, boxes2 = (
        np.float32([[[0, 0, 2, 2], [0, 0, 1, 2]], [[1, 1, 3, 3], [9, 9, 10, 10]]]),
        [[0.0, 0, 2, 2]],
    )
    iou = box.pairwise_iou(tf.constant(boxes1), tf.constant(boxes2))
    np.testing.assert_allclose(iou, [[[1], [0.5]], [[1 / 7], [0]]], rtol=1e-6)


@given(proper_boxes(2))
def test_generalized_iou_is_the_plain_one(boxes):
    giou = box.generalized_iou(*map(tf.constant, boxes))
    np.testing.assert_allclose(giou, plain_giou(*boxes), rtol=1e-3, atol=1e-4)
    assert -1 <= giou <= 1 + 1e-6


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([0, 0, 2, 2], 1.0),
        ([4, 0, 6, 2], -1 / 3),  # apart by their own width: a third of the enclosing box is empty
        ([0, 0, 1, 2], 0.5),  # inside: nothing is empty
        ([2, 2, 4, 4], -0.5),  # they touch at a corner: half is empty
        ([1, 1, 1, 1], 0.0),  # a point inside
        ([4, 0, 4, 2], -0.5),  # no width, beside it: half is empty
    ],
)
def test_generalized_iou_by_hand(other, expected):
    giou = box.generalized_iou(tf.constant([0.0, 0, 2, 2]), tf.constant(other, tf.float32))
    assert float(giou) == pytest.approx(expected)


def test_generalized_iou_of_two_points_is_finite_with_its_gradient():
    point = tf.Variable([1.0, 1, 1, 1])
    with tf.GradientTape() as tape:
        giou = box.generalized_iou(point, tf.constant([1.0, 1, 1, 1]))
    assert giou == 0
    assert np.isfinite(tape.gradient(giou, point)).all()


@given(proper_boxes(4), proper_boxes(4))
def test_encode_is_the_plain_one_and_keras_agrees(boxes, anchors):
    deltas = box.encode(boxes, anchors)
    expected = [plain_encode(*pair) for pair in zip(boxes.astype(float), anchors.astype(float), strict=True)]
    np.testing.assert_allclose(deltas, expected, rtol=1e-4, atol=1e-3)
    # Keras has the deltas in the order (dy, dx, dh, dw) where the format is yxyx.
    second_opinion = keras.utils.bounding_boxes.encode_box_to_deltas(anchors, boxes, "xyxy", "xyxy")
    np.testing.assert_allclose(np.sort(deltas, -1), np.sort(second_opinion, -1), rtol=1e-4, atol=1e-3)


@given(proper_boxes(4), proper_boxes(4))
def test_decode_undoes_encode(boxes, anchors):
    # Sides differ by a factor of 400, which the clamp of decode cuts to 62.5.
    decoded = box.decode(box.encode(boxes, anchors), anchors).numpy()
    sides = np.minimum(boxes[:, 2:] - boxes[:, :2], (anchors[:, 2:] - anchors[:, :2]) * 62.5)
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    expected = np.concatenate([centres - sides / 2, centres + sides / 2], axis=-1)
    np.testing.assert_allclose(decoded, expected, rtol=1e-3, atol=2e-2)


def test_decode_by_hand():
    anchor = tf.constant([10.0, 20, 30, 60])  # 20 wide, 40 high, around (20, 40)
    deltas = tf.constant([[0.0, 0, 0, 0], [0.5, -0.25, 0, 0], [0, 0, math.log(2), math.log(0.5)]])
    expected = [[10, 20, 30, 60], [20, 10, 40, 50], [0, 30, 40, 50]]
    np.testing.assert_allclose(box.decode(deltas, anchor), expected, atol=1e-4)


def test_decode_clamps_the_size():
    huge = box.decode(tf.constant([0.0, 0, 1e30, 100]), tf.constant([-1.0, -2, 1, 2]))
    np.testing.assert_allclose(huge, [-62.5, -125, 62.5, 125], rtol=1e-5)
    below = box.decode(tf.constant([0.0, 0, math.log(62), math.log(62)]), tf.constant([-1.0, -2, 1, 2]))
    np.testing.assert_allclose(below, [-62, -124, 62, 124], rtol=1e-5)


def test_boxes_without_area_have_finite_deltas():
    deltas = box.encode(
        tf.constant([[5.0, 5, 5, 5], [8, 8, 2, 2], [0, 0, 0, 0]]), tf.constant([0.0, 0, 10, 10])
    )
    np.testing.assert_allclose(deltas[:, 2:], np.full([3, 2], math.log(0.01 / 10)), rtol=1e-5)
    np.testing.assert_allclose(deltas[:, :2], [[0, 0], [0, 0], [-0.5, -0.5]], atol=1e-6)


def test_clip():
    boxes = tf.constant([[-5.0, -6, 7, 8], [90, 40, 120, 70], [200, 200, 300, 300], [1, 2, 3, 4]])
    expected = [[0, 0, 7, 8], [90, 40, 100, 50], [100, 50, 100, 50], [1, 2, 3, 4]]
    np.testing.assert_array_equal(box.clip(boxes, 50, 100), expected)
    np.testing.assert_array_equal(box.clip(boxes, tf.constant(50), tf.constant(100)), expected)


@given(any_boxes, any_boxes)
def test_share_is_the_part_of_a_box_within_a_region(regions, boxes):
    regions, boxes = np.float32(regions), np.float32(boxes)
    share = box.pairwise_share(tf.constant(regions), tf.constant(boxes)).numpy()
    expected = [
        [plain_intersection(r, b) / plain_area(b) if plain_area(b) else 0.0 for b in boxes.astype(float)]
        for r in regions.astype(float)
    ]
    assert share.shape == (len(regions), len(boxes))
    # What overlaps must not be a rounding error of the coordinates.
    large = [plain_area(b) > 1 and min(b[2] - b[0], b[3] - b[1]) > 0.1 for b in boxes.astype(float)]
    np.testing.assert_allclose(share[:, large], np.float64(expected)[:, large], rtol=1e-3, atol=1e-3)
    assert np.all((share >= 0) & (share <= 1 + 1e-6))


def test_share_by_hand():
    crowds = tf.constant([[0.0, 0, 10, 10], [5, 5, 5, 5], [20, 0, 10, 10]])  # the last ones have no area
    boxes = tf.constant([[2.0, 2, 4, 4], [5, 0, 15, 10], [0, 0, 100, 100], [10, 10, 12, 12], [3, 3, 3, 9]])
    expected = [[1, 0.5, 0.01, 0, 0], [0] * 5, [0] * 5]
    np.testing.assert_allclose(box.pairwise_share(crowds, boxes), expected, atol=1e-6)
    assert box.pairwise_share(crowds[:0], boxes).shape == (0, 5)
    np.testing.assert_allclose(box.pairwise_share(crowds[None], boxes[None]), [expected], atol=1e-6)


weight = st.floats(0.5, 20)


@given(proper_boxes(4), proper_boxes(4), st.tuples(weight, weight, weight, weight))
def test_weights_of_the_deltas_are_factors_that_decode_takes_away(boxes, anchors, weights):
    deltas = box.encode(tf.constant(boxes), tf.constant(anchors), weights)
    plain = [plain_encode(*pair) for pair in zip(boxes.astype(float), anchors.astype(float), strict=True)]
    np.testing.assert_allclose(deltas, np.multiply(plain, weights), rtol=1e-3, atol=2e-2)
    decoded = box.decode(deltas, tf.constant(anchors), weights)
    np.testing.assert_allclose(
        decoded, box.decode(np.float32(plain), tf.constant(anchors)), rtol=1e-3, atol=2e-2
    )


def test_weighted_deltas_by_hand():
    anchor, weights = tf.constant([10.0, 20, 30, 60]), (10.0, 10.0, 5.0, 5.0)
    deltas = tf.constant([5.0, -2.5, 5 * math.log(2), 5 * math.log(0.5)])
    np.testing.assert_allclose(box.decode(deltas, anchor, weights), [10, 20, 50, 40], atol=1e-4)
    np.testing.assert_allclose(
        box.encode(tf.constant([10.0, 20, 50, 40]), anchor, weights), deltas, rtol=1e-5
    )


def test_the_clamp_of_the_size_is_behind_the_weights():
    huge = box.decode(tf.constant([0.0, 0, 1e30, 100]), tf.constant([-1.0, -2, 1, 2]), (10.0, 10.0, 5.0, 5.0))
    np.testing.assert_allclose(huge, [-62.5, -125, 62.5, 125], rtol=1e-5)
