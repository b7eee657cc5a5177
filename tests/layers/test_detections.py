import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.layers import detections
from kzoo.layers.detections import Detections, non_maximum_suppression

HEIGHT, WIDTH = 50, 80


def plain_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return intersection / union if union > 0 else 0.0


def plain_nms(boxes, scores, classes, score_threshold, nms_threshold, max_detections):
    """Indices of what stays, best first."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if scores[i] > score_threshold and all(
            plain_iou(boxes[i], boxes[j]) <= nms_threshold for j in rivals
        ):
            kept.append(i)
    return kept[:max_detections]


def plain_answers(kept, boxes, scores, classes, max_detections):
    answers = {"boxes": np.zeros([max_detections, 4]), "scores": np.zeros(max_detections)}
    answers |= {"classes": np.full(max_detections, -1), "num_detections": len(kept)}
    for name, values in (("boxes", boxes), ("scores", scores), ("classes", classes)):
        if kept:
            answers[name][: len(kept)] = np.asarray(values)[kept]
    return answers


def assert_answers(answers, expected, picture=0):
    for name, values in expected.items():
        np.testing.assert_allclose(answers[name][picture], values, atol=1e-3, err_msg=name)


whole = st.integers(0, 40)
some_boxes = st.lists(
    st.tuples(whole, whole, st.integers(1, 30), st.integers(1, 30), st.integers(0, 2)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60)
@given(
    entries=some_boxes,
    order=st.randoms(use_true_random=False),
    # No whole boxes of these sides have such an IoU, so that no rounding decides.
    nms_threshold=st.sampled_from([0.0, 0.3 + 1e-4, 0.5 + 1e-4, 1.0]),
    score_threshold=st.sampled_from([0.0, 0.4321, 1.0]),
    max_detections=st.sampled_from([1, 5, 30]),
)
def test_suppression_is_the_plain_one(entries, order, nms_threshold, score_threshold, max_detections):
    boxes = np.float32([[x, y, x + w, y + h] for x, y, w, h, _ in entries])
    classes = np.int32([entry[-1] for entry in entries])
    scores = np.float32([(i + 1) / (len(entries) + 1) for i in range(len(entries))])  # distinct
    order.shuffle(scores)
    options = (score_threshold, nms_threshold, max_detections)
    answers = non_maximum_suppression(*map(tf.constant, (boxes[None], scores[None], classes[None])), *options)
    kept = plain_nms(boxes.astype(float), scores, classes, *options)
    assert_answers(answers, plain_answers(kept, boxes, scores, classes, max_detections))


def suppress(boxes, scores, classes, *, score_threshold=0.05, nms_threshold=0.5, max_detections=4):
    arguments = tf.constant([boxes], tf.float32), tf.constant([scores], tf.float32), tf.constant([classes])
    return non_maximum_suppression(*arguments, score_threshold, nms_threshold, max_detections)


def test_classes_do_not_suppress_each_other():
    answers = suppress([[0, 0, 10, 10]] * 4, [0.5, 0.9, 0.8, 0.7], [0, 1, 1, 90])
    np.testing.assert_array_equal(answers["classes"], [[1, 90, 0, -1]])
    np.testing.assert_allclose(answers["scores"], [[0.9, 0.7, 0.5, 0]])
    np.testing.assert_array_equal(answers["num_detections"], [3])
    assert answers["classes"].dtype == answers["num_detections"].dtype == tf.int32


def test_thresholds_are_exclusive():
    pair = [[0, 0, 10, 10], [0, 0, 10, 5]]  # their IoU is 0.5
    assert suppress(pair, [0.9, 0.5], [0, 0])["num_detections"] == 2
    assert suppress(pair, [0.9, 0.5], [0, 0], nms_threshold=0.49)["num_detections"] == 1
    assert suppress(pair, [0.9, 0.5], [0, 0], score_threshold=0.5)["num_detections"] == 1


def test_nothing_scores_enough():
    answers = suppress([[0, 0, 10, 10]], [0.01], [0])
    expected = plain_answers([], [], [], [], 4)
    assert_answers(answers, expected)


def test_boxes_without_area_neither_suppress_nor_vanish():
    answers = suppress([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]], [0.9, 0.8, 0.7], [0, 0, 0])
    assert answers["num_detections"] == 3


def test_pictures_of_a_batch_are_apart():
    boxes = tf.constant([[[0.0, 0, 10, 10]], [[0, 0, 1, 1]], [[2, 2, 9, 9]]])
    answers = non_maximum_suppression(
        boxes, tf.constant([[0.9], [0.01], [0.3]]), tf.constant([[2], [1], [0]]), 0.05, 0.5, 2
    )
    np.testing.assert_array_equal(answers["num_detections"], [1, 0, 1])
    np.testing.assert_array_equal(answers["classes"], [[2, -1], [-1, -1], [0, -1]])
    np.testing.assert_array_equal(answers["boxes"][2], [[2, 2, 9, 9], [0, 0, 0, 0]])


def heads(seed, levels, num_classes, batch=1):
    """Random logits, deltas and anchors; many anchors reach over the borders of the picture."""
    rng = np.random.default_rng(seed)
    count = sum(levels)
    logits = rng.permutation(np.linspace(-4, 3, batch * count * num_classes)).reshape(
        batch, count, num_classes
    )
    deltas = rng.normal(0, 0.3, [batch, count, 4])
    corners = rng.uniform(-20, [WIDTH, HEIGHT], [count, 2])
    anchors = np.concatenate([corners, corners + rng.uniform(4, 40, [count, 2])], axis=-1)
    split = np.split(anchors, np.cumsum(levels)[:-1])
    by_level = {3 + i: tf.constant(part, tf.float32) for i, part in enumerate(split)}
    return np.float32(logits), np.float32(deltas), by_level


def plain_detections(logits, deltas, anchors, score_threshold, nms_threshold, max_detections, per_level=None):
    """Decodes the pairs of anchor and class one by one, those of each level that score best."""
    boxes, scores, classes, start = [], [], [], 0
    for level in anchors.values():
        pairs = [(a, c) for a in range(len(level)) for c in range(logits.shape[-1])]
        pairs.sort(key=lambda pair: -logits[start + pair[0], pair[1]])
        for a, c in pairs[:per_level]:
            x1, y1, x2, y2 = map(float, level[a])
            dx, dy, dw, dh = map(float, deltas[start + a])
            x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
            w, h = (x2 - x1) * math.exp(dw), (y2 - y1) * math.exp(dh)
            corners = (x - w / 2, WIDTH), (y - h / 2, HEIGHT), (x + w / 2, WIDTH), (y + h / 2, HEIGHT)
            boxes.append([min(max(value, 0.0), most) for value, most in corners])
            scores.append(1 / (1 + math.exp(-logits[start + a, c])))
            classes.append(c)
        start += len(level)
    kept = plain_nms(boxes, scores, classes, score_threshold, nms_threshold, max_detections)
    return plain_answers(kept, boxes, scores, classes, max_detections)


def images(batch=1):
    return tf.zeros((batch, HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("seed", range(4))
def test_are_the_plain_ones(seed):
    logits, deltas, anchors = heads(seed, levels=(12, 8, 1), num_classes=3, batch=2)
    options = (0.3, 0.45, 15)
    answers = Detections(*options)(logits, deltas, anchors, images(2))
    for picture in range(2):
        expected = plain_detections(logits[picture], deltas[picture], anchors, *options)
        assert expected["num_detections"] > 1
        assert_answers(answers, expected, picture)


@pytest.mark.parametrize("num_classes", [1, 4])
def test_only_the_best_candidates_of_each_level(monkeypatch, num_classes):
    monkeypatch.setattr(detections, "CANDIDATES_PER_LEVEL", 10)
    logits, deltas, anchors = heads(5, levels=(40, 20, 2), num_classes=num_classes)
    logits[0, :3] += 10  # the best pairs have their anchors in common
    options = (0.0, 1.0, 200)  # nothing is suppressed
    answers = Detections(*options)(logits, deltas, anchors, images())
    expected = plain_detections(logits[0], deltas[0], anchors, *options, per_level=10)
    assert expected["num_detections"] == 10 + 10 + min(10, 2 * num_classes)
    assert_answers(answers, expected)


@pytest.mark.parametrize("num_classes", [2, 30])
def test_two_steps_find_the_best_of_all_pairs(num_classes):
    """More than a thousand pairs, by a sort of all of them."""
    count = 1500
    logits = np.random.default_rng(1).normal(size=[1, count, num_classes]).astype(np.float32)
    anchors = np.float32([[i, 0, i + 1, 1] for i in range(count)])
    boxes, scores, classes = detections._best_candidates(
        tf.constant(logits), tf.zeros((1, count, 4)), tf.constant(anchors)
    )
    best = np.argsort(-logits.ravel(), kind="stable")[:1000]
    np.testing.assert_array_equal(np.round(boxes[0, :, 0]), best // num_classes)
    np.testing.assert_array_equal(classes[0], best % num_classes)
    np.testing.assert_allclose(scores[0], 1 / (1 + np.exp(-logits.ravel()[best])), rtol=1e-5)


def test_a_box_outside_the_picture_does_not_reach_the_suppression_of_another_class():
    """Classes are kept apart by moving their boxes, which holds only where no coordinate is negative."""
    # Moved by 61 pixels, one more than the largest number, class 1's first box would lie on class 0's.
    anchors = {3: tf.constant([[0.0, 0, 20, 20], [-61, -61, -41, -41], [10, 10, 60, 40]])}
    logits = np.float32([[[4, -9], [-9, 3], [2, 1]]])
    answers = Detections(0.5, 0.5, 10)(logits, tf.zeros((1, 3, 4)), anchors, images())
    expected = plain_detections(logits[0], np.zeros([3, 4]), anchors, 0.5, 0.5, 10)
    assert expected["num_detections"] == 4
    assert_answers(answers, expected)


def test_boxes_are_clipped_to_the_picture():
    anchors = {3: tf.constant([[-9.0, -9, 5, 5], [70, 30, 99, 99], [-99, -99, -9, -9], [200, 200, 300, 300]])}
    logits = np.float32([[[4], [3], [2], [1]]])
    answers = Detections(0.5, 0.5, 4)(logits, tf.zeros((1, 4, 4)), anchors, images())
    expected = [[0, 0, 5, 5], [70, 30, WIDTH, HEIGHT], [0, 0, 0, 0], [WIDTH, HEIGHT, WIDTH, HEIGHT]]
    np.testing.assert_array_equal(answers["boxes"][0], expected)


def test_huge_outputs_make_finite_boxes():
    anchors = {3: tf.constant([[0.0, 0, 20, 20]])}
    answers = Detections(0.05, 0.5, 2)(
        np.float32([[[1e30, -1e30]]]), np.float32([[[0, 0, 1e30, 1e30]]]), anchors, images()
    )
    np.testing.assert_array_equal(answers["boxes"][0], [[0, 0, WIDTH, HEIGHT], [0, 0, 0, 0]])
    np.testing.assert_array_equal(answers["scores"], [[1, 0]])


def test_with_targets_the_answers_are_empty_in_the_same_structure():
    logits, deltas, anchors = heads(0, levels=(12, 8), num_classes=3, batch=2)
    layer = Detections()
    full = layer(logits, deltas, anchors, images(2))
    empty = layer(logits, deltas, anchors, images(2), tf.zeros((2, 1), tf.int32))
    assert {name: (values.dtype, len(values.shape)) for name, values in empty.items()} == {
        name: (values.dtype, len(values.shape)) for name, values in full.items()
    }
    shapes = {"boxes": (2, 0, 4), "scores": (2, 0), "classes": (2, 0), "num_detections": (2,)}
    assert {name: values.shape for name, values in empty.items()} == shapes
    np.testing.assert_array_equal(empty["num_detections"], [0, 0])


def test_configuration_and_symbolic_answers():
    layer = Detections.from_config(Detections(0.1, 0.6, 7).get_config())
    assert (layer.score_threshold, layer.nms_threshold, layer.max_detections) == (0.1, 0.6, 7)
    symbolic = layer(
        keras.KerasTensor((None, 9, 2)),
        keras.KerasTensor((None, 9, 4)),
        {3: keras.KerasTensor((9, 4))},
        keras.KerasTensor((None, 8, 8, 3)),
    )
    assert {name: values.dtype for name, values in symbolic.items()} == {
        "boxes": "float32",
        "scores": "float32",
        "classes": "int32",
        "num_detections": "int32",
    }
