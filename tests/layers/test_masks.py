import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kzoo.data import masks as outside_the_graph
from kzoo.layers.masks import Masks, PickMaskRegions, centres, masks_at, masks_of_classes
from kzoo.layers.matching import CROWD


def plain_value(mask, box, x, y):
    """The value of a mask [m, n], told within its box, at a point of the picture."""
    x1, y1, x2, y2 = (float(side) for side in box)
    if not (x1 < x2 and y1 < y2 and x1 <= x < x2 and y1 <= y < y2):
        return 0.0
    place = []
    for point, low, high, samples in ((y, y1, y2, mask.shape[0]), (x, x1, x2, mask.shape[1])):
        place.append(min(max((point - low) / (high - low) * samples - 0.5, 0.0), samples - 1.0))
    (i, j), (y, x) = map(math.floor, place), place
    down, right = min(i + 1, mask.shape[0] - 1), min(j + 1, mask.shape[1] - 1)
    y, x = y - i, x - j
    return float(
        (mask[i, j] * (1 - x) + mask[i, right] * x) * (1 - y)
        + (mask[down, j] * (1 - x) + mask[down, right] * x) * y
    )


def plain_paste(mask, box, height, width):
    return np.array([[plain_value(mask, box, x + 0.5, y + 0.5) for x in range(width)] for y in range(height)])


def random_masks(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def test_centres_by_hand():
    x, y = centres(tf.constant([[0.0, 10, 8, 12], [3, 3, 3, 3], [-2, 0, 2, 1]]), 4)
    np.testing.assert_allclose(x, [[1, 3, 5, 7], [3, 3, 3, 3], [-1.5, -0.5, 0.5, 1.5]])
    np.testing.assert_allclose(y, [[10.25, 10.75, 11.25, 11.75], [3, 3, 3, 3], [0.125, 0.375, 0.625, 0.875]])
    x, y = centres(tf.zeros([0, 4]), 3)
    assert x.shape == y.shape == (0, 3)


corner = st.floats(-20, 20, width=32)


@settings(max_examples=60)
@given(
    box=st.tuples(corner, corner, corner, corner),  # reversed ones, too
    x=st.lists(st.floats(-22, 22, width=32), min_size=1, max_size=4),
    y=st.lists(st.floats(-22, 22, width=32), min_size=1, max_size=4),
    samples=st.integers(1, 5),
)
def test_values_between_samples_are_the_plain_ones(box, x, y, samples):
    assume(not any(0 < high - low < 0.01 for low, high in (box[::2], box[1::2])))  # rounding would decide
    masks = random_masks(1, samples, samples)
    values = masks_at(masks, np.float32([box]), np.float32([x]), np.float32([y]))[0]
    expected = [[plain_value(masks[0], np.float32(box), a, b) for a in x] for b in y]
    np.testing.assert_allclose(values, expected, atol=1e-3)


def test_values_by_hand():
    mask, box = np.float32([[[0, 1], [0.5, 0]]]), np.float32([[10, 20, 14, 28]])  # samples at 11, 13; 22, 26
    x = np.float32([[9.9, 10, 10.5, 11, 12, 12.5, 13, 13.9, 14]])
    values = masks_at(mask, box, x, np.float32([[19.9, 20, 22, 24, 26, 27.9, 28]]))[0].numpy()
    top, bottom = [0, 0, 0, 0, 0.5, 0.75, 1, 1, 0], [0, 0.5, 0.5, 0.5, 0.25, 0.125, 0, 0, 0]
    middle = np.add(top, bottom) / 2
    nothing = np.zeros(9)
    np.testing.assert_allclose(values, [nothing, top, top, middle, bottom, bottom, nothing], atol=1e-6)


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [0, 5, 10, 5], [5, 0, 5, 10], [10, 10, 0, 0], [10, 0, 0, 10]])
def test_in_a_box_without_area_there_is_nothing(box):
    points = np.float32([[0, 4.5, 5, 5.5, 10]])
    values = masks_at(np.ones([1, 3, 3], np.float32), np.float32([box]), points, points)
    np.testing.assert_array_equal(values, np.zeros([1, 5, 5]))


def test_samples_of_the_same_box_are_the_mask_itself():
    masks, boxes = random_masks(2, 5, 5), np.float32([[3, 4, 17, 11], [100.25, 7, 103, 300]])
    np.testing.assert_allclose(masks_at(masks, boxes, *centres(tf.constant(boxes), 5)), masks, atol=1e-3)
    assert masks_at(
        masks[:0], boxes[:0], np.zeros([0, 3], np.float32), np.zeros([0, 2], np.float32)
    ).shape == (0, 2, 3)


