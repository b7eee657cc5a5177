"""The heads of the second stage: what is in a region, where exactly, and which of its pixels it takes."""

import keras
import tensorflow as tf
from keras import layers

from kzoo.layers.convolution import convolution
from kzoo.layers.up_convolution import UpConvolution

# Deltas of regions are smaller than those of anchors: torchvision's factors bring them to a similar scale.
REGION_DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def box_head(
    crops: keras.KerasTensor,
    *,
    num_classes: int,
    units: int,
    convolutions: int = 0,
    normalization: str | None = None,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Two fully connected layers (Lin et al. 2017, FPN, section 4.2), and two that answer.

    Or convolutions and one fully connected layer (Wu and He 2018, section 5.2).

    Args:
        crops: `[B, R, size, size, C]`.
        num_classes: without the background.
        units: of the fully connected layers.
        convolutions: 3x3, with as many channels as come in, in place of the first of them.
        normalization: of the convolutions, None or `"batch"`.

    Returns:
        Logits `[B, R, 1 + num_classes]`, the background first, and deltas `[B, R, num_classes, 4]`.
    """
    size, _, channels = crops.shape[2:]
    x = crops
    if convolutions:
        x = MergeRegions(name="box_head_merge")(x)  # [B * R, size, size, C]
        for i in range(convolutions):
            x = convolution(x, channels, 3, name="box_head", index=i, normalization=normalization)
        x = SplitRegions(name="box_head_split")(x, crops)
    x = layers.Reshape((-1, size * size * channels), name="box_head_flatten")(x)
    for i in (6,) if convolutions else (6, 7):
        x = layers.Dense(units, activation="relu", name=f"box_head_fc{i}")(x)
    logits = layers.Dense(1 + num_classes, kernel_initializer=_normal(0.01), name="box_head_classes")(x)
    deltas = layers.Dense(4 * num_classes, kernel_initializer=_normal(0.001), name="box_head_deltas")(x)
    return logits, layers.Reshape((-1, num_classes, 4), name="box_head_deltas_by_class")(deltas)


@keras.saving.register_keras_serializable("kzoo")
class MergeRegions(layers.Layer):
    """The regions of all pictures one after the other: `[B, R, ...]` becomes `[B * R, ...]`."""

    def call(self, crops):
        return tf.reshape(crops, tf.concat([[-1], tf.shape(crops)[2:]], axis=0))

    def compute_output_spec(self, crops):
        return keras.KerasTensor((None, *crops.shape[2:]), crops.dtype)


@keras.saving.register_keras_serializable("kzoo")
class SplitRegions(layers.Layer):
    """Back from `[B * R, ...]`, to the pictures and regions of `[B, R, ...]`."""

    def call(self, x, crops):
        return tf.reshape(x, tf.concat([tf.shape(crops)[:2], tf.shape(x)[1:]], axis=0))

    def compute_output_spec(self, x, crops):
        return keras.KerasTensor((*crops.shape[:2], *x.shape[1:]), x.dtype)


def mask_head(
    crops: keras.KerasTensor, *, num_classes: int, channels: int, normalization: str | None
) -> keras.KerasTensor:
    """Four 3x3 convolutions, a transposed one that doubles the size, and one that answers.

    It is the head of He et al. 2017, figure 4, right.

    Args:
        crops: `[P, size, size, C]`.
        num_classes: without the background.
        channels: of the convolutions.
        normalization: None as in the paper, or `"batch"`.

    Returns:
        Logits `[P, 2 * size, 2 * size, num_classes]`.
    """
    x = crops
    for i in range(4):
        x = convolution(x, channels, 3, name="mask_head", index=i, normalization=normalization)
    x = UpConvolution(channels, activation="relu", kernel_initializer="he_normal", name="mask_head_up")(x)
    return layers.Conv2D(num_classes, 1, kernel_initializer="he_normal", name="mask_head_out")(x)


def _normal(stddev: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)
