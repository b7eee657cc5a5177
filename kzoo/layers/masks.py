"""Masks, told within their boxes: which regions get one, where its samples lie, and how it is pasted."""

import keras
import tensorflow as tf

from kzoo.layers.matching import match
from kzoo.layers.sampling import REGION_IOU


def centres(boxes: tf.Tensor, samples: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The x and the y, each float32 `[P, samples]`, in the middle of equal parts of boxes `[P, 4]`."""
    middle = (tf.range(samples, dtype=tf.float32) + 0.5) / samples
    x1, y1, x2, y2 = tf.split(boxes, 4, axis=-1)  # [P, 1]
    return x1 + (x2 - x1) * middle, y1 + (y2 - y1) * middle


def masks_at(masks: tf.Tensor, boxes: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The values that masks, told within their boxes, have at points of the picture.

    Between samples they are interpolated bilinearly; up to the border of the box the outermost sample counts
    on, and outside there is nothing. As rows and columns are independent, two small products of matrices do.

    Args:
        masks: float32 `[P, m, m]`; sample (i, j) lies at the middle of part (i, j) of the box.
        boxes: float32 `[P, 4]`, xyxy in pixels; where one has no area the mask is nothing.
        x: float32 `[P, w]`, of the points.
        y: float32 `[P, h]`.

    Returns:
        float32 `[P, h, w]`.
    """
    samples = tf.cast(tf.shape(masks)[1], tf.float32)

    def weights(points, low, high):
        share = tf.math.divide_no_nan(points - low, high - low)  # [P, n], from 0 to 1 within the box
        place = tf.clip_by_value(share * samples - 0.5, 0.0, samples - 1.0)
        hat = tf.maximum(1.0 - tf.abs(place[..., None] - tf.range(samples)), 0.0)  # [P, n, m]
        inside = (points >= low) & (points < high)
        return tf.where(inside[..., None], hat, 0.0)

    x1, y1, x2, y2 = tf.split(boxes, 4, axis=-1)  # [P, 1]
    rows = tf.matmul(weights(y, y1, y2), masks)  # [P, h, m]
    return tf.matmul(rows, weights(x, x1, x2), transpose_b=True)


def masks_of_classes(masks: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Of the masks of all classes `[P, m, m, C]` that of the class int32 `[P]` of each: `[P, m, m]`."""
    return tf.gather(tf.transpose(masks, [0, 3, 1, 2]), classes, batch_dims=1)


@keras.saving.register_keras_serializable("kzoo")
class PickMaskRegions(keras.layers.Layer):
    """The regions that get a mask: the positives of the sample to learn from, the detections to answer.

    Args:
        most_positives: so many of the first regions of a picture can be positives.
        **kwargs: `name`.

    Inputs: regions `[B, R, 4]`; detections, a dict of `boxes [B, N, 4]` and `classes [B, N]`; boxes `[B, G,
    4]` and classes `[B, G]`, both optional. Output: a dict of `regions [P, 4]`; `pictures` int32 `[P]`; and
    `places` int32 `[P, 2]`, picture and number of the detection. Where there would be none, there is an empty
    box that belongs to nothing: some of TensorFlow's convolutions cannot differentiate an empty batch.
    """

    def __init__(self, most_positives: int, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.supports_jit = False  # how many are picked is known only as it runs
        self.most_positives = most_positives

    def call(self, regions, detections, boxes=None, classes=None):
        if boxes is None or classes is None:
            candidates, picked = detections["boxes"], detections["classes"] >= 0
        else:
            candidates = regions[:, : self.most_positives]
            picked = match(candidates, boxes, classes, REGION_IOU, REGION_IOU, match_best=False) >= 0
        places = tf.cast(tf.where(picked), tf.int32)  # [P, 2]
        picked = tf.gather_nd(candidates, places)
        batch, count = tf.unstack(tf.shape(candidates)[:2])
        one = tf.minimum(batch, tf.cast(tf.size(places) == 0, tf.int32))  # of no picture there is none
        return {
            "regions": tf.pad(picked, [[0, one], [0, 0]]),
            "pictures": tf.pad(places[:, 0], [[0, one]]),
            "places": tf.concat([places, tf.repeat([[0, count]], one, axis=0)], axis=0),
        }

    def compute_output_spec(self, regions, detections, boxes=None, classes=None):
        return {
            "regions": keras.KerasTensor((None, 4), "float32"),
            "pictures": keras.KerasTensor((None,), "int32"),
            "places": keras.KerasTensor((None, 2), "int32"),
        }

    def get_config(self):
        return super().get_config() | {"most_positives": self.most_positives}


@keras.saving.register_keras_serializable("kzoo")
class Masks(keras.layers.Layer):
    """The masks of the detections; with targets there are none, as there are no detections.

    A mask is pasted where its box is, to the fraction of a pixel; torchvision rounds boxes to pixels first,
    and its masks are a little larger.

    Args:
        paste: whether masks are given in pixels of the picture, where the probability is 0.5 or more.
        **kwargs: `name`.

    Inputs: logits `[P, m, m, C]`; picks, as `PickMaskRegions` gives them; detections, a dict of `classes
    [B, N]` and `boxes [B, N, 4]` in pixels of the images; images `[B, H, W, 3]`; classes `[B, G]` (optional,
    only looked at for being there). Output: float32 `[B, N, m, m]`, probabilities within the box of each
    detection; or, pasted, uint8 `[B, N, H, W]`, 0 or 1. Where there is no detection it is all zeros.
    """

    def __init__(self, paste: bool = False, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.supports_jit = False  # how many detections there are is known only as it runs
        self.paste = paste

    def call(self, logits, picks, detections, images, classes=None):
        batch, count = tf.unstack(tf.shape(detections["classes"]))
        height, width = tf.unstack(tf.shape(images)[1:3] if self.paste else tf.shape(logits)[1:3])
        if classes is not None:
            return tf.zeros((batch, 0, height, width), tf.uint8 if self.paste else tf.float32)
        places = picks["places"]
        labels = tf.gather_nd(tf.pad(detections["classes"], [[0, 0], [0, 1]]), places)  # [P]
        masks = tf.sigmoid(masks_of_classes(logits, labels))  # [P, m, m]

        def in_place(values: tf.Tensor) -> tf.Tensor:
            # One place more in each picture, for the pick that belongs to no detection.
            shape = tf.concat([[batch, count + 1], tf.shape(values)[1:]], axis=0)
            return tf.scatter_nd(places, values, shape)[:, :count]

        masks = in_place(masks)  # [B, N, m, m]
        return _paste(masks, detections["boxes"], height, width) if self.paste else masks

    def compute_output_spec(self, logits, picks, detections, images, classes=None):
        height, width = images.shape[1:3] if self.paste else logits.shape[1:3]
        return keras.KerasTensor((images.shape[0], None, height, width), "uint8" if self.paste else "float32")

    def get_config(self):
        return super().get_config() | {"paste": self.paste}


def _paste(masks: tf.Tensor, boxes: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Masks float32 `[B, N, m, m]` in pixels of the picture, uint8 `[B, N, height, width]`."""
    x = tf.range(tf.cast(width, tf.float32))[None] + 0.5
    y = tf.range(tf.cast(height, tf.float32))[None] + 0.5

    def of_one(mask_and_box):
        mask, box = mask_and_box
        return tf.cond(  # most places have no detection
            box[2] > box[0],
            lambda: tf.cast(masks_at(mask[None], box[None], x, y)[0] >= 0.5, tf.uint8),
            lambda: tf.zeros((height, width), tf.uint8),
        )

    # One after the other: the values before they are rounded take four times the memory of the answer. One
    # more: map_fn cannot stack no results, and a replica may get no picture.
    flat = tf.reshape(masks, tf.concat([[-1], tf.shape(masks)[2:]], axis=0)), tf.reshape(boxes, (-1, 4))
    one_more = tf.pad(flat[0], [[0, 1], [0, 0], [0, 0]]), tf.pad(flat[1], [[0, 1], [0, 0]])
    pasted = tf.map_fn(of_one, one_more, fn_output_signature=tf.TensorSpec((None, None), tf.uint8))[:-1]
    return tf.reshape(pasted, tf.concat([tf.shape(masks)[:2], [height, width]], axis=0))
