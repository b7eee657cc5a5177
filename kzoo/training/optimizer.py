"""The optimizer that the recipes train with."""

import keras


def adamw(learning_rate: float, weight_decay: float = 0.02) -> keras.optimizers.Optimizer:
    """AdamW (Loshchilov and Hutter 2019): no decay of biases and normalisation, wild gradients tamed.

    Args:
        learning_rate: the highest that a schedule will set.
        weight_decay: share of a weight that goes at each step, times the learning rate.

    Returns:
        The optimizer, whose gradients are scaled down to a global norm of 10 where they exceed it.
    """
    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, global_clipnorm=10.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
