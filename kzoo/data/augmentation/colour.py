"""Random changes of a picture's colours, all in one matrix."""

import math

import numpy as np
import tensorflow as tf

# Any colour is a grey (the mean of its channels) and a difference to it. Hue turns the difference about
# the grey axis, saturation makes it longer or shorter. So there are three basis matrices: grey, difference,
# turned difference.
_GREY = np.full([3, 3], 1 / 3)
_TURNED = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
_BASIS = np.stack([_GREY, np.eye(3) - _GREY, _TURNED]).reshape(3, 9).astype(np.float32)


def recolour(
    pixels: tf.Tensor, draws: tf.Tensor, brightness: float, contrast: float, saturation: float, hue: float
) -> tf.Tensor:
    """Brightness, contrast, saturation and hue changed; all are linear, so one matrix does.

    Args:
        pixels: float32 [H, W, 3].
        draws: [4] from 0 to 1: how far, from the one end of each range to the other.
        brightness: largest shift of all values, as a share of 255.
        contrast: largest change of the factor by which values differ from mid grey.
        saturation: largest change of the factor by which colours differ from grey.
        hue: largest turn of the colours, as a share of the full circle.

    Returns:
        uint8 [H, W, 3].
    """
    strengths = [brightness * 255, contrast, saturation, hue * 2 * math.pi]
    brightness, contrast, saturation, hue = tf.unstack((2 * draws - 1) * strengths)
    contrast, saturation = 1 + contrast, 1 + saturation
    weights = contrast * tf.stack([1.0, saturation * tf.cos(hue), saturation * tf.sin(hue)])
    matrix = tf.reshape(tf.linalg.matvec(_BASIS, weights, transpose_a=True), [3, 3])
    bias = brightness + (1 - contrast) * 127.5 + 0.5  # a half, because the cast cuts the fraction off
    recoloured = tf.matmul(tf.reshape(pixels, [-1, 3]), matrix) + bias
    return tf.cast(tf.reshape(tf.clip_by_value(recoloured, 0, 255), tf.shape(pixels)), tf.uint8)
