import os
import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kzoo.training import fitting, position, schedule
from kzoo.training.checkpoints import Checkpoints
from kzoo.training.divergence import Divergence
from kzoo.training.interrupts import Requests, Stopped
from kzoo.training.position import Position
from kzoo.training.saving import Saving

STEPS = 6  # of an epoch


@pytest.fixture
def told(tiny, tmp_path):
    """Callbacks that are told of steps without any being taken, and the steps of the checkpoints."""
    model = tiny()

    def tell(steps, epochs=1, minutes=1e9, every=None, requests=None, took=lambda: None):
        checkpoints = Checkpoints(tmp_path, keep=100)
        where = Position(steps)
        divergence = Divergence(where)
        saving = Saving(checkpoints, where, divergence, requests or Requests(), minutes, every)
        callbacks = keras.callbacks.CallbackList([where, divergence, saving], model=model)
        callbacks.on_train_begin()
        for epoch in range(epochs):
            callbacks.on_epoch_begin(epoch)
            for batch in range(steps):
                callbacks.on_train_batch_begin(batch)
                callbacks.on_train_batch_end(batch, {"loss": 1.0})
                took()
            callbacks.on_epoch_end(epoch)
        return saving

    tell.saved = lambda: sorted(int(path.stem[5:]) for path in tmp_path.glob("step-*.npz"))
    tell.model = model
    return tell


def test_every_so_many_steps_over_the_ends_of_epochs(told):
    told(STEPS, epochs=3, every=4)
    assert told.saved() == [4, 8, 12, 16]


def test_every_so_many_minutes_of_the_clock(told, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(position, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def ten_seconds():
        clock.now += 10.0

    told(20, minutes=0.5, took=ten_seconds)
    assert told.saved() == [3, 6, 9, 12, 15, 18]


def test_the_end_is_marked(told, tmp_path):
    saving = told(STEPS, epochs=2)
    assert told.saved() == []
    saving.finish()
    facts = Checkpoints(tmp_path).latest().facts
    assert (facts["step"], facts["epochs"], facts["trained"]) == (12, 2, True)


def test_who_asks_at_the_very_end_is_heard(told, tmp_path):
    requests = Requests()
    saving = told(STEPS, requests=requests)
    requests.signal = signal.SIGTERM
    with pytest.raises(Stopped, match="stopped at step 6"):
        saving.finish()
    assert Checkpoints(tmp_path).latest().facts["trained"]


class Asking(keras.callbacks.Callback):
    """Sends a signal at some event."""

    def __init__(self, event, at=1, number=signal.SIGTERM):
        super().__init__()
        self.calls = 0
        setattr(self, f"on_{event}", self._count)
        self.at, self.number = at, number

    def _count(self, *_, **__):
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def fit(tiny, pictures):
    """Trains a model, traced once for all tests, from the same beginning."""
    model = tiny(keras.optimizers.SGD(0.01, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    beginning = [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]
    data = pictures(STEPS)
    make, function = model.make_train_function, []

    def traced_once(force=False):
        if not function:
            make(force)
            function.append(model.train_function)
        model.train_function = function[0]

    model.make_train_function = traced_once

    def train(settings, *watching, anew=True):
        if anew:
            for variable, value in zip(
                (*model.variables, *model.optimizer.variables), beginning, strict=True
            ):
                variable.assign(value)
        saved = Checkpoints(settings.output / "checkpoints").latest()
        fitting.train(model, data, data.take(1), (), settings, saved, watching, STEPS)
        return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]

    return train


@pytest.mark.parametrize(
    ("event", "at", "step"),
    [
        ("train_batch_begin", 4, 3),
        ("train_batch_end", STEPS, STEPS),
        ("test_begin", 1, STEPS),
        ("epoch_end", 2, 12),
    ],
    ids=["in the middle", "in the last step of an epoch", "while it is validated", "at the very end"],
)
def test_a_signal_is_heard_and_all_goes_on_from_there(fit, settings, event, at, step):
    whole = fit(settings("whole"))
    with pytest.raises(
        Stopped, match=f"stopped at step {step}, which is saved in .*checkpoints; the same"
    ) as raised:
        fit(settings("stopped"), Asking(event, at, signal.SIGINT))
    assert raised.value.signal == signal.SIGINT
    facts = Checkpoints(settings("stopped").output / "checkpoints").latest().facts
    assert (facts["step"], facts["epochs"], facts["trained"]) == (step, step // STEPS, False)
    for expected, got in zip(whole, fit(settings("stopped")), strict=True):
        np.testing.assert_array_equal(got, expected)
    facts = Checkpoints(settings("stopped").output / "checkpoints").latest().facts
    assert facts["trained"] and facts["step"] == 2 * STEPS
    # What is trained is not trained on: the same again leaves the weights as they are.
    for expected, got in zip(whole, fit(settings("stopped")), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_second_signal_stops_at_once(fit, settings):
    asking = Asking("train_batch_begin", 2), Asking("train_batch_begin", 2, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as raised:
        fit(settings(), *asking)
    assert not isinstance(raised.value, Stopped)
    assert not (settings().output / "checkpoints").exists()


def test_the_last_few_and_then_the_very_last_are_kept(fit, settings):
    saved = []
    folder = settings().output / "checkpoints"
    noting = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: saved.append(sorted(path.name for path in folder.glob("*.npz")))
    )
    fit(settings(checkpoint_steps=1), noting)
    assert [len(names) for names in saved] == [3, 3]
    assert saved[1][-1] == "step-00000011.npz"  # before that of the end
    assert [path.name for path in folder.iterdir()] == ["step-00000012.npz"]


def test_a_run_by_the_clock_that_went_on_stops_by_it(fit, settings, monkeypatch):
    """Also where its time is over in the step that ends an epoch of which it had the end alone."""
    clock = SimpleNamespace(now=0.0)
    for module in (position, schedule):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    options = settings(minutes=1.0)
    with pytest.raises(Stopped, match="stopped at step 3"):
        fit(options, Asking("train_batch_begin", 4))

    def pass_time(batch, logs):
        if batch == 2:  # the third of the three that are left
            clock.now = 100.0

    epochs = []
    noting = keras.callbacks.LambdaCallback(
        on_train_batch_begin=pass_time, on_epoch_end=lambda epoch, logs: epochs.append(epoch)
    )
    fit(options, noting)
    assert epochs == [0]
