import os
import subprocess
import sys
from pathlib import Path

import pytest

from kzoo.weights import lock
from kzoo.weights.lock import locked


def test_holder_does_not_wait_and_the_next_finds_it_free(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "lock", lambda: pytest.fail("it waits")):
            pass


def test_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "lock", lambda: None):
        raise KeyError
    with locked(tmp_path / "lock", lambda: pytest.fail("it waits")):
        pass


def test_another_waits(tmp_path):
    class Waits(Exception):
        pass

    def waits():
        raise Waits

    with locked(tmp_path / "lock", waits):
        with pytest.raises(Waits), locked(tmp_path / "lock", waits):
            pytest.fail("two hold it")
        with locked(tmp_path / "another lock", waits):
            pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a platform without fork")
def test_forked_child_does_not_keep_it():
    """A data loader's worker, say, that was forked meanwhile and has the lock's file open, too."""
    script = """
import os, signal, sys, tempfile, time
from pathlib import Path
from kzoo.weights.lock import locked

path = Path(tempfile.mkdtemp()) / "lock"
with locked(path, None):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
try:
    with locked(path, lambda: sys.exit("it waits")):
        pass
finally:
    os.kill(child, signal.SIGKILL)
    path.unlink()
    path.parent.rmdir()
"""
    root = Path(lock.__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert process.returncode == 0, process.stderr
