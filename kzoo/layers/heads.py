"""Convolutional heads: one small network that looks at every level of a pyramid."""

import math

import keras
from keras import layers

from kzoo.layers.batch_norm import BatchNorm

PRIOR_PROBABILITY = 0.01


def prior_bias(probability: float = PRIOR_PROBABILITY) -> keras.initializers.Initializer:
    """The bias by which every anchor starts at a probability of an object (Lin et al. 2017, section 4.1)."""
    return keras.initializers.Constant(-math.log((1 - probability) / probability))


def dense_head(
    pyramid: dict[int, keras.KerasTensor],
    *,
    outputs: int,
    per_position: int,
    depth: int,
    normalization: str | None,
    name: str,
    bias_initializer: str | keras.initializers.Initializer = "zeros",
) -> keras.KerasTensor:
    """Answers for every anchor of a pyramid.

    `depth` 3x3 convolutions with ReLU and one that answers; the convolutions are shared by all levels, their
    normalisation is each level's own, since statistics differ from level to level.

    Args:
        pyramid: dict from level to `[B, H_l, W_l, C]`.
        outputs: numbers an anchor.
        per_position: anchors a position.
        depth: convolutions before the last, at least 0.
        normalization: None or `"batch"`.
        name: what the layers' names begin with.
        bias_initializer: of the last convolution.

    Returns:
        `[B, A, outputs]`, the levels one after the other.
    """
    channels = next(iter(pyramid.values())).shape[-1]
    # Without normalisation the towers start as in the paper; with it the scale does not matter, He's is safe.
    initializer = keras.initializers.RandomNormal(stddev=0.01) if normalization is None else "he_normal"
    tower = [
        layers.Conv2D(
            channels,
            3,
            padding="same",
            use_bias=normalization is None,
            kernel_initializer=initializer,
            name=f"{name}_conv_{i}",
        )
        for i in range(depth)
    ]
    last = layers.Conv2D(
        per_position * outputs,
        3,
        padding="same",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=bias_initializer,
        name=f"{name}_out",
    )
    answers = []
    for level, x in pyramid.items():
        for i, convolution in enumerate(tower):
            x = convolution(x)
            if normalization == "batch":
                x = BatchNorm(name=f"{name}_bn_{i}_level_{level}")(x)
            x = layers.ReLU(name=f"{name}_relu_{i}_level_{level}")(x)
        answers.append(
            layers.Reshape((-1, outputs), name=f"{name}_level_{level}")(last(x))
        )  # [B, A_l, outputs]
    return layers.Concatenate(axis=1, name=f"{name}_levels")(answers) if len(answers) > 1 else answers[0]
