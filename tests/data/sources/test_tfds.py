import socket
import struct
import warnings

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import kzoo.data
from kzoo.data.faults import DataError
from kzoo.data.masks import encode
from kzoo.data.sources import open_source, open_split

FULL = (0.0, 0.0, 1.0, 1.0)  # ymin, xmin, ymax, xmax
NAMES = ["cat", "dog"]


def picture(size=(10, 20), value=7):
    return np.full([*size, 3], value, np.uint8)


def store(directory, features, examples, name="mine", file_format=None):
    """A set as anyone makes it with TFDS; its features have `image` beside those given."""
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(), **features})
    splits = examples if isinstance(examples, dict) else {"train": examples}
    builder = tfds.dataset_builders.AdhocBuilder(
        name=name,
        version="1.0.0",
        features=features,
        split_datasets={split: list(enumerate(rows)) for split, rows in splits.items()},
        data_dir=directory,
        disable_shuffling=True,
    )
    type(builder).code_path = None  # which TFDS can tell only with a package that it does not require
    builder.download_and_prepare(file_format=file_format)
    return f"tfds:{name},data_dir={directory}"


def boxes_features(**more):
    rows = {
        "bbox": tfds.features.BBoxFeature(bbox_format=None),
        "label": tfds.features.ClassLabel(names=NAMES),
    }
    return {"objects": tfds.features.Sequence(rows | more)}


def one(box, label=0, **more):
    ymin, xmin, ymax, xmax = box
    return {"bbox": tfds.features.BBox(ymin=ymin, xmin=xmin, ymax=ymax, xmax=xmax), "label": label, **more}


def example(*objects, size=(10, 20)):
    return {"image": picture(size), "objects": list(objects)}


def shard(directory, split="train"):
    return next(directory.rglob(f"*-{split}.tfrecord-*"))


@pytest.fixture
def digits(tmp_path):
    """Ten pictures, each of its own grey, in two splits."""
    rows = [{"image": picture(value=10 * number), "label": number % 2} for number in range(10)]
    label = {"label": tfds.features.ClassLabel(names=NAMES)}
    return store(tmp_path, label, {"train": rows[:7], "test": rows[7:]})


def test_info_is_told_without_reading_records(digits, tmp_path):
    for path in tmp_path.rglob("*.tfrecord-*"):
        path.unlink()
    info = kzoo.data.info(digits)
    assert (info.classes, info.tasks) == (("cat", "dog"), ("classification",))
    assert info.splits == {"train": 7, "test": 3}


@pytest.mark.parametrize(
    ("text", "greys"),
    [
        ("train", [0, 10, 20, 30, 40, 50, 60]),
        ("test", [70, 80, 90]),
        ("all", [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]),
        ("train[-2:]", [50, 60]),
        ("train[2:4]", [20, 30]),
        ("test[1:]+train[:1]", [80, 90, 0]),
    ],
)
def test_splits_and_slices_are_in_the_language_of_tfds(digits, text, greys):
    split = open_split(open_source(digits), text)
    assert [int(split.read(index)[0, 0, 0]) for index in range(len(split))] == greys
    assert [int(label[0]) for label in split.classes] == [grey // 10 % 2 for grey in greys]
    itself = tfds.load("mine", data_dir=digits.partition("data_dir=")[2], split=text)
    assert [int(row["image"][0, 0, 0]) for row in itself] == greys


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian", 'split="trian": unknown. Nearest: "train"'),
        ("train[:2]+tst", "Unknown split 'tst'"),
        ("train[:", "Unrecognized split format"),
        ("train[3:3]", "is empty"),
        ("", "Unrecognized split format"),
    ],
)
def test_splits_that_are_none(digits, text, message):
    with pytest.raises(DataError) as raised:
        open_split(open_source(digits), text)
    assert message in str(raised.value)
    assert str(raised.value).startswith("tfds:mine")


def test_records_are_shuffled_over_all_of_the_split_and_keep_their_labels(tmp_path):
    rows = [{"image": picture(value=number), "label": number % 2} for number in range(60)]
    spec = store(tmp_path, {"label": tfds.features.ClassLabel(names=NAMES)}, rows)
    batches = kzoo.data.load(spec, task="classification", image_size=(10, 20), batch_size=60, seed=3)
    batch = next(iter(batches))
    greys = batch["images"][:, 0, 0, 0].numpy().astype(int)
    assert sorted(greys) == list(range(60))
    assert list(greys) != list(range(60))
    assert (batch["classes"].numpy() == greys % 2).all()
    assert (batch["image_id"].numpy() == greys).all()


