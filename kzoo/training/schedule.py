"""The learning rate over a run, by steps or by the clock."""

import math
import time

import keras


class Schedule(keras.callbacks.Callback):
    """Sets the learning rate at each step, after a linear warm-up by a curve from 1 down; this is the base.

    The end is a number of steps, or a time: then the run stops by the clock, wherever it is. The warm-up is a
    number of steps in either case, for the very first, in which TensorFlow traces the model, takes as long as
    dozens.

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
        self.begin_at(0, 0.0)

    def begin_at(self, step: int, seconds: float) -> None:
        """Goes on with a run of which some steps, that took some seconds, are done."""
        self._step_before, self._seconds_before = step, seconds

    def curve(self, progress: float) -> float:
        """The learning rate, of the highest, when so much of the run is done, 0 to 1."""
        raise NotImplementedError

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._start = time.monotonic()
        self._step = self._step_before

    # At the beginning of a step alone: at its end Keras would fetch the losses for it, and a GPU would wait.
    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        progress = self.progress()
        if self.minutes is not None and progress >= 1:
            self.model.stop_training = True  # after this step
        rise = min((self._step + 1) / self.warmup, 1.0) if self.warmup else 1.0
        self._rate = self.peak * rise * self.curve(progress)
        self.model.optimizer.learning_rate = self._rate
        self._step += self.model.steps_per_execution

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self._rate
        self.stop_if_over()

    def stop_if_over(self) -> None:
        """Stops a run by the clock whose time is over, validation having taken the rest of it."""
        if self.minutes is not None and self.progress() >= 1:
            self.model.stop_training = True

    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        if self.steps is not None:
            return min(self._step / self.steps, 1.0)
        return min((time.monotonic() - self._start + self._seconds_before) / (60 * self.minutes), 1.0)


class CosineSchedule(Schedule):
    """Falls along half a cosine to nothing at the end of the run (Loshchilov and Hutter 2017, equation 5).

    Arguments are those of `Schedule`.
    """

    def curve(self, progress: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * progress))


class StepSchedule(Schedule):
    """Falls to a tenth at two thirds of the run and again at eight ninths.

    As where Faster R-CNN is trained for 90,000 steps (He et al. 2017, section 3.1; Detectron's "1x").
    Arguments are those of `Schedule`.
    """

    def curve(self, progress: float) -> float:
        return 0.1 ** sum(progress >= share for share in (2 / 3, 8 / 9))
