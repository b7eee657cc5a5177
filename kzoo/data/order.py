"""Which picture comes when: arithmetic alone, so that a run goes on from any batch as if it had never stopped.

A position counts pictures from 0 on over all epochs of a run, of all workers together. The picture that is
at a position, and what is drawn at random for it, follow from the seed and the position and from nothing
else. So do batches, which are counted from 0 on as well: no batch lies across the seam of two epochs unless
they are endless.
"""

import threading
from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Order:
    """The order of a split's pictures: each once an epoch, and if shuffled in each epoch in another order.

    Args:
        count: of pictures.
        shuffled: whether they come in random order.
        seed: of all that is random.

    Example:
        order = Order(364, shuffled=True, seed=0)
        first, partner = order.picture(position), order.picture(position, salt=1)
        seed, of_partner = order.draws(position), order.draws(position, salt=1)
    """

    count: int
    shuffled: bool
    seed: int

    def picture(self, position: tf.Tensor, salt: int = 0) -> tf.Tensor:
        """The place in the split, int64 [], of the picture at a position, int64 [].

        Another salt than 0 is another order, shuffled in any case and independent of the first one: of the
        pictures to mix in. In it, too, an epoch has each picture once.
        """
        epoch, place = position // self.count, position % self.count
        if not (self.shuffled or salt):
            return place
        seed = tf.stack([self._key(2 * salt), epoch])
        return tf.random.experimental.index_shuffle(place, seed, tf.constant(self.count - 1, tf.int64))

    def draws(self, position: tf.Tensor, salt: int = 0) -> tf.Tensor:
        """The seed, int64 [2], of what is drawn at random for the picture at a position, int64 []."""
        return tf.stack([self._key(2 * salt + 1), position])

    def _key(self, purpose: int) -> tf.Tensor:
        key = np.random.SeedSequence((self.seed, purpose)).generate_state(1)[0]  # what NumPy never changes
        return tf.constant(key, tf.int64)


@dataclass(frozen=True)
class Batches:
    """The batches of all epochs, one after another, or a worker's share of each of them.

    Args:
        count: pictures in an epoch.
        size: pictures in a batch of all workers together; the last batch of an epoch has what is left.
        endless: whether batches go on across the seam of two epochs, all of them full.
        shard: which of how many equal shares of each batch.
    """

    count: int
    size: int
    endless: bool = False
    shard: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.count // self.size)

    def positions(self, batch: tf.Tensor) -> tf.data.Dataset:
        """The positions of the pictures of one batch, int64 []."""
        if self.endless:
            first, last = batch * self.size, (batch + 1) * self.size
        else:
            epoch, within = batch // len(self), batch % len(self)
            first = epoch * self.count + within * self.size
            last = tf.minimum(first + self.size, (epoch + 1) * self.count)
        index, shards = self.shard
        begin, end = ((last - first) * share // shards for share in (index, index + 1))
        return tf.data.Dataset.range(first + begin, first + end)

    def number(self, position: int) -> int:
        """The batch that the picture at a position is in."""
        if self.endless:
            return position // self.size
        epoch, place = divmod(position, self.count)
        return epoch * len(self) + place // self.size


class Passes:
    """Lets each iteration of a data set begin where the one before it came to its end.

    An iteration has the batches of a pass. One of which a single batch was taken was but a look at what
    there is (`next(iter(batches))`, or Keras that builds a model): the next one begins where it began.

    Args:
        batches: of all epochs.
        start: the batch that the first iteration begins with.
    """

    def __init__(self, batches: Batches, start: int) -> None:
        self._batches = batches
        self._start = self._next = start
        self._lock = threading.Lock()

    def numbers(self) -> tf.data.Dataset:
        """The numbers of the batches of a pass, int64 []: when iterated again, those of the next one."""
        first = tf.data.Dataset.range(1).map(
            lambda _: tf.ensure_shape(tf.numpy_function(lambda: np.int64(self._next), [], tf.int64), [])
        )
        return first.flat_map(lambda batch: tf.data.Dataset.range(batch, batch + len(self._batches)))

    def taken(self, position: tf.Tensor) -> tf.Operation:
        """Notes that a batch was taken, by the position of one of its pictures."""
        return tf.numpy_function(self._take, [position], tf.int64)

    def _take(self, position):
        length = len(self._batches)
        passes, within = divmod(self._batches.number(int(position)) - self._start, length)
        if within or length == 1:
            with self._lock:
                self._next = max(self._next, self._start + (passes + 1) * length)
        return position
