"""The learning rate over a run, by steps or by the clock."""

import math
import time

import keras


class CosineSchedule(keras.callbacks.Callback):
    """Falls along half a cosine to nothing at the end of the run, after a linear warm-up.

    The fall is that of Loshchilov and Hutter 2017, equation 5. The end is a number of steps, or a time: then
    the run stops by the clock, wherever it is. The warm-up is a number of steps in either case, for the very
    first, in which TensorFlow traces the model, takes as long as dozens.

    Args:
        peak: the highest learning rate.
        steps: steps of the run. Give this or `minutes`.
        minutes: minutes of the run, from the start of `fit`, validation included.
        warmup: steps over which the learning rate rises.

    Raises:
        ValueError: both or neither of `steps` and `minutes` are given, or one is not positive.
    """

    def __init__(
        self, peak: float, *, steps: int | None = None, minutes: float | None = None, warmup: int = 100
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

    # At the beginning of a step alone: at its end Keras would fetch the losses for it, and a GPU would wait.
    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        progress = self.progress()
        if self.minutes is not None and progress >= 1:
            self.model.stop_training = True  # after this step, which changes nothing
        rise = min((self._step + 1) / self.warmup, 1.0) if self.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * progress))
        self.model.optimizer.learning_rate = self.peak * rise * fall
        self._step += 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)

    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        if self.steps is not None:
            return min(self._step / self.steps, 1.0)
        return min((time.monotonic() - self._start) / (60 * self.minutes), 1.0)
