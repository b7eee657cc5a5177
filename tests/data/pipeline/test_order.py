from itertools import chain

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.data.pipeline.order import Batches, Order


def pictures(order, epochs, salt=0):
    """The pictures at all positions, [epochs, count]."""
    positions = tf.data.Dataset.range(epochs * order.count)
    found = positions.map(lambda position: order.picture(position, salt)).batch(order.count)
    return np.array(list(found.as_numpy_iterator()))


@pytest.mark.parametrize("count", [1, 2, 3, 10, 64, 101])
def test_each_epoch_has_each_picture_once(count):
    for seed in (0, 7, 2**70):
        for salt in (0, 1):
            found = pictures(Order(count, shuffled=True, seed=seed), 3, salt)
            np.testing.assert_array_equal(np.sort(found), [np.arange(count)] * 3)


def test_epochs_seeds_and_salts_have_orders_of_their_own():
    orders = [
        tuple(epoch)
        for seed in (0, 1, 2**40)
        for salt in (0, 1, 2)
        for epoch in pictures(Order(40, shuffled=True, seed=seed), 3, salt)
    ]
    assert len(set(orders)) == 27
    related = np.corrcoef(orders)[np.triu_indices(27, 1)]
    assert np.abs(related).max() < 0.6 and np.abs(related.mean()) < 0.05


def test_every_place_sees_every_picture():
    found = pictures(Order(6, shuffled=True, seed=0), 600)
    counts = np.array([np.bincount(place, minlength=6) for place in found.T])
    # Of 600 draws of one in six the standard deviation is 9.1; of 36 of them none lies four of these off.
    assert np.abs(counts - 100).max() < 37


def test_six_hundred_epochs_and_fifty_seeds_have_as_many_orders():
    epochs = {tuple(epoch) for epoch in pictures(Order(12, shuffled=True, seed=0), 600)}
    seeds = {tuple(pictures(Order(12, shuffled=True, seed=seed), 1)[0]) for seed in range(50)}
    assert len(epochs) == 600 and len(seeds) == 50


def test_any_two_pictures_meet_in_a_batch_as_often():
    found = pictures(Order(24, shuffled=True, seed=0), 400).reshape(-1, 8)
    met = np.zeros([24, 24])
    for batch in found:
        met[np.ix_(batch, batch)] += 1
    met = met[np.triu_indices(24, 1)]
    assert 0.6 < met.var() / met.mean() < 1.2


def test_unshuffled_pictures_come_as_they_lie_and_their_partners_do_not():
    order = Order(10, shuffled=False, seed=0)
    np.testing.assert_array_equal(pictures(order, 2), [range(10)] * 2)
    first, second = pictures(order, 2, salt=1)
    assert list(first) != list(second) and list(first) != list(range(10))


def test_what_is_drawn_differs_by_position_seed_and_salt():
    seeds = {
        tuple(Order(5, shuffled=True, seed=seed).draws(tf.constant(position, tf.int64), salt).numpy())
        for position in range(11)
        for seed in (0, 1)
        for salt in (0, 1)
    }
    assert len(seeds) == 44


def test_the_order_is_the_same_on_every_machine():
    """Checkpoints tell a number of batches: another order would make them wrong."""
    assert pictures(Order(10, shuffled=True, seed=3), 1)[0].tolist() == [0, 4, 9, 7, 1, 5, 6, 3, 8, 2]


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(1, 30),
    size=st.integers(1, 12),
    start=st.integers(0, 40),
    full=st.booleans(),
    data=st.data(),
)
def test_shares_of_batches_make_batches(count, size, start, full, data):
    shards = data.draw(st.integers(1, size))
    whole = Batches(count, size, full=full)
    parts = [Batches(count, size, (index, shards), full) for index in range(shards)]
    sizes = [part.sizes(start) for part in parts]
    for offset in range(2 * len(whole)):
        batch = tf.constant(start + offset, tf.int64)
        of_all = list(whole.positions(batch).as_numpy_iterator())
        of_each = [list(part.positions(batch).as_numpy_iterator()) for part in parts]
        assert list(chain(*of_each)) == of_all
        assert {whole.number(int(position)) for position in of_all} == {start + offset}
        assert [len(one) for one in of_each] == [of_part[offset % len(whole)] for of_part in sizes]
        assert max(map(len, of_each)) - min(map(len, of_each)) <= 1


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(1, 30),
    size=st.integers(1, 12),
    start=st.integers(0, 40),
    full=st.booleans(),
    data=st.data(),
)
def test_several_shares_are_those_of_each_in_turn(count, size, start, full, data):
    """Also of more shares than there are pictures in a batch: then some have none."""
    shards = data.draw(st.integers(1, 14))
    first = data.draw(st.integers(0, shards - 1))
    number = data.draw(st.integers(1, shards - first))
    together = Batches(count, size, (first, shards), full, shares=number)
    alone = [Batches(count, size, (first + index, shards), full) for index in range(number)]
    sizes = [one.sizes(start) for one in alone]
    assert together.sizes(start) == list(chain(*zip(*sizes, strict=True)))
    batch = tf.constant(start, tf.int64)
    positions = [list(one.positions(batch).as_numpy_iterator()) for one in alone]
    assert list(together.positions(batch).as_numpy_iterator()) == list(chain(*positions))


def test_batches_cover_all_positions_in_order():
    for full in (False, True):
        batches = Batches(10, 4, full=full)
        found = [list(batches.positions(tf.constant(n, tf.int64)).as_numpy_iterator()) for n in range(6)]
        assert list(chain(*found)) == list(range(24 if full else 20))
        assert [len(one) for one in found] == ([4] * 6 if full else [4, 4, 2] * 2)
        assert len(batches) == 3
