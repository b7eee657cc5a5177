import numpy as np
import pytest
from PIL import Image

from kzoo.data.faults import DataError, DataWarning
from kzoo.data.sources import open_source, open_split

WIDTH, HEIGHT = 40, 30


def annotation(objects=(("cat", 11, 6, 20, 25),), *, filename="", size=(WIDTH, HEIGHT), head=""):
    lines = [head, "<annotation>", f"<filename>{filename}</filename>"]
    if size:
        lines.append(f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>")
    for name, *box in objects:
        sides = "".join(
            f"<{side}>{value}</{side}>"
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        lines.append(
            f"<object><name>{name}</name><difficult>1</difficult><bndbox>{sides}</bndbox>"
            "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
        )
    return "\n".join([*lines, "</annotation>"]).strip()


class Folder:
    """A small data set of 20 pictures with a cat each, to spoil."""

    def __init__(self, path, count=20):
        self.path = path
        self.spec = f"voc:{path}"
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (path / folder).mkdir(parents=True)
        self.names = [f"p{number:02}" for number in range(count)]
        for number, name in enumerate(self.names):
            self.annotate(name)
            Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(self.picture(name))
        self.list("train", self.names)

    def annotate(self, name, *args, **options):
        self.xml(name).write_text(annotation(*args, **options))

    def xml(self, name):
        return self.path / "Annotations" / f"{name}.xml"

    def picture(self, name):
        return self.path / "JPEGImages" / f"{name}.png"

    def list(self, split, names):
        (self.path / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")

    def open(self, split="train", **options):
        return open_source(self.spec, **options).split(split)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_a_faultless_folder(folder):
    folder.annotate("p01", [("cat", 1, 1, WIDTH, HEIGHT), ("dog", 2.5, 3, 10.25, 20), ("cat", 5, 5, 6, 6)])
    folder.annotate("p02", [])
    folder.list("val", ["p01", "p02"])
    folder.list("cat_train", ["p01  1", "p02 -1"])  # of one class: no split
    folder.list("nothing", [])
    source = open_source(folder.spec)
    assert source.info.classes == ("cat", "dog")
    assert source.info.splits == {"nothing": 0, "train": 20, "val": 2}
    assert source.info.tasks == ("detection",)
    assert source.max_objects == 3
    split = source.split("val", strict=True)
    np.testing.assert_array_equal(split.boxes[0], [[0, 0, 40, 30], [1.5, 2, 10.25, 20], [4, 4, 6, 6]])
    np.testing.assert_array_equal(split.classes[0], [0, 1, 0])
    assert split.boxes[1].shape == (0, 4)
    assert split.classes[1].shape == (0,)
    assert all(boxes.dtype == np.float32 for boxes in split.boxes)
    assert all(classes.dtype == np.int32 for classes in split.classes)
    assert split.sizes == ((HEIGHT, WIDTH),) * 2
    assert split.names == (str(folder.picture("p01")), str(folder.picture("p02")))
    np.testing.assert_array_equal(split.read(1), np.full((HEIGHT, WIDTH, 3), [2, 0, 0]))
    with pytest.raises(DataError, match="is empty"):
        source.split("nothing")
    with pytest.raises(DataError, match='Nearest: "train"'):
        source.split("trian")


def test_a_folder_for_each_split_as_roboflow_exports_it(tmp_path):
    for split, objects in (("train", [("cat", 11, 6, 20, 25)]), ("valid", [("dog", 1, 1, 4, 5)])):
        (tmp_path / split).mkdir()
        (tmp_path / split / "same.xml").write_text(annotation(objects, filename="same.jpg"))
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / split / "same.jpg")
    source = open_source(f"voc:{tmp_path}", task="detection")
    assert source.info.splits == {"train": 1, "val": 1}
    assert source.info.classes == ("cat", "dog")
    for name, folder, box, label in (
        ("train", "train", [10, 5, 20, 25], 0),
        ("val", "valid", [0, 0, 4, 5], 1),
    ):
        split = source.split(name, strict=True)
        assert split.names == (str(tmp_path / folder / "same.jpg"),)
        np.testing.assert_array_equal(split.boxes[0], [box])
        np.testing.assert_array_equal(split.classes[0], [label])


def test_annotations_in_a_folder_of_another_name(tmp_path):
    for folder, name in (("labels", "1.xml"), ("images", "1.jpg")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(annotation())
    with pytest.raises(DataError, match="no annotation in .*, but in .*labels; expected .* in Annotations"):
        open_source(f"voc:{tmp_path}")


@pytest.mark.parametrize("above", ["", "VOCdevkit"])
def test_the_only_folder_of_a_devkit_is_taken(tmp_path, above):
    (tmp_path / above).mkdir(exist_ok=True)
    whole = Folder(tmp_path / above / "VOC2012")
    assert open_source(f"voc:{tmp_path}").split("train", strict=True).names[0] == str(whole.picture("p00"))
    Folder(tmp_path / above / "VOC2007")
    with pytest.raises(
        DataError, match=r"2 folders of Pascal VOC .*expected one: 'voc:.*2007' or 'voc:.*2012'"
    ):
        open_source(f"voc:{tmp_path}")


def test_only_detection_is_taught(folder):
    with pytest.raises(
        DataError, match="task='instance_segmentation' cannot be learnt .*what can: detection"
    ):
        open_source(folder.spec, task="instance_segmentation")


def test_a_part_of_a_split_without_the_faults_of_the_rest(folder):
    folder.picture("p03").unlink()
    source = open_source(folder.spec)
    assert [len(open_split(source, text, strict=True)) for text in ("train[:3]", "train[4:]")] == [3, 16]
    part = open_split(source, "train[4:6]", strict=True)
    assert part.names == (str(folder.picture("p04")), str(folder.picture("p05")))
    assert (len(part.boxes), part.read(1)[0, 0, 0]) == (2, 5)


FAULTS = {
    "no annotation": (lambda f: f.xml("p03").unlink(), r"p03\.xml: there is no such file", False),
    "no picture": (lambda f: f.picture("p03").unlink(), r"p03\.xml: its picture is missing", False),
    "no picture at all": (lambda f: f.picture("p03").write_text("hello"), r"p03\.png: not a picture", False),
    "truncated": (
        lambda f: f.picture("p03").write_bytes(f.picture("p03").read_bytes()[:-40]),
        r"p03\.png: .*; expected a whole picture",
        False,
    ),
    "broken XML": (lambda f: f.xml("p03").write_text("<annotation><size>"), r"p03\.xml: broken XML", False),
    "not XML": (lambda f: f.xml("p03").write_bytes(b"\x00\xff\x12"), r"p03\.xml: broken XML", False),
    "empty": (lambda f: f.xml("p03").write_text(""), r"p03\.xml: broken XML", False),
    "encoding": (
        lambda f: f.annotate("p03", head='<?xml version="1.0" encoding="klingon"?>'),
        r"p03\.xml: .*klingon|p03\.xml: broken XML \(unknown encoding",
        False,
    ),
    "another XML": (lambda f: f.xml("p03").write_text("<svg/>"), r"p03\.xml: its root is <svg>", False),
    "entities": (
        lambda f: f.annotate("p03", head='<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>'),
        r"p03\.xml: a document type declaration",
        False,
    ),
    "size": (
        lambda f: f.annotate("p03", size=(HEIGHT, WIDTH)),
        r"p03\.xml: says that its picture is 30 x 40; expected 40 x 30",
        False,
    ),
    "words for a size": (
        lambda f: f.annotate("p03", size=("wide", 3)),
        r"p03\.xml: <size> of width 'wide'",
        False,
    ),
    "no area": (
        lambda f: f.annotate("p03", [("cat", 5, 5, 5, 9)]),
        r"p03\.xml, object 1 \(cat\): .* no area",
        True,
    ),
    "reversed": (
        lambda f: f.annotate("p03", [("cat", 9, 5, 5, 9)]),
        r"object 1 \(cat\): .* is reversed",
        True,
    ),
    "outside": (lambda f: f.annotate("p03", [("cat", 50, 5, 60, 9)]), r"outside its picture.*40 x 30", True),
    "partly outside": (lambda f: f.annotate("p03", [("cat", 5, 5, 60, 9)]), r"outside its picture", True),
    "negative": (lambda f: f.annotate("p03", [("cat", -9, 5, 6, 9)]), r"outside its picture", True),
    "not a number": (lambda f: f.annotate("p03", [("cat", "nan", 5, 6, 9)]), r"xmin nan.* not finite", True),
    "infinite": (lambda f: f.annotate("p03", [("cat", 1, 5, "inf", 9)]), r"not finite", True),
    "words": (lambda f: f.annotate("p03", [("cat", "left", 5, 6, 9)]), r"xmin left.* not of numbers", True),
    "of Python": (lambda f: f.annotate("p03", [("cat", 1, 5, "1_0", 9)]), r"xmax 1_0.* not of numbers", True),
    "a side missing": (lambda f: f.annotate("p03", [("cat", "", 5, 6, 9)]), r"not of numbers", True),
    "nameless": (lambda f: f.annotate("p03", [("", 1, 5, 6, 9)]), r"object 1 \(nameless\)", True),
    "listed twice": (lambda f: f.list("train", [*f.names, "p03"]), r"p03 is listed 2 times", True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_left_out_and_told(folder, fault):
    spoil, message, picture_stays = FAULTS[fault]
    spoil(folder)
    source = open_source(folder.spec)
    with pytest.warns(DataWarning, match=message) as told:
        split = source.split("train")
    assert len(told) == 1
    assert "1 fault in 1 of 20 pictures" in str(told[0].message)
    assert (
        len(split)
        == len(split.boxes)
        == len(split.classes)
        == len(split.sizes)
        == (20 if picture_stays else 19)
    )
    assert (str(folder.picture("p03")) in split.names) == picture_stays
    if picture_stays and fault != "listed twice":
        assert len(split.boxes[3]) == 0
    np.testing.assert_array_equal(split.boxes[-1], [[10, 5, 20, 25]])
    assert split.read(len(split) - 1)[0, 0, 0] == 19
    with pytest.raises(DataError, match=message):
        source.split("train", strict=True)


def test_the_other_boxes_of_a_picture_stay(folder):
    folder.annotate("p00", [("cat", 1, 1, 1, 1), ("cat", 2, 3, 5, 6), ("cat", 9, 9, 3, 3)])
    with pytest.warns(DataWarning, match="2 faults in 1 of 20 pictures"):
        np.testing.assert_array_equal(folder.open().boxes[0], [[1, 2, 5, 6]])


def test_more_than_a_tenth_faulty_is_an_error(folder):
    for name in folder.names[:3]:
        folder.annotate(name, [("cat", 5, 5, 5, 5), ("cat", 1, 1, 9, 9)])
    with pytest.raises(DataError, match="3 faults in 3 of 20 pictures, which is more than a tenth"):
        folder.open()


def test_a_box_a_pixel_outside_is_clipped(folder):
    folder.annotate("p00", [("cat", 0, 0, WIDTH + 1, HEIGHT + 1)])
    np.testing.assert_array_equal(folder.open().boxes[0], [[0, 0, WIDTH, HEIGHT]])


@pytest.mark.parametrize("size", [None, (0, 0)])
def test_a_size_that_is_not_told_is_not_compared(folder, size):
    folder.annotate("p00", size=size)
    assert len(folder.open()) == 20


def test_a_class_that_the_list_lacks_is_always_an_error(folder):
    folder.annotate("p07", [("cat", 1, 1, 9, 9), ("Dgo", 5, 5, 5, 5)])
    with pytest.raises(DataError) as raised:
        folder.open(classes=["dog", "cat"])
    message = str(raised.value)
    assert f"{folder.xml('p07')}, object 2" in message
    assert 'class="Dgo": unknown. Nearest: "dog". Known: "dog", "cat"' in message
    assert "classes=" in message


@pytest.mark.parametrize("file", ["classes.txt", "labels.txt"])
def test_class_files(folder, file):
    (folder.path / file).write_bytes("\ufeffdog\r\ncat\r\n\r\n".encode())
    assert folder.open().classes[0] == 1
    assert folder.open(classes=["cat"]).classes[0] == 0  # an argument has the last word
    (folder.path / file).write_text("dog\n")
    with pytest.raises(DataError, match=rf"{file}.*class=\"cat\""):
        folder.open()
    (folder.path / file).write_text("")
    with pytest.raises(DataError, match=f"{file} is empty"):
        folder.open()
    (folder.path / file).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=f"{file}: .*UTF-8"):
        folder.open()


def test_discovered_classes_are_ordered_by_frequency_then_name(folder):
    folder.annotate("p00", [(name, 1, 1, 9, 9) for name in ("yak", "bee", "yak", "ant", "bee", "gnu")])
    folder.list("few", ["p01"])
    assert open_source(folder.spec).info.classes == ("cat", "bee", "yak", "ant", "gnu")


def test_pictures_are_found_by_the_annotations_name_and_then_by_filename(folder):
    folder.picture("p00").rename(folder.path / "JPEGImages" / "other one.JPG")
    folder.annotate("p00", filename=r"C:\pictures\other one.JPG")
    folder.annotate("p01", filename="p02.png")  # renamed together, and the text inside is stale
    split = folder.open()
    assert split.names[0].endswith("other one.JPG")
    assert split.names[1] == str(folder.picture("p01"))


def test_filename_decides_between_two_pictures_of_one_name(folder):
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder.path / "JPEGImages" / "p00.bmp")
    folder.annotate("p00", filename="p00.png")
    assert folder.open().names[0].endswith("p00.png")
    folder.annotate("p00", filename="p00.bmp")
    assert folder.open().names[0].endswith("p00.bmp")


def test_pictures_and_annotations_side_by_side(tmp_path):
    for name in ("b 1", "a_1"):
        (tmp_path / f"{name}.xml").write_text(annotation())
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"{name}.jpg")
    source = open_source(f"voc:{tmp_path}")
    assert source.info.splits == {"train": 1, "test": 1, "all": 2}
    assert source.split("all").names == (str(tmp_path / "a_1.jpg"), str(tmp_path / "b 1.jpg"))


def test_splits_are_drawn_where_nobody_made_any(tmp_path):
    for number in range(25):
        (tmp_path / f"p{number}.xml").write_text(annotation())
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"p{number}.jpg")
    source = open_source(f"voc:{tmp_path}")
    assert source.info.splits == {"train": 19, "val": 3, "test": 3, "all": 25}
    parts = [source.split(name).names for name in ("train", "val", "test")]
    assert sorted(sum(parts, ())) == sorted(source.split("all").names)  # none in two, none in none
    assert [open_source(f"voc:{tmp_path}").split(name).names for name in ("train", "val", "test")] == parts


def test_names_with_spaces_in_a_split(tmp_path):
    folder = Folder(tmp_path, count=1)
    for name in ("photo 0", "photo 1"):
        folder.annotate(name)
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder.picture(name))
    folder.list("train", ["photo 0", "photo 1"])
    assert len(folder.open()) == 2


