import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.up_convolution import UpConvolution


@pytest.mark.parametrize(("activation", "use_bias"), [(None, True), ("relu", False)])
def test_it_is_the_transposed_convolution_of_keras(activation, use_bias):
    options = {"activation": activation, "use_bias": use_bias, "bias_initializer": "normal"}
    ours, plain = UpConvolution(5, **options), keras.layers.Conv2DTranspose(5, 2, 2, **options)
    x = tf.random.stateless_normal([2, 3, 4, 7], [0, 1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        up = ours(x)
        expected = (plain.build(x.shape), plain.set_weights(ours.get_weights()), plain(x))[-1]
        losses = [tf.reduce_sum(tf.sin(values)) for values in (up, expected)]
    np.testing.assert_allclose(up, expected, atol=1e-6)
    assert up.shape == (2, 6, 8, 5)
    for of_ours, of_plain in zip([x, *ours.weights], [x, *plain.weights], strict=True):
        sources = (getattr(weight, "value", weight) for weight in (of_ours, of_plain))
        gradients = [tape.gradient(*pair) for pair in zip(losses, sources, strict=True)]
        np.testing.assert_allclose(*gradients, atol=1e-5)


def test_sizes_that_are_not_known_and_a_way_back_from_its_configuration():
    layer = UpConvolution(3, activation="relu", name="up")
    assert layer(keras.Input((None, 5, 2))).shape == (None, None, 10, 3)
    again = UpConvolution.from_config(layer.get_config())
    assert again(keras.Input((None, 5, 2))).shape == (None, None, 10, 3)
    assert again.activation is layer.activation


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_in_half_precision_it_computes_as_the_policy_says(policy):
    layer = UpConvolution(3, dtype=policy)
    up = layer(tf.ones([1, 2, 2, 4]))
    assert up.dtype == layer.compute_dtype and layer.kernel.dtype == "float32"
