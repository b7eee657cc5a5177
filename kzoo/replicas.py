"""What the replicas of a step tell each other, so that together they compute what one device would.

It is said within `strategy.run`, by every replica and in the same order. For a replica that is alone, and
outside of all, values stay what they are.
"""

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

_THREAD = threading.local()  # the replicas of a `MirroredStrategy` are threads


def together() -> tf.distribute.ReplicaContext | None:
    """The context of a replica that is one of several in sync; None where it is alone, or outside of all."""
    context = tf.distribute.get_replica_context()
    return None if context is None or context.num_replicas_in_sync == 1 else context


def count() -> int:
    """How many replicas compute a step together."""
    context = together()
    return 1 if context is None else context.num_replicas_in_sync


def weight() -> tf.Tensor | float:
    """1 where this replica's pictures count, 0 where it has but one that stands in for none."""
    return getattr(_THREAD, "weight", 1.0)


@contextlib.contextmanager
def weighing(own: tf.Tensor) -> Iterator[None]:
    """Lets what this replica computes have a weight of its own, float32 []."""
    before = weight()
    _THREAD.weight = own
    try:
        yield
    finally:
        _THREAD.weight = before


def mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The mean of what the replicas have, which is nothing (0) where they have no pictures.

    A sum of losses is divided by it: the gradients that Keras applies are those of the replicas' mean loss,
    and so become those of the sum over all replicas, divided by the sum of `value` over all.

    Args:
        value: float32, of one shape in all replicas.

    Returns:
        The same in all replicas, differentiable.
    """
    context = together()
    return value if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, weight() * value)


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The sum of what the replicas have, with the arguments and answers of `mean_over_replicas`."""
    context = together()
    return value if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, weight() * value)


def moments_of_all(features: tf.Tensor, axes: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Mean and variance of the features of all replicas, which may have different numbers of pictures.

    Args:
        features: float32.
        axes: those that the moments are taken over; one axis is left, of C channels.

    Returns:
        Mean and variance float32 `[C]`, and of how many values each is, `[C]`, at least 1. The same in all
        replicas, differentiable.
    """
    number = tf.cast(tf.reduce_prod(tf.gather(tf.shape(features), axes)), tf.float32)
    mean = tf.reduce_sum(features, axes, keepdims=True) / tf.maximum(number, 1.0)
    # Around each replica's own mean: sums of squares would lose what is small beside it.
    spread = tf.reduce_sum(tf.math.squared_difference(features, mean), axes)
    mean = tf.reshape(mean, tf.shape(spread))
    means, spreads, numbers = tf.unstack(
        _of_each(tf.stack([mean, spread, tf.fill(tf.shape(mean), number)])), axis=1
    )  # [R, C]
    total = tf.maximum(tf.reduce_sum(numbers, axis=0), 1.0)
    mean = tf.reduce_sum(numbers * means, axis=0) / total
    spread = tf.reduce_sum(spreads + numbers * tf.math.squared_difference(means, mean), axis=0)
    return mean, spread / total, total


def _of_each(value: tf.Tensor) -> tf.Tensor:
    """What each of R replicas has, `[R, ...]`, where its pictures count."""
    context = together()
    if context is None:
        return value[None]
    # A sum in which each replica has a row of its own: there is no simpler exchange that all strategies have.
    own = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync)
    rows = tf.reshape(own, [-1] + [1] * value.shape.rank) * value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, weight() * rows)
