import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.training import adamw
from kzoo.training.model_state import restore, restore_metrics, state_of


def learn(model, data, batches=slice(None)):
    for batch in list(data)[batches]:
        model.train_on_batch(batch)


def scaled(**options):
    return keras.optimizers.LossScaleOptimizer(
        adamw(0.01, **options), initial_scale=8.0, dynamic_growth_steps=4
    )


@pytest.mark.parametrize(
    "optimizer",
    [lambda: adamw(0.01, averages=0.9, accumulate=4), lambda: scaled(averages=0.9, accumulate=2)],
    ids=["averages, accumulated", "scaled"],
)
def test_what_went_on_from_a_state_learns_the_same(tiny, pictures, optimizer):
    data = pictures(batches=8)
    model = tiny(optimizer())
    learn(model, data, slice(0, 6))
    middle = state_of(model)
    learn(model, data, slice(6, 8))
    end = state_of(model)
    kinds = [name.partition("/")[0] for name in middle]
    assert {kind: kinds.count(kind) for kind in kinds}.keys() == {"model", "optimizer", "metrics"}
    assert kinds.count("model") == 9  # six that learn, two statistics, a seed
    assert any("seed" in variable.path for variable in model.variables)
    other = tiny(optimizer())
    restore(other, middle)
    for name, array in state_of(other).items():
        np.testing.assert_array_equal(array, middle[name], err_msg=name)
    # `train_on_batch` forgets nothing of the metrics: those at the end have all eight batches.
    learn(other, data, slice(6, 8))
    again = state_of(other)
    assert list(again) == list(end)
    for name, array in end.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)
    assert any(not np.array_equal(end[name], middle[name]) for name in end if name.startswith("model"))


def test_a_state_is_what_was_and_not_what_becomes_of_it(tiny):
    model = tiny()
    before = state_of(model)
    kept = {name: array.copy() for name, array in before.items()}
    for variable in model.trainable_variables:
        variable.assign_add(tf.ones_like(variable.value))
    for name, array in kept.items():
        np.testing.assert_array_equal(before[name], array)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("optimizer/0001"), "1 variables differ, .*optimizer/0001 .*saved not there"),
        (lambda state: state.update(more=np.zeros(2)), r"more not there, saved float64 \(2,\)"),
        (
            lambda state: state.update({"model/0000": np.zeros((3, 4), np.float32)}),
            r"model/0000.*saved.*\(3, 4\)",
        ),
        (lambda state: state.update({"model/0001": state["model/0001"].astype(np.float64)}), "saved float64"),
    ],
)
def test_another_state_is_refused_and_nothing_changed(tiny, change, told):
    model = tiny()
    before = state_of(model)
    other = {name: array + 1 for name, array in before.items()}
    change(other)
    with pytest.raises(ValueError, match=f"of another model or optimizer: .*{told}"):
        restore(model, other)
    for name, array in state_of(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_another_optimizer_is_refused(tiny):
    state = state_of(tiny(adamw(0.01)))
    with pytest.raises(ValueError, match="of another model or optimizer"):
        restore(tiny(), state)


def test_metrics_come_back_alone(tiny):
    model = tiny()
    state = state_of(model)
    wanted = {name: array + (3 if name.startswith("metrics") else 1) for name, array in state.items()}
    restore_metrics(model, wanted)
    for name, array in state_of(model).items():
        np.testing.assert_array_equal(array, wanted[name] if name.startswith("metrics") else state[name])