def test_a_directory_alone_names_the_set_in_it(digits, tmp_path):
    for directory in (tmp_path, tmp_path / "mine", tmp_path / "mine/1.0.0"):
        assert kzoo.data.info(f"tfds:{directory}").splits == {"train": 7, "test": 3}
    store(
        tmp_path,
        {"label": tfds.features.ClassLabel(names=NAMES)},
        [{"image": picture(), "label": 0}],
        "other",
    )
    with pytest.raises(
        DataError, match=r"there are 2 sets below it; expected one, such as tfds:.*mine/1.0.0"
    ):
        kzoo.data.info(f"tfds:{tmp_path}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:", "lacks the set; expected 'tfds:NAME'"),
        ("tfds:cocoo/2017", 'data set="cocoo": unknown. Nearest: "coco"'),
        ("tfds:coco/2018", 'configuration="2018": unknown. Nearest: "2017"'),
        ("tfds:coco:7.7.7", "cannot be loaded at version 7.7.7"),
        ("tfds:/nowhere/at/all", "/nowhere/at/all does not exist; expected the directory"),
        ("tfds:cifar10,dir=/tmp", 'option="dir": unknown. Known: "data_dir"'),
        ("tfds:glue/cola", "expected a picture called image"),
        ("tfds:cifar10,data_dir=a\0b", "embedded null byte; expected a path that may be read"),
    ],
)
def test_specs_that_are_none(spec, message):
    with pytest.raises(DataError) as raised:
        kzoo.data.info(spec)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 800  # of TFDS's hundreds of names no more than the nearest


def test_a_directory_without_a_set(tmp_path):
    with pytest.raises(DataError, match=r"no dataset_info.json in .* or below"):
        kzoo.data.info(f"tfds:{tmp_path}")
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="expected a set that TFDS prepared"):
        kzoo.data.info(f"tfds:{tmp_path}")


def test_what_is_not_there_is_not_waited_for_without_a_network(tmp_path, monkeypatch, capsys):
    def nobody(host, *_):
        raise socket.gaierror(f"no address of {host}")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    builder = "kzoo.data.sources.tfds_builder.tfds.core.DatasetBuilder"
    monkeypatch.setattr(f"{builder}.url_infos", {"https://pictures.example/a.zip": None}, raising=False)
    with pytest.raises(DataError) as raised:
        kzoo.data.load(f"tfds:cifar10,data_dir={tmp_path}", task="classification")
    told = str(raised.value)
    assert told.startswith(f"tfds:cifar10,data_dir={tmp_path}: it is not in {tmp_path}/cifar10/")
    assert "is not to be reached; or expected data_dir=DIR" in told
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "TFDS downloads and prepares it" in captured.err


def test_what_is_downloaded_by_hand_says_how(tmp_path):
    with pytest.raises(DataError, match=r"ILSVRC2012_img_train.tar.*or expected data_dir=DIR"):
        kzoo.data.check(f"tfds:imagenet2012,data_dir={tmp_path}")


def test_to_ask_what_is_in_a_set_downloads_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", None)
    found = kzoo.data.info(f"tfds:coco/2017,data_dir={tmp_path}")
    assert (found.splits, found.classes, found.tasks) == ({}, (), ("detection",))
    told = capsys.readouterr().err
    assert f"it is not in {tmp_path}/coco/2017/" in told
    assert f"to fetch it: tfds build coco/2017 --data_dir={tmp_path}" in told
    kzoo.data.info(f"tfds:imagenet2012,data_dir={tmp_path}")
    assert "tfds build imagenet2012 --data_dir" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_boxes_are_in_pixels_and_whole_ones_are_whole(tmp_path):
    height, width = 477, 639
    written = [(3, 5, 101, 333), (0, 0, 639, 477), (631, 470, 639, 477)]
    objects = [one((y1 / height, x1 / width, y2 / height, x2 / width), 1) for x1, y1, x2, y2 in written]
    spec = store(tmp_path, boxes_features(), [example(*objects, size=(height, width))])
    source = open_source(spec, task="detection")
    split = open_split(source, "train")
    assert split.boxes[0].dtype == np.float32
    assert split.boxes[0].tolist() == [list(map(float, box)) for box in written]
    assert split.classes[0].tolist() == [1, 1, 1]
    assert (split.sizes, source.max_objects) == (((height, width),), 3)


