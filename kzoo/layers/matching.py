"""Matching: which anchor or proposal answers for which object."""

import keras
import tensorflow as tf

from kzoo.classes import CROWD
from kzoo.layers import boxes as box

BACKGROUND, IGNORED = -1, -2
CROWD_SHARE = 0.5  # a box with this share of its area inside a crowd is ignored


def match(
    anchors: tf.Tensor,
    boxes: tf.Tensor,
    classes: tf.Tensor,
    positive_iou: float,
    negative_iou: float,
    match_best: bool,
) -> tf.Tensor:
    """Assigns each anchor an object, the background, or neither (Ren et al. 2015, section 3.1.2).

    Boxes that lie by half or more in a crowd, and boxes without area (padding among proposals), are ignored
    too, unless they answer for an object.

    Args:
        anchors: float32 `[A, 4]`, the same for all pictures, or `[B, A, 4]`.
        boxes: float32 `[B, G, 4]`, the true boxes.
        classes: int32 `[B, G]`, -1 where there is no object, `CROWD` (-2) where there is a crowd.
        positive_iou: an anchor with at least this IoU with an object answers for the one it overlaps most.
        negative_iou: an anchor that overlaps every object by less is background.
        match_best: also, the anchor that overlaps an object most answers for that object, however little that
            is, and whatever it overlaps more itself; where it is the best of several objects, for the one
            that it overlaps most. (torchvision's `allow_low_quality_matches` leaves it to the other object.)

    Returns:
        int32 `[B, A]`: the object's index, `BACKGROUND` (-1) or `IGNORED` (-2).
    """

    def of_one_picture(picture):
        boxes, classes, *own_anchors = picture
        [candidates] = own_anchors or [anchors]
        # Only the objects, so that the table is no larger than need be; and a box without area behind them:
        # where there is no object, there is something to reduce over.
        objects = tf.cast(tf.where(classes >= 0)[:, 0], tf.int32)  # [N]
        objects = tf.pad(objects, [[0, 1]])
        crowds = tf.boolean_mask(boxes, classes == CROWD)  # [K, 4]
        boxes = tf.pad(tf.gather(boxes, objects[:-1]), [[0, 1], [0, 0]])
        iou = box.pairwise_iou(boxes, candidates)  # [N + 1, A]
        most = tf.reduce_max(iou, axis=0)  # [A]
        nearest = tf.gather(objects, tf.argmax(iou, axis=0, output_type=tf.int32))
        in_crowd = tf.reduce_any(box.pairwise_share(crowds, candidates) >= CROWD_SHARE, axis=0)  # [A]
        unknown = in_crowd | (box.area(candidates) <= 0.0)
        background = tf.where(unknown, IGNORED, BACKGROUND)
        matches = tf.where(most < negative_iou, background, tf.where(most < positive_iou, IGNORED, nearest))
        if match_best:
            best = tf.reduce_max(iou, axis=1, keepdims=True)  # [N + 1, 1]
            iou_where_best = tf.where((iou == best) & (best > 0.0), iou, -1.0)
            nearest = tf.gather(objects, tf.argmax(iou_where_best, axis=0, output_type=tf.int32))
            matches = tf.where(tf.reduce_max(iou_where_best, axis=0) > 0.0, nearest, matches)
        return matches

    anchors = tf.convert_to_tensor(anchors)
    signature = tf.TensorSpec((anchors.shape[-2],), tf.int32)
    # One picture more, without objects: map_fn cannot stack no results, and a replica may get no picture.
    pictures = [
        tf.pad(boxes, [[0, 1], [0, 0], [0, 0]]),
        tf.pad(classes, [[0, 1], [0, 0]], constant_values=-1),
    ]
    if anchors.shape.rank == 3:
        pictures.append(tf.pad(anchors, [[0, 1], [0, 0], [0, 0]]))
    return tf.map_fn(of_one_picture, tuple(pictures), fn_output_signature=signature)[:-1]


@keras.saving.register_keras_serializable("kzoo")
class Match(keras.layers.Layer):
    """Matches anchors and objects where there are targets; without targets nothing is matched (`[0, A]`).

    Args:
        positive_iou: as for `match`.
        negative_iou: as for `match`.
        match_best: as for `match`.
        **kwargs: `name`.

    Inputs: anchors, a dict from level to `[A_l, 4]`, or proposals `[B, A, 4]`; boxes `[B, G, 4]` and classes
    `[B, G]`, both optional. Output: int32 `[B, A]`, the levels one after the other.
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
        anchors = box.of_all_levels(anchors)  # [A, 4] or [B, A, 4]
        if boxes is None or classes is None:
            return tf.zeros((0, tf.shape(anchors)[-2]), tf.int32)
        boxes = tf.debugging.check_numerics(boxes, "boxes of the batch")
        return match(anchors, boxes, classes, self.positive_iou, self.negative_iou, self.match_best)

    def compute_output_spec(self, anchors, boxes=None, classes=None):
        return keras.KerasTensor((None, None), "int32")

    def get_config(self):
        return super().get_config() | {
            "positive_iou": self.positive_iou,
            "negative_iou": self.negative_iou,
            "match_best": self.match_best,
        }
