"""Residual networks (He et al. 2016, https://arxiv.org/abs/1512.03385), layer for layer torchvision's.

The 3x3 convolution of a bottleneck has its stride ("v1.5"), the padding is symmetrical, and the layers bear
torchvision's names with `_` for `.`, so that published weights fit by rule.
"""

from collections.abc import Callable, Sequence

import keras
from keras import layers

from kzoo.layers.batch_norm import BatchNorm

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of RGB in 0-255
IMAGENET_STD = (58.395, 57.12, 57.375)


def convolution(
    x: keras.KerasTensor,
    channels: int,
    size: int,
    stride: int = 1,
    *,
    name: str,
    bn: str,
    frozen: bool,
    relu: bool = True,
) -> keras.KerasTensor:
    """Convolution, normalisation and, unless told otherwise, ReLU; padded alike on all sides."""
    if stride > 1 and size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        channels,
        size,
        strides=stride,
        padding="valid" if stride > 1 else "same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=name,
    )(x)
    x = BatchNorm(trainable=not frozen, name=bn)(x)
    return layers.ReLU(name=f"{bn}_relu")(x) if relu else x


def basic_block(
    x: keras.KerasTensor, channels: int, stride: int, *, name: str, frozen: bool
) -> keras.KerasTensor:
    """Two 3x3 convolutions around a shortcut (figure 5, left)."""
    shortcut = _shortcut(x, channels, stride, name=name, frozen=frozen)
    x = convolution(x, channels, 3, stride, name=f"{name}_conv1", bn=f"{name}_bn1", frozen=frozen)
    x = convolution(x, channels, 3, name=f"{name}_conv2", bn=f"{name}_bn2", frozen=frozen, relu=False)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))


def bottleneck(
    x: keras.KerasTensor, channels: int, stride: int, *, name: str, frozen: bool
) -> keras.KerasTensor:
    """1x1, 3x3 and 1x1 convolutions around a shortcut (figure 5, right); four times the channels come out."""
    shortcut = _shortcut(x, 4 * channels, stride, name=name, frozen=frozen)
    x = convolution(x, channels, 1, name=f"{name}_conv1", bn=f"{name}_bn1", frozen=frozen)
    x = convolution(x, channels, 3, stride, name=f"{name}_conv2", bn=f"{name}_bn2", frozen=frozen)
    x = convolution(x, 4 * channels, 1, name=f"{name}_conv3", bn=f"{name}_bn3", frozen=frozen, relu=False)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))


def _shortcut(x, channels: int, stride: int, *, name: str, frozen: bool):
    if stride == 1 and x.shape[-1] == channels:
        return x
    name = f"{name}_downsample"
    return convolution(x, channels, 1, stride, name=f"{name}_0", bn=f"{name}_1", frozen=frozen, relu=False)


def resnet(
    images: keras.KerasTensor,
    *,
    block: Callable[..., keras.KerasTensor],
    blocks: Sequence[int],
    frozen: bool,
) -> dict[int, keras.KerasTensor]:
    """A ResNet's features.

    Args:
        images: `[B, H, W, 3]`, RGB, 0-255.
        block: `basic_block` or `bottleneck`.
        blocks: how many, for each of the four stages.
        frozen: normalise by the stored statistics, which then do not learn.

    Returns:
        C1 to C5: a dict from level l to `[B, H / 2^l, W / 2^l, C]`.
    """
    x = normalize(images)
    x = convolution(x, 64, 7, 2, name="backbone_conv1", bn="backbone_bn1", frozen=frozen)
    features = {1: x}
    x = layers.ZeroPadding2D(1, name="backbone_maxpool_pad")(x)  # zeros never win: what comes is not negative
    x = layers.MaxPooling2D(3, 2, name="backbone_maxpool")(x)
    for stage, count in enumerate(blocks, start=1):
        for i in range(count):
            stride = 2 if stage > 1 and i == 0 else 1
            x = block(x, 32 * 2**stage, stride, name=f"backbone_layer{stage}_{i}", frozen=frozen)
        features[stage + 1] = x
    return features


def compact(images: keras.KerasTensor, *, frozen: bool) -> dict[int, keras.KerasTensor]:
    """The house's own small residual network, for training from nothing on a few cores.

    Two strided 3x3 convolutions take the place of the wide stem, and three stages of two basic blocks that of
    four: most of its arithmetic is where a processor does it fast, in channels rather than pixels.

    Args:
        images: `[B, H, W, 3]`, RGB, 0-255.
        frozen: as for `resnet`.

    Returns:
        C1 to C5: a dict from level l to `[B, H / 2^l, W / 2^l, C]`.
    """
    x = normalize(images)
    x = convolution(x, 16, 3, 2, name="backbone_conv1", bn="backbone_bn1", frozen=frozen)
    features = {1: x}
    x = convolution(x, 32, 3, 2, name="backbone_conv2", bn="backbone_bn2", frozen=frozen)
    features[2] = x
    for level in (3, 4, 5):
        for i in range(2):
            stride = 2 if i == 0 else 1
            x = basic_block(x, 8 * 2**level, stride, name=f"backbone_layer{level - 2}_{i}", frozen=frozen)
        features[level] = x
    return features


def normalize(images: keras.KerasTensor) -> keras.KerasTensor:
    """Pictures in 0-255 to zero mean and unit variance, by ImageNet's statistics and in float32."""
    variance = [std**2 for std in IMAGENET_STD]
    return layers.Normalization(
        mean=list(IMAGENET_MEAN), variance=variance, dtype="float32", name="backbone_normalize"
    )(images)