def test_boxes_of_voc_count_pixels_from_one(tmp_path):
    spec = store(tmp_path, boxes_features(), [example(one((0.3, 0.2, 1.0, 0.5)))], name="voc")
    split = open_split(open_source(f"tfds:{tmp_path}/voc/1.0.0"), "train")
    assert split.boxes[0].tolist() == [[3, 2, 10, 10]]  # written (4, 3, 10, 10) in a picture of 20 x 10
    assert spec


def test_crowds_come_last_with_their_classes_and_areas(tmp_path):
    more = {"is_crowd": np.bool_, "area": np.int64}
    objects = [
        one(FULL, 1, is_crowd=True, area=50),
        one((0.0, 0.0, 0.5, 0.5), 0, is_crowd=False, area=40),
    ]
    spec = store(tmp_path, boxes_features(**more), [example(*objects), example()])
    split = open_split(open_source(spec, task="detection"), "train")
    assert [one.tolist() for one in split.classes] == [[0, -2], []]
    assert [one.tolist() for one in split.crowd_classes] == [[1], []]
    assert [one.tolist() for one in split.areas] == [[40, 50], []]
    assert split.boxes[1].shape == (0, 4)


FAULTS = {
    "nan": ((float("nan"), 0.0, 1.0, 1.0), "it is not finite"),
    "reversed": ((0.5, 0.0, 0.25, 1.0), "it is reversed"),
    "no area": ((0.5, 0.25, 0.5, 1.0), "it has no area"),
    "outside": ((0.0, 0.0, 1.0, 1.2), "it lies outside its picture; expected it within 20 x 10 pixels"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_boxes_are_left_out_and_told(tmp_path, name):
    box, message = FAULTS[name]
    rows = [example(one(FULL)) for _ in range(9)] + [example(one(FULL, 1), one(box))]
    spec = store(tmp_path, boxes_features(), rows)
    with pytest.warns(UserWarning, match="1 fault in 1 of 10 pictures") as warned:
        split = open_split(open_source(spec), "train")
    assert "record 9 of " in str(warned[0].message) and "object 2, bbox (" in str(warned[0].message)
    assert message in str(warned[0].message)
    assert [len(boxes) for boxes in split.boxes] == [1] * 10
    with pytest.raises(DataError, match="strict=True allows none"):
        open_split(open_source(spec), "train", strict=True)
    with pytest.raises(DataError, match="more than a tenth"):
        open_split(open_source(spec), "train[5:]")


def test_a_box_outside_by_rounding_is_clipped(tmp_path):
    spec = store(tmp_path, boxes_features(), [example(one((-0.05, 0.0, 1.05, 1.02)))])
    assert open_split(open_source(spec), "train").boxes[0].tolist() == [[0, 0, 20, 10]]


def test_a_label_of_no_class_is_a_fault(tmp_path):
    rows = [{"image": picture(), "label": -1}]
    spec = store(tmp_path, {"label": tfds.features.ClassLabel(names=NAMES)}, rows)
    with pytest.raises(DataError, match="label -1; expected the number of a class, 0 to 1"):
        open_split(open_source(spec), "train")


def test_classes_may_be_given_in_another_order(digits):
    source = open_source(digits, classes=["dog", "bird", "cat"])
    assert source.info.classes == ("dog", "bird", "cat")
    assert [int(label[0]) for label in open_split(source, "test").classes] == [0, 2, 0]
    with pytest.raises(DataError, match='class="cat": unknown'):
        open_source(digits, classes=["dog", "bird"])


def test_classes_without_names_are_numbered_or_named_by_the_caller(tmp_path):
    rows = [{"image": picture(), "label": 2}]
    numbered = store(tmp_path, {"label": tfds.features.ClassLabel(num_classes=3)}, rows, "numbered")
    assert kzoo.data.info(numbered).classes == ("0", "1", "2")
    unknown = store(tmp_path, {"label": np.int64}, rows, "unknown")
    assert kzoo.data.info(unknown).classes == ()
    assert open_source(unknown, task="classification").info.classes == ("0", "1", "2")
    assert kzoo.data.check(unknown).as_json()["all"]["classes"] == {"0": 0, "1": 0, "2": 1}
    split = open_split(open_source(unknown, task="classification", classes=["a", "b", "c"]), "train")
    assert split.classes[0].tolist() == [2]


def test_one_object_for_each_picture_can_be_regressed(tmp_path):
    rows = [example(one(FULL, 1)) | {"label": 0, "bbox": one((0.0, 0.0, 0.5, 0.5))["bbox"]}]
    single = {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=NAMES)}
    flat = [{"image": picture(), "bbox": rows[0]["bbox"], "label": 1}]
    spec = store(tmp_path, single, flat)
    assert open_source(spec).info.tasks == ("detection", "box_regression", "classification")
    batch = next(iter(kzoo.data.load(spec, task="box_regression", image_size=(10, 20))))
    assert batch["boxes"].numpy().tolist() == [[[0, 0, 10, 5]]]
    several = store(tmp_path, boxes_features(), [example(one(FULL), one(FULL))], "several")
    with pytest.raises(DataError, match="'box_regression' cannot be learnt from it"):
        open_source(several, task="box_regression")


def test_label_pictures(tmp_path):
    labels = np.zeros([10, 20, 1], np.uint8)
    labels[2:4, 5:9], labels[0] = 1, 255
    feature = tfds.features.LabeledImage(labels=["ground", "thing"], shape=(None, None, 1))
    spec = store(
        tmp_path, {"segmentation_mask": feature}, [{"image": picture(), "segmentation_mask": labels}]
    )
    source = open_source(spec, task="segmentation")
    assert source.info.classes == ("ground", "thing")
    read = open_split(source, "train").read_labels(0)
    assert (read == labels[..., 0].astype(np.int8)).all()  # where 255 is -1


def test_label_pictures_of_no_class_or_another_size_are_faults(tmp_path):
    feature = tfds.features.LabeledImage(labels=["ground", "thing"], shape=(None, None, 1))
    for name, labels, message in (
        ("stray", np.full([10, 20, 1], 7, np.uint8), "values of no class, 7; expected 0, 1, 255"),
        ("small", np.zeros([5, 5, 1], np.uint8), "a picture of 5 x 5; expected 20 x 10"),
    ):
        rows = [{"image": picture(), "segmentation_mask": labels}]
        spec = store(tmp_path, {"segmentation_mask": feature}, rows, name)
        with pytest.raises(DataError, match=message):
            open_split(open_source(spec, task="segmentation"), "train")


def test_masks_may_be_pictures(tmp_path):
    mask = np.zeros([10, 20, 1], np.uint8)
    mask[3:7, 4:12] = 1
    features = boxes_features(segmentation=tfds.features.Image(shape=(None, None, 1)))
    rows = [example(one((0.3, 0.2, 0.7, 0.6), 1, segmentation=mask), one(FULL, 0, segmentation=mask * 0 + 1))]
    spec = store(tmp_path, features, rows)
    from kzoo.data.masks import decode

    split = open_split(open_source(spec, task="instance_segmentation"), "train")
    first, second = map(decode, split.read_masks(0))
    assert (first == mask[..., 0]).all() and second.all()
    pixels = open_source(spec, task="segmentation")
    assert pixels.info.classes == ("background", "cat", "dog")
    assert (open_split(pixels, "train").read_labels(0) == 1).all()  # the later object covers the first


def test_files_that_know_the_places_of_their_records(tmp_path):
    rows = [{"image": picture(value=number), "label": number % 2} for number in range(4)]
    label = {"label": tfds.features.ClassLabel(names=NAMES)}
    spec = store(tmp_path, label, rows, file_format="array_record")
    split = open_split(open_source(spec), "train[1:]")
    assert [int(split.read(index)[0, 0, 0]) for index in range(3)] == [1, 2, 3]
    assert [label.tolist() for label in split.classes] == [[1], [0], [1]]


def grey_set(directory, count=40):
    rows = [{"image": picture(value=number), "label": number % 2} for number in range(count)]
    return store(directory, {"label": tfds.features.ClassLabel(names=NAMES)}, rows)


def offsets(data):
    """Where each record of a TFRecord file begins."""
    found, place = [], 0
    while place < len(data):
        found.append(place)
        place += 16 + struct.unpack("<Q", data[place : place + 8])[0]
    return found


@pytest.mark.parametrize("damage", ["flipped", "cut short", "length"])
def test_damaged_records_are_told_and_those_before_are_kept(tmp_path, damage):
    spec = grey_set(tmp_path)
    path = shard(tmp_path)
    data = bytearray(path.read_bytes())
    place = offsets(data)[38]
    if damage == "flipped":
        data[place + 30] ^= 1
    elif damage == "length":
        data[place + 3] = 255
    else:
        data = data[: place + 40]
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="2 faults in 2 of 40 pictures") as warned:
        split = open_split(open_source(spec), "train")
    assert f"record 38 of {path}: damaged from record 38 on; expected 40 whole records" in str(
        warned[0].message
    )
    assert [int(split.read(index)[0, 0, 0]) for index in range(len(split))] == list(range(38))


