import io
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.utils import tqdm_utils

import kzoo.data
from kzoo.data.faults import DataError
from kzoo.data.masks import encode
from kzoo.data.sources import open_source, open_split
from kzoo.data_cli import main


def equal(spec, text, task, converted, name):
    """Asserts that a split of a set is that of the data it was made from, and returns it."""
    source, made = open_source(spec, task=task), open_source(converted, task=task)
    assert made.info.classes == source.info.classes
    before, after = open_split(source, text), open_split(made, name)
    assert len(after) == len(before) > 0
    assert after.sizes == before.sizes
    for field in ("boxes", "classes", "areas", "crowd_classes"):
        wanted, found = getattr(before, field), getattr(after, field)
        if wanted is None or (task in ("segmentation", "classification") and field != "classes"):
            continue
        if task != "segmentation":
            assert [one.tolist() for one in found] == [one.tolist() for one in wanted], field
    for index in range(len(before)):
        assert (after.read(index) == before.read(index)).all()
        if task == "instance_segmentation":
            assert after.read_masks(index) == before.read_masks(index)
        if task == "segmentation":
            assert (after.read_labels(index) == before.read_labels(index)).all()
    return after


@pytest.mark.parametrize(
    "task", ["classification", "box_regression", "detection", "segmentation", "instance_segmentation"]
)
def test_what_was_written_is_read_back_for_every_task(tmp_path, task):
    splits = {"train": "train[:12]", "held_out": "val[3:6]"}
    directory = kzoo.data.convert("shapes", "drawn", tmp_path, task=task, splits=splits)
    assert directory == tmp_path / "drawn/1.0.0"
    assert task in kzoo.data.info(f"tfds:{directory}").tasks
    for name, text in splits.items():
        equal("shapes", text, task, f"tfds:drawn,data_dir={tmp_path}", name)


def test_objects_with_masks_teach_pixels_and_boxes_too(tmp_path):
    kzoo.data.convert("shapes", "drawn", tmp_path, splits={"train": "train[:5]"})
    spec = f"tfds:{tmp_path}"
    assert kzoo.data.info(spec).tasks == ("detection", "segmentation", "instance_segmentation")
    for task in kzoo.data.info(spec).tasks:
        equal("shapes", "train[:5]", task, spec, "train")


def write_coco(directory):
    """Two pictures: a JPEG with an object and a crowd of 57 x 43 pixels, and an empty PNG."""
    (directory / "train").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (43, 57, 3), np.uint8)
    Image.fromarray(noise).save(directory / "train/a.jpg")
    Image.fromarray(noise).save(directory / "train/b.png")
    mask, crowd = np.zeros([43, 57], bool), np.zeros([43, 57], bool)
    mask[10:20, 3:9], crowd[30:, 40:] = True, True
    runs = [{"size": [43, 57], "counts": rle["counts"].decode()} for rle in encode(np.array([mask, crowd]))]
    annotations = [
        {
            "bbox": [40.25, 30, 16.75, 13],
            "iscrowd": 1,
            "area": 221.5,
            "segmentation": runs[1],
            "category_id": 4,
        },
        {"bbox": [3, 10.07, 6.13, 10], "iscrowd": 0, "area": 60, "segmentation": runs[0], "category_id": 9},
    ]
    found = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.png"}],
        "annotations": [{"id": number, "image_id": 1} | one for number, one in enumerate(annotations, 1)],
        "categories": [{"id": 4, "name": "two words"}, {"id": 9, "name": "größer"}],
    }
    (directory / "instances_train.json").write_text(json.dumps(found))
    return f"coco:{directory}"


def test_crowds_areas_and_run_lengths_are_kept(tmp_path):
    spec = write_coco(tmp_path / "data")
    kzoo.data.convert(spec, "mine", tmp_path / "sets")
    split = equal(spec, "train", "instance_segmentation", f"tfds:{tmp_path}/sets", "train")
    assert [one.tolist() for one in split.classes] == [[1, -2], []]
    assert split.areas[0].tolist() == [60, 221.5]
    assert split.crowd_classes[0].tolist() == [0]


