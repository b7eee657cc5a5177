import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo

IDENTITY = [1.0, 0, 0, 0, 1, 0]


def tiny(**options):
    keras.utils.set_random_seed(0)
    small = {"num_classes": 2, "input_shape": (32, 32, 3), "window": 16, "channels": (4, 4, 4, 4), "units": 8}
    return kzoo.build("spatial_transformer", **small | options)


def batch(pictures=12, height=32, width=32):
    """Red or blue squares on grey noise."""
    rng = np.random.default_rng(pictures)
    classes = np.arange(pictures, dtype=np.int32) % 2
    images = rng.integers(90, 120, [pictures, height, width, 3], dtype=np.uint8)
    for image, label in zip(images, classes, strict=True):
        y, x = rng.integers(0, height - 10), rng.integers(0, width - 10)
        image[y : y + 10, x : x + 10] = [[240, 20, 20], [20, 20, 240]][label]
    return {"images": images, "classes": classes}


@pytest.fixture(scope="module")
def trained(dataset):
    """A model that was trained a little, with what it showed."""
    model = tiny()
    model.compile(keras.optimizers.AdamW(2e-3))
    data = dataset(batch(12), 6).repeat(15)
    history = model.fit(data, epochs=2, validation_data=dataset(batch(6), 6), verbose=0).history
    return model, history


def test_fit_lowers_the_loss_and_shows_the_accuracy(trained):
    _, history = trained
    names = ("loss", "classification", "accuracy")
    assert set(history) == {name for shown in names for name in (shown, f"val_{shown}")}
    assert history["loss"][-1] < 0.9 * history["loss"][0]


def test_answers_are_kept_by_saving_loading_and_exporting(trained, assert_kept):
    model, _ = trained
    answers, _ = assert_kept(model, batch(5)["images"])
    kinds = {name: (values.shape, values.dtype) for name, values in answers.items()}
    assert kinds == {
        "probabilities": ((5, 2), np.float32),
        "classes": ((5,), np.int32),
        "theta": ((5, 6), np.float32),
    }
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1, atol=1e-6)
    # It has learned to look elsewhere, and at each picture in another way.
    assert np.abs(answers["theta"] - IDENTITY).max() > 1e-3
    assert answers["theta"].std(axis=0).max() > 1e-4


def test_it_starts_with_the_whole_picture():
    model = tiny()
    images = batch(2)["images"]
    np.testing.assert_allclose(model.predict(images, verbose=0)["theta"], [IDENTITY] * 2, atol=1e-7)
    window = keras.Model(model.input["images"], model.get_layer("sampler").output)(images)
    whole = keras.Model(model.input["images"], model.get_layer("backbone_normalize").output)(images)
    # 16 samples a side of 32 pixels lie between two of them.
    between = tf.nn.avg_pool2d(whole, 2, 2, "VALID")
    np.testing.assert_allclose(window, between, atol=1e-5)


def test_without_a_transformer_the_network_sees_the_same_at_first():
    """What is compared is the transformer alone: the CNN and its window are the same."""
    transformed, plain = tiny(window=32), tiny(window=32, transform=False)
    for layer in plain.layers:
        if layer.get_weights():
            layer.set_weights(transformed.get_layer(layer.name).get_weights())
    images = batch(3)["images"]
    answers = plain.predict(images, verbose=0)
    assert set(answers) == {"probabilities", "classes"}
    expected = transformed.predict(images, verbose=0)
    np.testing.assert_allclose(answers["probabilities"], expected["probabilities"], atol=1e-5)
    assert not [layer.name for layer in plain.layers if "localisation" in layer.name]


def test_pictures_need_not_be_square(losses_and_gradients):
    model = tiny(input_shape=(24, 48, 3))
    losses, gradients = losses_and_gradients(model, batch(4, 24, 48))
    assert np.isfinite(losses["classification"])
    assert model.predict(batch(2, 24, 48)["images"], verbose=0)["theta"].shape == (2, 6)
    assert model.get_layer("sampler").output.shape == (None, 16, 16, 3)
    # The classes alone teach where to look, and how closely.
    assert np.abs(gradients["heat/kernel"]).max() > 0
    assert np.abs(gradients["departure/bias"]).max() > 0


