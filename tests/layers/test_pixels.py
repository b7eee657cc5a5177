import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.layers.pixels import CropBack, JoinSkip, PadToMultiple, StandardizePictures, centre


def random_map(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_centre_by_hand():
    rows = tf.reshape(tf.range(7), (1, 7, 1)) * tf.ones([1, 1, 4], tf.int32)
    assert centre(rows, tf.constant([3, 4]))[0, :, 0].numpy().tolist() == [2, 3, 4]
    assert centre(rows, tf.constant([7, 2])).shape == (1, 7, 2)
    assert centre(rows, tf.constant([4, 4]))[0, :, 0].numpy().tolist() == [1, 2, 3, 4]  # one more behind


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 4), st.integers(0, 4))
def test_the_centre_is_what_lies_between_equal_margins(height, width, rows, columns):
    x = random_map(2, height + 2 * rows, width + 2 * columns, 3)
    middle = centre(tf.constant(x), tf.constant([height, width]))
    np.testing.assert_array_equal(middle, x[:, rows : rows + height, columns : columns + width])
    labels = centre(tf.constant(x[..., 0]), tf.constant([height, width]))  # without channels, too
    np.testing.assert_array_equal(labels, middle[..., 0])


@settings(max_examples=40)
@given(st.sampled_from([1, 2, 4, 8]), st.integers(0, 17), st.integers(0, 17))
def test_pictures_are_mirrored_at_the_bottom_and_right_and_cut_back(stride, more_rows, more_columns):
    height, width = stride + more_rows, stride + more_columns
    images = random_map(2, height, width, 3)
    padded = PadToMultiple(stride)(images).numpy()
    assert padded.shape[1] % stride == padded.shape[2] % stride == 0
    assert 0 <= padded.shape[1] - height < stride and 0 <= padded.shape[2] - width < stride
    amounts = [(0, 0), (0, padded.shape[1] - height), (0, padded.shape[2] - width), (0, 0)]
    np.testing.assert_array_equal(padded, np.pad(images, amounts, mode="symmetric"))
    np.testing.assert_array_equal(CropBack()(padded, images), images)


def test_the_least_picture():
    """A side of the stride itself, and one more: all but one pixel is mirrored."""
    column = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1) * np.ones([1, 1, 4, 1], np.float32)
    padded = PadToMultiple(4)(column)
    assert padded.shape == (1, 8, 4, 1)
    assert padded[0, :, 0, 0].numpy().tolist() == [0, 1, 2, 3, 4, 4, 3, 2]


@pytest.mark.parametrize(("height", "width"), [(37, 53), (None, 53), (None, None), (40, 48)])
def test_shapes_known_and_unknown(height, width):
    images = keras.Input((height, width, 3))
    padded = PadToMultiple(8)(images)
    assert padded.shape == (None, height and 40, width and (56 if width == 53 else 48), 3)
    cut = CropBack()(keras.layers.Conv2D(5, 1)(padded), images)
    assert cut.shape == (None, height, width, 5)
    answer = keras.Model(images, cut).predict(random_map(2, height or 37, width or 53, 3), verbose=0)
    assert answer.shape == (2, height or 37, width or 53, 5)


def test_the_middle_of_the_skip_is_joined():
    x, skip = random_map(2, 4, 6, 3), random_map(2, 8, 12, 2)
    joined = JoinSkip()(x, skip)
    np.testing.assert_array_equal(joined, np.concatenate([skip[:, 2:6, 3:9], x], axis=-1))
    same = JoinSkip()(x, skip[:, :4, :6])
    np.testing.assert_array_equal(same, np.concatenate([skip[:, :4, :6], x], axis=-1))


@pytest.mark.parametrize("known", [True, False])
def test_skips_of_known_and_unknown_size(known):
    x = keras.Input((4, 6, 3) if known else (None, None, 3))
    skip = keras.Input((8, 12, 2) if known else (None, None, 2))
    joined = JoinSkip()(x, skip)
    assert joined.shape == ((None, 4, 6, 5) if known else (None, None, None, 5))
    arrays = random_map(2, 4, 6, 3), random_map(2, 8, 12, 2)
    answer = keras.Model([x, skip], joined).predict(arrays, verbose=0)
    np.testing.assert_array_equal(answer, np.concatenate([arrays[1][:, 2:6, 3:9], arrays[0]], axis=-1))


def test_gradients_go_where_the_pixels_came_from():
    images = tf.Variable(random_map(1, 5, 4, 1))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(PadToMultiple(4)(images))
    counts = tape.gradient(total, images).numpy()[0, :, :, 0]
    np.testing.assert_array_equal(counts, np.float32([1, 1, 2, 2, 2])[:, None] * np.ones([1, 4]))
    skip = tf.Variable(random_map(1, 4, 4, 1))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(JoinSkip()(tf.ones([1, 2, 2, 1]), skip))
    gradient = tape.gradient(total, skip)
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient)[0, :, :, 0], np.pad(np.ones([2, 2]), 1))


def test_config():
    again = PadToMultiple.from_config(PadToMultiple(16, name="pad").get_config())
    assert (again.stride, again.name) == (16, "pad")


def test_a_side_much_smaller_than_the_stride_is_mirrored_there_and_back():
    picture = tf.reshape(tf.constant([1.0, 2.0, 3.0]), (1, 3, 1, 1))
    padded = PadToMultiple(8)(picture)
    assert padded.shape == (1, 8, 8, 1)
    np.testing.assert_array_equal(padded[0, :, 0, 0], [1, 2, 3, 3, 2, 1, 1, 2])
    np.testing.assert_array_equal(padded[0, :, 7, 0], padded[0, :, 0, 0])


def test_padding_keeps_fractions_of_a_colour_in_half_precision():
    images = keras.Input((5, 5, 3))
    padded = PadToMultiple(4, dtype="mixed_bfloat16")(images)
    assert padded.dtype == "float32"
    assert keras.Model(images, padded)(tf.fill([1, 5, 5, 3], 200.3)).numpy().max() == np.float32(200.3)


def test_each_picture_has_zero_mean_and_unit_variance_by_itself():
    pictures = random_map(2, 6, 5, 3) * 40 + np.array([90, 200]).reshape(2, 1, 1, 1)
    standardized = StandardizePictures(dtype="mixed_bfloat16")(pictures.astype(np.float32))
    assert standardized.dtype == "float32"
    expected = [(picture - picture.mean()) / picture.std() for picture in pictures]
    np.testing.assert_allclose(standardized, expected, atol=1e-4)
    assert not np.any(StandardizePictures()(tf.fill([1, 3, 3, 3], 7.0)))


def test_padding_does_not_change_what_a_picture_looks_like():
    picture = np.random.default_rng(0).integers(0, 60, [1, 4, 6, 3]).astype(np.float32)
    padded = np.full([1, 9, 6, 3], 114, np.float32)
    padded[:, :4] = picture
    alone, standardized = StandardizePictures()(picture).numpy(), StandardizePictures()(padded).numpy()
    np.testing.assert_allclose(standardized[:, :4], alone, atol=1e-5)
    assert not standardized[:, 4:].any()
    assert not np.any(StandardizePictures()(tf.fill([1, 3, 3, 3], 114.0)))
