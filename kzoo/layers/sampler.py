"""The sampler of a spatial transformer: features at any places, differentiable in both."""

import tensorflow as tf


def bilinear_sample(features: tf.Tensor, points: tf.Tensor, pictures: tf.Tensor) -> tf.Tensor:
    """Features between pixels, by bilinear interpolation (Jaderberg et al. 2015, equation 5).

    What lies outside takes the value of the nearest pixel.

    Args:
        features: `[B, H, W, C]`.
        points: float32 `[P, h, w, 2]`, (y, x) in pixels of the features: the centre of row i and column j is
            (i, j).
        pictures: int32 `[P]`, the picture that each grid of points lies in.

    Returns:
        float32 `[P, h, w, C]`. Its gradients go to the features and to the points (equations 6 and 7).
    """
    height, width = tf.shape(features)[1], tf.shape(features)[2]
    limit = tf.cast(tf.stack([height, width]) - 1, tf.float32)
    points = tf.clip_by_value(points, 0.0, limit)
    # The pixel before, and not the last one: there is always one behind, and at a border the slope inwards.
    before = tf.clip_by_value(tf.floor(points), 0.0, tf.maximum(limit - 1.0, 0.0))
    share = points - tf.stop_gradient(before)  # [P, h, w, 2]
    y, x = tf.unstack(tf.cast(before, tf.int32), axis=-1)
    down, right = tf.minimum(y + 1, height - 1), tf.minimum(x + 1, width - 1)
    rows = tf.reshape(features, (-1, features.shape[-1]))  # [B * H * W, C]
    first = pictures[:, None, None] * height

    def at(y, x):
        return tf.cast(tf.gather(rows, (first + y) * width + x), tf.float32)

    share_y, share_x = share[..., :1], share[..., 1:]
    above = at(y, x) * (1.0 - share_x) + at(y, right) * share_x
    below = at(down, x) * (1.0 - share_x) + at(down, right) * share_x
    return above * (1.0 - share_y) + below * share_y


def affine_grid(theta: tf.Tensor, size: int) -> tf.Tensor:
    """Where a grid of samples lies after an affine transformation (Jaderberg et al. 2015, equation 1).

    Args:
        theta: float32 `[P, 2, 3]`, from (x, y, 1) in the sampled window to (x, y) in the picture; both reach
            from -1 to 1.
        size: samples along each side, in the middle of `size` equal parts.

    Returns:
        float32 `[P, size, size, 2]`, (y, x) from -1 to 1.
    """
    middle = (2.0 * tf.range(size, dtype=tf.float32) + 1.0) / size - 1.0
    x, y = tf.meshgrid(middle, middle)
    window = tf.stack([x, y, tf.ones_like(x)], axis=-1)  # [size, size, 3]
    return tf.reverse(tf.einsum("pij,hwj->phwi", theta, window), [-1])
