"""What several workers agree on by a round through the network. All of them call it, at the same step."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow as tf

from kzoo.workers import as_worker_lost, several_workers


def of_all_workers(strategy: tf.distribute.Strategy, values: Sequence[float]) -> np.ndarray:
    """What each replica has, float64 [replicas, values]; of one worker alone just its own.

    Raises:
        WorkerLost: another worker is gone.
    """
    if not several_workers(strategy):
        return np.array([values], np.float64)
    with as_worker_lost(strategy):
        of_all = _gathering(strategy)(tf.constant([values], tf.float64))
        return strategy.experimental_local_results(of_all)[0].numpy()


@lru_cache  # each is traced, which takes longer than to run it
def _gathering(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    def gathered(own):
        copy = tf.identity(own)  # which is on a device, as a function's argument is not
        return tf.distribute.get_replica_context().all_gather(copy, axis=0)

    return tf.function(lambda own: strategy.run(gathered, args=(own,)), reduce_retracing=True)


def check_agreed(strategy: tf.distribute.Strategy, step: int, directory: Path) -> None:
    """Checks that all workers go on from the same step.

    Raises:
        ValueError: they found different ones.
        WorkerLost: another worker is gone.
    """
    steps = of_all_workers(strategy, [step])[:, 0]
    if steps.min() != steps.max():
        raise ValueError(
            f"{directory}: workers found checkpoints there of different steps, {steps.astype(int).tolist()}; "
            "expected a folder that all of them share."
        )
