"""Batches of pictures in passes, each of which begins where the one before it ended, or one without end."""

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tensorflow as tf

from kzoo.data.pipeline.order import Batches

Examples = Callable[[tf.data.Dataset], tf.data.Dataset]


class Passes:
    """Where the next iteration of a data set begins.

    An iteration has as many batches as an epoch, and the next one those behind them, also where it was
    broken off, as `batches.take(10)` does. But one of which a single batch was taken was only a look at what
    there is, as `next(iter(batches))`: the next one begins where it did, unless one batch is an epoch.

    Args:
        batches: those of all epochs.
        start: the batch that the first iteration begins with.

    Attributes:
        batches: those of all epochs.
        next: the batch that the next iteration begins with.
    """

    def __init__(self, batches: Batches, start: int) -> None:
        self.batches = batches
        self._start = self.next = start
        self._lock = threading.Lock()

    def numbers(self) -> tf.data.Dataset:
        """The numbers of the batches of an iteration, int64 []."""
        begin = tf.data.Dataset.range(1).map(
            lambda _: tf.ensure_shape(tf.numpy_function(lambda: np.int64(self.next), [], tf.int64), [])
        )
        return begin.flat_map(lambda batch: tf.data.Dataset.range(batch, batch + len(self.batches)))

    def taken(self, position: np.int64) -> np.int64:
        """Notes that the batch was taken that has the picture at a position."""
        length = len(self.batches)
        with self._lock:
            passed, within = divmod(self.batches.number(int(position)) - self._start, length)
            if within or length == 1:
                self.next = max(self.next, self._start + (passed + 1) * length)
        return position

    def go_to(self, batch: int) -> None:
        """Lets the next iteration begin with a batch."""
        with self._lock:
            self._start = self.next = batch


def in_passes(examples: Examples, batches: Batches, start: int, one_by_one: bool = False) -> tf.data.Dataset:
    """A data set of as many batches as an epoch has: iterated again, it has the following ones.

    Args:
        examples: from positions, int64 [], to dicts of what there is, their `position` among it.
        batches: those of all epochs.
        start: the batch to begin with.
        one_by_one: whether sizes differ, so that a batch has one picture.

    Returns:
        Batches, with the attributes `passes`, a `Passes`, and `without_end(start=start, full=False)`, a
        function that gives the batches of all epochs as one sequence from batch `start` on. However often
        that is iterated, and whatever is taken of it, it begins there. With `full` all batches have the same
        size: those across the seam of two epochs have pictures of both. What it gives has, unless these are
        the batches of one of several workers, the attribute `of_replicas(first, number, count)`: a function
        that gives the parts of `number` replicas of `count`, from replica `first` on, as batches in turn.
    """
    passes = Passes(batches, start)

    def noted(batch):
        position = tf.numpy_function(passes.taken, [batch["position"][0]], tf.int64)
        with tf.control_dependencies([position]):
            return {name: tf.identity(part) for name, part in batch.items() if name != "position"}

    def without_end(start: int = start, full: bool = False) -> tf.data.Dataset:
        of_all = replace(batches, full=full)
        dataset = endless(of_all, start)
        if batches.shard == (0, 1):

            def of_replicas(first: int, number: int, count: int) -> tf.data.Dataset:
                _check_replicas(of_all, count)
                return endless(replace(of_all, shard=(first, count), shares=number), start)

            dataset.of_replicas = of_replicas
        return dataset

    def endless(shares: Batches, start: int) -> tf.data.Dataset:
        numbers = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
        dataset = _batched(examples(numbers.flat_map(shares.positions)), shares.sizes(start), one_by_one)
        dataset = dataset.map(lambda batch: {name: batch[name] for name in batch if name != "position"})
        dataset = dataset.prefetch(tf.data.AUTOTUNE)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return dataset.with_options(options)

    options = tf.data.Options()
    policies = tf.data.experimental.AutoShardPolicy
    options.experimental_distribute.auto_shard_policy = (
        policies.OFF if batches.shard[1] > 1 else policies.DATA
    )
    # TensorFlow would add a buffer behind what notes that a batch was taken.
    options.experimental_optimization.inject_prefetch = False

    sizes = batches.sizes(start)
    *before, last = sizes
    if len(set(before)) <= 1 and last <= max(before, default=last):
        sizes = [max(sizes)]  # the last batch has what is left
    dataset = _batched(examples(passes.numbers().flat_map(batches.positions)), sizes, one_by_one)
    # Taken is what leaves the buffer, not what is read ahead into it.
    dataset = dataset.prefetch(tf.data.AUTOTUNE).map(noted)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    dataset = dataset.with_options(options)
    dataset.passes, dataset.without_end = passes, without_end
    return dataset


def _check_replicas(batches: Batches, count: int) -> None:
    """Refuses batches of which no replica but the last ones would ever have a picture."""
    largest = batches.sizes()[0]
    if largest < count:
        raise ValueError(
            f"batch_size={batches.size}: {count} replicas share each batch, of at most {largest} of the "
            f"{batches.count} pictures; expected at least {count} in a batch."
        )


def _batched(examples: tf.data.Dataset, sizes: list[int], one_by_one: bool) -> tf.data.Dataset:
    """Batches of these sizes, then of the same again."""
    if len(set(sizes)) == 1:
        # One by one none is left behind, and that each batch has one picture is known before it is read.
        return examples.batch(sizes[0], drop_remainder=one_by_one)
    return examples.batch(1).rebatch(sizes)
