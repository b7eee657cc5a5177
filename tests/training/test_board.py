from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from kzoo.training import board as board_module
from kzoo.training.board import Board, Trace


def written(directory):
    """Tag -> the steps that TensorBoard has it for."""
    found = {}
    for path in directory.glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    return found


def test_figures_and_pictures_are_written(tmp_path):
    batch = {"images": np.zeros([3, 32, 32, 3], np.uint8), "classes": np.array([0, 1, 0])}
    validation = tf.data.Dataset.from_tensor_slices(batch).batch(2)
    steps = tf.Variable(7)

    def predict(images):
        return {"classes": np.zeros(len(images), int), "probabilities": np.ones([len(images), 2]) / 2}

    board = Board(tmp_path, validation, ("cat", "dog"), predict)
    board.set_model(SimpleNamespace(optimizer=SimpleNamespace(iterations=steps)))
    board.on_train_begin()
    board.on_epoch_end(0, {"loss": 1.0})
    steps.assign(14)
    board.on_epoch_end(1, {"loss": 0.5})
    board.on_train_end()
    assert written(tmp_path) == {
        "loss": [7, 14],
        "picture 1": [7, 14],
        "picture 2": [7, 14],
        "picture 3": [7, 14],
    }


@pytest.mark.parametrize(
    ("steps", "first", "last"), [(50, 10, 20), (20, 10, 20), (16, 6, 16), (11, 1, 11), (8, 1, 8), (2, 1, 2)]
)
def test_ten_steps_of_one_epoch_are_traced(tmp_path, monkeypatch, steps, first, last):
    calls, now = [], []
    profiler = SimpleNamespace(
        start=lambda directory: calls.append(("start", now[-1], directory)),
        stop=lambda: calls.append(("stop", now[-1])),
    )
    monkeypatch.setattr(board_module.tf, "profiler", SimpleNamespace(experimental=profiler), raising=False)
    trace = Trace(tmp_path)
    trace.set_params({"steps": steps})
    trace.on_train_begin()
    for _ in range(3):
        for step in range(steps):
            now.append(step)
            trace.on_train_batch_begin(step)
        now.append(steps)
        trace.on_test_begin()
    trace.on_train_end()
    assert calls == [("start", first, str(tmp_path)), ("stop", last)]
