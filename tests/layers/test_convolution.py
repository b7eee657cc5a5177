import keras
import numpy as np
import pytest

from kzoo.layers.convolution import convolution


def kinds(model):
    return [(type(layer).__name__, layer.name) for layer in model.layers[1:]]


@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize(("padding", "side"), [("same", 6), ("valid", 4)])
def test_convolution_normalisation_and_relu(normalization, padding, side):
    images = keras.Input((6, 6, 2))
    x = convolution(
        images, 5, 3, name="here", index=1, normalization=normalization, momentum=0.7, padding=padding
    )
    model = keras.Model(images, x)
    names = [("Conv2D", "here_conv_1"), ("BatchNorm", "here_bn_1"), ("ReLU", "here_relu_1")]
    assert kinds(model) == [pair for pair in names if normalization or pair[0] != "BatchNorm"]
    assert x.shape == (None, side, side, 5)
    assert model.get_layer("here_conv_1").use_bias is (normalization is None)  # else an offset does it
    if normalization:
        assert model.get_layer("here_bn_1").momentum == 0.7
    assert np.min(model(np.random.default_rng(0).normal(size=(1, 6, 6, 2)))) == 0
