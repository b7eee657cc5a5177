"""The workers of a strategy: which is the chief, how they wait for each other, which of them is gone.

A worker is a process of its own, with one or several replicas of the model; together they train one model
(`tf.distribute.MultiWorkerMirroredStrategy`). Any other strategy has one worker, which is the chief.
"""

import contextlib
import re
import socket
from collections.abc import Iterator

import tensorflow as tf

# What TensorFlow raises where others do not answer; it depends on which call it was that failed.
_OF_OTHERS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)
_TASK = re.compile(r"/job:(chief|worker)(?:/replica:0)?/task:(\d+)")
_SECONDS = 2.0  # that a worker has to take a connection


class WorkerLost(RuntimeError):
    """Another worker is gone, or never came, and this one cannot go on. The message tells which one."""

    exit_status = 138  # schedulers take those above 128 for worth another try


def addresses(strategy: tf.distribute.Strategy) -> tuple[str, ...]:
    """HOST:PORT of all workers, the chief's first; none where there is but one worker."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return ()
    cluster = strategy.cluster_resolver.cluster_spec().as_dict()
    found = (*cluster.get("chief", ()), *cluster.get("worker", ()))
    return found if len(found) > 1 else ()


def number_of_worker(strategy: tf.distribute.Strategy) -> int:
    """Which of all workers this one is; the chief is 0."""
    if not addresses(strategy):
        return 0
    resolver = strategy.cluster_resolver
    chiefs = len(resolver.cluster_spec().as_dict().get("chief", ()))
    return resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)


def several_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether other processes train the same model."""
    return bool(addresses(strategy))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this is the worker that writes; with one worker, it is."""
    return number_of_worker(strategy) == 0


def described(strategy: tf.distribute.Strategy) -> str:
    """The workers and replicas of a strategy in a few words, as "2 workers with 1 replica each"."""
    workers, replicas = len(addresses(strategy)) or 1, strategy.num_replicas_in_sync
    if workers > 1:
        return f"{workers} workers with {_counted(replicas // workers)} each"
    return "one device" if replicas == 1 else _counted(replicas)


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns once all workers are here. All of them have to call it.

    Workers need not wait for each other before they end: who is left can compute, save and export on its own.
    But after ten seconds it cannot do anything together with them any more, and schedulers may end a job of
    which one worker has ended.

    Raises:
        WorkerLost: another one is gone.
    """
    if not several_workers(strategy):
        return

    def together():
        return tf.distribute.get_replica_context().all_reduce("sum", tf.ones([]))

    with as_worker_lost(strategy):
        strategy.run(tf.function(together))


@contextlib.contextmanager
def as_worker_lost(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """What TensorFlow raises when another worker is gone, as a `WorkerLost`; other errors as they are.

    A process that ends is found at once, a machine that falls silent within ten seconds or so, by the
    heartbeats of TensorFlow's coordination service.
    """
    try:
        yield
    except _OF_OTHERS as error:
        known = addresses(strategy)
        own = number_of_worker(strategy)
        lost = _lost(str(error), known, own, _chiefs(strategy)) if known else []
        of_collective = "ollective" in str(error) or "oordination" in str(error)
        if not lost and not (known and of_collective):
            raise
        raise WorkerLost(told(lost, known, str(error))) from error


def told(lost: list[int], known: tuple[str, ...], reason: str) -> str:
    """The message of a `WorkerLost`.

    Args:
        lost: numbers of the workers that are gone; none if that is not known.
        known: the addresses of all.
        reason: what TensorFlow says.
    """
    who = ", ".join(f"worker {number} of {len(known)} ({known[number]})" for number in lost)
    gone = f"{who} {'is' if len(lost) == 1 else 'are'} gone" if lost else "the workers lost each other"
    because = "" if lost else f" ({reason.strip().splitlines()[-1]})"
    return f"{gone}{because}; start the job again, it goes on from its last checkpoint."


def answers(address: str, seconds: float = _SECONDS) -> bool:
    """Whether a worker takes connections."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except OSError:
        return False
    return True


def _lost(message: str, known: tuple[str, ...], own: int, chiefs: int) -> list[int]:
    """The numbers of the workers that do not answer, or of those that TensorFlow says are gone."""
    others = [number for number in range(len(known)) if number != own]
    silent = [number for number in others if not answers(known[number])]
    if silent:
        return silent
    # A process that hangs, and a machine whose plug was pulled, still take connections or seem to.
    if "stopped sending heartbeats" in message or "remote target" in message:
        named = {int(task) + (chiefs if job == "worker" else 0) for job, task in _TASK.findall(message)}
        return sorted(named & set(others))
    return [0] if "CoordinationService/Heartbeat" in message and own else []


def _chiefs(strategy: tf.distribute.Strategy) -> int:
    """How many workers are numbered before those that TensorFlow calls so: one, or none."""
    return len(strategy.cluster_resolver.cluster_spec().as_dict().get("chief", ()))


def _counted(replicas: int) -> str:
    return f"{replicas} replica" + "s" * (replicas > 1)
