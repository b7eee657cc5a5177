"""The feature pyramid network: every level strong and sharp (Lin et al. 2017, https://arxiv.org/abs/1612.03144)."""

from collections.abc import Sequence
from typing import Literal

import keras
import tensorflow as tf
from keras import layers

from kzoo.layers.batch_norm import BatchNorm

COARSEST_BACKBONE_LEVEL = 5
MOST_LEVELS = 5  # P3 to P7 of a one-stage detector, P2 to P6 of a two-stage one


@keras.saving.register_keras_serializable("kzoo")
class UpsampleAdd(layers.Layer):
    """Doubles a coarse map by repetition, cuts it to a fine one's size, and adds them.

    Inputs: coarse `[B, ceil(H / 2), ceil(W / 2), C]`, fine `[B, H, W, C]`. Output: `[B, H, W, C]`.
    """

    def call(self, coarse, fine):
        doubled = tf.repeat(tf.repeat(coarse, 2, axis=1), 2, axis=2)
        return fine + doubled[:, : tf.shape(fine)[1], : tf.shape(fine)[2]]

    def compute_output_shape(self, coarse_shape, fine_shape):
        return fine_shape


def backbone_levels(levels: Sequence[int]) -> list[int]:
    """Those levels of a pyramid that the backbone has features for."""
    return [level for level in levels if level <= COARSEST_BACKBONE_LEVEL]


def feature_pyramid(
    features: dict[int, keras.KerasTensor],
    levels: Sequence[int],
    channels: int,
    normalization: str | None = None,
    coarser: Literal["pyramid", "backbone", "pool"] = "pyramid",
) -> dict[int, keras.KerasTensor]:
    """The pyramid over a backbone's features.

    Up to P5 each level is the backbone's own plus the coarser level, doubled, smoothed by a 3x3 convolution.
    Where the pyramid ends below P5, the backbone's coarser features are not looked at.

    Args:
        features: C2 to C5, a dict from level to `[B, H / 2^l, W / 2^l, C_l]`.
        levels: of the pyramid, such as `range(2, 7)`, finest first.
        channels: of every level.
        normalization: None, or `"batch"` behind every convolution up to P5.
        coarser: what makes the levels beyond P5: strided convolutions, the first of them of P5 (`"pyramid"`)
            or of C5 (`"backbone"`, as in the RetinaNet paper); or `"pool"`, every second pixel of the level
            below, as Faster R-CNN with a pyramid has it (section 4.1).

    Returns:
        A dict from level to `[B, H / 2^l, W / 2^l, channels]`, finest first.
    """

    def convolution(x, size, name):
        x = layers.Conv2D(channels, size, padding="same", use_bias=normalization is None, name=name)(x)
        return BatchNorm(name=f"{name}_bn")(x) if normalization == "batch" else x

    pyramid, above = {}, None
    for level in reversed(backbone_levels(levels)):
        merged = convolution(features[level], 1, f"fpn_inner_{level}")
        if above is not None:
            merged = UpsampleAdd(name=f"fpn_merge_{level}")(above, merged)
        pyramid[level] = convolution(merged, 3, f"fpn_layer_{level}")
        above = merged
    pyramid = dict(sorted(pyramid.items()))
    for level in (level for level in levels if level > COARSEST_BACKBONE_LEVEL):
        below = pyramid[level - 1]
        if coarser == "pool":
            pyramid[level] = layers.MaxPooling2D(1, 2, name=f"fpn_pool_{level}")(below)
            continue
        if level > COARSEST_BACKBONE_LEVEL + 1:
            below = layers.ReLU(name=f"fpn_relu_{level}")(below)
        elif coarser == "backbone":
            below = features[COARSEST_BACKBONE_LEVEL]
        below = layers.ZeroPadding2D(1, name=f"fpn_pad_{level}")(below)
        pyramid[level] = layers.Conv2D(channels, 3, strides=2, name=f"fpn_p{level}")(below)
    return pyramid