def test_masks_of_classes():
    masks = random_masks(4, 3, 3, 5)
    expected = [masks[0, :, :, 4], masks[1, :, :, 0], masks[2, :, :, 2], masks[3, :, :, 2]]
    np.testing.assert_array_equal(masks_of_classes(masks, [4, 0, 2, 2]), expected)


OBJECTS = np.float32(
    [[[0, 0, 20, 20], [40, 40, 60, 60], [0, 0, 0, 0]], [[10, 0, 30, 20], [70, 0, 99, 20], [0] * 4]]
)
LABELS = np.int32([[2, 0, -1], [1, CROWD, -1]])
REGIONS = np.float32(
    [
        [[41, 40, 60, 60], [0, 1, 20, 20], [80, 80, 90, 90], [40, 40, 61, 61]],
        [[70, 0, 99, 20], [0, 0, 0, 0], [10, 0, 30, 40], [5, 5, 9, 9]],  # in a crowd; padding; a half
    ]
)
NO_DETECTIONS = {"boxes": tf.zeros([2, 0, 4]), "classes": tf.zeros([2, 0], tf.int32)}


def pick(*inputs, most_positives):
    picks = PickMaskRegions(most_positives)(*inputs)
    assert [picks[name].dtype for name in ("regions", "pictures", "places")] == [
        tf.float32,
        tf.int32,
        tf.int32,
    ]
    return {name: value.numpy().tolist() for name, value in picks.items()}


def test_positives_are_picked_to_learn_from():
    picks = pick(REGIONS, NO_DETECTIONS, OBJECTS, LABELS, most_positives=3)
    assert picks == {
        "regions": [[41, 40, 60, 60], [0, 1, 20, 20], [10, 0, 30, 40]],
        "pictures": [0, 0, 1],
        "places": [[0, 0], [0, 1], [1, 2]],
    }


def test_only_the_first_regions_are_looked_at():
    picks = pick(REGIONS, NO_DETECTIONS, OBJECTS, LABELS, most_positives=1)
    assert picks["regions"] == [[41, 40, 60, 60]]
    assert pick(REGIONS, NO_DETECTIONS, OBJECTS, LABELS, most_positives=100)["places"] == [
        [0, 0],
        [0, 1],
        [0, 3],
        [1, 2],
    ]


def test_no_positive_leaves_the_empty_region():
    picks = pick(REGIONS, NO_DETECTIONS, OBJECTS, np.full([2, 3], -1, np.int32), most_positives=3)
    assert picks == {"regions": [[0, 0, 0, 0]], "pictures": [0], "places": [[0, 3]]}


DETECTIONS = {
    "boxes": np.float32([[[1, 2, 9, 8], [5, 5, 12, 16], [0] * 4], [[3, 3, 11, 9], [0] * 4, [0] * 4]]),
    "scores": np.float32([[0.9, 0.8, 0], [0.7, 0, 0]]),
    "classes": np.int32([[3, 0, -1], [1, -1, -1]]),
    "num_detections": np.int32([2, 1]),
}
PICKS = {
    "regions": [[1, 2, 9, 8], [5, 5, 12, 16], [3, 3, 11, 9]],
    "pictures": [0, 0, 1],
    "places": [[0, 0], [0, 1], [1, 0]],
}


def test_detections_are_picked_to_answer():
    for targets in ((None, None), (OBJECTS, None), (None, LABELS)):
        assert pick(REGIONS, DETECTIONS, *targets, most_positives=1) == PICKS


def test_no_detection_and_no_picture():
    nothing = {"boxes": np.zeros([2, 3, 4], np.float32), "classes": np.full([2, 3], -1, np.int32)}
    assert pick(REGIONS, nothing, most_positives=1) == {
        "regions": [[0, 0, 0, 0]],
        "pictures": [0],
        "places": [[0, 3]],
    }
    none = {name: value[:0] for name, value in DETECTIONS.items()}
    for targets in ((), (OBJECTS[:0], LABELS[:0])):
        picks = PickMaskRegions(2)(REGIONS[:0], none, *targets)
        assert {name: value.shape.as_list() for name, value in picks.items()} == {
            "regions": [0, 4],
            "pictures": [0],
            "places": [0, 2],
        }


