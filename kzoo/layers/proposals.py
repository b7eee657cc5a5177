"""Proposals: the few boxes of a picture in which the first stage expects an object."""

import keras
import tensorflow as tf

from kzoo.layers import boxes as box

PROPOSAL_NMS_IOU = 0.7
LEAST_SIDE = 1e-3  # pixels; what is smaller shows nothing
TOO_SMALL = tf.float32.min  # in place of the logit of such a box: below all others


@keras.saving.register_keras_serializable("kzoo")
class Proposals(keras.layers.Layer):
    """The best boxes of the region proposal network (Ren et al. 2015, section 3.3).

    On each level the best anchors by objectness become boxes, are clipped to the picture, and lose what
    overlaps a better one with an IoU of more than 0.7; of what is left on all levels the best are proposed.

    Args:
        count_train: how many are taken on each level, and are proposed in all, where there are targets.
        count_test: the same where there are none.
        fixed: whether the proposals are constants to the layers behind them, as in the paper. Otherwise
            gradients flow back to the deltas of those that are proposed; the selection has none.
        **kwargs: `name`.

    Inputs: objectness (logits) `[B, A, 1]`, deltas `[B, A, 4]`, anchors (dict from level to `[A_l, 4]`),
    images `[B, H, W, 3]`, classes `[B, G]` (optional, only looked at for being there). Output: `[B, K, 4]`,
    best first, filled up with zero boxes.
    """

    def __init__(self, count_train: int = 2000, count_test: int = 1000, fixed: bool = True, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.supports_jit = False  # XLA has no kernel for non-maximum suppression
        self.count_train = count_train
        self.count_test = count_test
        self.fixed = fixed

    def call(self, objectness, deltas, anchors, images, classes=None):
        count = self.count_test if classes is None else self.count_train
        best = [
            _best_boxes(*level, count, tf.shape(images))
            for level in box.by_level(anchors, objectness[..., 0], deltas)
        ]
        boxes = tf.concat([boxes for boxes, _ in best], axis=1)  # [B, levels * K, 4]
        kept = _kept([(tf.stop_gradient(boxes), tf.stop_gradient(scores)) for boxes, scores in best], count)
        proposals = tf.gather(tf.pad(boxes, [[0, 0], [0, 1], [0, 0]]), kept, batch_dims=1)
        return tf.stop_gradient(proposals) if self.fixed else proposals

    def compute_output_spec(self, objectness, deltas, anchors, images, classes=None):
        return keras.KerasTensor((objectness.shape[0], None, 4), "float32")

    def get_config(self):
        return super().get_config() | {
            "count_train": self.count_train,
            "count_test": self.count_test,
            "fixed": self.fixed,
        }


def _best_boxes(objectness, deltas, anchors, count, image_shape):
    """The best anchors of one level as boxes `[B, K, 4]` and their logits `[B, K]`, best first."""
    logits, anchor = tf.math.top_k(objectness, tf.minimum(count, tf.shape(objectness)[1]))
    boxes = box.decode(tf.gather(deltas, anchor, batch_dims=1), tf.gather(anchors, anchor))
    boxes = box.clip(boxes, image_shape[1], image_shape[2])
    return boxes, tf.where(box.has_sides(boxes, LEAST_SIDE), logits, TOO_SMALL)


def _kept(levels: list[tuple[tf.Tensor, tf.Tensor]], count: int) -> tf.Tensor:
    """Which of all boxes are proposed: their places int32 `[B, count]`, one behind the last for none."""

    def of_one_picture(levels):
        kept, scores, before = [], [], 0
        for boxes, logits in levels:
            chosen, _ = tf.raw_ops.NonMaxSuppressionV4(
                boxes=boxes,
                scores=logits,
                max_output_size=tf.shape(boxes)[0],
                iou_threshold=PROPOSAL_NMS_IOU,
                score_threshold=TOO_SMALL / 2,
                pad_to_max_output_size=False,
            )
            kept.append(chosen + before)
            scores.append(tf.gather(logits, chosen))
            before += tf.shape(boxes)[0]
        kept = tf.concat(kept, axis=0)
        _, best = tf.math.top_k(tf.concat(scores, axis=0), tf.minimum(count, tf.shape(kept)[0]))
        kept = tf.gather(kept, best)
        return tf.pad(kept, [[0, count - tf.shape(kept)[0]]], constant_values=before)

    return tf.map_fn(of_one_picture, levels, fn_output_signature=tf.TensorSpec((count,), tf.int32))
