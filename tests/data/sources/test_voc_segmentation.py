import numpy as np
import pytest
from PIL import Image

import kzoo.data
from kzoo.data.faults import DataError, DataWarning
from kzoo.data.sources import open_source, open_split

LABELS = [[0, 1, 20], [15, 255, 0]]


@pytest.fixture
def folder(tmp_path):
    """Pascal VOC with 12 labelled pictures, and one without labels."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(13):
        Image.new("RGB", (3, 2), (number, 0, 0)).save(tmp_path / f"JPEGImages/p{number:02}.png")
    for number in range(12):
        label(tmp_path, f"p{number:02}", LABELS)
    listed(tmp_path, "train", range(10))
    listed(tmp_path, "val", range(10, 12))
    return tmp_path


def label(path, name, values):
    picture = Image.fromarray(np.array(values, np.uint8), "P")
    picture.putpalette([255 - number // 3 for number in range(768)])
    picture.save(path / "SegmentationClass" / f"{name}.png")


def listed(path, split, numbers):
    names = "\n".join(f"p{number:02}" for number in numbers)
    (path / f"ImageSets/Segmentation/{split}.txt").write_text(names + "\n")


def open_pixels(folder, **options):
    return open_source(f"voc:{folder}", task="segmentation", **options)


def test_classes_of_pixels(folder):
    source = open_pixels(folder)
    assert source.info.classes[:2] == ("background", "aeroplane")
    assert (source.info.classes[15], source.info.classes[20], len(source.info.classes)) == (
        "person",
        "tvmonitor",
        21,
    )
    assert source.info.splits == {"train": 10, "val": 2}
    split = source.split("val", strict=True)
    np.testing.assert_array_equal(split.read_labels(1), [[0, 1, 20], [15, -1, 0]])
    assert split.read_labels(1).dtype == np.int16
    assert split.boxes is None
    np.testing.assert_array_equal(split.read(1), np.full((2, 3, 3), [11, 0, 0]))
    assert len(open_split(source, "train[7:]")) == 3


def test_what_it_teaches_with_annotations_and_without(folder):
    assert kzoo.data.info(f"voc:{folder}").tasks == ("segmentation",)
    assert kzoo.data.info(f"voc:{folder}").classes[0] == "background"
    (folder / "Annotations").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
    text = f"<annotation><object><name>cat</name>{box}</object></annotation>"
    (folder / "Annotations/p00.xml").write_text(text)
    info = kzoo.data.info(f"voc:{folder}")
    assert info.tasks == ("detection", "segmentation")
    assert info.classes == ("cat",)
    assert open_pixels(folder).info.tasks == ("detection", "segmentation")


@pytest.mark.parametrize("names", [["background", "cat", "dog"], ["cat", "dog"]])
def test_names_with_and_without_background(folder, names):
    for number in range(12):
        label(folder, f"p{number:02}", [[0, 1, 2], [2, 255, 0]])
    assert open_pixels(folder, classes=names).info.classes == ("background", "cat", "dog")
    (folder / "classes.txt").write_text("\n".join(names))
    source = open_pixels(folder)
    assert source.info.classes == ("background", "cat", "dog")
    np.testing.assert_array_equal(source.split("val").read_labels(0), [[0, 1, 2], [2, -1, 0]])


def test_values_of_no_class(folder):
    with pytest.raises(
        DataError, match=r"p10.png: values of no class, 15, 20; expected 0, 1, or 255, which is"
    ):
        open_pixels(folder, classes=["cat"]).split("val")


def test_faults_of_the_lists(folder):
    listed(folder, "train", [*range(11), *range(12), 12])
    (folder / "JPEGImages/p05.png").unlink()
    with pytest.raises(DataError) as raised:
        open_pixels(folder).split("train")
    assert "p00 is listed 2 times in the split train; expected once" in str(raised.value)
    listed(folder, "train", [*range(5), *range(6, 12)])
    (folder / "SegmentationClass/p07.png").unlink()
    with pytest.warns(
        DataWarning, match="SegmentationClass/p07.png: there is no such file; expected one for p07"
    ):
        assert len(open_pixels(folder).split("train")) == 10


def test_splits_are_drawn_from_the_labelled_pictures(folder):
    for split in ("train", "val"):
        (folder / f"ImageSets/Segmentation/{split}.txt").unlink()
    assert open_pixels(folder).info.splits == {"train": 8, "val": 2, "test": 2, "all": 12}


def test_no_label_pictures(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(DataError, match=r"takes label pictures; expected .*SegmentationClass/NAME.png"):
        open_pixels(tmp_path)


def test_a_picture_of_too_many_pixels(folder):
    Image.new("RGB", (4, 2)).save(folder / "JPEGImages/p03.png")
    with pytest.warns(DataWarning, match=r"p03\.png: a picture of 4 x 2 pixels.*max_pixels=6"):
        assert len(open_pixels(folder, max_pixels=6).split("train")) == 9
