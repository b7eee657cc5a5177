"""Sizes of pictures and maps: padded to what a network divides them by, cut to their middle, cut back."""

import keras
import tensorflow as tf

from kzoo.data.resize import PADDING


def centre(x: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The middle `[B, h, w, ...]` of `[B, H, W, ...]`, as large as `size`, (h, w), says."""
    first = (tf.shape(x)[1:3] - size) // 2
    return x[:, first[0] : first[0] + size[0], first[1] : first[1] + size[1]]


@keras.saving.register_keras_serializable("kzoo")
class StandardizePictures(keras.layers.Layer):
    """Brings each picture by itself to zero mean and unit variance, in float32.

    Pixels of the grey that pictures are padded with do not count, and become zero: a dark picture would look
    darker the more there is of it.

    Input: `[B, H, W, C]`. Output: the same, float32; zeros of a picture that is the same all over.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})

    def call(self, images):
        counted = tf.cast(tf.reduce_any(images != PADDING, axis=-1, keepdims=True), tf.float32)

        def mean_of(values: tf.Tensor) -> tf.Tensor:
            mean = tf.reduce_mean(counted * values, axis=[1, 2, 3], keepdims=True)
            return tf.math.divide_no_nan(mean, tf.reduce_mean(counted, axis=[1, 2, 3], keepdims=True))

        centred = images - mean_of(images)
        return counted * centred * tf.math.rsqrt(mean_of(tf.square(centred)) + 1e-3)

    def compute_output_shape(self, images_shape):
        return images_shape


@keras.saving.register_keras_serializable("kzoo")
class PadToMultiple(keras.layers.Layer):
    """Mirrors pictures beyond their bottom and their right until a stride divides their sides.

    Args:
        stride: what is to divide height and width.
        **kwargs: `name`.

    Input: `[B, H, W, C]`. Output: `[B, H', W', C]`.
    """

    def __init__(self, stride: int, **kwargs):
        super().__init__(autocast=False, **kwargs)  # half precision knows no fractions of a colour
        self.stride = stride

    def call(self, images):
        for axis in (1, 2):
            if images.shape[axis] is None or images.shape[axis] % self.stride:
                side = tf.shape(images)[axis]
                place = tf.range(side + -side % self.stride) % (2 * side)  # there and back, and there again
                images = tf.gather(images, tf.minimum(place, 2 * side - 1 - place), axis=axis)
        return images

    def compute_output_spec(self, images):
        batch, height, width, channels = images.shape
        sides = (None if side is None else side + -side % self.stride for side in (height, width))
        return keras.KerasTensor((batch, *sides, channels), images.dtype)

    def get_config(self):
        return super().get_config() | {"stride": self.stride}


@keras.saving.register_keras_serializable("kzoo")
class CropBack(keras.layers.Layer):
    """Cuts a map to the size that the pictures had before they were padded at their bottom and right.

    Inputs: `[B, H', W', C]` and pictures `[B, H, W, 3]`. Output: `[B, H, W, C]`.
    """

    def call(self, x, images):
        return x[:, : tf.shape(images)[1], : tf.shape(images)[2]]

    def compute_output_shape(self, x_shape, images_shape):
        return (x_shape[0], *images_shape[1:3], x_shape[-1])


@keras.saving.register_keras_serializable("kzoo")
class JoinSkip(keras.layers.Layer):
    """What came up the expanding path, and the middle of what the contracting path saw at this scale.

    Inputs: x `[B, h, w, C]` and skip `[B, H, W, D]`, which is as large or larger. Output: `[B, h, w, D + C]`.
    """

    def call(self, x, skip):
        if skip.shape[1:3] != x.shape[1:3] or None in x.shape[1:3]:
            skip = centre(skip, tf.shape(x)[1:3])
        return tf.concat([skip, x], axis=-1)

    def compute_output_shape(self, x_shape, skip_shape):
        return (*x_shape[:-1], skip_shape[-1] + x_shape[-1])
