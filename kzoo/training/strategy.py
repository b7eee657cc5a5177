"""Where a model is trained: on one device, on several of one machine, or on several machines."""

import contextlib
import faulthandler
import socket
import sys
import time
from collections.abc import Iterator

import tensorflow as tf

from kzoo.checks import check_choice
from kzoo.training.cluster import Cluster, from_environment
from kzoo.workers import WorkerLost, answers, as_worker_lost, told

STRATEGIES = ("auto", "none", "mirrored", "multi_worker")
PATIENCE = 600  # seconds in which all workers have to come; a cluster may fetch images for minutes
_JOINING = 120  # seconds for TensorFlow to connect workers that are all there


def strategy(name: str = "auto") -> tf.distribute.Strategy:
    """The strategy to build and compile a model under, `with strategy.scope()`.

    It is to be asked for before TensorFlow computes anything.

    Args:
        name: "none" is one device. "mirrored": the GPUs of this machine, or the logical CPUs where somebody
            made several. "multi_worker": the workers that the environment variable `TF_CONFIG` lists, or the
            tasks of a Slurm step. "auto": these workers where there are several, else the GPUs where there
            are several, else one device.

    Returns:
        A `MultiWorkerMirroredStrategy`, a `MirroredStrategy`, or TensorFlow's default. A cluster of one
        worker is a machine of its own.

    Raises:
        ValueError: the name is not one of these, there are not several devices or no workers, or `TF_CONFIG`
            is not what it should be.
        RuntimeError: TensorFlow has computed something before; then it cannot join other workers.
        WorkerLost: not all workers came within ten minutes.

    Example:
        strategy = kzoo.training.strategy("auto")
        with strategy.scope():
            model = kzoo.build("retinanet", num_classes=3, input_shape=(256, 320, 3))
            model.compile(kzoo.training.adamw(1e-3))
        model.fit(dataset)
    """
    check_choice("strategy", name, STRATEGIES)
    cluster = (
        None if name == "none" else from_environment()
    )  # which a MirroredStrategy has to be able to read
    if name == "multi_worker" and cluster is None:
        raise ValueError(
            'strategy="multi_worker": neither TF_CONFIG nor a Slurm step says who the workers are. Start the '
            "program with `srun`, or on each machine with another index: TF_CONFIG='"
            '{"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}, '
            '"task": {"type": "worker", "index": 0}}\'.'
        )
    if name == "mirrored":
        return _mirrored()
    if cluster is not None and len(cluster.addresses) > 1:
        return _joined(cluster)
    several_gpus = name != "none" and len(tf.config.list_physical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several_gpus else tf.distribute.get_strategy()


def _mirrored() -> tf.distribute.Strategy:
    gpus, processors = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
    devices = gpus if len(gpus) > 1 else processors
    if len(devices) == 1:
        raise ValueError(
            f'strategy="mirrored": several devices are needed, and there are {len(gpus)} GPUs and '
            f'{len(processors)} CPU. Give "none" or "auto".'
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _joined(cluster: Cluster) -> tf.distribute.Strategy:
    """The strategy of several workers, once all of them are there."""
    _meet(cluster)
    # While it connects, TensorFlow hears neither Ctrl-C nor any thread of Python.
    faulthandler.dump_traceback_later(_JOINING, exit=True)
    try:
        return _Joined(cluster.resolver())
    except RuntimeError as error:
        if isinstance(error, tf.errors.OpError) or "program startup" not in str(error):
            raise
        raise RuntimeError(
            "kzoo.training.strategy: TensorFlow has computed something already, and cannot join other "
            "workers any more. Ask for the strategy first of all."
        ) from None
    except tf.errors.OpError as error:
        raise WorkerLost(told([], cluster.addresses, str(error))) from error
    finally:
        faulthandler.cancel_dump_traceback_later()


class _Joined(tf.distribute.MultiWorkerMirroredStrategy):
    """The workers of a cluster. Variables are made together: within `scope` it is told, too, who is gone."""

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        with as_worker_lost(self), super().scope():
            yield


def _meet(cluster: Cluster) -> None:
    """Returns once every worker takes connections.

    TensorFlow itself would wait for an hour, deaf to Ctrl-C, and not say for whom.
    """
    own = cluster.addresses[cluster.number]
    others = {number for number in range(len(cluster.addresses)) if number != cluster.number}
    end, told_at = time.monotonic() + PATIENCE, time.monotonic() + 10
    with _listening(int(own.rpartition(":")[2])):
        while missing := [number for number in sorted(others) if not answers(cluster.addresses[number])]:
            who = ", ".join(
                f"worker {one} of {len(cluster.addresses)} ({cluster.addresses[one]})" for one in missing
            )
            if time.monotonic() > end:
                raise WorkerLost(
                    f"{who} did not come within {PATIENCE} seconds. Start all workers within that time, and "
                    "see that they reach each other at these addresses."
                )
            if time.monotonic() > told_at:
                print(f"Waiting for {who}.", file=sys.stderr, flush=True)
                told_at = time.monotonic() + 60
            time.sleep(0.2)


def _listening(port: int) -> socket.socket:
    """Takes connections in the place of TensorFlow, which will do so at the same port."""
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise ValueError(
            f"this worker is to listen at port {port}, which cannot be had: {error.strerror}. Another "
            "program, or a run that has not ended yet, may have it."
        ) from None
