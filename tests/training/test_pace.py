import math
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from kzoo.training import pace as pace_module
from kzoo.training.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


def pace_of(steps_per_execution=1):
    pace = Pace(SimpleNamespace(), batch_size=8)
    pace.set_model(
        SimpleNamespace(
            steps_per_execution=steps_per_execution, distribute_strategy=tf.distribute.get_strategy()
        )
    )
    pace.on_train_begin()
    pace.on_epoch_begin(0)
    return pace


def step(pace, clock, batch, wait, work, batches=1):
    pace.on_train_batch_begin(batch)
    clock.now += wait
    for _ in range(batches):
        pace._note()
    clock.now += work


def test_the_first_step_does_not_count_and_validation_neither(clock):
    pace = pace_of()
    step(pace, clock, 0, wait=5.0, work=50.0)
    assert all(math.isnan(pace.rates()[name]) for name in ("steps_per_second", "waiting"))
    for batch in (1, 2, 3, 4):
        step(pace, clock, batch, wait=0.1, work=0.4)
    pace.on_test_begin()
    clock.now += 1000
    logs = {"loss": 1.0}
    pace.on_epoch_end(0, logs)
    assert logs.pop("memory") > 0.01
    assert logs == {"loss": 1.0, "steps_per_second": 2.0, "pictures_per_second": 16.0, "waiting": 0.2}
    pace.on_epoch_begin(1)  # its first step counts
    step(pace, clock, 0, wait=0.0, work=1.0)
    pace.on_epoch_end(1, logs)
    assert (logs["steps_per_second"], logs["waiting"]) == (1.0, 0.0)


def test_what_is_read_ahead_is_not_waited_for(clock):
    pace = pace_of()
    step(pace, clock, 0, wait=0.0, work=1.0, batches=3)  # and two of the steps to come
    for batch in (1, 2):
        step(pace, clock, batch, wait=0.5, work=0.5)
    pace.on_test_begin()
    assert pace.rates()["waiting"] == 0.0


def test_steps_that_are_executed_at_once(clock):
    pace = pace_of(steps_per_execution=4)
    for batch in (0, 4, 8):
        step(pace, clock, batch, wait=0.25, work=0.75, batches=4)
    pace.on_test_begin()
    assert pace.rates()["steps_per_second"] == pytest.approx(4.0)
    assert pace.rates()["waiting"] == pytest.approx(0.25)


def test_measured_batches_are_the_same():
    pace = pace_of()
    batches = tf.data.Dataset.from_tensor_slices({"images": np.arange(6)}).batch(2)
    batches.of_replicas = lambda first, number, count: batches.shard(count, first)
    measured = pace.measured(batches)
    assert [batch["images"].tolist() for batch in measured.as_numpy_iterator()] == [[0, 1], [2, 3], [4, 5]]
    assert len(pace._left) == 3
    part = measured.of_replicas(1, 1, 2)
    assert [batch["images"].tolist() for batch in part.as_numpy_iterator()] == [[2, 3]]
    assert len(pace._left) == 4
