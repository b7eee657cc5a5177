import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo.data
from kzoo.data import Augmentation
from kzoo.data.pipeline import loading
from kzoo.data.sources import shapes
from kzoo.tasks import TASKS
from kzoo.zoo_model import ZooModel

SETTINGS = {"split": "train[:11]", "batch_size": 4, "image_size": (32, 32)}
LENGTH = 3  # batches in an epoch of these


def taken(dataset, count=None):
    """The batches of as many iterations as `count` batches take, or of one."""
    batches = []
    while count is None or len(batches) < count:
        batches += list(dataset.as_numpy_iterator())
        if count is None:
            break
    return batches[:count]


def assert_same(got, expected):
    assert len(got) == len(expected)
    for one, two in zip(got, expected, strict=True):
        assert one.keys() == two.keys() and "position" not in one
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
            assert one[name].dtype == two[name].dtype


@pytest.mark.parametrize(
    ("augment", "cache"), [(False, None), (True, None), (True, "memory"), (True, "folder")]
)
@pytest.mark.parametrize("task", TASKS)
def test_a_run_goes_on_as_if_it_had_never_stopped(tmp_path, monkeypatch, task, augment, cache):
    monkeypatch.setattr(loading, "_MEMORY", 0)  # None is nowhere
    cache = tmp_path if cache == "folder" else cache
    settings = {**SETTINGS, "task": task, "augment": augment, "cache": cache}
    unbroken = taken(kzoo.data.load("shapes", **settings), 3 * LENGTH)
    dataset = kzoo.data.load("shapes", start=2, **settings)
    assert len(dataset) == LENGTH
    assert_same(taken(dataset, 2 * LENGTH), unbroken[2 : 2 + 2 * LENGTH])


def test_what_is_kept_is_what_was_read(tmp_path, monkeypatch):
    """In each epoch: TensorFlow works on the memory of what is kept and must not write to it."""
    monkeypatch.setattr(loading, "_MEMORY", 0)
    settings = {**SETTINGS, "task": "instance_segmentation", "augment": True}
    read, *kept = (
        taken(kzoo.data.load("shapes", cache=cache, **settings), 3 * LENGTH)
        for cache in (None, "memory", tmp_path)
    )
    for batches in kept:
        assert_same(batches, read)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 20])
