import subprocess
import sys
from pathlib import Path

import pytest

from kzoo.data.faults import DataError
from kzoo.data.source import Info, check_split, open_source


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
        ("shapes:big", "no number behind the colon"),
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


def test_an_empty_split():
    with pytest.raises(
        DataError, match=r'voc:x: split="val" is empty; .* train \(3 pictures\), val \(0 pictures\)'
    ):
        check_split(Info("voc:x", ("a",), {"train": 3, "val": 0}, ("detection",)), "val")


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
    # As files of their own: the package around them may well need it.
    code = (
        "import sys, types; package = types.ModuleType('kzoo.data'); package.__path__ = [sys.argv[1]];"
        "sys.modules['kzoo.data'] = package; import kzoo.data.source, kzoo.data.shapes, kzoo.data.voc;"
        "import kzoo.data.coco;"
        "sys.exit('tensorflow' in sys.modules)"
    )
    folder = sys.modules["kzoo.data.source"].__file__.rsplit("source", 1)[0]
    assert subprocess.run([sys.executable, "-c", code, folder]).returncode == 0
