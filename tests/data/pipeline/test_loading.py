import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.ndimage import distance_transform_edt

import kzoo.data
from kzoo.classes import CROWD
from kzoo.data import Augmentation, DataError, Info, sources
from kzoo.data.masks import MASK_SIZE, encode, paste
from kzoo.data.pictures import read_picture
from kzoo.data.pipeline import loading
from kzoo.data.sources import Split
from kzoo.data.sources.labels import labels_of_masks
from kzoo.tasks import TASKS

SETTINGS = {"image_size": (32, 40), "batch_size": 4}


class FakeSource:
    """Pictures of one colour, which tells their number, with a white rectangle for each object."""

    max_objects = 3

    def __init__(self, sizes=((48, 80),) * 10, objects=None):
        objects = objects or [number % 4 for number in range(len(sizes))]
        self.info = Info("fake", ("a", "b", "c"), {"train": len(sizes)}, TASKS)
        self.reads = []
        boxes = [
            np.float32([[8 + 16 * k, 8, 16 + 16 * k, 24] for k in range(n)]).reshape(n, 4) for n in objects
        ]

        def read_masks(index):
            masks = np.zeros([len(boxes[index]), *sizes[index]], bool)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes[index].astype(int), strict=True):
                mask[y1:y2, x1:x2] = True
            return encode(masks)

        def read(index):
            self.reads.append(index)
            picture = np.full([*sizes[index], 3], 10 * index, np.uint8)
            for x1, y1, x2, y2 in boxes[index].astype(int):
                picture[y1:y2, x1:x2] = 255
            return picture

        self.pictures = Split(
            name="train",
            boxes=tuple(boxes),
            classes=tuple(np.arange(n, dtype=np.int32) for n in objects),
            names=tuple(f"fake[{number}]" for number in range(len(sizes))),
            sizes=tuple(sizes),
            read=read,
            read_masks=read_masks,
            read_labels=lambda index: labels_of_masks(
                read_masks(index), self.pictures.classes[index], sizes[index]
            ),
        )

    def split(self, name, *, strict=False):
        return self.pictures


@pytest.fixture
def opened(monkeypatch):
    """Makes `load` open a given source."""

    def open_as(fake):
        monkeypatch.setattr(sources, "open_source", lambda *args, **options: fake)
        return fake

    open_as(FakeSource())
    return open_as


def epoch(dataset):
    """All batches of one pass, joined."""
    batches = list(dataset.as_numpy_iterator())
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def test_pictures_and_boxes_as_the_model_is_given_them(opened):
    dataset = kzoo.data.load("fake", shuffle=False, **SETTINGS)
    assert dataset.classes == ("a", "b", "c") and dataset.num_pictures == 10 and len(dataset) == 3
    assert len(dataset.pictures) == 10 and dataset.pictures.read_masks(2)[1]["size"] == [48, 80]
    got = epoch(dataset)
    assert {name: value.dtype.name for name, value in got.items()} == {
        "images": "uint8",
        "boxes": "float32",
        "classes": "int32",
        "image_id": "int64",
        "original_size": "int32",
        "scale": "float32",
    }
    np.testing.assert_array_equal(got["image_id"], range(10))
    np.testing.assert_array_equal(got["original_size"], [[48, 80]] * 10)
    np.testing.assert_array_equal(got["scale"], [[0.5, 0.5]] * 10)
    np.testing.assert_array_equal(got["classes"][:4], [[-1, -1, -1], [0, -1, -1], [0, 1, -1], [0, 1, 2]])
    np.testing.assert_array_equal(got["boxes"][2], [[4, 4, 8, 12], [12, 4, 16, 12], [0, 0, 0, 0]])
    assert not got["boxes"][0].any()
    for number, picture in enumerate(got["images"]):
        assert (picture[24:] == 114).all() and (picture[:2] == 10 * number).all()
    assert (got["images"][2, 5:11, 5:7] == 255).all()


def test_stretch_fills_the_size_and_tells_both_factors(opened):
    got = epoch(kzoo.data.load("fake", shuffle=False, resize="stretch", **SETTINGS))
    np.testing.assert_allclose(got["scale"], [[32 / 48, 0.5]] * 10, rtol=1e-6)
    assert (got["images"][0] == 0).all()
    own = kzoo.data.to_own_pixels(got["boxes"], got["scale"], got["original_size"])
    np.testing.assert_allclose(own[3], [[8, 8, 16, 24], [24, 8, 32, 24], [40, 8, 48, 24]], atol=1e-4)


