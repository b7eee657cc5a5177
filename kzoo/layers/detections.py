"""From what the heads say to a short list of detections."""

import keras
import tensorflow as tf

from kzoo.layers import boxes as box

CANDIDATES_PER_LEVEL = 1000


def non_maximum_suppression(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    classes: tf.Tensor,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
) -> dict[str, tf.Tensor]:
    """Keeps the best box of each heap, class by class.

    Args:
        boxes: float32 `[B, N, 4]`, none with a negative coordinate.
        scores: float32 `[B, N]`.
        classes: int32 `[B, N]`.
        score_threshold: boxes must score more.
        nms_threshold: a box goes when its IoU with a better one of its class is more than this.
        max_detections: boxes a picture at most.

    Returns:
        `boxes [B, max_detections, 4]`, `scores` and `classes` `[B, max_detections]`, best first, filled up
        with zero boxes, zero scores and class -1; `num_detections [B]`.
    """

    def of_one_picture(picture):
        boxes, scores, classes = picture
        # Boxes of different classes are moved so far apart that they never meet.
        apart = (tf.reduce_max(boxes) + 1.0) * tf.cast(classes, tf.float32)
        # The kernel itself: TensorFlow 2's `tf.image.non_max_suppression_padded` is another algorithm, ten
        # times slower on a CPU, and a box goes there whose IoU is just the threshold.
        kept, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=boxes + apart[:, None],
            scores=scores,
            max_output_size=max_detections,
            iou_threshold=nms_threshold,
            score_threshold=score_threshold,
            pad_to_max_output_size=True,
        )
        filled = tf.range(max_detections) < count
        return {
            "boxes": tf.where(filled[:, None], tf.gather(boxes, kept), 0.0),
            "scores": tf.where(filled, tf.gather(scores, kept), 0.0),
            "classes": tf.where(filled, tf.gather(classes, kept), -1),
            "num_detections": count,
        }

    signature = {
        "boxes": tf.TensorSpec((max_detections, 4), tf.float32),
        "scores": tf.TensorSpec((max_detections,), tf.float32),
        "classes": tf.TensorSpec((max_detections,), tf.int32),
        "num_detections": tf.TensorSpec((), tf.int32),
    }
    return tf.map_fn(of_one_picture, (boxes, scores, classes), fn_output_signature=signature)


@keras.saving.register_keras_serializable("kzoo")
class Detections(keras.layers.Layer):
    """Detections from the logits and deltas of every anchor (Lin et al. 2017, section 4.1, "inference").

    On each level the `CANDIDATES_PER_LEVEL` best pairs of anchor and class are decoded; then non-maximum
    suppression, class by class. With targets nothing is decoded: the answers are there, and empty.

    Args:
        score_threshold: as for `non_maximum_suppression`.
        nms_threshold: as for `non_maximum_suppression`.
        max_detections: as for `non_maximum_suppression`.
        **kwargs: `name`.

    Inputs: logits `[B, A, C]`, deltas `[B, A, 4]`, anchors (dict from level to `[A_l, 4]`), images
    `[B, H, W, 3]`, classes `[B, G]` (optional, only looked at for being there). Output: a dict of
    `boxes [B, N, 4]`, `scores [B, N]`, `classes [B, N]`, `num_detections [B]`.
    """

    def __init__(
        self,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
        **kwargs,
    ):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.supports_jit = False  # XLA has no kernel for non-maximum suppression
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.max_detections = max_detections

    def call(self, logits, deltas, anchors, images, classes=None):
        if classes is not None:
            return no_detections(tf.shape(logits)[0])
        candidates = [_best_candidates(*level) for level in box.by_level(anchors, logits, deltas)]
        boxes, scores, labels = (tf.concat(part, axis=1) for part in zip(*candidates, strict=True))
        boxes = box.clip(boxes, tf.shape(images)[1], tf.shape(images)[2])
        return non_maximum_suppression(
            boxes, scores, labels, self.score_threshold, self.nms_threshold, self.max_detections
        )

    def compute_output_spec(self, logits, deltas, anchors, images, classes=None):
        return detections_spec(logits.shape[0])

    def get_config(self):
        return super().get_config() | {
            "score_threshold": self.score_threshold,
            "nms_threshold": self.nms_threshold,
            "max_detections": self.max_detections,
        }


def _best_candidates(
    logits: tf.Tensor, deltas: tf.Tensor, anchors: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The best pairs of anchor and class of one level: boxes `[B, K, 4]`, scores and classes `[B, K]`.

    The best K pairs are among the classes of the best K anchors, which are found without sorting all pairs.
    """
    best_of_anchor = tf.reduce_max(logits, axis=-1)  # [B, A_l]
    _, anchor = tf.math.top_k(best_of_anchor, tf.minimum(CANDIDATES_PER_LEVEL, tf.shape(logits)[1]))
    logits = tf.gather(logits, anchor, batch_dims=1)  # [B, K', C]
    num_classes = tf.shape(logits)[2]
    pairs = tf.reshape(logits, (tf.shape(logits)[0], -1))  # [B, K' * C]
    logits, pair = tf.math.top_k(pairs, tf.minimum(CANDIDATES_PER_LEVEL, tf.shape(pairs)[1]))
    anchor = tf.gather(anchor, pair // num_classes, batch_dims=1)  # [B, K]
    boxes = box.decode(tf.gather(deltas, anchor, batch_dims=1), tf.gather(anchors, anchor))
    return boxes, tf.sigmoid(logits), pair % num_classes


def no_detections(batch_size: tf.Tensor) -> dict[str, tf.Tensor]:
    """The answers where there are targets: there, and empty."""
    return {
        "boxes": tf.zeros((batch_size, 0, 4)),
        "scores": tf.zeros((batch_size, 0)),
        "classes": tf.zeros((batch_size, 0), tf.int32),
        "num_detections": tf.zeros((batch_size,), tf.int32),
    }


def detections_spec(batch_size: int | None) -> dict[str, keras.KerasTensor]:
    """Shapes and types of the answers, with and without targets."""
    return {
        "boxes": keras.KerasTensor((batch_size, None, 4), "float32"),
        "scores": keras.KerasTensor((batch_size, None), "float32"),
        "classes": keras.KerasTensor((batch_size, None), "int32"),
        "num_detections": keras.KerasTensor((batch_size,), "int32"),
    }
