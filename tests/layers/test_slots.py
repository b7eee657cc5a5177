import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.layers.slots import SlotDetections, to_boxes, to_numbers

IMAGES = np.zeros([2, 40, 80, 3], np.float32)
SIZE = tf.constant([40, 80])


def test_by_hand():
    box = tf.constant([[8.0, 10, 24, 30]])  # around (16, 20), 20 high and 16 wide
    np.testing.assert_allclose(to_numbers(box, SIZE), [[0.2, 0.5, 0.5, 0.2]], atol=1e-6)
    np.testing.assert_allclose(to_boxes(tf.constant([[0.2, 0.5, 0.5, 0.2]]), SIZE), box, atol=1e-4)
    whole = tf.constant([[0.0, 0, 80, 40]])
    np.testing.assert_allclose(to_numbers(whole, SIZE), [[0.5, 0.5, 1, 1]])


side = st.floats(0, 1, width=32)


@settings(max_examples=60)
@given(st.lists(st.tuples(side, side, side, side), max_size=4), st.integers(1, 2000), st.integers(1, 2000))
def test_boxes_in_the_picture_come_back(corners, height, width):
    corners = np.float32(corners).reshape(-1, 2, 2)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=-1)
    boxes = boxes * np.float32([width, height, width, height])
    size = tf.constant([height, width])
    numbers = to_numbers(tf.constant(boxes), size).numpy()
    assert numbers.shape == boxes.shape
    assert np.all((numbers >= 0) & (numbers <= 1 + 1e-6))
    np.testing.assert_allclose(to_boxes(numbers, size), boxes, atol=1e-5 * max(height, width))


@settings(max_examples=60)
@given(st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4))
def test_whatever_the_numbers_boxes_lie_in_the_picture_and_are_not_reversed(numbers):
    x1, y1, x2, y2 = to_boxes(tf.constant([numbers]), SIZE).numpy()[0]
    assert 0 <= x1 <= x2 <= 80 and 0 <= y1 <= y2 <= 40


def test_a_negative_size_is_none():
    boxes = to_boxes(tf.constant([[0.5, 0.5, -0.5, 0.25], [0.5, 0.5, 0.25, -1.0]]), SIZE)
    np.testing.assert_allclose(boxes, [[30, 20, 50, 20], [40, 15, 40, 25]], atol=1e-4)


def test_any_shape_in_front():
    boxes = np.random.default_rng(0).uniform(0, 40, [2, 3, 5, 4]).astype(np.float32)
    each = np.stack([to_numbers(tf.constant(row), SIZE) for row in boxes.reshape(-1, 5, 4)])
    np.testing.assert_array_equal(to_numbers(tf.constant(boxes), SIZE), each.reshape(boxes.shape))


def logits_of(rows):
    return tf.math.log(tf.constant(rows, tf.float32))


def test_best_first_and_empty_slots_last():
    probabilities = [
        [[0.1, 0.5, 0.4], [0.2, 0.1, 0.7], [0.8, 0.1, 0.1]],  # the last is "no object"
        [[0.3, 0.3, 0.4], [0.2, 0.2, 0.6], [0.1, 0.1, 0.8]],
    ]
    numbers = np.float32([[[0.2, 0.5, 0.5, 0.2], [0.9, 0.9, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]]] * 2)
    answers = SlotDetections()(logits_of(probabilities), numbers, IMAGES)
    answers = {name: values.numpy() for name, values in answers.items()}
    assert answers["num_detections"].tolist() == [2, 0]
    assert answers["classes"].tolist() == [[0, 1, -1], [-1, -1, -1]]
    np.testing.assert_allclose(answers["scores"], [[0.8, 0.5, 0], [0, 0, 0]], atol=1e-6)
    first = [[0, 0, 80, 40], [8, 10, 24, 30], [0, 0, 0, 0]]
    np.testing.assert_allclose(answers["boxes"], [first, np.zeros([3, 4])], atol=1e-4)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4))
def test_answers_are_as_promised(seed, slots, num_classes):
    rng = np.random.default_rng(seed)
    logits = np.float32(rng.normal(size=[2, slots, num_classes + 1]) * 3)
    numbers = np.float32(rng.normal(size=[2, slots, 4]))
    answers = SlotDetections()(logits, numbers, IMAGES)
    boxes, scores, classes, counts = (
        answers[name].numpy() for name in ("boxes", "scores", "classes", "num_detections")
    )
    for picture, count in enumerate(counts):
        found = [row for row in logits[picture] if row.argmax() < num_classes]
        assert count == len(found)
        assert np.all(np.diff(scores[picture]) <= 0)
        assert sorted(classes[picture, :count]) == sorted(row.argmax() for row in found)
        assert np.all(scores[picture, :count] >= 1 / (num_classes + 1) - 1e-6)
        assert not scores[picture, count:].any() and not boxes[picture, count:].any()
        assert np.all(classes[picture, count:] == -1)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_answers_are_of_full_precision(policy):
    kind = policy.removeprefix("mixed_")
    layer = SlotDetections()
    logits, numbers = tf.zeros([2, 3, 4], kind), tf.zeros([2, 3, 4], kind)
    kinds = {name: values.dtype.name for name, values in layer(logits, numbers, IMAGES).items()}
    assert kinds == {
        "boxes": "float32",
        "scores": "float32",
        "classes": "int32",
        "num_detections": "int32",
    }
    symbols = layer(
        *(keras.KerasTensor(x.shape, x.dtype.name) for x in (logits, numbers, tf.constant(IMAGES)))
    )
    for name, values in layer(logits, numbers, IMAGES).items():
        assert (symbols[name].shape, symbols[name].dtype) == (tuple(values.shape), values.dtype.name)
