"""What TensorBoard shows of a run, and a trace of some of its steps."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo.tiles import Predict
from kzoo.visualize import draw_answer

_PICTURES = 4
_BEFORE, _TRACED = 10, 10  # steps: the first ones are slow for other reasons


class Board(keras.callbacks.Callback):
    """Writes the figures of each epoch, and pictures with what is found in them, for TensorBoard.

    It belongs behind all that adds to the logs. `tensorboard --logdir runs` shows it.

    Its steps are changes of the weights.

    Args:
        directory: to write to.
        validation: batches; the first pictures of the first one are shown.
        classes: the names of the classes.
        predict: what answers for pictures.
    """

    def __init__(
        self,
        directory: Path,
        validation: tf.data.Dataset,
        classes: tuple[str, ...],
        predict: Predict,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._validation = validation
        self._classes = classes
        self._predict = predict

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._writer = tf.summary.create_file_writer(str(self._directory))
        self._batch: Mapping[str, np.ndarray] | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._batch is None:
            first = next(iter(self._validation.unbatch().batch(_PICTURES)))
            self._batch = {name: values.numpy() for name, values in first.items()}
        answers = self._predict(self._batch["images"])
        with self._writer.as_default(int(self.model.optimizer.iterations.numpy())):
            for name, value in (logs or {}).items():
                tf.summary.scalar(name, value)
            for index, image in enumerate(self._batch["images"]):
                answer = {name: np.asarray(values[index]) for name, values in answers.items()}
                drawn = draw_answer(image, answer, self._classes)
                tf.summary.image(f"picture {index + 1}", np.asarray(drawn)[None, ..., :3])
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._writer.close()


class Trace(keras.callbacks.Callback):
    """Traces ten steps for TensorBoard's profiler: what took how long, on which device.

    They are of one epoch, the ten behind its first ten or, in a short one, its last. An epoch of less than
    eleven steps is traced from its second step on.

    Args:
        directory: to write to.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def on_train_begin(self, logs: dict | None = None) -> None:
        steps = self.params.get("steps") or _BEFORE + _TRACED
        self._first = max(1, min(_BEFORE, steps - _TRACED))
        self._tracing = self._done = False

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._tracing and batch >= self._first + _TRACED:
            self._stop()
        elif batch >= self._first and not self._tracing and not self._done:
            tf.profiler.experimental.start(str(self._directory))
            self._tracing = True

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._stop()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._tracing:
            tf.profiler.experimental.stop()
            self._tracing, self._done = False, True
