import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import kzoo
from kzoo.data.faults import DataError, DataWarning, collected
from kzoo.data.masks import decode
from kzoo.data.sources import open_source, open_split, yolo_layout
from kzoo.data.sources.yolo_labels import read_labels

WIDTH, HEIGHT = 40, 30
CAT = "0 0.375 0.5 0.25 0.66666667"  # [10, 5, 20, 25]
TRIANGLE = "1 0 0 0.5 0 0 1"  # [0, 0, 20, 30]


class Folder:
    """20 pictures with a cat each, to spoil."""

    def __init__(self, path, images="images", labels="labels", count=20, names="cat\ndog\n"):
        self.path, self.spec = path, f"yolo:{path}"
        self.images, self.labels = path / images, path / labels
        self.names = [f"p{number:02}" for number in range(count)]
        for folder in (self.images, self.labels):
            folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(self.names):
            Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(self.picture(name))
            self.write(name, CAT)
        if names:
            (path / "classes.txt").write_text(names)

    def picture(self, name):
        return self.images / f"{name}.png"

    def text(self, name):
        return self.labels / f"{name}.txt"

    def write(self, name, *rows):
        self.text(name).write_text("\n".join(rows) + "\n")

    def describe(self, text, name="data.yaml"):
        (self.path / name).write_text(text)

    def open(self, split="all", **arguments):
        return open_source(self.spec, **arguments).split(split)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_a_faultless_folder(folder):
    folder.text("p01").write_bytes(f"\ufeff1 0.5 0.5 1 1\r\n\r\n  {CAT}\t\r\n".encode())
    folder.text("p02").unlink()
    folder.write("p03")
    (folder.labels / "classes.txt").write_text("not these\n")
    for litter in ("._p00.png", "._p01.txt", ".hidden.png", "p00.cache"):
        (folder.images / litter).write_text("litter")
        (folder.labels / litter).write_text("litter")
    source = open_source(folder.spec)
    assert source.info.classes == ("cat", "dog")
    assert source.info.splits == {"train": 16, "val": 2, "test": 2, "all": 20}
    assert source.info.tasks == ("detection",)
    assert source.max_objects == 2
    split = source.split("all", strict=True)
    assert split.names == tuple(str(folder.picture(name)) for name in folder.names)
    np.testing.assert_allclose(split.boxes[1], [[0, 0, 40, 30], [10, 5, 20, 25]], atol=1e-5)
    assert [classes.tolist() for classes in split.classes[:4]] == [[0], [1, 0], [], []]
    assert split.boxes[2].shape == split.boxes[3].shape == (0, 4)
    assert all(boxes.dtype == np.float32 for boxes in split.boxes)
    assert all(classes.dtype == np.int32 for classes in split.classes)
    assert split.sizes == ((HEIGHT, WIDTH),) * 20
    np.testing.assert_array_equal(split.read(7), np.full((HEIGHT, WIDTH, 3), [7, 0, 0]))
    parts = [source.split(name).names for name in ("train", "val", "test")]
    assert sorted(sum(parts, ())) == sorted(split.names)  # none in two, none in none


LAYOUTS = {
    "images/SPLIT": lambda split: (f"images/{split}", f"labels/{split}"),
    "SPLIT/images": lambda split: (f"{split}/images", f"{split}/labels"),
    "side by side": lambda split: (split, split),
    "side by side in images": lambda split: (f"images/{split}", f"images/{split}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_by_folders(tmp_path, layout):
    for split, count in (("valid", 2), ("train", 3), ("test", 1)):
        Folder(tmp_path, *LAYOUTS[layout](split), count=count)
    source = open_source(f"yolo:{tmp_path}")
    assert list(source.info.splits.items()) == [("train", 3), ("test", 1), ("valid", 2)]
    images, _ = LAYOUTS[layout]("valid")
    assert source.split("valid", strict=True).names == tuple(f"{tmp_path}/{images}/p0{n}.png" for n in (0, 1))
    assert [len(boxes) for boxes in source.split("train").boxes] == [1, 1, 1]


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), ("images", "images"), ("", "")])
def test_splits_are_drawn_where_nobody_made_any(tmp_path, images, labels):
    here, there = Folder(tmp_path / "a", images, labels), Folder(tmp_path / "b", images, labels)
    for split in ("train", "val", "test"):
        found = [os.path.relpath(name, here.path) for name in here.open(split).names]
        assert found == [os.path.relpath(name, there.path) for name in there.open(split).names]
    assert open_source(here.spec).info.splits == {"train": 16, "val": 2, "test": 2, "all": 20}