def test_any_batch_can_be_the_first(shuffle, batch_size):
    settings = {**SETTINGS, "shuffle": shuffle, "batch_size": batch_size}
    length = -(-11 // batch_size)
    unbroken = [batch["image_id"] for batch in taken(kzoo.data.load("shapes", **settings), 3 * length)]
    for epoch in range(3):
        of_epoch = np.concatenate(unbroken[epoch * length : (epoch + 1) * length])
        assert sorted(of_epoch) == list(range(11)) and (list(of_epoch) == list(range(11))) != shuffle
    for start in {1, length // 2, length, 2 * length - 1}:
        batches = taken(kzoo.data.load("shapes", start=start, **settings))
        assert [batch["image_id"].tolist() for batch in batches] == [
            one.tolist() for one in unbroken[start : start + length]
        ]


def ids(dataset):
    return [tuple(batch["image_id"]) for batch in dataset.as_numpy_iterator()]


def test_iterations_go_on_and_a_look_moves_nothing():
    dataset = kzoo.data.load("shapes", **SETTINGS)
    unbroken = ids(dataset.without_end().take(6 * LENGTH))
    next(iter(dataset))
    next(iter(dataset))
    assert ids(dataset) == unbroken[:LENGTH]
    assert ids(dataset.take(2)) == unbroken[LENGTH : LENGTH + 2]  # the epochs of who takes so many in each
    assert ids(dataset.take(2)) == unbroken[2 * LENGTH : 2 * LENGTH + 2]
    assert ids(dataset.skip(1)) == unbroken[3 * LENGTH + 1 : 4 * LENGTH]
    iterator = iter(dataset)  # as `fit`, which does not ask for more batches than there are
    assert [tuple(next(iterator)["image_id"].numpy()) for _ in range(LENGTH)] == unbroken[12:15]
    assert ids(dataset.map(lambda batch: batch).prefetch(1)) == unbroken[15:18]
    assert dataset.passes.next == 6 * LENGTH


def test_a_repeated_data_set_has_other_epochs():
    dataset = kzoo.data.load("shapes", **SETTINGS)
    unbroken = ids(dataset.without_end().take(3 * LENGTH))
    assert ids(dataset.repeat(3)) == unbroken and len(set(unbroken)) == 3 * LENGTH


def test_without_end_it_begins_where_it_is_told():
    dataset = kzoo.data.load("shapes", start=2, augment=True, **SETTINGS)
    endless = dataset.without_end()
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    first = taken(endless.take(5))
    assert_same(taken(endless.take(5)), first)
    assert_same(taken(dataset), first[:LENGTH])
    assert_same(taken(dataset.without_end(4).take(3)), first[2:])
    assert [len(batch["images"]) for batch in first] == [3, 4, 4, 3, 4]


def test_full_batches_lie_across_the_seam():
    dataset = kzoo.data.load("shapes", **SETTINGS)
    in_epochs = np.concatenate(ids(dataset) + ids(dataset))
    full = dataset.without_end(full=True)
    assert np.array_equal(np.ravel(ids(full.take(5))), in_epochs[:20])
    assert ids(dataset.without_end(3, full=True).take(2)) == ids(full.take(5))[3:]


@pytest.mark.parametrize("start", [0, 1])
def test_the_parts_of_all_workers_are_the_batches_of_one(start):
    settings = {**SETTINGS, "augment": True, "start": start}
    whole = taken(kzoo.data.load("shapes", **settings), 2 * LENGTH)
    parts = [taken(kzoo.data.load("shapes", shard=(index, 3), **settings), 2 * LENGTH) for index in range(3)]
    joined = [
        {name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
        for batch in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)


def test_a_worker_reads_its_own_part_only(monkeypatch):
    reads = []
    read = shapes._read
    monkeypatch.setattr(shapes, "_read", lambda *key: reads.append(key) or read(*key))
    dataset = kzoo.data.load("shapes", shard=(1, 2), **SETTINGS)
    assert sorted(len(batch["images"]) for batch in taken(dataset)) == [2, 2, 2]
    assert len(reads) == 6


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"start": -1}, "start"),
        ({"start": 1.5}, "start"),
        ({"shard": 2}, "shard=2"),
        ({"shard": (2, 2)}, "index below the count"),
        ({"shard": (0, 5)}, "batch_size=4"),
        ({"shard": (0, 0)}, "count"),
        ({"shard": (-1, 2)}, "index"),
        ({"shard": (0, 4)}, r'last batch of shapes, split "train\[:11\]" has 3 of 11 pictures'),
        ({"cache": ""}, "cache=''"),
        ({"cache": 3}, "cache=3"),
    ],
)
def test_places_that_cannot_be_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        kzoo.data.load("shapes", **SETTINGS, **wrong)


def spying_model():
    """A model that has no loss to speak of, and the pictures that it was trained on, batch by batch."""
    seen = []

    def note(ids):
        seen.append(tuple(ids.tolist()))
        return np.float32(0)

    class Spy(keras.layers.Layer):
        def call(self, x):
            self.add_loss(tf.ensure_shape(tf.numpy_function(note, [x], tf.float32), []))
            return tf.cast(x, tf.float32)

    ids = keras.Input((), dtype="int64", name="image_id")
    images = keras.Input((32, 32, 3), name="images")
    model = ZooModel({"images": images, "image_id": ids}, {"answer": Spy()(ids)})
    model.compile("sgd")
    return model, seen


@pytest.mark.parametrize("start", [0, 1, LENGTH])
def test_fit_goes_on_where_it_stopped(start):
    unbroken = ids(kzoo.data.load("shapes", **SETTINGS).without_end(start).take(4 * LENGTH))
    dataset = kzoo.data.load("shapes", start=start, **SETTINGS)
    model, seen = spying_model()
    next(iter(dataset))
    model.fit(dataset, epochs=2, verbose=0, validation_data=kzoo.data.load("shapes", **SETTINGS))
    del seen[:]
    model.fit(dataset, initial_epoch=2, epochs=4, verbose=0)
    assert [one for one in seen if one] == unbroken[2 * LENGTH :]


