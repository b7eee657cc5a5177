"""Crops: what the pyramid shows within each region, at one size for all."""

import math

import keras
import tensorflow as tf

from kzoo.checks import check_choice
from kzoo.layers import boxes as box
from kzoo.layers.sampler import affine_grid, bilinear_sample

ROI = ("align", "spatial_transformer")
SAMPLING_RATIO = 2  # samples of each part of a region along each side

# A region of 224 pixels is looked at on level 4, one of half the side on level 3 (Lin et al. 2017, FPN,
# equation 1).
CANONICAL_SIDE = 224.0
CANONICAL_LEVEL = 4


def levels_of_regions(regions: tf.Tensor, finest: int, coarsest: int) -> tf.Tensor:
    """The level int32 `[P]` on which each region `[P, 4]` is looked at (Lin et al. 2017, FPN, equation 1)."""
    side = tf.sqrt(tf.maximum(box.area(regions), 1e-6))
    # The summand is torchvision's, against a side of exactly 224 falling below by rounding.
    level = CANONICAL_LEVEL + tf.math.log(side / CANONICAL_SIDE) / math.log(2.0) + 1e-6
    return tf.clip_by_value(tf.cast(tf.floor(level), tf.int32), finest, coarsest)


def align(features: tf.Tensor, regions: tf.Tensor, pictures: tf.Tensor, samples: int) -> tf.Tensor:
    """Bilinear samples of fixed regions, by TensorFlow's own kernel.

    Args:
        features: `[B, H, W, C]`.
        regions: float32 `[P, 4]`, xyxy in pixels of the features. They start between (0, 0) and (W, H).
        pictures: int32 `[P]`, which of the features each region lies in.
        samples: along each side, in the middle of as many equal parts.

    Returns:
        float32 `[P, samples, samples, C]`. Between the last pixel and the border the last pixel counts on,
        and beyond there is nothing.
    """
    # The kernel has a gradient to the boxes, RoI Align has none.
    features, regions = tf.cast(features, tf.float32), tf.stop_gradient(regions)
    # One row and one column more, so that there is something to interpolate with up to the very border.
    # (Not by tf.pad: the symmetric padding of an empty batch, which a replica may get, has no gradient.)
    features = tf.concat([features, features[:, -1:]], axis=1)
    features = tf.concat([features, features[:, :, -1:]], axis=2)
    top_left, bottom_right = regions[:, :2], regions[:, 2:]
    half_step = 0.5 / samples * (bottom_right - top_left)
    window = tf.reverse(tf.stack([top_left + half_step, bottom_right - half_step], axis=1), [-1])  # [P, 2, 2]
    window = tf.reshape(window * _reciprocal(tf.shape(features)[1:3] - 1), (-1, 4))
    return tf.image.crop_and_resize(features, window, pictures, (samples, samples))


def transform(features: tf.Tensor, regions: tf.Tensor, pictures: tf.Tensor, samples: int) -> tf.Tensor:
    """The same as `align`, by a spatial transformer: gradients also flow to the regions.

    The affine map of each region is made of its own coordinates: a shift and a scale for each axis (Jaderberg
    et al. 2015, equation 1; equation 2 has one scale for both).
    """
    size = tf.shape(features)[1:3]
    share = _reciprocal(tf.gather(size, [1, 0]))  # of the features, that a pixel is
    top_left, bottom_right = regions[:, :2] * share, regions[:, 2:] * share
    scale_x, scale_y = tf.unstack(bottom_right - top_left, axis=1)
    shift_x, shift_y = tf.unstack(bottom_right + top_left - 1.0, axis=1)
    zero = tf.zeros_like(scale_x)
    theta = tf.stack([scale_x, zero, shift_x, zero, scale_y, shift_y], axis=1)
    grid = affine_grid(tf.reshape(theta, (-1, 2, 3)), samples)  # [P, samples, samples, 2]
    size = tf.cast(size, tf.float32)
    points = 0.5 * (grid + 1.0) * size
    inside = tf.reduce_all(points <= size, axis=-1, keepdims=True)
    return tf.where(inside, bilinear_sample(features, points, pictures), 0.0)


def _reciprocal(size: tf.Tensor) -> tf.Tensor:
    """A factor in place of a divisor.

    TensorFlow makes one of a constant divisor, with another rounding: a graph that knows its shapes and one
    that does not, as a model's and its export's, would differ by a bit, which half precision makes visible.
    """
    return 1.0 / tf.cast(size, tf.float32)


def _at_least_a_pixel(regions: tf.Tensor) -> tf.Tensor:
    """Regions in pixels of the features, none of them less than one pixel wide and high (torchvision)."""
    top_left, bottom_right = regions[:, :2], regions[:, 2:]
    return tf.concat([top_left, tf.maximum(bottom_right, top_left + 1.0)], axis=1)


@keras.saving.register_keras_serializable("kzoo")
class CropRegions(keras.layers.Layer):
    """Crops regions from the levels that suit their sizes: RoI Align (He et al. 2017, section 3).

    Each part of a region is the mean of 2 x 2 bilinear samples. Coordinates are those of torchvision's
    detectors: pixel x of the picture is x / stride on a level, without an offset.

    Args:
        size: parts along each side of a crop.
        roi: `"align"`, where the regions are constants, or `"spatial_transformer"`: the same crops, from
            which gradients flow to the regions, too.
        **kwargs: `name`.

    Inputs: pyramid, a dict from level to `[B, H_l, W_l, C]`; regions float32 `[B, R, 4]`, xyxy in pixels of
    the picture and within it; or `[P, 4]` and, for each of them, the picture int32 `[P]`. Output: `[B, R,
    size, size, C]` or `[P, size, size, C]`.
    """

    def __init__(self, size: int, roi: str = "align", **kwargs):
        check_choice("roi", roi, ROI)
        super().__init__(autocast=False, **kwargs)  # regions stay in float32
        self.supports_jit = False  # how many regions a level has is known only as it runs
        self.size = size
        self.roi = roi

    def call(self, pyramid, regions, pictures=None):
        batch = None
        if pictures is None:
            batch = tf.shape(regions)[:2]
            pictures = tf.repeat(tf.range(batch[0]), batch[1])
            regions = tf.reshape(regions, (-1, 4))
        crop = align if self.roi == "align" else transform
        levels = [int(level) for level in pyramid]
        level_of_region = levels_of_regions(regions, min(levels), max(levels))
        places, crops = [], []
        for level, features in pyramid.items():
            place = tf.where(level_of_region == int(level))[:, 0]
            samples = crop(
                features,
                _at_least_a_pixel(tf.gather(regions, place) / 2.0 ** int(level)),
                tf.gather(pictures, place),
                SAMPLING_RATIO * self.size,
            )
            places.append(tf.cast(place, tf.int32))
            crops.append(tf.nn.avg_pool2d(samples, SAMPLING_RATIO, SAMPLING_RATIO, "VALID"))
        cropped = tf.cast(tf.dynamic_stitch(places, crops), self.compute_dtype)
        if batch is None:
            return cropped
        return tf.reshape(cropped, tf.concat([batch, (self.size, self.size, cropped.shape[-1])], axis=0))

    def compute_output_spec(self, pyramid, regions, pictures=None):
        channels = next(iter(pyramid.values())).shape[-1]
        shape = (*regions.shape[:-1], self.size, self.size, channels)
        return keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"size": self.size, "roi": self.roi}
