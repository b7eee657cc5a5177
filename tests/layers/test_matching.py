import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.layers.matching import BACKGROUND, CROWD, IGNORED, Match, match

ANCHORS = np.float32([[0, 0, 10, 10], [10, 0, 20, 10], [0, 10, 10, 20], [40, 40, 60, 60]])


def plain_iou(a, b):
    """In float32 as in the code under test, so that ties are ties there, too."""
    a, b = np.float32(a), np.float32(b)
    intersection = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [max(c[2] - c[0], 0) * max(c[3] - c[1], 0) for c in (a, b)]
    union = np.float32(sum(areas) - intersection)
    return np.float32(intersection) / union if union else np.float32(0)


def plain_match(anchors, boxes, classes, match_best, positive=0.5, negative=0.4):
    """The rules, anchor by anchor."""
    objects = [g for g, label in enumerate(classes) if label >= 0]
    iou = {(g, a): plain_iou(boxes[g], anchors[a]) for g in objects for a in range(len(anchors))}
    matches = []
    for a in range(len(anchors)):
        most = max((iou[g, a] for g in objects), default=np.float32(-1))
        best_of = [g for g in objects if iou[g, a] == max(iou[g, b] for b in range(len(anchors))) > 0]
        if match_best and best_of:
            matches.append(max(best_of, key=lambda g: iou[g, a]))  # the first of equals
        elif most >= np.float32(positive):
            matches.append(next(g for g in objects if iou[g, a] == most))
        else:
            matches.append(BACKGROUND if most < np.float32(negative) else IGNORED)
    return matches


# On a grid of 4 pixels, where many overlaps are equal.
grid = st.integers(0, 6).map(lambda n: 4 * n)
grid_boxes = st.tuples(grid, grid, st.integers(0, 4), st.integers(0, 4)).map(
    lambda b: (b[0], b[1], b[0] + 4 * b[2], b[1] + 4 * b[3])
)
anchor_boxes = grid_boxes.filter(lambda b: b[2] > b[0] and b[3] > b[1])


@given(
    anchors=st.lists(anchor_boxes, min_size=1, max_size=8),
    objects=st.integers(0, 4).flatmap(
        lambda count: st.lists(
            st.lists(st.tuples(grid_boxes, st.integers(-1, 2)), min_size=count, max_size=count),
            min_size=2,
            max_size=2,
        )
    ),
    match_best=st.booleans(),
)
def test_is_the_plain_matcher(anchors, objects, match_best):
    boxes = np.float32([[b for b, _ in picture] for picture in objects]).reshape(2, -1, 4)
    classes = np.int32([[label for _, label in picture] for picture in objects]).reshape(2, -1)
    matches = match(tf.constant(anchors, tf.float32), boxes, classes, 0.5, 0.4, match_best)
    expected = [plain_match(anchors, b, c, match_best) for b, c in zip(boxes, classes, strict=True)]
    np.testing.assert_array_equal(matches, expected)


def matches_of(boxes, classes, *, match_best):
    return (
        match(
            tf.constant(ANCHORS),
            tf.constant([boxes], tf.float32),
            tf.constant([classes]),
            0.5,
            0.4,
            match_best,
        )
        .numpy()[0]
        .tolist()
    )


def test_thresholds_by_hand():
    # IoU with the first anchor: 0.5 (the limit), then 0.45, then 0.4 (the limit), then 0.39.
    for height, expected in [(5.0, 0), (4.5, IGNORED), (4.0, IGNORED), (3.9, BACKGROUND)]:
        boxes = [[0, 0, 10, height]]
        assert matches_of(boxes, [0], match_best=False) == [expected, BACKGROUND, BACKGROUND, BACKGROUND]
        assert matches_of(boxes, [0], match_best=True) == [0, BACKGROUND, BACKGROUND, BACKGROUND]


def test_an_object_keeps_all_of_its_equally_best_anchors():
    boxes = [[6, 6, 14, 8]]  # as much of the first anchor as of the second, and little of both
    assert matches_of(boxes, [1], match_best=True) == [0, 0, BACKGROUND, BACKGROUND]
    assert matches_of(boxes, [1], match_best=False) == [BACKGROUND] * 4


def test_an_object_keeps_its_best_anchor_though_that_overlaps_another_more():
    anchors = tf.constant([[0, 0, 10, 10], [0, 0, 10, 12]], tf.float32)
    boxes = tf.constant(
        [[[0, 0, 10, 12], [0, 0, 4, 4]]], tf.float32
    )  # the second is best served by the first
    assert match(anchors, boxes, tf.constant([[0, 0]]), 0.5, 0.4, True).numpy().tolist() == [[1, 0]]
    assert match(anchors, boxes, tf.constant([[0, 0]]), 0.5, 0.4, False).numpy().tolist() == [[0, 0]]


