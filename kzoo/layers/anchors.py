"""Anchors: the boxes that a detector refines, a few at each position of each feature map."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

# Three sizes an octave (Lin et al. 2017, section 4), cut to whole pixels as torchvision cuts them.
OCTAVE_SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))


def anchors_of_cell(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """The anchors around the origin, a ratio after the other, each in all sizes.

    Args:
        sizes: sides in pixels of the square with the anchor's area.
        ratios: height / width.

    Returns:
        float32 `[len(ratios) * len(sizes), 4]`, xyxy, rounded to whole pixels like torchvision's
        `AnchorGenerator`.
    """
    stretch = np.sqrt(np.asarray(ratios, np.float32))
    heights = np.outer(stretch, np.asarray(sizes, np.float32)).ravel()
    widths = np.outer(1 / stretch, np.asarray(sizes, np.float32)).ravel()
    return np.round(np.stack([-widths, -heights, widths, heights], axis=-1) / 2).astype(np.float32)


@keras.saving.register_keras_serializable("kzoo")
class Anchors(keras.layers.Layer):
    """The anchors of every level of a pyramid.

    The anchor of row i and column j is centred at pixel (j * stride, i * stride): where a stack of
    symmetrically padded convolutions looks. The stride of a level is the finest level's extent over the
    level's own rows or columns, in whole pixels, as in torchvision: 2^l where that divides the extent, and a
    little less where it does not, so that the anchors are spread over the picture.

    Args:
        sizes: for each level, finest first, the sides in pixels of its anchors.
        ratios: height / width, the same on every level.

    Raises:
        ValueError: an anchor has no area once it is rounded to whole pixels.

    Input: the pyramid, a dict from level to `[B, H_l, W_l, C]`. Output: a dict from level to float32
    `[A_l, 4]`, position after position (row by row), and at each the ratios, each in all sizes.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float], **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)  # only the shapes of the features are looked at
        self.sizes = [list(level) for level in sizes]
        self.ratios = list(ratios)
        for level in self.sizes:
            if not np.all(anchors_of_cell(level, self.ratios)):  # an anchor without area has no deltas
                raise ValueError(
                    f"anchors: sizes {level} with ratios {self.ratios} make a side of 0 pixels, rounded to "
                    "whole pixels; larger anchor sizes are expected."
                )

    @property
    def per_position(self) -> int:
        """How many anchors a position has."""
        return len(self.sizes[0]) * len(self.ratios)

    def call(self, pyramid):
        anchors = {}
        finest = next(iter(pyramid))
        extent = 2 ** int(finest) * tf.shape(pyramid[finest])[1:3]
        for sizes, (level, feature) in zip(self.sizes, pyramid.items(), strict=True):
            height, width = tf.unstack(tf.shape(feature)[1:3])
            row_stride, column_stride = tf.unstack(extent // tf.maximum(tf.shape(feature)[1:3], 1))
            x, y = tf.meshgrid(tf.range(width) * column_stride, tf.range(height) * row_stride)
            centre = tf.cast(tf.stack([x, y, x, y], axis=-1), tf.float32)  # [H_l, W_l, 4]
            anchors[level] = tf.reshape(centre[:, :, None, :] + anchors_of_cell(sizes, self.ratios), (-1, 4))
        return anchors

    def compute_output_spec(self, pyramid):
        def count(feature):
            height, width = feature.shape[1:3]
            return height * width * self.per_position if height and width else None

        return {
            level: keras.KerasTensor((count(feature), 4), "float32") for level, feature in pyramid.items()
        }

    def get_config(self):
        return super().get_config() | {"sizes": self.sizes, "ratios": self.ratios}
