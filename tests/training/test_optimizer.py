import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.training import adamw

START = {"backbone_conv/kernel": np.float32([[0.5, -2.0]]), "head/kernel": np.float32([[3.0], [-0.25]])}
GRADIENTS = [  # of both, a step each; the last of a global norm of 50
    ([[0.2, -0.1]], [[0.4], [2.0]]),
    ([[-0.3, 1.5]], [[0.1], [0.0]]),
    ([[18.0, 24.0]], [[0.0], [-40.0]]),
]
RATES = (0.1, 0.02, 0.05)  # as a schedule sets them


def two_variables():
    """A model of `backbone_conv/kernel` and `head/kernel`, at the start."""
    x = keras.Input((1,))
    seen = keras.layers.Dense(2, use_bias=False, name="backbone_conv")(x)
    model = keras.Model(x, keras.layers.Dense(1, use_bias=False, name="head")(seen))
    assert [variable.path for variable in model.variables] == list(START)
    model.set_weights(list(START.values()))
    return model


def by_hand(backbone_rate, weight_decay, steps=3):
    """The two variables after AdamW's algorithm (Loshchilov and Hutter 2019, algorithm 2), in float64."""
    values = [np.float64(value) for value in START.values()]
    first, second = [0.0, 0.0], [0.0, 0.0]
    for step, (gradients, rate) in enumerate(zip(GRADIENTS[:steps], RATES, strict=False), start=1):
        gradients = [np.float64(gradient) for gradient in gradients]
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
        for i, own_rate in enumerate((rate * backbone_rate, rate)):
            gradient = gradients[i] * min(1, 10 / norm)
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            moved = (first[i] / (1 - 0.9**step)) / (np.sqrt(second[i] / (1 - 0.999**step)) + 1e-7)
            values[i] = values[i] - own_rate * (moved + weight_decay * values[i])
    return values


@pytest.mark.parametrize("how", ["eager", "graph", "compiled"])
@pytest.mark.parametrize(("backbone_rate", "weight_decay"), [(1.0, 0.3), (0.1, 0.3), (0.1, 0.0), (0.0, 0.3)])
def test_steps_are_those_by_hand(how, backbone_rate, weight_decay):
    model = two_variables()
    optimizer = adamw(1.0, weight_decay, backbone_rate)

    def step(*gradients):
        optimizer.apply(list(gradients), model.trainable_variables)

    if how != "eager":
        optimizer.build(model.trainable_variables)
        step = tf.function(step, jit_compile=how == "compiled")
    for gradients, rate in zip(GRADIENTS, RATES, strict=True):
        optimizer.learning_rate = rate
        step(*map(tf.constant, gradients))
    for found, expected in zip(model.get_weights(), by_hand(backbone_rate, weight_decay), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_without_a_backbone_rate_it_is_keras_own():
    models = two_variables(), two_variables()
    own = adamw(0.1, 0.3)
    keras_own = keras.optimizers.AdamW(0.1, weight_decay=0.3, global_clipnorm=10.0)
    for model, optimizer in zip(models, (own, keras_own), strict=True):
        for gradients in GRADIENTS:
            optimizer.apply(list(map(tf.constant, gradients)), model.trainable_variables)
    for found, expected in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(found, expected)


MIRRORED = """
import sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, sys.argv[1])
from kzoo.training import adamw
from test_optimizer import GRADIENTS, RATES, by_hand, two_variables

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = two_variables()
    optimizer = adamw(1.0, 0.3, 0.1)
    optimizer.build(model.trainable_variables)

@tf.function
def step(gradients):
    # Each replica has half of the gradient: the replicas' are summed.
    strategy.run(lambda: optimizer.apply([part / 2 for part in gradients], model.trainable_variables))

for gradients, rate in zip(GRADIENTS[:2], RATES):
    optimizer.learning_rate = rate
    step([tf.constant(gradient) for gradient in gradients])
for variable, expected in zip(model.trainable_variables, by_hand(0.1, 0.3, steps=2)):
    copies = strategy.experimental_local_results(variable.value)
    assert len(copies) == 2
    for copy in copies:
        np.testing.assert_allclose(copy, expected, rtol=2e-5)
"""


def test_steps_of_two_replicas_are_those_by_hand(request):
    subprocess.run([sys.executable, "-c", MIRRORED, str(request.path.parent)], check=True)


def test_biases_and_normalisation_do_not_decay_nor_after_loading():
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 1), keras.layers.BatchNormalization()]
    )
    first = adamw(0.1, weight_decay=0.5)
    for optimizer in (first, keras.optimizers.deserialize(keras.optimizers.serialize(first))):
        for weight in model.trainable_weights:
            weight.assign(np.ones(weight.shape))
        # With gradients of nothing AdamW's own step is nothing: what moves was decayed.
        zeros = [np.zeros(weight.shape, np.float32) for weight in model.trainable_weights]
        optimizer.apply(zeros, model.trainable_weights)
        values = {weight.name: np.unique(weight.numpy()) for weight in model.trainable_weights}
        np.testing.assert_allclose(values.pop("kernel"), 1 - 0.1 * 0.5, rtol=1e-6)
        assert set(values) == {"bias", "gamma", "beta"}
        assert all(value == 1.0 for value in values.values())


