import ast
import re
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("path", sorted(Path(kzoo.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_public_functions_are_typed(path):
    """Functions, and how classes are made. A layer's `call` and its like have their types from Keras."""
    body = ast.parse(path.read_bytes()).body
    methods = [method for node in body if isinstance(node, ast.ClassDef) for method in node.body]
    functions = [node for node in [*body, *methods] if isinstance(node, ast.FunctionDef)]
    public = [function for function in functions if is_public(function, method=function in methods)]
    untyped = [name for function in public for name in untyped_parts(function)]
    assert not untyped, f"{path}: no type: {', '.join(untyped)}"


def is_public(function, *, method):
    return function.name == "__init__" if method else not function.name.startswith("_")


def untyped_parts(function):
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    untyped = [
        argument.arg for argument in arguments if argument.annotation is None and argument.arg != "self"
    ]
    if function.returns is None and function.name != "__init__":
        untyped.append("return")
    return [f"{function.name}({part})" for part in untyped]
