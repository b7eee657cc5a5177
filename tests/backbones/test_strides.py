import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from kzoo.backbones.strides import FitToStride, maps_by_level


def names(maps):
    """Of the layers that make the maps, before they are fitted."""
    producers = {level: tensor._keras_history.operation for level, tensor in maps.items()}
    return {
        level: (layer.input[0]._keras_history.operation if isinstance(layer, FitToStride) else layer).name
        for level, layer in producers.items()
    }


def convolution(x, stride, name, padding="same"):
    return layers.Conv2D(4, 3, strides=stride, padding=padding, name=name)(x)


def residual_network():
    """A stem, and two stages whose last block strides in the middle of its branch, as in ResNet v2."""
    images = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 255)(images)
    x = convolution(x, 2, "stem")
    for stage in ("one", "two"):
        x = layers.Add(name=f"{stage}_out")([x, convolution(x, 1, f"{stage}_branch")])
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = layers.Multiply(name=f"{stage}_excited")([x, layers.Conv2D(4, 1)(gate)])
        branch = convolution(x, 1, f"{stage}_deep")
        branch = layers.ZeroPadding2D(1)(branch)
        branch = convolution(branch, 2, f"{stage}_strided", padding="valid")
        x = layers.Add(name=f"{stage}_down")([convolution(x, 2, f"{stage}_short"), branch])
    return keras.Model(images, layers.ReLU(name="end")(x))


def test_a_level_is_what_everything_deeper_is_computed_from():
    """Neither the branch of the strided block, though it is deeper, nor a padded map, nor a gate of 1 x 1."""
    maps = maps_by_level(residual_network())
    assert names(maps) == {1: "one_excited", 2: "two_excited", 3: "end"}
    assert not any(isinstance(tensor._keras_history.operation, FitToStride) for tensor in maps.values())


def test_padding_is_no_level():
    images = keras.Input((None, None, 3))
    x = convolution(images, 2, "first")
    x = convolution(layers.ZeroPadding2D(1)(x), 2, "second", padding="valid")
    assert names(maps_by_level(keras.Model(images, x))) == {1: "first", 2: "second"}


def test_where_connections_skip_along_the_fewest_do():
    """As in NASNet, each cell takes the outputs of the two before it."""
    images = keras.Input((None, None, 3))
    older, before = convolution(images, 2, "older"), convolution(images, 2, "before")
    cell = layers.Concatenate(name="cell")([convolution(older, 1, "a"), convolution(before, 1, "b")])
    inner = convolution(cell, 1, "inner")
    parts = [convolution(x, 2, name) for x, name in ((inner, "c"), (cell, "d"), (before, "e"))]
    end = layers.Concatenate(name="end")(parts)
    assert names(maps_by_level(keras.Model(images, end))) == {1: "cell", 2: "end"}


@pytest.mark.parametrize("size", [(None, None), (67, 90)])
def test_maps_of_networks_without_padding_are_centred(size):
    """All-ones kernels: what is fitted is zero, what is not is positive."""
    images = keras.Input((*size, 1))
    x = images
    for level in (1, 2):
        x = layers.Conv2D(1, 3, strides=2, kernel_initializer="ones", name=f"down{level}")(x)
        x = layers.Conv2D(1, 3, kernel_initializer="ones", name=f"more{level}")(x)
    network = keras.Model(images, x)
    maps = maps_by_level(network)
    assert names(maps) == {1: "more1", 2: "more2"}
    fitted = keras.Model(images, list(maps.values()))(np.ones((1, 67, 90, 1), "float32"))
    # 67 -> 33 -> 31 of 34; 90 -> 44 -> 42 of 45. Then 31 -> 15 -> 13 of 17; 42 -> 20 -> 18 of 23.
    for tensor, height, width in [(fitted[0], (34, 31), (45, 42)), (fitted[1], (17, 13), (23, 18))]:
        rows, columns = (np.flatnonzero(np.any(tensor[0, :, :, 0] > 0, axis=axis)) for axis in (1, 0))
        assert tensor.shape == (1, height[0], width[0], 1)
        for found, (total, own) in ((rows, height), (columns, width)):
            start = (total - own) // 2
            assert found.tolist() == list(range(start, start + own))


@functools.cache
def fit(stride, known):
    """Of maps and images whose sizes are known as the graph is made, or are not."""
    layer = FitToStride(stride)
    specs = [tf.TensorSpec((1, None, None, channels)) for channels in (1, 3)]
    return layer if known else tf.function(lambda *inputs: layer(*inputs), input_signature=specs)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from([2, 4, 8]),
    st.booleans(),
)
def test_fitting_is_centred(height, width, own_height, own_width, stride, known):
    features = np.arange(1, 1 + own_height * own_width, dtype="float32").reshape(1, own_height, own_width, 1)
    fitted = fit(stride, known)(features, np.zeros((1, height, width, 3), "float32")).numpy()
    expected = features
    for axis, size in ((1, height), (2, width)):
        target = math.ceil(size / stride)
        extra = target - expected.shape[axis]
        if extra > 0:
            pad = [(0, 0)] * 4
            pad[axis] = extra // 2, extra - extra // 2
            expected = np.pad(expected, pad)
        expected = np.take(expected, range(max(-extra, 0) // 2, max(-extra, 0) // 2 + target), axis)
    np.testing.assert_array_equal(fitted, expected)
