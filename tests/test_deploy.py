"""The scripts and manifests that start recipes on several machines, and the page that tells of them."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import tyro
import yaml

from kzoo.workers import WorkerLost

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs/scale.md"

needs_linux = pytest.mark.skipif(shutil.which("setsid") is None, reason="the scripts are for Linux")

# What stands in for a recipe: it tells of its start, and ends as the test says for its worker and this start.
RECIPE = """
[[ $TF_CONFIG$SLURM_PROCID =~ ([01])[}]*$ ]] && me=${BASH_REMATCH[1]}
cd "$1"
start=$(ls | grep -c "^config-$me-")
echo "$TF_CONFIG" > config-$me-$start
trap 'exit 143' TERM
read -ra ends <<< "${!me+$(sed -n "$((me + 1))p" ends)}"
end=${ends[start]}
while [[ $end == wait ]]; do sleep 0.05; done
exit "$end"
"""


def job(folder, *ends):
    """Writes a stand-in for a recipe whose workers end, start by start, with these statuses."""
    (folder / "ends").write_text("\n".join(ends) + "\n")
    (folder / "recipe.sh").write_text(RECIPE)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in ends]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    (folder / "hosts").write_text("# two workers\n\n" + "\n".join(f" {one}  # here" for one in addresses))
    return addresses


def environment(**variables):
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TF_CONFIG"))
    }
    return clean | {"PYTHON": "bash", "PAUSE": "0", "GRACE": "0"} | variables


def begin(folder, *options, hosts="hosts", **variables):
    command = [DEPLOY / "bare/train.sh", folder / hosts, folder / "recipe.sh", folder, *options]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(**variables),
        text=True,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def ended(process):
    _, told = process.communicate(timeout=120)
    return process.returncode, told


def starts(folder):
    return len(list(folder.glob("config-0-*")))


@pytest.mark.parametrize(
    "path", [*DEPLOY.rglob("*.sh"), *DEPLOY.rglob("*.sbatch")], ids=lambda path: path.name
)
def test_scripts_are_bash(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert path.suffix == ".sbatch" or os.access(path, os.X_OK)


@needs_linux
class TestMachines:
    def test_each_worker_knows_all(self, tmp_path):
        addresses = job(tmp_path, "0", "0")
        assert ended(begin(tmp_path))[0] == 0
        for index in (0, 1):
            config = json.loads((tmp_path / f"config-{index}-0").read_text())
            assert config == {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}

    def test_a_lost_worker_starts_the_job_again(self, tmp_path):
        job(tmp_path, f"{WorkerLost.exit_status} 143 0", "137 143 0")
        status, told = ended(begin(tmp_path))
        assert status == 0 and starts(tmp_path) == 3
        assert "ended with 138 137" in told and "2 of at most 10" in told

    @pytest.mark.parametrize("error", [1, 2, 127, 130])
    def test_an_error_ends_it(self, tmp_path, error):
        job(tmp_path, "138", str(error))
        assert ended(begin(tmp_path))[0] == error and starts(tmp_path) == 1

    def test_it_gives_up(self, tmp_path):
        job(tmp_path, "138 138 138", "138 138 138")
        status, told = ended(begin(tmp_path, RESTARTS="1"))
        assert status == 138 and starts(tmp_path) == 2 and "given up" in told

    def test_who_waits_for_a_worker_that_failed_is_asked_to_end(self, tmp_path):
        job(tmp_path, "wait", "1")
        status, told = ended(begin(tmp_path))
        assert status == 1 and "ended with 143 1" in told

    def test_who_is_done_leaves_the_chief_alone(self, tmp_path):
        """It measures and exports, when the others have nothing left to do."""
        job(tmp_path, "wait", "0")
        process = begin(tmp_path, RESTARTS="0")
        wait_until(lambda: (tmp_path / "config-1-0").exists() and starts(tmp_path))
        time.sleep(3)
        assert process.poll() is None
        process.terminate()
        assert "ended with 143 0" in ended(process)[1]

    @pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_stopping_it_stops_all_workers(self, tmp_path, number, status):
        job(tmp_path, "wait", "wait")
        process = begin(tmp_path)
        wait_until(lambda: (tmp_path / "config-1-0").exists() and starts(tmp_path))
        process.send_signal(number)
        returned, told = ended(process)
        assert returned == status and "ended with 143 143" in told and starts(tmp_path) == 1

    def test_killing_it_leaves_no_worker_behind(self, tmp_path):
        job(tmp_path, "wait", "wait")
        (tmp_path / "recipe.sh").write_text(
            RECIPE.replace("exit 143", "touch ended-$me; exit 143").replace("sleep", "touch on-$me; sleep")
        )
        process = begin(tmp_path)
        wait_until(lambda: (tmp_path / "on-0").exists() and (tmp_path / "on-1").exists())
        process.kill()
        wait_until(lambda: (tmp_path / "ended-0").exists() and (tmp_path / "ended-1").exists())
        process.communicate(timeout=120)

    def test_other_machines_are_reached_by_ssh(self, tmp_path):
        """Something in the place of ssh, which hands the command to a shell elsewhere, as sshd does."""
        job(tmp_path, "0", "0")
        (tmp_path / "bin").mkdir()
        ssh = tmp_path / "bin/ssh"
        ssh.write_text(
            '#!/bin/bash\nwhile [[ $1 == -o ]]; do shift 2; done\necho "$1" >> '
            f'{shlex.quote(str(tmp_path))}/reached; shift; cd /; exec sh -c "$*"\n'
        )
        ssh.chmod(0o755)
        (tmp_path / "two machines").write_text("node1:5000\nnode2.example.com:5001\n")
        path = f"{ssh.parent}:{os.environ['PATH']}"
        process = begin(tmp_path, "it's $HOME", hosts="two machines", PATH=path)
        assert ended(process)[0] == 0
        assert sorted((tmp_path / "reached").read_text().split()) == ["node1", "node2.example.com"]
        config = json.loads((tmp_path / "config-1-0").read_text())
        assert config["cluster"] == {"worker": ["node1:5000", "node2.example.com:5001"]}

    def test_what_cannot_be_is_refused(self, tmp_path):
        job(tmp_path, "0", "0")
        (tmp_path / "without ports").write_text("node1\nnode2\n")
        (tmp_path / "empty").write_text("# none\n")
        for options, hosts, expected in (
            ((), "without ports", "node1 in the hosts file: expected HOST:PORT"),
            ((), "empty", "no worker"),
            ((), "missing", "cannot be read"),
            (("--no-resume",), "hosts", "leave it away"),
        ):
            status, told = ended(begin(tmp_path, *options, hosts=hosts))
            assert status == 2 and expected in told
        assert not starts(tmp_path)


@needs_linux
class TestSlurm:
    """Programs in the place of srun, which starts two tasks, and of scontrol."""

    def run(self, folder, *options, **variables):
        (folder / "bin").mkdir(exist_ok=True)
        for name, script in (
            (
                "srun",
                'echo "$@" > srun\nwhile [[ $1 == --* ]]; do shift; done\nworst=0\nfor i in 0 1; do\n'
                'SLURM_PROCID=$i "$@"; s=$?; ((s > worst)) && worst=$s; done; exit $worst',
            ),
            ("scontrol", 'echo "$@" > scontrol'),
        ):
            program = folder / "bin" / name
            program.write_text(f"#!/bin/bash\n{script}\n")
            program.chmod(0o755)
        variables = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"} | variables
        command = ["bash", DEPLOY / "slurm/train.sbatch", folder / "recipe.sh", folder, *options]
        return subprocess.run(command, cwd=folder, env=environment(**variables), timeout=120).returncode

    @pytest.mark.parametrize(
        "ends, status, requeued",
        [
            (("0", "0"), 0, False),
            (("1", "0"), 1, False),
            (("130", "130"), 130, False),
            (("143", "143"), 143, True),
            (("138", "137"), 138, True),
        ],
    )
    def test_the_status_tells_whether_it_is_queued_again(self, tmp_path, ends, status, requeued):
        job(tmp_path, *ends)
        assert self.run(tmp_path) == status
        assert (tmp_path / "scontrol").exists() == requeued
        if requeued:
            assert (tmp_path / "scontrol").read_text() == "requeue 7\n"

    def test_it_gives_up(self, tmp_path):
        job(tmp_path, "143", "143")
        assert self.run(tmp_path, SLURM_RESTART_COUNT="3", RESTARTS="3") == 143
        assert not (tmp_path / "scontrol").exists()

    def test_beginning_anew_is_refused(self, tmp_path):
        job(tmp_path, "0", "0")
        assert self.run(tmp_path, "--no-resume") == 2 and not starts(tmp_path)

    def test_what_it_asks_for(self, tmp_path):
        job(tmp_path, "0", "0")
        self.run(tmp_path, SLURM_CPUS_PER_TASK="16")
        asked = (tmp_path / "srun").read_text()
        assert {"--kill-on-bad-exit=0", "--wait=0", "--cpus-per-task=16"} <= set(asked.split())
        lines = (DEPLOY / "slurm/train.sbatch").read_text().splitlines()
        options = [line for line in lines if line.startswith("#SBATCH")]
        first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
        assert all(lines.index(option) < first_command for option in options)  # sbatch reads no further
        assert {"#SBATCH --requeue", "#SBATCH --signal=TERM@300"} <= set(options)


class TestKubernetes:
    claim, tfjob = yaml.safe_load_all((DEPLOY / "kubernetes/tfjob.yaml").read_text())
    worker = tfjob["spec"]["tfReplicaSpecs"]["Worker"]
    (container,) = worker["template"]["spec"]["containers"]

    def test_it_is_a_job_of_several_workers(self):
        assert (self.tfjob["apiVersion"], self.tfjob["kind"]) == ("kubeflow.org/v1", "TFJob")
        assert set(self.tfjob["spec"]["tfReplicaSpecs"]) == {"Worker"} and self.worker["replicas"] > 1
        assert self.worker["restartPolicy"] == "ExitCode" and WorkerLost.exit_status >= 128
        assert "restartPolicy" not in self.worker["template"]["spec"]  # the operator sets it
        assert self.worker["template"]["spec"]["terminationGracePeriodSeconds"] >= 60

    def test_the_operator_finds_its_names(self):
        assert self.container["name"] == "tensorflow"
        assert self.container["ports"] == [{"name": "tfjob-port", "containerPort": 2222}]
        assert "command" not in self.container  # the image's, to which the arguments belong

    def test_all_workers_share_one_storage(self):
        (volume,) = self.worker["template"]["spec"]["volumes"]
        (mount,) = self.container["volumeMounts"]
        assert mount["name"] == volume["name"]
        assert volume["persistentVolumeClaim"]["claimName"] == self.claim["metadata"]["name"]
        assert self.claim["kind"] == "PersistentVolumeClaim"
        assert self.claim["spec"]["accessModes"] == ["ReadWriteMany"]
        settings = parsed(*self.container["args"])
        for path in (settings.output, settings.export, Path(settings.data.partition(":")[2])):
            assert path.is_relative_to(mount["mountPath"])

    def test_the_image_has_what_it_needs(self):
        dockerfile = (DEPLOY / "Dockerfile").read_text()
        assert self.container["image"] in dockerfile and self.container["image"] in PAGE.read_text()
        copied = [line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY")]
        names = [name for line in copied for name in line]
        assert "recipes" in names and all((ROOT / name).exists() for name in names)
        (extra,) = re.findall(r"ARG EXTRAS=\[(\w+)\]", dockerfile)
        assert re.search(rf"^{extra} =", (ROOT / "setup.cfg").read_text(), re.MULTILINE)


class TestPage:
    text = PAGE.read_text()

    def test_links_lead_somewhere(self):
        links = re.findall(r"\]\(([^)#]+)\)", self.text)
        assert len(links) >= 4
        assert [link for link in links if not (PAGE.parent / link).exists()] == []

    def test_files_that_it_names_are_there(self):
        names = re.findall(r"\b(?:deploy|tests|recipes)/[\w/.]+\w", self.text)
        assert [name for name in names if not (ROOT / name).exists()] == []

    def test_recipes_take_the_options_that_are_shown(self):
        commands = re.findall(r"^    .*?(recipes/\w+\.py.*?)(?:  +#.*|;.*)?$", self.text, re.MULTILINE)
        assert len(commands) >= 5
        for command in commands:
            parsed(*shlex.split(command))

    def test_it_tells_the_status_of_a_lost_worker(self):
        assert re.search(rf"^\| {WorkerLost.exit_status} \| another worker", self.text, re.MULTILINE)


def parsed(recipe, *options):
    """The settings that a recipe makes of its options."""
    spec = importlib.util.spec_from_file_location(Path(recipe).stem, ROOT / recipe)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return tyro.cli(module.Settings, args=options)


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not come to that within two minutes"
        time.sleep(0.05)
