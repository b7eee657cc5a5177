"""What the replicas of a step tell each other, so that together they compute what one device would.

It is said within `strategy.run`, by every replica and in the same order. For a replica that is alone, and
outside of all, values stay what they are.
"""

import tensorflow as tf


def together() -> tf.distribute.ReplicaContext | None:
    """The context of a replica that is one of several in sync; None where it is alone, or outside of all."""
    context = tf.distribute.get_replica_context()
    return None if context is None or context.num_replicas_in_sync == 1 else context


def count() -> int:
    """How many replicas compute a step together."""
    context = together()
    return 1 if context is None else context.num_replicas_in_sync


def mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The mean of what the replicas have, which may be nothing (0) in some.

    A sum of losses is divided by it: the gradients that Keras applies are those of the replicas' mean loss,
    and so become those of the sum over all replicas, divided by the sum of `value` over all.

    Args:
        value: of a float type, of one shape in all replicas.

    Returns:
        The same in all replicas, differentiable.
    """
    context = together()
    return value if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, value)


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """The sum of what the replicas have, with the arguments and answers of `mean_over_replicas`."""
    context = together()
    return value if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def of_all_replicas(value: tf.Tensor) -> tf.Tensor:
    """What each replica has, one after the other.

    Args:
        value: of one shape in all replicas, `[...]`.

    Returns:
        `[R, ...]`, the same in all of R replicas.
    """
    context = together()
    if context is None:
        return value[None]
    # A sum in which each replica has its own row: there is no simpler exchange that all strategies have.
    own = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync, dtype=value.dtype)
    rows = tf.reshape(own, [-1] + [1] * value.shape.rank) * value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, rows)
