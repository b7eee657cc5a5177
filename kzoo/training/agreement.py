"""What several workers agree on by a round through the network. All of them call it, at the same step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from kzoo.workers import several_workers


def of_all_workers(strategy: tf.distribute.Strategy, values: Sequence[float]) -> np.ndarray:
    """What each replica has, float64 [replicas, values]; of one worker alone just its own."""
    own = tf.constant([values], tf.float64)
    if not several_workers(strategy):
        return own.numpy()

    @tf.function
    def gathered():
        return strategy.run(lambda: tf.distribute.get_replica_context().all_gather(own, axis=0))

    return strategy.experimental_local_results(gathered())[0].numpy()


def check_agreed(strategy: tf.distribute.Strategy, step: int, directory: Path) -> None:
    """Checks that all workers go on from the same step.

    Raises:
        ValueError: they found different ones.
    """
    steps = of_all_workers(strategy, [step])[:, 0]
    if steps.min() != steps.max():
        raise ValueError(
            f"{directory}: workers found checkpoints there of different steps, {steps.astype(int).tolist()}; "
            "expected a folder that all of them share."
        )
