"""Sampling: which anchors and which proposals a two-stage detector learns from."""

import keras
import tensorflow as tf

from kzoo.layers.matching import BACKGROUND, IGNORED, match

# A proposal belongs to the object that it overlaps by half or more; all others are background (Girshick 2015,
# section 2.3, without its lower bound, as torchvision has it).
REGION_IOU = 0.5


def sample(
    matches: tf.Tensor, count: int, positive_share: float, random: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws positives up to a share, and fills up with background (Ren et al. 2015, section 3.1.3).

    Args:
        matches: int32 `[B, A]` as `kzoo.layers.matching.match` gives them.
        count: how many are drawn in each picture.
        positive_share: the part of them that positives may be at most, 0 to 1.
        random: float32 `[B, A]` in 0-1; the highest are drawn.

    Returns:
        Indices int32 `[B, count]` and whether they were drawn, bool `[B, count]`: positives first, then
        background, then padding where there are too few of both.
    """
    candidates = tf.shape(matches)[1]

    def highest(eligible: tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.math.top_k(tf.where(eligible, random, -1.0), tf.minimum(most, candidates))

    positive_rank, positives = highest(matches >= 0, int(count * positive_share))
    background_rank, background = highest(matches == BACKGROUND, count)
    rank = tf.concat([tf.where(positive_rank < 0.0, -1.0, positive_rank + 1.0), background_rank], axis=1)
    indices = tf.concat([positives, background], axis=1)
    missing = tf.maximum(count - tf.shape(rank)[1], 0)
    rank = tf.pad(rank, [[0, 0], [0, missing]], constant_values=-1.0)
    indices = tf.pad(indices, [[0, 0], [0, missing]])
    rank, place = tf.math.top_k(rank, count)
    return tf.gather(indices, place, batch_dims=1), rank >= 0.0


class _Sampler(keras.layers.Layer):
    """A layer that draws at random: anew in each training step, always the same when it is only measured.

    What is drawn in a picture depends on its objects and on the step, and not on its place in the batch: it
    is the same on one device and on the replica that the picture happens to come to.
    """

    def __init__(self, count: int, positive_share: float, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.supports_jit = False  # how many are drawn is known only as it runs
        self.count = count
        self.positive_share = positive_share
        self.seed_generator = keras.random.SeedGenerator()

    def drawn(self, matches: tf.Tensor, objects: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """A `sample` of matches `[B, A]` in pictures whose objects are told by int64 `[B, ...]`."""
        seed = tf.cast(self.seed_generator.next(), tf.int32) if training else tf.zeros(2, tf.int32)

        def of_one_picture(told):
            # A sum that padding leaves alone, as it is zeros; and numbers that begin alike, however many.
            places = tf.reshape(tf.range(1, tf.size(told, tf.int64) + 1), tf.shape(told))
            own_seed = tf.random.experimental.stateless_fold_in(seed, tf.reduce_sum(told * places))
            return tf.random.stateless_uniform(tf.shape(matches)[1:], own_seed)

        # One more: map_fn cannot stack no results, and a replica may get no picture.
        objects = tf.pad(objects, [[0, 1]] + [[0, 0]] * (objects.shape.rank - 1))
        random = tf.map_fn(of_one_picture, objects, fn_output_signature=tf.TensorSpec((None,)))[:-1]
        return sample(matches, self.count, self.positive_share, random)

    def get_config(self):
        return super().get_config() | {"count": self.count, "positive_share": self.positive_share}


@keras.saving.register_keras_serializable("kzoo")
class SampleAnchors(_Sampler):
    """Leaves a few anchors of each picture to learn from, and sets the others to be ignored.

    Args:
        count: how many.
        positive_share: the part of them that positives may be at most.
        **kwargs: `name`.

    Inputs: matches `[B, A]`, of no picture where there are no targets. Output: the same, `IGNORED` (-2) where
    an anchor was not drawn.
    """

    def __init__(self, count: int = 256, positive_share: float = 0.5, **kwargs):
        super().__init__(count, positive_share, **kwargs)

    def call(self, matches, training=None):
        indices, drawn = self.drawn(matches, tf.cast(matches + 1, tf.int64), bool(training))
        shape = tf.shape(matches)
        picture = tf.broadcast_to(tf.range(shape[0])[:, None], tf.shape(indices))
        place = tf.boolean_mask(tf.stack([picture, indices], axis=-1), drawn)  # [S, 2]
        chosen = tf.scatter_nd(place, tf.ones_like(place[:, 0], tf.float32), shape)  # no int32 on a GPU
        return tf.where(chosen > 0.0, matches, IGNORED)

    def compute_output_spec(self, matches, training=None):
        return keras.KerasTensor(matches.shape, "int32")


@keras.saving.register_keras_serializable("kzoo")
class SampleRegions(_Sampler):
    """The regions that the second stage looks at: of all proposals a sample to learn from, else all.

    With targets the true boxes are added, as in torchvision, and of them all a sample is drawn (Girshick
    2015, section 2.3; He et al. 2017, section 3.1). Positives come first, then background, then zero boxes.

    Args:
        count: how many are drawn.
        positive_share: the part of them that positives may be at most.
        **kwargs: `name`.

    Inputs: proposals `[B, K, 4]`, filled up with zero boxes; boxes `[B, G, 4]` and classes `[B, G]`, both
    optional. Output: `[B, count, 4]` with targets, the proposals without.
    """

    def __init__(self, count: int = 512, positive_share: float = 0.25, **kwargs):
        super().__init__(count, positive_share, **kwargs)

    @property
    def most_positives(self) -> int:
        """So many of the first regions can be positives."""
        return int(self.count * self.positive_share)

    def call(self, proposals, boxes=None, classes=None, training=None):
        if boxes is None or classes is None:
            return proposals
        objects = tf.where(classes[..., None] >= 0, tf.cast(boxes, tf.float32), 0.0)
        candidates = tf.concat([proposals, objects], axis=1)  # [B, K + G, 4]
        matches = match(candidates, boxes, classes, REGION_IOU, REGION_IOU, match_best=False)
        told = tf.cast(tf.bitcast(objects, tf.int32), tf.int64)
        indices, drawn = self.drawn(matches, told, bool(training))
        return tf.where(drawn[..., None], tf.gather(candidates, indices, batch_dims=1), 0.0)

    def compute_output_spec(self, proposals, boxes=None, classes=None, training=None):
        return keras.KerasTensor((proposals.shape[0], None, 4), "float32")
