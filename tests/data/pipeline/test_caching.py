import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import kzoo.data
from kzoo.data import DataError
from kzoo.data.pipeline.caching import in_folder, in_memory
from kzoo.data.pipeline.reading import Reader
from kzoo.data.sources import Split, open_source, open_split, pairs

PARTS = {"images": (tf.uint8, [None, None, 3]), "boxes": (tf.float32, [2, 4]), "scale": (tf.float32, [2])}


@pytest.fixture
def pictures(tmp_path):
    """A split of three files, what reads them, and the reads so far."""
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("RGB", (5 + number, 4), (number, 20, 30)).save(path)
    boxes = [np.full([1, 4], number, np.float32) for number in range(3)]
    reads = []

    def read(index):
        reads.append(index)
        pixels = np.asarray(Image.open(paths[index]))
        return [pixels, np.pad(boxes[index], [(0, 1), (0, 0)]), np.float32([1, 2])]

    split = Split(
        name="train",
        boxes=tuple(boxes),
        classes=(np.zeros(1, np.int32),) * 3,
        names=tuple(map(str, paths)),
        sizes=((4, 5), (4, 6), (4, 7)),
        read=lambda index: read(index)[0],
    )
    return split, Reader(PARTS, read), reads


def assert_as_read(kept, reader):
    for index in (2, 0, 1, 0):
        for got, expected in zip(kept.arrays(index), reader.arrays(index), strict=True):
            np.testing.assert_array_equal(got, expected)
            assert got.dtype == expected.dtype


def reads_of(kept, reads, *indices):
    """Which of these pictures are read, and not found."""
    del reads[:]
    for index in indices:
        kept.arrays(index)
    return list(reads)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_memory_keeps_what_was_read(pictures):
    _, reader, reads = pictures
    kept = in_memory(reader)
    assert reads_of(kept, reads, 1, 0, 1, 1, 0) == [1, 0]
    assert_as_read(kept, reader)


def test_a_folder_keeps_what_was_read_for_who_comes_after(pictures, tmp_path):
    split, reader, reads = pictures
    folder = tmp_path / "new" / "cache"
    assert reads_of(in_folder(reader, folder, split, "a"), reads, 1, 0, 1) == [1, 0]
    again = in_folder(reader, str(folder), split, "a")
    assert reads_of(again, reads, 1, 0) == []
    assert_as_read(again, reader)
    assert len(files(folder)) == 3 and all(path.suffix == ".npz" for path in files(folder))


def test_other_settings_and_other_labels_are_read_anew(pictures, tmp_path):
    split, reader, reads = pictures
    folder = tmp_path / "cache"
    reads_of(in_folder(reader, folder, split, ("a", 1)), reads, 0, 1)
    assert reads_of(in_folder(reader, folder, split, ("a", 2)), reads, 0, 1) == [0, 1]
    split.boxes[1][0, 0] = 0.5
    assert reads_of(in_folder(reader, folder, split, ("a", 1)), reads, 0, 1) == [1]


def test_a_file_that_changed_is_read_anew(pictures, tmp_path):
    split, reader, reads = pictures
    kept = in_folder(reader, tmp_path / "cache", split, None)
    reads_of(kept, reads, 0, 1, 2)
    os.utime(split.names[0], ns=(1, 1))
    Image.new("RGB", (50, 40)).save(split.names[2])
    assert reads_of(kept, reads, 0, 1, 2) == [0, 2]
    assert reads_of(kept, reads, 0, 1, 2) == []
    assert kept.arrays(2)[0].shape == (40, 50, 3)
    assert len(files(tmp_path / "cache")) == 3


def test_a_picture_within_another_file_that_changed_is_read_anew(pictures, tmp_path):
    split, reader, reads = pictures
    stored = {0: b"a", 1: b"b", 2: b"c"}
    names = tuple(f"record {index} of a.tfrecord" for index in range(3))
    split = replace(split, names=names, read_bytes=stored.get)
    kept = in_folder(reader, tmp_path / "cache", split, None)
    reads_of(kept, reads, 0, 1, 2)
    stored[1] = b"other"
    assert reads_of(kept, reads, 0, 1, 2) == [1]


def damages(content):
    yield b""
    yield b"nothing of the kind"
    yield content[: len(content) // 2]
    yield content[:-1]
    for place in range(0, len(content), 37):
        yield content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


def test_a_damaged_file_is_never_believed(pictures, tmp_path):
    split, reader, reads = pictures
    kept = in_folder(reader, tmp_path / "cache", split, None)
    expected = kept.arrays(1)
    (path,) = files(tmp_path / "cache")
    content = path.read_bytes()
    anew = 0
    for damaged in damages(content):
        path.write_bytes(damaged)
        anew += len(reads_of(kept, reads, 1))
        for got, true in zip(kept.arrays(1), expected, strict=True):
            np.testing.assert_array_equal(got, true)
    assert anew > 10 and reads_of(kept, reads, 1) == []


def test_a_file_of_objects_is_not_evaluated(pictures, tmp_path):
    split, reader, reads = pictures
    kept = in_folder(reader, tmp_path / "cache", split, None)
    kept.arrays(0)
    (path,) = files(tmp_path / "cache")
    with np.load(path) as file:
        parts = dict(file)
    for wrong in (np.array([{}], object), np.zeros([4, 5, 3], np.int16), np.zeros([4, 5], np.uint8)):
        np.savez(path, **parts | {"images": wrong})
        assert reads_of(kept, reads, 0) == [0]


def test_threads_and_others_at_the_same_folder(pictures, tmp_path):
    split, reader, _ = pictures
    sharers = [in_folder(reader, tmp_path / "cache", split, None) for _ in range(4)]
    faults = []

    def work(kept):
        try:
            for _ in range(5):
                assert_as_read(kept, reader)
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=[kept]) for kept in sharers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and len(files(tmp_path / "cache")) == 3


