import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.backbones import features_of
from kzoo.layers.batch_norm import BatchNorm
from kzoo.layers.pyramid import MOST_LEVELS, UpsampleAdd, feature_pyramid

# Keras would have the keys of its inputs be their names; levels are numbers.
pytestmark = pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")


def model_of(levels, channels=4, normalization=None, shape=(None, None), **options):
    """From C3 to C5, of 1, 2 and 3 channels, to a pyramid."""
    features = {level: keras.Input((*shape, level - 2), name=str(level)) for level in (3, 4, 5)}
    pyramid = feature_pyramid(features, range(3, 3 + levels), channels, normalization, **options)
    return keras.Model(features, pyramid)


def zeros(height, width):
    sizes = {level: (math.ceil(height / 2**level), math.ceil(width / 2**level)) for level in (3, 4, 5)}
    return {level: tf.zeros((2, *size, level - 2)) for level, size in sizes.items()}


@pytest.mark.parametrize("levels", range(1, MOST_LEVELS + 1))
@pytest.mark.parametrize(("height", "width"), [(128, 256), (250, 333), (129, 127), (8, 8)])
def test_shapes(levels, height, width):
    pyramid = model_of(levels)(zeros(height, width))
    assert list(pyramid) == list(range(3, 3 + levels))
    for level, feature in pyramid.items():
        assert feature.shape == (2, math.ceil(height / 2**level), math.ceil(width / 2**level), 4)


def test_sizes_come_through_a_backbone_rounded_up():
    images = keras.Input((250, 333, 3))
    pyramid = feature_pyramid(features_of(images, "compact"), range(3, 8), 4)
    assert {level: feature.shape[1:3] for level, feature in pyramid.items()} == {
        level: (math.ceil(250 / 2**level), math.ceil(333 / 2**level)) for level in range(3, 8)
    }


def test_upsampling_repeats_and_cuts():
    coarse = tf.constant([[1.0, 2], [3, 4]])[None, :, :, None]
    fine = tf.reshape(tf.range(9.0) * 10, (1, 3, 3, 1))
    expected = [[1, 11, 22], [31, 41, 52], [63, 73, 84]]
    np.testing.assert_array_equal(UpsampleAdd()(coarse, fine)[0, :, :, 0], expected)