def test_an_anchor_that_is_the_best_of_two_objects_answers_for_the_one_it_overlaps_most():
    boxes = [[0, 0, 10, 10], [2, 2, 4, 4]]
    assert matches_of(boxes, [0, 0], match_best=True) == [0, BACKGROUND, BACKGROUND, BACKGROUND]


def test_of_equally_near_objects_the_first():
    assert matches_of([[0, 0, 10, 10]] * 3, [-1, 0, 1], match_best=True)[0] == 1


@pytest.mark.parametrize("match_best", [True, False])
@pytest.mark.parametrize(
    ("boxes", "classes"),
    [
        ([[0, 0, 0, 0]], [-1]),  # padding
        ([[0, 0, 10, 10], [40, 40, 60, 60]], [-1, -1]),  # padding whose boxes were not cleared
        ([[100, 100, 120, 120]], [0]),  # overlaps nothing
        ([[5, 5, 5, 5]], [0]),  # has no area
        ([[9, 9, 1, 1]], [0]),  # reversed
    ],
)
def test_nothing_to_match_is_background(boxes, classes, match_best):
    assert matches_of(boxes, classes, match_best=match_best) == [BACKGROUND] * 4


def test_no_picture_and_a_number_of_anchors_that_is_known_late():
    spec = tf.TensorSpec((None, 4))
    matched = tf.function(
        lambda anchors: match(anchors, tf.zeros((0, 2, 4)), tf.zeros((0, 2), tf.int32), 0.5, 0.4, True),
        input_signature=[spec],
    )
    assert matched(tf.constant(ANCHORS, tf.float32)).shape == (0, 4)


@pytest.mark.parametrize("match_best", [True, False])
def test_no_column_of_objects_at_all(match_best):
    matches = match(
        tf.constant(ANCHORS), tf.zeros((2, 0, 4)), tf.zeros((2, 0), tf.int32), 0.5, 0.4, match_best
    )
    np.testing.assert_array_equal(matches, np.full([2, 4], BACKGROUND))


def test_layer_concatenates_levels_and_is_empty_without_targets():
    layer = Match()
    levels = {3: tf.constant(ANCHORS[:3]), 4: tf.constant(ANCHORS[3:])}
    boxes, classes = tf.constant([[[41.0, 41, 60, 60]]]), tf.constant([[7]])
    matches = layer(levels, boxes, classes)
    np.testing.assert_array_equal(matches, [[BACKGROUND, BACKGROUND, BACKGROUND, 0]])
    assert matches.dtype == tf.int32
    assert layer(levels, None, None).shape == layer(levels, boxes, None).shape == (0, 4)


def test_layer_configuration():
    config = Match(0.7, 0.3, match_best=False).get_config()
    layer = Match.from_config(config)
    assert (layer.positive_iou, layer.negative_iou, layer.match_best) == (0.7, 0.3, False)
    symbolic = layer(
        {3: keras.KerasTensor((4, 4))}, keras.KerasTensor((None, 1, 4)), keras.KerasTensor((None, 1))
    )
    assert symbolic.dtype == "int32"


def plain_unknown(candidate, boxes, classes):
    """Whether a candidate lies half or more in a crowd, or has no area."""
    width, height = max(candidate[2] - candidate[0], 0), max(candidate[3] - candidate[1], 0)
    if not width * height:
        return True
    for box, label in zip(boxes, classes, strict=True):
        wide = min(candidate[2], box[2]) - max(candidate[0], box[0])
        high = min(candidate[3], box[3]) - max(candidate[1], box[1])
        if label == CROWD and max(wide, 0) * max(high, 0) >= 0.5 * width * height:
            return True
    return False


def two_pictures(entries, least, most):
    return st.integers(least, most).flatmap(
        lambda count: st.lists(st.lists(entries, min_size=count, max_size=count), min_size=2, max_size=2)
    )


LATE = [  # sizes that are known late, so that one graph does for all examples
    tf.TensorSpec((None, None, 4)),
    tf.TensorSpec((None, None, 4)),
    tf.TensorSpec((None, None), tf.int32),
]
MATCH_LATE = {
    match_best: tf.function(
        lambda candidates, boxes, classes, match_best=match_best: match(
            candidates, boxes, classes, 0.5, 0.4, match_best
        ),
        input_signature=LATE,
    )
    for match_best in (True, False)
}


