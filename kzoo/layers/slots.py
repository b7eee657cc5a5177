"""Boxes as numbers in slots, one after the other: what a box regressor says, and how it is read."""

import keras
import tensorflow as tf

from kzoo.layers import boxes as box


def to_numbers(boxes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Boxes `[..., 4]`, xyxy in pixels, as (x_c, y_c, h, w) in shares of the picture's (height, width)."""
    height, width = tf.unstack(tf.cast(size, tf.float32))
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    numbers = (x1 + x2) / 2.0 / width, (y1 + y2) / 2.0 / height, (y2 - y1) / height, (x2 - x1) / width
    return tf.stack(numbers, axis=-1)


def to_boxes(numbers: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The reverse of `to_numbers`, cut to the picture."""
    height, width = tf.unstack(tf.cast(size, tf.float32))
    x, y, h, w = tf.unstack(numbers, axis=-1)
    half_width, half_height = 0.5 * tf.nn.relu(w), 0.5 * tf.nn.relu(h)
    corners = x - half_width, y - half_height, x + half_width, y + half_height
    boxes = tf.stack(corners, axis=-1) * tf.stack([width, height, width, height])
    return box.clip(boxes, height, width)


@keras.saving.register_keras_serializable("kzoo")
class SlotDetections(keras.layers.Layer):
    """What the slots hold, best first, under the names that a detector's answers have.

    A slot is empty if "no object" is its most probable class.

    Args:
        **kwargs: `name`.

    Inputs: logits `[B, N, C + 1]`, "no object" last; numbers `[B, N, 4]`, (x_c, y_c, h, w) in shares of the
    picture; images `[B, H, W, 3]`. Output: a dict of `boxes [B, N, 4]`, `scores [B, N]`, `classes [B, N]` and
    `num_detections [B]`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})

    def call(self, logits, numbers, images):
        classes = tf.argmax(logits, axis=-1, output_type=tf.int32)
        found = classes < logits.shape[-1] - 1
        scores = tf.where(found, tf.reduce_max(tf.nn.softmax(logits), axis=-1), 0.0)
        scores, order = tf.math.top_k(scores, logits.shape[1])
        found, classes = (tf.gather(rows, order, batch_dims=1) for rows in (found, classes))
        boxes = tf.gather(to_boxes(numbers, tf.shape(images)[1:3]), order, batch_dims=1)
        return {
            "boxes": tf.where(found[..., None], boxes, 0.0),
            "scores": scores,
            "classes": tf.where(found, classes, -1),
            "num_detections": tf.reduce_sum(tf.cast(found, tf.int32), axis=1),
        }

    def compute_output_spec(self, logits, numbers, images):
        batch, slots, _ = logits.shape
        return {
            "boxes": keras.KerasTensor((batch, slots, 4), "float32"),
            "scores": keras.KerasTensor((batch, slots), "float32"),
            "classes": keras.KerasTensor((batch, slots), "int32"),
            "num_detections": keras.KerasTensor((batch,), "int32"),
        }
