import colorsys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import maximum_filter, minimum_filter

from kzoo.data.augmentation import Augmentation, augment
from kzoo.data.masks import paste, within_box

GEOMETRY = Augmentation(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, min_visible=0.0)
STILL = replace(GEOMETRY, horizontal_flip=0.0, zoom=(1.0, 1.0), aspect=(1.0, 1.0))


def example(picture, boxes=(), image_size=None, slots=3, original_size=None):
    """A picture as the reader hands it on, with the factor of a letterbox."""
    size = original_size or picture.shape[:2]
    scale = min(np.array(image_size or size) / size)
    padded = np.zeros([slots, 4], np.float32)
    padded[: len(boxes)] = np.reshape(boxes, [-1, 4])
    return {
        "images": tf.constant(picture, tf.uint8),
        "boxes": tf.constant(padded),
        "classes": tf.constant([*range(len(boxes))] + [-1] * (slots - len(boxes))),
        "original_size": tf.constant(size, tf.int32),
        "scale": tf.constant([scale, scale], tf.float32),
    }


def extent(inside):
    """xyxy of the pixels that are True."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@cache
def compiled(image_size, settings):
    """As in the pipeline, and faster for many seeds."""
    return tf.function(lambda example, seed: augment(example, seed, image_size, settings))


def run(example, seed, image_size, settings):
    got = compiled(image_size, settings)(example, tf.constant(seed, tf.int64))
    return {name: value.numpy() for name, value in got.items()}


@pytest.mark.parametrize("image_size", [(60, 80), (37, 53), (1, 7), (1, 1)])
def test_nothing_to_change_changes_nothing(image_size):
    picture = np.random.default_rng(0).integers(0, 256, [*image_size, 3])
    got = run(example(picture, [[0, 0, image_size[1], image_size[0]]]), [1, 2], image_size, STILL)
    np.testing.assert_array_equal(got["images"], picture)
    np.testing.assert_array_equal(got["boxes"][0], [0, 0, image_size[1], image_size[0]])


@pytest.mark.parametrize(("height", "width"), [(90, 93), (104, 107), (209, 212), (426, 429)])
def test_rounding_leaves_no_grey_edge_around_a_picture_that_was_shrunk(height, width):
    own = (3 * height + 1, 3 * width + 2)
    given = example(np.full([height, width, 3], 7), original_size=own)
    given["scale"] = tf.constant([height / own[0], width / own[1]])
    assert (run(given, [1, 2], (height, width), STILL)["images"] == 7).all()


@pytest.mark.parametrize("flips", [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_flips_are_exact(flips):
    picture = np.random.default_rng(0).integers(0, 256, [31, 44, 3])
    settings = replace(STILL, vertical_flip=flips[0], horizontal_flip=flips[1])
    got = run(example(picture, [[3, 5, 10, 20]]), [1, 2], (31, 44), settings)
    flipped, box = picture, [3, 5, 10, 20]
    if flips[0]:
        flipped, box = flipped[::-1], [box[0], 31 - box[3], box[2], 31 - box[1]]
    if flips[1]:
        flipped, box = flipped[:, ::-1], [44 - box[2], box[1], 44 - box[0], box[3]]
    np.testing.assert_array_equal(got["images"], flipped)
    np.testing.assert_array_equal(got["boxes"][0], box)


def test_quarter_turns_exchange_rows_and_columns_in_half_of_the_pictures():
    picture = np.random.default_rng(0).integers(0, 256, [40, 40, 3])
    settings = replace(STILL, quarter_turns=True)
    turned = 0
    for seed in range(40):
        got = run(example(picture, [[3, 5, 10, 20]]), [seed, 0], (40, 40), settings)
        if np.array_equal(got["images"], picture):
            np.testing.assert_array_equal(got["boxes"][0], [3, 5, 10, 20])
        else:
            turned += 1
            np.testing.assert_array_equal(got["images"], picture.transpose(1, 0, 2))
            np.testing.assert_array_equal(got["boxes"][0], [5, 3, 20, 10])
    assert 8 <= turned <= 32


@pytest.mark.parametrize("kept_at", [(120, 160), (240, 320)])
@pytest.mark.parametrize("seed", range(12))
def test_boxes_move_with_the_picture(seed, kept_at):
    """A red rectangle: where its pixels are found, there its box and its mask are, whatever was drawn."""
    settings = replace(GEOMETRY, vertical_flip=0.5, quarter_turns=True)
    box = np.array([60, 40, 130, 110])  # of 240 x 320
    inside = np.zeros([240, 320], bool)
    inside[box[1] : box[3], box[0] : box[2]] = True
    step = 240 // kept_at[0]
    inside = inside[::step, ::step]
    picture = np.where(inside[..., None], [255, 0, 0], [0, 0, 255])
    given = example(picture, [box], (100, 120), original_size=(240, 320))
    given |= {"labels": tf.constant(inside[..., None], tf.uint8)}
    got = run(given, [seed, 7], (100, 120), settings)
    assert got["images"].shape == (100, 120, 3) and got["images"].dtype == np.uint8
    red = (got["images"][..., 0] > 127) & (got["images"][..., 2] < 100)
    if not red.any():
        assert (got["classes"] == -1).all() and not got["boxes"].any()
        return
    np.testing.assert_allclose(got["boxes"][0], extent(red), atol=1)
    np.testing.assert_allclose(extent(got["labels"][..., 0] > 0), extent(red), atol=1)
    np.testing.assert_array_equal(got["classes"], [0, -1, -1])
    assert not got["boxes"][1:].any()


def letter(size, box):
    """bool [H, W]: a shape that no flip or turn leaves as it is, which fills its box."""
    mask = np.zeros(size, bool)
    x1, y1, x2, y2 = box
    mask[y1:y2, x1 : x1 + (x2 - x1) // 3] = True
    mask[y1 : y1 + (y2 - y1) // 4, x1:x2] = True
    mask[(y1 + y2) // 2 : (y1 + y2) // 2 + (y2 - y1) // 5, x1 : (x1 + x2) // 2] = True
    return mask


@pytest.mark.parametrize("zoom", [(1.0, 1.0), (0.5, 0.9), (1.5, 2.5)])
@pytest.mark.parametrize("seed", range(10))
def test_a_mask_moves_with_its_picture(seed, zoom):
    """Pasted back it is what becomes of it as a layer of all pixels, flipped, turned, zoomed and cut."""
    settings = replace(GEOMETRY, vertical_flip=0.5, quarter_turns=True, zoom=zoom)
    size, boxes = (200, 200), [[20, 30, 110, 140], [100, 90, 196, 150]]
    full = [letter(size, box) for box in boxes]
    given = example(np.zeros([*size, 3]), boxes)
    samples = np.stack([within_box(mask, box) for mask, box in zip(full, boxes, strict=True)])
    seen = {}
    for label, mask in enumerate(full):
        layer = {"labels": tf.constant(mask[..., None], tf.uint8)}
        seen[label] = run(given | layer, [seed, 5], size, settings)["labels"][..., 0] > 0
    got = run(given | {"masks": tf.constant(samples)}, [seed, 5], size, settings)
    assert got["masks"].shape == (np.count_nonzero(got["classes"] >= 0), 56, 56)
    for mask, box, label in zip(got["masks"], got["boxes"], got["classes"], strict=False):
        pasted = paste(mask, box, size)
        expected = seen.pop(label)
        margin = 2 * np.count_nonzero(expected != np.roll(expected, 1, 0))  # of a sliver all is border
        assert (pasted & expected).sum() / (pasted | expected).sum() > 0.9 or expected.sum() < margin
    assert not any(layer.any() for layer in seen.values())


@pytest.mark.parametrize("flips", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_masks_that_are_not_cut_are_mirrored_to_the_sample(flips):
    settings = replace(STILL, vertical_flip=flips[0], horizontal_flip=flips[1], zoom=(0.71, 0.71))
    samples = (np.random.default_rng(0).random([2, 56, 56]) < 0.5).astype(np.uint8)
    given = example(np.zeros([91, 77, 3]), [[3, 5, 10.3, 20], [0, 0, 77, 91]])
    got = run(given | {"masks": tf.constant(samples)}, [1, 2], (91, 77), settings)
    step = [-1 if flip else 1 for flip in flips]
    np.testing.assert_array_equal(got["masks"], samples[:, :: step[0], :: step[1]])


def test_an_object_goes_with_the_last_sample_of_its_mask():
    """Of boxes of which only a part is seen; a mask has samples in one corner, everywhere, or nowhere."""
    samples = np.zeros([3, 56, 56], np.uint8)
    samples[0, :4, :4] = samples[1] = 1
    settings, gone = replace(STILL, zoom=(2.0, 2.0), min_visible=0.0), 0
    for seed in range(30):
        given = example(np.zeros([80, 80, 3]), [[10, 10, 70, 70]] * 3)
        given["classes"] = tf.constant([0, 1, -2])
        got = run(given | {"masks": tf.constant(samples)}, [seed, 4], (80, 80), settings)
        left, top, _, _ = run(given, [seed, 4], (80, 80), settings)["boxes"][0]
        if left > 0 and top > 0:
            assert 0 in got["classes"]  # the corner is seen
        kept = got["classes"][got["classes"] != -1]
        assert list(kept) in ([0, 1, -2], [1, -2])
        assert [mask.any() for mask in got["masks"]] == [label >= 0 for label in kept]
        gone += 0 not in kept
    assert 0 < gone < 30


def test_a_crowd_region_stays_as_long_as_anything_of_it_is_seen():
    settings = replace(STILL, zoom=(2.0, 2.0), min_visible=0.9)
    crowds = 0
    for seed in range(30):
        given = example(np.zeros([100, 100, 3]), [[30, 30, 70, 70], [20, 20, 70, 70], [0, 0, 5, 5]])
        given["classes"] = tf.constant([3, -2, -2])
        got = run(given, [seed, 3], (100, 100), settings)
        everything = run(given, [seed, 3], (100, 100), replace(settings, min_visible=0.0))
        assert list(got["classes"]).count(-2) == list(everything["classes"]).count(-2) > 0
        crowds += list(got["classes"]).count(-2) == 1
        there = got["classes"] != -1
        assert (np.diff(got["boxes"][there].reshape(-1, 2, 2), axis=1) > 0).all()
    assert crowds > 0


def test_angles_keep_to_their_range_and_boxes_and_labels_turn_with_the_picture():
    """A red disc beside the middle: its angle about the middle is that by which the picture is turned."""
    y, x = np.mgrid[:100, :100] + 0.5
    disc = np.hypot(y - 50, x - 80) < 10
    given = example(np.where(disc[..., None], [255, 0, 0], [0, 0, 255]), [[70, 40, 90, 60]])
    given |= {"labels": tf.constant(disc[..., None], tf.uint8)}
    angles = []
    for seed in range(40):
        got = run(given, [seed, 1], (100, 100), replace(STILL, rotate=25.0))
        red = got["images"][..., 0] > 127
        np.testing.assert_allclose(got["boxes"][0], extent(red), atol=1)
        np.testing.assert_array_equal(got["classes"], [0, -1, -1])
        assert (red == (got["labels"][..., 0] > 0)).mean() > 0.99
        angles.append(np.degrees(np.arctan2(*(np.argwhere(red).mean(axis=0) + 0.5 - 50))))
    assert -25.5 < min(angles) < -18 and 18 < max(angles) < 25.5
    assert abs(np.mean(angles)) < 8


def test_large_scale_jitter_covers_its_range_evenly_and_stays_smooth():
    """At a tenth of its size a fine pattern is the grey that it is from afar."""
    fine = np.where(np.indices([200, 200]).sum(axis=0)[..., None] % 2, 255, 0).repeat(3, axis=-1)
    scales = []
    for seed in range(80):
        given = example(fine, image_size=(100, 100))  # kept at twice the size
        got = run(given, [seed, 1], (100, 100), replace(STILL, zoom=(0.1, 2.0)))
        zoom = got["scale"][0] / 0.5
        scales.append(zoom)
        if zoom < 0.45:
            inside = got["images"][got["images"][..., 0] != 114]
            assert np.abs(inside.astype(int) - 127).max() <= 14 or not len(inside)
    assert 0.1 <= min(scales) < 0.13 and 1.6 < max(scales) <= 2
    assert 0.3 < np.mean(np.less(scales, np.sqrt(0.2))) < 0.7  # in steps of a factor


def partners(number):
    """Other pictures, each of one grey, that has one object of the class that is its number."""
    picture = example(np.full([60, 80, 3], 40 * number), [[20, 20, 60, 40]])
    inside = np.zeros([60, 80], bool)
    inside[20:40, 20:60] = True
    masks = tf.constant(within_box(inside, [20, 20, 60, 40])[None])
    return picture | {"classes": tf.constant([10 * number, -1, -1]), "masks": masks}


@pytest.mark.parametrize(
    ("combining", "own", "others"),
    [
        ({"mosaic": 1.0}, {0}, {10, 20, 30}),
        ({"copy_paste": 1.0}, {0}, {40}),
        ({"mixup": 1.0}, {0}, {50}),
        ({"mosaic": 1.0, "copy_paste": 1.0, "mixup": 1.0}, {0}, {10, 20, 30, 40, 50}),
        ({"mosaic": 1e-9, "copy_paste": 1e-9, "mixup": 1e-9}, {0}, set()),
    ],
)
def test_combined_pictures_are_made_of_those_they_should_be(combining, own, others):
    settings = replace(STILL, min_visible=0.01, **combining)
    given = partners(0)
    seen, pictures = set(), set()
    draw = tf.function(lambda seed: augment(given, seed, (60, 80), settings, partners))
    for seed in range(30):
        got = {name: value.numpy() for name, value in draw(tf.constant([seed, 2], tf.int64)).items()}
        there = got["classes"][got["classes"] >= 0]
        seen |= set(there)
        pictures.add(got["images"].tobytes())
        slots = 3 * (1 + 3 * ("mosaic" in combining)) + 3 * ("mixup" in combining)
        assert got["boxes"].shape == (slots + 3 * ("copy_paste" in combining), 4)
        assert got["images"].shape == (60, 80, 3) and len(got["masks"]) == len(there)
        boxes = got["boxes"][: len(there)]
        assert (boxes >= 0).all() and (boxes[:, 2:] <= [80, 60]).all() and (boxes[:, :2] < boxes[:, 2:]).all()
        again = draw(tf.constant([seed, 2], tf.int64))
        np.testing.assert_array_equal(got["images"], again["images"])
        np.testing.assert_array_equal(got["boxes"], again["boxes"])
    assert seen == own | others
    assert (len(pictures) > 1) == bool(others)


def test_a_mosaic_takes_two_pixels_a_side():
    with pytest.raises(ValueError, match=r"image_size=\(1, 80\).*two pixels"):
        augment(partners(0), tf.constant([1, 2], tf.int64), (1, 80), replace(STILL, mosaic=0.5), partners)


def test_zoom_keeps_to_its_range_and_a_smaller_picture_lies_wholly_in_view():
    scales = []
    for seed in range(60):
        given = example(np.zeros([50, 50, 3]), [[0, 0, 50, 50]], (50, 50))
        got = run(given, [seed, 1], (50, 50), replace(STILL, zoom=(0.5, 1.0)))
        scales.append(got["scale"][0])
        x1, y1, x2, y2 = got["boxes"][0]
        np.testing.assert_allclose([x2 - x1, y2 - y1], 50 * got["scale"][::-1], atol=1e-3)
    assert 0.5 <= min(scales) < 0.55
    assert 0.92 < max(scales) <= 1.0


def test_a_larger_picture_covers_the_whole_view():
    for seed in range(20):
        got = run(example(np.full([50, 50, 3], 7)), [seed, 1], (50, 50), replace(STILL, zoom=(1.5, 2.0)))
        assert (got["images"][1:-1, 1:-1] == 7).all()


def test_boxes_hardly_in_view_are_left_out_and_the_others_close_ranks():
    boxes = [[0, 0, 4, 4], [30, 30, 70, 70], [96, 96, 100, 100]]
    settings = replace(STILL, zoom=(2.0, 2.0), min_visible=0.5)
    left_out = 0
    for seed in range(30):
        given = example(np.zeros([100, 100, 3]), boxes)
        got = run(given, [seed, 3], (100, 100), settings)
        all_of_them = run(given, [seed, 3], (100, 100), replace(settings, min_visible=0.0))
        here = got["classes"] >= 0
        assert (np.diff(here.astype(int)) <= 0).all()
        assert not got["boxes"][~here].any() and (got["classes"][~here] == -1).all()
        for box, label in zip(all_of_them["boxes"], all_of_them["classes"], strict=True):
            if label < 0:
                continue
            whole = np.prod(2 * np.diff(np.reshape(boxes[label], [2, 2]), axis=0))
            visible = np.prod(box[2:] - box[:2]) / whole
            assert (label in got["classes"]) == (visible >= 0.5)
            left_out += visible < 0.5
    assert left_out > 0


def test_colour_moves_as_each_setting_says():
    grey, colour = np.full([4, 4, 3], 60), np.broadcast_to([200, 100, 50], [4, 4, 3])

    def draw(picture, **strengths):
        seen = [
            run(example(picture), [s, 0], (4, 4), replace(STILL, **strengths))["images"] for s in range(50)
        ]
        assert all((one == one[0, 0]).all() for one in seen)
        return np.array([one[0, 0] for one in seen], int)

    bright = draw(grey, brightness=0.2)
    assert bright.min() >= 60 - 51 and bright.max() <= 60 + 51 and np.ptp(bright) > 60
    contrast = draw(grey, contrast=0.5)  # away from 127.5, or towards it
    assert contrast.min() >= 26 and contrast.max() <= 94 and np.ptp(contrast) > 40
    assert (draw(grey, saturation=0.9, hue=0.5) == 60).all()  # grey has neither
    saturated = draw(colour, saturation=0.3)
    assert np.abs(saturated.mean(1) - 350 / 3).max() <= 1 and np.ptp(saturated[:, 0]) > 30
    hues = [colorsys.rgb_to_hsv(*(one / 255))[0] for one in draw(colour, hue=0.1)]
    assert np.ptp(hues) > 0.1 and np.min(np.unwrap(hues, period=1)) > 1 / 18 - 0.12


def test_colours_saturate_instead_of_wrapping_round():
    picture = np.broadcast_to([255, 0, 128], [4, 4, 3])
    for seed in range(30):
        got = run(example(picture), [seed, 0], (4, 4), replace(STILL, contrast=1.0, brightness=0.5))["images"]
        assert got[0, 0, 0] >= got[0, 0, 2] >= got[0, 0, 1]


def test_the_same_seed_gives_the_same_picture_and_another_one_another():
    given = example(np.random.default_rng(0).integers(0, 256, [30, 40, 3]), [[5, 5, 20, 20]])
    first, again, other = (run(given, seed, (30, 40), Augmentation()) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first["images"], again["images"])
    np.testing.assert_array_equal(first["boxes"], again["boxes"])
    assert (first["images"] != other["images"]).any()


def coded(size, classes=5):
    """A picture whose colour is its label: blobs of some pixels, and the layers of it alone."""
    rng = np.random.default_rng(3)
    labels = rng.integers(1, classes + 1, [-(-size[0] // 20), -(-size[1] // 20)])
    labels = labels.repeat(20, 0).repeat(20, 1)[: size[0], : size[1], None].astype(np.uint8)
    layers = {"images": (labels * 40).repeat(3, axis=-1), "labels": labels, "borders": labels * 40}
    given = {name: tf.constant(layer) for name, layer in layers.items()}
    return given | {"original_size": tf.constant(size), "scale": tf.constant([1.0, 1.0])}


@pytest.mark.parametrize("seed", range(6))
def test_without_displacement_the_deformed_picture_is_the_plain_one(seed):
    settings = replace(GEOMETRY, vertical_flip=0.5, quarter_turns=True, zoom=(1.0, 2.0), aspect=(1.0, 1.0))
    given = coded((50, 50))
    plain, deformed = (run(given, [seed, 0], (50, 50), replace(settings, elastic=e)) for e in (0.0, 1e-7))
    assert plain.keys() == deformed.keys()
    for name in ("images", "borders", "labels"):
        assert (plain[name].dtype, plain[name].shape) == (deformed[name].dtype, deformed[name].shape)
        one, two = (layers[name][1:-1, 1:-1].astype(int) for layers in (plain, deformed))
        assert np.abs(one - two).max() <= 1 if name != "labels" else (one != two).mean() < 0.01
    np.testing.assert_array_equal(plain["scale"], deformed["scale"])
    still = run(given, [seed, 0], (50, 50), replace(STILL, elastic=1e-7))
    for name in ("images", "borders", "labels"):
        np.testing.assert_array_equal(still[name], given[name])


@pytest.mark.parametrize("kept_at", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_deformed_labels_and_borders_stay_with_their_picture(seed, kept_at):
    settings = replace(GEOMETRY, vertical_flip=0.5, quarter_turns=True, zoom=(0.6, 1.4), elastic=3.0)
    given = coded((80, 100))
    given |= {name: given[name][::kept_at, ::kept_at] for name in ("images", "labels", "borders")}
    got = run(given, [seed, 1], (72, 96), settings)
    labels, image = got["labels"][..., 0].astype(int), got["images"][..., 0].astype(int)
    assert got["images"].shape == (72, 96, 3) and got["labels"].shape == got["borders"].shape == (72, 96, 1)
    width = 1 + 4 * kept_at  # around a border between labels colours mix
    inner = minimum_filter(labels, width) == maximum_filter(labels, width)
    assert inner.mean() > 0.3
    expected = np.where(labels > 0, labels * 40, 114)
    np.testing.assert_allclose(image[inner], expected[inner], atol=1)
    np.testing.assert_allclose(got["borders"][..., 0][inner], labels[inner] * 40, atol=1)
    assert ((image == 114) == (labels == 0)).mean() > 0.98


@pytest.mark.parametrize("larger", [1, 2])
def test_displacements_are_smooth_and_as_strong_as_told(larger):
    """A picture that tells the place of each pixel tells where it was taken from, kept larger or not."""
    rows, columns = np.mgrid[:64, :64]
    places = np.stack([rows, columns, rows], axis=-1) * 3 + 20
    kept = places.repeat(larger, 0).repeat(larger, 1)
    given = example(kept, original_size=(64, 64))
    drawn = []
    for seed in range(40):
        got = run(given, [seed, 2], (64, 64), replace(STILL, elastic=3.0))["images"]
        moved = (got.astype(float) - places)[..., :2] / 3
        drawn.append(moved[32, 32])
        assert np.abs(np.diff(moved[20:44, 20:44], axis=0)).max() < 1.5
    assert 2.2 < np.std(drawn) < 3.8  # the middle is a point of the grid
    assert np.ptp(drawn, axis=0).min() > 6
    assert abs(np.corrcoef(np.transpose(drawn))[0, 1]) < 0.5


def test_the_same_seed_deforms_alike():
    given = coded((40, 40))
    first, again, other = (
        run(given, seed, (40, 40), Augmentation(elastic=4.0)) for seed in ([1, 2], [1, 2], [1, 3])
    )
    for name in ("images", "labels", "borders"):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"horizontal_flip": 1.5},
        {"hue": -0.1},
        {"elastic": -1.0},
        {"rotate": -1.0},
        {"rotate": 181.0},
        {"mosaic": 1.1},
        {"mixup": "always"},
        {"copy_paste": -0.1},
        {"elastic": float("inf")},
        {"min_visible": float("nan")},
        {"zoom": (0.0, 1.0)},
        {"zoom": 1.2},
        {"zoom": (2.0, 1.0)},
        {"aspect": (1.0, float("inf"))},
        {"aspect": (1.0,)},
        {"zoom": ("a", "b")},
        {"aspect": (True, 2.0)},
        {"quarter_turns": "no"},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=name) as raised:
        Augmentation(**wrong)
    assert repr(value) in str(raised.value)
