"""A plain convolutional network: pictures into numbers."""

from collections.abc import Sequence

import keras
from keras import layers

from kzoo.layers.batch_norm import BatchNorm
from kzoo.layers.convolution import convolution

KERNELS = (6, 5, 2, 3)


def cnn(
    x: keras.KerasTensor,
    channels: Sequence[int] = (32, 64, 128, 128),
    units: int = 64,
    dropout: float = 0.25,
    normalization: str | None = None,
) -> keras.KerasTensor:
    """Four convolutions and a fully connected layer, as galaxies are classified by.

    The network is that of Dominguez-Sanchez et al. 2018 (https://arxiv.org/abs/1711.05744, section 3.1), for
    pictures of some 70 pixels: convolutions of 6x6, 5x5, 2x2 and 3x3, halved behind the second and the third.

    Args:
        x: `[B, H, W, C]` of known size, of values around 0.
        channels: of the four convolutions.
        units: of the fully connected layer.
        dropout: share of the values that are left out while training: so much behind each convolution, twice
            as much behind the first one and at the end.
        normalization: None as in the paper, or `"batch"` behind each layer.

    Returns:
        `[B, units]`.
    """
    for i, (size, count) in enumerate(zip(KERNELS, channels, strict=True)):
        x = convolution(x, count, size, name="cnn", index=i, normalization=normalization)
        if i in (1, 2):
            x = layers.MaxPooling2D(2, name=f"cnn_pool_{i}")(x)
        x = layers.Dropout(dropout if i else 2 * dropout, name=f"cnn_dropout_{i}")(x)
    x = layers.Flatten(name="cnn_flatten")(x)
    x = layers.Dense(units, use_bias=normalization is None, kernel_initializer="he_normal", name="cnn_dense")(
        x
    )
    if normalization == "batch":
        x = BatchNorm(name="cnn_dense_bn")(x)
    x = layers.ReLU(name="cnn_dense_relu")(x)
    return layers.Dropout(2 * dropout, name="cnn_dropout_dense")(x)
