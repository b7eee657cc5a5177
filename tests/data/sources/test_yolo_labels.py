import pytest

from kzoo.data.sources.yolo_labels import read_labels


@pytest.mark.parametrize("row", ["0 0_5 0.5 0.5 0.5", "1_0 0.5 0.5 0.5 0.5", "0 0 0 1 0 1 0_1"])
def test_numbers_are_not_those_of_python(tmp_path, row):
    path = tmp_path / "a.txt"
    path.write_text(f"0 0.5 0.5 0.5 0.5\n{row}\n")
    labels = read_labels(str(path))
    assert labels.classes.tolist() == [0]
    assert [(fault.kind, str(fault)[: len(str(path)) + 8]) for fault in labels.faults] == [
        ("not_numbers", f"{path}, line 2")
    ]


def test_polygons_are_counted(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0 0.5 0.5 0.5 0.5\n0 0 0 1 0 1 1\n0 0 0 1 0 1 0.5\n0 0 0 1\n")
    labels = read_labels(str(path), polygons=False)
    assert (len(labels.lines), labels.num_polygons) == (3, 2)
