"""The 2x2 up-convolution, by the kernel of a 1x1 convolution."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kzoo")
class UpConvolution(keras.layers.Conv2DTranspose):
    """A transposed convolution of 2x2 with a stride of 2: four numbers of each pixel, side by side.

    Weights and results are those of `keras.layers.Conv2DTranspose(filters, 2, 2)`. As its windows do not
    overlap, a 1x1 convolution with four times the channels does the same, which processors do several times
    as fast.

    Args:
        filters: channels that come out.
        **kwargs: as for `keras.layers.Conv2DTranspose`, but for kernel, stride and padding.

    Input: `[B, H, W, C]`. Output: `[B, 2 H, 2 W, filters]`.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, **kwargs | {"kernel_size": 2, "strides": 2})

    def call(self, inputs):
        kernel = tf.transpose(tf.convert_to_tensor(self.kernel), [3, 0, 1, 2])  # [C, 2, 2, filters]
        kernel = tf.reshape(kernel, (1, 1, kernel.shape[0], 4 * self.filters))
        x = tf.nn.depth_to_space(tf.nn.conv2d(inputs, kernel, 1, "VALID"), 2)
        if self.use_bias:
            x = x + tf.convert_to_tensor(self.bias)
        return self.activation(x)
