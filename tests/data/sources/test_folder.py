import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import kzoo.data
from kzoo.data.faults import DataError
from kzoo.data.sources import open_source
from kzoo.data.sources.folder import natural


def put(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3)).save(path)


def test_which_kind_it_is_is_seen(tmp_path):
    put(tmp_path / "classes/train/cat/1.png")
    put(tmp_path / "pairs/image/1.png", tmp_path / "pairs/label/1.png")
    put(tmp_path / "splits/val/image/1.png", tmp_path / "splits/val/label/1.png")
    put(tmp_path / "other/raw/1.png", tmp_path / "other/masks/1.png")
    of_classes = kzoo.data.info(f"folder:{tmp_path}/classes")
    assert (of_classes.tasks, of_classes.classes) == (("classification",), ("cat",))
    for name, split in (("pairs", "all"), ("splits", "val"), ("other,image=raw,label=masks", "all")):
        of_pairs = kzoo.data.info(f"folder:{tmp_path}/{name}")
        assert (of_pairs.tasks, of_pairs.classes, of_pairs.splits[split]) == (("segmentation",), ("0",), 1)


def test_names_of_any_number_of_digits_have_an_order():
    names = ["a2", "a10", "a02", "a" + "1" * 5000, "a" + "1" * 4999 + "0"]
    assert sorted(names, key=natural) == ["a02", "a2", "a10", names[4], names[3]]


@pytest.mark.parametrize("option", ["image", "label"])
def test_an_option_that_no_folder_can_be_called(tmp_path, option):
    put(tmp_path / "cat/1.png", tmp_path / "dog/1.png")
    with pytest.raises(DataError, match="has neither"):
        open_source(f"folder:{tmp_path},{option}={'a' * 300}")


@pytest.mark.parametrize(("image", "label"), [("images", "masks"), ("img", "mask"), ("images", "labels")])
@pytest.mark.parametrize("split", ["", "train"])
def test_pairs_are_known_by_the_usual_names(tmp_path, image, label, split):
    for name in ("1", "2", "3"):
        put(tmp_path / split / image / f"{name}.jpg", tmp_path / split / label / f"{name}.png")
    put(tmp_path / "__MACOSX" / image / "1.png")
    found = kzoo.data.info(f"folder:{tmp_path}")
    assert (found.tasks, found.splits[split or "all"]) == (("segmentation",), 3)


def test_classes_called_like_pairs_are_classes(tmp_path):
    for folder in ("apart", "three", "both"):
        put(tmp_path / folder / "images/1.png", tmp_path / folder / "masks/1_mask.png")
    put(tmp_path / "three/cats/1.png", tmp_path / "both/image/1.png")
    for folder, task, classes in (("apart", "classification", 2), ("three", None, 3)):
        found = open_source(f"folder:{tmp_path / folder}", task=task).info
        assert (found.tasks, len(found.classes)) == (("classification",), classes)
    with pytest.raises(
        DataError, match="images and masks are called like .* 0 of 1 label pictures have a pic"
    ):
        kzoo.data.info(f"folder:{tmp_path / 'apart'}")
    with pytest.raises(DataError, match="there is .*/image, but no .*/label; expected both"):
        kzoo.data.info(f"folder:{tmp_path / 'both'}")


def test_tasks_that_it_cannot_teach_say_what_is_missing(tmp_path):
    put(tmp_path / "raw/1.png", tmp_path / "masks/1.png")
    with pytest.raises(
        DataError, match="has neither image nor label, but masks, raw; .*image=raw,label=masks"
    ):
        open_source(f"folder:{tmp_path}", task="segmentation")
    with pytest.raises(DataError, match="'detection' cannot be learnt from it; what can: classification"):
        open_source(f"folder:{tmp_path}", task="detection")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (",img=raw", 'option="img": unknown. Nearest: "image"'),
        (",image=a,image=b", "has the option image twice"),
        (",image=", "has nothing behind image="),
        (",image=raw", "has neither raw nor label; expected"),
        ("/none", "none does not exist; expected a directory with classes as folders"),
        ("/none,image=raw", "none does not exist"),
        ("/none,values=0:0,255:1", "pairs joined by +, as in values=0:0+255:1"),
    ],
)
def test_specs_that_are_none(tmp_path, options, message):
    put(tmp_path / "cat/1.png")
    with pytest.raises(DataError) as raised:
        open_source(f"folder:{tmp_path}{options}")
    assert message in str(raised.value)


def test_no_directory():
    for spec in ("folder", "folder:", "folder:,image=raw"):
        with pytest.raises(DataError, match="lacks the directory; expected 'folder:DIR'"):
            open_source(spec)
    with pytest.raises(DataError, match="is not a directory"):
        open_source(f"folder:{__file__}")


def test_commas_in_the_name_of_a_directory(tmp_path):
    put(tmp_path / "a,image=b/image/1.png", tmp_path / "a,image=b/label/1.png")
    put(tmp_path / "c, d/raw/1.png", tmp_path / "c, d/label/1.png")
    assert kzoo.data.info(f"folder:{tmp_path}/a,image=b").splits["all"] == 1
    assert kzoo.data.info(f"folder:{tmp_path}/c, d,image=raw").splits["all"] == 1


def test_two_comes_before_ten():
    names = ["b", "10", "2", "a10b", "a2c", "02", "", "a"]
    assert sorted(names, key=natural) == ["", "02", "2", "10", "a", "a2c", "a10b", "b"]


@given(st.lists(st.text(alphabet="a1٣²0.")))
def test_any_names_can_be_sorted(names):
    assert sorted(sorted(names, key=natural), key=natural) == sorted(names[::-1], key=natural)
