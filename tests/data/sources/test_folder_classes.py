from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kzoo.data.checking import check
from kzoo.data.faults import DataError, DataWarning
from kzoo.data.sources import open_source, open_split


@pytest.fixture
def put(tmp_path):
    """Puts pictures of the given names into a folder of `tmp_path`, and gives the spec."""

    def write(folder, names):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.new("RGB", (5, 4), (len(folder), 0, 9)).save(tmp_path / folder / name)
        return f"folder:{tmp_path}"

    return write


def short(split):
    """The pictures of a split as CLASS/NAME."""
    return ["/".join(Path(name).parts[-2:]) for name in split.names]


def test_classes_in_splits(put):
    put("extra/cat", ["1.png"])
    put("extra/dog", ["1.png"])
    put("val/cat", ["1.png"])
    put("val/dog", ["1.png"])
    put("train/dog", ["1.jpg", "10.jpg", "2.jpg", "3.jpg"])
    spec = put("train/cat", ["x.png", "y.PNG"])
    source = open_source(spec, task="classification")
    assert source.info.classes == ("cat", "dog")
    assert list(source.info.splits.items()) == [("train", 6), ("val", 2), ("extra", 2)]
    assert source.info.tasks == ("classification",)
    assert source.max_objects == 1
    split = source.split("train", strict=True)
    assert short(split) == ["dog/1.jpg", "cat/x.png", "dog/2.jpg", "dog/3.jpg", "cat/y.PNG", "dog/10.jpg"]
    np.testing.assert_array_equal(split.classes, [[1], [0], [1], [1], [0], [1]])
    assert all(classes.dtype == np.int32 for classes in split.classes)
    assert split.boxes is None
    assert split.read_labels is None
    assert split.sizes == ((4, 5),) * 6
    np.testing.assert_array_equal(split.read(1), np.full((4, 5, 3), [9, 0, 9]))


def test_splits_are_drawn_of_each_class(put):
    put("10", [f"{number}.png" for number in range(20)])
    spec = put("9", [f"{number}.png" for number in range(40)])
    source = open_source(spec)
    assert source.info.classes == ("9", "10")
    assert source.info.splits == {"train": 48, "val": 6, "test": 6, "all": 60}
    parts = {name: source.split(name) for name in source.info.splits}
    for name, of_nine in (("train", 32), ("val", 4), ("test", 4), ("all", 40)):
        assert Counter(int(label) for (label,) in parts[name].classes)[0] == of_nine
    apart = [short(parts[name]) for name in ("train", "val", "test")]
    assert sorted(name for part in apart for name in part) == sorted(short(parts["all"]))
    assert [short(open_source(spec).split(name)) for name in ("train", "val", "test")] == apart


def test_each_slice_holds_about_its_share_of_each_class(put):
    put("train/a", [f"{number}.png" for number in range(30)])
    source = open_source(put("train/b", [f"{number}.png" for number in range(10)]))
    for text in ("train[:20]", "train[20:]", "train[25%:75%]"):
        assert Counter(int(label) for (label,) in open_split(source, text).classes) == {0: 15, 1: 5}


def test_classes_that_are_given(put, tmp_path):
    put("train/cat", ["1.png"])
    put("train/dog", ["1.png"])
    spec = put("val/dog", ["1.png"])
    source = open_source(spec, classes=["cow", "dog", "cat"])
    np.testing.assert_array_equal(source.split("val").classes, [[1]])
    with pytest.raises(DataError, match=r'train/cat \(the classes are from classes=\): class="cat": unknown'):
        open_source(spec, classes=["dog"])
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    assert open_source(spec).info.classes == ("dog", "cat")
    (tmp_path / "classes.txt").write_text("dog\ncats\n")
    with pytest.raises(DataError, match=r'classes.txt\): class="cat": unknown. Nearest: "cats"'):
        open_source(spec)


def test_classes_that_differ_from_split_to_split(put):
    put("train/cat", ["1.png"])
    put("train/dog", ["1.png"])
    with pytest.raises(
        DataError, match="the folders of val are dog, but those of train are cat, dog; .*classes="
    ):
        open_source(put("val/dog", ["1.png"]))


def test_folders_without_classes_or_pictures(put, tmp_path):
    with pytest.raises(DataError, match="there is no folder in .*expected DIR/SPLIT/CLASS"):
        open_source(put(".", ["1.png"]))
    with pytest.raises(DataError, match="there is no folder of a class in .*train; expected DIR/SPLIT/CLASS"):
        open_source(put("train", ["1.png"]))
    with pytest.raises(DataError, match="there is no folder of a class in .*train; expected DIR/SPLIT/CLASS"):
        open_source(put("val", ["1.png"]))
    put("train/cat", ["1.png"])
    with pytest.raises(DataError, match="there is no folder of a class in .*val; expected DIR/SPLIT/CLASS"):
        open_source(f"folder:{tmp_path}")
    put("val/cat", ["1.png"])
    with pytest.raises(DataError, match=r"1 fault in 1 of 2 .*\n.*nothing in .*train/dog; expected pictures"):
        open_source(put("train/dog", []), classes=["cat", "dog"]).split("train")
    with pytest.raises(DataError, match=r"there is no picture in the folders of .*test; expected DIR/SPLIT"):
        open_source(put("test/cat", []))


