import os
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kzoo.data.faults import DataError, DataWarning
from kzoo.data.sources import open_source, open_split
from kzoo.data.sources import pairs as label_pictures


class Pairs:
    """A directory to put pictures and label pictures into."""

    def __init__(self, path):
        self.path = path
        self.spec = f"folder:{path}"
        self.times = count(10**18)  # files written one right after the other may else have the same

    def put(self, name, labels, folder="", image="image", label="label", size=None):
        labels = np.array(labels, np.uint8)
        for side, array in ((image, np.zeros(size or labels.shape, np.uint8)), (label, labels)):
            path = self.path / folder / side / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
            os.utime(path, ns=(next(self.times),) * 2)

    def open(self, options="", **others):
        return open_source(self.spec + options, task="segmentation", **others)


@pytest.fixture
def pairs(tmp_path):
    return Pairs(tmp_path)


def labels_of(source, split="all"):
    opened = source.split(split, strict=True)
    return [opened.read_labels(index).tolist() for index in range(len(opened))]


def test_values_are_the_classes_and_255_is_ignored(pairs):
    pairs.put("1", [[0, 1, 255]])
    pairs.put("2", [[2, 2, 0]])
    source = pairs.open()
    assert source.info.classes == ("0", "1", "2")
    assert source.info.tasks == ("segmentation",)
    assert labels_of(source) == [[[0, 1, -1]], [[2, 2, 0]]]
    split = source.split("all")
    assert split.read_labels(0).dtype == np.int16
    assert split.boxes is None
    assert [len(classes) for classes in split.classes] == [0, 0]
    assert split.sizes == ((1, 3),) * 2
    assert split.read(0).shape == (1, 3, 3)


def test_255_beside_values_with_gaps_is_not_silently_ignored(pairs):
    """An antialiased pixel of a picture of 0 and 255 must not make 255 what is not to be learnt."""
    for number in range(3):
        pairs.put(str(number), [[0, 255]])
    pairs.put("9", [[0, 254, 255]])
    with pytest.raises(DataError) as raised:
        pairs.open()
    for told in ("values 0, 254, 255", "label/9.png has 254", "values=0:0+255:1", "classes="):
        assert told in str(raised.value)
    assert "label/1.png" not in str(raised.value)
    assert labels_of(pairs.open(",values=0:0+254:1+255:1"))[-1] == [[0, 1, 1]]
    assert labels_of(pairs.open(classes=["0", "254"]))[-1] == [[0, 1, -1]]
    pairs.put("9", [[1, 1, 255]])
    assert labels_of(pairs.open())[-1] == [[1, 1, -1]]  # 0 and 1 in all
    for number in range(3):
        pairs.put(str(number), [[1, 255]])
    with pytest.raises(DataError, match=r"values 1, 255, .*label/\d.png has 1\)"):
        pairs.open()


def test_label_pictures_are_looked_through_once_and_only_if_it_matters(pairs, monkeypatch):
    for number in range(4):
        pairs.put(str(number), [[0, 1]])
    read, scanned = label_pictures.read_values, []
    monkeypatch.setattr(
        label_pictures, "read_values", lambda path, *rest: scanned.append(path.name) or read(path, *rest)
    )
    for options, others in (("", {"classes": ["1", "0"]}), ("", {"classes": ["a"]}), (",values=0:0+1:1", {})):
        assert pairs.open(options, **others).info.splits["all"] == 4
        assert not scanned
    for _ in range(3):
        assert len(pairs.open().split("all")) == 4
        assert sorted(scanned) == ["0.png", "1.png", "2.png", "3.png"]
    pairs.put("2", [[0, 2]])
    assert pairs.open().info.classes == ("0", "1", "2")
    assert scanned[4:] == ["2.png"]


def test_0_and_255_alone_are_two_classes(pairs):
    pairs.put("1", [[0, 0]])
    pairs.put("2", [[0, 255]])
    assert pairs.open().info.classes == ("0", "255")
    assert labels_of(pairs.open()) == [[[0, 0]], [[0, 1]]]
    named = pairs.open(classes=["membrane", "cell"])
    assert named.info.classes == ("membrane", "cell")
    assert labels_of(named) == [[[0, 0]], [[0, 1]]]
    assert labels_of(pairs.open(classes=["all"])) == [[[0, 0]], [[0, -1]]]


def test_names_that_are_numbers_are_the_values(pairs):
    """So that the names of one data set fit another one where not every value occurs."""
    pairs.put("1", [[7, 200, 7]])
    assert pairs.open().info.classes == ("7", "200")
    assert labels_of(pairs.open(classes=["0", "7", "90", "200"])) == [[[1, 3, 1]]]
    pairs.put("1", [[0, 255, 0]])
    assert labels_of(pairs.open(classes=["255", "0"])) == [[[1, 0, 1]]]