def test_tfds_alone_reads_it(tmp_path):
    spec = write_coco(tmp_path / "data")
    kzoo.data.convert(spec, "mine", tmp_path / "sets")
    rows = tfds.load("mine", data_dir=tmp_path / "sets", split="train", shuffle_files=True)
    first, second = sorted(tfds.as_numpy(rows), key=lambda row: row["image/filename"])
    assert (first["image/filename"], second["image/filename"]) == (b"a.jpg", b"b.png")
    assert first["image"].shape == (43, 57, 3)
    y1, x1, y2, x2 = first["objects"]["bbox"][0] * [43, 57, 43, 57]
    np.testing.assert_allclose([x1, y1, x2, y2], [3, 10.07, 9.13, 20.07], rtol=1e-6)
    assert first["objects"]["is_crowd"].tolist() == [False, True]
    assert first["objects"]["label"].tolist() == [1, 0]
    assert len(second["objects"]["label"]) == 0
    assert (second["image"] == np.array(Image.open(tmp_path / "data/train/b.png"))).all()
    builder = tfds.builder_from_directory(tmp_path / "sets/mine/1.0.0")
    assert builder.info.features["objects"]["label"].names == ["two words", "größer"]
    assert builder.info.splits["train"].num_examples == 2


def picture_bytes(directory):
    """The encoded picture of each record of a set, by the name of its file."""
    skip = {"image": tfds.decode.SkipDecoding()}
    rows = tfds.builder_from_directory(directory).as_dataset(split="train", decoders=skip)
    return {row["image/filename"].decode(): row["image"] for row in tfds.as_numpy(rows)}


def test_files_are_kept_as_they_are_unless_tensorflow_sees_them_otherwise(tmp_path):
    folder = tmp_path / "data/train/cat"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(1).integers(0, 255, (12, 16, 3), np.uint8)
    colours = Image.fromarray(noise)
    turned = colours.getexif()
    turned[0x0112] = 6  # seen upright after a quarter turn
    colours.save(folder / "kept.jpg")
    colours.save(folder / "kept.png")
    colours.convert("L").save(folder / "grey.jpg")
    colours.quantize(8).save(folder / "palette.png")
    colours.save(folder / "turned.jpg", exif=turned)
    colours.convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    colours.save(folder / "other.bmp")
    colours.save(folder / "other.webp", lossless=True)
    directory = kzoo.data.convert(f"folder:{tmp_path}/data", "mine", tmp_path / "sets")
    kept = picture_bytes(directory)
    as_they_are = {name for name, data in kept.items() if data == (folder / name).read_bytes()}
    assert as_they_are == {"kept.jpg", "kept.png", "grey.jpg", "palette.png"}
    for name in kept.keys() - as_they_are:
        assert Image.open(io.BytesIO(kept[name])).format == "PNG"
    equal(f"folder:{tmp_path}/data", "train", "classification", f"tfds:{tmp_path}/sets", "train")
    turned = next(
        row
        for row in tfds.load("mine", data_dir=tmp_path / "sets", split="train")
        if row["image/filename"] == b"turned.jpg"
    )
    assert turned["image"].shape == (16, 12, 3)


def test_ignored_pixels_stay_ignored(tmp_path):
    for side in ("image", "label"):
        (tmp_path / "data/train" / side).mkdir(parents=True)
    labels = np.random.default_rng(2).choice(np.array([0, 1, 2, 255], np.uint8), (9, 11))
    Image.fromarray(labels).convert("RGB").save(tmp_path / "data/train/image/1.png")
    Image.fromarray(labels).save(tmp_path / "data/train/label/1.png")
    spec = f"folder:{tmp_path}/data"
    kzoo.data.convert(spec, "mine", tmp_path / "sets")
    split = equal(spec, "train", "segmentation", f"tfds:{tmp_path}/sets", "train")
    assert (split.read_labels(0) == labels.astype(np.int8)).all()