@pytest.mark.parametrize("augment", [False, True])
def test_shapes_are_known_before_the_first_picture_is_read(opened, augment):
    fake = opened(FakeSource())
    specs = kzoo.data.load("fake", augment=augment, **SETTINGS).element_spec
    assert specs["images"] == tf.TensorSpec([None, 32, 40, 3], tf.uint8)
    assert specs["boxes"] == tf.TensorSpec([None, 3, 4], tf.float32)
    assert specs["classes"] == tf.TensorSpec([None, 3], tf.int32)
    assert specs["image_id"] == tf.TensorSpec([None], tf.int64)
    assert specs["original_size"] == tf.TensorSpec([None, 2], tf.int32)
    assert specs["scale"] == tf.TensorSpec([None, 2], tf.float32)
    assert not fake.reads


def test_the_same_seed_gives_the_same_epochs_and_each_epoch_is_another(opened):
    def epochs(seed):
        dataset = kzoo.data.load("fake", augment=True, seed=seed, **SETTINGS)
        return [epoch(dataset) for _ in range(3)]

    first, again, other = epochs(3), epochs(3), epochs(4)
    for one, two in zip(first, again, strict=True):
        assert sorted(one["image_id"]) == list(range(10))
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
    orders = [list(one["image_id"]) for one in first]
    assert orders[0] != orders[1] != orders[2]
    for one, two in [first[:2], first[1:], (first[0], other[0])]:
        by_picture = [run["scale"][np.argsort(run["image_id"])] for run in (one, two)]
        assert (by_picture[0] != by_picture[1]).all()


def test_order_is_left_alone_unless_training(opened):
    fake = opened(FakeSource())
    assert list(epoch(kzoo.data.load("fake", split="val", **SETTINGS))["image_id"]) == list(range(10))
    assert list(epoch(kzoo.data.load("fake", **SETTINGS))["image_id"]) != list(range(10))
    augmented = kzoo.data.load("fake", split="val", augment=True, **SETTINGS)
    assert list(epoch(augmented)["image_id"]) != list(range(10))
    assert len(fake.reads) == 30


@pytest.mark.parametrize(("memory", "reads"), [(loading._MEMORY, 10), (100, 30)])
def test_pictures_are_read_once_if_they_fit_in_memory(opened, monkeypatch, memory, reads):
    monkeypatch.setattr(loading, "_MEMORY", memory)
    fake = opened(FakeSource())
    dataset = kzoo.data.load("fake", augment=True, **SETTINGS)
    ids = [tuple(epoch(dataset)["image_id"]) for _ in range(3)]
    assert len(fake.reads) == reads
    assert len(set(ids)) == 3 and all(sorted(one) == list(range(10)) for one in ids)


def test_pictures_are_kept_though_fit_stops_at_the_last_batch(opened):
    """As `fit` does, which knows the number of batches and does not ask for one more."""
    fake = opened(FakeSource(sizes=((48, 80),) * 8))
    dataset = kzoo.data.load("fake", split="val", **SETTINGS)
    for _ in range(2):
        batches = iter(dataset)
        for _ in range(len(dataset)):
            next(batches)
        time.sleep(0.5)  # the last step of training
        del batches
    assert len(fake.reads) == 8


def test_sizes_may_differ_if_one_is_given(opened):
    opened(FakeSource(sizes=((48, 80), (30, 30), (100, 20), (7, 7))))
    got = epoch(kzoo.data.load("fake", shuffle=False, **SETTINGS))
    np.testing.assert_allclose(
        got["scale"], [[0.5, 0.5], [32 / 30] * 2, [0.32, 0.3], [32 / 7] * 2], rtol=1e-6
    )
    assert epoch(kzoo.data.load("fake", augment=True, **SETTINGS))["images"].shape == (4, 32, 40, 3)
    for options in ({}, {"batch_size": 1, "augment": True}):
        with pytest.raises(ValueError, match=r"image_size=None.*4 sizes, from \(7, 7\) to \(100, 20\)"):
            kzoo.data.load("fake", **options)