def test_folders_without_annotations_or_objects(tmp_path):
    with pytest.raises(DataError, match="there is no annotation in"):
        open_source(f"voc:{tmp_path}")
    (tmp_path / "a.xml").write_text("<annotation")
    with pytest.raises(DataError, match=r"no annotation has an object with a class; .*a\.xml: broken XML"):
        open_source(f"voc:{tmp_path}")


def test_a_picture_spoilt_after_opening_is_named(folder):
    split = folder.open()
    folder.picture("p04").write_text("gone")
    with pytest.raises(DataError, match=r"p04\.png"):
        split.read(4)


def turned_picture(path, orientation, size=(WIDTH, HEIGHT)):
    """A picture of ground with one white pixel in its stored top left corner, to be turned."""
    picture = Image.new("RGB", size)
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_the_stored_picture_are_turned_with_it(folder, orientation):
    turned_picture(folder.picture("p03"), orientation)
    folder.annotate("p03", [("cat", 1, 1, 20, 10)])
    split = folder.open()
    pixels, (box,) = split.read(3), split.boxes[3]
    assert split.sizes[3] == pixels.shape[:2] == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    if orientation in (2, 3, 4):  # nothing tells that the annotation is of what is stored
        np.testing.assert_array_equal(box, [0, 0, 20, 10])
        return
    (y,), (x,) = np.nonzero(pixels[..., 0])  # the corner that was the box's too
    corners = {(left, top) for left in (box[0], box[2] - 1) for top in (box[1], box[3] - 1)}
    assert (x, y) in corners
    sides = (box[2] - box[0], box[3] - box[1])
    assert sides == ((20, 10) if orientation == 1 else (10, 20))