@pytest.mark.parametrize("backbone", ["compact", "keras.applications.MobileNet"])
def test_the_backbone_of_a_model_is_found_also_after_loading(backbone, tmp_path):
    model = kzoo.build("classifier", num_classes=2, backbone=backbone)
    model.compile(adamw(1e-2, weight_decay=0.1, backbone_rate=0.0))
    for _ in range(2):
        before = [variable.numpy() for variable in model.trainable_variables]
        gradients = [tf.ones(variable.shape) for variable in model.trainable_variables]
        model.optimizer.apply(gradients, model.trainable_variables)
        changed = {
            variable.path
            for variable, value in zip(model.trainable_variables, before, strict=True)
            if not np.array_equal(value, variable.numpy())
        }
        assert changed == {"classes_of_picture/kernel", "classes_of_picture/bias"}
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    assert model.optimizer.backbone_rate == 0.0 and int(model.optimizer.iterations) == 2


@pytest.mark.parametrize("backbone_rate", [0.0, 0.1])
def test_a_backbone_rate_without_a_backbone(backbone_rate):
    x = keras.Input((1,))
    model = keras.Model(x, keras.layers.Dense(1, name="head")(x))
    with pytest.raises(ValueError, match=f"backbone_rate={backbone_rate}: no variable .* is of a backbone"):
        adamw(1e-3, backbone_rate=backbone_rate).build(model.trainable_variables)
    adamw(1e-3).build(model.trainable_variables)


def test_a_backbone_rate_without_a_backbone_is_told_by_fit():
    x = keras.Input((1,))
    model = keras.Model(x, keras.layers.Dense(1, name="head")(x))
    model.compile(adamw(1e-3, backbone_rate=0.1), loss="mse")
    with pytest.raises(ValueError, match="backbone_rate=0.1"):
        model.fit(np.ones([2, 1]), np.ones([2, 1]), verbose=0)


@pytest.mark.parametrize("backbone_rate", [-0.1, 1.5, float("nan"), "slow"])
def test_a_backbone_rate_that_cannot_be(backbone_rate):
    with pytest.raises(ValueError, match="backbone_rate=.*: a number from 0 to 1 is expected"):
        adamw(1e-3, backbone_rate=backbone_rate)


