"""The losses of a two-stage detector that a one-stage detector does not have."""

import keras
import tensorflow as tf

from kzoo import replicas
from kzoo.layers import boxes as box
from kzoo.layers.masks import centres, masks_at, masks_of_classes
from kzoo.layers.matching import IGNORED
from kzoo.layers.sampling import REGION_IOU
from kzoo.losses.detection import count_of, matched_classes
from kzoo.losses.loss_layer import LossLayer


def mean_of_sample(loss: tf.Tensor, matches: tf.Tensor) -> tf.Tensor:
    """The mean loss of all that is not ignored, of `[B, A]` each; nothing where all is."""
    sampled = matches != IGNORED
    return replicas.weight() * tf.reduce_sum(tf.where(sampled, loss, 0.0)) / count_of(sampled)


@keras.saving.register_keras_serializable("kzoo")
class ObjectnessLoss(LossLayer):
    """Whether there is an object: mean cross-entropy of the sampled anchors (Ren et al. 2015, equation 1).

    Inputs: logits `[B, A, 1]`, matches `[B, A]`, classes `[B, G]` (optional, only looked at for being there).
    Output: the logits, in float32.
    """

    def call(self, logits, matches, classes=None):
        if classes is not None:
            targets = tf.cast(matches >= 0, tf.float32)
            loss = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits[..., 0])
            self.add_named_loss(mean_of_sample(loss, matches), tf.shape(logits)[0])
        return logits

    def compute_output_spec(self, logits, matches, classes=None):
        return keras.KerasTensor(logits.shape, "float32")


@keras.saving.register_keras_serializable("kzoo")
class RegionClassificationLoss(LossLayer):
    """What is in a region, background or a class: mean cross-entropy of the sample (Girshick 2015, 2.3).

    Inputs: logits `[B, R, 1 + C]`, the background first; matches `[B, R]`; classes `[B, G]` (optional).
    Output: the logits, in float32.
    """

    def call(self, logits, matches, classes=None):
        if classes is not None:
            targets = 1 + matched_classes(matches, classes, logits.shape[-1] - 1)  # [B, R]
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
            self.add_named_loss(mean_of_sample(loss, matches), tf.shape(logits)[0])
        return logits

    def compute_output_spec(self, logits, matches, classes=None):
        return keras.KerasTensor(logits.shape, "float32")


@keras.saving.register_keras_serializable("kzoo")
class MaskLoss(LossLayer):
    """Which pixels of a region are its object's: mean cross-entropy of its class's mask (He et al. 2017, 3).

    The true masks are sampled where the predicted ones are told: in the middle of each part of the region.
    They are constants: no gradient moves a region to where its true mask is easier.

    Inputs: logits `[P, m, m, C]`; picks, as `kzoo.layers.masks.PickMaskRegions` gives them; masks `[B, G, M,
    M]`, 0 to 1 within the true boxes; boxes `[B, G, 4]` and classes `[B, G]`. The last three are optional.
    Output: the logits, in float32.
    """

    def call(self, logits, picks, masks=None, boxes=None, classes=None):
        if masks is not None and boxes is not None and classes is not None:
            regions, pictures = tf.stop_gradient(picks["regions"]), picks["pictures"]
            # No object where there is none: a box without area, in which nothing lies.
            boxes = tf.pad(tf.where(classes[..., None] >= 0, boxes, 0.0), [[0, 0], [0, 1], [0, 0]])
            iou = box.pairwise_iou(regions[:, None], tf.gather(boxes, pictures))[:, 0]  # [P, G + 1]
            positive = tf.where(tf.reduce_max(iou, axis=1) >= REGION_IOU)[:, 0]
            match = tf.stack([pictures, tf.argmax(iou, axis=1, output_type=tf.int32)], axis=1)  # [P, 2]
            regions, match = tf.gather(regions, positive), tf.gather(match, positive)
            x, y = centres(regions, logits.shape[1])
            true_masks = tf.cast(tf.gather_nd(masks, match), tf.float32)
            targets = masks_at(true_masks, tf.gather_nd(boxes, match), x, y)  # [P, m, m]
            labels = tf.gather_nd(classes, match)
            answers = masks_of_classes(tf.gather(logits, positive), labels)  # [P, m, m]
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, answers), axis=[1, 2])
            loss = tf.reduce_sum(loss) / count_of(tf.ones_like(positive))
            self.add_named_loss(loss, tf.shape(boxes)[0])
        return logits

    def compute_output_spec(self, logits, picks, masks=None, boxes=None, classes=None):
        return keras.KerasTensor(logits.shape, "float32")