HEIGHT, WIDTH = 18, 14
IMAGES = np.zeros([2, HEIGHT, WIDTH, 3], np.uint8)
LOGITS = np.random.default_rng(1).normal(size=[3, 6, 6, 4]).astype(np.float32) * 4
TENSORS = {
    "regions": np.float32(PICKS["regions"]),
    "pictures": np.int32(PICKS["pictures"]),
    "places": np.int32(PICKS["places"]),
}


def of_detections():
    """Which pick is which detection's, and the probabilities of its class."""
    for n, (b, i) in enumerate(PICKS["places"][:3]):
        yield n, b, i, 1 / (1 + np.exp(-LOGITS[n, :, :, DETECTIONS["classes"][b, i]].astype(float)))


def test_masks_of_the_detections_class_at_the_detections_place():
    masks = Masks()(LOGITS, TENSORS, DETECTIONS, IMAGES)
    expected = np.zeros([2, 3, 6, 6])
    for _, b, i, probabilities in of_detections():
        expected[b, i] = probabilities
    assert masks.dtype == tf.float32
    np.testing.assert_allclose(masks, expected, atol=1e-6)


def test_pasted_masks_are_in_pixels_of_the_picture():
    masks = Masks(paste=True)(LOGITS, TENSORS, DETECTIONS, IMAGES)
    expected = np.zeros([2, 3, HEIGHT, WIDTH])
    for n, b, i, probabilities in of_detections():
        expected[b, i] = plain_paste(probabilities, PICKS["regions"][n], HEIGHT, WIDTH)
    assert masks.dtype == tf.uint8
    decided = np.abs(expected - 0.5) > 1e-4
    assert decided.all(axis=(2, 3)).sum() >= 5
    np.testing.assert_array_equal(masks.numpy()[decided], (expected >= 0.5)[decided])
    assert 0 < masks.numpy()[0, 0].mean() < 0.5


@pytest.mark.parametrize(("paste", "size"), [(False, (6, 6)), (True, (HEIGHT, WIDTH))])
def test_with_targets_there_are_none(paste, size):
    masks = Masks(paste)(LOGITS, TENSORS, DETECTIONS, IMAGES, LABELS)
    assert masks.shape == (2, 0, *size)
    assert masks.dtype == (tf.uint8 if paste else tf.float32)


@pytest.mark.parametrize(("paste", "size"), [(False, (6, 6)), (True, (HEIGHT, WIDTH))])
def test_masks_of_no_detection_and_of_no_picture(paste, size):
    empty = {"classes": np.full([2, 3], -1, np.int32), "boxes": np.zeros([2, 3, 4], np.float32)}
    picks = PickMaskRegions(1)(REGIONS, empty)
    masks = Masks(paste)(LOGITS[:1], picks, empty, IMAGES)
    np.testing.assert_array_equal(masks, np.zeros([2, 3, *size]))
    none = {name: value[:0] for name, value in empty.items()}
    masks = Masks(paste)(LOGITS[:0], PickMaskRegions(1)(REGIONS[:0], none), none, IMAGES[:0])
    assert masks.shape == (0, 3, *size)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_logits_are_pasted_in_float32(dtype):
    """Boxes at 2000.25 pixels and more, which are no numbers of float16."""
    far = DETECTIONS | {"boxes": DETECTIONS["boxes"] + np.float32([2000.25, 0, 2000.25, 0])}
    picks = PickMaskRegions(1, dtype=f"mixed_{dtype}")(REGIONS, far)
    logits = tf.cast(LOGITS, dtype)
    images = np.zeros([2, HEIGHT, 2000 + WIDTH, 3], np.uint8)
    found = Masks(paste=True, dtype=f"mixed_{dtype}")(logits, picks, far, images).numpy()[0, 0, :, 2000:]
    probabilities = 1 / (1 + np.exp(-tf.cast(logits, tf.float32).numpy()[0, :, :, 3]))
    expected = plain_paste(probabilities, [1.25, 2, 9.25, 8], HEIGHT, WIDTH)
    decided = np.abs(expected - 0.5) > 1e-3
    np.testing.assert_array_equal(found[decided], (expected >= 0.5)[decided])
    assert Masks(dtype=f"mixed_{dtype}")(logits, picks, far, images).dtype == tf.float32


