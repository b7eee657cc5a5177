"""The loss of a class for each pixel."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from kzoo.checks import check_choice
from kzoo.layers.pixels import centre
from kzoo.losses.loss_layer import LossLayer
from kzoo.replicas import mean_over_replicas

SEGMENTATION_LOSSES = ("cross_entropy", "dice", "cross_entropy_dice", "focal")


def dice_loss(probabilities: tf.Tensor, targets: tf.Tensor, class_weights: tf.Tensor) -> tf.Tensor:
    """One less the soft Dice coefficient, the mean over the classes that are there (Milletari et al. 2016).

    As in Drozdzal et al. 2016 the denominator has the probabilities themselves, not their squares.

    Args:
        probabilities: `[N, C]`.
        targets: `[N, C]`, one-hot, and all zeros where a pixel does not count; its probabilities are to be
            zero too.
        class_weights: `[C]`, how much each class counts in the mean.

    Returns:
        A scalar, 0 where no class is there.
    """
    sums = [tf.reduce_sum(values, axis=0) for values in (probabilities * targets, probabilities, targets)]
    both, told, true = tf.unstack(mean_over_replicas(tf.stack(sums)))  # [C] each
    dice = tf.math.divide_no_nan(2.0 * both, told + true)
    counted = class_weights * tf.cast(true > 0.0, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(counted * (1.0 - dice)), tf.reduce_sum(counted))


@keras.saving.register_keras_serializable("kzoo")
class SegmentationLoss(LossLayer):
    """Loss of one class a pixel.

    The cross-entropy and the focal loss are means over the pixels, weighted by w_c + w_0 * border
    (Ronneberger et al. 2015, equations 1 and 2), where w_c is the weight of a pixel's class. The Dice loss is
    one of all pixels of the batch.

    Args:
        kind: `"cross_entropy"`, `"dice"`, `"cross_entropy_dice"` (their sum), or `"focal"`: the cross-entropy
            times (1 - p)^gamma (Lin et al. 2017, equation 4, of a softmax).
        class_weights: w_c, one for each class; None weighs all alike.
        border_weight: w_0, how much more the narrow places between two objects count.
        ignored_label: the class of pixels that do not count; -1 never does.
        focal_gamma: how much less easy pixels count.
        **kwargs: `weight`, `name`.

    Inputs: logits `[B, h, w, C]`; classes `[B, H, W]`, of which the middle counts if the logits are fewer;
    borders `[B, H, W]`, 0 to 1. The last two are optional. Output: the logits, in float32.
    """

    def __init__(
        self,
        kind: str = "cross_entropy",
        class_weights: Sequence[float] | None = None,
        border_weight: float = 0.0,
        ignored_label: int = -1,
        focal_gamma: float = 2.0,
        **kwargs,
    ):
        check_choice("loss", kind, SEGMENTATION_LOSSES)
        super().__init__(**kwargs)
        self.kind = kind
        self.class_weights = None if class_weights is None else tuple(class_weights)
        self.border_weight = border_weight
        self.ignored_label = ignored_label
        self.focal_gamma = focal_gamma

    def call(self, logits, classes=None, borders=None):
        if classes is not None:
            num_classes = logits.shape[-1]
            size = tf.shape(logits)[1:3]
            labels = tf.reshape(centre(classes, size), (-1,))  # [N]
            counted = (labels != self.ignored_label) & (labels != -1)
            labels = tf.where(counted, labels, 0)
            told = (
                f"a class of the batch is neither 0 to {num_classes - 1} nor ignored ({self.ignored_label})"
            )
            checks = [
                tf.debugging.assert_less(labels, num_classes, told),
                tf.debugging.assert_non_negative(labels, told),
            ]
            with tf.control_dependencies(checks):  # TensorFlow's own error would tell less
                labels = tf.identity(labels)
            counted = tf.cast(counted, tf.float32)
            flat = tf.reshape(logits, (-1, num_classes))  # [N, C]
            class_weights = tf.constant(self.class_weights or (1.0,) * num_classes, tf.float32)
            loss = 0.0
            if self.kind != "dice":
                weights = counted * tf.gather(class_weights, labels)
                if borders is not None:
                    weights += counted * self.border_weight * tf.reshape(centre(borders, size), (-1,))
                each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, flat)
                if self.kind == "focal":
                    # -log(p), and not quite 0: the slope of (1 - p)^gamma is infinite there for gamma < 1.
                    each = tf.maximum(each, 1e-7)
                    each *= tf.pow(-tf.math.expm1(-each), self.focal_gamma)
                number = mean_over_replicas(tf.reduce_sum(weights))
                loss += tf.math.divide_no_nan(tf.reduce_sum(weights * each), number)
            if "dice" in self.kind:
                targets = counted[:, None] * tf.one_hot(labels, num_classes)
                loss += dice_loss(counted[:, None] * tf.nn.softmax(flat), targets, class_weights)
            self.add_named_loss(loss, tf.shape(logits)[0])
        return logits

    def compute_output_spec(self, logits, classes=None, borders=None):
        return keras.KerasTensor(logits.shape, "float32")

    def get_config(self):
        return super().get_config() | {
            "kind": self.kind,
            "class_weights": self.class_weights,
            "border_weight": self.border_weight,
            "ignored_label": self.ignored_label,
            "focal_gamma": self.focal_gamma,
        }