SIZES = ((48, 80), (30, 60), (100, 80), (48, 80))


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_one_by_one_pictures_of_different_sizes_are_as_they_are(opened, resize):
    fake = opened(FakeSource(sizes=SIZES))
    dataset = kzoo.data.load("fake", task="instance_segmentation", batch_size=1, shuffle=False, resize=resize)
    assert (len(dataset), fake.reads) == (4, [])
    assert dataset.element_spec["images"] == tf.TensorSpec([1, None, None, 3], tf.uint8)
    assert dataset.element_spec["boxes"] == tf.TensorSpec([1, 3, 4], tf.float32)
    batches = list(dataset.as_numpy_iterator())
    for index, batch in enumerate(batches):
        np.testing.assert_array_equal(batch["images"], fake.pictures.read(index)[np.newaxis])
        np.testing.assert_array_equal(batch["boxes"][0, :index], fake.pictures.boxes[index])
        np.testing.assert_array_equal(batch["original_size"], [SIZES[index]])
        np.testing.assert_array_equal(batch["scale"], [[1, 1]])
        assert batch["masks"][0, :index].all() and not batch["masks"][0, index:].any()
    assert [batch["image_id"].tolist() for batch in batches] == [[0], [1], [2], [3]]


def test_one_by_one_pixels_of_different_sizes_are_as_they_are(opened):
    fake = opened(FakeSource(sizes=SIZES))
    settings = {"task": "segmentation", "batch_size": 1, "shuffle": False}
    dataset = kzoo.data.load("fake", border_sigma=3.0, **settings)
    assert dataset.element_spec["classes"] == tf.TensorSpec([1, None, None], tf.int32)
    assert dataset.element_spec["borders"] == tf.TensorSpec([1, None, None], tf.float32)
    for index, batch in enumerate(dataset.as_numpy_iterator()):
        assert batch["borders"].shape == (1, *SIZES[index])
    for index, batch in enumerate(kzoo.data.load("fake", **settings).as_numpy_iterator()):
        np.testing.assert_array_equal(batch["classes"][0], fake.pictures.read_labels(index))


@pytest.mark.parametrize(("short", "reads"), [(0, 4), (1, 8)])
def test_pictures_as_they_are_are_kept_only_if_all_of_them_fit_in_memory(opened, monkeypatch, short, reads):
    fake = opened(FakeSource(sizes=SIZES))
    in_bytes = 3 * sum(height * width for height, width in SIZES)
    monkeypatch.setattr(loading, "_MEMORY", in_bytes - short)
    dataset = kzoo.data.load("fake", batch_size=1)
    for _ in range(2):
        assert sorted(batch["image_id"][0] for batch in dataset.as_numpy_iterator()) == [0, 1, 2, 3]
    assert len(fake.reads) == reads


def test_without_a_size_the_pictures_keep_theirs(opened):
    got = epoch(kzoo.data.load("fake", shuffle=False))
    assert got["images"].shape == (10, 48, 80, 3)
    np.testing.assert_array_equal(got["boxes"][1, 0], [8, 8, 16, 24])


@pytest.mark.parametrize("augment", [False, True])
def test_one_picture_without_objects(opened, augment):
    opened(FakeSource(sizes=((48, 80),), objects=[0]))
    got = epoch(kzoo.data.load("fake", augment=augment, **SETTINGS))
    assert got["images"].shape == (1, 32, 40, 3)
    assert not got["boxes"].any() and (got["classes"] == -1).all()


def discs(size=(48, 80)):
    """A fake source of discs that the boxes are tight around, and the masks in own pixels."""
    fake = FakeSource(sizes=(size,) * 10)
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    masks = [
        np.array(
            [
                (columns - (x1 + x2) / 2) ** 2 / ((x2 - x1) / 2) ** 2
                + (rows - (y1 + y2) / 2) ** 2 / ((y2 - y1) / 2) ** 2
                <= 1
                for x1, y1, x2, y2 in boxes
            ]
        ).reshape(-1, *size)
        for boxes in fake.pictures.boxes
    ]
    fake.pictures = replace(fake.pictures, read_masks=lambda index: encode(masks[index]))
    return fake, masks


