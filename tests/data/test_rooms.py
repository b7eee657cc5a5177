import ast
from pathlib import Path

import pytest

import kzoo.data

FOLDER = Path(kzoo.data.__file__).parent
FILES = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*.py") if path != FOLDER / "__init__.py")
# Each may import what is on a lower step. All other files are on step 0: what is shared.
STEPS = {"sources": 1, "augmentation": 1, "pipeline": 2, "checking": 2, "conversion": 2}


def room_of(file):
    return file.with_suffix("").parts[0]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_between_the_rooms_run_one_way(file):
    for name in imported(file):
        there = room_of(Path(*name.split(".")[2:]))
        assert there == room_of(file) or STEPS.get(there, 0) < max(1, STEPS.get(room_of(file), 0)), name


def imported(file):
    """The modules of kzoo.data that a file imports."""
    for node in ast.walk(ast.parse((FOLDER / file).read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module == "kzoo.data":
            yield from (f"kzoo.data.{one.name}" for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("kzoo.data."):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.startswith("kzoo.data."))


def test_what_is_imported_is_found():
    assert "kzoo.data.sources.source" in imported(Path("sources/voc.py"))
    assert "kzoo.data.sources" in imported(Path("pipeline/loading.py"))