@pytest.mark.parametrize("classes", [None, ["dog", "cat"]])
def test_an_empty_folder_is_told(put, classes):
    put("cat", [f"{number}.png" for number in range(30)])
    spec = put("dog", [])
    source = open_source(spec, classes=classes)
    assert source.info.classes == (tuple(classes) if classes else ("cat",))
    for name in ("train", "val"):
        with pytest.warns(
            DataWarning, match=r"1 fault in 1 of 30 pictures.*\n.*there is nothing in .*/dog; exp"
        ):
            source.split(name)
    with pytest.raises(DataError, match="strict=True"):
        source.split("val", strict=True)
    assert [fault.picture for fault in check(spec).faults if fault.kind == "missing"] == [f"{spec[7:]}/dog"]


def test_a_folder_that_is_empty_in_one_split(put):
    put("train/cat", [f"{number}.png" for number in range(30)])
    put("train/dog", ["1.png"])
    put("val/cat", ["1.png"])
    source = open_source(put("val/dog", []))
    assert source.info.classes == ("cat", "dog")
    with pytest.warns(DataWarning, match="there is nothing in .*/val/dog"):
        assert len(source.split("val")) == 1


def test_a_class_may_be_called_like_a_split(put):
    put("bus", ["1.png", "2.png"])
    put("car", ["1.png"])
    source = open_source(put("train", ["1.png"]))
    assert source.info.classes == ("bus", "car", "train")
    assert source.info.splits["all"] == 4


def test_a_class_folder_needs_a_picture(put, tmp_path):
    put("train/cat", [f"{number}.png" for number in range(30)])
    spec = put("train/dog", [])
    (tmp_path / "train/dog/notes.txt").write_text("none")
    with pytest.raises(DataError, match="there is no picture in .*train/dog; expected those of its class"):
        open_source(spec)
    put("train/dog", ["1.png"])
    (tmp_path / "train/dog/1.png").rename(tmp_path / "train/dog/1.jfif")  # a picture by another name
    source = open_source(spec)
    with pytest.warns(DataWarning, match="notes.txt"):
        assert len(source.split("train")) == 31


def test_a_class_keeps_a_picture_when_faults_are_left_out(put, tmp_path):
    put("cat", [f"{number}.png" for number in range(60)])
    spec = put("dog", ["1.png", "2.png", "3.png"])
    for name in ("1.png", "2.png"):
        (tmp_path / "dog" / name).write_text("none")
    source = open_source(spec)
    with pytest.warns(DataWarning, match="2 faults in 2 of 63"):
        assert len(source.split("all")) == 61
    (tmp_path / "dog/3.png").write_text("none")
    with (
        pytest.warns(DataWarning, match="3 faults in 3 of 63"),
        pytest.raises(DataError, match="no picture of .*/dog can be read; expected one at least"),
    ):
        source.split("all")


def test_the_only_picture_of_a_class_is_to_train_on(put):
    put("a", ["1.png"])
    put("b", ["1.png", "2.png"])
    source = open_source(put("c", ["1.png", "2.png", "3.png"]))
    classes = {name: Counter(np.ravel(source.split(name).classes).tolist()) for name in source.info.splits}
    assert classes["train"] == {0: 1, 1: 1, 2: 1}
    assert classes["test"] == {1: 1, 2: 1}
    assert classes["val"] == {2: 1}


def test_what_is_hidden_does_not_count(put, tmp_path):
    put(".trash/cat", ["1.png"])
    put("cat/.thumbnails", [])
    spec = put("cat", ["1.png", "2.png", "3.png"])
    (tmp_path / "cat/.DS_Store").touch()
    (tmp_path / "cat/Thumbs.db").touch()
    assert open_source(spec).info.splits["all"] == 3


def test_faults_are_left_out_and_told(put, tmp_path):
    spec = put("train/cat", [f"{number}.png" for number in range(20)])
    (tmp_path / "train/cat/5.png").write_text("none")
    (tmp_path / "train/cat/notes.txt").write_text("none")
    source = open_source(spec)
    assert source.info.splits == {"train": 21}
    with pytest.warns(DataWarning, match="2 faults in 2 of 21 pictures") as warned:
        split = source.split("train")
    assert "5.png: not a picture" in str(warned[0].message)
    assert len(split) == len(split.classes) == len(split.sizes) == 19
    assert "cat/5.png" not in short(split)
    with pytest.raises(DataError, match="strict=True"):
        source.split("train", strict=True)
    assert short(open_split(source, "train[:5]", strict=True)) == [f"cat/{number}.png" for number in range(5)]


def test_a_picture_of_too_many_pixels(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(10):
            Image.new("RGB", (3, 2)).save(tmp_path / label / f"{number}.png")
    Image.new("RGB", (3, 3)).save(tmp_path / "cat" / "4.png")
    source = open_source(f"folder:{tmp_path}", max_pixels=6)
    with pytest.warns(DataWarning, match=r"4\.png: a picture of 3 x 3 pixels.*max_pixels=6"):
        assert len(source.split("all")) == 19
    assert len(open_source(f"folder:{tmp_path}", max_pixels=9).split("all", strict=True)) == 20