@pytest.mark.parametrize("augment", [False, True])
def test_masks_lie_within_the_boxes(opened, augment):
    fake, masks = discs()
    opened(fake)
    dataset = kzoo.data.load("fake", task="instance_segmentation", augment=augment, **SETTINGS)
    assert dataset.element_spec["masks"] == tf.TensorSpec([None, 3, MASK_SIZE, MASK_SIZE], tf.uint8)
    got = epoch(dataset)
    there = got["classes"] >= 0
    assert not got["masks"][~there].any() and (got["masks"][there].mean(axis=(1, 2)) > 0.2).all()
    if augment:
        return
    for index, boxes, of_one in zip(got["image_id"], got["boxes"], got["masks"], strict=True):
        for number, mask in enumerate(masks[index]):
            pasted = paste(of_one[number], boxes[number] * 2, (48, 80))  # in own pixels
            assert (pasted & mask).sum() / (pasted | mask).sum() > 0.95


def crowded():
    """A fake source of which the last row of each picture is a crowd region."""
    fake = FakeSource(objects=[2] * 10)
    classes = (np.array([1, CROWD], np.int32),) * 10
    areas = (np.array([5.0, 7.0], np.float32),) * 10
    fake.pictures = replace(fake.pictures, classes=classes, areas=areas)
    return fake


def test_crowd_regions_come_behind_the_objects_and_keep_their_box(opened):
    opened(crowded())
    for task in ("detection", "instance_segmentation"):
        got = epoch(kzoo.data.load("fake", task=task, **SETTINGS))
        np.testing.assert_array_equal(got["classes"], [[1, CROWD, -1]] * 10)
        np.testing.assert_array_equal(got["boxes"][0], [[4, 4, 8, 12], [12, 4, 16, 12], [0, 0, 0, 0]])
    assert got["masks"][:, :2].all() and not got["masks"][:, 2].any()


def test_tasks_about_objects_alone_leave_crowd_regions_out(opened):
    opened(crowded())
    dataset = kzoo.data.load("fake", task="segmentation", **SETTINGS)
    assert [len(part[0]) for part in (dataset.pictures.boxes, dataset.pictures.areas)] == [1, 1]
    assert len(dataset.pictures.read_masks(0)) == 1
    got = epoch(kzoo.data.load("fake", task="box_regression", **SETTINGS))
    assert got["boxes"].shape == (10, 1, 4) and (got["classes"] == 1).all()
    assert (epoch(kzoo.data.load("fake", task="classification", **SETTINGS))["classes"] == 1).all()


def test_masks_count_towards_the_memory_that_pictures_take(opened, monkeypatch):
    fake = opened(FakeSource(objects=[1] * 10))
    monkeypatch.setattr(loading, "_MEMORY", 10 * (24 * 40 * 3 + MASK_SIZE**2))
    kept = kzoo.data.load("fake", task="instance_segmentation", **SETTINGS)
    monkeypatch.setattr(loading, "_MEMORY", 10 * (24 * 40 * 3 + MASK_SIZE**2) - 1)
    not_kept = kzoo.data.load("fake", task="instance_segmentation", **SETTINGS)
    for dataset, reads in [(kept, 10), (not_kept, 20)]:
        fake.reads.clear()
        epoch(dataset), epoch(dataset)
        assert len(fake.reads) == reads


def test_segmentation_has_the_class_of_each_pixel_and_ignores_what_is_no_picture(opened):
    dataset = kzoo.data.load("fake", task="segmentation", shuffle=False, **SETTINGS)
    assert dataset.element_spec["classes"] == tf.TensorSpec([None, 32, 40], tf.int32)
    got = epoch(dataset)
    assert set(got) == {"images", "classes", "image_id", "original_size", "scale"}
    expected = np.zeros([32, 40], np.int32)
    expected[24:] = -1
    expected[4:12, 4:8], expected[4:12, 12:16] = 1, 2
    np.testing.assert_array_equal(got["classes"][2], expected)
    assert (got["images"][2][expected == -1] == 114).all()


def test_crowd_regions_of_a_segmentation_are_ignored(opened):
    opened(crowded())
    got = epoch(kzoo.data.load("fake", task="segmentation", **SETTINGS))["classes"]
    expected = np.zeros([32, 40], np.int32)
    expected[24:] = -1
    expected[4:12, 4:8], expected[4:12, 12:16] = 2, -1
    np.testing.assert_array_equal(got, [expected] * 10)


