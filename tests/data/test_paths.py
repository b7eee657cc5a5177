import pytest

from kzoo.data.faults import DataError
from kzoo.data.paths import read_path
from kzoo.data.sources import open_source


def test_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    assert read_path("voc:x", "~/here") == tmp_path / "here"
    assert str(read_path("voc:x", "not/there")) == "not/there"


@pytest.mark.parametrize(
    ("text", "message"), [("a" * 300, "File name too long"), ("a\0b", "embedded null byte")]
)
def test_paths_that_cannot_be(text, message):
    with pytest.raises(DataError, match=f"{message}; expected a path"):
        read_path("voc:x", text)


@pytest.mark.parametrize("scheme", ["voc", "coco", "folder", "csv", "yolo"])
@pytest.mark.parametrize("where", ["a" * 300, "~nosuchuser/x", "a\0b", "x/" + "a" * 5000])
def test_every_kind_of_data_refuses_them(scheme, where):
    with pytest.raises(DataError):
        open_source(f"{scheme}:{where}")


@pytest.mark.parametrize(
    "spec", ["a" * 300, f"coco:{'a' * 300},b", f"coco:b,{'a' * 300}", "coco:~nosuchuser,."]
)
def test_other_places_of_paths(spec):
    with pytest.raises(DataError):
        open_source(spec)