@pytest.mark.parametrize("how", ["eager", "graph"])
def test_gathered_gradients_are_one_step_of_their_mean(how):
    """Decay, clipping (of the mean: its norm is above 10) and Adam's own count of steps are those of one."""
    model, expected = two_variables(), two_variables()
    optimizer, own = adamw(1.0, 0.3, 0.1, accumulate=3), adamw(1.0, 0.3, 0.1)

    def step(*gradients):
        optimizer.apply(list(gradients), model.trainable_variables)

    optimizer.build(model.trainable_variables)
    if how == "graph":
        step = tf.function(step)
    mean = [np.mean([gradients[i] for gradients in GRADIENTS], axis=0, dtype=np.float32) for i in (0, 1)]
    assert np.sqrt(sum((gradient**2).sum() for gradient in mean)) > 10
    for rate in RATES:
        optimizer.learning_rate = own.learning_rate = rate
        before = model.get_weights()
        for number, gradients in enumerate(GRADIENTS):
            for weights, unchanged in zip(model.get_weights(), before, strict=True):
                np.testing.assert_array_equal(weights, unchanged, err_msg=f"{number}")
            step(*map(tf.constant, gradients))
        own.apply(list(map(tf.constant, mean)), expected.trainable_variables)
        for found, other in zip(model.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_allclose(found, other, rtol=1e-5)


def test_small_batches_gathered_learn_what_a_large_one_does(tiny, pictures):
    """Of a model without batch normalisation's statistics and dropout, whose loss is a mean."""
    gathered, large = (tiny(adamw(0.05, 0.3, accumulate=count), dropout=0.0) for count in (3, 1))
    data = pictures(batches=6)
    for model, batches in ((gathered, data), (large, data.rebatch(12))):
        next(layer for layer in model.layers if "normalization" in layer.name).trainable = False
        model.compile(model.optimizer)
        for batch in batches:
            model.train_on_batch(batch)
    for found, expected in zip(gathered.get_weights(), large.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture
def half_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


def test_where_the_loss_is_scaled_steps_are_those_by_hand(half_precision):
    model = two_variables()
    model.compile(adamw(1.0, 0.3, 0.1, averages=0.5), loss="mse")
    scaling = model.optimizer
    assert isinstance(scaling, keras.optimizers.LossScaleOptimizer)
    scaling.build(model.trainable_variables)
    scale = float(scaling.dynamic_scale.value)
    averages = None
    for gradients, rate in zip(GRADIENTS, RATES, strict=True):
        scaling.learning_rate = rate
        assert float(scaling.inner_optimizer.learning_rate) == pytest.approx(rate)
        scaling.apply([tf.constant(gradient) * scale for gradient in gradients], model.trainable_variables)
        weights = model.get_weights()
        averages = (
            weights if averages is None else [(a + b) / 2 for a, b in zip(averages, weights, strict=True)]
        )
        # What overflowed changes nothing but the scale.
        overflowed = [tf.fill(np.shape(gradient), np.inf) for gradient in gradients]
        scaling.apply(overflowed, model.trainable_variables)
        scale /= 2
        assert float(scaling.dynamic_scale.value) == scale
    for found, expected in zip(model.get_weights(), by_hand(0.1, 0.3), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5)
    scaling.finalize_variable_values(model.trainable_variables)
    for found, expected in zip(model.get_weights(), averages, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_where_the_loss_is_scaled_biases_do_not_decay_and_fit_follows_a_schedule(
    half_precision, tiny, pictures
):
    model = tiny(adamw(1.0, weight_decay=0.5))
    rates = []
    setting = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: setattr(model.optimizer, "learning_rate", 0.125),
        on_train_batch_end=lambda batch, logs: rates.append(float(model.optimizer.learning_rate)),
    )
    before = [variable.numpy() for variable in model.trainable_variables]
    assert {variable.dtype for variable in model.variables} <= {"float32", "uint32", "int64"}
    losses = model.fit(pictures(batches=3), verbose=0, callbacks=[setting]).history["loss"]
    assert rates == [0.125] * 3 and np.isfinite(losses).all()
    assert any(
        not np.array_equal(one, other.numpy())
        for one, other in zip(before, model.trainable_variables, strict=True)
    )
    inner = model.optimizer.inner_optimizer
    decaying = {variable.path for variable in model.trainable_variables if inner._use_weight_decay(variable)}
    assert decaying == {"hidden/kernel", "answer/kernel"}