def set_convolutions(model, **centres):
    """Every convolution sums its input channels at its own pixel, times a factor, plus a bias."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            kernel[:] = 0
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = centres.get(layer.name, 1.0)
            layer.set_weights([kernel, bias * 0])


def test_top_down_path_by_hand():
    model = model_of(5, channels=1)
    set_convolutions(model, fpn_inner_4=10.0, fpn_layer_3=2.0, fpn_p6=-3.0, fpn_p7=1.0)
    c3 = np.arange(16.0).reshape(1, 4, 4, 1)
    c4 = np.stack([np.float32([[1, 2], [3, 4]]), np.float32([[5, 5], [5, 5]])], axis=-1)[None]
    c5 = np.float32([[[[100, 20, 3]]]])
    pyramid = {level: feature.numpy()[0, :, :, 0] for level, feature in model({3: c3, 4: c4, 5: c5}).items()}
    p5 = np.float32([[123]])
    p4 = 10 * np.float32([[6, 7], [8, 9]]) + 123  # inner, plus the coarser level
    p3 = c3[0, :, :, 0] + np.kron(p4, np.ones([2, 2]))  # before its output convolution
    np.testing.assert_allclose(pyramid[5], p5)
    np.testing.assert_allclose(pyramid[4], p4)
    np.testing.assert_allclose(pyramid[3], 2 * p3)
    np.testing.assert_allclose(pyramid[6], -3 * p5)
    np.testing.assert_allclose(pyramid[7], [[0]])  # the ReLU before it


def test_strided_levels_look_at_even_pixels():
    model = model_of(4, channels=1)
    set_convolutions(model)
    c5 = np.float32(np.arange(9).reshape(1, 3, 3, 1) * [1, 0, 0])
    p6 = model({3: np.zeros([1, 12, 12, 1]), 4: np.zeros([1, 6, 6, 2]), 5: c5})[6].numpy()
    np.testing.assert_allclose(p6[0, :, :, 0], [[0, 2], [6, 8]])


@pytest.mark.parametrize(("levels", "count"), [(1, 2), (3, 6), (5, 6)])
def test_normalization_behind_every_convolution_up_to_p5(levels, count):
    model = model_of(levels, normalization="batch", shape=(32, 32))
    normalizations = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
    assert len(normalizations) == count
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert layer.use_bias == (layer.name in ("fpn_p6", "fpn_p7"))
    assert not [layer for layer in model_of(levels).layers if isinstance(layer, BatchNorm)]


def two_stage_model(normalization=None, channels=4):
    """From C2 to C5, of 1 to 4 channels, to P2 to P6."""
    features = {level: keras.Input((None, None, level - 1), name=str(level)) for level in (2, 3, 4, 5)}
    return keras.Model(
        features, feature_pyramid(features, range(2, 7), channels, normalization, coarser="pool")
    )


@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize(("height", "width"), [(64, 128), (250, 333), (129, 127), (33, 65)])
def test_p6_is_every_second_pixel_of_p5(height, width, normalization):
    rng = np.random.default_rng(0)
    features = {
        level: rng.normal(
            size=(2, math.ceil(height / 2**level), math.ceil(width / 2**level), level - 1)
        ).astype(np.float32)
        for level in (2, 3, 4, 5)
    }
    pyramid = two_stage_model(normalization)(features)
    assert list(pyramid) == [2, 3, 4, 5, 6]
    for level in (2, 3, 4, 5, 6):
        assert pyramid[level].shape == (2, math.ceil(height / 2**level), math.ceil(width / 2**level), 4)
    np.testing.assert_array_equal(pyramid[6], pyramid[5][:, ::2, ::2])
    assert np.ptp(pyramid[6]) > 0


def test_pooled_levels_have_no_weights():
    model = two_stage_model("batch")
    convolutions = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert sorted(convolutions) == [
        f"fpn_{kind}_{level}" for kind in ("inner", "layer") for level in (2, 3, 4, 5)
    ]
    assert sum(isinstance(layer, BatchNorm) for layer in model.layers) == 8


def test_top_down_path_reaches_p2():
    model = two_stage_model(channels=1)
    set_convolutions(model)
    rows = {
        level: np.zeros([1, 2 ** (5 - level), 2 ** (5 - level), level - 1], np.float32) for level in (2, 3, 4)
    }
    rows[2][0, 3, 5] = 7
    rows[4][0, 0, 1] = 10  # in each of its three channels
    pyramid = model(rows | {5: np.ones([1, 1, 1, 4], np.float32)})
    expected = np.full([8, 8], 4.0)
    expected[:4, 4:] += 30
    expected[3, 5] += 7
    np.testing.assert_allclose(pyramid[2][0, :, :, 0], expected)
    np.testing.assert_allclose(pyramid[6][0, :, :, 0], [[4]])


@pytest.mark.parametrize(
    ("options", "channels"), [({}, 4), ({"coarser": "pyramid"}, 4), ({"coarser": "backbone"}, 3)]
)
def test_what_p6_is_made_of(options, channels):
    """P6 of P5 or of C5, which has three channels here; P7 of P6 in any case."""
    model = model_of(5, **options)
    assert model.get_layer("fpn_p6").kernel.shape == (3, 3, channels, 4)
    assert model.get_layer("fpn_p7").kernel.shape == (3, 3, 4, 4)


def test_p6_of_the_backbones_features_by_hand():
    model = model_of(5, channels=1, coarser="backbone")
    set_convolutions(model, fpn_inner_5=10.0, fpn_p6=-3.0)
    c5 = np.float32(np.arange(9).reshape(1, 3, 3, 1) * [1, 0, 0] + [0, 0, 2])
    pyramid = model({3: np.zeros([1, 12, 12, 1]), 4: np.zeros([1, 6, 6, 2]), 5: c5})
    p6 = -3 * (np.float32([[0, 2], [6, 8]]) + 2)
    np.testing.assert_allclose(pyramid[6][0, :, :, 0], p6)
    np.testing.assert_allclose(pyramid[7], [[[[0]]]])  # the ReLU before it
    set_convolutions(model, fpn_p6=3.0, fpn_p7=0.5)
    pyramid = model({3: np.zeros([1, 12, 12, 1]), 4: np.zeros([1, 6, 6, 2]), 5: c5})
    np.testing.assert_allclose(pyramid[7], [[[[3.0]]]])  # half of 3 * (0 + 2)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_without_p6_it_does_not_matter_what_it_is_made_of(levels):
    names = [
        [layer.name for layer in model_of(levels, coarser=kind).layers] for kind in ("pyramid", "backbone")
    ]
    assert len(set(names[0])) == len(names[0]) and set(names[0]) == set(names[1])
