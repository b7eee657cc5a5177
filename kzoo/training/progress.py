"""Tells how a run goes: what it learns, how fast, and how long it still takes."""

import shutil
import sys
import time
from collections.abc import Mapping

import keras

from kzoo.training.pace import Pace
from kzoo.training.position import Position
from kzoo.training.schedule import Schedule
from kzoo.visualize import NOT_LOSSES

_REFRESH = 0.5  # seconds from one look of the line to the next, on a terminal
_TELL = 60.0  # and elsewhere, from one line to the next within an epoch


class Progress(keras.callbacks.Callback):
    """A line that tells of an epoch as it goes, and one when it has ended.

    On a terminal the line is written over, elsewhere there is one each minute. It belongs behind all that
    adds to an epoch's logs.

    Args:
        position: of the run.
        pace: of its steps.
        schedule: of the run.
        epochs: of the run; None if it goes by the clock.
    """

    async_safe = True  # Keras fetches the losses of a step in a thread, while the next one is computed

    def __init__(self, position: Position, pace: Pace, schedule: Schedule, epochs: int | None) -> None:
        super().__init__()
        self._position = position
        self._pace = pace
        self._schedule = schedule
        self._epochs = epochs
        self._over = sys.stdout.isatty()

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._told = time.monotonic()
        self._begun: tuple[float, float] | None = None
        self._losses: dict[str, float] = {}

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = f"epoch {epoch + 1}" + (f"/{self._epochs}" if self._epochs else "")
        self._losses = {}

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        now = time.monotonic()
        if self._begun is None and batch:  # the first step, in which TensorFlow traces, foretells nothing
            self._begun = now, self._schedule.progress()
        if batch and now - self._told >= (_REFRESH if self._over else _TELL):
            self._told = now
            within = self._position.step % self._position.steps_per_epoch
            steps = f"step {within:,}/{self._position.steps_per_epoch:,}"
            self._write([self._epoch, steps, *self._pace_told(), *figures(self._losses)], over=self._over)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._losses = dict(logs or {})

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._write([self._epoch, *self._pace_told(), *figures(logs or {})], over=False)
        self._told = time.monotonic()

    def _pace_told(self) -> list[str]:
        told, rates = [], self._pace.rates()
        if rates["steps_per_second"] > 0:
            told = [
                f"{rates['pictures_per_second']:.3g} pictures/s, {rates['steps_per_second']:.3g} steps/s",
                f"{rates['waiting']:.0%} waiting for data",
                f"{rates['memory']:.1f} GB",
            ]
        left = self._seconds_left()
        return told if left is None else [*told, f"{_as_time(left)} left"]

    def _seconds_left(self) -> float | None:
        """Seconds to the end of the run, validation included, at the pace so far."""
        progress = self._schedule.progress()
        if self._schedule.minutes is not None:
            return 60 * self._schedule.minutes * (1 - progress)
        if self._begun is None or progress <= self._begun[1]:
            return None
        return (time.monotonic() - self._begun[0]) / (progress - self._begun[1]) * (1 - progress)

    def _write(self, parts: list[str], over: bool) -> None:
        line = " · ".join(parts)
        if over:  # only what is in one row can be written over
            line = line[: shutil.get_terminal_size().columns - 1]
        print(f"\r\033[K{line}" if self._over else line, end="" if over else "\n", flush=True)


def figures(logs: Mapping[str, float]) -> list[str]:
    """The losses and what validation measured, for a line: those of training first."""
    own = {name: value for name, value in logs.items() if name not in NOT_LOSSES}
    losses = [f"{name} {value:.4g}" for name, value in own.items() if not name.startswith("val_")]
    measured = [f"{name} {value:.3f}" for name, value in own.items() if name.startswith("val_")]
    return [text for text in (", ".join(losses), ", ".join(measured)) if text]


def _as_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
