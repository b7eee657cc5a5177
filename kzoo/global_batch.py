"""A model of which each replica has its part of a batch, or none of it."""

import keras
import tensorflow as tf

from kzoo import replicas
from kzoo.losses.loss_layer import MeanLoss

NOTHING = {"classes": -1}  # what stands for no target, where it is not 0


class GlobalBatch(keras.Model):
    """A functional model whose losses and answers are those of the whole batch, however it is parted.

    A replica may come away empty: a batch of 9 pictures is not enough for 16. Not all of TensorFlow's layers
    can do nothing (2.21: on a processor, a convolution of no pictures answers in the shape of its input, and
    the gradient of a depthwise one is whatever lies in memory), so there a black picture stands in, which
    counts neither in statistics nor in losses, and has no answer.
    """

    def __call__(self, inputs, *args, **kwargs):
        if replicas.together() is None:
            return super().__call__(inputs, *args, **kwargs)
        pictures = tf.shape(inputs["images"])[0]
        missing = tf.maximum(1 - pictures, 0)

        def filled(name, values):
            paddings = [[0, missing]] + [[0, 0]] * (values.shape.rank - 1)
            return tf.pad(values, paddings, constant_values=tf.cast(NOTHING.get(name, 0), values.dtype))

        inputs = {name: None if part is None else filled(name, part) for name, part in inputs.items()}
        with replicas.weighing(tf.cast(1 - missing, tf.float32)):
            answers = super().__call__(inputs, *args, **kwargs)
        return tf.nest.map_structure(lambda answer: answer[:pictures], answers)

    @property
    def _loss_tracker(self) -> MeanLoss | None:
        """Keras's metric of the total loss, in the place of the one that `compile` sets.

        That one counts a replica's loss by its own pictures.
        """
        return self.__dict__.get("_total_loss")

    @_loss_tracker.setter
    def _loss_tracker(self, tracker: keras.metrics.Mean | None) -> None:
        self.__dict__["_total_loss"] = tracker and MeanLoss(name=tracker.name)
