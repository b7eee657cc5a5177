"""The loss of a classifier."""

import keras
import tensorflow as tf

from kzoo.losses.loss_layer import LossLayer
from kzoo.replicas import mean_over_replicas


@keras.saving.register_keras_serializable("kzoo")
class ClassificationLoss(LossLayer):
    """Cross-entropy of one class a picture; beside it, the accuracy is shown.

    Args:
        label_smoothing: the share of the truth that is spread over all classes alike (Szegedy et al. 2016,
            section 7), 0 to 1.
        **kwargs: `weight`, `name`.

    Inputs: logits `[B, C]`; classes `[B]`, where -1 is unknown and does not count; and, where pictures are
    mixed, targets `[B, C]`, the share of each class. The last two are optional. Output: the logits, in
    float32.
    """

    def __init__(self, label_smoothing: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.label_smoothing = label_smoothing
        self.accuracy = keras.metrics.Mean(name="accuracy")

    def call(self, logits, classes=None, targets=None):
        if classes is not None:
            num_classes = logits.shape[-1]
            tf.debugging.assert_less(
                classes, num_classes, f"a class of the batch is not below num_classes={num_classes}"
            )
            known = tf.cast(classes >= 0, tf.float32)
            if targets is None:
                targets = tf.one_hot(classes, num_classes)
            targets = targets * (1.0 - self.label_smoothing) + self.label_smoothing / num_classes
            loss = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            number = mean_over_replicas(tf.reduce_sum(known))
            loss = tf.math.divide_no_nan(tf.reduce_sum(known * loss), number)
            self.add_named_loss(loss, tf.shape(logits)[0])
            right = tf.argmax(logits, axis=-1, output_type=tf.int32) == classes
            self.accuracy.update_state(tf.cast(right, tf.float32), sample_weight=known)
        return logits

    def compute_output_spec(self, logits, classes=None, targets=None):
        return keras.KerasTensor(logits.shape, "float32")

    def get_config(self):
        return super().get_config() | {"label_smoothing": self.label_smoothing}
