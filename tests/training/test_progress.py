import math
from types import SimpleNamespace

import pytest

from kzoo.training import progress as progress_module
from kzoo.training.progress import Progress

RATES = {"steps_per_second": 2.5, "pictures_per_second": 20.0, "waiting": 0.125, "memory": 1.25}


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def told(clock, schedule, rates=RATES, epochs=3):
    position = SimpleNamespace(step=0, steps_per_epoch=10)
    line = Progress(position, SimpleNamespace(rates=lambda: rates), schedule, epochs)
    line.on_train_begin()
    line.on_epoch_begin(0)
    return line, position


def test_an_epoch_is_told_in_a_line(clock, capsys):
    schedule = SimpleNamespace(minutes=None, progress=lambda: position.step / 30)
    line, position = told(clock, schedule)
    line.on_train_batch_begin(0)
    clock.now, position.step = 100.0, 1  # the first step foretells nothing
    line.on_train_batch_begin(1)
    clock.now, position.step = 136.0, 10
    logs = {"loss": 1.5, "box": 0.5, "val_AP": 0.25, "learning_rate": 0.1} | RATES
    line.on_epoch_end(0, logs)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "epoch 1/3 · 20 pictures/s, 2.5 steps/s · 12% waiting for data · 1.2 GB · 1:20 left"
        " · loss 1.5, box 0.5 · val_AP 0.250"
    )


def test_within_an_epoch_there_is_a_line_each_minute(clock, capsys):
    line, position = told(clock, SimpleNamespace(minutes=None, progress=lambda: position.step / 30))
    for second in range(1, 150):
        clock.now, position.step = float(second), second
        line.on_train_batch_begin(second)
        line.on_train_batch_end(second, {"loss": 2.0})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/3 · step 0/10 · 20 pictures/s") and lines[0].endswith("loss 2")


def test_a_run_by_the_clock_ends_when_it_says(clock, capsys):
    line, _ = told(clock, SimpleNamespace(minutes=120, progress=lambda: 0.25), epochs=None)
    line.on_epoch_end(0, {"loss": 1.0})
    out = capsys.readouterr().out
    assert out.startswith("epoch 1 · ") and "1:30:00 left" in out


def test_what_was_not_measured_is_not_told(clock, capsys):
    rates = dict.fromkeys(RATES, math.nan)
    line, _ = told(clock, SimpleNamespace(minutes=None, progress=lambda: 0.0), rates)
    line.on_epoch_end(0, {"loss": 1.0} | rates)
    assert capsys.readouterr().out == "epoch 1/3 · loss 1\n"