def test_names_that_lie_beside_the_data(pairs):
    pairs.put("1", [[0, 2, 255]])
    (pairs.path / "classes.txt").write_text("ground\nleaf\nroot\n")
    assert pairs.open().info.classes == ("ground", "leaf", "root")
    assert labels_of(pairs.open()) == [[[0, 2, -1]]]
    assert pairs.open(classes=["a", "b", "c", "d"]).info.classes == ("a", "b", "c", "d")


def test_values_that_the_spec_tells(pairs):
    pairs.put("1", [[0, 128, 255, 9, 1]])
    source = pairs.open(",values=0:1+128:0+255:0+9:-1+1:2")
    assert source.info.classes == ("128+255", "0", "1")
    assert labels_of(source) == [[[1, 0, 0, -1, 2]]]
    assert pairs.open(",values=0:1+128:0", classes=["a", "b"]).info.classes == ("a", "b")


def test_what_the_spec_tells_is_all_there_is(pairs):
    pairs.put("1", [[0, 255]])
    with pytest.raises(DataError, match="255"):
        pairs.open(",values=0:0").split("all", strict=True)
    assert labels_of(pairs.open(",values=0:0+255:-1")) == [[[0, -1]]]


def test_why_no_label_can_be_read(pairs):
    pairs.put("1", [[0, 1]])
    (pairs.path / "label/1.png").rename(pairs.path / "label/1_mask.png")
    with pytest.raises(DataError, match="no label picture can be read.*its label picture is missing"):
        pairs.open()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("0", "has '0'; expected VALUE:CLASS"),
        ("0:0+1:x", "has '1:x'"),
        ("0:0+-1:1", "has '-1:1'"),
        ("0:0+65536:1", "has '65536:1'"),
        ("0:0+0:1", "has the value 0 twice"),
        ("0:-1", "has no class; expected at least one"),
        ("0:0+1:2", "has no class 1, but 2; expected classes from 0 without gaps"),
        ("0:0+1:99999", "has no class 1, but 99999"),
    ],
)
def test_values_that_are_none(pairs, values, message):
    pairs.put("1", [[0]])
    with pytest.raises(DataError) as raised:
        pairs.open(f",values={values}")
    assert message in str(raised.value)


def test_values_of_more_classes_than_there_are_names(pairs):
    pairs.put("1", [[0]])
    with pytest.raises(DataError, match="has the class 2; expected 0 to 1, those of classes="):
        pairs.open(",values=0:0+1:2", classes=["a", "b"])


def test_splits_and_their_order(pairs):
    for name in ("2", "10", "1"):
        pairs.put(name, [[0, 1]], folder="train")
    pairs.put("1", [[0, 3]], folder="early")
    source = pairs.open()
    assert list(source.info.splits.items()) == [("train", 3), ("early", 1)]
    assert source.info.classes == ("0", "1", "3")  # of all splits
    names = source.split("train").names
    assert [Path(name).name for name in names] == ["1.png", "2.png", "10.png"]
    assert labels_of(source, "early") == [[[0, 2]]]


def test_splits_are_drawn_where_nobody_made_any(pairs):
    for number in range(30):
        pairs.put(str(number), [[number]], image="raw", label="masks")
    source = pairs.open(",image=raw,label=masks")
    assert source.info.splits == {"train": 24, "val": 3, "test": 3, "all": 30}
    assert labels_of(source) == [[[number]] for number in range(30)]
    held_out = open_split(source, "all[24:]")
    assert [held_out.read_labels(index).item() for index in range(len(held_out))] == [24, 25, 26, 27, 28, 29]


@pytest.fixture
def many(pairs):
    for number in range(40):
        pairs.put(f"p{number}", [[0, 1, 255], [2, 1, 0]])
    (pairs.path / "classes.txt").write_text("a\nb\nc\n")
    return pairs


def spoil_size(many):
    many.put("p3", [[0, 1]], size=(2, 3))


def spoil_value(many):
    many.put("p3", [[7, 1, 9]])


def spoil_label(many):
    (many.path / "label/p3.png").write_text("none")


def spoil_picture(many):
    (many.path / "image/p3.png").write_text("none")


def lose_label(many):
    (many.path / "label/p3.png").unlink()


def lose_picture(many):
    (many.path / "image/p3.png").unlink()


def double_picture(many):
    Image.new("L", (3, 2)).save(many.path / "image/p3.jpg")