@pytest.mark.parametrize("elastic", [0.0, 3.0])
def test_augmented_segmentation_moves_with_its_picture(opened, elastic):
    """Where the picture is white there are objects, where it is grey there is no picture."""
    opened(FakeSource(sizes=((48, 80), (100, 60), (7, 9), (48, 80)) * 3, objects=[1] * 12))
    still = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    settings = Augmentation(elastic=elastic, quarter_turns=True, zoom=(0.5, 1.5), **still)
    dataset = kzoo.data.load("fake", task="segmentation", augment=settings, **SETTINGS)
    assert dataset.element_spec["classes"] == tf.TensorSpec([None, 32, 40], tf.int32)
    got = epoch(dataset)
    assert set(np.unique(got["classes"])) == {-1, 0, 1}
    images = got["images"][..., 0].astype(int)
    white, grey = images > 200, images == 114
    assert (got["classes"][white] == 1).mean() > 0.95
    assert (got["classes"] == -1).sum() == pytest.approx(grey.sum(), rel=0.02)
    assert (got["classes"][grey] == -1).mean() > 0.99


def pixels_only(labels, names=("background", "a")):
    """A fake source as of pairs of pictures and label pictures: neither boxes nor masks."""
    fake = FakeSource(objects=[0] * len(labels), sizes=[one.shape for one in labels])
    fake.info = replace(fake.info, classes=tuple(names), tasks=("segmentation",))
    fake.pictures = replace(
        fake.pictures,
        boxes=None,
        classes=(np.zeros(0, np.int32),) * len(labels),
        read_masks=None,
        read_labels=lambda index: labels[index],
    )
    return fake


def test_labels_are_enlarged_and_shrunk_to_the_nearest_pixel(opened):
    labels = np.append(-1, np.arange(16, 255)).astype(np.int16).reshape(12, 20)
    opened(pixels_only([labels], map(str, range(255))))  # as many classes as can be
    for image_size, expected in [
        ((12, 20), labels),
        ((36, 60), labels.repeat(3, 0).repeat(3, 1)),
        ((4, 20), labels[1::3]),
    ]:
        got = epoch(kzoo.data.load("fake", task="segmentation", image_size=image_size, resize="stretch"))
        np.testing.assert_array_equal(got["classes"], [expected])


@pytest.mark.parametrize("augment", [False, True, Augmentation(elastic=2.0, zoom=(1.0, 1.0))])
def test_data_without_boxes(opened, augment):
    labels = np.random.default_rng(0).integers(-1, 2, [3, 30, 24]).astype(np.int16)
    opened(pixels_only(labels))
    dataset = kzoo.data.load("fake", task="segmentation", augment=augment, batch_size=2)
    assert dataset.classes == ("background", "a") and dataset.pictures.boxes is None
    assert epoch(dataset)["classes"].shape == (3, 30, 24)
    fake = FakeSource(sizes=((48, 80), (20, 20), (33, 7)), objects=[1] * 3)
    of_each = tuple(np.array([label], np.int32) for label in (2, 0, 1))
    fake.pictures = replace(
        fake.pictures, read=lambda index: np.zeros([*fake.pictures.sizes[index], 3], np.uint8), boxes=None
    )
    fake.pictures = replace(fake.pictures, classes=of_each, read_masks=None, read_labels=None)
    opened(fake)
    got = epoch(kzoo.data.load("fake", task="classification", augment=augment, **SETTINGS))
    assert set(got) == {"images", "classes", "image_id", "original_size", "scale"}
    np.testing.assert_array_equal(got["classes"], np.array([2, 0, 1])[got["image_id"]])


def nuclei(size, factor=1):
    """A fake source of one picture: three rectangles, of which the first two touch."""
    masks = np.zeros([3, *size], bool)
    for mask, (top, left, bottom, right) in zip(
        masks, ((4, 2, 12, 10), (4, 10, 12, 18), (16, 4, 20, 16)), strict=True
    ):
        mask[top * factor : bottom * factor, left * factor : right * factor] = True
    fake = FakeSource(sizes=[size], objects=[3])
    classes = (np.zeros(3, np.int32),)
    fake.info = replace(fake.info, classes=("background", "nucleus"))
    fake.pictures = replace(
        fake.pictures,
        classes=classes,
        read_masks=lambda index: encode(masks),
        read_labels=lambda index: labels_of_masks(encode(masks), classes[0], size),
    )
    return fake, masks


