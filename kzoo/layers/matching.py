"""Matching: which anchor answers for which object."""

import keras
import tensorflow as tf

from kzoo.layers import boxes as box

BACKGROUND, IGNORED = -1, -2


def match(
    anchors: tf.Tensor,
    boxes: tf.Tensor,
    classes: tf.Tensor,
    positive_iou: float,
    negative_iou: float,
    match_best: bool,
) -> tf.Tensor:
    """Assigns each anchor an object, the background, or neither (Ren et al. 2015, section 3.1.2).

    Args:
        anchors: float32 `[A, 4]`.
        boxes: float32 `[B, G, 4]`, the true boxes.
        classes: int32 `[B, G]`, -1 where there is no object.
        positive_iou: an anchor with at least this IoU with an object answers for the one it overlaps most.
        negative_iou: an anchor that overlaps every object by less is background.
        match_best: also, no anchor that overlaps some object as much as any anchor does is left unmatched,
            however little that is. It answers for the object that it overlaps most itself, which may be
            another one, as with torchvision's `allow_low_quality_matches`.

    Returns:
        int32 `[B, A]`: the object's index, `BACKGROUND` (-1) or `IGNORED` (-2).
    """
    # One more row of padding: a batch without a row of objects would have nothing to reduce over.
    boxes = tf.pad(boxes, [[0, 0], [0, 1], [0, 0]])
    classes = tf.pad(classes, [[0, 0], [0, 1]], constant_values=-1)
    is_object = (classes >= 0)[..., None]  # [B, G, 1]
    iou = tf.where(is_object, box.pairwise_iou(boxes, anchors), -1.0)  # [B, G, A]
    most = tf.reduce_max(iou, axis=1)  # [B, A]
    nearest = tf.argmax(iou, axis=1, output_type=tf.int32)
    matches = tf.where(most < negative_iou, BACKGROUND, tf.where(most < positive_iou, IGNORED, nearest))
    if match_best:
        best = tf.reduce_max(iou, axis=2, keepdims=True)  # [B, G, 1]
        is_best = (iou == best) & (best > 0.0) & is_object
        matches = tf.where(tf.reduce_any(is_best, axis=1), nearest, matches)
    return matches


@keras.saving.register_keras_serializable("kzoo")
class Match(keras.layers.Layer):
    """Matches anchors and objects where there are targets; without targets nothing is matched (`[0, A]`).

    Args:
        positive_iou: as for `match`.
        negative_iou: as for `match`.
        match_best: as for `match`.
        **kwargs: `name`.

    Inputs: anchors, a dict from level to `[A_l, 4]`; boxes `[B, G, 4]` and classes `[B, G]`, both optional.
    Output: int32 `[B, A]`, the levels one after the other.
    """

    def __init__(
        self, positive_iou: float = 0.5, negative_iou: float = 0.4, match_best: bool = True, **kwargs
    ):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self.match_best = match_best

    def call(self, anchors, boxes=None, classes=None):
        anchors = tf.concat(list(anchors.values()), axis=0)  # [A, 4]
        if boxes is None or classes is None:
            return tf.zeros((0, tf.shape(anchors)[0]), tf.int32)
        return match(anchors, boxes, classes, self.positive_iou, self.negative_iou, self.match_best)

    def compute_output_spec(self, anchors, boxes=None, classes=None):
        return keras.KerasTensor((None, None), "int32")

    def get_config(self):
        return super().get_config() | {
            "positive_iou": self.positive_iou,
            "negative_iou": self.negative_iou,
            "match_best": self.match_best,
        }
