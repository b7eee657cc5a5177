"""How fast steps are, and how long they wait for their data."""

import math
import time
from collections import deque

import keras
import numpy as np
import psutil
import tensorflow as tf

from kzoo.training.position import Position
from kzoo.workers import addresses


class Pace(keras.callbacks.Callback):
    """Measures the steps of each epoch, without its validation, and adds to its logs what was measured.

    They have `steps_per_second`, `pictures_per_second`, `waiting`, the share of the time that steps waited
    for data, and `memory`, the most GB that a GPU has held or, without one, that the process holds. The very
    first step, in which TensorFlow traces the model, does not count. It belongs behind `Position`, and before
    what looks at the logs.

    A step is taken to wait from its beginning until its batch leaves the pipeline. Of data that is read
    ahead, to a GPU say, a batch left it before: then nothing waits.

    Args:
        position: of the run.
        batch_size: pictures in a step, of all workers together.
    """

    def __init__(self, position: Position, batch_size: int) -> None:
        super().__init__()
        self._position = position
        self._batch_size = batch_size
        self._left: deque[float] = deque()  # when batches left the pipeline

    def measured(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """The same batches, of which it is noted when they leave the pipeline."""

        def noted(batch):
            with tf.control_dependencies([tf.numpy_function(self._note, [], tf.int64)]):
                return {name: tf.identity(part) for name, part in batch.items()}

        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False  # behind what notes
        dataset = batches.map(noted).with_options(options)
        if hasattr(batches, "of_replicas"):  # each of which is given batches of its own
            dataset.of_replicas = lambda *which: self.measured(batches.of_replicas(*which))
        return dataset

    def rates(self) -> dict[str, float]:
        """What was measured of this epoch so far; NaN where it had but the very first step."""
        seconds, steps = self._seconds or math.nan, self._steps
        return {
            "steps_per_second": steps / seconds,
            "pictures_per_second": steps * self._batch_size / seconds,
            "waiting": self._waited / seconds,
            "memory": _memory(),
        }

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._left.clear()
        self._first = True

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._seconds = self._waited = 0.0
        self._steps = 0
        self._begun: float | None = None

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._count()
        self._begun = time.perf_counter()

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._count()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._count()
        if logs is not None:
            logs |= {name: round(rate, 4) for name, rate in self.rates().items()}

    def _note(self) -> np.int64:
        self._left.append(time.perf_counter())
        return np.int64(0)

    def _count(self) -> None:
        """Counts the step, or those taken at once, that ended just now."""
        if self._begun is None:
            return
        several, strategy = self.model.steps_per_execution, self.model.distribute_strategy
        own = strategy.num_replicas_in_sync // max(len(addresses(strategy)), 1)  # each has a batch of its own
        left = [self._left.popleft() for _ in range(several * own) if self._left]
        if not self._first:
            self._steps += several
            self._seconds += time.perf_counter() - self._begun
            self._waited += max(left[0] - self._begun, 0.0) if left else 0.0
        self._first, self._begun = False, None


def _memory() -> float:
    gpus = [gpu.name.removeprefix("/device:") for gpu in tf.config.list_logical_devices("GPU")]
    peaks = [tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in gpus]
    return max(peaks, default=psutil.Process().memory_info().rss) / 2**30