def test_a_missing_file_is_told(tmp_path):
    store(tmp_path, {"label": tfds.features.ClassLabel(names=NAMES)}, [{"image": picture(), "label": 0}])
    shard(tmp_path).unlink()
    with pytest.raises(DataError, match="TFDS cannot read"):
        open_split(open_source(f"tfds:{tmp_path}"), "train")


def test_a_file_that_changes_under_a_reader_is_told(tmp_path):
    split = open_split(open_source(grey_set(tmp_path)), "train")
    shard(tmp_path).write_bytes(b"\xff" * 10000)
    with pytest.raises(DataError, match='split "train", record 3 of .*: .*expected a tf.train.Example'):
        split.read(3)
    shard(tmp_path).unlink()
    with pytest.raises(DataError, match="record 3 of .*No such file"):
        split.read(3)


def test_pictures_of_too_many_pixels_are_faults(digits):
    with pytest.raises(DataError, match="a picture of 20 x 10 pixels, which is more than max_pixels=100"):
        open_split(open_source(digits, max_pixels=100), "train")


def mocked(examples):
    """A function for `tfds.testing.mock_data` that gives these examples, whatever is asked for."""
    import tensorflow as tf

    def as_dataset(self, split, **_):
        specs = self.info.features.get_tensor_info()
        signature = tf.nest.map_structure(lambda info: tf.TensorSpec(info.shape, info.tf_dtype), specs)
        return tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=signature)

    return as_dataset


