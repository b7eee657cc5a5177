import pytest
from PIL import Image

from kzoo.data.faults import DataError, DataWarning, collected
from kzoo.data.sources import open_source, open_split
from kzoo.data.sources.yolo_layout import find_layout

ROW = "0 0.5 0.5 0.5 0.5\n"


def put(*paths, row=ROW):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text(row)
        else:
            Image.new("L", (4, 3)).save(path)


def put_split(images, labels, count=10):
    for number in range(count):
        put(images / f"{number}.png", labels / f"{number}.txt")


def counts(path):
    return {name: len(entries) for name, entries in find_layout("x", path).splits.items()}


@pytest.mark.parametrize("images", ["images", "."])
def test_a_picture_beside_the_folders_of_splits_is_in_none(tmp_path, images):
    place = tmp_path / images
    for name in ("train", "val"):
        put_split(place / name, tmp_path / "labels" / name if images == "images" else place / name)
    before = counts(tmp_path)
    put(place / "preview.jpg")
    assert counts(tmp_path) == before == {"train": 10, "val": 10}
    source = open_source(f"yolo:{tmp_path}")
    message = r"1 fault in 1 of 20 pictures(.|\n)*preview\.jpg: lies beside .*; expected it in train or val"
    for part in ("train", "val", "val[:3]"):
        with pytest.warns(DataWarning, match=message):
            open_split(source, part)
    with collected() as faults:
        source.split("train")
    assert [fault.kind for fault in faults] == ["no_split"]
    put(place / "preview2.jpg", place / "preview3.jpg")
    with pytest.raises(DataError, match="3 faults in 3 of 20 pictures, which is more than a tenth"):
        open_source(f"yolo:{tmp_path}").split("train")


def test_other_folders_beside_pictures_are_no_splits(tmp_path):
    put_split(tmp_path / "images", tmp_path / "labels")
    put_split(tmp_path / "images/more", tmp_path / "labels/more")
    (tmp_path / "images/train").mkdir()  # without pictures it is none either
    assert counts(tmp_path) == {"train": 16, "val": 2, "test": 2, "all": 20}


def test_text_files_without_a_picture_move_no_slice_and_no_draw(tmp_path):
    put_split(tmp_path / "images", tmp_path / "labels", count=40)
    spec = f"yolo:{tmp_path}"
    before = [open_split(open_source(spec), part).names for part in ("train", "val", "all[:5]")]
    put(*(tmp_path / f"labels/0{number}.txt" for number in range(4)))
    source = open_source(spec)
    assert source.info.splits == {"train": 32, "val": 4, "test": 4, "all": 40}
    message = r"4 faults in 4 of 40 pictures(.|\n)*00\.txt: its picture is missing"
    for part, names in zip(("train", "val", "all[:5]"), before, strict=True):
        with pytest.warns(DataWarning, match=message):
            assert open_split(source, part).names == names
    with pytest.raises(DataError, match="strict=True allows none"):
        source.split("val", strict=True)


def test_text_files_of_one_split_are_not_told_of_another(tmp_path):
    for name in ("train", "val"):
        put_split(tmp_path / "images" / name, tmp_path / "labels" / name)
    put(tmp_path / "labels/train/x.txt")
    source = open_source(f"yolo:{tmp_path}")
    assert source.info.splits == {"train": 10, "val": 10}
    assert len(source.split("val", strict=True)) == 10
    with pytest.warns(DataWarning, match=r'split "train": 1 fault in 1 of 10 (.|\n)*x\.txt: its picture is'):
        assert len(source.split("train")) == 10


def test_a_split_of_text_files_alone_is_not_there(tmp_path):
    put_split(tmp_path / "images/train", tmp_path / "labels/train")
    put(*(tmp_path / f"labels/val/{number}.txt" for number in range(3)))
    source = open_source(f"yolo:{tmp_path}")
    assert source.info.splits == {"train": 10}
    with pytest.raises(DataError, match=r"val has no picture; .*0\.txt: its picture is miss.* \(and 2 more"):
        source.split("val")


def test_a_check_is_told_of_described_splits_that_are_not_there(tmp_path):
    put_split(tmp_path / "images/train", tmp_path / "labels/train")
    text = "train: images/train\nval: images/val\ntest: images/test\nnames: [a]\n"
    (tmp_path / "data.yaml").write_text(text)
    source = open_source(f"yolo:{tmp_path}")
    with collected() as faults:
        source.split("train")
    assert [fault.kind for fault in faults] == ["split", "split"]
    assert "data.yaml: val: images/val is not there" in faults[0].told
    source.split("train", strict=True)  # which is whole


def test_a_description_that_is_told_is_the_one(tmp_path):
    put_split(tmp_path / "images/train", tmp_path / "labels/train")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [a]\n")
    (tmp_path / "pets.YAML").write_text("train: images/train\nval: images/train\nnames: [b]\n")
    assert open_source(f"yolo:{tmp_path}/data.yaml").info.classes == ("a",)
    info = open_source(f"yolo:{tmp_path}/pets.YAML").info
    assert (info.classes, info.splits) == (("b",), {"train": 10, "val": 10})
    with pytest.raises(DataError, match="none.yaml does not exist; expected a directory .* or its data.yaml"):
        open_source(f"yolo:{tmp_path}/none.yaml")


@pytest.mark.parametrize("text", ["train: {long}", "train: {long}/images", "path: {long}\ntrain: {long}"])
def test_paths_that_no_file_can_have(tmp_path, text):
    put_split(tmp_path / "images", tmp_path / "labels")
    (tmp_path / "data.yaml").write_text("names: [a]\n" + text.format(long="a" * 300))
    with pytest.raises(DataError, match="is not there; expected"):
        open_source(f"yolo:{tmp_path}")
    (tmp_path / "data.yaml").write_text(f"names: [a]\npath: {'a' * 300}\ntrain: images")
    assert open_source(f"yolo:{tmp_path}").info.splits == {"train": 10}  # the root is of another machine