@given(
    candidates=two_pictures(grid_boxes, 0, 8),  # each picture its own, also without area
    objects=two_pictures(st.tuples(grid_boxes, st.integers(-2, 2)), 0, 4),
    match_best=st.booleans(),
)
def test_candidates_of_each_picture_and_crowds_are_the_plain_ones(candidates, objects, match_best):
    candidates = np.float32(candidates).reshape(2, -1, 4)
    boxes = np.float32([[b for b, _ in picture] for picture in objects]).reshape(2, -1, 4)
    classes = np.int32([[label for _, label in picture] for picture in objects]).reshape(2, -1)
    matches = MATCH_LATE[match_best](candidates, boxes, classes)
    assert matches.shape == candidates.shape[:2]
    for found, own, b, c in zip(matches.numpy(), candidates, boxes, classes, strict=True):
        expected = [
            IGNORED if m == BACKGROUND and plain_unknown(candidate, b, c) else m
            for m, candidate in zip(plain_match(own, b, c, match_best), own, strict=True)
        ]
        assert found.tolist() == expected


@settings(max_examples=25)
@given(
    objects=st.lists(st.tuples(grid_boxes, st.integers(-1, 2)), max_size=4),
    crowds=st.lists(grid_boxes, min_size=1, max_size=3),
    match_best=st.booleans(),
)
def test_a_crowd_only_takes_from_the_background(objects, crowds, match_best):
    boxes, classes = [b for b, _ in objects], [label for _, label in objects]
    padding = [[0, 0, 0, 0]] * len(crowds)
    without = matches_of(boxes + padding, classes + [-1] * len(crowds), match_best=match_best)
    with_crowds = matches_of(boxes + crowds, classes + [CROWD] * len(crowds), match_best=match_best)
    for before, after in zip(without, with_crowds, strict=True):
        assert after == before or (before == BACKGROUND and after == IGNORED)


@pytest.mark.parametrize("match_best", [True, False])
def test_in_a_crowd_by_hand(match_best):
    def found(*rows):
        return matches_of([box for box, _ in rows], [label for _, label in rows], match_best=match_best)

    # Half of the first anchor is enough, and a little less is not.
    assert found(([0, 0, 5, 10], CROWD)) == [IGNORED, BACKGROUND, BACKGROUND, BACKGROUND]
    assert found(([0, 0, 4.9, 10], CROWD)) == [BACKGROUND] * 4
    # It is the anchor's share that counts, not the IoU: a large crowd holds them all.
    assert found(([0, 0, 1000, 1000], CROWD)) == [IGNORED] * 4
    # Two crowds of a third each are no crowd of two thirds.
    thirds = [([0, 0, 3.5, 10], CROWD), ([3.5, 0, 7, 10], CROWD)]
    assert found(*thirds) == [BACKGROUND] * 4
    # What answers for an object does so in a crowd, too.
    assert found(([0, 0, 100, 100], CROWD), ([0, 0, 10, 10], 2)) == [1, IGNORED, IGNORED, IGNORED]
    # A crowd is no object.
    assert found(([0, 0, 10, 10], CROWD)) == [IGNORED, BACKGROUND, BACKGROUND, BACKGROUND]


def test_layer_matches_proposals_of_each_picture():
    proposals = np.float32(
        [[[0, 0, 10, 10], [50, 50, 60, 60], [0] * 4], [[50, 50, 60, 61], [0] * 4, [0, 0, 10, 10]]]
    )
    boxes, classes = np.float32([[[0, 0, 10, 11]], [[50, 50, 60, 60]]]), np.int32([[4], [0]])
    layer = Match(0.5, 0.5, match_best=False)
    expected = [[0, BACKGROUND, IGNORED], [0, IGNORED, BACKGROUND]]
    np.testing.assert_array_equal(layer(proposals, boxes, classes), expected)
    assert layer(proposals, None, None).shape == (0, 3)
    assert layer(proposals[:0], boxes[:0], classes[:0]).shape == (0, 3)


def test_candidates_and_objects_of_a_number_that_is_known_late():
    late = MATCH_LATE[True]
    candidates = tf.constant([ANCHORS, ANCHORS[::-1]])
    boxes, classes = tf.constant([[[0.0, 0, 10, 10]], [[0, 0, 99, 99]]]), tf.constant([[1], [CROWD]])
    expected = [[0, BACKGROUND, BACKGROUND, BACKGROUND], [IGNORED] * 4]
    np.testing.assert_array_equal(late(candidates, boxes, classes), expected)
    assert late(candidates[:0], boxes[:0], classes[:0]).shape == (0, 4)
    assert late(candidates[:, :0], boxes, classes).shape == (2, 0)
