"""Pictures mixed with other pictures of their batch, while training: MixUp and CutMix."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kzoo")
class MixPictures(keras.layers.Layer):
    """Mixes each picture with another one of the batch, and its class alike.

    MixUp (Zhang et al. 2018, equation 1) is a weighted mean of two pictures, CutMix (Yun et al. 2019,
    equations 1 and 2) puts a window of the one into the other. If both are asked for, each batch draws one of
    them. Only while training, and where the classes are given: else pictures come out as they are.

    Args:
        num_classes: how many there are.
        mixup: alpha of the Beta(alpha, alpha) that the share of a picture is drawn from; 0 is no MixUp.
        cutmix: the same for CutMix.
        **kwargs: `name`.

    Inputs: images `[B, H, W, 3]`; classes `[B]`, optional. Outputs: images, and the share of each class,
    float32 `[B, C]`: zeros where there are no classes.
    """

    def __init__(self, num_classes: int, mixup: float = 0.0, cutmix: float = 0.0, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.num_classes = num_classes
        self.mixup = mixup
        self.cutmix = cutmix
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images, classes=None, training=None):
        if classes is None:
            return images, tf.zeros((tf.shape(images)[0], self.num_classes))
        targets = tf.one_hot(classes, self.num_classes)
        if not training or not (self.mixup or self.cutmix):
            return images, targets
        count = tf.shape(images)[0]
        draw_seed, partner_seed, *seeds = tf.unstack(
            tf.random.stateless_uniform((5, 2), self._seed(), minval=None, maxval=None, dtype=tf.int32)
        )
        partner = tf.random.experimental.stateless_shuffle(tf.range(count), partner_seed)
        # Nobody is mixed with a picture of unknown class: the shares of the classes would not sum to 1.
        partner = tf.where(tf.gather(classes, partner) >= 0, partner, tf.range(count))

        def mixed_up():
            share = _beta(count, self.mixup, seeds[0])[:, None, None, None]
            return share * images + (1.0 - share) * tf.gather(images, partner), share[:, 0, 0]

        def cut_mixed():
            inside = _windows(tf.shape(images)[:3], _beta(count, self.cutmix, seeds[1]), seeds[2])
            share = 1.0 - tf.reduce_mean(tf.cast(inside, tf.float32), axis=[1, 2])
            return tf.where(inside[..., None], tf.gather(images, partner), images), share[:, None]

        if self.mixup and self.cutmix:
            toss = tf.random.stateless_uniform((), draw_seed)
            images, share = tf.cond(toss < 0.5, mixed_up, cut_mixed)
        else:
            images, share = mixed_up() if self.mixup else cut_mixed()
        return images, share * targets + (1.0 - share) * tf.gather(targets, partner)

    def _seed(self):
        return tf.cast(self.seed_generator.next(), tf.int32)

    def compute_output_spec(self, images, classes=None, training=None):
        shares = (images.shape[0], self.num_classes)
        return keras.KerasTensor(images.shape, "float32"), keras.KerasTensor(shares, "float32")

    def get_config(self):
        return super().get_config() | {
            "num_classes": self.num_classes,
            "mixup": self.mixup,
            "cutmix": self.cutmix,
        }


def _beta(count: tf.Tensor, alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """`[count]` draws from Beta(alpha, alpha): one of two draws from a Gamma, as a share of their sum."""
    first, second = tf.unstack(tf.random.stateless_gamma(tf.stack([2, count]), seed, alpha))
    total = first + second
    return tf.where(total > 0.0, first / tf.where(total > 0.0, total, 1.0), 0.5)


def _windows(shape: tf.Tensor, share: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A mask `[B, H, W]`, true in a window of 1 - share `[B]` of each picture, around a place drawn in it.

    What would lie outside the picture is cut off.
    """
    size = tf.cast(shape[1:], tf.float32)  # height and width
    middle = tf.random.stateless_uniform(tf.stack([shape[0], 2]), seed) * size  # [B, 2]
    half = 0.5 * tf.sqrt(1.0 - share)[:, None] * size
    rows, columns = (tf.range(size[axis]) + 0.5 for axis in (0, 1))
    within_rows = tf.abs(rows - middle[:, :1]) < half[:, :1]  # [B, H]
    within_columns = tf.abs(columns - middle[:, 1:]) < half[:, 1:]  # [B, W]
    return within_rows[:, :, None] & within_columns[:, None, :]
