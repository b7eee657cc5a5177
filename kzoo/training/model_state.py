"""All that a model in training knows: weights, optimizer, random state and what its metrics counted."""

from collections.abc import Iterator, Mapping

import keras
import numpy as np


def state_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Name -> array of all variables of a compiled model.

    Those of its layers are weights, statistics and the states of random generators; those of its optimizer
    are moments, averaged weights, gradients gathered so far and the scale of the loss. On several workers all
    of them ask at the same step, for what metrics counted is summed up over them.
    """
    with model.distribute_strategy.scope():
        return {name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(model)}


def restore(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Brings a compiled model into a state that `state_of` told.

    Raises:
        ValueError: the state is that of another model or of another optimizer. Nothing is changed then.
    """
    with model.distribute_strategy.scope():
        variables = dict(_variables(model))
        wrong = [
            f"{name} {_told(variables.get(name))}, saved {_told(arrays.get(name))}"
            for name in {**variables, **arrays}
            if _told(variables.get(name)) != _told(arrays.get(name))
        ]
        if wrong:
            raise ValueError(
                f"the state of another model or optimizer: {len(wrong)} variables differ, among them "
                f"{'; '.join(wrong[:3])}."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])


def restore_metrics(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Brings what a model's metrics counted back; Keras forgets it at the beginning of an epoch."""
    with model.distribute_strategy.scope():
        for name, variable in _of("metrics", model.metrics_variables):
            variable.assign(arrays[name])


def _variables(model: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    yield from _of("model", model.variables)
    yield from _of("optimizer", model.optimizer.variables)
    yield from _of("metrics", model.metrics_variables)


def _of(kind: str, variables: list[keras.Variable]) -> Iterator[tuple[str, keras.Variable]]:
    # By number and not by path: Keras numbers what has no name through all models of a process.
    return ((f"{kind}/{number:04d}", variable) for number, variable in enumerate(variables))


def _told(variable: keras.Variable | np.ndarray | None) -> str:
    if variable is None:
        return "not there"
    return f"{np.dtype(keras.backend.standardize_dtype(variable.dtype)).name} {tuple(variable.shape)}"
