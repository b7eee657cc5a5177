import pytest

from kzoo.folders import check_directory


def test_directories_and_what_can_become_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, tmp_path / "new", tmp_path / "new" / "newer", type(tmp_path)("relative")):
        check_directory(path)
    assert list(tmp_path.iterdir()) == []  # nothing is made


@pytest.mark.parametrize("name", ["file", "file/new", "file/new/newer"])
def test_files_and_what_lies_in_them(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"output='.*': '.*file' is a file; give the path of a folder"):
        check_directory(tmp_path / name, "output")
