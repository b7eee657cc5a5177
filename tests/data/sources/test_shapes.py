import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

from kzoo.data.faults import DataError
from kzoo.data.masks import decode
from kzoo.data.sources import open_source, shapes
from kzoo.data.sources.shapes import KINDS, SPLITS, Shapes
from kzoo.tasks import TASKS


@pytest.fixture(scope="module")
def val():
    return Shapes().split("val")


def read_masks(split, index):
    """bool [n, H, W]."""
    return np.stack([decode(rle) for rle in split.read_masks(index)])


def test_a_picture_is_the_same_on_every_machine():
    train = Shapes(seed=7).split("train")
    digest = hashlib.sha256()
    for index in (0, 1, 1999):
        for array in (train.read(index), read_masks(train, index), train.boxes[index].astype("<f4")):
            digest.update(array.tobytes())
        digest.update(train.classes[index].astype("<i4").tobytes())
    assert digest.hexdigest() == ("b1f81a9bd638a3b2e72f99834d5f371615836e4e66487b3016a10d0045ef38b0")


def test_what_there_is(val):
    source = Shapes()
    assert source.info.classes == KINDS
    assert source.info.splits == SPLITS
    assert source.max_objects == 6
    assert len(val) == 200 == len(val.boxes) == len(val.classes) == len(val.sizes)
    assert val.names[17] == "shapes:val[17]"
    assert set(val.sizes) == {(128, 128)}
    assert {len(boxes) for boxes in val.boxes} == {1, 2, 3, 4, 5, 6}
    assert set(np.concatenate(val.classes)) == set(range(len(KINDS)))


def test_reading_does_not_depend_on_order_or_threads(val):
    indices = [3, 0, 150, 3, 7] * 4
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(val.read, indices))
    for index, picture in zip(indices, threaded, strict=True):
        assert picture.dtype == np.uint8
        assert picture.shape == (128, 128, 3)
        np.testing.assert_array_equal(picture, val.read(index))


