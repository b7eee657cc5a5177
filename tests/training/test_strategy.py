import contextlib
import json
import socket
import sys
from types import SimpleNamespace

import pytest
import tensorflow as tf

from kzoo import training
from kzoo.training.cluster import from_environment
from kzoo.workers import WorkerLost

module = sys.modules["kzoo.training.strategy"]  # whose name the function has in kzoo.training


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def two_workers(monkeypatch):
    """TF_CONFIG of the first of two, at ports that nobody has; gives their addresses."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    return addresses


def test_one_device():
    default = tf.distribute.get_strategy()
    assert training.strategy("none") is default
    assert training.strategy() is default


def test_a_cluster_of_one_worker_is_a_machine_of_its_own(monkeypatch):
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["127.0.0.1:1"]}, "task": task}))
    for name in ("auto", "multi_worker"):
        assert training.strategy(name) is tf.distribute.get_strategy()


def test_what_is_asked_for_has_to_be_there():
    with pytest.raises(ValueError, match='^strategy="mirored": unknown. Nearest: "mirrored"'):
        training.strategy("mirored")
    with pytest.raises(ValueError, match='^strategy="mirrored": several devices.*there are 0 GPUs and 1 CPU'):
        training.strategy("mirrored")
    with pytest.raises(ValueError, match='^strategy="multi_worker": neither TF_CONFIG nor.*"task": {"type"'):
        training.strategy("multi_worker")


def test_what_cannot_be_read_is_told_whatever_is_asked_for(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    for name in ("auto", "mirrored", "multi_worker"):
        with pytest.raises(ValueError, match="^TF_CONFIG: it is no JSON"):
            training.strategy(name)


def test_none_is_one_device_also_within_a_job(two_workers):
    assert training.strategy("none") is tf.distribute.get_strategy()


def test_a_worker_that_never_comes(two_workers, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0)
    with pytest.raises(WorkerLost, match=f"^worker 1 of 2 .{two_workers[1]}. did not come within 0 seconds"):
        training.strategy()


def test_a_port_that_somebody_has(two_workers):
    host, port = two_workers[0].split(":")
    with (
        socket.create_server((host, int(port))),
        pytest.raises(ValueError, match=f"port {port}, which cannot"),
    ):
        training.strategy()


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (RuntimeError("must be configured at program startup"), RuntimeError, "Ask for the strategy first"),
        (tf.errors.DeadlineExceededError(None, None, "late"), WorkerLost, r"lost each other \(late\)"),
        (RuntimeError("something else"), RuntimeError, "^something else$"),
    ],
)
def test_what_tensorflow_raises_is_told(two_workers, monkeypatch, raised, expected, message):
    def fail(resolver):
        raise raised

    monkeypatch.setattr(module, "_Joined", fail)
    host, port = two_workers[1].split(":")
    with socket.create_server((host, int(port))), pytest.raises(expected, match=message):
        training.strategy()


def test_who_is_gone_while_a_model_is_built_is_told(two_workers, monkeypatch):
    """Variables begin as the chief's do: one worker waits for another there, too."""
    joined = object.__new__(module._Joined)  # that talks to nobody
    joined._extended = SimpleNamespace(_cluster_resolver=from_environment().resolver())
    monkeypatch.setattr(tf.distribute.MultiWorkerMirroredStrategy, "scope", contextlib.nullcontext)
    with pytest.raises(WorkerLost, match=f"^worker 1 of 2 .{two_workers[1]}. is gone"), joined.scope():
        raise tf.errors.UnavailableError(None, None, "Collective ops is aborted by: somebody")