@pytest.mark.parametrize(
    ("name", "count"), [("cifar10", 10), ("imagenet2012", 1000), ("imagenette", 10), ("oxford_iiit_pet", 37)]
)
def test_named_sets_of_classes(name, count):
    with tfds.testing.mock_data(num_examples=5):
        batches = kzoo.data.load(f"tfds:{name}", task="classification", image_size=(32, 32), batch_size=5)
        batch = next(iter(batches))
        drawn = [row["label"] for row in tfds.as_numpy(tfds.load(name, split="train"))]
    assert batch["images"].shape == (5, 32, 32, 3)
    assert len(batches.classes) == count
    assert sorted(batch["classes"].numpy()) == sorted(drawn)


def test_coco():
    rows = {
        "area": [8, 9],
        "bbox": [(0.25, 0.5, 0.5, 0.75), FULL],
        "id": [1, 2],
        "is_crowd": [True, False],
        "label": [0, 79],
    }
    row = {"image": picture((8, 16)), "image/filename": "a.jpg", "image/id": 1, "objects": rows}
    with tfds.testing.mock_data(as_dataset_fn=mocked([row] * 3)):
        batches = kzoo.data.load("tfds:coco/2017", split="validation", image_size=(16, 32), batch_size=3)
        batch = next(iter(batches))
    assert batch["boxes"].numpy()[0].tolist() == [[0, 0, 32, 16], [16, 4, 24, 8]]
    assert batch["classes"].numpy()[0].tolist() == [79, -2]
    assert len(batches.classes) == 80  # whose names TFDS finds in what it downloads


