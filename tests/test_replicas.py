"""One device and two replicas compute the same, however the pictures of the batch fall to the replicas."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kzoo import replicas

TWO_REPLICAS = """
import functools, json
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
import numpy as np
import kzoo
from kzoo import replicas
from kzoo.layers.batch_norm import normalized_together

CUTS = 3, 5, 0  # so many of six pictures come to the first replica: even, uneven, and none for one of them
one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
results = {"statistics": [], "models": {}}


def in_parts(strategy, function):
    # What each replica makes of its part: of what lies before the cut, or of the rest.
    def of_replica(batch, cut):
        first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
        end = tf.shape(next(iter(batch.values())))[0]
        begin, end = tf.where(first, 0, cut), tf.where(first, cut, end)
        return function({name: values[begin:end] for name, values in batch.items()})

    def of_all(batch, cut):
        return strategy.experimental_local_results(strategy.run(of_replica, args=(batch, cut)))

    return tf.function(of_all, autograph=False)


def exchange(part):
    value = tf.reduce_sum(part["x"])
    with replicas.weighing(tf.cast(tf.size(part["x"]) > 1, tf.float32)):
        weighed = replicas.sum_over_replicas(value)
    return replicas.mean_over_replicas(value), replicas.sum_over_replicas(value), weighed, replicas.count()


told = in_parts(two, exchange)({"x": tf.constant([1.0, 2.0, 4.0])}, tf.constant(1))
results["exchange"] = [[float(value) for value in values] for values in told]

rng = np.random.default_rng(0)
scale, offset = tf.constant([1.5, 0.5, 2.0]), tf.constant([0.1, -3.0, 7.0])


def normalize(kind, part):
    features = tf.cast(part["x"], kind)
    with tf.GradientTape() as tape:
        tape.watch([features, scale, offset])
        y, mean, variance = normalized_together(features, scale, offset, 1e-5)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * tf.cast(part["upstream"], tf.float32))
    return y, mean, variance, *tape.gradient(loss, [features, scale, offset])


for kind, far in (("float32", 3000.0), ("float16", 3.0), ("bfloat16", 3.0)):
    x = tf.cast(rng.normal([1, -2, far], [1, 0.1, 0.5], [6, 5, 4, 3]), kind)
    arrays = {"x": tf.cast(x, tf.float64), "upstream": tf.constant(rng.normal(size=x.shape))}
    normalized = in_parts(two, functools.partial(normalize, kind))
    for cut in CUTS:
        parts = normalized(arrays, tf.constant(cut))
        results["statistics"].append(
            {name: array.numpy().tolist() for name, array in arrays.items()}
            | {"kind": kind, "cut": cut}
            | {
                name: [np.float64(part[i]).tolist() for part in parts]
                for i, name in enumerate(["y", "mean", "variance", "of_x", "of_scale", "of_offset"])
            }
        )


class Gradients(keras.optimizers.Optimizer):
    # Leaves in each weight its gradient.
    def update_step(self, gradient, variable, learning_rate):
        self.assign(variable, gradient)


images = rng.integers(0, 256, [6, 64, 64, 3], dtype=np.uint8)
boxes, classes = np.zeros([6, 3, 4], np.float32), np.full([6, 3], -1)
for i, number in enumerate([3, 2, 0, 1, 0, 1]):  # of objects: most come to the first replica
    sides = rng.uniform(12, 30, [number, 2])
    corners = rng.uniform(0, 64 - sides)
    boxes[i, :number] = np.concatenate([corners, corners + sides], axis=1)
    classes[i, :number] = rng.integers(0, 2, number)