def colour_label(many):
    Image.new("RGB", (3, 2), "red").save(many.path / "label/p3.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_size, "label/p3.png: a picture of 2 x 1 pixels; expected 3 x 2, the size of"),
        (spoil_value, "label/p3.png: values of no class, 7, 9; expected 0 to 2, or 255, which is ignored"),
        (spoil_label, "label/p3.png: not a picture"),
        (spoil_picture, "image/p3.png: not a picture"),
        (lose_label, "image/p3.png: its label picture is missing; expected"),
        (lose_picture, "label/p3.png: its picture is missing; expected"),
        (double_picture, "image/p3.jpg: there is p3.png too; expected one picture of each name"),
        (colour_label, "label/p3.png: a picture of colours; expected a label picture"),
    ],
)
def test_faults_are_left_out_and_told(many, spoil, message):
    spoil(many)
    source = many.open()
    assert source.info.splits["all"] == 40
    with pytest.warns(DataWarning, match="1 fault in 1 of 40 pictures") as warned:
        split = source.split("all")
    assert message in str(warned[0].message)
    assert len(split) == 39
    assert not any(Path(name).stem == "p3" for name in split.names)
    with pytest.raises(DataError, match="strict=True"):
        many.open().split("all", strict=True)


def test_more_than_a_tenth_with_unknown_values(pairs):
    pairs.put("1", [[0, 1, 2]])
    source = pairs.open(classes=["a", "b"])
    with pytest.raises(
        DataError, match="1.png: a value of no class, 2; expected 0, 1, or 255, which is ignored"
    ):
        source.split("all")


def test_a_label_picture_that_changes_after_opening_is_named(pairs):
    pairs.put("1", [[0, 1]])
    split = pairs.open().split("all")
    pairs.put("1", [[0, 5]])
    with pytest.raises(DataError, match="1.png: a value of no class, 5; expected 0, 1, or 255"):
        split.read_labels(0)


def test_folders_that_lack_a_side_or_pictures(pairs):
    (pairs.path / "image").mkdir()
    with pytest.raises(DataError, match="there is .*image, but no .*label; expected both"):
        pairs.open()
    (pairs.path / "label").mkdir()
    with pytest.raises(DataError, match="there is no picture in .*image"):
        pairs.open()
    pairs.put("1", [[255]])
    with pytest.raises(DataError, match="have no value but 255, which is ignored; expected those of classes"):
        pairs.open()


def test_more_values_than_classes_can_be(pairs):
    for number in range(2):
        deep = np.arange(200, dtype=np.uint16).reshape(1, -1) + 1000 * number
        pairs.put(str(number), np.zeros((1, 200)))
        Image.fromarray(deep).save(pairs.path / f"label/{number}.png")
    with pytest.raises(DataError, match="400 classes of pixels; expected no more than 255"):
        pairs.open()


def turned(pairs, labels, orientation, of_label=1, seen_label=None):
    """A pair whose picture, white where the label is 1, asks to be turned; so may its label picture."""
    stored = np.array(labels, np.uint8)
    pairs.put("1", stored)
    for side, array, number in (
        ("image", stored * 255, orientation),
        ("label", stored if seen_label is None else seen_label, of_label),
    ):
        exif = Image.Exif()
        exif[0x0112] = number
        path = pairs.path / side / "1.png"
        Image.fromarray(array).save(path, exif=exif)
        os.utime(path, ns=(next(pairs.times),) * 2)
    split = pairs.open().split("all", strict=True)
    assert split.sizes == (split.read(0).shape[:2],)
    return split.read_labels(0), split.read(0)[..., 0] // 255


STORED = [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
def test_a_label_picture_of_the_stored_size_is_turned_with_its_picture(pairs, orientation):
    labels, pixels = turned(pairs, STORED, orientation)
    np.testing.assert_array_equal(labels, pixels)
    assert labels.shape == ((3, 4) if orientation == 1 else (4, 3))
    assert labels.dtype == np.int16


@pytest.mark.parametrize("orientation", [2, 3, 6])
def test_a_label_picture_that_asks_to_be_turned_itself(pairs, orientation):
    labels, pixels = turned(pairs, STORED, orientation, of_label=orientation)
    np.testing.assert_array_equal(labels, pixels)


def test_a_label_picture_of_the_seen_size_is_not_turned(pairs):
    seen = np.rot90(np.array(STORED, np.uint8), -1).copy()
    labels, pixels = turned(pairs, STORED, 6, seen_label=seen)
    np.testing.assert_array_equal(labels, pixels)
    np.testing.assert_array_equal(labels, seen)


def test_a_label_picture_of_neither_size(pairs):
    with pytest.raises(DataError, match="1.png: a picture of 3 x 3 pixels; expected 3 x 4, the size of"):
        turned(pairs, STORED, 6, seen_label=np.zeros([3, 3], np.uint8))


@pytest.mark.parametrize("side", ["image", "label"])
def test_a_picture_of_too_many_pixels(pairs, side):
    pairs.put("1", [[0, 1, 0]])
    assert len(pairs.open(max_pixels=3).split("all")) == 1
    Image.new("L", (4, 1)).save(pairs.path / side / "1.png")
    with pytest.raises(DataError, match=rf"{side}/1\.png: a picture of 4 x 1 pixels.*max_pixels=3"):
        pairs.open(",values=0:0+1:1", max_pixels=3).split("all")
