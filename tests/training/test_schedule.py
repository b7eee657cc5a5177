import math
import time

import keras
import numpy as np
import pytest

from kzoo.training import CosineSchedule


class Rates(keras.callbacks.Callback):
    """Notes the learning rate that each step was made with."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


def fit(schedule, batches=10, epochs=1, more=()):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    rates = Rates()
    data = np.ones((batches, 1), np.float32)
    history = model.fit(
        data, data, batch_size=1, epochs=epochs, verbose=0, callbacks=[schedule, rates, *more], shuffle=False
    )
    return rates.rates, history


def test_by_steps_it_rises_linearly_and_falls_along_half_a_cosine():
    rates, history = fit(CosineSchedule(2.0, steps=20, warmup=0.25), batches=10, epochs=2)
    expected = [2.0 * max(step / 20 / 0.25, 0.01) for step in range(5)]
    expected += [1.0 + math.cos(math.pi * (step / 20 - 0.25) / 0.75) for step in range(5, 20)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    np.testing.assert_allclose(history.history["learning_rate"], [rates[9], rates[19]], rtol=1e-5)


def test_past_its_steps_the_rate_stays_at_nothing():
    rates, _ = fit(CosineSchedule(1.0, steps=4, warmup=0.0), batches=6)
    assert rates[3] > 0.1
    np.testing.assert_allclose(rates[4:], 0.0, atol=1e-7)


def test_by_the_clock_it_stops_within_an_epoch_at_a_rate_of_nearly_nothing():
    class Slow(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            time.sleep(0.02)

    start = time.monotonic()
    rates, history = fit(CosineSchedule(1.0, minutes=0.6 / 60), batches=10_000, epochs=10, more=[Slow()])
    assert 0.6 <= time.monotonic() - start < 5
    assert len(history.epoch) == 1 and len(rates) < 60
    assert max(rates) > 0.9 and rates[-1] < 0.1


def test_the_clock_starts_with_fit_and_not_when_the_schedule_is_made():
    schedule = CosineSchedule(1.0, minutes=60)
    time.sleep(0.3)
    schedule.on_train_begin()
    assert schedule.progress() < 0.1 / 3600


@pytest.mark.parametrize("length", [{}, {"steps": 5, "minutes": 1}, {"steps": 0}, {"minutes": -1.0}])
def test_a_length_that_is_none_is_refused(length):
    with pytest.raises(ValueError, match="steps=.*minutes="):
        CosineSchedule(1.0, **length)