def test_borders_of_instances(opened):
    fake, masks = nuclei((24, 20))
    opened(fake)
    dataset = kzoo.data.load("fake", task="segmentation", border_sigma=3.0, image_size=(28, 20))
    assert dataset.element_spec["borders"] == tf.TensorSpec([None, 28, 20], tf.float32)
    got = epoch(dataset)
    expected = masks.any(axis=0).astype(int)
    expected[4:12, 9:11] = 0  # the line
    np.testing.assert_array_equal(got["classes"][0, :24], expected)
    assert (got["classes"][0, 24:] == -1).all() and not got["borders"][0, 24:].any()
    squared = np.sort([distance_transform_edt(~mask) for mask in masks], axis=0)[:2].sum(axis=0) ** 2
    borders = np.where(expected == 0, np.exp(-squared / 18), 0)
    np.testing.assert_allclose(got["borders"][0, :24], borders, atol=0.51 / 255)
    np.testing.assert_array_equal(dataset.pictures.read_labels(0), masks.any(axis=0))  # the truth has no line


@pytest.mark.parametrize("elastic", [0.0, 1e-6])
def test_borders_are_told_in_pixels_of_the_given_picture(opened, elastic):
    """The same nuclei three times as large on disk, and kept twice as large as given, to zoom in."""
    opened(nuclei((24, 20))[0])
    small = epoch(kzoo.data.load("fake", task="segmentation", border_sigma=3.0))
    opened(nuclei((72, 60), factor=3)[0])
    still = Augmentation(horizontal_flip=0.0, zoom=(1.0, 1.0), aspect=(1.0, 1.0), elastic=elastic)
    for augment in (False, still, replace(still, zoom=(2.0, 2.0))):
        settings = {"image_size": (24, 20), "border_sigma": 3.0, "augment": augment}
        got = epoch(kzoo.data.load("fake", task="segmentation", **settings))
        assert got["borders"][got["classes"] != 0].max() == 0 and got["borders"].max() > 0.8
        if augment and augment.zoom[1] == 2:
            continue
        assert (got["classes"] != small["classes"]).mean() < 0.03
        there = (got["classes"] == 0) & (small["classes"] == 0)
        # Distances are from centre to centre: gaps are wider by up to a pixel where pixels are larger.
        np.testing.assert_allclose(got["borders"][there], small["borders"][there], atol=0.12)


def stripes(gap, size=(24, 128)):
    """A fake source of one picture of upright stripes, 8 pixels wide, with gaps between them."""
    lefts = range(0, size[1], 8 + gap)
    masks = np.zeros([len(lefts), *size], bool)
    for mask, left in zip(masks, lefts, strict=True):
        mask[:, left : left + 8] = True
    fake = FakeSource(sizes=[size], objects=[len(lefts)])
    classes = (np.zeros(len(lefts), np.int32),)
    fake.info = replace(fake.info, classes=("background", "stripe"))
    fake.pictures = replace(
        fake.pictures,
        classes=classes,
        read_masks=lambda index: encode(masks),
        read_labels=lambda index: labels_of_masks(encode(masks), classes[0], size),
    )
    return fake


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize(
    ("image_size", "zoom", "scale"),
    [
        ((24, 128), None, 1),
        ((12, 64), (2.0, 2.0), 1),
        ((12, 64), (1.0, 4.0), 1),  # the middle of what is drawn, as factors go
        ((24, 128), (2.0, 2.0), 2),
    ],
)
def test_borders_and_lines_are_told_at_the_scale_that_is_usual(opened, image_size, zoom, scale, resize):
    """Across a gap d1 + d2 is one number, so that a crop at any place has it; all are kept as on disk."""
    augment = zoom is not None and Augmentation(horizontal_flip=0.0, zoom=zoom, aspect=(1.0, 1.0))
    settings = {"image_size": image_size, "resize": resize, "border_sigma": 4.0, "augment": augment}
    opened(stripes(gap=4))
    got = epoch(kzoo.data.load("fake", task="segmentation", **settings))
    assert got["borders"].max() == pytest.approx(np.exp(-((5 * scale) ** 2) / 32), abs=1 / 255)
    opened(stripes(gap=0))
    got = epoch(kzoo.data.load("fake", task="segmentation", **settings))
    assert (got["classes"] == 0).mean() == pytest.approx(2 / 8, abs=0.05)  # a pixel of each stripe's sides


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"border_sigma": 0.0}, "above 0"),
        ({"border_sigma": -1.0}, "at least 0"),
        ({"border_sigma": "5"}, "a number"),
        ({"border_sigma": 5.0, "task": "detection"}, "it is for 'segmentation'"),
    ],
)
def test_a_sigma_that_cannot_be_is_refused(monkeypatch, wrong, told):
    monkeypatch.setattr(sources, "open_source", lambda *args, **options: pytest.fail("opened"))
    with pytest.raises(ValueError, match=f"border_sigma=.*{told}"):
        kzoo.data.load("fake", **{"task": "segmentation", **SETTINGS, **wrong})