@pytest.mark.parametrize("year", [2007, 2012])
def test_voc(year):
    rows = {
        "bbox": [(0.25, 0.25, 0.5, 0.75)],
        "is_difficult": [True],
        "is_truncated": [False],
        "label": [14],
        "pose": [0],
    }
    row = {
        "image": picture((8, 16)),
        "image/filename": "a.jpg",
        "labels": [14],
        "labels_no_difficult": [],
        "objects": rows,
    }
    with tfds.testing.mock_data(as_dataset_fn=mocked([row] * 2)):
        batches = kzoo.data.load(f"tfds:voc/{year}", image_size=(8, 16), batch_size=2)
        batch = next(iter(batches))
    assert batch["boxes"].numpy()[0].tolist() == [[3, 1, 12, 4]]  # xmin 4 and ymin 2, counted from 1
    assert batches.classes[batch["classes"].numpy()[0, 0]] == "person"


def test_pets_have_an_outline_that_is_ignored():
    trimap = np.full([8, 16, 1], 2, np.uint8)
    trimap[2:6, 4:12], trimap[3:5, 5:11] = 3, 1
    row = {
        "image": picture((8, 16)),
        "file_name": "a.jpg",
        "head_bbox": FULL,
        "label": 3,
        "segmentation_mask": trimap,
        "species": 0,
    }
    with tfds.testing.mock_data(as_dataset_fn=mocked([row])):
        batches = kzoo.data.load(
            "tfds:oxford_iiit_pet", task="segmentation", image_size=(8, 16), batch_size=1
        )
        batch = next(iter(batches))
    assert batches.classes == ("background", "pet")
    expected = np.zeros([8, 16], int)
    expected[2:6, 4:12], expected[3:5, 5:11] = -1, 1
    assert (batch["classes"].numpy()[0] == expected).all()


def test_no_warning_of_tfds_own_is_left_over(digits):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_split(open_source(digits), "train")) == 7


def spoil(directory, feature, values, number=3):
    """Writes other values into a feature of one record: bytes, floats or integers."""
    path = str(shard(directory))
    records = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    there = records[number].features.feature[feature]
    there.Clear()
    kind = {bytes: there.bytes_list, float: there.float_list, int: there.int64_list}[type(values[0])]
    kind.value.extend(values)
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record.SerializeToString())


@pytest.mark.parametrize("value", [b"cat", float("nan"), 1.0, 10**12, -1])
def test_a_label_that_is_no_number_of_a_class_is_a_fault_of_its_record(tmp_path, value):
    rows = [{"image": picture(), "label": number % 2} for number in range(20)]
    spec = store(tmp_path, {"label": tfds.features.ClassLabel(names=NAMES)}, rows)
    spoil(tmp_path, "label", [value])
    [fault] = kzoo.data.check(spec).faults[:1]
    assert fault.kind == "unknown_class"
    assert "record 3 of" in fault.told and "expected the number of a class, 0 to 1" in fault.told
    unknown = store(tmp_path / "unknown", {"label": np.int64}, rows)
    spoil(tmp_path / "unknown", "label", [value])
    assert kzoo.data.check(unknown).info.classes == ("0", "1")


@pytest.mark.parametrize(
    ("feature", "values", "kind"),
    [
        ("objects/label", [b"cat"], "unknown_class"),
        ("objects/area", [b"large"], "annotation"),
        ("objects/counts", [7], "mask"),
        ("objects/counts", [b"\xff"], "mask"),
        ("objects/bbox", [b"a", b"b", b"c", b"d"], "annotation"),
        ("image", [7], "unreadable"),
    ],
)
def test_values_of_another_type_are_faults_of_their_record(tmp_path, feature, values, kind):
    features = boxes_features(area=np.float32, counts=tfds.features.Text())
    rows = [example(one(FULL, area=200.0, counts="")) for _ in range(20)]
    whole = encode(np.ones([1, 10, 20], bool))[0]["counts"]
    for row in rows:
        row["objects"][0]["counts"] = whole
    spec = store(tmp_path, features, rows)
    assert not [fault for fault in kzoo.data.check(spec).faults if fault.kind != "duplicate"]
    spoil(tmp_path, feature, values)
    faults = [fault for fault in kzoo.data.check(spec).faults if fault.kind != "duplicate"]
    assert [fault.kind for fault in faults] == [kind]
    assert "record 3 of" in faults[0].told and "expected" in faults[0].told
