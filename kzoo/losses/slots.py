"""The losses of a box regressor: each slot has the object that comes in its place."""

import keras
import tensorflow as tf

from kzoo import replicas
from kzoo.layers.slots import to_numbers
from kzoo.losses.loss_layer import LossLayer


def in_slots(objects: tf.Tensor, slots: int, fill: float) -> tf.Tensor:
    """The first objects `[B, N, ...]` of `[B, G, ...]`, in their order, filled up where there are fewer."""
    objects = objects[:, :slots]
    free = [[0, 0], [0, slots - tf.shape(objects)[1]]] + [[0, 0]] * (objects.shape.rank - 2)
    return tf.pad(objects, free, constant_values=fill)


def mean_of_pictures(loss: tf.Tensor) -> tf.Tensor:
    """The mean over the pictures of all replicas, of which this one has `[B]`: a scalar that is its part."""
    number = replicas.mean_over_replicas(tf.cast(tf.shape(loss)[0], tf.float32))
    return replicas.weight() * tf.math.divide_no_nan(tf.reduce_sum(loss), number)


@keras.saving.register_keras_serializable("kzoo")
class SlotClassLoss(LossLayer):
    """Cross-entropy of the class in each slot, summed over the slots, the mean over the pictures.

    Args:
        **kwargs: `weight`, `name`.

    Inputs: logits `[B, N, C + 1]`, "no object" last; classes `[B, G]` (optional), negative where there is no
    object. Output: the logits, in float32.
    """

    def call(self, logits, classes=None):
        if classes is not None:
            _, slots, outputs = logits.shape
            no_object = outputs - 1
            told = f"a class of the batch is not below num_classes={no_object}"
            check = tf.debugging.assert_less(classes, no_object, told)
            with tf.control_dependencies([check]):  # TensorFlow's own error would tell less
                labels = in_slots(classes, slots, -1)
            labels = tf.where(labels >= 0, labels, no_object)  # [B, N]
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            self.add_named_loss(mean_of_pictures(tf.reduce_sum(loss, axis=1)), tf.shape(logits)[0])
        return logits

    def compute_output_spec(self, logits, classes=None):
        return keras.KerasTensor(logits.shape, "float32")


@keras.saving.register_keras_serializable("kzoo")
class SlotBoxLoss(LossLayer):
    """Squared errors of (x_c, y_c, h, w) in the slots with an object, summed, the mean over the pictures.

    Args:
        **kwargs: `weight`, `name`.

    Inputs: numbers `[B, N, 4]` in shares of the picture; images `[B, H, W, 3]`; boxes `[B, G, 4]` and classes
    `[B, G]`, both optional. Output: the numbers, in float32.
    """

    def call(self, numbers, images, boxes=None, classes=None):
        if boxes is not None and classes is not None:
            slots = numbers.shape[1]
            true = to_numbers(in_slots(boxes, slots, 0.0), tf.shape(images)[1:3])
            there = in_slots(classes, slots, -1) >= 0
            error = tf.where(there[..., None], numbers - true, 0.0)  # [B, N, 4]
            loss = mean_of_pictures(tf.reduce_sum(tf.square(error), axis=(1, 2)))
            self.add_named_loss(loss, tf.shape(numbers)[0])
        return numbers

    def compute_output_spec(self, numbers, images, boxes=None, classes=None):
        return keras.KerasTensor(numbers.shape, "float32")
