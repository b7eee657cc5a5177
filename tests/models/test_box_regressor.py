import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo


def tiny(**options):
    keras.utils.set_random_seed(0)
    small = {"num_classes": 3, "input_shape": (64, 64, 3), "backbone": "compact", "head_units": 32}
    return kzoo.build("box_regressor", **small | options)


@pytest.fixture(scope="module")
def trained(toy, dataset):
    """A model with three slots that was trained a little, with what it showed."""
    model = tiny(max_objects=3)
    model.compile(keras.optimizers.AdamW(2e-3))
    history = model.fit(
        dataset(toy(4)).repeat(8), epochs=2, validation_data=dataset(toy(4)), verbose=0
    ).history
    return model, history


def test_fit_lowers_the_losses_and_they_sum_up(trained):
    _, history = trained
    names = ("loss", "classification", "box")
    assert set(history) == {name for shown in names for name in (shown, f"val_{shown}")}
    for name in names:
        assert history[name][-1] < 0.9 * history[name][0], name
    for prefix in ("", "val_"):
        total = np.add(history[f"{prefix}classification"], history[f"{prefix}box"])
        np.testing.assert_allclose(history[f"{prefix}loss"], total, rtol=1e-4)


def test_answers_are_kept_by_saving_loading_and_exporting(trained, toy, assert_kept, dataset):
    model, _ = trained
    answers, again = assert_kept(model, toy(5)["images"])
    kinds = {name: (values.shape, values.dtype) for name, values in answers.items()}
    assert kinds == {
        "boxes": ((5, 3, 4), np.float32),
        "scores": ((5, 3), np.float32),
        "classes": ((5, 3), np.int32),
        "num_detections": ((5,), np.int32),
    }
    assert answers["num_detections"].max() > 0
    assert np.all(np.diff(answers["scores"], axis=1) <= 0)
    for picture, count in enumerate(answers["num_detections"]):
        boxes, classes = answers["boxes"][picture], answers["classes"][picture]
        assert set(classes[:count]) <= {0, 1, 2} and set(classes[count:]) <= {-1}
        assert np.all((boxes >= 0) & (boxes <= 64)) and np.all(boxes[:, 2:] >= boxes[:, :2])
        assert not boxes[count:].any() and not answers["scores"][picture, count:].any()
    expected = model.evaluate(dataset(toy(4)), verbose=0, return_dict=True)
    assert again.evaluate(dataset(toy(4)), verbose=0, return_dict=True) == pytest.approx(expected)


def test_what_the_numbers_mean():
    """With weights of zero the biases are the answer: class 1, around (16, 32), 24 high and 8 wide."""
    model = tiny()
    for name in ("classes_of_slots", "boxes_of_slots"):
        model.get_layer(name).kernel.assign(tf.zeros_like(model.get_layer(name).kernel))
    model.get_layer("classes_of_slots").bias.assign(np.log([1, 6, 2, 1]))
    model.get_layer("boxes_of_slots").bias.assign(np.float32([16, 32, 24, 8]) / 64)
    answers = model.predict(np.zeros([1, 64, 64, 3]), verbose=0)
    np.testing.assert_allclose(answers["boxes"], [[[12, 20, 20, 44]]], atol=1e-4)
    np.testing.assert_allclose(answers["scores"], [[0.6]], atol=1e-6)
    assert (answers["classes"].tolist(), answers["num_detections"].tolist()) == ([[1]], [1])
    model.get_layer("classes_of_slots").bias.assign([0, 0, 0, 1])
    assert model.predict(np.zeros([1, 64, 64, 3]), verbose=0)["num_detections"].tolist() == [0]


@pytest.mark.parametrize("rows", [3, 0])
def test_pictures_without_objects_teach_that_nothing_is_there(toy, losses_and_gradients, rows):
    model = tiny(max_objects=2)
    arrays = toy(2) | {
        "boxes": np.zeros([2, rows, 4], np.float32),
        "classes": np.full([2, rows], -1, np.int32),
    }
    losses, gradients = losses_and_gradients(model, arrays)
    assert losses["classification"] > 0 and losses["box"] == 0
    assert not gradients["boxes_of_slots/kernel"].any()
    bias = gradients["classes_of_slots/bias"].reshape(2, 4)
    assert np.all(bias[:, 3] < 0) and np.all(bias[:, :3] > 0)  # downhill: "no object" grows


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_losses_are_float32_and_finite_whatever_comes(
    hostile, all_at_once, losses_and_gradients, precision, policy
):
    with precision(policy):
        model = tiny(max_objects=20)
    for arrays in (hostile(), all_at_once()):
        losses, gradients = losses_and_gradients(model, arrays)
        assert all(loss.dtype == np.float32 and np.isfinite(loss) for loss in losses.values())
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    answers = model(arrays["images"])
    assert all(np.isfinite(values).all() for values in answers.values())
    assert answers["boxes"].dtype == answers["scores"].dtype == tf.float32


def test_options_reach_the_parts():
    model = tiny(max_objects=5, head_units=7, box_loss_weight=3.0)
    assert model.get_layer("head").units == 7
    assert model.get_layer("box").weight == 3.0
    assert model.get_layer("numbers").output.shape == (None, 5, 4)
    assert model.get_layer("logits").output.shape == (None, 5, 4)
    assert kzoo.info("box_regressor").task == "box_regression"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet5"}, 'backbone="resnet5": unknown. Nearest: "resnet50"'),
        ({"num_classes": 0}, "num_classes=0: a whole number of at least 1"),
        ({"max_objects": 0}, "max_objects=0: a whole number of at least 1"),
        ({"head_units": 1.5}, "head_units=1.5: a whole number of at least 1"),
        ({"box_loss_weight": -1}, "box_loss_weight=-1: a number of at least 0"),
        ({"freeze_statistics": 1}, "freeze_statistics=1: True or False"),
        ({"input_shape": (None, 64, 3)}, r"input_shape=\(None, 64, 3\): box_regressor needs to know height"),
        ({"input_shape": (64, 31, 3)}, r"input_shape=\(64, 31, 3\): too small.*\(32, 32, 3\)"),
        ({"input_shape": (64, 64)}, r"input_shape=\(64, 64\): \(height, width, 3\) is expected"),
    ],
)
def test_options_are_checked_at_build(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)