@settings(max_examples=40)
@given(
    corners=st.tuples(*[st.integers(-20, 80)] * 4),
    samples=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_pasting_is_that_outside_the_graph(corners, samples, seed):
    """Up to probabilities of a half; also with the centres of pixels on the very border of the box."""
    x1, y1, x2, y2 = (corner / 4 for corner in corners)
    box = np.float32([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])
    logits = np.random.default_rng(seed).normal(size=[1, samples, samples, 1]).astype(np.float32) * 3
    picks = {"regions": box[None], "pictures": np.int32([0]), "places": np.int32([[0, 0]])}
    detections = {"classes": np.int32([[0]]), "boxes": box[None, None]}
    found = Masks(paste=True)(logits, picks, detections, IMAGES[:1]).numpy()[0, 0]
    probabilities = 1 / (1 + np.exp(-logits[0, :, :, 0]))
    twin = outside_the_graph.paste(probabilities, box, (HEIGHT, WIDTH))
    value = plain_paste(probabilities, box, HEIGHT, WIDTH)
    decided = np.abs(value - 0.5) > 1e-4
    np.testing.assert_array_equal(found[decided], (value >= 0.5)[decided])
    np.testing.assert_array_equal(twin[decided], (value >= 0.5)[decided])


def test_true_masks_and_answers_are_told_at_the_same_places():
    """Samples that the data makes of a mask in pixels come back as the pixels that they were."""
    mask = np.zeros([HEIGHT, WIDTH], bool)
    mask[3:9, 2:10] = True
    mask[5:7, 4:7] = False
    box = np.float32([2, 3, 10, 9])
    samples = outside_the_graph.within_box(mask, box, 56)
    logits = np.where(samples, 9.0, -9.0).astype(np.float32)[None, :, :, None]
    picks = {"regions": box[None], "pictures": np.int32([0]), "places": np.int32([[0, 0]])}
    detections = {"classes": np.int32([[0]]), "boxes": box[None, None]}
    found = Masks(paste=True)(logits, picks, detections, IMAGES[:1])
    np.testing.assert_array_equal(found[0, 0], mask)


@pytest.mark.parametrize("paste", [False, True])
def test_sizes_that_are_known_late(paste):
    layer = Masks(paste)
    spec = tf.TensorSpec

    @tf.function(
        input_signature=[
            spec((None, None, None, 4)),
            {
                "regions": spec((None, 4)),
                "pictures": spec((None,), tf.int32),
                "places": spec((None, 2), tf.int32),
            },
            {"boxes": spec((None, None, 4)), "classes": spec((None, None), tf.int32)},
            spec((None, None, None, 3), tf.uint8),
        ]
    )
    def late(logits, picks, detections, images):
        return layer(logits, picks, detections, images)

    arguments = tf.nest.map_structure(
        tf.constant, (LOGITS, TENSORS, {name: DETECTIONS[name] for name in ("boxes", "classes")}, IMAGES)
    )
    np.testing.assert_allclose(late(*arguments), layer(LOGITS, TENSORS, DETECTIONS, IMAGES), atol=1e-6)


def test_masks_are_pasted_into_the_boxes_of_the_answers():
    """Where pictures are resized within the model, regions are in other pixels than the answers."""
    resized = np.zeros([2, 2 * HEIGHT, 3 * WIDTH, 3], np.uint8)
    moved = DETECTIONS | {"boxes": DETECTIONS["boxes"] * np.float32([3, 2, 3, 2])}
    found = Masks(paste=True)(LOGITS, TENSORS, moved, resized)
    picks = PickMaskRegions(1)(REGIONS, moved)
    np.testing.assert_array_equal(found, Masks(paste=True)(LOGITS, picks, moved, resized))
    assert np.any(found)


def test_configuration():
    picker = PickMaskRegions.from_config(PickMaskRegions(7, name="picks").get_config())
    assert (picker.most_positives, picker.name) == (7, "picks")
    layer = Masks.from_config(Masks(paste=True).get_config())
    assert layer.paste
    detections = {
        "boxes": keras.KerasTensor((None, None, 4)),
        "classes": keras.KerasTensor((None, None), "int32"),
    }
    picks = picker(keras.KerasTensor((None, None, 4)), detections)
    assert picks["regions"].shape == (None, 4)
    arguments = (
        keras.KerasTensor((None, 28, 28, 3)),
        picks,
        detections,
        keras.KerasTensor((None, None, 64, 3)),
    )
    pasted, told = layer(*arguments), Masks()(*arguments)
    assert (pasted.shape, pasted.dtype) == ((None, None, None, 64), "uint8")
    assert (told.shape, told.dtype) == ((None, None, 28, 28), "float32")
