"""The two losses of a one-stage detector: what each anchor shows, and where exactly."""

import keras
import tensorflow as tf

from kzoo.checks import check_choice
from kzoo.layers import boxes as box
from kzoo.layers.matching import IGNORED
from kzoo.losses.functions import focal_loss, giou_loss, smooth_l1
from kzoo.losses.loss_layer import LossLayer

BOX_LOSSES = ("smooth_l1", "l1", "giou")


def number_of_positives(matches: tf.Tensor) -> tf.Tensor:
    """How many anchors of the batch answer for an object, as float32 and never below one."""
    return tf.maximum(tf.reduce_sum(tf.cast(matches >= 0, tf.float32)), 1.0)


@keras.saving.register_keras_serializable("kzoo")
class FocalLoss(LossLayer):
    """Focal loss of every anchor that is not ignored, over the number of positives (Lin et al. 2017, 4.1).

    A picture without objects is all background and teaches that.

    Args:
        alpha: weight of the positives, between 0 and 1.
        gamma: focusing; 0 is the alpha-balanced cross-entropy.
        **kwargs: `weight`, `name`.

    Inputs: logits `[B, A, C]`, matches `[B, A]`, classes `[B, G]` (optional). Output: the logits, in float32.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha
        self.gamma = gamma

    def call(self, logits, matches, classes=None):
        if classes is not None:
            tf.debugging.assert_less(
                classes, logits.shape[-1], f"a class of the batch is not below num_classes={logits.shape[-1]}"
            )
            no_object = tf.shape(classes)[1]
            classes = tf.pad(classes, [[0, 0], [0, 1]], constant_values=-1)
            matched = tf.gather(classes, tf.where(matches >= 0, matches, no_object), batch_dims=1)  # [B, A]
            targets = tf.one_hot(matched, logits.shape[-1])  # [B, A, C], all zeros where there is no object
            loss = tf.reduce_sum(focal_loss(logits, targets, self.alpha, self.gamma), axis=-1)
            loss = tf.reduce_sum(tf.where(matches == IGNORED, 0.0, loss)) / number_of_positives(matches)
            self.add_named_loss(loss, tf.shape(logits)[0])
        return logits

    def compute_output_spec(self, logits, matches, classes=None):
        return keras.KerasTensor(logits.shape, "float32")

    def get_config(self):
        return super().get_config() | {"alpha": self.alpha, "gamma": self.gamma}


@keras.saving.register_keras_serializable("kzoo")
class BoxLoss(LossLayer):
    """Loss of the boxes of the positive anchors, over their number.

    Args:
        kind: `"smooth_l1"` or `"l1"` on the four deltas (summed), or `"giou"` on the decoded boxes.
        **kwargs: `weight`, `name`.

    Inputs: deltas `[B, A, 4]`, anchors (a dict from level to `[A_l, 4]`), matches `[B, A]`, boxes `[B, G, 4]`
    (optional). Output: the deltas, in float32.
    """

    def __init__(self, kind: str = "smooth_l1", **kwargs):
        check_choice("box_loss", kind, BOX_LOSSES)
        super().__init__(**kwargs)
        self.kind = kind

    def call(self, deltas, anchors, matches, boxes=None):
        if boxes is not None:
            positive = tf.where(matches >= 0)  # [P, 2]: few of many anchors, so only they are looked at
            anchor = tf.gather(tf.concat(list(anchors.values()), axis=0), positive[:, 1])
            picture, match = positive[:, 0], tf.cast(tf.gather_nd(matches, positive), tf.int64)
            true_box = tf.gather_nd(boxes, tf.stack([picture, match], axis=-1))
            loss = self.of_boxes(tf.gather_nd(deltas, positive), anchor, true_box)  # [P]
            self.add_named_loss(tf.reduce_sum(loss) / number_of_positives(matches), tf.shape(deltas)[0])
        return deltas

    def of_boxes(self, deltas: tf.Tensor, anchors: tf.Tensor, true_boxes: tf.Tensor) -> tf.Tensor:
        """The loss `[P]` of deltas `[P, 4]` to anchors `[P, 4]` that answer for true boxes `[P, 4]`."""
        if self.kind == "giou":
            return giou_loss(box.decode(deltas, anchors), true_boxes)
        errors = deltas - box.encode(true_boxes, anchors)
        return tf.reduce_sum(smooth_l1(errors) if self.kind == "smooth_l1" else tf.abs(errors), axis=-1)

    def compute_output_spec(self, deltas, anchors, matches, boxes=None):
        return keras.KerasTensor(deltas.shape, "float32")

    def get_config(self):
        return super().get_config() | {"kind": self.kind}
