import json

import pytest

from kzoo.training.cluster import Cluster, from_environment

ADDRESSES = ["10.0.0.1:12345", "10.0.0.2:12345"]


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)


def of(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    return from_environment()


def test_without_a_job_there_is_none(monkeypatch):
    assert from_environment() is None
    for config in ("{}", {"cluster": {}, "environment": "cloud"}):
        assert of(monkeypatch, config) is None


def test_workers_of_tf_config(monkeypatch):
    task = {"type": "worker", "index": 1}
    found = of(monkeypatch, {"cluster": {"worker": ADDRESSES}, "task": task})
    assert found == Cluster((), tuple(ADDRESSES), 1)
    with_chief = {"cluster": {"worker": ADDRESSES, "chief": ["a:1"]}, "task": task, "environment": "cloud"}
    found = of(monkeypatch, with_chief)
    assert (found.addresses, found.number) == (("a:1", *ADDRESSES), 2)
    assert (found.resolver().task_type, found.resolver().task_id) == ("worker", 1)
    found = of(monkeypatch, with_chief | {"task": {"type": "chief", "index": "0"}})
    assert (found.number, found.resolver().task_type, found.resolver().task_id) == (0, "chief", 0)
    assert found.resolver().cluster_spec().as_dict() == {"chief": ["a:1"], "worker": ADDRESSES}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{'cluster'", "it is no JSON"),
        ("", "it is no JSON"),
        ("[]", r"it is \[\]"),
        ({"cluster": {"worker": ADDRESSES}}, '"cluster" or "task" is missing'),
        ({"cluster": ADDRESSES, "task": {"type": "worker", "index": 0}}, '"cluster" or "task"'),
        (
            {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": 2}},
            'index 2, .* 2 of "worker"',
        ),
        ({"cluster": {"worker": ADDRESSES}, "task": {"type": "worker"}}, "index None"),
        ({"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": -1}}, "index -1"),
        (
            {"cluster": {"worker": ADDRESSES}, "task": {"type": "chief", "index": 0}},
            "of type 'chief', .*has worker",
        ),
        (
            {"cluster": {"worker": ADDRESSES}, "task": {"type": "evaluator", "index": 0}},
            "of type 'evaluator'",
        ),
        ({"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}, 'has the job "ps"'),
        ({"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}, 'addresses of "worker" are'),
        ({"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}, 'addresses of "worker" are'),
        ({"cluster": {"worker": ["a:1a"]}, "task": {"type": "worker", "index": 0}}, 'addresses of "worker"'),
        ({"cluster": {"chief": ADDRESSES}, "task": {"type": "chief", "index": 0}}, "has 2 chiefs"),
    ],
)
def test_what_tf_config_cannot_be(monkeypatch, config, message):
    with pytest.raises(ValueError, match=f"^TF_CONFIG: .*{message}.*; expected something like "):
        of(monkeypatch, config)


def slurm(monkeypatch, number, **variables):
    variables = {"NUM_TASKS": "3", "NODELIST": "node[9-10]", "TASKS_PER_NODE": "2,1"} | variables
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_STEP_{name}", value)
    monkeypatch.setenv("SLURM_PROCID", str(number))
    monkeypatch.setenv("SLURM_JOB_ID", "7002")
    return from_environment()


def test_tasks_of_a_slurm_step_lie_node_by_node(monkeypatch):
    """In Slurm's order: by name node10 would be before node9."""
    found = slurm(monkeypatch, 2)
    assert found == Cluster((), ("node9:16416", "node9:16417", "node10:16416"), 2)


def test_tf_config_is_asked_before_slurm(monkeypatch):
    slurm(monkeypatch, 0)
    assert (
        of(monkeypatch, {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": 0}}).number
        == 0
    )
    assert from_environment().workers == tuple(ADDRESSES)


def test_a_batch_script_is_no_step(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert from_environment() is None
    assert slurm(monkeypatch, 0, NUM_TASKS="1") is None


def test_a_step_that_does_not_tell_its_nodes(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    for name in ("SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="not SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE, SLURM_PROCID"):
        from_environment()
