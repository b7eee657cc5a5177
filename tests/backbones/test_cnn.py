import keras
import numpy as np
import pytest

from kzoo.backbones.cnn import cnn


def model_of(shape=(69, 69, 3), **options):
    images = keras.Input(shape)
    return keras.Model(images, cnn(images, **options))


def test_as_many_parameters_as_by_hand():
    """Dominguez-Sanchez et al. 2018: 69 pixels, halved twice; convolutions of 6, 5, 2 and 3 pixels."""
    convolutions = [(6, 3, 32), (5, 32, 64), (2, 64, 128), (3, 128, 128)]
    expected = sum(size**2 * channels * out + out for size, channels, out in convolutions)
    expected += 17 * 17 * 128 * 64 + 64  # 69 -> 34 -> 17 pixels a side
    assert model_of().count_params() == expected


def test_the_paper_s_layers_in_their_order():
    model = model_of()
    kinds = [type(layer).__name__ for layer in model.layers[1:]]
    head, last = ["Flatten", "Dense", "ReLU", "Dropout"], ["Conv2D", "ReLU", "Dropout"]
    assert kinds == [*last, *(["Conv2D", "ReLU", "MaxPooling2D", "Dropout"] * 2), *last, *head]
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.5, 0.25, 0.25, 0.25, 0.5]
    sizes = [layer.kernel_size[0] for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert sizes == [6, 5, 2, 3]


def test_normalised_behind_each_layer():
    kinds = [type(layer).__name__ for layer in model_of(normalization="batch").layers]
    for before, kind, behind in zip(kinds, kinds[1:], kinds[2:], strict=False):
        if kind == "BatchNorm":
            assert before in ("Conv2D", "Dense") and behind == "ReLU"
    assert kinds.count("BatchNorm") == 5


def test_options():
    model = model_of((16, 20, 3), channels=(2, 3, 4, 5), units=7, dropout=0.1)
    assert model.output.shape == (None, 7)
    assert [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)] == [2, 3, 4, 5]
    assert [layer.rate for layer in model.layers if "dropout" in layer.name] == [0.2, 0.1, 0.1, 0.1, 0.2]
    assert model.get_layer("cnn_flatten").output.shape == (None, 4 * 5 * 5)


def test_the_smallest_picture_and_one_convolution_too_few():
    assert model_of((4, 4, 3), channels=(2, 2, 2, 2)).get_layer("cnn_flatten").output.shape == (None, 2)
    with pytest.raises(ValueError, match="zip"):
        model_of(channels=(2, 2, 2))


def test_numbers_keep_their_scale():
    """He's initialisation: values around 0 with unit variance neither vanish nor explode."""
    keras.utils.set_random_seed(0)
    pictures = np.random.default_rng(0).normal(size=[4, 32, 32, 3]).astype(np.float32)
    numbers = model_of((32, 32, 3), channels=(8, 16, 32, 32)).predict(pictures, verbose=0)
    assert 0.1 < numbers.std() < 10 and numbers.min() == 0  # behind a ReLU