def test_boxes_are_tight_around_masks_which_are_disjoint(val):
    for index in range(len(val)):
        masks = read_masks(val, index)
        assert masks.shape == (len(val.boxes[index]), 128, 128)
        assert masks.sum(axis=0).max() <= 1
        for mask, box in zip(masks, val.boxes[index], strict=True):
            rows, columns = np.nonzero(mask)
            np.testing.assert_array_equal(box, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert val.boxes[0].dtype == np.float32
    assert val.classes[0].dtype == np.int32


def test_every_object_can_be_told_from_what_is_around_it(val):
    for index in range(len(val)):
        picture, masks = val.read(index).astype(int), read_masks(val, index)
        ground = np.median(picture[~masks.any(axis=0)], axis=0)
        colours = [np.median(picture[mask], axis=0) for mask in masks]
        for number, colour in enumerate(colours):
            assert mask_area(masks[number]) >= 30
            assert np.abs(colour - ground).sum() >= 110, (index, number)
            assert all(np.abs(colour - other).sum() >= 90 for other in colours[:number]), (index, number)


def mask_area(mask):
    return np.count_nonzero(mask)


def test_splits_and_seeds_differ():
    first = Shapes().split("train").read(0)
    assert (first != Shapes().split("val").read(0)).any()
    assert (first != Shapes(seed=1).split("train").read(0)).any()
    np.testing.assert_array_equal(first, Shapes(seed=0).split("train").read(0))


@pytest.mark.parametrize("task", ["classification", "box_regression"])
def test_one_object_where_the_task_is_about_one(task):
    source = Shapes(task=task)
    split = source.split("test")
    assert source.max_objects == 1
    assert {len(boxes) for boxes in split.boxes} == {1}
    assert read_masks(split, 5).shape == (1, 128, 128)


def test_classes_in_another_order(val):
    order = ("ring", "hexagon", "star", "triangle", "square", "circle")
    other = Shapes(classes=order)
    assert other.info.classes == order
    for mine, theirs in zip(val.classes, other.split("val").classes, strict=True):
        assert [KINDS[kind] for kind in mine] == [order[kind] for kind in theirs]


def test_as_many_objects_as_asked_for(val):
    few, many = open_source("shapes:2").split("val"), open_source("shapes:12").split("val")
    assert {len(boxes) for boxes in few.boxes} == {1, 2}
    assert max(len(boxes) for boxes in many.boxes) == 12
    assert few.names[3] == "shapes:2:val[3]"
    np.testing.assert_array_equal(open_source("shapes:6").split("val").read(5), val.read(5))
    np.testing.assert_array_equal(
        open_source("shapes:1").split("val").read(5),
        open_source("shapes", task="classification").split("val").read(5),
    )


def test_tasks_of_one_object_take_pictures_of_one():
    assert open_source("shapes:1").info.tasks == open_source("shapes").info.tasks == TASKS
    with pytest.raises(DataError, match="shapes:4: task='box_regression' cannot be learnt from it; what can"):
        open_source("shapes:4", task="box_regression")


@pytest.mark.parametrize(
    "spec", ["shapes:0", "shapes:31", "shapes:-1", "shapes:2.5", "shapes:", "shapes:1e9"]
)
def test_numbers_of_objects_that_cannot_be(spec):
    with pytest.raises(DataError, match="expected (1 to 30|'shapes', or 'shapes:N' with N from 1)"):
        open_source(spec)


@pytest.mark.parametrize("order", [KINDS[::-1], ("background", *KINDS[::-1])])
def test_labels_are_the_visible_pixels_of_each_object(order):
    source = open_source("shapes", task="segmentation", classes=order)
    assert source.info.classes == ("background", *KINDS[::-1])
    split = source.split("val")
    for index in range(5):
        masks = [decode(mask) for mask in split.read_masks(index)]  # disjoint
        expected = sum(mask * (label + 1) for mask, label in zip(masks, split.classes[index], strict=True))
        np.testing.assert_array_equal(split.read_labels(index), expected)


def test_a_part_of_a_split(val):
    part = Shapes().split("val", part=slice(150, 152))
    assert part.names == ("shapes:val[150]", "shapes:val[151]")
    np.testing.assert_array_equal(part.boxes[1], val.boxes[151])
    np.testing.assert_array_equal(part.classes[1], val.classes[151])
    np.testing.assert_array_equal(part.read(1), val.read(151))
    assert part.read_masks(1) == val.read_masks(151)


def test_classes_must_have_every_kind():
    with pytest.raises(DataError, match='class="star": unknown. Nearest: "stars"'):
        Shapes(classes=("circle", "square", "triangle", "stars", "ring"))


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, True, None])
def test_seeds_that_are_none(seed):
    with pytest.raises(DataError, match="seed must be an integer"):
        Shapes(seed=seed)


def test_no_sine_is_near_a_tie():
    for step in range(120):
        exact = 2**14 * math.sin(2 * math.pi * step / 120)
        assert abs(exact % 1 - 0.5) > 1e-6


@pytest.mark.parametrize("kind", ["triangle", "square", "star"])
def test_polygons_agree_with_crossings_in_fractions(kind):
    radius, angle = 9, 5
    corners = shapes._corners(kind, radius, angle)
    expected = np.zeros((2 * radius + 1,) * 2, bool)
    for row in range(-radius, radius + 1):
        for column in range(-radius, radius + 1):
            crossings = 0
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 <= 16 * row) != (y1 <= 16 * row):
                    crossings += x0 + Fraction((16 * row - y0) * (x1 - x0), y1 - y0) > 16 * column
            expected[row + radius, column + radius] = crossings % 2
    rows, columns = np.nonzero(expected)
    expected = expected[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    np.testing.assert_array_equal(shapes._stencil(kind, radius, angle), expected)


@pytest.mark.parametrize(
    ("kind", "area"),  # of the shape in a circle of radius 1
    [
        ("circle", math.pi),
        ("ring", math.pi * 3 / 4),
        ("square", 2),
        ("triangle", 3 * math.sqrt(3) / 4),
        ("star", 10 * (7 / 16) * math.sin(math.pi / 5) / 2),
    ],
)
@pytest.mark.parametrize("angle", [0, 7, 23])
def test_areas(kind, area, angle):
    assert np.count_nonzero(shapes._stencil(kind, 32, angle)) == pytest.approx(area * 32**2, rel=0.04)


def test_the_ground_is_textured_and_stays_in_range(val):
    for index in range(20):
        picture, masks = val.read(index), read_masks(val, index)
        assert picture[~masks.any(axis=0)].std(axis=0).min() > 3
