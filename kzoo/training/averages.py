"""Weights averaged over the steps: what is watched, and what a run ends with, in place of the latest ones."""

from collections.abc import Sequence

import keras


def with_averages(
    model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]
) -> list[keras.callbacks.Callback]:
    """Callbacks whose work at the end of an epoch is done with averaged weights, if there are such.

    So is validation. Keras's `SwapEMAWeights` exchanges by sums and differences, which round; a run with more
    validation would then learn something else. Here nothing is computed.

    Args:
        model: compiled. Its optimizer averages if it has `use_ema=True`; `fit` ends with the averages.
        callbacks: what to do at the end of epochs.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # of what scales a loss
    return [_WithAverages(optimizer, callbacks)] if optimizer.use_ema else list(callbacks)


class _WithAverages(keras.callbacks.Callback):
    """Callbacks as one, with averaged weights at the end of an epoch and while it is validated."""

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        super().__init__()
        self._optimizer = optimizer
        self._callbacks = callbacks

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        for callback in self._callbacks:
            callback.set_model(model)

    def set_params(self, params: dict) -> None:
        super().set_params(params)
        for callback in self._callbacks:
            callback.set_params(params)

    def on_train_begin(self, logs: dict | None = None) -> None:
        for callback in self._callbacks:
            callback.on_train_begin(logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        for callback in self._callbacks:
            callback.on_train_end(logs)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._exchange()

    def on_test_end(self, logs: dict | None = None) -> None:
        self._exchange()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._exchange()
        for callback in self._callbacks:
            callback.on_epoch_end(epoch, logs)
        self._exchange()

    def _exchange(self) -> None:
        with self.model.distribute_strategy.scope():
            averages = self._optimizer._model_variables_moving_average  # Keras has no public name for them
            for variable, average in zip(self.model.trainable_variables, averages, strict=True):
                latest = keras.ops.convert_to_numpy(variable)
                variable.assign(average)
                average.assign(latest)
