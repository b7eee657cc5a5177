import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kzoo.training import CosineSchedule, StepSchedule
from kzoo.training import schedule as schedule_module


class Rates(keras.callbacks.Callback):
    """Notes the learning rate that each step was made with."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


def fit(schedule, batches=10, epochs=1, steps_per_execution=1):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse", steps_per_execution=steps_per_execution)
    rates = Rates()
    data = np.ones((batches, 1), np.float32)
    callbacks = [schedule, rates]
    history = model.fit(data, data, batch_size=1, epochs=epochs, verbose=0, callbacks=callbacks)
    return rates.rates, history


def test_by_steps_it_rises_linearly_and_falls_along_half_a_cosine():
    rates, history = fit(CosineSchedule(2.0, steps=20, warmup=5), batches=10, epochs=2)
    expected = [min((step + 1) / 5, 1) * (1.0 + math.cos(math.pi * step / 20)) for step in range(20)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    np.testing.assert_allclose(history.history["learning_rate"], [rates[9], rates[19]], rtol=1e-5)


def test_past_its_steps_the_rate_stays_at_nothing():
    rates, _ = fit(CosineSchedule(1.0, steps=4, warmup=0), batches=6)
    assert rates[3] > 0.1
    np.testing.assert_allclose(rates[4:], 0.0, atol=1e-7)


def test_by_the_clock_it_falls_with_the_time_and_stops_within_an_epoch(monkeypatch):
    seconds = iter(range(1000))  # each look at the clock is a second after the one before
    monkeypatch.setattr(schedule_module.time, "monotonic", lambda: next(seconds))
    rates, history = fit(CosineSchedule(1.0, minutes=0.5, warmup=0), batches=100, epochs=10)
    expected = [0.5 * (1 + math.cos(math.pi * second / 30)) for second in range(1, 31)]
    np.testing.assert_allclose(rates, expected, atol=1e-6)
    assert len(history.epoch) == 1


def test_the_clock_starts_with_fit_and_not_when_the_schedule_is_made(monkeypatch):
    now = iter([100.0, 106.0])
    schedule = CosineSchedule(1.0, minutes=1)
    monkeypatch.setattr(schedule_module.time, "monotonic", lambda: next(now))
    schedule.on_train_begin()
    assert schedule.progress() == pytest.approx(0.1)


@pytest.mark.parametrize("length", [{}, {"steps": 5, "minutes": 1}, {"steps": 0}, {"minutes": -1.0}])
def test_a_length_that_is_none_is_refused(length):
    with pytest.raises(ValueError, match="steps=.*minutes="):
        CosineSchedule(1.0, **length)


@pytest.mark.parametrize(
    ("kind", "curve"),
    [
        (CosineSchedule, lambda share: 0.5 * (1 + math.cos(math.pi * share))),
        (StepSchedule, lambda share: 1.0 if share < 2 / 3 else 0.1 if share < 8 / 9 else 0.01),
    ],
)
def test_a_run_that_goes_on_has_the_rates_that_one_of_all_steps_has(kind, curve):
    whole, _ = fit(kind(3.0, steps=18, warmup=4), batches=18)
    later = kind(3.0, steps=18, warmup=4)
    later.begin_at(7, 100.0)
    rates, _ = fit(later, batches=11)
    np.testing.assert_allclose(rates, whole[7:], rtol=1e-6)
    expected = [3.0 * min((step + 1) / 4, 1) * curve(step / 18) for step in range(18)]
    np.testing.assert_allclose(whole, expected, rtol=1e-5)


def test_by_steps_it_does_not_count_in_floating_point():
    schedule = StepSchedule(1.0, steps=9)
    falls = []
    for step in range(10):
        schedule._step = step
        falls.append(schedule.curve(schedule.progress()))
    np.testing.assert_allclose(falls, [1.0] * 6 + [0.1] * 2 + [0.01] * 2)


def test_a_run_that_goes_on_has_the_time_that_is_left(monkeypatch):
    now = iter([100.0, 115.0])
    monkeypatch.setattr(schedule_module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    schedule = CosineSchedule(1.0, minutes=1)
    schedule.begin_at(40, 30.0)
    schedule.on_train_begin()
    assert schedule.progress() == pytest.approx(0.75)


def test_several_steps_in_one_execution_have_the_rate_of_the_first():
    rates, _ = fit(CosineSchedule(2.0, steps=8, warmup=4), batches=8, steps_per_execution=2)
    expected = [min((step + 1) / 4, 1) * (1.0 + math.cos(math.pi * step / 8)) for step in (0, 2, 4, 6)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_the_end_of_the_time_is_heard_after_validation_too(monkeypatch):
    now = iter([0.0, 1.0, 2.0, 61.0])
    monkeypatch.setattr(schedule_module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    rates, history = fit(CosineSchedule(1.0, minutes=1, warmup=0), batches=2, epochs=3)
    assert len(rates) == 2 and len(history.epoch) == 1
