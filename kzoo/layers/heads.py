"""Convolutional heads: one small network that looks at every level of a pyramid."""

import math

import keras
from keras import layers

from kzoo.layers.batch_norm import BatchNorm

PRIOR_PROBABILITY = 0.01
GROUPS = 32  # of channels, that are normalised together (Wu and He 2018, section 4)


def prior_bias(probability: float = PRIOR_PROBABILITY) -> keras.initializers.Initializer:
    """The bias by which every anchor starts at a probability of an object (Lin et al. 2017, section 4.1)."""
    return keras.initializers.Constant(-math.log((1 - probability) / probability))


def tower(
    pyramid: dict[int, keras.KerasTensor], *, depth: int, normalization: str | None, name: str
) -> dict[int, keras.KerasTensor]:
    """Convolutions that move over every level of a pyramid.

    `depth` 3x3 convolutions with ReLU, shared by all levels. Batch normalisation is each level's own, since
    statistics differ from level to level; group normalisation (Wu and He 2018) knows none, and is shared.

    Args:
        pyramid: dict from level to `[B, H_l, W_l, C]`.
        depth: convolutions, at least 0.
        normalization: None, `"batch"` or `"group"`.
        name: what the layers' names begin with.

    Returns:
        The pyramid as it was, in shape.
    """
    channels = next(iter(pyramid.values())).shape[-1]
    # Without normalisation the towers start as in the paper; with it the scale does not matter, He's is safe.
    initializer = _normal() if normalization is None else "he_normal"
    for i in range(depth):
        convolution = layers.Conv2D(
            channels,
            3,
            padding="same",
            use_bias=normalization is None,
            kernel_initializer=initializer,
            name=f"{name}_conv_{i}",
        )
        if normalization == "group":
            group_norm = layers.GroupNormalization(GROUPS, epsilon=1e-5, name=f"{name}_gn_{i}")
        seen = {}
        for level, x in pyramid.items():
            x = convolution(x)
            if normalization == "batch":
                x = BatchNorm(name=f"{name}_bn_{i}_level_{level}")(x)
            elif normalization == "group":
                x = group_norm(x)
            seen[level] = layers.ReLU(name=f"{name}_relu_{i}_level_{level}")(x)
        pyramid = seen
    return pyramid


def answers_of_anchors(
    pyramid: dict[int, keras.KerasTensor],
    *,
    outputs: int,
    per_position: int,
    size: int,
    name: str,
    bias_initializer: str | keras.initializers.Initializer = "zeros",
) -> keras.KerasTensor:
    """What one last convolution, the same for all levels, says about every anchor of a pyramid.

    Args:
        pyramid: dict from level to `[B, H_l, W_l, C]`.
        outputs: numbers an anchor.
        per_position: anchors a position.
        size: of the convolution's kernel, 3 or 1.
        name: what the layers' names begin with.
        bias_initializer: of the convolution.

    Returns:
        `[B, A, outputs]`, the levels one after the other.
    """
    last = layers.Conv2D(
        per_position * outputs,
        size,
        padding="same",
        kernel_initializer=_normal(),
        bias_initializer=bias_initializer,
        name=f"{name}_out",
    )
    answers = [
        layers.Reshape((-1, outputs), name=f"{name}_level_{level}")(last(x))  # [B, A_l, outputs]
        for level, x in pyramid.items()
    ]
    return layers.Concatenate(axis=1, name=f"{name}_levels")(answers) if len(answers) > 1 else answers[0]


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
    """A one-stage detector's head: a `tower` and behind it `answers_of_anchors`, which tell the arguments."""
    return answers_of_anchors(
        tower(pyramid, depth=depth, normalization=normalization, name=name),
        outputs=outputs,
        per_position=per_position,
        size=3,
        name=name,
        bias_initializer=bias_initializer,
    )


def _normal() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.01)