def test_the_window_goes_where_the_heat_is():
    model = tiny(input_shape=(32, 64, 3), window=32)  # features of 8 by 16 places
    model.get_layer("departure").bias.assign([-0.5, 0.25, 0.125, -0.75])
    model.get_layer("heat").kernel.assign(tf.ones_like(model.get_layer("heat").kernel))
    features = np.zeros([2, 8, 16, 32], np.float32)
    features[0, 1, 14] = features[1, 7, 0] = 100
    place = keras.Model(model.get_layer("heat").input, model.get_layer("centre").output)(features)
    # The middle of a place, and the picture from -1 to 1: x of 16 places, y of 8.
    np.testing.assert_allclose(place, [[29 / 16 - 1, 3 / 8 - 1], [1 / 16 - 1, 15 / 8 - 1]], atol=1e-6)
    theta = model.predict(batch(2, 32, 64)["images"], verbose=0)["theta"].reshape(2, 2, 3)
    np.testing.assert_allclose(theta[:, :, :2], [[[0.5, 0.25], [0.125, 0.25]]] * 2, atol=1e-6)
    maps = keras.Model(model.input["images"], model.get_layer("centre").output)
    np.testing.assert_allclose(theta[:, :, 2], maps(batch(2, 32, 64)["images"]), atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_losses_are_float32_and_finite_whatever_comes(losses_and_gradients, precision, policy):
    with precision(policy):
        model = tiny(label_smoothing=0.1)
    arrays = batch(4)
    hostile = [
        (IDENTITY, arrays["classes"]),
        ([1e6, -1e6, 1e6, 1e6, 1e6, -1e6], arrays["classes"]),
        ([0.0] * 6, np.full(4, -1, np.int32)),
    ]
    for theta, classes in hostile:
        linear = np.subtract(theta, IDENTITY)[[0, 1, 3, 4]]
        model.get_layer("departure").bias.assign(linear)
        model.get_layer("heat").kernel.assign(np.full_like(model.get_layer("heat").kernel, theta[0]))
        losses, gradients = losses_and_gradients(model, arrays | {"classes": classes})
        assert losses["classification"].dtype == np.float32 and np.isfinite(losses["classification"])
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    answers = model(arrays["images"])
    assert answers["theta"].dtype == answers["probabilities"].dtype == tf.float32
    assert np.isfinite(answers["probabilities"]).all()


def test_large_pictures_are_averaged_down_to_the_scale_of_the_window():
    names = [layer.name for layer in tiny(input_shape=(64, 96, 3)).layers]  # a window of 16
    assert "smooth" in names and "smooth" not in [layer.name for layer in tiny().layers]
    large = tiny(input_shape=(64, 96, 3))
    images = batch(1, 64, 96)["images"]
    averaged = keras.Model(large.input["images"], large.get_layer("smooth").output)(images)
    whole = keras.Model(large.input["images"], large.get_layer("backbone_normalize").output)(images)
    np.testing.assert_allclose(averaged, tf.nn.avg_pool2d(whole, 2, 2, "VALID"), atol=1e-5)


def test_options_reach_the_parts():
    model = tiny(window=20, channels=[3, 4, 5, 6], units=9, dropout=0.2, label_smoothing=0.3)
    assert model.get_layer("sampler").size == 20
    assert [model.get_layer(f"cnn_conv_{i}").filters for i in range(4)] == [3, 4, 5, 6]
    assert model.get_layer("cnn_dense").units == 9
    assert model.get_layer("cnn_dropout_1").rate == 0.2
    assert model.get_layer("classification").label_smoothing == 0.3
    assert model.zoo_options["channels"] == (3, 4, 5, 6)
    assert kzoo.info("spatial_transformer").task == "classification"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes=0: a whole number of at least 1"),
        ({"window": 3}, "window=3: a whole number of at least 4"),
        ({"units": 0}, "units=0: a whole number of at least 1"),
        ({"transform": "no"}, "transform='no': True or False"),
        ({"channels": (4, 4, 4)}, r"channels=\(4, 4, 4\): 4 numbers are expected"),
        ({"channels": (4, 4, 4, 4, 4)}, r"channels=\(4, 4, 4, 4, 4\): a list of 1 to 4 numbers"),
        ({"channels": 4}, "channels=4: a list of 1 to 4 numbers"),
        ({"channels": (4, 4, 4, 0)}, r"channels=\(4, 4, 4, 0\): 0 is in it"),
        ({"channels": (4, 4, 4, 2.5)}, r"channels=\(4, 4, 4, 2.5\), .*2.5: a whole number|channels=.*=2.5"),
        ({"dropout": 0.5}, "dropout=0.5: a number from 0 to 0.49"),
        ({"label_smoothing": -1}, "label_smoothing=-1: a number from 0 to 1"),
        ({"input_shape": (None, 32, 3)}, r"input_shape=\(None, 32, 3\): spatial_transformer needs to know"),
        ({"input_shape": (7, 32, 3)}, r"input_shape=\(7, 32, 3\): too small.*\(8, 8, 3\)"),
    ],
)
def test_options_are_checked_at_build(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_the_smallest_picture_is_enough(losses_and_gradients):
    model = tiny(input_shape=(16, 16, 3), window=4)
    losses, _ = losses_and_gradients(model, batch(2, 16, 16))
    assert np.isfinite(losses["classification"])
