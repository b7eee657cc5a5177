import numpy as np
import pytest
import tensorflow as tf

from kzoo.data.augmentation.combining import copy_paste, joined, mixup, mosaic
from kzoo.data.masks import paste, within_box

SEED = tf.constant([3, 4], tf.int64)


def example(picture, boxes=(), classes=(), masks=None, slots=4):
    """As it is seen; masks are bool [H, W] each."""
    free = slots - len(boxes)
    seen = {
        "images": tf.constant(picture, tf.uint8),
        "boxes": tf.constant(np.pad(np.reshape(boxes, [-1, 4]), [(0, free), (0, 0)]), tf.float32),
        "classes": tf.constant([*classes] + [-1] * free, tf.int32),
        "image_id": tf.constant(len(boxes)),
    }
    if masks is not None:
        samples = [within_box(mask, box) for mask, box in zip(masks, boxes, strict=True)]
        seen["masks"] = tf.constant(np.array(samples, np.uint8).reshape(-1, 56, 56))
    return seen


def numpy(values):
    return {name: value.numpy() for name, value in values.items()}


def plain(grey, size=(40, 60)):
    return np.full([*size, 3], grey, np.uint8)


def rectangle(box, size=(40, 60)):
    mask = np.zeros(size, bool)
    x1, y1, x2, y2 = box
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size", [(40, 60), (2, 2), (3, 7)])
def test_the_quarters_of_a_mosaic_are_where_they_should_be(seed, size):
    asked = []

    def see(picture, key, size):
        """A picture of one grey, with a box as large as its quarter, its class the grey."""
        asked.append((tuple(key.numpy()), tuple(size.numpy())))
        grey = picture["images"][0, 0, 0]
        height, width = tf.unstack(tf.cast(size, tf.float32))
        return picture | {
            "images": tf.fill([*size.numpy(), 3], grey),
            "labels": tf.fill([*size.numpy(), 1], grey),
            "boxes": tf.stack([tf.stack([0.0, 0.0, width, height]), tf.zeros(4)]),
            "classes": tf.stack([tf.cast(grey, tf.int32), -1]),
        }

    four = [example(plain(grey), slots=2) for grey in (10, 20, 30, 40)]
    got = numpy(mosaic(four, tf.constant([seed, 0], tf.int64), size, see))
    picture = got["images"][..., 0]
    assert got["images"].shape == (*size, 3)
    np.testing.assert_array_equal(got["labels"][..., 0], picture)
    down, right = np.count_nonzero(picture[:, 0] == 10), np.count_nonzero(picture[0] == 10)
    assert (picture[:down, :right] == 10).all() and (picture[:down, right:] == 20).all()
    assert (picture[down:, :right] == 30).all() and (picture[down:, right:] == 40).all()
    assert 1 <= down < size[0] and 1 <= right < size[1]
    if size == (40, 60):
        assert 10 <= down <= 30 and 15 <= right <= 45
    np.testing.assert_array_equal(got["classes"], [10, 20, 30, 40, -1, -1, -1, -1])
    corners = [(0, 0, right, down), (right, 0, size[1], down), (0, down, right, size[0])]
    np.testing.assert_array_equal(got["boxes"][:4], [*corners, (right, down, *size[::-1])])
    assert not got["boxes"][4:].any()
    assert len({key for key, _ in asked}) == 4
    assert got["image_id"] == 0


def test_joined_objects_are_before_crowds_before_padding_and_keep_their_masks():
    size = (40, 60)
    full, half = np.ones(size, bool), rectangle((0, 0, 30, 40))
    one = example(plain(0), [[0, 0, 60, 40], [0, 0, 60, 20]], [4, -2], [full, half], slots=3)
    other = example(plain(0), [[0, 0, 60, 30]], [5], [half], slots=3)
    empty = example(plain(0), masks=[], slots=2)
    got = numpy(joined([one, empty, other]))
    np.testing.assert_array_equal(got["classes"], [4, 5, -2, -1, -1, -1, -1, -1])
    np.testing.assert_array_equal(got["boxes"][:3, 3], [40, 30, 20])
    assert got["masks"].shape == (3, 56, 56)
    np.testing.assert_array_equal(got["masks"].mean(axis=(1, 2)), [1.0, 0.5, 0.5])
    wider = numpy(joined([other], slots=7))
    assert wider["boxes"].shape == (7, 4) and (wider["classes"] == [5, -1, -1, -1, -1, -1, -1]).all()
    assert joined([{"images": tf.zeros([1, 1, 3])}]) == {}


def test_mixup_is_about_half_of_each_and_has_the_objects_of_both():
    one = example(plain(200), [[1, 2, 3, 4]], [0])
    other = example(plain(100), [[5, 6, 7, 8]], [1])
    greys = []
    for seed in range(50):
        got = numpy(mixup(one, other, tf.constant([seed, 1], tf.int64)))
        assert len(np.unique(got["images"])) == 1 and got["images"].dtype == np.uint8
        greys.append(int(got["images"][0, 0, 0]))
        np.testing.assert_array_equal(got["boxes"][:2], [[1, 2, 3, 4], [5, 6, 7, 8]])
        np.testing.assert_array_equal(got["classes"], [0, 1] + [-1] * 6)
    assert 147 < np.mean(greys) < 153
    assert 3 < np.std(greys) < 10  # of Beta(32, 32), times a hundred, it is 6.2


def pasted(below, above, min_visible=0.3, chosen=None):
    """Copy-paste with the first seed that pastes just what is chosen."""
    for seed in range(200):
        got = numpy(copy_paste(below, above, tf.constant([seed, 1], tf.int64), min_visible))
        took = set(got["classes"]) & {10, 11, 12}
        if chosen is None or took == chosen:
            return got
    raise AssertionError(f"never {chosen}")


