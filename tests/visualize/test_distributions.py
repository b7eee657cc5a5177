import numpy as np
import pytest
from PIL import Image

from kzoo.data.checking.tally import Tally
from kzoo.visualize import distributions


def tally_of(pictures, **others):
    sizes = np.full([pictures, 2], 64)
    objects = np.tile(np.array([[1, 2, 11, 32]], np.float32), [pictures, 1])
    counts = np.ones(pictures, int)
    there = {"sizes": sizes, "counts": counts, "classes": np.zeros(pictures, int), "boxes": objects}
    return Tally(**there | others)


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_boxes_have_panels_of_their_own(tmp_path):
    distributions({"train": tally_of(3), "val": tally_of(1)}, ["cat"], tmp_path / "boxes.png")
    distributions({"train": tally_of(3, boxes=None)}, ["cat"], tmp_path / "classes.png")
    (width, height), (other_width, other_height) = map(
        size_of, (tmp_path / "boxes.png", tmp_path / "classes.png")
    )
    assert width == other_width
    assert height == 2 * other_height


@pytest.mark.parametrize(
    "others",
    [
        {"boxes": np.zeros([0, 4], np.float32), "classes": np.zeros(0, int), "counts": np.zeros(3, int)},
        {"boxes": None, "counts": None, "classes": np.zeros(0, int), "pixels": np.ones([3, 3], int)},
        {"sizes": np.array([[1, 1], [9000, 3], [3, 20000]])},
    ],
)
def test_of_whatever_there_is(tmp_path, others):
    distributions({"train": tally_of(3, **others)}, ["cat", "dog"], tmp_path / "page.png")
    assert size_of(tmp_path / "page.png")


def test_many_classes(tmp_path):
    tallies = {"train": tally_of(3, classes=np.array([3, 700, 999]))}
    distributions(tallies, [f"class {number}" for number in range(1000)], tmp_path / "page.png")
    assert max(size_of(tmp_path / "page.png")) < 2000


@pytest.mark.parametrize("tallies", [{}, {"train": tally_of(0)}])
def test_nothing_to_draw(tmp_path, tallies):
    with pytest.raises(ValueError, match="no picture"):
        distributions(tallies, ["cat"], tmp_path / "page.png")


@pytest.mark.parametrize("name", ["US$ 5 \\frac$", "CA$ $x^", "cat\udcff"])
def test_names_are_neither_formulas_nor_need_be_text(tmp_path, name):
    distributions({name: tally_of(3), "val": tally_of(1)}, [name], tmp_path / "page.png")
    assert size_of(tmp_path / "page.png")
