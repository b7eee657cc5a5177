import hashlib
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("distributed_run.py")
MODES = ("mirrored", "worker 0", "worker 1")

# What is private in Keras and is overridden, as it was read: owner, name -> version -> digest of its source
READ = {
    (keras.Model, "_maybe_symbolic_build"): {"3.15.1": "92a504f5eba9b29f"},  # kzoo.distributed
    (keras.Model, "_make_function"): {"3.15.1": "bb33b7a0da3d2740"},
    (keras.Model, "train_step"): {"3.15.1": "debf0efab9d5794b"},  # kzoo.global_batch: what the total counts
    (keras.layers.Layer, "add_loss"): {"3.15.1": "7f70f38e2f25640d"},  # kzoo.losses.loss_layer
    (keras.layers.BatchNormalization, "_moments"): {"3.15.1": "2ba739b46f4fadea"},  # kzoo.layers.batch_norm
    (keras.optimizers.AdamW, "_backend_apply_gradients"): {"3.15.1": "48d6e24d58039241"},  # kzoo.training
    (keras.optimizers.AdamW, "_backend_update_step"): {"3.15.1": "00bd759c099a6b72"},
    (keras.optimizers.AdamW, "_all_reduce_sum_gradients"): {"3.15.1": "953512efa56c9680"},
    (keras.optimizers.AdamW, "_apply_weight_decay"): {"3.15.1": "fee6526b6ad02f94"},
    (keras.optimizers.LossScaleOptimizer, "check_finite"): {"3.15.1": "b0ce693a4ff0133b"},
    (keras.optimizers.LossScaleOptimizer, "_tf_apply"): {"3.15.1": "e702c4db1a0622e3"},
}


def cluster():
    """TF_CONFIG of two workers, at ports that nobody has."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]


def start(*arguments, tf_config="{}"):
    environment = os.environ | {"TF_CONFIG": tf_config, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, SCRIPT, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes)


@pytest.fixture
def started():
    """Processes that are ended when the test is, however it ends."""
    processes = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def shown():
    """What the script shows on one device, on two mirrored ones and on two workers, by mode."""
    configs = cluster()
    processes = {
        "one": start("one"),
        "mirrored": start("mirrored"),
        "worker 0": start("worker", tf_config=configs[0]),
        "worker 1": start("worker", tf_config=configs[1]),
    }
    results = {}
    try:
        for mode, process in processes.items():
            output, errors = process.communicate(timeout=600)
            assert process.returncode == 0, f"{mode}: {errors[-3000:]}"
            results[mode] = json.loads(output.splitlines()[-1])
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return results


def assert_close(found, expected):
    assert set(found) == set(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(
            np.hstack(found[key]), np.hstack(values), rtol=1e-4, atol=1e-5, err_msg=key
        )


def test_strategies_tell_what_they_are(shown):
    told = {mode: (result["described"], result["is_chief"]) for mode, result in shown.items()}
    assert told == {
        "one": ("one device", True),
        "mirrored": ("2 replicas", True),
        "worker 0": ("2 workers with 1 replica each", True),
        "worker 1": ("2 workers with 1 replica each", False),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["uneven", "empty", "two at once", "of others"])
def test_fit_shows_and_learns_what_one_device_does(shown, mode, case):
    """Also where the last batch of an epoch leaves a replica with nothing, and where steps do not go up."""
    assert_close(shown[mode][case], shown["one"][case])


@pytest.mark.parametrize("mode", MODES)
def test_epochs_of_endless_data_end_where_they_should(shown, mode):
    """Two steps at once: the epoch of three ends within the second execution."""
    iterations, _ = shown[mode]["endless"]["state"]
    assert iterations == 6 and len(shown[mode]["steps"]) == 4


def test_all_workers_show_the_same_at_each_step(shown):
    assert shown["worker 0"]["steps"] == shown["worker 1"]["steps"]
    np.testing.assert_allclose(shown["mirrored"]["steps"], shown["worker 0"]["steps"], rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_evaluate_shows_what_one_device_does(shown, mode):
    assert_close(shown[mode]["evaluate"], shown["one"]["evaluate"])


@pytest.mark.parametrize("mode", ["mirrored", "worker 0"])
@pytest.mark.parametrize("way", ["predict", "predict_on_batch", "predict_dataset"])
def test_predict_answers_as_one_device_and_without_the_others(shown, mode, way):
    expected = np.array(shown["one"][way])
    assert expected.shape == (9, 5)
    np.testing.assert_allclose(shown[mode][way], expected, rtol=1e-4, atol=1e-4)
    assert way not in shown["worker 1"]


def test_the_parts_of_all_replicas_are_the_batches_of_one_device(shown):
    (whole,) = shown["one"]["parts"]
    assert [len(batch) for batch in whole] == [4, 3, 4, 4]
    for parts in (shown["mirrored"]["parts"], shown["worker 0"]["parts"] + shown["worker 1"]["parts"]):
        first, second = parts
        assert [one + two for one, two in zip(first, second, strict=True)] == whole
        assert [len(one) - len(two) for one, two in zip(first, second, strict=True)] == [0, -1, 0, 0]


@pytest.mark.parametrize("mode", MODES)
def test_what_several_replicas_cannot_do_is_told(shown, mode):
    single, within, eagerly = shown[mode]["refused"]
    assert "learns by fit(dataset), not from single batches" in single
    assert "outside of strategy.scope()" in within
    assert eagerly.startswith("run_eagerly=True: ")


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_is_killed_ends_the_other(started, victim):
    configs = cluster()
    started += [start("worker", "until", "killed", tf_config=config) for config in configs]
    assert started[0].stdout.readline() and started[1].stdout.readline()  # they learn
    started[victim].send_signal(signal.SIGKILL)
    left = started[1 - victim]
    _, errors = left.communicate(timeout=60)
    address = json.loads(configs[0])["cluster"]["worker"][victim]
    assert f"distributed_run.py: worker {victim} of 2 ({address}) is gone; start the job again" in errors
    assert left.returncode == 138


@pytest.mark.parametrize(("owner", "name"), READ)
def test_keras_has_what_was_overridden(owner, name):
    """Where it has not: read what changed, see to what is overridden, and note the version here."""
    source = hashlib.sha256(inspect.getsource(getattr(owner, name)).encode()).hexdigest()[:16]
    known = READ[owner, name]
    assert source in known.values(), (
        f"Keras {keras.__version__} has another {owner.__name__}.{name} than {', '.join(known)}: {source}. "
        "See whether what kzoo has in its place still does what Keras does, and add the version here."
    )