def test_folders_within_folders_and_links_to_them(tmp_path):
    Folder(tmp_path, "images/train/b/c", "labels/train/b/c", count=2)
    elsewhere = Folder(tmp_path / "elsewhere", "x", "y", count=3)
    (tmp_path / "images/train/a").symlink_to(elsewhere.images)
    (tmp_path / "labels/train/a").symlink_to(elsewhere.labels)
    (tmp_path / "images/train/circle").symlink_to(tmp_path / "images")
    split = open_source(f"yolo:{tmp_path}").split("train", strict=True)
    inner = [os.path.relpath(name, tmp_path / "images/train") for name in split.names]
    assert inner == ["a/p00.png", "a/p01.png", "a/p02.png", "b/c/p00.png", "b/c/p01.png"]
    assert [len(boxes) for boxes in split.boxes] == [1] * 5


DESCRIPTIONS = {
    "list": "train: images/train\nval: images/val\nnames: [cat, dog]\nnc: 2\n",
    "mapping": "path: .\ntrain: images/train\nval: images/val\ntest:\nnames:\n  1: dog\n  0: cat\n",
    "of another machine": "path: ../datasets/pets\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n",
    "roboflow": "train: ../images/train\nval: ../images/val\nnames: ['cat', 'dog']\n",
    "lists": "train: train.txt\nval: [images/val]\nnames: [cat, dog]\n",
    "no splits": "names: [cat, dog]\n",
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
@pytest.mark.parametrize("file", ["data.yaml", "dataset.yaml"])
def test_descriptions(tmp_path, kind, file):
    folder = Folder(tmp_path, "images/train", "labels/train", count=3, names=None)
    Folder(tmp_path, "images/val", "labels/val", count=2, names=None)
    folder.write("p01", CAT, TRIANGLE)
    (tmp_path / "train.txt").write_text(
        f"./images/train/p00.png\nimages\\train\\p01.png\n{tmp_path}/images/train/p02.png\n"
    )
    folder.describe(DESCRIPTIONS[kind], file)
    source = open_source(folder.spec)
    assert source.info.classes == ("cat", "dog")
    assert source.info.splits == {"train": 3, "val": 2}
    split = source.split("train", strict=True)
    assert split.names == tuple(str(folder.picture(name)) for name in folder.names)
    assert [classes.tolist() for classes in split.classes] == [[0], [0, 1], [0]]
    assert len(source.split("val", strict=True)) == 2


def test_a_described_root_elsewhere(tmp_path):
    folder = Folder(tmp_path / "data", count=3, names=None)
    (tmp_path / "about").mkdir()
    text = f"path: {folder.path}\ntrain: images\nnames: [cat]\n"
    (tmp_path / "about" / "data.yaml").write_text(text)
    assert len(open_source(f"yolo:{tmp_path}/about").split("train", strict=True)) == 3


def test_a_described_split_that_is_not_there(folder):
    folder.describe("train: images\ntest: images/test\nnames: [cat]\n")
    source = open_source(folder.spec)
    assert source.info.splits == {"train": 20}
    with pytest.raises(
        DataError, match=r"data\.yaml: test: images/test is not there; expected .*images/test"
    ):
        source.split("test")
    with pytest.raises(DataError, match='Nearest: "train"'):
        source.split("trian")
    folder.describe("train: nowhere\nnames: [cat]\n")
    with pytest.raises(DataError, match=r"data\.yaml: train: nowhere is not there"):
        open_source(folder.spec)
    folder.describe("train: /dev/zero\nnames: [cat]\n")
    with pytest.raises(DataError, match="neither a folder nor a file"):
        open_source(folder.spec)


BOMB = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)

