"""Training on several replicas, on one machine or on several: what takes the place of Keras's own.

Keras 3's `fit` fails on several workers (keras-team/keras, issue 20585): it averages batches over them to
build the model, and reduces scalars over an axis that they do not have. On several devices of one machine it
fails where a first batch is not divided evenly.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from kzoo.workers import several_workers

if TYPE_CHECKING:
    from kzoo.data.pipeline.passes import Passes


class Replicated(keras.Model):
    """A functional model that trains on several replicas, and answers on this worker alone.

    Two private methods of Keras's TensorFlow trainer are overridden, `_maybe_symbolic_build` and
    `_make_function`; a test tells the versions of Keras with which that was tried.
    """

    steps_left: int | None = None  # of the epoch, None where that is not known
    _alone: bool = False

    @property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        """The strategy that the model was built under; none while it answers on this worker alone."""
        return tf.distribute.get_strategy() if self._alone else super().distribute_strategy

    def predict(self, *args, **kwargs):
        """As `keras.Model.predict` does; of several workers on this one alone, whatever the others do."""
        if not several_workers(self.distribute_strategy):
            return super().predict(*args, **kwargs)
        return self._answer_alone("predict", super().predict, *args, **kwargs)

    def predict_on_batch(self, x):
        """As `keras.Model.predict_on_batch` does, on one replica: Keras gives the answers of each of them."""
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return super().predict_on_batch(x)
        return self._answer_alone("predict_on_batch", super().predict_on_batch, x)

    def _answer_alone(self, name, answer, *args, **kwargs):
        if tf.distribute.has_strategy():
            raise RuntimeError(f"{name}: on several replicas it is to be called outside of strategy.scope().")
        self._alone = True
        try:
            return answer(*args, **kwargs)
        finally:
            self._alone = False

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds the optimizer; all else of a functional model is built, which Keras takes a batch for."""
        if self._distribute_strategy is not None and not getattr(self.optimizer, "built", True):
            with self._distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def _make_function(self, step_function: Callable) -> Callable[[Iterator], dict[str, tf.Tensor]]:
        """Runs `step_function` on as many batches as are executed at once, and tells what metrics show."""
        strategy = self.distribute_strategy
        if strategy.num_replicas_in_sync == 1:
            return super()._make_function(step_function)
        if self.run_eagerly:
            raise ValueError("run_eagerly=True: on several replicas a model learns in a graph only.")
        step_function = tf.autograph.experimental.do_not_convert(step_function)

        @tf.function(reduce_retracing=True)
        def one_step(iterator):
            strategy.run(step_function, args=(iterator.get_next(),))
            return self._of_all_replicas()

        @tf.function(reduce_retracing=True)
        def steps(iterator, most):
            done = 0
            for _ in tf.range(most):
                batch = iterator.get_next_as_optional()
                if not batch.has_value():
                    break
                strategy.run(step_function, args=(batch.get_value(),))
                done += 1
            return done, self._of_all_replicas()

        def function(iterator):
            if not isinstance(iterator, tf.data.Iterator | tf.distribute.DistributedIterator):
                raise ValueError(
                    "on several replicas a model learns by fit(dataset), not from single batches."
                )
            if self.steps_per_execution == 1:
                return one_step(iterator)
            most = min(self.steps_per_execution, self.steps_left or self.steps_per_execution)
            done, logs = steps(iterator, tf.constant(most))
            if not done:
                raise StopIteration
            return logs

        return function

    def _of_all_replicas(self) -> dict[str, tf.Tensor]:
        """What the metrics show of all replicas together, the same on every worker."""
        strategy, shown = self.distribute_strategy, self.metrics
        variables = [variable for metric in shown for variable in metric.variables]

        def results():
            # Copies, which are on a device; TensorFlow cannot tell where a variable that was read is.
            values = [tf.identity(variable.value) for variable in variables]
            sums = tf.distribute.get_replica_context().all_reduce("sum", values)
            with keras.StatelessScope(zip(variables, sums, strict=True)):
                return self.get_metrics_result()

        return tf.nest.map_structure(
            lambda result: strategy.experimental_local_results(result)[0], strategy.run(results)
        )


class Steps(keras.callbacks.Callback):
    """Tells a model how many steps of an epoch are left, and data of `kzoo.data.load` where the next begins.

    Keras takes whole executions of several steps from data without end, also where an epoch ends within one.

    Args:
        steps: of an epoch; None where that is not known.
        test_steps: the same, of what is measured.
        passes: of the data to learn from; None if it has none.
    """

    def __init__(
        self, steps: int | None = None, test_steps: int | None = None, passes: "Passes | None" = None
    ) -> None:
        super().__init__()
        self._steps, self._test_steps, self._passes = steps, test_steps, passes

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.model.steps_left = self._steps and self._steps - batch

    def on_test_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.model.steps_left = self._test_steps and self._test_steps - batch

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._passes is not None:
            self._passes.go_to(self._passes.next + self._steps)


def parted(
    dataset: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """A dataset without end of `kzoo.data.load` for the replicas of a strategy.

    Each worker reads the pictures of its own replicas alone. Of every batch a replica has its part, in the
    order of the replicas; the parts differ by a picture where it cannot be otherwise. Datasets of others
    come as they are: `tf.distribute` lets every worker read them whole.

    Args:
        dataset: what `without_end` of a dataset of `kzoo.data.load` gave, or any other.
        strategy: which the model was built under.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or not hasattr(dataset, "of_replicas"):
        return dataset

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        number = replicas // context.num_input_pipelines
        return dataset.of_replicas(context.input_pipeline_id * number, number, replicas)

    return strategy.distribute_datasets_from_function(of_worker)