objects = {"images": images, "boxes": boxes, "classes": classes}
masks = (rng.random([6, 3, 56, 56]) < 0.6).astype(np.uint8)
pixels = rng.integers(0, 3, [6, 64, 64])
pixels[1:3, 10:] = -1  # few pixels of these count
pixels[4] = 0  # not every class is in every picture
borders = rng.random([6, 64, 64]).astype(np.float32)
of_pixels = {"images": images, "classes": pixels, "borders": borders}
of_pictures = {"images": images, "classes": np.array([0, 1, -1, 2, -1, 0])}
size = {"input_shape": (64, 64, 3)}
detector = size | dict(num_classes=2, backbone="compact", pyramid_channels=16, anchor_sizes=(8, 16))
segmentation = size | dict(num_classes=3, depth=2, class_weights=(1.0, 2.0, 0.5), border_weight=2.0)
cases = {
    "retinanet": (detector | dict(head_depth=1, normalization="batch"), objects),
    "retinanet, no object": (
        detector | dict(head_depth=0, box_loss="giou", freeze_statistics=True),
        objects | {"classes": np.full([6, 3], -1)},
    ),
    "mask_rcnn": (
        detector | dict(normalization="batch", proposals_train=100, proposals_test=50, roi_samples=32,
                        head_units=32, mask_channels=16),
        objects | {"masks": masks},
    ),
    "unet": (segmentation | dict(width=8, normalization="batch", loss="cross_entropy_dice"), of_pixels),
    "unet, with a backbone of Keras": (
        segmentation | dict(backbone="keras.applications.MobileNetV2", loss="focal"), of_pixels
    ),
    "spatial_transformer": (
        size | dict(num_classes=3, window=32, units=16, dropout=0.0, normalization="batch"), of_pictures
    ),
    "box_regressor": (
        size | dict(num_classes=2, backbone="compact", max_objects=2, head_units=16), objects
    ),
}


