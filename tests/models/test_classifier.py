import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo

COLOURS = np.float32([[220, 60, 60], [60, 220, 60], [60, 60, 220]])


def tiny(**options):
    keras.utils.set_random_seed(0)
    return kzoo.build("classifier", **{"num_classes": 3, "backbone": "compact"} | options)


def batch(pictures=12, height=32, width=32):
    """Noise around the colour of the class."""
    rng = np.random.default_rng(pictures)
    classes = np.arange(pictures, dtype=np.int32) % 3
    images = COLOURS[classes][:, None, None] + rng.normal(0, 30, [pictures, height, width, 3])
    return {"images": np.uint8(images.clip(0, 255)), "classes": classes}


@pytest.fixture(scope="module")
def trained(dataset):
    """A model that was trained a little, with what it showed."""
    options = dict(dropout=0.1, label_smoothing=0.05, mixup=0.2, cutmix=1.0)
    model = tiny(backbone="cnn", input_shape=(20, 28, 3), **options)
    model.compile(keras.optimizers.AdamW(1e-3))
    data = dataset(batch(12, 20, 28) | {"image_id": np.arange(12)}, 6).repeat(10)
    held_out = dataset(batch(6, 20, 28), 6)
    history = model.fit(data, epochs=3, validation_data=held_out, verbose=0).history
    return model, history


def test_fit_lowers_the_loss_and_shows_the_accuracy(trained):
    _, history = trained
    names = ("loss", "classification", "accuracy")
    assert set(history) == {name for shown in names for name in (shown, f"val_{shown}")}
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert history["accuracy"][-1] > history["accuracy"][0]
    for prefix in ("", "val_"):
        np.testing.assert_allclose(history[f"{prefix}loss"], history[f"{prefix}classification"], rtol=1e-4)
        assert np.all((np.array(history[f"{prefix}accuracy"]) >= 0) & (np.array(history["accuracy"]) <= 1))


def test_answers_are_kept_by_saving_loading_and_exporting(trained, assert_kept, dataset):
    model, _ = trained
    answers, again = assert_kept(model, batch(5, 20, 28)["images"])
    kinds = {name: (values.shape, values.dtype) for name, values in answers.items()}
    assert kinds == {"probabilities": ((5, 3), np.float32), "classes": ((5,), np.int32)}
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(answers["classes"], answers["probabilities"].argmax(axis=1))
    data = dataset(batch(6, 20, 28))
    expected = model.evaluate(data, verbose=0, return_dict=True)
    assert again.evaluate(data, verbose=0, return_dict=True) == pytest.approx(expected)


def test_evaluation_is_of_whole_pictures(trained):
    """Pictures do not mix, and the accuracy is of the classes and not of smoothed ones."""
    model, _ = trained
    arrays = batch(6, 20, 28)
    shown = [model.evaluate(arrays, batch_size=6, verbose=0, return_dict=True) for _ in range(2)]
    assert shown[0] == shown[1]
    answers = model.predict(arrays["images"], verbose=0)
    assert shown[0]["accuracy"] == pytest.approx((answers["classes"] == arrays["classes"]).mean())
    smoothed = np.eye(3)[arrays["classes"]] * 0.95 + 0.05 / 3
    expected = -(smoothed * np.log(answers["probabilities"])).sum(axis=1).mean()
    assert shown[0]["classification"] == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def any_size():
    return tiny()


def test_any_size_of_picture(any_size, losses_and_gradients):
    for height, width in ((32, 32), (37, 61)):
        arrays = batch(2, height, width)
        assert any_size.predict(arrays["images"], verbose=0)["probabilities"].shape == (2, 3)
        losses, gradients = losses_and_gradients(any_size, arrays)
        assert np.isfinite(losses["classification"])
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    with pytest.raises(ValueError, match="^images: .*too small.*the least is 32 by 32"):
        any_size(batch(2, 31, 32)["images"])


def test_answers_of_a_picture_do_not_depend_on_the_others(any_size):
    images = batch(3)["images"]
    together, alone = (any_size.predict(given, verbose=0) for given in (images, images[1:2]))
    np.testing.assert_allclose(together["probabilities"][1:2], alone["probabilities"], rtol=1e-3)


