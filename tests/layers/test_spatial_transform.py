import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from kzoo.layers.spatial_transform import CentreOfMass, SpatialTransform

IDENTITY = [1.0, 0, 0, 0, 1, 0]
PICTURE = np.random.default_rng(0).uniform(0, 255, [1, 8, 8, 3]).astype(np.float32)
WIDE = np.random.default_rng(1).uniform(-2, 2, [2, 9, 14, 2]).astype(np.float32)


def seen(images, theta, size):
    theta = np.float32(theta).reshape(-1, 6)
    return SpatialTransform(size)(tf.constant(images), tf.constant(theta)).numpy()


def plain_transform(image, theta, size):
    """In double precision: where each sample lies in the picture, and scipy's interpolation there."""
    height, width, channels = image.shape
    middle = (2 * np.arange(size) + 1) / size - 1
    x, y = np.meshgrid(middle, middle)
    places = np.float64(theta).reshape(2, 3) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    columns, rows = ((places[i] + 1) / 2 * side - 0.5 for i, side in ((0, width), (1, height)))
    values = [
        ndimage.map_coordinates(image[..., c].astype(float), [rows, columns], order=1, mode="nearest")
        for c in range(channels)
    ]
    return np.stack(values, axis=-1).reshape(size, size, channels)


def test_the_identity_gives_the_picture_back():
    np.testing.assert_array_equal(seen(PICTURE, IDENTITY, 8), PICTURE)
    for size in (1, 3, 7, 30):  # not a power of two: places are rounded
        picture = np.random.default_rng(size).uniform(0, 255, [1, size, size, 3]).astype(np.float32)
        np.testing.assert_allclose(seen(picture, IDENTITY, size), picture, atol=1e-2)


def test_mirrors_and_turns_are_exact():
    turned = {
        (-1, 0, 0, 0, 1, 0): PICTURE[:, :, ::-1],
        (1, 0, 0, 0, -1, 0): PICTURE[:, ::-1],
        (-1, 0, 0, 0, -1, 0): PICTURE[:, ::-1, ::-1],
        (0, 1, 0, 1, 0, 0): PICTURE.transpose(0, 2, 1, 3),
        (0, 1, 0, -1, 0, 0): np.rot90(PICTURE, -1, axes=(1, 2)),  # x = y', y = -x'
    }
    for theta, expected in turned.items():
        np.testing.assert_array_equal(seen(PICTURE, theta, 8), expected, err_msg=str(theta))


def test_a_shift_by_pixels_repeats_the_border():
    shifted = seen(PICTURE, [1, 0, 2 * 3 / 8, 0, 1, -2 * 2 / 8], 8)  # 3 to the right, 2 up
    expected = np.pad(PICTURE, [(0, 0), (2, 0), (0, 3), (0, 0)], mode="edge")[:, :8, 3:]
    np.testing.assert_array_equal(shifted, expected)


def test_a_window_of_half_the_size_is_a_crop():
    np.testing.assert_array_equal(seen(PICTURE, [0.5, 0, 0, 0, 0.5, 0], 4), PICTURE[:, 2:6, 2:6])
    np.testing.assert_array_equal(seen(PICTURE, [0.5, 0, 0.5, 0, 0.5, -0.5], 4), PICTURE[:, :4, 4:])


entry = st.floats(-2, 2)


@settings(max_examples=60)
@given(st.lists(entry, min_size=6, max_size=6), st.integers(1, 7), st.integers(0, 1))
def test_any_map_is_the_plain_one(theta, size, picture):
    expected = plain_transform(WIDE[picture], np.float32(theta), size)
    np.testing.assert_allclose(seen(WIDE[picture : picture + 1], theta, size)[0], expected, atol=1e-4)


def test_each_picture_has_its_own_map():
    angle = 0.4
    turn = [math.cos(angle), -math.sin(angle), 0.1, math.sin(angle), math.cos(angle), 0]
    stretch = [0.5, 0, 0.25, 0, 1.5, -0.2]
    expected = [plain_transform(image, theta, 6) for image, theta in zip(WIDE, (turn, stretch), strict=True)]
    np.testing.assert_allclose(seen(WIDE, [turn, stretch], 6), expected, atol=1e-5)
    assert np.abs(seen(WIDE, [stretch, turn], 6) - expected).max() > 0.1


