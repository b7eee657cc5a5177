"""Saves a run as it goes, so that it goes on with the very next step after it was stopped."""

import signal
import time

import keras

from kzoo.training.agreement import of_all_workers
from kzoo.training.checkpoints import Checkpoint, Checkpoints
from kzoo.training.interrupts import Requests, Stopped
from kzoo.training.model_state import restore_metrics, state_of
from kzoo.training.strategy import is_chief, several_workers

_LOOK = 1.0  # seconds from one look at what other workers want to the next
_SAVE, _STOP = 1, 2


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


class Saving(keras.callbacks.Callback):
    """Saves checkpoints, and stops when it is asked to. It belongs behind all that adds to an epoch's logs.

    Args:
        checkpoints: where to.
        position: of the run.
        requests: to stop.
        minutes: of training from one to the next.
        steps: from one to the next, instead; None is by the minutes.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        position: Position,
        requests: Requests,
        minutes: float,
        steps: int | None,
    ) -> None:
        super().__init__()
        self._checkpoints = checkpoints
        self._position = position
        self._requests = requests
        self._minutes = minutes
        self._steps = steps

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._saved_step, self._saved_seconds = self._position.step, self._position.seconds
        self._next_look = self._looked_step = self._position.step
        self._looked_seconds = self._position.seconds

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if batch and self._position.step >= self._next_look:
            self._look()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._look()

    def save(self, trained: bool = False) -> None:
        """Saves now. All workers call it at the same step.

        Args:
            trained: whether the run came to its end.
        """
        arrays = state_of(self.model)
        self._saved_step, self._saved_seconds = self._position.step, self._position.seconds
        if is_chief(self.model.distribute_strategy):
            facts = {"seconds": self._saved_seconds, "epochs": self._position.epochs, "trained": trained}
            self._checkpoints.save(self._saved_step, arrays, facts)

    def _look(self) -> None:
        """Saves, or saves and stops, if that is due for any of the workers."""
        wanted = self._wanted()
        if wanted >= _SAVE and self._saved_step != self._position.step:
            self.save()
        if wanted >= _STOP:
            by = self._requests.signal or signal.SIGTERM  # another worker was asked
            raise Stopped(
                f"stopped at step {self._position.step:,}, which is saved in {self._checkpoints.directory}; "
                "the same command goes on from there",
                by,
            )

    def _wanted(self) -> int:
        step, seconds = self._position.step, self._position.seconds
        if self._steps is not None:
            due = step - self._saved_step >= self._steps
        else:
            due = seconds - self._saved_seconds >= 60 * self._minutes
        wanted = _STOP if self._requests.signal else _SAVE if due else 0
        strategy = self.model.distribute_strategy
        if not several_workers(strategy):
            return wanted
        # The workers agree, and on when to agree again: each look takes a round through the network.
        passed = max(seconds - self._looked_seconds, 1e-3) / max(step - self._looked_step, 1)
        wanted, passed = of_all_workers(strategy, [wanted, passed]).max(axis=0)
        self._next_look = step + max(1, min(int(_LOOK / passed), 100))
        self._looked_step, self._looked_seconds = step, seconds
        return int(wanted)