def test_a_later_epoch_has_its_own_pictures():
    """As where weights were loaded, and `fit` is told which epoch is next."""
    dataset = kzoo.data.load("shapes", **SETTINGS)
    unbroken = ids(dataset.without_end().take(4 * LENGTH))
    model, seen = spying_model()
    model.fit(dataset, initial_epoch=2, epochs=4, verbose=0)
    assert [one for one in seen if one] == unbroken[2 * LENGTH :]


def test_to_measure_moves_no_epoch():
    dataset = kzoo.data.load("shapes", **SETTINGS)
    unbroken = ids(dataset.without_end().take(3 * LENGTH))
    model, seen = spying_model()
    trained = []
    for _ in range(3):
        model.evaluate(dataset, verbose=0)
        del seen[:]
        model.fit(dataset, verbose=0)
        trained += [one for one in seen if one]
        del seen[:]
    assert trained == unbroken
    rest = ids(dataset.without_end(3 * LENGTH).take(2 * LENGTH))
    model.fit(dataset, epochs=2, verbose=0, validation_data=dataset)
    measured = ids(dataset.without_end(3 * LENGTH).take(LENGTH))
    expected = [*rest[:LENGTH], *measured, *rest[LENGTH:], *measured]
    assert [one for one in seen if one] == expected


@pytest.mark.parametrize("steps", [2, 4])
def test_steps_of_an_epoch_are_as_many_as_were_asked_for(steps):
    dataset = kzoo.data.load("shapes", **SETTINGS)
    unbroken = ids(dataset.without_end().take(5 * steps))
    model, seen = spying_model()
    model.fit(dataset, epochs=3, steps_per_epoch=steps, verbose=0)
    model.fit(dataset, epochs=2, steps_per_epoch=steps, verbose=0)
    assert [one for one in seen if one] == unbroken


def test_keras_that_looks_ahead_moves_no_epoch():
    """On two devices; the parts of a batch may be seen in any order."""
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    dataset = kzoo.data.load("shapes", **SETTINGS)
    unbroken = ids(dataset.without_end().take(4 * LENGTH))
    with strategy.scope():
        model, seen = spying_model()
    model.fit(dataset, epochs=2, verbose=0)
    model.fit(dataset, epochs=2, verbose=0)
    assert [one for one in seen if one] == unbroken


@pytest.mark.parametrize("full", [False, True])
def test_the_parts_of_replicas_are_the_batches_of_one(full):
    """Two workers with two replicas each; of a last batch of three pictures a replica has none."""
    unending = kzoo.data.load("shapes", augment=True, **SETTINGS).without_end(1, full=full)
    whole = taken(unending.take(2 * LENGTH))
    workers = [taken(unending.of_replicas(first, 2, 4).take(4 * LENGTH)) for first in (0, 2)]
    replicas = [worker[replica::2] for worker in workers for replica in (0, 1)]
    joined = [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*replicas, strict=True)
    ]
    assert_same(joined, whole)
    fewest = [min(len(part["images"]) for part in parts) for parts in zip(*replicas, strict=True)]
    assert fewest == ([1] * 6 if full else [1, 0, 1, 1, 0, 1])


def test_what_replicas_cannot_share():
    dataset = kzoo.data.load("shapes", **SETTINGS)
    with pytest.raises(ValueError, match="^batch_size=4: 5 replicas share each batch.*at least 5"):
        dataset.without_end().of_replicas(0, 1, 5)
    small = kzoo.data.load("shapes", **SETTINGS | {"batch_size": 20})
    with pytest.raises(ValueError, match="^batch_size=20: 12 replicas.* at most 11 of the 11 pictures"):
        small.without_end().of_replicas(0, 1, 12)
    part = kzoo.data.load("shapes", shard=(0, 2), **SETTINGS)  # somebody shares them out already
    assert not hasattr(part.without_end(), "of_replicas")


def test_augmentation_is_drawn_anew_in_each_epoch():
    dataset = kzoo.data.load("shapes", augment=Augmentation(), shuffle=False, **SETTINGS)
    first, second = taken(dataset), taken(dataset)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one["image_id"], two["image_id"])
        assert (one["scale"] != two["scale"]).all()
