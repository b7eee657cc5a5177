"""A convolution with all that usually stands behind it."""

import keras
from keras import layers

from kzoo.layers.batch_norm import BatchNorm


def convolution(
    x: keras.KerasTensor,
    channels: int,
    size: int,
    *,
    name: str,
    index: int,
    normalization: str | None,
    momentum: float = 0.9,
    padding: str = "same",
) -> keras.KerasTensor:
    """Convolution, batch normalisation if it is asked for, and ReLU, begun as He et al. 2015 begin them.

    Args:
        x: `[B, H, W, C]`.
        channels: that come out.
        size: of the kernel.
        name: what the names of the layers begin with: `name_conv_index`, `name_bn_index`, `name_relu_index`.
        index: which of several it is.
        normalization: None or `"batch"`.
        momentum: share of the old statistics that a step keeps.
        padding: `"same"` or `"valid"`.
    """
    x = layers.Conv2D(
        channels,
        size,
        padding=padding,
        use_bias=normalization is None,
        kernel_initializer="he_normal",
        name=f"{name}_conv_{index}",
    )(x)
    if normalization == "batch":
        x = BatchNorm(momentum=momentum, name=f"{name}_bn_{index}")(x)
    return layers.ReLU(name=f"{name}_relu_{index}")(x)
