import subprocess
import sys
from pathlib import Path

import pytest

from kzoo.data.faults import DataError
from kzoo.data.sources import open_source


def test_shapes_open():
    source = open_source("shapes", task="classification", seed=3)
    assert source.info.spec == "shapes"
    assert source.max_objects == 1
    assert len(source.split("test")) == 200


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("shape", 'kind of data="shape": unknown. Nearest: "shapes". Known: "shapes", "voc", "coco"'),
        ("VOC:here", 'Nearest: "voc"'),
        ("", "Known:"),
        (None, "named by text"),
        ("shapes:big", "no number of objects behind the colon"),
        ("voc", "lacks the directory; expected 'voc:DIR'"),
        ("voc:", "lacks the directory"),
        ("voc:/no/such/place", "/no/such/place does not exist"),
        (f"voc:{__file__}", "is not a directory"),
        ("coco:", "expected 'coco:DIR' or 'coco:INSTANCES.json,IMAGE_DIR'"),
        ("coco:/no/such/place", "/no/such/place does not exist"),
        (f"coco:{__file__}", "is not a directory; expected a directory with instances_SPLIT.json"),
        ("coco:a.json,/no/such/place", "does not exist; expected the directory of the pictures behind"),
        ("coco:,here", "lacks the file before the comma; expected 'coco:INSTANCES.json,IMAGE_DIR'"),
        ("coco:a.json,", "lacks the directory behind the comma"),
        (str(Path(__file__).parent), "is a directory; of which kind? Write 'folder:"),
        (str(Path(__file__).parent), f"'yolo:{Path(__file__).parent}' or 'tfds:{Path(__file__).parent}'"),
        ("a/x.CSV", "is a file; of which kind? Write 'csv:a/x.CSV'"),
        ("x.csv,class=name", "Write 'csv:x.csv,class=name'"),
        ("x.json", "Write 'coco:x.json,DIR', where DIR has the pictures"),
        ("x.json,here", "Write 'coco:x.json,here'"),
        ("a/data.yaml", "Write 'yolo:a/data.yaml'"),
        ("data.yml", "Write 'yolo:data.yml'"),
    ],
)
def test_specs_that_name_no_data(spec, message):
    with pytest.raises(DataError) as raised:
        open_source(spec)
    assert message in str(raised.value)


def test_unknown_task_and_split():
    with pytest.raises(DataError, match='shapes: task="detecting": unknown. Nearest: "detection"'):
        open_source("shapes", task="detecting")
    with pytest.raises(DataError, match='shapes: split="trian": unknown. Nearest: "train"'):
        open_source("shapes").split("trian")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "is empty"),
        ("ring", "list of names"),
        (["a", 1], "list of names"),
        (["a", ""], "list of names"),
        (["a", "b", "a"], "repeats 'a'"),
    ],
)
def test_class_lists_that_are_none(classes, message):
    with pytest.raises(DataError, match=message):
        open_source("shapes", classes=classes)


def test_sources_need_no_tensorflow():
    code = (
        "import importlib, pkgutil, sys, kzoo.data.sources as sources\n"
        "for module in pkgutil.iter_modules(sources.__path__):\n"
        "    if not module.name.startswith('tfds'):\n"
        "        importlib.import_module(f'kzoo.data.sources.{module.name}')\n"
        "sys.exit('tensorflow' in sys.modules or 'kzoo.data.sources.voc' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
