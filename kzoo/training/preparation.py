"""What a recipe does first."""

import keras
import tensorflow as tf

from kzoo import workers
from kzoo.training.precision import set_precision
from kzoo.training.run_folder import check_folder
from kzoo.training.settings import Settings
from kzoo.training.strategy import strategy as find_strategy


def prepare(settings: Settings, several_workers: bool = True) -> tf.distribute.Strategy:
    """Checks the settings, and sets what must be before anything is built: the seed and the precision.

    Args:
        settings: of the run.
        several_workers: whether the recipe can do with other processes that run it, too.

    Returns:
        The strategy to build and compile the model under, `with strategy.scope()`.

    Raises:
        ValueError: a setting has a value that it cannot have, or a run that was stopped in the same folder
            had other settings.
        WorkerLost: not all workers came.
    """
    settings.check()
    strategy = _strategies.get(settings.strategy) or find_strategy(settings.strategy)
    _strategies[settings.strategy] = strategy
    if workers.several_workers(strategy):
        if not several_workers:
            raise ValueError(
                f"strategy={settings.strategy!r}: there are {workers.described(strategy)}, but this recipe "
                "trains several models one after another; it takes the devices of one machine."
            )
        if settings.minutes is not None:
            raise ValueError(
                f"minutes={settings.minutes}: there are {workers.described(strategy)}, whose clocks differ; "
                "--epochs is expected in its place."
            )
    if strategy.num_replicas_in_sync > 1 and settings.accumulate > 1:
        raise ValueError(
            f"accumulate={settings.accumulate}: there are {workers.described(strategy)}, on which gradients "
            "cannot be gathered over steps; 1 is expected, and a larger batch_size, which they share."
        )
    if strategy.num_replicas_in_sync > 1 and workers.is_chief(strategy):
        print(f"Training on {workers.described(strategy)}.")
    keras.utils.set_random_seed(settings.seed)
    precision = set_precision(settings.precision)
    check_folder(settings, {"precision": precision})
    return strategy


_strategies: dict[str, tf.distribute.Strategy] = {}  # a process joins the other workers but once
