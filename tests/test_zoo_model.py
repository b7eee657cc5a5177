import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.data import DataError
from kzoo.losses.loss_layer import LossLayer
from kzoo.zoo_model import ZooModel

PICTURES = np.random.default_rng(0).integers(0, 256, [6, 8, 8, 3], dtype=np.uint8)
ANSWERS = np.float32(PICTURES.mean((1, 2)) / 255)  # [6, 3]


@keras.saving.register_keras_serializable("kzoo_tests")
class Distance(LossLayer):
    """Mean distance from what was asked for, where it was."""

    def call(self, predicted, wanted=None):
        if wanted is not None:
            self.add_named_loss(tf.reduce_mean(tf.abs(predicted - wanted)), tf.shape(predicted)[0])
        return predicted


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 3), name="images")
    wanted = keras.Input((3,), name="wanted", optional=True)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(images))
    x = keras.layers.Dense(3, name="dense")(x)
    x = Distance(name="far")(x, wanted)
    x = Distance(weight=0.5, name="near")(x, wanted)
    model = ZooModel({"images": images, "wanted": wanted}, {"colour": x})
    model.least_size = 8
    model.zoo_name, model.zoo_options = "colours", {"num_classes": 2, "sizes": (1, 2)}
    model.compile(keras.optimizers.SGD(0.1))
    return model


def dataset(batch_size=4, **more):
    return tf.data.Dataset.from_tensor_slices({"images": PICTURES, "wanted": ANSWERS, **more}).batch(
        batch_size
    )


def plain_answers(model):
    kernel, bias = model.get_layer("dense").get_weights()
    return PICTURES.mean((1, 2)) / 255 @ kernel + bias


def test_a_tensor_a_dict_and_a_dict_with_more_are_the_same(model):
    expected = plain_answers(model)
    floats = PICTURES.astype(np.float32)
    more = {"image_id": np.arange(6), "images": floats}
    for inputs in (PICTURES, floats, tf.constant(PICTURES), {"images": floats}, more):
        np.testing.assert_allclose(model(inputs)["colour"], expected, atol=1e-5)
        assert model.losses == []
        np.testing.assert_allclose(model.predict(inputs, verbose=0)["colour"], expected, atol=1e-5)


def test_targets_add_the_losses(model):
    model({"images": PICTURES, "wanted": ANSWERS, "image_id": np.arange(6)})
    far = np.abs(plain_answers(model) - ANSWERS).mean()
    np.testing.assert_allclose(model.losses, [far, 0.5 * far], rtol=1e-5)


def test_a_target_given_as_none_is_one_that_is_not_there(model):
    model({"images": PICTURES, "wanted": None})
    assert model.losses == []


def test_predict_on_a_dataset_leaves_its_targets_aside(model):
    pairs = tf.data.Dataset.from_tensor_slices((PICTURES, ANSWERS)).batch(4)
    more = {"images": PICTURES, "wanted": ANSWERS, "name": np.array(list("abcdef"))}
    for data in (dataset(), pairs, more):
        answers = model.predict(data, verbose=0)
        np.testing.assert_allclose(answers["colour"], plain_answers(model), atol=1e-5)


def test_named_losses_sum_to_the_loss_also_where_the_last_batch_is_small(model):
    logs = model.evaluate(dataset(image_id=np.arange(6)), verbose=0, return_dict=True)
    far = np.abs(plain_answers(model) - ANSWERS).mean()  # over all pictures, whatever their batch
    assert logs == pytest.approx({"loss": 1.5 * far, "far": far, "near": 0.5 * far}, rel=1e-5)
    history = model.fit(
        dataset(image_id=np.arange(6)), validation_data=dataset(), epochs=2, verbose=0
    ).history
    for prefix in ("", "val_"):
        names = [f"{prefix}{name}" for name in ("loss", "far", "near")]
        total, *parts = (np.array(history[name]) for name in names)
        np.testing.assert_allclose(total, sum(parts), rtol=1e-5)
    assert history["loss"][1] < history["loss"][0]


def labelled(*classes):
    """As `kzoo.data.load` gives it: a dataset that knows its classes."""
    data = dataset()
    data.classes = classes
    return data


