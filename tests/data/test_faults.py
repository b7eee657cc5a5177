import warnings

import numpy as np
import pytest
from PIL import Image

import kzoo.data
from kzoo.data.faults import DataError, DataWarning, Faults, shortened
from kzoo.data.sources import open_source, open_split


def collect(count, *, pictures_of=lambda number: f"picture{number}"):
    faults = Faults('voc:somewhere, split "train"')
    for number in range(count):
        faults.add(pictures_of(number), f"a{number}.xml: broken; expected whole")
    return faults


@pytest.mark.parametrize("strict", [False, True])
def test_no_fault_says_nothing(strict):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        collect(0).close(10, strict=strict)
    assert not told


def test_few_faults_are_told_once_with_the_first_ten_places():
    with pytest.warns(DataWarning) as told:
        collect(12).close(120)
    assert len(told) == 1
    message = str(told[0].message)
    assert 'voc:somewhere, split "train": 12 faults in 12 of 120 pictures' in message
    assert "a9.xml: broken; expected whole" in message
    assert "a10.xml" not in message
    assert "and 2 more" in message


def test_exactly_ten_faults_have_no_rest():
    with pytest.warns(DataWarning) as told:
        collect(10).close(100)
    assert "more" not in str(told[0].message)


def test_a_tenth_is_allowed_and_more_is_not():
    with pytest.warns(DataWarning):
        collect(2).close(20)
    with pytest.raises(DataError, match="2 faults in 2 of 19 pictures, which is more than a tenth"):
        collect(2).close(19)


def test_faults_of_one_picture_make_one_faulty_picture():
    with pytest.warns(DataWarning, match="5 faults in 1 of 10 pictures"):
        collect(5, pictures_of=lambda number: "same").close(10)


def test_strict_allows_none():
    with pytest.raises(DataError, match=r"1 fault in 1 of 1000 pictures.*strict=True[\s\S]*a0\.xml"):
        collect(1).close(1000, strict=True)


@pytest.mark.parametrize(
    ("spec", "folders", "task"),
    [
        ("folder", ("cat",), "classification"),
        ("folder", ("image", "label"), "segmentation"),
        ("voc", ("JPEGImages", "SegmentationClass"), "segmentation"),
        ("voc", ("JPEGImages", "Annotations"), "detection"),
    ],
)
def test_a_warning_points_to_whoever_asked_for_the_data(tmp_path, spec, folders, task):
    for folder in folders:
        (tmp_path / folder).mkdir()
        for number in range(12):
            file = tmp_path / folder / f"{number}.png"
            if folder == "Annotations":
                box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
                text = f"<annotation><object><name>a</name>{box}</object></annotation>"
                file.with_suffix(".xml").write_text(text)
            else:
                Image.fromarray(np.full([4, 5], number % 2, np.uint8)).save(file)
    (tmp_path / folders[0] / "3.png").write_text("none")
    spec = f"{spec}:{tmp_path}"
    source = open_source(spec, task=task)
    for ask in (
        lambda: source.split("all"),
        lambda: open_split(source, "all[:11]"),
        lambda: kzoo.data.load(spec, split="all", task=task, image_size=(4, 5)),
    ):
        with pytest.warns(DataWarning, match="1 fault in 1 of 1") as warned:
            ask()
        assert [told.filename for told in warned] == [__file__]


def test_data_error_is_a_value_error():
    assert issubclass(DataError, ValueError)


def test_a_value_is_told_within_a_line():
    assert shortened("a\nb") == "'a\\nb'"
    assert shortened([1] * 50) == f"{str([1] * 50)[:60]}..."
