"""Stops a run whose loss is no number any more, and tells of the very step."""

import math
import threading

import keras

from kzoo.training.saving import Position


class Diverged(ValueError):
    """A loss that is NaN or infinite: nothing is learned from there on.

    Args:
        told: what to say.
        step: the step, counted from 0: as many were taken before it.
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

    def _raise_if_broken(self) -> None:
        with self._seen:
            if not self._broken:
                return
            # Threads may overtake each other: those of the steps before are waited for.
            self._seen.wait_for(lambda: min(self._awaited, default=math.inf) > min(self._broken), timeout=10)
            step, logs = min(self._broken.items())
        wrong = [f"{name} {value}" for name, value in logs.items() if not math.isfinite(value)]
        raise Diverged(f"step {step + 1:,}: the loss is no number any more ({', '.join(wrong)})", step)