def test_pasted_objects_cover_what_lies_below():
    """A triangle upon a rectangle: pixels, masks and boxes by arithmetic."""
    size = (40, 60)
    y, x = np.mgrid[:40, :60]
    below_mask, corner = rectangle((10, 10, 50, 30)), (x >= 30) & (y >= 5) & (y < 35) & (x < 60)
    triangle = corner & (x - 30 >= y - 5)
    below = example(plain(50), [[10, 10, 50, 30]], [0], [below_mask])
    above = example(plain(90), [[30, 5, 60, 35]], [10], [triangle])
    got = pasted(below, above, chosen={10})
    np.testing.assert_array_equal(got["classes"], [0, 10] + [-1] * 6)
    assert ((got["images"][..., 0] == 90) != triangle).sum() <= 15  # along the slope
    rest = below_mask & ~triangle
    assert paste(got["masks"][0], got["boxes"][0], size)[rest].mean() > 0.97
    assert paste(got["masks"][0], got["boxes"][0], size)[triangle].mean() < 0.02
    np.testing.assert_array_equal(got["boxes"][1], [30, 5, 60, 35])
    assert got["boxes"][0][0] == 10 and abs(got["boxes"][0][2] - 50) <= 5
    got = pasted(below, above, chosen=set())
    np.testing.assert_array_equal(got["images"], plain(50))
    np.testing.assert_array_equal(got["boxes"][0], [10, 10, 50, 30])
    np.testing.assert_array_equal(got["masks"][0], below["masks"][0])


def test_a_box_shrinks_to_what_is_left_and_what_lost_too_much_goes():
    below = example(plain(50), [[10, 10, 50, 30]], [0], [rectangle((10, 10, 50, 30))])
    above = example(plain(90), [[40, 0, 60, 40]], [10], [rectangle((40, 0, 60, 40))])
    got = pasted(below, above, min_visible=0.7, chosen={10})
    np.testing.assert_allclose(got["boxes"][0], [10, 10, 40, 30], atol=0.8)
    assert got["masks"][0].mean() > 0.97
    assert (got["images"][..., 0] == np.where(rectangle((40, 0, 60, 40)), 90, 50)).all()
    gone = pasted(below, above, min_visible=0.8, chosen={10})  # a quarter of it is covered
    np.testing.assert_array_equal(gone["classes"], [10] + [-1] * 7)
    assert gone["masks"].shape == (1, 56, 56)
    hidden = example(plain(90), [[0, 0, 60, 40]], [10], [np.ones((40, 60), bool)])
    assert list(pasted(below, hidden, min_visible=0.0, chosen={10})["classes"])[:2] == [10, -1]


def test_what_pasted_objects_leave_less_than_a_pixel_of_goes():
    below = example(plain(50), [[10, 10, 30, 13.5]], [0], [rectangle((10, 10, 30, 14))])
    for bottom, classes in ((12, [0, 10]), (13, [10, -1])):
        above = example(plain(90), [[0, 0, 60, bottom]], [10], [np.ones((40, 60), bool)])
        got = pasted(below, above, min_visible=0.0, chosen={10})
        assert list(got["classes"][:2]) == classes and len(got["masks"]) == 1 + (classes[0] == 0)


def test_crowds_are_never_pasted_and_stay_below():
    crowd = example(plain(90), [[0, 0, 60, 40]], [-2], [np.ones((40, 60), bool)])
    thing = example(plain(50), [[5, 5, 55, 35]], [10], [rectangle((5, 5, 55, 35))])
    for seed in range(5):
        got = numpy(copy_paste(thing, crowd, tf.constant([seed, 0], tf.int64), 0.3))
        assert list(got["classes"]) == [10] + [-1] * 7 and (got["images"] == 50).all()
    got = pasted(crowd, thing, min_visible=0.9, chosen={10})
    np.testing.assert_array_equal(got["classes"], [10, -2] + [-1] * 6)
    np.testing.assert_array_equal(got["boxes"][1], [0, 0, 60, 40])


def test_pictures_without_objects_are_pasted_upon_and_paste_nothing():
    empty = example(plain(50), masks=[])
    thing = example(plain(90), [[5, 5, 15, 15]], [10], [rectangle((5, 5, 15, 15))])
    got = pasted(empty, thing, chosen={10})
    assert ((got["images"][..., 0] == 90) == rectangle((5, 5, 15, 15))).all()
    got = numpy(copy_paste(thing, empty, SEED, 0.3))
    assert (got["images"] == 90).all() and got["classes"][0] == 10
    got = numpy(copy_paste(empty, empty, SEED, 0.3))
    assert got["masks"].shape == (0, 56, 56) and (got["classes"] == -1).all()


@pytest.mark.parametrize("box", [[0.2, 0.3, 0.6, 0.7], [59.5, 39.5, 60, 40], [10.3, 8.6, 31.2, 33.3]])
def test_a_pasted_mask_takes_the_pixels_that_its_mask_has(box):
    samples = (np.hypot(*(np.mgrid[:56, :56] - 27.5)) < 27).astype(np.uint8)
    above = example(plain(90), slots=4) | {"masks": tf.constant(samples[None])}
    above |= {"boxes": tf.constant([box, *[[0.0] * 4] * 3]), "classes": tf.constant([10, -1, -1, -1])}
    below = example(plain(50), masks=[])
    got = pasted(below, above, chosen={10})
    np.testing.assert_array_equal(got["images"][..., 0] == 90, paste(samples, box, (40, 60)))
