"""Pictures at the size that a detector was trained at, and boxes there and back."""

from collections.abc import Sequence

import keras
import tensorflow as tf

FILLED_TO = 32  # pixels: torchvision fills the batch of a detector up to a multiple of this


def fit_pictures(
    images: keras.KerasTensor,
    boxes: keras.KerasTensor,
    resize: tuple[int, int] | None,
    colour: Sequence[float],
) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]:
    """Pictures and boxes as a detector sees them.

    Args:
        images: `[B, H, W, 3]`.
        boxes: `[B, G, 4]`.
        resize: shorter and longest side in pixels; None leaves all as it is.
        colour: of what is filled up.

    Returns:
        The pictures at their size `[B, h, w, 3]`, the same filled up for the network `[B, h', w', 3]`, and
        the boxes in their pixels.
    """
    if resize is None:
        return images, images, boxes
    resized = ResizePictures(*resize, name="resize")(images)
    filled = FillUp(FILLED_TO, tuple(colour), name="fill_up")(resized)
    return resized, filled, MoveBoxes(name="boxes_resized")(boxes, images, resized)


def in_own_pixels(
    detections: dict[str, keras.KerasTensor], resized: keras.KerasTensor, images: keras.KerasTensor
) -> dict[str, keras.KerasTensor]:
    """Detections in resized pictures as detections in the pictures that they were made of."""
    if resized is images:
        return detections
    return detections | {"boxes": MoveBoxes(name="boxes_back")(detections["boxes"], resized, images)}


@keras.saving.register_keras_serializable("kzoo")
class ResizePictures(keras.layers.Layer):
    """Resizes pictures until their shorter side has a length, but their longer side not more than another.

    As torchvision's detectors do it (`GeneralizedRCNNTransform`): sides are cut to whole pixels, and the four
    nearest pixels make a new one, also where pictures get smaller.

    Args:
        shorter: pixels of the shorter side, unless
        longest: the longer side would have more than so many.
        **kwargs: `name`.

    Input: `[B, H, W, C]`. Output: float32 `[B, h, w, C]`.
    """

    def __init__(self, shorter: int, longest: int, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)
        self.shorter = shorter
        self.longest = longest

    def call(self, images):
        # In double precision, in which the sides are cut as there.
        sides = tf.cast(tf.shape(images)[1:3], tf.float64)
        scale = tf.minimum(self.shorter / tf.reduce_min(sides), self.longest / tf.reduce_max(sides))
        size = tf.maximum(tf.cast(tf.floor(sides * scale), tf.int32), 1)
        return tf.image.resize(tf.cast(images, tf.float32), size)

    def compute_output_spec(self, images):
        batch, height, width, channels = images.shape
        if None not in (height, width):
            scale = min(self.shorter / min(height, width), self.longest / max(height, width))
            height, width = (max(int(side * scale), 1) for side in (height, width))
        else:
            height = width = None
        return keras.KerasTensor((batch, height, width, channels), "float32")

    def get_config(self):
        return super().get_config() | {"shorter": self.shorter, "longest": self.longest}


@keras.saving.register_keras_serializable("kzoo")
class FillUp(keras.layers.Layer):
    """Fills pictures up at their bottom and their right until a stride divides their sides.

    Args:
        stride: what is to divide height and width.
        colour: of what is filled up, one number a channel.
        **kwargs: `name`.

    Input: float32 `[B, H, W, C]`. Output: float32 `[B, H', W', C]`.
    """

    def __init__(self, stride: int, colour: tuple[float, ...], **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)
        self.stride = stride
        self.colour = tuple(colour)

    def call(self, images):
        height, width = tf.unstack(tf.shape(images)[1:3])
        missing = [[0, 0], [0, -height % self.stride], [0, -width % self.stride], [0, 0]]
        # What is filled up has just this colour: nothing is added to it that rounding would leave behind.
        inside = tf.pad(tf.ones_like(images[..., :1]), missing)
        return tf.where(inside > 0, tf.pad(images, missing), tf.constant(self.colour))

    def compute_output_spec(self, images):
        batch, height, width, channels = images.shape
        sides = (None if side is None else side + -side % self.stride for side in (height, width))
        return keras.KerasTensor((batch, *sides, channels), "float32")

    def get_config(self):
        return super().get_config() | {"stride": self.stride, "colour": self.colour}


@keras.saving.register_keras_serializable("kzoo")
class MoveBoxes(keras.layers.Layer):
    """Boxes in pixels of some pictures as boxes in pixels of the same pictures at another size.

    Inputs: boxes `[B, N, 4]`, or None; the pictures `[B, H, W, C]` that they are of, and those at the other
    size. Output: float32 `[B, N, 4]`, or None.
    """

    def __init__(self, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)

    def call(self, boxes, images, resized):
        if boxes is None:
            return None
        own, other = (tf.cast(tf.shape(pictures)[1:3], tf.float32) for pictures in (images, resized))
        return boxes * tf.tile(tf.reverse(other / own, [0]), [2])  # y, x to x, y, x, y

    def compute_output_spec(self, boxes, images, resized):
        return None if boxes is None else keras.KerasTensor(boxes.shape, "float32")
