"""Batch normalisation by TensorFlow's fused kernel, of all replicas together."""

import keras
import tensorflow as tf

from kzoo import replicas

PIXELS = (0, 1, 2)  # the axes of [B, H, W, C] that statistics are taken over


@keras.saving.register_keras_serializable("kzoo")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation (Ioffe and Szegedy 2015) over the channels of `[B, H, W, C]` or `[B, C]`, fused.

    The weights and what they mean are those of `keras.layers.BatchNormalization`, which computes the same in
    half a dozen passes over the features. Two things differ. The moving variance takes a batch's unbiased
    estimate, N / (N - 1) times its variance for N pixels, as PyTorch's does and the fused kernel of Keras 2
    did; the outputs in training are normalised by the plain variance. And under a `tf.distribute.Strategy`
    with several replicas the batch is the global one: the replicas share their statistics, as PyTorch's
    SyncBatchNorm does, each counting by its pixels. `synchronized`, by which Keras's layer is asked for that,
    changes nothing here.

    Args:
        momentum: share of the old moving statistics that a step keeps; 0.9 is PyTorch's default of 0.1.
        epsilon: added to the variance.
        **kwargs: as for `keras.layers.BatchNormalization`; `trainable=False` freezes the statistics too.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)
        if self.axis not in (-1, 3) or not (self.center and self.scale):
            raise ValueError(
                f"axis={self.axis}, center={self.center}, scale={self.scale}: the fused kernel takes the "
                "last axis, center=True and scale=True."
            )

    def call(self, inputs, training=None, mask=None):
        if inputs.shape.rank == 2:
            return self.call(inputs[:, None, None], training)[:, 0, 0]
        scale = tf.convert_to_tensor(self.gamma, tf.float32)
        offset = tf.convert_to_tensor(self.beta, tf.float32)
        if not (training and self.trainable):
            statistics = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
            return _normalized(inputs, scale, offset, *statistics, self.epsilon)
        if replicas.together() is None:
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=scale,
                offset=offset,
                mean=tf.zeros((0,)),
                variance=tf.zeros((0,)),
                epsilon=self.epsilon,
                is_training=True,
            )
        else:
            outputs, mean, variance = normalized_together(inputs, scale, offset, self.epsilon)
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1.0 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1.0 - self.momentum))
        return outputs


class SharedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation, of all replicas together, each of which may have any number of pictures.

    Keras's own `synchronized=True` takes sums of squares, which float32 cannot hold beside a large mean, and
    would count the picture that stands in where a replica has none.
    """

    def _moments(self, inputs, mask):
        if replicas.together() is None or mask is not None:
            return super()._moments(inputs, mask)
        mean, variance, _ = replicas.moments_of_all(inputs, tuple(self._reduction_axes))
        return mean, variance


def normalized_together(
    features: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Features normalised by the statistics that the pixels of all replicas have.

    One exchange of numbers forwards and one backwards, each of a few for each channel.

    Args:
        features: `[B, H, W, C]`; B may differ between replicas, and be 0.
        scale: float32 `[C]`, gamma.
        offset: float32 `[C]`, beta.
        epsilon: added to the variance.

    Returns:
        The features, and the mean and the unbiased variance of all pixels, float32 `[C]` each, the same in
        all replicas. Gradients flow through the features alone.
    """
    weight = replicas.weight()

    @tf.custom_gradient
    def normalized(features, scale, offset):
        mean, variance, pixels = replicas.moments_of_all(tf.cast(features, tf.float32), PIXELS)
        outputs = _normalized(features, scale, offset, mean, variance, epsilon)

        def gradients(upstream, *_):
            # As of constant statistics: for scale and offset that is all, of this replica's pixels.
            direct, of_scale, of_offset, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=upstream,
                x=features,
                scale=scale,
                reserve_space_1=mean,
                reserve_space_2=variance,
                reserve_space_3=tf.zeros((0,)),
                epsilon=epsilon,
                is_training=False,
            )
            # The statistics move with every pixel of every replica.
            by_scale, by_offset = tf.unstack(replicas.sum_over_replicas(tf.stack([of_scale, of_offset])))
            sharpness = tf.math.rsqrt(variance + epsilon)
            slope = weight * scale * tf.square(sharpness) * by_scale / pixels
            level = weight * scale * sharpness * by_offset / pixels
            indirect = (tf.cast(features, tf.float32) - mean) * slope + level
            return direct - tf.cast(indirect, features.dtype), of_scale, of_offset

        unbiased = variance * pixels / tf.maximum(pixels - 1.0, 1.0)
        return (outputs, mean, unbiased), gradients

    return normalized(features, scale, offset)


def _normalized(features, scale, offset, mean, variance, epsilon):
    """Features `[B, H, W, C]` normalised by given statistics."""
    return tf.raw_ops.FusedBatchNormV3(
        x=features,
        scale=scale,
        offset=offset,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=False,
    )[0]