def gradients_of(images, theta, size, weights):
    images, theta = tf.Variable(images), tf.Variable(np.float32(theta).reshape(-1, 6))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(SpatialTransform(size)(images, theta) * weights)
    return [tf.convert_to_tensor(slope).numpy() for slope in tape.gradient(total, [images, theta])]


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_to_the_map_is_the_central_difference(seed):
    rng = np.random.default_rng(seed)
    theta = np.float32(IDENTITY + rng.normal(0, 0.3, 6))
    weights = np.float32(rng.normal(size=[5, 5, 2]))
    _, gradient = gradients_of(WIDE[:1], theta, 5, weights)
    for i in range(6):
        step = np.eye(6)[i] * 1e-6
        ends = [(plain_transform(WIDE[0], theta + side * step, 5) * weights).sum() for side in (1, -1)]
        assert gradient[0, i] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-3, abs=1e-2), i


def test_the_gradient_to_the_picture_is_the_central_difference():
    theta = [0.8, 0.1, 0.05, -0.2, 0.7, 0.1]
    weights = np.float32(np.random.default_rng(3).normal(size=[4, 4, 2]))
    gradient, _ = gradients_of(WIDE[:1], theta, 4, weights)
    for seed in range(5):
        nudge = np.random.default_rng(seed).normal(size=WIDE[:1].shape)
        change = (plain_transform(nudge[0], np.float32(theta), 4) * weights).sum()  # linear in the picture
        assert (gradient * nudge).sum() == pytest.approx(change, rel=1e-4, abs=1e-4)


def test_hostile_maps_stay_finite():
    for theta in ([0.0] * 6, [1e20] * 6, [-1e6, 0, 1e6, 0, 1e6, -1e6]):
        values = seen(PICTURE, theta, 4)
        assert np.isfinite(values).all()
        assert values.min() >= PICTURE.min() - 1e-3 and values.max() <= PICTURE.max() + 1e-3
        for gradient in gradients_of(PICTURE, theta, 4, np.ones([4, 4, 3], np.float32)):
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_places_are_exact_in_half_precision(policy):
    """A window of a wide picture: in half precision its samples would lie pixels beside."""
    width, first = 16384, 12345
    picture = np.broadcast_to(
        (np.arange(width, dtype=np.float32) % 61)[None, None, :, None], [1, 4, width, 1]
    )
    theta = np.float32([[4 / width, 0, (2 * first + 4) / width - 1, 0, 1, 0]])
    values = SpatialTransform(4, dtype=policy)(tf.constant(picture), tf.constant(theta))
    assert values.dtype.name == policy.removeprefix("mixed_")
    np.testing.assert_array_equal(tf.cast(values[0, 0], tf.float32), picture[0, 0, first : first + 4])
    theta = tf.Variable(np.float32([IDENTITY]))
    with tf.GradientTape() as tape:
        values = SpatialTransform(4, dtype=policy)(tf.constant(PICTURE), theta)
        total = tf.reduce_sum(tf.cast(values, tf.float32))
    gradient = tape.gradient(total, theta)
    assert gradient.dtype == tf.float32 and np.isfinite(gradient).all()


def test_shapes():
    layer = SpatialTransform(5)
    output = layer(keras.KerasTensor((None, None, 9, 4)), keras.KerasTensor((None, 6)))
    assert (output.shape, output.dtype) == ((None, 5, 5, 4), "float32")
    assert seen(WIDE[:0], np.zeros([0, 6]), 5).shape == (0, 5, 5, 2)
    again = SpatialTransform.from_config(SpatialTransform(5, name="sampler").get_config())
    assert (again.size, again.name) == (5, "sampler")


def test_the_centre_of_mass_is_the_mean_place_by_the_softmax():
    heat = np.random.default_rng(0).normal(0, 3, [4, 5, 7, 1]).astype(np.float32)
    weights = np.exp(heat[..., 0].astype(float))
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    x = np.sum(weights * ((np.arange(7) + 0.5) / 7 * 2 - 1), axis=(1, 2))
    y = np.sum(weights * ((np.arange(5) + 0.5) / 5 * 2 - 1)[:, None], axis=(1, 2))
    np.testing.assert_allclose(CentreOfMass()(heat), np.stack([x, y], axis=-1), atol=1e-6)
    np.testing.assert_allclose(CentreOfMass()(heat * 0), np.zeros([4, 2]), atol=1e-7)
    # Heat beyond half precision is heat all the same, and one place takes it all.
    alone = np.zeros([1, 4, 4, 1], np.float32)
    alone[0, 3, 0] = 1e30
    np.testing.assert_allclose(CentreOfMass()(alone), [[-0.75, 0.75]], atol=1e-6)


def test_the_centre_of_mass_is_told_in_float32():
    layer = CentreOfMass()
    places = layer(tf.cast(50 * np.eye(64, dtype=np.float32)[:2].reshape(2, 8, 8, 1), tf.float16))
    assert places.dtype == tf.float32
    np.testing.assert_allclose(places, [[-7 / 8, -7 / 8], [-5 / 8, -7 / 8]], atol=1e-6)
    assert CentreOfMass.from_config(layer.get_config()).compute_dtype == "float32"
