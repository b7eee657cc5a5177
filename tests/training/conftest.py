"""What the tests of training share: a model so small that it traces at once, and data for it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.losses.loss_layer import LossLayer
from kzoo.training import Settings
from kzoo.zoo_model import ZooModel

SIZE = 4  # pictures in a batch
BROKEN = 99  # a class whose gradient is no number, though its loss is


@tf.custom_gradient
def _broken_where(predicted, broken):
    return predicted, lambda upstream: (tf.where(broken, np.nan, upstream), None)


class Distance(LossLayer):
    """The mean squared distance of a number from the class."""

    def call(self, predicted, classes=None):
        if classes is not None:
            value = _broken_where(keras.ops.cast(predicted[:, 0], "float32"), classes == BROKEN)
            truth = keras.ops.cast(keras.ops.where(classes == BROKEN, 0, classes), "float32")
            self.add_named_loss(
                keras.ops.mean(keras.ops.square(value - truth)), keras.ops.shape(predicted)[0]
            )
        return predicted


@pytest.fixture(scope="session")
def tiny():
    """Builds and compiles a model of two dense layers, with dropout and batch normalisation."""

    def build(optimizer=None, dropout=0.25, **options):
        keras.utils.set_random_seed(0)
        images = keras.Input((2, 2, 3), name="images")
        classes = keras.Input((), dtype="int32", name="classes", optional=True)
        x = keras.layers.Flatten()(images)
        x = keras.layers.Dense(4, name="hidden")(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Dropout(dropout, seed=1)(x)
        x = Distance(name="distance")(keras.layers.Dense(1, name="answer")(x), classes)
        model = ZooModel({"images": images, "classes": classes}, {"answers": x})
        model.compile(optimizer or keras.optimizers.SGD(0.01), **options)
        return model

    return build


@pytest.fixture(scope="session")
def pictures():
    """Batches of random pictures; in the pictures or classes of some batches something is broken."""

    def make(batches=6, nan_at=None, broken_at=None):
        rng = np.random.default_rng(0)
        images = rng.random((batches * SIZE, 2, 2, 3), np.float32)
        classes = rng.integers(0, 3, batches * SIZE).astype(np.int32)
        if nan_at is not None:
            images[nan_at * SIZE + 1, 0, 0, 0] = np.nan
        if broken_at is not None:
            classes[broken_at * SIZE] = BROKEN
        return tf.data.Dataset.from_tensor_slices({"images": images, "classes": classes}).batch(SIZE)

    return make


@pytest.fixture
def settings(tmp_path):
    """Settings of a run in a folder of its own, made as a run makes it."""

    def make(name="run", **others):
        (tmp_path / name).mkdir(exist_ok=True)
        return Settings(
            data="shapes",
            output=tmp_path / name,
            export=tmp_path / "served",
            **{"epochs": 2, "batch_size": SIZE, "learning_rate": 0.01} | others,
        )

    return make