def write_voc(directory, splits):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (directory / folder).mkdir(parents=True)
    for name in sorted({name for names in splits.values() for name in names}):
        Image.new("RGB", (8, 8)).save(directory / f"JPEGImages/{name}.jpg")
        box = "<xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>8</ymax>"
        one = f"<object><name>cell</name><bndbox>{box}</bndbox></object>"
        (directory / f"Annotations/{name}.xml").write_text(f"<annotation>{one}</annotation>")
    for split, names in splits.items():
        (directory / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
    return f"voc:{directory}"


def test_splits_that_are_others_together_are_not_written(tmp_path):
    spec = write_voc(tmp_path / "data", {"train": "abc", "val": "de", "trainval": "abcde", "test": "fa"})
    kzoo.data.convert(spec, "mine", tmp_path / "sets")
    assert kzoo.data.info(f"tfds:{tmp_path}/sets").splits == {"train": 3, "val": 2, "test": 2}
    kzoo.data.convert(spec, "whole", tmp_path / "sets", splits={"trainval": "trainval"})
    equal(spec, "trainval", "detection", f"tfds:{tmp_path}/sets/whole", "trainval")
    same = write_voc(tmp_path / "same", {"first": "ab", "second": "ab"})
    kzoo.data.convert(same, "same", tmp_path / "sets")
    assert kzoo.data.info(f"tfds:{tmp_path}/sets/same").splits == {"first": 2, "second": 2}


def test_splits_that_are_not_written_are_told(tmp_path, capsys):
    spec = write_voc(tmp_path / "data", {"train": "abc", "val": "de", "trainval": "abcde"})
    kzoo.data.convert(spec, "mine", tmp_path / "sets")
    assert f"{spec}: the split trainval is made up of train, val" in capsys.readouterr().err
    kzoo.data.convert(spec, "some", tmp_path / "sets", splits={"trainval": "trainval", "val": "val"})
    assert "made up" not in capsys.readouterr().err


@pytest.mark.parametrize("val", ["abc", "ab"])
def test_train_and_val_are_written_whatever_they_share(tmp_path, val):
    spec = write_voc(tmp_path / "data", {"train": "abc", "val": val})
    kzoo.data.convert(spec, "mine", tmp_path / "sets")
    assert kzoo.data.info(f"tfds:{tmp_path}/sets").splits == {"train": 3, "val": len(val)}


def test_all_splits_but_all_are_written(tmp_path):
    folder = tmp_path / "data/cat"
    folder.mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"{number}.png")
    spec = f"folder:{tmp_path}/data"
    kzoo.data.convert(spec, "mine", tmp_path / "sets")
    assert kzoo.data.info(spec).splits == {"train": 16, "val": 2, "test": 2, "all": 20}
    made = f"tfds:{tmp_path}/sets"
    assert kzoo.data.info(made).splits == {"train": 16, "val": 2, "test": 2}
    assert len(open_split(open_source(made), "all")) == 20
    kzoo.data.convert(spec, "renamed", tmp_path / "sets", splits={"first-half": "all[:10]"})
    equal(spec, "all[:10]", "classification", f"tfds:{tmp_path}/sets/renamed", "first-half")


def test_faulty_pictures_are_left_out_and_told(tmp_path):
    folder = tmp_path / "data/train/cat"
    folder.mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (4, 4)).save(folder / f"{number}.png")
    (folder / "7.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"7.png: not a picture"):
        kzoo.data.convert(f"folder:{tmp_path}/data", "mine", tmp_path / "sets")
    assert kzoo.data.info(f"tfds:{tmp_path}/sets").splits == {"train": 19}
    with pytest.raises(DataError, match="strict=True allows none"):
        kzoo.data.convert(f"folder:{tmp_path}/data", "other", tmp_path / "sets", strict=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Set", "'My-Set' is no name of a TFDS set; expected small letters"),
        ("../up", "is no name of a TFDS set"),
        ("coco", "'coco' is a set of TFDS's own; expected a name of your own, such as my_coco"),
    ],
)
def test_names_that_are_none(tmp_path, name, message):
    with pytest.raises(DataError) as raised:
        kzoo.data.convert("shapes", name, tmp_path)
    assert message in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be():
    with pytest.raises(DataError, match="'directory=a.x00b': embedded null byte; expected a path"):
        kzoo.data.convert("shapes", "drawn", "a\0b")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"all": "train"}, "expected another name for it, as in train=all"),
        ({"a b": "train"}, "'a b' is no name of a split in TFDS"),
        ({"train": "trian"}, 'split="trian": unknown. Nearest: "train"'),
        ({}, "no split to convert"),
    ],
)
def test_splits_that_are_none(tmp_path, splits, message):
    with pytest.raises(DataError) as raised:
        kzoo.data.convert("shapes", "drawn", tmp_path, splits=splits)
    assert message in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_set_that_is_there_stays_as_it_is(tmp_path):
    few = {"train": "train[:3]"}
    kzoo.data.convert("shapes", "drawn", tmp_path, splits=few)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="drawn is there already; expected another name or directory"):
        kzoo.data.convert("shapes", "drawn", tmp_path, splits={"train": "val[:3]"})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, DataError])
def test_what_is_stopped_leaves_no_set(tmp_path, monkeypatch, stopped_by):
    from kzoo.data.sources import shapes

    read = shapes._read

    def broken(*key):
        if key[-1] == 2:
            raise stopped_by("in the middle")
        return read(*key)

    monkeypatch.setattr(shapes, "_read", broken)
    with pytest.raises(stopped_by, match="in the middle"):
        kzoo.data.convert("shapes", "drawn", tmp_path, splits={"train": "train[:4]"})
    with pytest.raises(DataError):
        kzoo.data.info(f"tfds:{tmp_path}")
    monkeypatch.undo()
    kzoo.data.convert("shapes", "drawn", tmp_path, splits={"train": "train[:4]"})  # at once, and again
    assert kzoo.data.info(f"tfds:{tmp_path}").splits == {"train": 4}


