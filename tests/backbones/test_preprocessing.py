import keras
import numpy as np
import pytest
from keras.applications import densenet, efficientnet, mobilenet_v2, resnet

from kzoo.backbones.preprocessing import preprocessing

PICTURES = np.random.default_rng(1).uniform(0, 255, (2, 5, 7, 3)).astype("float32")


@pytest.mark.parametrize(
    ("module", "black", "blue"),
    [
        (mobilenet_v2, [-1, -1, -1], [-1, -1, 1]),
        (
            densenet,
            [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
            [-0.485 / 0.229, -0.456 / 0.224, 0.594 / 0.225],
        ),
        (resnet, [-103.939, -116.779, -123.68], [255 - 103.939, -116.779, -123.68]),
    ],
    ids=["tf", "torch", "caffe"],
)
def test_equals_preprocess_input(module, black, blue):
    layer = preprocessing(module.preprocess_input)
    colours = np.array([[[[0, 0, 0], [0, 0, 255]]]], "float32")
    np.testing.assert_allclose(layer(colours)[0, 0], [black, blue], rtol=1e-5, atol=1e-5)
    expected = module.preprocess_input(PICTURES.copy())
    np.testing.assert_allclose(layer(PICTURES), expected, rtol=1e-5, atol=1e-4)
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(again(PICTURES), layer(PICTURES))


def test_in_float32_even_where_the_network_is_not():
    """And integers are pictures, too."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = preprocessing(resnet.preprocess_input)
    finally:
        keras.config.set_dtype_policy(policy)
    assert layer(PICTURES.astype("uint8")).dtype == "float32"


def test_nothing_where_the_network_does_it():
    assert preprocessing(efficientnet.preprocess_input) is None


def test_any_order_of_channels():
    layer = preprocessing(lambda x: x[..., [1, 2, 0]] * [1, 2, 3])
    np.testing.assert_allclose(layer(PICTURES), PICTURES[..., [1, 2, 0]] * [1, 2, 3], rtol=1e-6)


@pytest.mark.parametrize("function", [np.sqrt, lambda x: x.mean(-1, keepdims=True) + np.zeros(3)])
def test_other_functions_are_refused(function):
    def preprocess_input(x):
        return function(x)

    with pytest.raises(ValueError, match="no affine map of single channels"):
        preprocessing(preprocess_input)
