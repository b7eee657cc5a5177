"""Where a run stands."""

import time

import keras

from kzoo.training.checkpoints import Checkpoint
from kzoo.training.model_state import restore_metrics


class Position(keras.callbacks.Callback):
    """Counts a run's steps and seconds, over all its parts if it was stopped and went on.

    It belongs before all other callbacks. The first epoch of a later part ends where that epoch would have
    ended; `fit` takes `epochs` for its `initial_epoch`, and the data begins with batch `step`.

    Args:
        steps_per_epoch: steps in an epoch.
        saved: what a part before this one left; None at the beginning of a run.

    Attributes:
        step: steps that were taken.
        epochs: epochs that ended.
    """

    def __init__(self, steps_per_epoch: int, saved: Checkpoint | None = None) -> None:
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.step = int(saved.facts["step"]) if saved else 0
        self.epochs = int(saved.facts["epochs"]) if saved else 0
        self._seconds_before = float(saved.facts["seconds"]) if saved else 0.0
        self._saved = saved
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training, validation included."""
        return self._seconds_before + (0.0 if self._began is None else time.monotonic() - self._began)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._began = time.monotonic()
        self._cut_short = False

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._before = self.step
        if self._saved and self.step % self.steps_per_epoch:
            restore_metrics(self.model, self._saved.arrays)
        self._saved = None

    # At the beginning of a step alone: for its end Keras would fetch the losses, and a GPU would wait.
    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.step = self._before + batch
        self._next = self.step + self.model.steps_per_execution
        if self._before % self.steps_per_epoch and self._next % self.steps_per_epoch == 0:
            self._cut_short = self.model.stop_training = True  # after this step, and on_epoch_end goes on

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.step = self._next
        self.epochs = epoch + 1
        if self._cut_short:
            self._cut_short = self.model.stop_training = False