def passed_on(data):
    return data.repeat().take(20).prefetch(1)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("x", lambda model, data: model.fit(data, verbose=0)),
        ("validation_data", lambda model, data: model.fit(dataset(), validation_data=data, verbose=0)),
        ("x", lambda model, data: model.evaluate(data, verbose=0)),
        ("x", lambda model, data: model.fit(passed_on(data), verbose=0, steps_per_epoch=1)),
    ],
)
def test_another_number_of_classes_is_an_error_before_anything_is_learned(model, argument, call):
    before = model.get_layer("dense").get_weights()
    with pytest.raises(ValueError, match=rf"^{argument}: the data has 3 classes \(a, b, c\).*num_classes=2"):
        call(model, labelled("a", "b", "c"))
    for old, new in zip(before, model.get_layer("dense").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    call(model, labelled("a", "b"))


def test_data_or_a_model_without_known_classes_is_no_error(model):
    model.zoo_options = None
    assert model.evaluate(labelled("a", "b", "c"), verbose=0, return_dict=True)["loss"] > 0


def test_a_map_may_have_changed_the_classes(model):
    data = labelled("a", "b", "c").map(lambda batch: batch)
    assert model.evaluate(data, verbose=0, return_dict=True)["loss"] > 0


def test_a_class_beyond_the_last_in_arrays_is_an_error(model):
    data = {"images": PICTURES, "wanted": ANSWERS, "classes": np.array([[0], [1], [2], [0], [-1], [0]])}
    with pytest.raises(ValueError, match="^x: class 2 is in it.*num_classes=2: 0 to 1"):
        model.fit(data, verbose=0)


@pytest.mark.parametrize("keys", [("images",), ("images", "boxes"), ("wanted",)])
def test_a_batch_that_lacks_something_is_an_error(model, keys):
    parts = {"images": PICTURES, "wanted": ANSWERS, "boxes": ANSWERS}
    batch = {key: parts[key] for key in keys}
    lacking = "images" if keys == ("wanted",) else "wanted"
    for data in (batch, tf.data.Dataset.from_tensor_slices(batch).batch(2)):
        for call in (model.fit, model.evaluate):
            with pytest.raises(ValueError, match=rf"^x: a batch has {', '.join(keys)}, but no {lacking}\."):
                call(data, verbose=0)


def test_tuples_of_pictures_and_targets_are_an_error(model):
    data = tf.data.Dataset.from_tensor_slices((PICTURES, ANSWERS)).batch(2)
    with pytest.raises(ValueError, match="^x: the dataset has tuples of 2; a dict"):
        model.fit(data, verbose=0)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((2, 8, 9, 3), r"shape \(2, 8, 9, 3\), but this model takes \(None, 8, 8, 3\)"),
        ((2, 8, 8, 1), r"shape \(2, 8, 8, 1\)"),
        ((2, 8, 8, 4), r"shape \(2, 8, 8, 4\)"),
        ((8, 8, 3), r"shape \(8, 8, 3\)"),
        ((0, 8, 8, 3), "there is no picture in the batch"),
    ],
)
def test_pictures_of_another_shape_are_an_error_at_every_call(model, shape, told):
    wrong = np.zeros(shape, np.uint8)
    for _ in range(2):  # also once it was traced for what is right
        for call in (model.predict, model.predict_on_batch):
            with pytest.raises(ValueError, match=told):
                call(wrong)
        if shape[0]:
            with pytest.raises(ValueError, match=told):
                model.fit(tf.data.Dataset.from_tensors({"images": wrong, "wanted": ANSWERS[:2]}), verbose=0)
        model.predict(PICTURES, verbose=0)
        model.predict(PICTURES[:5], verbose=0)


def test_pictures_below_the_least_size_are_an_error():
    images = keras.Input((None, None, 3), name="images")
    model = ZooModel({"images": images}, {"mean": keras.layers.GlobalAveragePooling2D()(images)})
    model.least_size = 16
    small = np.zeros((2, 16, 15, 3), np.float32)
    for call in (model, lambda pictures: model.predict(pictures, verbose=0)):
        with pytest.raises(ValueError, match="16 by 15 pixels are too small.*least is 16 by 16"):
            call(small)
    assert model.predict(np.zeros((2, 16, 16, 3)), verbose=0)["mean"].shape == (2, 3)


def test_save_and_load(model, tmp_path):
    model.fit(dataset(), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again, ZooModel)
    assert (again.zoo_name, again.zoo_options) == ("colours", {"num_classes": 2, "sizes": (1, 2)})
    assert again.least_size == 8
    np.testing.assert_array_equal(again(PICTURES)["colour"], model(PICTURES)["colour"])
    expected = model.evaluate(dataset(), verbose=0, return_dict=True)
    assert again.evaluate(dataset(), verbose=0, return_dict=True) == pytest.approx(expected)
    again.fit(dataset(), verbose=0)