def test_borders_need_instances(opened):
    opened(pixels_only([np.zeros([9, 9], np.int16)]))
    with pytest.raises(DataError, match=r"border_sigma=5.0 takes the pixels of each object; 'fake' does not"):
        kzoo.data.load("fake", task="segmentation", border_sigma=5.0)


@pytest.mark.parametrize(
    ("task", "combining", "told"),
    [
        (
            "classification",
            "mixup",
            r"can: detection, instance_segmentation. .*kzoo.build\(\"classifier\", mix",
        ),
        ("box_regression", "mosaic", "can: detection, segmentation, instance_segmentation"),
        ("segmentation", "mixup", "can: detection, instance_segmentation"),
        ("detection", "copy_paste", "can: instance_segmentation"),
    ],
)
def test_labels_that_cannot_be_combined_are_refused(monkeypatch, task, combining, told):
    monkeypatch.setattr(sources, "open_source", lambda *args, **options: pytest.fail("opened"))
    with pytest.raises(ValueError, match=f"{combining}=0.5.*task='{task}'.*{told}"):
        kzoo.data.load("fake", task=task, augment=Augmentation(**{combining: 0.5}), **SETTINGS)


@pytest.mark.parametrize(
    ("task", "slots"),
    [("detection", 3 * (4 + 1)), ("instance_segmentation", 3 * (4 + 1 + 1)), ("segmentation", None)],
)
def test_combined_pictures_have_the_same_shapes_and_the_same_seed_the_same_batches(opened, task, slots):
    chances = (
        {"mosaic": 0.5} | ({"mixup": 0.5} if slots else {}) | ({"copy_paste": 0.5} if slots == 18 else {})
    )
    settings = Augmentation(**chances)

    def batches(seed):
        dataset = kzoo.data.load("fake", task=task, augment=settings, seed=seed, **SETTINGS)
        assert dataset.element_spec["images"].shape == [None, 32, 40, 3]
        if slots:
            assert dataset.element_spec["boxes"].shape == [None, slots, 4]
        if task == "instance_segmentation":
            assert dataset.element_spec["masks"].shape == [None, slots, MASK_SIZE, MASK_SIZE]
        return epoch(dataset)

    first, again = batches(3), batches(3)
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert task != "detection" or (first["images"] != batches(4)["images"]).any()
    assert sorted(first["image_id"]) == list(range(10))
    if slots:  # of up to three objects a picture
        assert (first["classes"] >= 0).sum(axis=1).max() > 3


def test_pictures_to_combine_with_are_read_only_when_it_is_drawn(opened, monkeypatch):
    monkeypatch.setattr(loading, "_MEMORY", 0)
    for chance, reads in ((0.0, 10), (1e-9, 10), (1.0, 50)):
        fake = opened(FakeSource())
        epoch(kzoo.data.load("fake", augment=Augmentation(mosaic=chance, mixup=chance), **SETTINGS))
        assert len(fake.reads) == reads


def test_layers_of_pixels_count_towards_the_memory_that_pictures_take(opened, monkeypatch):
    for options, layers in [({}, 4), ({"border_sigma": 5.0}, 5)]:
        for short, reads in [(0, 10), (1, 20)]:
            fake = opened(FakeSource())
            monkeypatch.setattr(loading, "_MEMORY", 10 * 24 * 40 * layers - short)
            dataset = kzoo.data.load("fake", task="segmentation", **options, **SETTINGS)
            epoch(dataset), epoch(dataset)
            assert len(fake.reads) == reads


