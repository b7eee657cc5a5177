"""Keeps the model of the best epoch."""

import csv
import math
from pathlib import Path

import keras

from kzoo.training.checkpoints import whole_or_not


class Best(keras.callbacks.Callback):
    """Saves the model after each epoch that is better than all before it. It belongs behind `Evaluation`.

    Args:
        path: a `.keras` file, written whole or not at all; without the optimizer.
        figure: by its name in the logs; more is better.
        log: lines of epochs, `CSVLogger`'s: those in it when training begins count as well.
    """

    def __init__(self, path: Path, figure: str, log: Path) -> None:
        super().__init__()
        self._path = path
        self._figure = figure
        self._log = log

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._best = -math.inf
        if self._log.exists():
            with self._log.open(encoding="utf-8", newline="") as file:
                for line in csv.DictReader(file):
                    self._best = _larger(self._best, float(line.get(self._figure) or "nan"))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        reached = (logs or {}).get(self._figure, math.nan)
        if reached > self._best:
            self._best = reached
            with whole_or_not(self._path) as partial:
                self.model.save(partial, include_optimizer=False)


def _larger(one: float, other: float) -> float:
    return other if other > one else one  # and NaN is not
