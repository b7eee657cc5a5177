"""Stops a run whose loss or weights are no numbers any more, and tells of the very step."""

import math
import threading
from collections.abc import Mapping

import keras
import numpy as np

from kzoo.training.position import Position


class Diverged(ValueError):
    """A loss, or a weight, that is NaN or infinite: nothing is learned from there on.

    Args:
        told: what to say.
        step: the step, counted from 0: as many were taken before it. Of several steps in one execution the
            first.
    """

    def __init__(self, told: str, step: int) -> None:
        super().__init__(told)
        self.step = step


class Divergence(keras.callbacks.Callback):
    """Raises `Diverged` at the step behind the first whose loss is NaN or infinite.

    Keras fetches the losses of a step in a thread of its own, while the next one is computed, as long as all
    callbacks allow it; this one does.

    Args:
        position: of the run.
    """

    async_safe = True

    def __init__(self, position: Position) -> None:
        super().__init__()
        self._position = position
        self._seen = threading.Condition()
        self._awaited: set[int] = set()
        self._broken: dict[int, dict[str, float]] = {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._awaited.clear()
        self._broken.clear()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._before = self._position.step

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._raise_if_broken()
        with self._seen:
            self._awaited.add(self._before + batch)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        step = self._before + batch - (self.model.steps_per_execution - 1)
        with self._seen:
            if logs and not all(map(math.isfinite, logs.values())):
                self._broken[step] = dict(logs)
            self._awaited.discard(step)
            self._seen.notify_all()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._raise_if_broken()

    def check(self, weights: Mapping[str, np.ndarray]) -> None:
        """Raises `Diverged` if a run is not to go on from here: a loss or a weight is broken.

        Args:
            weights: name -> array of those that learn.
        """
        step = self._position.step
        with self._seen:
            self._seen.wait_for(lambda: min(self._awaited, default=math.inf) >= step, timeout=10)
        self._raise_if_broken()
        broken = [name for name, array in weights.items() if not np.isfinite(array).all()]
        if broken:
            among = (
                f"{len(broken)} of {len(weights)} weights, {broken[0]} among them, are no numbers any more"
            )
            step -= self.model.steps_per_execution
            raise Diverged(f"{self._told(step)}: {among}, though its loss was one", step)

    def _told(self, step: int) -> str:
        """What people call the steps of an execution."""
        last = step + self.model.steps_per_execution
        return f"step {last:,}" if last == step + 1 else f"steps {step + 1:,} to {last:,}"

    def _raise_if_broken(self) -> None:
        with self._seen:
            if not self._broken:
                return
            # Threads may overtake each other: those of the steps before are waited for.
            self._seen.wait_for(lambda: min(self._awaited, default=math.inf) > min(self._broken), timeout=10)
            step, logs = min(self._broken.items())
        means = ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
        told = f"the loss is no number any more (means of this epoch: {means})"
        raise Diverged(f"{self._told(step)}: {told}", step)
