"""A spatial transformer's sampler, the window of a picture that an affine map tells, and where to put it."""

import keras
import tensorflow as tf

from kzoo.layers.sampler import affine_grid, bilinear_sample


@keras.saving.register_keras_serializable("kzoo")
class SpatialTransform(keras.layers.Layer):
    """Samples each picture on its own affine grid (Jaderberg et al. 2015, section 3.2 and 3.3).

    Gradients flow to the pictures and to the map. What lies outside takes the value of the nearest pixel.

    Args:
        size: samples along each side of what comes out.
        **kwargs: `name`.

    Inputs: pictures or features `[B, H, W, C]`; theta `[B, 6]`, the rows of the map from (x, y, 1) in the
    window to (x, y) in the picture, both from -1 to 1 (equation 1). Output: `[B, size, size, C]`.
    """

    def __init__(self, size: int, **kwargs):
        super().__init__(autocast=False, **kwargs)  # places in half precision would be off by pixels
        self.size = size

    def call(self, images, theta):
        theta = tf.reshape(tf.cast(theta, tf.float32), (-1, 2, 3))
        grid = affine_grid(theta, self.size)  # [B, size, size, 2], (y, x)
        points = 0.5 * (grid + 1.0) * tf.cast(tf.shape(images)[1:3], tf.float32) - 0.5
        samples = bilinear_sample(images, points, tf.range(tf.shape(images)[0]))
        return tf.cast(samples, self.compute_dtype)

    def compute_output_spec(self, images, theta):
        shape = (images.shape[0], self.size, self.size, images.shape[-1])
        return keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"size": self.size}


@keras.saving.register_keras_serializable("kzoo")
class CentreOfMass(keras.layers.Layer):
    """Where a heat map is hottest, in the mean: differentiable, and the middle of a map that is all alike.

    The softmax over all places says how much each of them counts (the spatial soft argmax of Levine et al.
    2016, https://arxiv.org/abs/1504.00702, section 5.1).

    Input: heat `[B, h, w, 1]` of known size. Output: float32 `[B, 2]`, (x, y) from -1 to 1.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})

    def call(self, heat):
        _, height, width, _ = heat.shape
        weights = tf.nn.softmax(tf.reshape(heat, (-1, height * width)))  # [B, h * w]
        y, x = ((2.0 * tf.range(side, dtype=tf.float32) + 1.0) / side - 1.0 for side in (height, width))
        x, y = tf.meshgrid(x, y)  # [h, w]
        return weights @ tf.stack([tf.reshape(x, (-1,)), tf.reshape(y, (-1,))], axis=-1)

    def compute_output_spec(self, heat):
        return keras.KerasTensor((heat.shape[0], 2), "float32")