def test_the_answer_is_that_of_the_mean_of_the_deepest_features(any_size):
    images = batch(2, 64, 96)["images"]
    features = keras.Model(any_size.input["images"], any_size.get_layer("pool").input)(images).numpy()
    kernel, bias = any_size.get_layer("classes_of_picture").get_weights()
    logits = features.astype(float).mean(axis=(1, 2)) @ kernel + bias
    powers = np.exp(logits)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(any_size(images)["probabilities"], expected, rtol=1e-3)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_losses_are_float32_and_finite_whatever_comes(losses_and_gradients, precision, policy):
    with precision(policy):
        model = tiny(mixup=0.2, cutmix=1.0, label_smoothing=0.1)
    arrays = batch(6)
    hostile = [
        (arrays["classes"], [0, 0, 0]),
        (np.int32([0, -1, 2, -1, -1, 1]), [1e4, -1e4, 0]),
        (np.full(6, -1, np.int32), [1e4, -1e4, 0]),
    ]
    for classes, bias in hostile:
        model.get_layer("classes_of_picture").bias.assign(bias)
        losses, gradients = losses_and_gradients(model, arrays | {"classes": classes})
        loss = losses["classification"]
        assert loss.dtype == np.float32 and np.isfinite(loss)
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert loss == 0 and not any(gradient.any() for gradient in gradients.values())  # all are unknown
    answers = model(arrays["images"])
    assert answers["probabilities"].dtype == tf.float32
    assert np.isfinite(answers["probabilities"]).all()


def test_the_plain_network(trained):
    model, _ = trained
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.2, 0.1, 0.1, 0.1, 0.2]
    with pytest.raises(ValueError, match=r"pictures of shape \(2, 32, 32, 3\), but this model takes"):
        model.predict(batch(2)["images"])


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}, {}])
def test_what_is_mixed_is_learned_as_mixed(losses_and_gradients, options):
    """Where the logits do not depend on the picture, only the shares of the classes can change the loss."""
    model = tiny(backbone="cnn", input_shape=(8, 8, 3), dropout=0.0, **options)
    model.get_layer("classes_of_picture").set_weights([np.zeros([64, 3]), np.float32([3, 0, -2])])
    arrays = batch(6, 8, 8) | {"classes": np.int32([0, 1, 2, 2, 2, 2])}
    losses = [losses_and_gradients(model, arrays)[0]["classification"] for _ in range(6)]
    logs = np.log(np.exp([3, 0, -2]) / np.exp([3, 0, -2]).sum())
    if options:
        assert np.std(losses) > 0.01
        assert -logs[0] < np.min(losses) and np.max(losses) < -logs[2]
    else:
        np.testing.assert_allclose(losses, -logs[arrays["classes"]].mean(), rtol=1e-5)


def test_frozen_statistics():
    model = tiny(freeze_statistics=True)
    assert not [v.path for v in model.trainable_variables if "bn" in v.path]
    assert [v.path for v in tiny().trainable_variables if "bn" in v.path]


def test_options_reach_the_parts():
    model = tiny(dropout=0.3, label_smoothing=0.2, mixup=0.4, cutmix=0.6)
    assert model.get_layer("dropout").rate == 0.3
    assert model.get_layer("classification").label_smoothing == 0.2
    assert (model.get_layer("mix").mixup, model.get_layer("mix").cutmix) == (0.4, 0.6)
    assert "mix" not in [layer.name for layer in tiny().layers]
    assert kzoo.info("classifier").task == "classification"


def test_classes_beyond_the_last(dataset):
    model = tiny(backbone="cnn", input_shape=(8, 8, 3))
    model.compile("sgd")
    wrong = batch(4, 8, 8) | {"classes": np.int32([0, 1, 2, 3])}
    with pytest.raises(ValueError, match="class 3 is in it, but the model was built with num_classes=3"):
        model.fit(wrong, verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not below num_classes=3"):
        model.fit(dataset(wrong), verbose=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "compct"}, 'backbone="compct": unknown. Nearest: "compact"'),
        ({"num_classes": 0}, "num_classes=0: a whole number of at least 1"),
        ({"num_classes": 2.0}, "num_classes=2.0: a whole number of at least 1"),
        ({"dropout": 1}, "dropout=1: a number from 0 to 0.99"),
        ({"dropout": 0.5, "backbone": "cnn", "input_shape": (64, 64, 3)}, "dropout=0.5: .* 0 to 0.49"),
        ({"label_smoothing": 1.5}, "label_smoothing=1.5: a number from 0 to 1"),
        ({"mixup": -0.1}, "mixup=-0.1: a number of at least 0"),
        ({"cutmix": "1"}, "cutmix='1': a number of at least 0"),
        ({"freeze_statistics": "no"}, "freeze_statistics='no': True or False"),
        ({"input_shape": (64, 64, 1)}, r"input_shape=\(64, 64, 1\): \(height, width, 3\) is expected"),
        ({"input_shape": (31, 64, 3)}, r"input_shape=\(31, 64, 3\): too small.*\(32, 32, 3\)"),
        ({"backbone": "cnn"}, r'input_shape=\(None, None, 3\): backbone="cnn" needs to know height'),
        ({"backbone": "cnn", "input_shape": (3, 9, 3)}, r"input_shape=\(3, 9, 3\): too small.*\(4, 4, 3\)"),
    ],
)
def test_options_are_checked_at_build(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)