def test_boxes_of_the_seen_picture_are_not_turned(folder):
    for name, size in (("p03", (HEIGHT, WIDTH)), ("p04", None), ("p05", (0, 0))):
        turned_picture(folder.picture(name), 6)
        folder.annotate(name, [("cat", 1, 1, 30, 40)], size=size)
    split = open_source(folder.spec).split("train", strict=True)
    for index in (3, 4, 5):
        np.testing.assert_array_equal(split.boxes[index], [[0, 0, 30, 40]])
        assert split.sizes[index] == (WIDTH, HEIGHT)


def test_a_turned_picture_of_another_size_is_a_fault(folder):
    turned_picture(folder.picture("p03"), 6)
    folder.annotate("p03", size=(WIDTH + 1, HEIGHT))
    with pytest.warns(DataWarning, match=r"p03\.xml: says that its picture is 41 x 30; expected 30 x 40"):
        assert len(folder.open()) == 19


def test_a_picture_of_too_many_pixels_is_left_out(folder):
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(folder.picture("p03"))
    folder.annotate("p03", size=None)
    source = open_source(folder.spec, max_pixels=WIDTH * HEIGHT)
    with pytest.warns(DataWarning, match=r"p03\.png: a picture of 40 x 31 pixels.*max_pixels=1200"):
        assert len(source.split("train")) == 19
    for wrong in (0, 1.5, "1", True, None):
        with pytest.raises(ValueError, match="max_pixels=.*whole number of at least 1"):
            open_source(folder.spec, max_pixels=wrong)
