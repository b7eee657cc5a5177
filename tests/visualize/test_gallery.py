import importlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kzoo.data.faults import DataError
from kzoo.data.masks import encode
from kzoo.data.sources import Split
from kzoo.visualize import COLOURS, gallery
from kzoo.visualize.pages import CELL, GAP


def split_of(count, **others):
    """Black pictures; of each read they note which it was."""
    read = []

    def read_picture(index):
        read.append(index)
        return np.zeros([50, 100, 3], np.uint8)

    split = Split(
        name="train",
        boxes=None,
        classes=(np.array([0], np.int32),) * count,
        names=tuple(f"folder/{number}.png" for number in range(count)),
        sizes=((50, 100),) * count,
        read=read_picture,
    )
    return replace(split, **others), read


def colours(path):
    return set(map(tuple, np.asarray(Image.open(path)).reshape(-1, 3).tolist()))


def test_the_same_seed_draws_the_same_pictures(tmp_path):
    split, read = split_of(100)
    for seed in (0, 0, 1):
        gallery({"train": split}, ["cat"], tmp_path / f"{seed}.png", count=8, seed=seed)
    first, again, other = (read[start : start + 8] for start in (0, 8, 16))
    assert first == again != other
    assert len(set(first)) == 8


def test_rows_of_four(tmp_path):
    split, _ = split_of(5)
    gallery({"train": split}, ["cat"], tmp_path / "page.png")
    page = Image.open(tmp_path / "page.png")
    assert page.width == GAP + 4 * (CELL + GAP)
    assert page.height > 2 * CELL / 2


def test_pictures_that_cannot_be_read_are_passed_over(tmp_path):
    split, _ = split_of(3)

    def read(index):
        if index != 1:
            raise DataError("broken")
        return split.read(index)

    gallery({"train": replace(split, read=read)}, ["cat"], tmp_path / "page.png")
    assert Image.open(tmp_path / "page.png").width == GAP + CELL + GAP
    with pytest.raises(ValueError, match="no picture"):
        gallery({"train": split_of(0)[0]}, ["cat"], tmp_path / "page.png")


def test_boxes_are_drawn(tmp_path):
    split, _ = split_of(1, boxes=(np.array([[10, 10, 40, 40]], np.float32),))
    gallery({"train": split}, ["cat"], tmp_path / "page.png")
    assert COLOURS[0] in colours(tmp_path / "page.png")


def test_masks_are_drawn(tmp_path):
    mask = np.zeros([1, 50, 100], bool)
    mask[:, 10:40, 10:40] = True
    split, _ = split_of(1, boxes=(np.array([[10, 10, 40, 40]], np.float32),))
    gallery({"train": split}, ["cat"], tmp_path / "boxes.png")
    gallery({"train": replace(split, read_masks=lambda _: encode(mask))}, ["cat"], tmp_path / "masks.png")
    assert len(colours(tmp_path / "masks.png") - colours(tmp_path / "boxes.png")) > 0


def test_no_object_is_no_error(tmp_path):
    nothing = {"boxes": (np.zeros([0, 4], np.float32),), "classes": (np.zeros(0, np.int32),)}
    split, _ = split_of(1, read_masks=lambda _: [], **nothing)
    gallery({"train": split}, ["cat"], tmp_path / "page.png")


def test_classes_of_pixels_have_a_legend(tmp_path):
    labels = np.zeros([50, 100], np.int16)
    labels[:, 50:] = 1
    split, _ = split_of(1, classes=(np.zeros(0, np.int32),))
    split = replace(split, read_labels=lambda _: labels)
    gallery({"train": split}, ["background", "cat"], tmp_path / "page.png")
    page = np.asarray(Image.open(tmp_path / "page.png"))
    assert (page[CELL // 2 + 2 * GAP :] == COLOURS[0]).all(axis=-1).any()  # beneath the picture


def captions(monkeypatch, tmp_path, *names):
    """What is written beneath pictures of these names."""
    told = []
    module = importlib.import_module("kzoo.visualize.gallery")  # the package has the function of that name
    monkeypatch.setattr(module, "_shortened", lambda text, font: told.append(text) or text[:5])
    split, _ = split_of(len(names), names=names)
    gallery({"train": split}, ["cat"], tmp_path / "page.png", count=len(names))
    return set(told)


def test_captions_tell_pictures_apart(monkeypatch, tmp_path):
    record = 'tfds:/sets/x, split "train", record {} of /sets/x/x-train.tfrecord'
    places = [record.format(number) for number in range(3)]
    assert captions(monkeypatch, tmp_path, *places, "a/1.png", "shapes:train[7]") == {
        "train · record 0 of x-train.tfrecord",
        "train · record 1 of x-train.tfrecord",
        "train · record 2 of x-train.tfrecord",
        "train · 1.png",
        "train · shapes:train[7]",
    }


def test_names_that_are_no_text(tmp_path):
    split, _ = split_of(1, names=("a/\udcff\x1b.png",), boxes=(np.array([[10, 10, 40, 40]], np.float32),))
    gallery({"train": split}, ["cat\udcff"], tmp_path / "page.png")
    assert Image.open(tmp_path / "page.png").width
