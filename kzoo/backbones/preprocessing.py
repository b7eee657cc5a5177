"""The colours that a network was made for, of pictures in 0-255."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("kzoo")
class ChannelScale(keras.layers.Layer):
    """Exchanges, scales and shifts the channels: `y[..., c] = scale[c] * x[..., order[c]] + offset[c]`.

    Args:
        order: which channel comes first, second, third.
        scale: what each of these is multiplied by.
        offset: what is then added to it.
        **kwargs: as for every layer.
    """

    def __init__(self, order: Sequence[int], scale: Sequence[float], offset: Sequence[float], **kwargs):
        super().__init__(**kwargs)
        self.order, self.scale, self.offset = list(order), list(scale), list(offset)

    def call(self, images):
        images = tf.cast(images, self.compute_dtype)
        if self.order == list(reversed(range(len(self.order)))):
            images = tf.reverse(images, [-1])
        elif self.order != list(range(len(self.order))):
            images = tf.gather(images, self.order, axis=-1)
        return images * tf.constant(self.scale, images.dtype) + tf.constant(self.offset, images.dtype)

    def compute_output_shape(self, images_shape):
        return images_shape

    def get_config(self):
        return super().get_config() | {"order": self.order, "scale": self.scale, "offset": self.offset}


def preprocessing(preprocess_input: Callable[[np.ndarray], np.ndarray]) -> ChannelScale | None:
    """The layer that does what a function of `keras.applications` does, found out by trying it.

    Args:
        preprocess_input: pictures `[..., 3]` in 0-255 to what the network takes, pixel by pixel, each channel
            an affine function of one channel.

    Returns:
        The layer, which computes in float32; None where pictures stay as they are.

    Raises:
        ValueError: the function does something else.
    """

    def tried(pictures: np.ndarray) -> np.ndarray:
        return np.asarray(
            preprocess_input(pictures.astype("float32")), "float64"
        )  # a copy: some work in place

    black, *primaries = tried(255 * np.concatenate([np.zeros((1, 3)), np.eye(3)])[:, None, None])[:, 0, 0]
    matrix = (np.stack(primaries) - black) / 255  # [channel in, channel out]
    order = np.abs(matrix).argmax(axis=0)
    scale = matrix[order, range(3)]

    pictures = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3))
    if not np.allclose(pictures[..., order] * scale + black, tried(pictures), rtol=1e-5, atol=1e-5):
        raise ValueError(
            f"{preprocess_input.__module__}.preprocess_input is no affine map of single channels."
        )
    if order.tolist() == [0, 1, 2] and np.allclose(scale, 1) and not black.any():
        return None
    return ChannelScale(
        order.tolist(), scale.tolist(), black.tolist(), dtype="float32", name="backbone_preprocess"
    )
