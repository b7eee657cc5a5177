import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.batch_norm import BatchNorm

SHAPE = (2, 5, 4, 3)
PIXELS = 2 * 5 * 4


def inputs(shape=SHAPE):
    x = np.random.default_rng(0).normal([1, -2, 30], [1, 0.1, 5], shape)
    return tf.constant(x, tf.float32)


def pair(dtype="float32", **kwargs):
    """The layer and Keras's own, with the same weights, none of them trivial."""
    ours = BatchNorm(dtype=dtype, **kwargs)
    keras_layer = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype, **kwargs)
    for layer in (ours, keras_layer):
        layer.build(SHAPE)
        # Gamma has more digits than half precision keeps.
        layer.set_weights(
            list(np.array([[1.001, 0.5, 2.0], [0.1, -3.0, 7.0], [0.5, -1.0, 20.0], [2.0, 0.5, 9.0]]))
        )
    return ours, keras_layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
def test_outputs_and_gradients_are_those_of_keras(training, trainable):
    results = []
    for layer in pair(trainable=trainable):
        x = tf.Variable(inputs())
        with tf.GradientTape() as tape:
            y = layer(x, training=training)
            loss = tf.reduce_sum(tf.square(y) * tf.range(3.0) + tf.sin(y))
        results.append([y, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])])
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=2e-3)


def test_training_outputs_by_hand():
    layer, _ = pair()
    x = inputs().numpy().astype(float)
    expected = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * [1.001, 0.5, 2.0] + [0.1, -3, 7]
    np.testing.assert_allclose(layer(inputs(), training=True), expected, rtol=1e-4, atol=1e-4)


def test_moving_statistics_take_the_unbiased_variance_as_pytorch_does():
    layer, keras_layer = pair()
    layer(inputs(), training=True)
    keras_layer(inputs(), training=True)
    x = inputs().numpy().astype(float)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(layer.moving_mean, 0.9 * np.array([0.5, -1, 20]) + 0.1 * mean, rtol=1e-5)
    old = 0.9 * np.array([2, 0.5, 9])
    np.testing.assert_allclose(layer.moving_variance, old + 0.1 * variance * PIXELS / (PIXELS - 1), rtol=1e-5)
    # Keras's own differs in this alone.
    np.testing.assert_allclose(layer.moving_mean, keras_layer.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(keras_layer.moving_variance, old + 0.1 * variance, rtol=1e-5)


@pytest.mark.parametrize(("training", "trainable"), [(False, True), (None, True), (True, False)])
def test_statistics_do_not_move(training, trainable):
    layer, _ = pair(trainable=trainable)
    before = layer.get_weights()
    y = layer(inputs(), training=training)
    np.testing.assert_array_equal(np.stack(layer.get_weights()), np.stack(before))
    expected = (inputs() - [0.5, -1, 20]) / np.sqrt(np.array([2, 0.5, 9]) + 1e-5) * [1.001, 0.5, 2] + [
        0.1,
        -3,
        7,
    ]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_frozen_has_nothing_to_train():
    layer, _ = pair(trainable=False)
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 4


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("mixed_float16", 2e-3), ("mixed_bfloat16", 2e-2)])
def test_half_precision(dtype, tolerance, training):
    layer, _ = pair(dtype)
    exact, _ = pair()
    # What both can represent, and beyond the 65504 of float16 once squared.
    x = tf.cast(tf.cast(inputs() * 30, layer.compute_dtype), tf.float32)
    y = layer(tf.cast(x, layer.compute_dtype), training=training)
    assert y.dtype == layer.compute_dtype
    np.testing.assert_allclose(
        tf.cast(y, tf.float32), exact(x, training=training), rtol=4 * tolerance, atol=tolerance * 4
    )
    np.testing.assert_allclose(layer.moving_mean, exact.moving_mean, rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, exact.moving_variance, rtol=1e-3)
    assert all(weight.dtype == "float32" for weight in layer.weights)


def test_a_single_pixel_is_survived():
    layer, _ = pair()
    y = layer(inputs((1, 1, 1, 3)), training=True)
    np.testing.assert_allclose(y[0, 0, 0], [0.1, -3.0, 7.0], atol=1e-6)
    assert all(np.isfinite(weight).all() for weight in layer.get_weights())


@pytest.mark.parametrize("training", [True, False])
def test_numbers_without_pixels(training):
    ours, flat = pair()[0], BatchNorm()
    flat.build((None, 3))
    flat.set_weights(ours.get_weights())
    x = inputs((7, 1, 1, 3))
    y = flat(x[:, 0, 0], training=training)
    np.testing.assert_array_equal(y, ours(x, training=training)[:, 0, 0])
    np.testing.assert_array_equal(np.stack(flat.get_weights()), np.stack(ours.get_weights()))


@pytest.mark.parametrize("option", [{"axis": 1}, {"center": False}, {"scale": False}])
def test_what_the_kernel_does_not_do_is_refused(option):
    (name,) = option
    with pytest.raises(ValueError, match=rf"{name}={option[name]}"):
        BatchNorm(**option)


def test_configuration():
    layer = BatchNorm.from_config(BatchNorm(momentum=0.5, epsilon=1e-3, trainable=False).get_config())
    assert (layer.momentum, layer.epsilon, layer.trainable) == (0.5, 1e-3, False)
