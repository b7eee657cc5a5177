import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.classes import CROWD
from kzoo.data.augmentation.geometry import View, displacement
from kzoo.data.augmentation.moving import move_objects
from kzoo.data.masks import paste, within_box


def view(own_size, size, scale=1.0, offset=(0.0, 0.0), flip=(False, False), angle=None, moved=None):
    return View(
        own_size=tf.constant(own_size, tf.float32),
        size=tf.constant(size),
        scale=tf.constant([scale, scale], tf.float32),
        offset=tf.constant(offset, tf.float32),
        flip=tf.constant(flip),
        angle=None if angle is None else tf.constant(angle, tf.float32),
        displacement=moved,
    )


def moved_objects(boxes, classes, masks, one, min_visible=0.0):
    masks = None if masks is None else tf.constant(np.uint8(masks))
    boxes, classes = tf.constant(boxes, tf.float32), tf.constant(classes)
    got = move_objects(boxes, classes, masks, one, min_visible)
    return {name: value.numpy() for name, value in got.items()}


def seen_mask(inside, one):
    """What of a function of own y and x is seen at the centres of given pixels, bool [H, W]."""
    height, width = one.size.numpy()
    y, x = np.mgrid[:height, :width] + 0.5
    own = one.back(tf.constant(np.stack([y, x], axis=-1), tf.float32)).numpy()
    return inside(own[..., 0], own[..., 1])


def extent(inside):
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def ell(y, x):
    """A letter L within (20, 30, 80, 70), xyxy."""
    return (x >= 20) & (x < 80) & (y >= 30) & (y < 70) & ((x < 40) | (y >= 55))


def ell_samples():
    y, x = np.mgrid[:120, :100] + 0.5
    return within_box(ell(y, x), (20, 30, 80, 70))


BOX = [20.0, 30.0, 80.0, 70.0]


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.8, 1.5, math.pi])
@pytest.mark.parametrize(
    ("scale", "flip"), [(1.0, (False, False)), (1.4, (True, False)), (0.7, (False, True))]
)
def test_a_turned_mask_is_where_its_pixels_are(angle, scale, flip):
    one = view((120, 100), (200, 200), scale, (30.0, 40.0), flip, angle)
    got = moved_objects([BOX, [0, 0, 0, 0]], [5, -1], [ell_samples()], one)
    expected = seen_mask(ell, one)
    np.testing.assert_array_equal(got["classes"], [5, -1])
    np.testing.assert_allclose(got["boxes"][0], extent(expected), atol=1.6)
    assert iou(paste(got["masks"][0], got["boxes"][0], (200, 200)), expected) > 0.93
    assert not got["boxes"][1].any()


def test_a_turned_mask_is_cut_where_the_picture_ends():
    one = view((120, 100), (60, 60), 1.0, (-10.0, -10.0), angle=0.5)
    got = moved_objects([BOX], [0], [ell_samples()], one)
    expected = seen_mask(ell, one)
    x1, y1, x2, y2 = got["boxes"][0]
    assert 0 <= x1 < x2 <= 60 and 0 <= y1 < y2 <= 60
    assert iou(paste(got["masks"][0], got["boxes"][0], (60, 60)), expected) > 0.93
    whole = moved_objects([BOX], [0], [ell_samples()], view((120, 100), (400, 400), 1.0, angle=0.5))
    share = np.prod([x2 - x1, y2 - y1]) / np.prod(np.diff(whole["boxes"][0].reshape(2, 2), axis=0))
    for least, kept in ((share - 0.02, 0), (share + 0.02, -1)):
        assert moved_objects([BOX], [0], [ell_samples()], one, least)["classes"][0] == kept


