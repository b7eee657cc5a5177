"""From what the second stage says about its regions to a short list of detections."""

import keras
import tensorflow as tf

from kzoo.layers import boxes as box
from kzoo.layers.detections import Detections, detections_spec, no_detections, non_maximum_suppression
from kzoo.layers.region_heads import REGION_DELTA_WEIGHTS

# Pairs of region and class that come into question, the best of a picture. torchvision has no such limit; of
# a trained model's thousand regions few have even two classes that score more than 0.05.
CANDIDATES = 2000
LEAST_SIDE = 1e-2  # pixels; what is smaller shows nothing


@keras.saving.register_keras_serializable("kzoo")
class RegionDetections(Detections):
    """Detections from the logits and deltas of regions (Girshick 2015, section 3).

    The best pairs of region and class are decoded and clipped to the picture; then non-maximum suppression,
    class by class. With targets nothing is decoded: the answers are there, and empty.

    Args:
        score_threshold: as for `non_maximum_suppression`.
        nms_threshold: as for `non_maximum_suppression`.
        max_detections: as for `non_maximum_suppression`.
        **kwargs: `name`.

    Inputs: logits `[B, R, 1 + C]`, the background first; deltas `[B, R, C, 4]`; regions `[B, R, 4]`, filled
    up with zero boxes; images `[B, H, W, 3]`; classes `[B, G]` (optional, only looked at for being there).
    Output: a dict of `boxes [B, N, 4]`, `scores [B, N]`, `classes [B, N]`, `num_detections [B]`.
    """

    def call(self, logits, deltas, regions, images, classes=None):
        batch = tf.shape(logits)[0]
        if classes is not None:
            return no_detections(batch)
        num_classes = deltas.shape[2]
        scores = tf.where(box.area(regions)[..., None] > 0.0, tf.nn.softmax(logits)[..., 1:], 0.0)
        pairs = tf.reshape(scores, (batch, -1))  # [B, R * C]
        scores, pair = tf.math.top_k(pairs, tf.minimum(CANDIDATES, tf.shape(pairs)[1]))
        deltas = tf.gather(tf.reshape(deltas, (batch, -1, 4)), pair, batch_dims=1)  # [B, K, 4]
        regions = tf.gather(regions, pair // num_classes, batch_dims=1)
        boxes = box.decode(deltas, regions, REGION_DELTA_WEIGHTS)
        boxes = box.clip(boxes, tf.shape(images)[1], tf.shape(images)[2])
        scores = tf.where(box.has_sides(boxes, LEAST_SIDE), scores, 0.0)
        return non_maximum_suppression(
            boxes, scores, pair % num_classes, self.score_threshold, self.nms_threshold, self.max_detections
        )

    def compute_output_spec(self, logits, deltas, regions, images, classes=None):
        return detections_spec(logits.shape[0])