def computed(strategy, name, cuts):
    options, arrays = cases[name]
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = kzoo.build(name.partition(",")[0], **options)
        model.compile(Gradients(1.0))
        model.optimizer.build(model.trainable_variables)
    state = [variable.numpy() for variable in model.variables]
    learn, measure = in_parts(strategy, model.train_step), in_parts(strategy, model.test_step)
    batch = {name: tf.constant(values) for name, values in arrays.items()}
    smaller = {name: values[2:] for name, values in batch.items()}

    def shown():
        told = {metric.name: float(metric.result()) for metric in model.metrics}
        model.reset_metrics()
        return told

    for cut in cuts:
        for variable, value in zip(model.variables, state):
            variable.assign(value)
        model.reset_metrics()
        measured = {}
        if name in ("unet", "spatial_transformer"):  # two batches, of different sizes
            measure(batch, tf.constant(cut))
            measure(smaller, tf.constant(cut * 2 // 3))
            measured = shown()
        learn(batch, tf.constant(cut))
        copies = [
            [np.float64(copy.numpy()) for copy in strategy.experimental_local_results(weight.value)]
            for weight in model.weights
        ]
        yield {"measured": measured, "learning": shown()}, dict(zip([w.path for w in model.weights], copies))
    if name == "spatial_transformer":
        answer = in_parts(strategy, model.predict_step)
        parts = [answer({"images": batch["images"]}, tf.constant(cut)) for cut in cuts]
        results.setdefault("answers", []).append(
            [[part["probabilities"].numpy().tolist() for part in of_cut] for of_cut in parts]
        )


for name in cases:
    [(expected, weights)] = computed(one, name, [6])
    results["models"][name] = []
    for (found, copies), cut in zip(computed(two, name, CUTS), CUTS):
        pairs = [(copy, weights[path][0]) for path, of_path in copies.items() for copy in of_path]
        errors = [
            np.linalg.norm(copy - value) / (np.linalg.norm(value) + 1e-3 * np.sqrt(value.size))
            for copy, value in pairs
        ]
        results["models"][name].append(
            {"cut": cut, "found": found, "expected": expected, "errors": np.float64(errors).tolist(),
             "sizes": [float(np.linalg.norm(value)) for value, in weights.values()]}
        )
print(json.dumps(results))
"""
MODELS = (
    "retinanet",
    "retinanet, no object",
    "mask_rcnn",
    "unet",
    "unet, with a backbone of Keras",
    "spatial_transformer",
    "box_regressor",
)


@pytest.fixture(scope="module")
def results():
    """Of a process of its own: TensorFlow splits a CPU only at its start."""
    process = subprocess.run([sys.executable, "-c", TWO_REPLICAS], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def test_alone_a_replica_keeps_what_it_has():
    value = tf.constant([1.0, 5.0])
    assert replicas.together() is None and replicas.count() == 1 and replicas.weight() == 1.0
    assert replicas.mean_over_replicas(value) is replicas.sum_over_replicas(value) is value


def test_moments_of_one_replica():
    features = np.random.default_rng(0).normal(2000, 1, [7, 3]).astype(np.float32)
    mean, variance, number = replicas.moments_of_all(tf.constant(features), (0,))
    np.testing.assert_allclose(mean, features.astype(float).mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, features.astype(float).var(0), rtol=1e-3)
    np.testing.assert_array_equal(number, [7, 7, 7])
    for values in replicas.moments_of_all(tf.zeros([0, 3]), (0,)):
        assert np.isfinite(values).all()


def test_exchange(results):
    """The first has 1, the second 2 and 4; and the first one's are weighed with 0."""
    assert results["exchange"] == [[3.5, 7.0, 6.0, 2.0]] * 2


def test_normalisation_is_that_of_all_pixels(results):
    for case in results["statistics"]:
        x, upstream = np.array(case["x"]), np.array(case["upstream"])
        tolerance = {"float32": 2e-3, "float16": 2e-2, "bfloat16": 1e-1}[case["kind"]]
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        sharpness = 1 / np.sqrt(variance + 1e-5)
        normal = (x - mean) * sharpness
        scaled = upstream * [1.5, 0.5, 2.0]
        slope = scaled - scaled.mean((0, 1, 2)) - normal * (scaled * normal).mean((0, 1, 2))
        expected = {
            "y": normal * [1.5, 0.5, 2.0] + [0.1, -3.0, 7.0],
            "of_x": slope * sharpness,
            "of_scale": (upstream * normal).sum((0, 1, 2)),
            "of_offset": upstream.sum((0, 1, 2)),
        }
        shape = (-1, *x.shape[1:])
        found = {
            name: np.concatenate([np.reshape(part, shape) for part in case[name]]) for name in ("y", "of_x")
        }
        found |= {name: np.sum(case[name], axis=0) for name in ("of_scale", "of_offset")}
        for name, value in expected.items():
            error = np.abs(found[name] - value).max() / np.abs(value).max()
            assert error < tolerance, (case["kind"], case["cut"], name)
        for replica in (0, 1):
            np.testing.assert_allclose(case["mean"][replica], mean, rtol=1e-5)
            unbiased = variance * 120 / 119
            np.testing.assert_allclose(case["variance"][replica], unbiased, rtol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_two_replicas_show_the_losses_of_one_device(results, name):
    for case in results["models"][name]:
        for when, expected in case["expected"].items():
            assert case["found"][when] == pytest.approx(expected, rel=1e-4, abs=1e-6), (case["cut"], when)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_and_moving_statistics_of_two_replicas_are_those_of_one_device(results, name):
    """To float32, and to those few of its units that a rounding error turns on or off."""
    for case in results["models"][name]:
        assert max(case["sizes"]) > 1e-2  # there is something to learn
        assert np.isfinite(case["errors"]).all()
        assert max(case["errors"]) < 1e-2 and np.median(case["errors"]) < 1e-3, case["cut"]


def test_answers_are_as_many_as_pictures(results):
    (expected,), found = results["answers"]
    for cut, parts in zip((3, 5, 0), found, strict=True):
        assert [len(part) for part in parts] == [cut, 6 - cut]
        np.testing.assert_allclose([*parts[0], *parts[1]], expected[0], atol=1e-5)