TWO_DEVICES = """
import json, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
import numpy as np
import kzoo
from kzoo.layers.batch_norm import BatchNorm
from kzoo.data import DataError
from kzoo.losses.loss_layer import LossLayer
from kzoo.zoo_model import ZooModel


class Distance(LossLayer):
    def call(self, predicted, wanted=None):
        if wanted is not None:
            self.add_named_loss(tf.reduce_mean(tf.square(predicted - wanted)), tf.shape(predicted)[0])
        return predicted


def toy():
    images = keras.Input((16, 16, 3), name="images")
    wanted = keras.Input((4,), name="wanted", optional=True)
    x = keras.layers.Conv2D(8, 3)(keras.layers.Rescaling(1 / 255)(images))
    x = keras.layers.ReLU()(BatchNorm(synchronized=True)(x))  # the replicas wait for each other in the middle
    x = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))
    x = Distance(name="far")(x, wanted)
    x = keras.layers.Dense(4)(keras.layers.ReLU()(BatchNorm(synchronized=True)(x[:, None, None])))[:, 0, 0]
    x = Distance(weight=3.0, name="near")(x, wanted)
    return ZooModel({"images": images, "wanted": wanted}, {"colour": x})


def retinanet():
    return kzoo.build("retinanet", num_classes=2, input_shape=(64, 64, 3), backbone="compact",
                      pyramid_channels=16, head_depth=1, anchor_sizes=(16, 32))


rng = np.random.default_rng(0)
pictures = rng.integers(0, 256, [16, 16, 16, 3], dtype=np.uint8)
# Both devices see the same two pictures, for each normalises by its own objects and statistics.
images = np.tile(rng.integers(0, 256, [2, 64, 64, 3], dtype=np.uint8), [4, 1, 1, 1])
boxes = np.tile(np.float32([[[10, 10, 30, 30]], [[5, 20, 60, 50]]]), [4, 1, 1])
data = {
    "toy": (toy, {"images": pictures, "wanted": np.float32(rng.normal(size=[16, 4]))}),
    "retinanet": (retinanet, {"images": images, "boxes": boxes, "classes": np.tile([[0], [1]], [4, 1])}),
}
results = {}
for devices, strategy in (
    (1, tf.distribute.get_strategy()), (2, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
):
    for name, (make, arrays) in data.items():
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = make()
            model.compile(keras.optimizers.SGD(0.01))
        batches = tf.data.Dataset.from_tensor_slices(arrays).batch(4)
        logs = model.fit(batches, epochs=2, verbose=0, validation_data=batches).history
        weights = float(sum(np.abs(weight).sum() for weight in model.get_weights()))
        results[f"{name} on {devices}"] = logs | {"weights": weights}
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def on_devices():
    """What one device and two show, in a process of its own: TensorFlow splits a CPU only at its start."""
    process = subprocess.run([sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["toy", "retinanet"])
def test_two_devices_show_the_losses_of_one(on_devices, name):
    one, two = on_devices[f"{name} on 1"], on_devices[f"{name} on 2"]
    assert set(one) == set(two)
    for key, values in one.items():
        np.testing.assert_allclose(two[key], values, rtol=2e-3, err_msg=key)


@pytest.mark.parametrize("name", ["toy", "retinanet"])
@pytest.mark.parametrize("devices", [1, 2])
def test_named_losses_sum_to_the_loss_on_devices(on_devices, name, devices):
    logs = on_devices[f"{name} on {devices}"]
    parts = {"toy": ("far", "near"), "retinanet": ("classification", "box")}[name]
    for prefix in ("", "val_"):
        total = sum(np.array(logs[f"{prefix}{part}"]) for part in parts)
        np.testing.assert_allclose(logs[f"{prefix}loss"], total, rtol=1e-4)


@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
def test_weights_in_half_precision_are_refused(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        with pytest.raises(ValueError, match=f'set_dtype_policy."{policy}".*expected "mixed_{policy}"'):
            kzoo.build("classifier", num_classes=2, input_shape=(32, 32, 3), backbone="compact")
    finally:
        keras.config.set_dtype_policy(before)


def test_a_file_that_broke_meanwhile_is_a_fault_in_data(model):
    """And not an error of TensorFlow's of many lines."""

    def broken(picture):
        raise DataError("a.jpg: truncated; expected a whole picture file")

    def read(example):
        images = tf.numpy_function(broken, [example["images"]], tf.uint8)
        return example | {"images": tf.ensure_shape(images, [None, 8, 8, 3])}

    data = dataset().map(read)
    for work in (lambda: model.fit(data, verbose=0), lambda: model.evaluate(data, verbose=0)):
        with pytest.raises(DataError, match="^a.jpg: truncated; expected a whole picture file$"):
            work()
    with pytest.raises(DataError, match="^a.jpg: truncated"):
        model.predict(data, verbose=0)


def test_other_errors_of_tensorflow_stay_what_they_are(model):
    data = dataset().map(lambda example: example | {"images": tf.reshape(example["images"], [-1, 8, 8, 3])})
    data = data.map(lambda example: example | {"wanted": tf.gather(example["wanted"], [9], axis=1)})
    data = data.map(lambda example: example | {"wanted": tf.repeat(example["wanted"], 3, axis=1)})
    with pytest.raises(tf.errors.InvalidArgumentError):
        model.fit(data, verbose=0)
