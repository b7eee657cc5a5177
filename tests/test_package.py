import re
import subprocess
import sys

import pytest

import kzoo


def test_import_and_listing_do_without_tensorflow():
    """In a process of its own, because other tests have imported it here."""
    script = """
import sys, kzoo, kzoo.cli
[kzoo.info(name) for name in kzoo.list_models()]
dir(kzoo)
heavy = {"tensorflow", "keras", "numpy", "matplotlib"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", kzoo.__all__)
def test_every_public_name_is_there(name):
    assert name in dir(kzoo)
    assert getattr(kzoo, name) is not None


def test_unknown_name_is_an_error():
    assert not hasattr(kzoo, "no_such_thing")
    with pytest.raises(ImportError, match="no_such_thing"):
        from kzoo import no_such_thing  # noqa: F401


def test_version_is_semantic():
    assert re.fullmatch(r"\d+\.\d+\.\d+", kzoo.__version__)
