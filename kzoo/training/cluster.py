"""Who the workers of a job are, and which of them this process is: from TF_CONFIG, or from Slurm."""

import json
import os
from dataclasses import dataclass

import tensorflow as tf
from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as slurm

from kzoo.checks import listed

_EXAMPLE = '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
_JOBS = ("chief", "worker")


@dataclass(frozen=True)
class Cluster:
    """The workers of a job.

    Args:
        chief: HOST:PORT of the chief where it is told apart, else none.
        workers: HOST:PORT of the workers. Where no chief is told apart, the first of them is.
        number: which of all of these this process is, the chief counted first.
    """

    chief: tuple[str, ...]
    workers: tuple[str, ...]
    number: int

    @property
    def addresses(self) -> tuple[str, ...]:
        """HOST:PORT of all, the chief's first."""
        return self.chief + self.workers

    def resolver(self) -> tf.distribute.cluster_resolver.ClusterResolver:
        """The same for TensorFlow, with all the GPUs that this process sees."""
        spec = {"chief": list(self.chief), "worker": list(self.workers)}
        is_chief = self.number < len(self.chief)
        return tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: tasks for job, tasks in spec.items() if tasks}),
            task_type="chief" if is_chief else "worker",
            task_id=self.number if is_chief else self.number - len(self.chief),
            rpc_layer="grpc",
            num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        )


def from_environment() -> Cluster | None:
    """The workers that `TF_CONFIG` lists, else those of the Slurm step, else None.

    Raises:
        ValueError: what is there is not what it should be.
    """
    config = os.environ.get("TF_CONFIG")
    if config is not None:
        return _from_tf_config(config)
    # Not SLURM_NTASKS: a batch script has that, too, also where it starts the program without srun.
    return _from_slurm() if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 else None


def _from_tf_config(config: str) -> Cluster | None:
    try:
        content = json.loads(config)
    except json.JSONDecodeError as error:
        raise _wrong(f"it is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise _wrong(f"it is {config}")
    jobs, task = content.get("cluster"), content.get("task")
    if not jobs and not task:
        return None  # as some schedulers write it for a process alone
    if not isinstance(jobs, dict) or not isinstance(task, dict):
        raise _wrong('"cluster" or "task" is missing or no object')
    for job, tasks in jobs.items():
        if job not in _JOBS:
            raise _wrong(f'its cluster has the job "{job}", but all are workers, or one of them "chief"')
        if not isinstance(tasks, list) or not all(map(_is_address, tasks)):
            raise _wrong(f'the addresses of "{job}" are {tasks!r}, but a list of "HOST:PORT" is expected')
    job, index = task.get("type"), task.get("index")
    if job not in _JOBS or job not in jobs:
        raise _wrong(f"its task is of type {job!r}, but the cluster has {listed(jobs)}")
    if isinstance(index, str) and index.isdigit():
        index = int(index)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(jobs[job]):
        raise _wrong(f'its task has the index {index!r}, but the cluster has {len(jobs[job])} of "{job}"')
    chief, workers = tuple(jobs.get("chief", ())), tuple(jobs.get("worker", ()))
    if len(chief) > 1:
        raise _wrong(f"its cluster has {len(chief)} chiefs, but one at most is expected")
    return Cluster(chief, workers, index + (len(chief) if job == "worker" else 0))


def _is_address(address: object) -> bool:
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    return bool(host) and port.isdigit() and 0 < int(port) < 2**16


def _wrong(found: str) -> ValueError:
    return ValueError(f"TF_CONFIG: {found}; expected something like {_EXAMPLE}.")


def _from_slurm() -> Cluster:
    """The tasks of a Slurm step, node by node.

    TensorFlow's `SlurmClusterResolver` sorts the nodes by name, so that node10 is before node9 and tasks look
    for each other in the wrong places; and it fails where there is no nvidia-smi, or fewer GPUs than tasks.
    """
    variables = ("SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_PROCID")
    missing = [name for name in variables if name not in os.environ]
    if missing:
        raise ValueError(f"Slurm tells of several tasks, but not {listed(missing)}. Start them with `srun`.")
    nodes, tasks, number = (os.environ[name] for name in variables)
    # Ports of a job's own: nodes may be shared. Below those that Linux hands out itself.
    first = 16384 + 16 * (int(os.environ.get("SLURM_JOB_ID", 0)) % 1000)
    counts = zip(slurm.expand_hostlist(nodes), slurm.expand_tasks_per_node(tasks), strict=True)
    workers = tuple(f"{node}:{first + task}" for node, count in counts for task in range(count))
    return Cluster((), workers, int(number))
