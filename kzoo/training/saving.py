"""Saves a run as it goes, so that it goes on with the very next step after it was stopped."""

import signal

import keras

from kzoo.training.agreement import of_all_workers
from kzoo.training.checkpoints import Checkpoints
from kzoo.training.divergence import Divergence
from kzoo.training.interrupts import Requests, Stopped
from kzoo.training.model_state import state_of
from kzoo.training.position import Position
from kzoo.workers import is_chief, several_workers

_LOOK = 1.0  # seconds from one look at what other workers want to the next
_SAVE, _STOP = 1, 2


class Saving(keras.callbacks.Callback):
    """Saves checkpoints, and stops when it is asked to. It belongs behind all that adds to an epoch's logs.

    Args:
        checkpoints: where to.
        position: of the run.
        divergence: which refuses what is no use to go on from.
        requests: to stop.
        minutes: of training from one to the next.
        steps: from one to the next, instead; None is by the minutes.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        position: Position,
        divergence: Divergence,
        requests: Requests,
        minutes: float,
        steps: int | None,
    ) -> None:
        super().__init__()
        self._checkpoints = checkpoints
        self._position = position
        self._divergence = divergence
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

    def finish(self) -> None:
        """Saves that a run came to its end, and stops if somebody asked meanwhile."""
        self._save(trained=True)
        if self._requests.signal:
            self._stop()

    def _save(self, trained: bool = False) -> None:
        """Saves now. All workers call it at the same step."""
        arrays = state_of(self.model)
        weights = self.model.trainable_variables
        self._divergence.check({one.path: keras.ops.convert_to_numpy(one) for one in weights})
        self._saved_step, self._saved_seconds = self._position.step, self._position.seconds
        if is_chief(self.model.distribute_strategy):
            facts = {"seconds": self._saved_seconds, "epochs": self._position.epochs, "trained": trained}
            self._checkpoints.save(self._saved_step, arrays, facts)

    def _look(self) -> None:
        """Saves, or saves and stops, if that is due for any of the workers."""
        wanted = self._wanted()
        if wanted >= _SAVE and self._saved_step != self._position.step:
            self._save()
        if wanted >= _STOP:
            self._stop()

    def _stop(self) -> None:
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
