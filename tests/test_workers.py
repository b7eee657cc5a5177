import socket
from types import SimpleNamespace

import pytest
import tensorflow as tf

from kzoo import workers
from kzoo.workers import WorkerLost, addresses, answers, as_worker_lost, described, is_chief, several_workers


def multi_worker(replicas=2, task=("worker", 0), **jobs):
    """A strategy that knows its workers, and does not talk to them."""
    strategy = object.__new__(tf.distribute.MultiWorkerMirroredStrategy)
    spec = tf.train.ClusterSpec(jobs)
    resolver = SimpleNamespace(cluster_spec=lambda: spec, task_type=task[0], task_id=task[1])
    extended = SimpleNamespace(_cluster_resolver=resolver, _num_replicas_in_sync=replicas)
    strategy._extended = extended
    return strategy


def test_one_worker():
    for strategy in (tf.distribute.get_strategy(), multi_worker(1, worker=["a:1"])):
        assert addresses(strategy) == () and is_chief(strategy) and not several_workers(strategy)
        assert described(strategy) == "one device"
    assert described(multi_worker(4, worker=["a:1"])) == "4 replicas"


def test_several_workers():
    first, second = (multi_worker(2, ("worker", index), worker=["a:1", "b:2"]) for index in (0, 1))
    assert addresses(first) == ("a:1", "b:2") and several_workers(first)
    assert is_chief(first) and not is_chief(second)
    assert described(first) == "2 workers with 1 replica each"
    jobs = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    for number, task in enumerate((("chief", 0), ("worker", 0), ("worker", 1))):
        strategy = multi_worker(6, task, **jobs)
        assert addresses(strategy) == ("c:3", "a:1", "b:2")
        assert workers.number_of_worker(strategy) == number and is_chief(strategy) == (number == 0)
        assert described(strategy) == "3 workers with 2 replicas each"


@pytest.fixture
def alive():
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield f"127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture
def dead():
    with socket.create_server(("127.0.0.1", 0)) as one:
        address = f"127.0.0.1:{one.getsockname()[1]}"
    return address


def test_who_answers(alive, dead):
    assert answers(alive) and not answers(dead)


def lost(strategy, error):
    with pytest.raises(WorkerLost) as raised, as_worker_lost(strategy):
        raise error
    assert "start the job again" in str(raised.value)
    return str(raised.value).partition(";")[0]


def test_a_worker_that_does_not_answer_is_gone(alive, dead):
    error = tf.errors.UnavailableError(None, None, "Collective ops is aborted by: recvmsg: reset by peer")
    strategy = multi_worker(3, ("worker", 0), worker=[alive, dead, alive])
    assert lost(strategy, error) == f"worker 1 of 3 ({dead}) is gone"
    strategy = multi_worker(3, ("worker", 0), worker=[alive, dead, dead])
    assert lost(strategy, error) == f"worker 1 of 3 ({dead}), worker 2 of 3 ({dead}) are gone"


def test_a_worker_that_hangs_is_gone_though_it_answers(alive):
    told = "unhealthy (stopped sending heartbeats):\n/job:worker/replica:0/task:1\nThe tasks have crashed."
    error = tf.errors.UnavailableError(None, None, told)
    strategy = multi_worker(2, ("worker", 0), worker=[alive, alive])
    assert lost(strategy, error) == f"worker 1 of 2 ({alive}) is gone"
    with_chief = multi_worker(3, ("worker", 0), worker=[alive, alive], chief=[alive])
    assert lost(with_chief, error) == f"worker 2 of 3 ({alive}) is gone"
    error = tf.errors.DeadlineExceededError(None, None, "RPC: /tensorflow.CoordinationService/Heartbeat")
    strategy = multi_worker(2, ("worker", 1), worker=[alive, alive])
    assert lost(strategy, error) == f"worker 0 of 2 ({alive}) is gone"


def test_workers_that_all_answer_lost_each_other(alive):
    error = tf.errors.InternalError(None, None, "Collective ops is aborted by: something")
    strategy = multi_worker(2, ("worker", 0), worker=[alive, alive])
    told = "the workers lost each other (Collective ops is aborted by: something)"
    assert lost(strategy, error) == told


def test_other_errors_stay_what_they_are(alive, dead):
    for strategy, error in (
        (multi_worker(2, ("worker", 0), worker=[alive, alive]), tf.errors.InternalError(None, None, "cuDNN")),
        (
            multi_worker(2, ("worker", 0), worker=[alive, dead]),
            tf.errors.InvalidArgumentError(None, None, "a"),
        ),
        (multi_worker(2, ("worker", 0), worker=[alive, dead]), ValueError("a")),
        (tf.distribute.get_strategy(), tf.errors.UnavailableError(None, None, "Collective")),
    ):
        with pytest.raises(type(error)) as raised, as_worker_lost(strategy):
            raise error
        assert raised.value is error


def test_one_worker_waits_for_nobody():
    workers.wait_for_all(tf.distribute.get_strategy())
