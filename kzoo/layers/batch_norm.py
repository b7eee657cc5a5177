"""Batch normalisation by TensorFlow's fused kernel."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kzoo")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation (Ioffe and Szegedy 2015) over the channels of `[B, H, W, C]`, in one fused kernel.

    The weights and what they mean are those of `keras.layers.BatchNormalization`, which computes the same in
    half a dozen passes over the features. One thing differs: the moving variance takes a batch's unbiased
    estimate, N / (N - 1) times its variance for N pixels, as PyTorch's does and the fused kernel of Keras 2
    did; the outputs in training are normalised by the plain variance. With `synchronized=True` the statistics
    are shared by all replicas and Keras's own computation is used.

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
        if self.synchronized:
            return super().call(inputs, training=training, mask=mask)
        learning = bool(training) and self.trainable
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma, tf.float32),
            offset=tf.convert_to_tensor(self.beta, tf.float32),
            mean=tf.zeros((0,)) if learning else tf.convert_to_tensor(self.moving_mean),
            variance=tf.zeros((0,)) if learning else tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1.0 - self.momentum))
            self.moving_variance.assign(
                self.moving_variance * self.momentum + variance * (1.0 - self.momentum)
            )
        return outputs
