"""Which picture comes when: arithmetic alone, so that a run goes on from any batch as if never stopped.

A position counts pictures from 0 on over all epochs of a run, of all workers together. The picture that is
at a position, and what is drawn at random for it, follow from the seed and the position and from nothing
else. So do batches, which are counted from 0 on over all epochs, too.
"""

from dataclasses import dataclass
from functools import lru_cache

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
        if not (self.shuffled or salt):
            return position % self.count

        def found(position: np.int64) -> np.int64:
            epoch, place = divmod(int(position), self.count)
            return _permutation(self.count, self.seed, salt, epoch)[place]

        return tf.ensure_shape(tf.numpy_function(found, [position], tf.int64), [])

    def draws(self, position: tf.Tensor, salt: int = 0) -> tf.Tensor:
        """The seed, int64 [2], of what is drawn at random for the picture at a position, int64 []."""
        key = np.random.SeedSequence((self.seed, 2 * salt + 1)).generate_state(1)[0]  # NumPy never changes it
        return tf.stack([tf.constant(key, tf.int64), position])


@lru_cache(maxsize=12)  # an order and its five partners', where one epoch goes over into the next
def _permutation(count: int, seed: int, salt: int, epoch: int) -> np.ndarray:
    """Of bits that NumPy never changes. TensorFlow's `index_shuffle` has but a few hundred orders a seed."""
    bits = np.random.PCG64(np.random.SeedSequence((seed, 2 * salt, epoch))).random_raw(count)
    return np.argsort(bits, kind="stable")


@dataclass(frozen=True)
class Batches:
    """The batches of all epochs, one after another, or a worker's share of each of them.

    Args:
        count: pictures in an epoch.
        size: pictures in a batch of all workers together.
        shard: which of how many shares of each batch. They differ by a picture where it cannot be otherwise.
        full: whether all batches are of this size, so that some lie across the seam of two epochs. Else the
            last batch of each epoch has what is left.
        shares: how many shares of each batch, from that one on, each a batch of its own.
    """

    count: int
    size: int
    shard: tuple[int, int] = (0, 1)
    full: bool = False
    shares: int = 1

    def __len__(self) -> int:
        """Batches that begin in an epoch, the last one with what is left of it."""
        return -(-self.count // self.size)

    @property
    def left(self) -> int:
        """Pictures in the last batch of an epoch."""
        return self.count - (len(self) - 1) * self.size

    def positions(self, batch: tf.Tensor) -> tf.data.Dataset:
        """The positions, int64 [], of the pictures of a batch, int64 []."""
        if self.full:
            first, last = batch * self.size, (batch + 1) * self.size
        else:
            epoch, within = batch // len(self), batch % len(self)
            first = epoch * self.count + within * self.size
            last = tf.minimum(first + self.size, (epoch + 1) * self.count)
        index, count = self.shard
        begin, end = (first + (last - first) * border // count for border in (index, index + self.shares))
        return tf.data.Dataset.range(begin, end)

    def number(self, position: int) -> int:
        """The batch that the picture at a position is in."""
        if self.full:
            return position // self.size
        epoch, place = divmod(position, self.count)
        return epoch * len(self) + place // self.size

    def sizes(self, start: int = 0) -> list[int]:
        """Pictures in each share of as many batches as an epoch has, from batch `start` on; then again."""
        wholes = [self.size] * (len(self) - 1) + [self.size if self.full else self.left]
        turn = start % len(self)
        index, count = self.shard
        return [
            whole * (share + 1) // count - whole * share // count
            for whole in wholes[turn:] + wholes[:turn]
            for share in range(index, index + self.shares)
        ]
