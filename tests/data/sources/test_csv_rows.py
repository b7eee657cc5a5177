import os

import numpy as np
import pytest

from kzoo.data.faults import DataError
from kzoo.data.sources.csv_rows import read_rows


def read(tmp_path, *lines, boxes=False, **options):
    file = tmp_path / "table.csv"
    file.write_text("\n".join(lines))
    return read_rows(file, options, boxes)


def test_a_file_is_one_picture_however_it_is_written(tmp_path):
    written = ["0.jpg", f"{tmp_path}/0.jpg", "./0.jpg", f"../{tmp_path.name}/0.jpg", "a//../0.jpg"]
    _, rows = read(tmp_path, *(f"{path},1,2,3,4,cat" for path in written))
    assert rows.pictures == [("", "0.jpg")]
    assert rows.starts.tolist() == [0, 5]


def test_a_file_elsewhere_is_one_picture_too(tmp_path):
    written = [f"{tmp_path.parent}/x/0.jpg", "../x/0.jpg", f"{tmp_path.parent}/y/../x/0.jpg"]
    _, rows = read(tmp_path, *(f"{path},1,2,3,4,cat" for path in written))
    assert rows.pictures == [("", "../x/0.jpg")]


def test_paths_start_from_the_table_not_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(f"a/0.jpg,1,2,3,4,cat\n{os.getcwd()}/a/0.jpg,1,2,3,4,cat\n")
    _, rows = read_rows(type(tmp_path)("t.csv"), {}, False)
    assert rows.pictures == [("", "a/0.jpg")]


def test_pictures_and_classes_without_a_header(tmp_path):
    columns, rows = read(tmp_path, "0.jpg,cat", "1.jpg,dog")
    assert columns.box == ()
    assert rows.pictures == [("", "0.jpg"), ("", "1.jpg")]
    assert [rows.names[label] for label in rows.labels] == ["cat", "dog"]
    with pytest.raises(DataError, match=r"table\.csv: rows of path,class have no box; expected"):
        read(tmp_path, "0.jpg,cat", boxes=True)


HEADER = "path,width,height,class,x1,y1,x2,y2"


def test_sizes_of_pictures(tmp_path):
    lines = ["40,30", "40.0, 30", ",", "0,30", "forty,30", "40,nan", "4_0,30", "-1,30"]
    _, rows = read(tmp_path, HEADER, *(f"{n}.jpg,{line},cat,1,2,3,4" for n, line in enumerate(lines)))
    np.testing.assert_array_equal(rows.told_sizes, [[30, 40], [30, 40], [0, 0], [0, 0]])
    assert [fault.picture for fault in rows.faults] == [4, 5, 6, 7]
    assert {fault.kind for fault in rows.faults} == {"size"}
    assert "line 6: width forty; expected" in rows.faults[0].told


def test_without_sizes(tmp_path):
    _, rows = read(tmp_path, "0.jpg,1,2,3,4,cat")
    assert rows.told_sizes.shape == (1, 0)


def test_boxes_in_shares_are_told_by_most_of_them(tmp_path):
    rows = ["path,x1,y1,x2,y2,class", "0.jpg,0.1,0.1,0.5,0.5,cat", "1.jpg,0.1,0.1,1.0001,0.5,cat"]
    rows += [f"{i}.jpg,0.1,0.2,0.7,0.9,cat" for i in range(2, 9)]
    with pytest.raises(DataError, match="most boxes end before pixel 1; expected pixels, not shares"):
        read(tmp_path, *rows)
