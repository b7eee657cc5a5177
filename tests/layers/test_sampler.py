import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.layers.sampler import affine_grid, bilinear_sample

FEATURES = np.random.default_rng(0).normal(size=[2, 5, 7, 3]).astype(np.float32)


def plain_sample(feature, y, x):
    """Of one picture's feature [H, W, C] the value at a point, that of the nearest pixel outside."""
    height, width = feature.shape[:2]
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    value = np.zeros(feature.shape[2])
    for row, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
        for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
            if weight_y * weight_x:
                value += weight_y * weight_x * feature[row, column].astype(float)
    return value


def sample_points(features, points, pictures=None):
    """At points [P, 2] of pictures [P]: [P, C]."""
    points = np.float32(points).reshape(-1, 1, 1, 2)
    pictures = np.zeros(len(points), np.int32) if pictures is None else np.int32(pictures)
    return bilinear_sample(tf.constant(features), tf.constant(points), pictures).numpy()[:, 0, 0]


coordinate = st.floats(-3, 10, width=32)


@settings(max_examples=60)
@given(st.lists(st.tuples(coordinate, coordinate, st.integers(0, 1)), min_size=1, max_size=6))
def test_is_the_plain_one_inside_and_outside(points):
    values = sample_points(FEATURES, [(y, x) for y, x, _ in points], [picture for _, _, picture in points])
    expected = [plain_sample(FEATURES[picture], y, x) for y, x, picture in points]
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_pixels_are_found_exactly():
    points = [(y, x) for y in range(5) for x in range(7)]
    np.testing.assert_array_equal(sample_points(FEATURES, points), FEATURES[0].reshape(-1, 3))
    np.testing.assert_array_equal(sample_points(FEATURES, points, [1] * 35), FEATURES[1].reshape(-1, 3))


def test_outside_the_nearest_pixel():
    far = [(-1, -1), (-100, 3), (4.5, 7), (1e6, 1e6), (2, -0.25)]
    nearest = FEATURES[0][[0, 0, 4, 4, 2], [0, 3, 6, 6, 0]]
    np.testing.assert_array_equal(sample_points(FEATURES, far), nearest)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (4, 1), (2, 2)])
def test_small_features(height, width):
    features = FEATURES[:1, :height, :width]
    points = [(y, x) for y in np.arange(-1, height + 1, 0.375) for x in np.arange(-1, width + 1, 0.375)]
    expected = [plain_sample(features[0], y, x) for y, x in points]
    np.testing.assert_allclose(sample_points(features, points), expected, atol=1e-6)


def test_a_grid_of_points_keeps_its_shape():
    points = np.random.default_rng(1).uniform(0, 4, size=[3, 2, 4, 2]).astype(np.float32)
    pictures = np.int32([1, 0, 1])
    values = bilinear_sample(FEATURES, points, pictures)
    assert values.shape == (3, 2, 4, 3)
    expected = [
        [[plain_sample(FEATURES[b], *p) for p in row] for row in grid]
        for b, grid in zip(pictures, points, strict=True)
    ]
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert bilinear_sample(FEATURES, points[:0], np.zeros(0, np.int32)).shape == (0, 2, 4, 3)


def test_half_precision_features_are_weighted_in_float32():
    values = bilinear_sample(tf.cast(FEATURES, tf.float16), np.float32([[[[1.3, 2.6]]]]), np.int32([0]))
    assert values.dtype == tf.float32
    expected = plain_sample(FEATURES[0].astype(np.float16), 1.3, 2.6)
    np.testing.assert_allclose(values[0, 0, 0], expected, atol=1e-6)


# Away from the pixels, where the slope changes, by more than the step of the differences.
away = st.tuples(st.integers(0, 3), st.floats(0.1, 0.9), st.integers(0, 5), st.floats(0.1, 0.9))


@settings(max_examples=25)
@given(st.lists(away, min_size=1, max_size=4), st.integers(0, 1))
def test_gradient_to_the_points_is_the_central_difference(places, picture):
    points = np.float64([(i + y, j + x) for i, y, j, x in places])
    weights = np.random.default_rng(2).normal(size=3)
    variable = tf.Variable(np.float32(points.reshape(-1, 1, 1, 2)))
    with tf.GradientTape() as tape:
        values = bilinear_sample(FEATURES, variable, np.full(len(points), picture))
        total = tf.reduce_sum(values * np.float32(weights))
    gradient = tape.gradient(total, variable).numpy().reshape(-1, 2)
    for point, slope in zip(points, gradient, strict=True):
        for axis in (0, 1):
            step = np.eye(2)[axis] * 0.05
            ends = [plain_sample(FEATURES[picture], *(point + side * step)) @ weights for side in (1, -1)]
            assert slope[axis] == pytest.approx((ends[0] - ends[1]) / 0.1, abs=1e-3)


