"""The two losses of a one-stage detector, what each anchor shows and where exactly; the latter for all."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from kzoo import replicas
from kzoo.checks import check_choice
from kzoo.layers import boxes as box
from kzoo.layers.matching import IGNORED
from kzoo.losses.functions import focal_loss, giou_loss, smooth_l1
from kzoo.losses.loss_layer import LossLayer

BOX_LOSSES = ("smooth_l1", "l1", "giou")


def count_of(chosen: tf.Tensor) -> tf.Tensor:
    """How many are true, as float32: what a sum of losses is divided by.

    It is the mean over the replicas, and never below one in all of them together.
    """
    number = replicas.mean_over_replicas(tf.reduce_sum(tf.cast(chosen, tf.float32)))
    return tf.maximum(number, 1.0 / replicas.count())


def matched_classes(matches: tf.Tensor, classes: tf.Tensor, num_classes: int) -> tf.Tensor:
    """The class int32 `[B, A]` of the object that each anchor answers for, -1 where there is none.

    Args:
        matches: int32 `[B, A]`.
        classes: int32 `[B, G]`.
        num_classes: as many as the model knows; a class beyond stops the training.
    """
    tf.debugging.assert_less(
        classes, num_classes, f"a class of the batch is not below num_classes={num_classes}"
    )
    no_object = tf.shape(classes)[1]
    classes = tf.pad(classes, [[0, 0], [0, 1]], constant_values=-1)
    return tf.gather(classes, tf.where(matches >= 0, matches, no_object), batch_dims=1)


@keras.saving.register_keras_serializable("kzoo")
class FocalLoss(LossLayer):
    """Focal loss of every anchor that is not ignored, over the number of positives (Lin et al. 2017, 4.1).

    A picture without objects is all background and teaches that.

    Args:
        alpha: weight of the positives, between 0 and 1; the others weigh 1 - alpha. None: all weigh 1.
        gamma: focusing; 0 is the alpha-balanced cross-entropy.
        **kwargs: `weight`, `name`.

    Inputs: logits `[B, A, C]`, matches `[B, A]`, classes `[B, G]` (optional). Output: the logits, in float32.
    """

    def __init__(self, alpha: float | None = 0.25, gamma: float = 2.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha
        self.gamma = gamma

    def call(self, logits, matches, classes=None):
        if classes is not None:
            num_classes = logits.shape[-1]
            matched = matched_classes(matches, classes, num_classes)  # [B, A]
            targets = tf.one_hot(matched, num_classes)  # [B, A, C], all zeros where there is no object
            loss = tf.reduce_sum(focal_loss(logits, targets, self.alpha, self.gamma), axis=-1)
            loss = replicas.weight() * tf.reduce_sum(tf.where(matches == IGNORED, 0.0, loss))
            self.add_named_loss(loss / count_of(matches >= 0), tf.shape(logits)[0])
        return logits

    def compute_output_spec(self, logits, matches, classes=None):
        return keras.KerasTensor(logits.shape, "float32")

    def get_config(self):
        return super().get_config() | {"alpha": self.alpha, "gamma": self.gamma}


@keras.saving.register_keras_serializable("kzoo")
class BoxLoss(LossLayer):
    """Loss of the boxes of the positives among anchors or regions.

    Args:
        kind: `"smooth_l1"` or `"l1"` on the four deltas (summed), or `"giou"` on the decoded boxes.
        per: what the sum is divided by: the number of the `"positive"` ones, or of all in the `"sample"`,
            which are those not ignored.
        delta_weights: as for `kzoo.layers.boxes.encode`.
        **kwargs: `weight`, `name`.

    Inputs: deltas `[B, A, 4]`, or `[B, A, C, 4]` where each class has its own; anchors, a dict from level to
    `[A_l, 4]`, or regions `[B, A, 4]`; matches `[B, A]`; boxes `[B, G, 4]` (optional), and,
    where each class has its own deltas, classes `[B, G]`. Output: the deltas, in float32.
    """

    def __init__(
        self,
        kind: str = "smooth_l1",
        per: str = "positive",
        delta_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        **kwargs,
    ):
        check_choice("box_loss", kind, BOX_LOSSES)
        check_choice("per", per, ("positive", "sample"))
        super().__init__(**kwargs)
        self.kind = kind
        self.per = per
        self.delta_weights = tuple(delta_weights)

    def call(self, deltas, anchors, matches, boxes=None, classes=None):
        if boxes is not None:
            positive = tf.where(matches >= 0)  # [P, 2]: few of many anchors, so only they are looked at
            anchors = tf.convert_to_tensor(box.of_all_levels(anchors))
            anchors = tf.gather_nd(anchors, positive[:, 1:] if anchors.shape.rank == 2 else positive)
            match = tf.cast(tf.gather_nd(matches, positive), tf.int64)
            target = tf.stack([positive[:, 0], match], axis=-1)  # [P, 2]: picture and object
            own = positive
            if deltas.shape.rank == 4:
                label = tf.cast(tf.gather_nd(classes, target), tf.int64)
                own = tf.concat([positive, label[:, None]], axis=-1)
            loss = self.of_boxes(tf.gather_nd(deltas, own), anchors, tf.gather_nd(boxes, target))  # [P]
            counted = matches >= 0 if self.per == "positive" else matches != IGNORED
            self.add_named_loss(tf.reduce_sum(loss) / count_of(counted), tf.shape(deltas)[0])
        return deltas

    def of_boxes(self, deltas: tf.Tensor, anchors: tf.Tensor, true_boxes: tf.Tensor) -> tf.Tensor:
        """The loss `[P]` of deltas `[P, 4]` to anchors `[P, 4]` that answer for true boxes `[P, 4]`."""
        if self.kind == "giou":
            return giou_loss(box.decode(deltas, anchors, self.delta_weights), true_boxes)
        errors = deltas - box.encode(true_boxes, anchors, self.delta_weights)
        return tf.reduce_sum(smooth_l1(errors) if self.kind == "smooth_l1" else tf.abs(errors), axis=-1)

    def compute_output_spec(self, deltas, anchors, matches, boxes=None, classes=None):
        return keras.KerasTensor(deltas.shape, "float32")

    def get_config(self):
        return super().get_config() | {
            "kind": self.kind,
            "per": self.per,
            "delta_weights": self.delta_weights,
        }