def test_the_command(tmp_path, capsys):
    splits = ["--splits", "train=train[:3]", "test=val[:2]"]
    main(
        ["convert", "shapes", "--to", "tfds:drawn", "--output", str(tmp_path), "--task", "detection", *splits]
    )
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "drawn/1.0.0")]
    info = kzoo.data.info(f"tfds:drawn,data_dir={tmp_path}")
    assert (info.splits, info.tasks) == ({"train": 3, "test": 2}, ("detection",))


@pytest.mark.parametrize(
    ("options", "message", "status"),
    [
        (["--to", "coco:drawn"], "--to 'coco:drawn': expected tfds:NAME", 2),
        (["--to", "tfds:"], "expected tfds:NAME", 2),
        (["--to", "tfds:drawn", "--task", "detektion"], 'Nearest: "detection"', 2),
        (["--to", "tfds:drawn", "--splits", "a=train", "a=val"], "a name is there twice", 2),
        (["--to", "tfds:drawn", "--classes", "star", "star"], "repeats 'star'", 2),
        (["--to", "tfds:drawn", "--max-pixels", "0"], "max_pixels=0", 2),
        (["--to", "tfds:drawn", "--splits", "trian"], 'split="trian": unknown', 1),
    ],
)
def test_the_command_refuses(tmp_path, capsys, options, message, status):
    with pytest.raises(SystemExit) as raised:
        main(["convert", "shapes", "--output", str(tmp_path), *options])
    assert raised.value.code == status
    assert message in capsys.readouterr().err


def test_the_command_hands_on_how_data_is_read(tmp_path, capsys):
    for number in range(20):
        path = tmp_path / "data/train" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9) if number == 3 else (4, 4)).save(path)
    options = ["--classes", "dog", "cat", "cow", "--max-pixels", "80"]
    with pytest.warns(UserWarning, match="3.png: a picture of 9 x 9 pixels"):
        kzoo.data.convert(f"folder:{tmp_path}/data", "first", tmp_path / "sets", max_pixels=80)
    main(
        ["convert", f"folder:{tmp_path}/data", "--to", "tfds:mine", "--output", f"{tmp_path}/sets", *options]
    )
    assert "3.png: a picture of 9 x 9 pixels" in capsys.readouterr().err
    info = kzoo.data.info(f"tfds:{tmp_path}/sets/mine")
    assert (info.classes, info.splits) == (("dog", "cat", "cow"), {"train": 19})


@pytest.mark.parametrize("shown", [True, False])
def test_the_bars_of_tfds_are_as_they_were(tmp_path, shown):
    tfds.display_progress_bar(shown)
    try:
        kzoo.data.convert("shapes", "drawn", tmp_path, splits={"train": "train[:1]"})
        assert isinstance(tqdm_utils.tqdm(disable=True), tqdm_utils.EmptyTqdm) is not shown
    finally:
        tfds.enable_progress_bar()


def test_a_set_of_a_set_has_the_same_bytes(tmp_path):
    """Also where EXIF asks for a turn, which TFDS does not carry out."""
    folder = tmp_path / "data/train/cat"
    folder.mkdir(parents=True)
    colours = Image.fromarray(np.random.default_rng(1).integers(0, 255, (12, 16, 3), np.uint8))
    turned = colours.getexif()
    turned[0x0112] = 6
    turned_file, plain_file, alpha_file = io.BytesIO(), io.BytesIO(), io.BytesIO()
    colours.save(turned_file, "JPEG", exif=turned)
    colours.save(plain_file, "JPEG")
    colours.convert("RGBA").save(alpha_file, "PNG")
    for number in range(3):
        colours.save(folder / f"{number}.jpg")
    first = kzoo.data.convert(f"folder:{tmp_path}/data", "first", tmp_path / "sets")
    files = [file.getvalue() for file in (turned_file, plain_file, alpha_file)]
    shard = next(first.glob("*.tfrecord*"))
    records = [tf.train.Example.FromString(one.numpy()) for one in tf.data.TFRecordDataset(str(shard))]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for record, data in zip(records, files, strict=True):
            record.features.feature["image"].bytes_list.value[0] = data
            writer.write(record.SerializeToString())
    kzoo.data.convert(f"tfds:{first}", "second", tmp_path / "sets")
    found = picture_bytes(tmp_path / "sets/second/1.0.0")
    assert [data in found.values() for data in files] == [True, True, False]
    assert Image.open(io.BytesIO(next(iter(set(found.values()) - set(files))))).mode == "RGB"
    equal(f"tfds:{first}", "train", "classification", f"tfds:{tmp_path}/sets/second", "train")