def test_gradient_to_the_features_is_the_weights():
    points = np.float32([[1.25, 2.5], [4.0, 6.0], [9.0, -2.0]]).reshape(-1, 1, 1, 2)
    variable = tf.Variable(FEATURES)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(bilinear_sample(variable, points, np.int32([0, 1, 1])))
    gradient = tf.convert_to_tensor(tape.gradient(total, variable)).numpy()
    expected = np.zeros_like(FEATURES)
    expected[0, 1, 2:4] = 0.75 * 0.5
    expected[0, 2, 2:4] = 0.25 * 0.5
    expected[1, 4, 6] = 1
    expected[1, 4, 0] = 1
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_the_slope_at_a_border_is_the_one_inwards_and_beyond_there_is_none():
    points = np.float32([[0, 0], [4, 6], [-0.5, 7.5]]).reshape(-1, 1, 1, 2)
    variable = tf.Variable(points)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(bilinear_sample(FEATURES, variable, np.zeros(3, np.int32))[..., 0])
    first = FEATURES[0, :, :, 0]
    expected = [
        [first[1, 0] - first[0, 0], first[0, 1] - first[0, 0]],
        [first[4, 6] - first[3, 6], first[4, 6] - first[4, 5]],
        [0, 0],
    ]
    np.testing.assert_allclose(tape.gradient(total, variable).numpy().reshape(3, 2), expected, atol=1e-6)


def plain_grid(theta, size):
    middle = [(2 * i + 1) / size - 1 for i in range(size)]
    grid = np.zeros([size, size, 2])
    for i, y in enumerate(middle):
        for j, x in enumerate(middle):
            grid[i, j, 1], grid[i, j, 0] = np.float64(theta) @ [x, y, 1]
    return grid


def test_the_identity_is_the_middle_of_equal_parts():
    grid = affine_grid(tf.constant([[[1.0, 0, 0], [0, 1, 0]]]), 4)
    middle = [-0.75, -0.25, 0.25, 0.75]
    np.testing.assert_allclose(grid[0, :, :, 0], np.repeat(middle, 4).reshape(4, 4), atol=1e-6)
    np.testing.assert_allclose(grid[0, :, :, 1], np.tile(middle, 4).reshape(4, 4), atol=1e-6)
    np.testing.assert_allclose(affine_grid(tf.constant([[[1.0, 0, 0], [0, 1, 0]]]), 1), [[[[0, 0]]]])


def test_scale_shift_and_rotation():
    angle = 0.3
    theta = np.float32(
        [
            [[0.5, 0, 0.25], [0, 2, -1]],  # half as wide, to the right; twice as high, up
            [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]],
            [[0, 0, 0.5], [0, 0, 0.5]],  # everything in one point
            [[1, 0.5, 0], [0, 1, 0]],  # sheared
        ]
    )
    for size in (1, 3, 6):
        expected = [plain_grid(one, size) for one in theta]
        np.testing.assert_allclose(affine_grid(tf.constant(theta), size), expected, atol=1e-6)
    rotated = affine_grid(tf.constant(theta[1:2]), 3)[0].numpy()
    np.testing.assert_allclose(np.hypot(*rotated[0, 0]), np.hypot(2 / 3, 2 / 3), rtol=1e-5)
    assert affine_grid(tf.zeros([0, 2, 3]), 3).shape == (0, 3, 3, 2)


def test_a_picture_seen_through_the_identity_is_itself():
    """Both together: a grid over 6 by 6 equal parts of 6 by 6 pixels is their centres."""
    picture = np.random.default_rng(3).normal(size=[1, 6, 6, 2]).astype(np.float32)
    grid = affine_grid(tf.constant([[[1.0, 0, 0], [0, 1, 0]]]), 6)
    np.testing.assert_allclose(
        bilinear_sample(picture, (grid + 1) * 3 - 0.5, np.int32([0])), picture, atol=1e-5
    )