def test_a_folder_that_cannot_be_written_to_is_told(pictures, tmp_path, monkeypatch):
    split, reader, reads = pictures
    with pytest.raises(DataError, match="cache=.*0.png.*expected a folder"):
        in_folder(reader, split.names[0], split, None)
    kept = in_folder(reader, tmp_path / "cache", split, None)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="cache: pictures are not kept: No space left on device"):
        assert reads_of(kept, reads, 0, 0) == [0, 0]
    assert not files(tmp_path / "cache")
    assert Path(tmp_path / "cache").is_dir()


def pairs_of(tmp_path, values):
    """A folder of three pictures with label pictures of these values, side by side."""
    for folder in ("image", "label"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        pixels = np.full([6, 8, 3], 40 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "image" / f"{number}.png")
        labels = np.resize(np.array(values, np.uint8), [6, 8])
        Image.fromarray(labels).save(tmp_path / "label" / f"{number}.png")
    return f"folder:{tmp_path},values=0:0+9:1"


def labels_of(spec, folder, **options):
    dataset = kzoo.data.load(
        spec, split="all", task="segmentation", shuffle=False, image_size=(6, 8), cache=folder, **options
    )
    return np.concatenate([batch["classes"].numpy() for batch in dataset])


def test_label_pictures_are_not_decoded_to_find_what_is_kept(tmp_path, monkeypatch):
    spec, folder = pairs_of(tmp_path, [0, 9]), tmp_path / "cache"
    first = labels_of(spec, folder)
    assert set(first.reshape(-1)) == {0, 1}
    decoded = []
    true = pairs.read_values
    monkeypatch.setattr(pairs, "read_values", lambda path, *args: decoded.append(path.name) or true(path))
    np.testing.assert_array_equal(labels_of(spec, folder), first)
    assert decoded == []
    Image.new("L", (8, 6), 9).save(tmp_path / "label" / "1.png")
    again = labels_of(spec, folder)
    assert decoded and set(decoded) == {"1.png"}
    np.testing.assert_array_equal(again[1], np.ones([6, 8]))
    np.testing.assert_array_equal(again[[0, 2]], first[[0, 2]])


def test_values_that_stand_for_other_classes_are_read_anew(tmp_path):
    spec = pairs_of(tmp_path, [0, 9])
    split = open_split(open_source(spec, task="segmentation"), "all")
    other = open_split(open_source(spec.replace("0:0+9:1", "0:1+9:0"), task="segmentation"), "all")
    assert split.label_state(0) != other.label_state(0)
    (tmp_path / "label" / "0.png").unlink()
    assert split.label_state(0) == ""  # and to read it tells what is wrong


def test_what_is_read_from_files_is_shared_by_all_seeds(tmp_path):
    spec, folder = pairs_of(tmp_path, [0, 9]), tmp_path / "cache"
    labels_of(spec, folder, seed=1)
    kept = files(folder)
    labels_of(spec, folder, seed=2)
    assert files(folder) == kept and len(kept) == 3


def test_what_is_drawn_is_kept_seed_by_seed(tmp_path):
    def images(seed):
        options = {"split": "val[:4]", "batch_size": 4, "seed": seed, "cache": tmp_path / "cache"}
        return next(iter(kzoo.data.load("shapes", **options)))["images"].numpy()

    first = images(1)
    assert (images(2) != first).any() and len(files(tmp_path / "cache")) == 8
    np.testing.assert_array_equal(images(1), first)


def test_labels_of_other_masks_are_read_anew(tmp_path):
    (tmp_path / "train").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "train" / "a.png")

    def labels(right):
        polygon = [0, 0, right, 0, right, 6, 0, 6]
        row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 8, 6], "segmentation": [polygon]}
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [row | {"area": 40, "iscrowd": 0}],
        }
        (tmp_path / "instances_train.json").write_text(json.dumps(content))
        options = {"task": "segmentation", "shuffle": False, "cache": tmp_path / "cache"}
        return next(iter(kzoo.data.load(f"coco:{tmp_path}", **options)))["classes"].numpy()[0]

    for right in (8, 4, 8):
        expected = np.repeat([np.arange(8) < right], 6, axis=0)
        np.testing.assert_array_equal(labels(right), expected)
    assert len(files(tmp_path / "cache")) == 1
