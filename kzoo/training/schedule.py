"""The learning rate over a run, by steps or by the clock."""

import math
import time

import keras


class CosineSchedule(keras.callbacks.Callback):
    """Warms up linearly, then falls along half a cosine to nothing at the end of the run.

    The fall is that of Loshchilov and Hutter 2017, equation 5. The end is a number of steps, or a time: then
    the run stops by the clock, wherever it is.

    Args:
        peak: the learning rate after the warm-up.
        steps: steps of the run. Give this or `minutes`.
        minutes: minutes of the run, from the start of `fit`, validation included.
        warmup: share of the run that warms up.

    Raises:
        ValueError: both or neither of `steps` and `minutes` are given, or one is not positive.
    """

    def __init__(
        self, peak: float, *, steps: int | None = None, minutes: float | None = None, warmup: float = 0.05
    ) -> None:
        super().__init__()
        if (steps is None) == (minutes is None):
            raise ValueError(f"steps={steps}, minutes={minutes}: give one of them.")
        if not (steps or minutes or 0) > 0:
            raise ValueError(f"steps={steps}, minutes={minutes}: must be more than zero.")
        self.peak = peak
        self.steps = steps
        self.minutes = minutes
        self.warmup = warmup

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._start = time.monotonic()
        self._step = 0

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.model.optimizer.learning_rate = self.peak * self.factor(self.progress())

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._step += 1
        if self.minutes is not None and self.progress() >= 1:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)

    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        done = (
            self._step / self.steps if self.steps else (time.monotonic() - self._start) / (60 * self.minutes)
        )
        return min(done, 1.0)

    def factor(self, progress: float) -> float:
        """The share of the peak learning rate at this point of the run."""
        if progress < self.warmup:
            # Never zero, so that the very first step learns.
            return max(progress / self.warmup, 0.01)
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))
