"""Where a model trains."""

import tensorflow as tf


def several_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether other processes train the same model."""
    return bool(strategy.extended._in_multi_worker_mode())


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes."""
    return bool(strategy.extended.should_checkpoint)