BAD_DESCRIPTIONS = {
    "not YAML": ("names: [cat", r"data\.yaml: .*; expected YAML"),
    "an object": ("names: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
    "a list": ("[cat]", "is not a mapping"),
    "nothing": ("", "is not a mapping"),
    "a bomb": (BOMB, "has aliases"),
    "depth": ("[" * 20_000, "expected YAML"),
    "no date": ("names: [2020-99-99]", r"data\.yaml: .*; expected YAML"),
    "size": ("names: [cat]" + " " * 2**20, "more than 1048576 bytes"),
    "a truth": ("names: [yes, no]", "names: 0 is True; expected a name, in quotes"),
    "a class of classes": ("names: [[cat]]", "names: 0 is not text"),
    "text": ("names: cat", "names: is not a list"),
    "a gap": ("names: {0: cat, 2: dog}", "names: are not numbered"),
    "twice": ("names: [cat, cat]", "repeats 'cat'"),
    "count": ("names: [cat, dog]\nnc: 3", "nc: is not the number of names:, 2"),
    "bad count": ("nc: -1", "nc: is not a number of classes"),
    "no path": ("train: 5\nnames: [cat]", "train: is not text"),
    "no root": ("path: [5]\nnames: [cat]", "path: is not text"),
    "key points": ("names: [cat]\nkpt_shape: 5", "kpt_shape: is not two numbers"),
}


@pytest.mark.parametrize("bad", BAD_DESCRIPTIONS)
def test_descriptions_that_are_none(folder, bad):
    text, message = BAD_DESCRIPTIONS[bad]
    folder.describe(text)
    with pytest.raises(DataError, match=message):
        open_source(folder.spec)


def test_names_of_classes(folder):
    names = folder.path / "classes.txt"
    names.unlink()
    assert open_source(folder.spec).info.classes == ("0",)
    folder.write("p03", "3 0.5 0.5 1 1")
    assert open_source(folder.spec).info.classes == ("0", "1", "2", "3")
    given = ["ant", "bee", "cat", "dog"]
    assert folder.open(classes=given).classes[3].tolist() == [3]
    (folder.path / "obj.names").write_text("a\nb\nc\nd\n")
    assert open_source(folder.spec).info.classes == ("a", "b", "c", "d")
    (folder.labels / "classes.txt").write_text("\n".join(given))  # as labelImg leaves it
    (folder.path / "obj.names").unlink()
    assert open_source(folder.spec).info.classes == tuple(given)
    assert folder.open(classes=given[::-1]).classes[3].tolist() == [0]
    with pytest.raises(DataError, match='class="ant": unknown'):
        folder.open(classes=["bee", "cat", "dog"])
    folder.describe("nc: 5\n")
    assert open_source(folder.spec).info.classes == ("0", "1", "2", "3", "4")


FAULTS = {  # what to spoil, the message, its kind, whether the picture stays
    "no picture": (
        lambda f: f.picture("p03").unlink(),
        r"p03\.txt: its picture is missing",
        "no_picture",
        False,
    ),
    "not a picture": (
        lambda f: f.picture("p03").write_text("x"),
        r"p03\.png: not a pic",
        "unreadable",
        False,
    ),
    "two pictures": (
        lambda f: Image.new("RGB", (9, 9)).save(f.images / "p03.bmp"),
        r"p03\.png: there is p03\.bmp too; expected one picture of each name",
        "duplicate",
        True,
    ),
    "a pipe": (
        lambda f: (f.text("p03").unlink(), os.mkfifo(f.text("p03"))),
        "p03.txt: not a file",
        "annotation",
        False,
    ),
    "a huge file": (
        lambda f: f.text("p03").write_bytes(b" " * (2**24 + 1)),
        r"p03\.txt: more than 16777216 bytes",
        "annotation",
        False,
    ),
    "too few": ("0 0.5 0.5 0.5", r"p03\.txt, line 2: 4 fields; expected class cx cy w h", "annotation", True),
    "a prediction": (
        "0 0.5 0.5 0.5 0.5 0.9",
        "6 fields look like a prediction with its conf",
        "annotation",
        True,
    ),
    "an even number": ("0 0 0 1 0 1 1 0.5", "8 fields; expected", "annotation", True),
    "words": ("cat 0.5 0.5 0.5 0.5", "row 'cat 0.5 .*' is not of numbers", "not_numbers", True),
    "binary": (b"\x00\xff 1 1 1 1".decode("latin1"), "is not of numbers", "not_numbers", True),
    "NaN": ("0 nan 0.5 0.5 0.5", "is not of finite numbers", "not_numbers", True),
    "infinite": ("0 0.5 0.5 1e999 0.5", "is not of finite numbers", "not_numbers", True),
    "half a class": ("0.5 0.5 0.5 0.5 0.5", "class 0.5; expected a whole number", "unknown_class", True),
    "below": ("-1 0.5 0.5 0.5 0.5", "class -1; expected a whole number", "unknown_class", True),
    "beyond all": ("1e9 0.5 0.5 0.5 0.5", "class 1e9; expected a whole number", "unknown_class", True),
    "beyond names": ("2 0.5 0.5 0.5 0.5", r"line 2, .*: class 2; expected 0 to 1", "unknown_class", True),
    "no width": ("0 0.5 0.5 0 0.5", "has no area; expected a width and a height above 0", "no_area", True),
    "pixels": ("0 10 5 20 25", "has numbers beyond 0 to 1; expected shares", "outside", True),
    "negative": ("0 0.5 0.5 0.5 -0.5", "has numbers beyond 0 to 1", "outside", True),
    "outside": (
        "0 1 0.5 0.1 0.5",
        r"line 2, \(38.0, 7.5, 42.0, 22.5\): the box lies outside.*40 x 30",
        "outside",
        True,
    ),
    "a line": ("0 0 0 0.5 0 1 0", "has no area; expected points that are not on a line", "no_area", True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_left_out_and_told(folder, fault):
    spoil, message, kind, stays = FAULTS[fault]
    if isinstance(spoil, str):
        folder.write("p03", "", spoil)
    else:
        spoil(folder)
    source = open_source(folder.spec)
    with pytest.warns(DataWarning, match=message) as told:
        split = source.split("all")
    assert len(told) == 1
    assert f"1 fault in 1 of {source.info.splits['all']} pictures" in str(told[0].message)
    assert len(split) == len(split.boxes) == len(split.classes) == len(split.sizes) == (20 if stays else 19)
    if isinstance(spoil, str):
        assert len(split.boxes[3]) == len(split.classes[3]) == 0
    np.testing.assert_allclose(split.boxes[-1], [[10, 5, 20, 25]], atol=1e-5)
    assert split.read(len(split) - 1)[0, 0, 0] == 19
    with pytest.raises(DataError, match=message):
        source.split("all", strict=True)
    with collected() as faults:
        source.split("all")
    assert [one.kind for one in faults] == [kind]


def test_a_picture_listed_twice_or_missing(tmp_path):
    folder = Folder(tmp_path, count=20)
    folder.describe("train: train.txt\nnames: [cat]\n")
    lines = [f"images/{name}.png" for name in folder.names]
    (tmp_path / "train.txt").write_text("\n".join([*lines, lines[3]]))
    with pytest.warns(DataWarning, match=r"p03\.png is listed 2 times in the split; expected once"):
        assert len(folder.open("train")) == 20
    (tmp_path / "train.txt").write_text("\n".join([*lines, "images/none.png"]))
    with pytest.warns(DataWarning, match=r"none\.png: there is no such file"):
        assert len(folder.open("train")) == 20


def test_a_part_of_a_split_without_the_faults_of_the_rest(folder):
    folder.write("p03", "0 1")
    source = open_source(folder.spec)
    assert [len(open_split(source, text, strict=True)) for text in ("all[:3]", "all[4:]")] == [3, 16]


def test_more_than_a_tenth_faulty_is_an_error(folder):
    for name in folder.names[:3]:
        folder.write(name, "0 0.5 0.5 0 0", CAT)
    with pytest.raises(DataError, match="3 faults in 3 of 20 pictures, which is more than a tenth"):
        folder.open()


def test_a_box_a_pixel_outside_is_clipped(folder):
    folder.write("p03", f"0 0.5 0.5 {1 + 0.4 / WIDTH} {1 + 0.3 / HEIGHT}")
    np.testing.assert_array_equal(folder.open().boxes[3], [[0, 0, WIDTH, HEIGHT]])


def test_folders_without_pictures_texts_or_objects(tmp_path):
    with pytest.raises(DataError, match="there is no picture in .*; expected data.yaml"):
        open_source(f"yolo:{tmp_path}")
    with pytest.raises(DataError, match="lacks the directory; expected 'yolo:DIR'"):
        open_source("yolo:")
    folder = Folder(tmp_path, count=2, names=None)
    for name in folder.names:
        folder.write(name, "0 nan 1 1 1")
    with pytest.raises(DataError, match="no text file has an object with a class; .*p0.*line 1"):
        open_source(folder.spec)
    for name in folder.names:
        folder.text(name).unlink()
    with pytest.raises(DataError, match="there is no text file for any picture"):
        open_source(folder.spec)


def test_a_split_without_any_text_file_is_refused(tmp_path):
    Folder(tmp_path, "images/train", "labels/train", count=2)
    test = Folder(tmp_path, "images/test", "labels/test", count=2)
    for name in test.names:
        test.text(name).unlink()
    with pytest.raises(DataError, match='split="test" has no text file for any of its pictures'):
        test.open("test")


def test_polygons_are_boxes_and_masks(folder):
    for name in folder.names:
        folder.write(name, TRIANGLE, "0 0.5 0.5 1 0.5 1 1 0.5 1")
    source = open_source(folder.spec)
    assert source.info.tasks == ("detection", "segmentation", "instance_segmentation")
    assert source.split("all").read_masks is None
    expected = [[0, 0, 20, 30], [20, 15, 40, 30]]
    np.testing.assert_allclose(source.split("all").boxes[0], expected)

    split = folder.open(task="instance_segmentation")
    np.testing.assert_allclose(split.boxes[0], expected)
    triangle, square = map(decode, split.read_masks(0))
    assert abs(triangle.sum() - 20 * 30 / 2) < 20
    inside = np.zeros([HEIGHT, WIDTH], bool)
    inside[15:, 20:] = True
    np.testing.assert_array_equal(square, inside)

    source = open_source(folder.spec, task="segmentation")
    assert source.info.classes == ("background", "cat", "dog")
    labels = source.split("all").read_labels(0)
    np.testing.assert_array_equal(labels, np.where(square, 1, np.where(triangle, 2, 0)))


def test_a_box_among_polygons_has_no_mask(folder):
    for name in folder.names[1:]:
        folder.write(name, TRIANGLE)
    assert len(folder.open().boxes[0]) == 1
    with pytest.warns(DataWarning, match=r"p00\.txt, line 1, .*: a box; expected .* a polygon"):
        assert len(folder.open(task="instance_segmentation").boxes[0]) == 0
    for name in folder.names:
        folder.write(name, CAT)
    with pytest.raises(
        DataError, match="task='instance_segmentation' cannot be learnt .*what can: detection"
    ):
        open_source(folder.spec, task="instance_segmentation")


def test_a_polygon_among_boxes_is_a_box(folder):
    folder.write("p00", TRIANGLE)
    source = open_source(folder.spec)
    assert source.info.tasks == ("detection",)
    np.testing.assert_allclose(source.split("all", strict=True).boxes[0], [[0, 0, 20, 30]])
    with pytest.raises(DataError, match="'segmentation' cannot be learnt"):
        open_source(folder.spec, task="segmentation")
    for name in folder.names[:10]:
        folder.write(name, TRIANGLE)
    assert open_source(folder.spec).info.tasks == ("detection",)  # half of them are not the rule
    folder.write("p10", TRIANGLE)
    assert "segmentation" in open_source(folder.spec).info.tasks


def test_key_points_are_not_looked_at(folder):
    folder.describe("names: [cat]\nkpt_shape: [3, 2]\n")
    for name in folder.names:
        folder.write(name, f"{CAT} 0 0 0.5 0.5 1 1")
    source = open_source(folder.spec)
    assert source.info.tasks == ("detection",)
    np.testing.assert_allclose(source.split("all").boxes[0], [[10, 5, 20, 25]], atol=1e-5)


def test_a_picture_of_too_many_pixels_is_a_fault(folder):
    Image.new("RGB", (WIDTH + 1, HEIGHT)).save(folder.picture("p03"))
    with pytest.warns(DataWarning, match=r"p03\.png: .*max_pixels=1200"):
        assert len(folder.open(max_pixels=WIDTH * HEIGHT)) == 19


def test_batches_for_each_task(folder):
    for name in folder.names:
        folder.write(name, TRIANGLE, "0 0.5 0.5 1 0.5 1 1 0.5 1")

    def load(task):
        batches = kzoo.data.load(folder.spec, split="all", task=task, image_size=(60, 80), batch_size=20)
        return next(iter(batches))

    batch = load("detection")
    np.testing.assert_allclose(batch["boxes"][0], [[0, 0, 40, 60], [40, 30, 80, 60]])
    np.testing.assert_array_equal(batch["classes"][0], [1, 0])
    masks = load("instance_segmentation")["masks"].numpy()
    assert masks.shape == (20, 2, 56, 56)
    assert masks[0, 1].all()
    assert abs(masks[0, 0].mean() - 0.5) < 0.05
    classes = load("segmentation")["classes"].numpy()
    assert (classes[0, 31:, 41:] == 1).all()
    assert classes[0, 5, 5] == 2
    assert classes[0, 5, 75] == 0


SIDE = st.floats(0, 1)


@given(st.tuples(SIDE, SIDE, SIDE, SIDE).filter(lambda box: box[0] < box[2] and box[1] < box[3]))
def test_a_box_written_is_the_box_read(tmp_path_factory, box):
    left, top, right, bottom = box
    path = tmp_path_factory.getbasetemp() / "written.txt"
    sides = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    path.write_text(
        f"7 {' '.join(map(repr, sides))}\n7 {left!r} {top!r} {right!r} {top!r} {right!r} {bottom!r}"
    )
    labels = read_labels(str(path))
    np.testing.assert_allclose(labels.boxes[-1], box, atol=1e-12)
    if len(labels.boxes) == 2:  # else it is so thin that its centre and width do not tell it
        np.testing.assert_allclose(labels.boxes[0], box, atol=1e-12)
        assert labels.classes.tolist() == [7, 7]
    else:
        assert min(right - left, bottom - top) < 1e-15


@given(st.binary(max_size=300) | st.text("0123456789. -e\n", max_size=300).map(str.encode))
def test_any_bytes_are_rows_or_faults(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(text)
    labels = read_labels(str(path))
    rows = sum(bool(row.split()) for row in text.removeprefix(b"\xef\xbb\xbf").splitlines())
    assert len(labels.boxes) + len(labels.faults) == rows
    assert all(str(path) in str(fault) and "expected" in str(fault) for fault in labels.faults)
    assert np.isfinite(labels.boxes).all()
    assert (labels.boxes[:, :2] < labels.boxes[:, 2:]).all()


@pytest.mark.parametrize(
    ("pictures", "texts"),
    [
        ("a/images/train", "a/labels/train"),
        ("images/b/images", "images/b/labels"),
        ("a/pictures", "a/pictures"),
        ("a/images/gone", "a/images/gone"),
    ],
)
def test_where_text_files_are(tmp_path, pictures, texts):
    for place in ("a/labels/train", "images/b/labels", "labels/b/images"):
        (tmp_path / place).mkdir(parents=True)
    assert yolo_layout._text_folder(tmp_path / pictures) == tmp_path / texts