def test_grey_alpha_and_sixteen_bits_become_colours(opened, tmp_path):
    """All the same picture, of one grey from dark to bright."""
    ramp = np.arange(0, 240, 10, dtype=np.uint8).repeat(16).reshape(24, 16)
    pictures = {
        "L": Image.fromarray(ramp),
        "LA": Image.merge("LA", [Image.fromarray(ramp), Image.fromarray(ramp // 2)]),
        "RGBA": Image.merge("RGBA", [Image.fromarray(ramp)] * 3 + [Image.fromarray(ramp // 2)]),
        "16": Image.fromarray(ramp.astype(np.uint16) * 257),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
    paths = [tmp_path / f"{name}.png" for name in pictures]
    fake = FakeSource(sizes=((24, 16),) * 4)
    fake.pictures = replace(fake.pictures, read=lambda index: read_picture(paths[index]))
    opened(fake)
    got = epoch(kzoo.data.load("fake", shuffle=False))
    np.testing.assert_array_equal(got["images"], [np.stack([ramp] * 3, axis=-1)] * 4)


def test_slices_of_a_split(opened):
    opened(shapes := kzoo.data.open_source("shapes", task="classification"))
    for text, count, first in [("val[:3]", 3, 0), ("val[-5:]", 5, 195)]:
        dataset = kzoo.data.load("shapes", split=text, task="classification", shuffle=False)
        got = epoch(dataset)
        assert dataset.num_pictures == count
        np.testing.assert_array_equal(got["image_id"], range(count))
        np.testing.assert_array_equal(got["images"][0], shapes.split("val").read(first))
    train = epoch(kzoo.data.load("shapes", split="train[:30]", task="classification"))
    assert list(train["image_id"]) != list(range(30))


def test_one_object_makes_a_classification_or_a_box_regression(opened):
    fake = opened(FakeSource(objects=[1] * 10))
    fake.pictures = replace(fake.pictures, classes=tuple(np.array([n % 3], np.int32) for n in range(10)))
    zoomed = Augmentation(zoom=(8.0, 8.0))  # most objects are out of view, and are what they were
    dataset = kzoo.data.load("fake", task="classification", augment=zoomed, **SETTINGS)
    assert dataset.element_spec["classes"] == tf.TensorSpec([None], tf.int32)
    got = epoch(dataset)
    assert "boxes" not in got and "label" not in got
    np.testing.assert_array_equal(got["classes"], got["image_id"] % 3)
    got = epoch(kzoo.data.load("fake", task="box_regression", **SETTINGS))
    assert got["boxes"].shape == (10, 1, 4) and got["classes"].shape == (10, 1)


def test_data_that_cannot_teach_the_task_is_refused(opened):
    with pytest.raises(
        DataError, match="'classification' takes pictures of one object each; those of 'fake' have 0 to 3"
    ):
        kzoo.data.load("fake", task="classification", **SETTINGS)
    fake = opened(FakeSource())
    fake.pictures = replace(fake.pictures, read_masks=None)
    with pytest.raises(DataError, match="'instance_segmentation' takes the pixels of each object"):
        kzoo.data.load("fake", task="instance_segmentation", **SETTINGS)
    fake.pictures = replace(fake.pictures, read_labels=None)
    with pytest.raises(DataError, match="'segmentation' takes the class of each pixel"):
        kzoo.data.load("fake", task="segmentation", **SETTINGS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 256},
        {"image_size": (0, 10)},
        {"image_size": (10.0, 10)},
        {"image_size": (1, 2, 3)},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"batch_size": True},
        {"resize": "crop"},
        {"seed": -1},
        {"augment": "strong"},
        {"augment": None},
        {"shuffle": "yes"},
    ],
)
def test_arguments_that_cannot_be_are_named_before_the_data_is_opened(monkeypatch, wrong):
    monkeypatch.setattr(sources, "open_source", lambda *args, **options: pytest.fail("opened"))
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=name) as raised:
        kzoo.data.load("fake", **SETTINGS | wrong)
    assert repr(value).strip("'") in str(raised.value)


def test_a_picture_that_cannot_be_read_is_named(opened):
    fake = opened(FakeSource())

    def read(index):
        raise DataError(f"fake[{index}]: not a picture")

    fake.pictures = replace(fake.pictures, read=read)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"DataError: fake\[\d\]: not a picture"):
        epoch(kzoo.data.load("fake", shuffle=False, **SETTINGS))


def test_info_does_not_import_tensorflow():
    code = "import sys; from kzoo.data import DataError, Info, info; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="nothing"):
        kzoo.data.nothing  # noqa: B018