@pytest.mark.parametrize("angle", [0.0, 0.2, -0.7, math.pi / 2, 2.5])
def test_a_turned_box_is_that_of_the_ellipse_within_and_of_a_crowd_that_of_the_corners(angle):
    one = view((120, 100), (300, 300), 1.5, (60.0, 70.0), angle=angle)
    got = moved_objects([BOX, BOX], [0, -2], None, one)["boxes"]
    middle = one.forth(tf.constant([[50.0, 50.0]])).numpy()[0, ::-1]
    half, cosine, sine = 1.5 * np.array([30, 20]), abs(math.cos(angle)), abs(math.sin(angle))
    ellipse = np.hypot(half * cosine, half[::-1] * sine)
    corners = half * cosine + half[::-1] * sine
    np.testing.assert_allclose(got[0], [*(middle - ellipse), *(middle + ellipse)], rtol=2e-3)
    np.testing.assert_allclose(got[1], [*(middle - corners), *(middle + corners)], rtol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_displaced_masks_and_boxes_are_where_their_pixels_are(seed):
    size = (160, 160)
    moved = displacement(tf.constant([seed, 0]), tf.constant(size), 6.0)
    one = view((120, 100), size, 1.1, (20.0, 25.0), (seed % 2 == 0, False), 0.2 * seed or None, moved)
    got = moved_objects([BOX], [0], [ell_samples()], one)
    expected = seen_mask(ell, one)
    np.testing.assert_allclose(got["boxes"][0], extent(expected), atol=2.5)
    assert iou(paste(got["masks"][0], got["boxes"][0], size), expected) > 0.9
    ellipse = seen_mask(lambda y, x: np.hypot((x - 50) / 30, (y - 50) / 20) <= 1, one)
    np.testing.assert_allclose(moved_objects([BOX], [0], None, one)["boxes"][0], extent(ellipse), atol=2)


angles = st.floats(-math.pi, math.pi)
coordinates = st.floats(0, 100, width=32)


@settings(max_examples=30, deadline=None)
@given(
    angle=angles,
    scale=st.floats(0.3, 3),
    offset=st.tuples(st.floats(-80, 80), st.floats(-80, 80)),
    corners=st.lists(st.tuples(coordinates, coordinates), min_size=6, max_size=6),
    seed=st.integers(0, 100),
)
def test_boxes_lie_within_the_picture_and_hold_what_is_seen_of_their_masks(
    angle, scale, offset, corners, seed
):
    first, second = np.float32(corners[:3]), np.float32(corners[3:])
    boxes = np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)
    masks = np.random.default_rng(seed).random([3, 56, 56]) < [[[0.02]], [[0.5]], [[0.0]]]
    got = moved_objects(boxes, [0, 1, 2], masks, view((100, 100), (64, 80), scale, offset, angle=angle))
    count = np.count_nonzero(got["classes"] >= 0)
    assert got["boxes"].shape == (3, 4) and got["masks"].shape == (count, 56, 56)
    assert 2 not in got["classes"]  # an object without a sample is not seen
    assert np.isfinite(got["boxes"]).all()
    there = got["boxes"][:count]
    assert (there >= 0).all() and (there[:, 2:] <= [80, 64]).all() and (there[:, :2] < there[:, 2:]).all()
    assert got["masks"].any(axis=(1, 2)).all()
    assert not got["boxes"][count:].any() and (got["classes"][count:] == -1).all()


def test_a_crowd_region_needs_no_samples_and_padding_stays_padding():
    one = view((100, 100), (100, 100), angle=0.4)
    boxes = [[10, 10, 60, 60], [20, 20, 50, 50], [0, 0, 0, 0], [0, 0, 0, 0]]
    got = moved_objects(boxes, [3, -2, -1, -1], np.zeros([2, 56, 56]), one)
    np.testing.assert_array_equal(got["classes"], [-2, -1, -1, -1])
    assert got["masks"].shape == (1, 56, 56) and not got["masks"].any()


def test_a_picture_without_objects_has_none():
    one = view((100, 100), (100, 100), angle=0.4)
    got = moved_objects(np.zeros([3, 4]), [-1, -1, -1], np.zeros([0, 56, 56]), one)
    assert not got["boxes"].any() and (got["classes"] == -1).all() and got["masks"].shape == (0, 56, 56)
    got = moved_objects(np.zeros([0, 4]), np.zeros([0], np.int32), None, one)
    assert got["boxes"].shape == (0, 4)


@pytest.mark.parametrize("angle", [None, 0.0])
def test_what_is_less_than_a_pixel_wide_or_high_goes(angle):
    boxes = [[0, 0, 9, 50], [10, 10, 60, 19.5], [20, 20, 31, 31], [30, 30, 35, 90], [0, 0, 0, 0]]
    one = view((100, 100), (20, 20), scale=0.1, angle=angle)
    got = moved_objects(boxes, [1, 2, 3, CROWD, -1], None, one)
    np.testing.assert_array_equal(got["classes"], [3, CROWD, -1, -1, -1])
    np.testing.assert_allclose(got["boxes"][0], [2, 2, 3.1, 3.1], atol=1e-2)
    larger = moved_objects(boxes, [1, 2, 3, CROWD, -1], None, one._replace(scale=tf.fill([2], 0.2)))
    np.testing.assert_array_equal(larger["classes"], [1, 2, 3, CROWD, -1])


def test_what_the_border_leaves_less_than_a_pixel_of_goes():
    one = view((100, 100), (100, 100), offset=(0.0, -49.5))
    got = moved_objects([[10, 10, 50, 50], [10, 10, 51, 50]], [1, 2], None, one)
    np.testing.assert_array_equal(got["classes"], [2, -1])
    np.testing.assert_array_equal(got["boxes"][0], [0, 10, 1.5, 50])
