import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.proposals import Proposals

HEIGHT, WIDTH = 60, 90
IMAGES = np.zeros([2, HEIGHT, WIDTH, 3], np.uint8)
CLASSES = np.zeros([2, 1], np.int32)


def plain_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    return intersection / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection)


def plain_decode(d, a):
    (w, h), (x, y) = (a[2] - a[0], a[3] - a[1]), ((a[0] + a[2]) / 2, (a[1] + a[3]) / 2)
    x, y = x + d[0] * w, y + d[1] * h
    w, h = (side * math.exp(min(log, math.log(1000 / 16))) for side, log in ((w, d[2]), (h, d[3])))
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def plain_clip(b):
    return [min(max(v, 0.0), limit) for v, limit in zip(b, [WIDTH, HEIGHT] * 2, strict=True)]


def plain_proposals(logits, deltas, anchors, count):
    """What torchvision's `filter_proposals` does for one picture: boxes, best first, and whose they are.

    On each level the best anchors, decoded, clipped, the small ones removed, and suppressed level by level;
    then the best of all.
    """
    kept, first = [], 0
    for level in anchors.values():
        order = sorted(range(first, first + len(level)), key=lambda a: -logits[a])[:count]
        on_level = []
        for a in order:
            box = plain_clip(plain_decode(deltas[a].astype(float), level[a - first].astype(float)))
            if min(box[2] - box[0], box[3] - box[1]) < 1e-3:
                continue
            if all(plain_iou(box, other) <= 0.7 for _, _, other in on_level):
                on_level.append((logits[a], a, box))
        kept += on_level
        first += len(level)
    kept = sorted(kept, key=lambda entry: -entry[0])[:count]
    return np.float64([box for _, _, box in kept]).reshape(-1, 4), [a for _, a, _ in kept]


def random_inputs(seed, sizes=(40, 20, 6), spread=0.2):
    """Heaps of anchors, some of them beyond the picture, so that there is much to suppress and to remove."""
    rng = np.random.default_rng(seed)
    anchors = {}
    for level, size in enumerate(sizes, start=2):
        centres = rng.uniform([-10, -10], [WIDTH + 10, HEIGHT + 10], [6, 2])[rng.integers(0, 6, size)]
        half = rng.uniform(6, 12, [size, 2]) * (level - 1)
        centres = centres + rng.normal(size=[size, 2]) * 2
        anchors[level] = np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)
    count = sum(sizes)
    objectness = rng.normal(size=[2, count, 1]).astype(np.float32) * 3
    deltas = (rng.normal(size=[2, count, 4]) * spread).astype(np.float32)
    return objectness, deltas, anchors


def assert_proposals(proposals, objectness, deltas, anchors, count):
    assert proposals.shape == (len(objectness), count, 4)
    for found, logits, own in zip(np.asarray(proposals), objectness[..., 0], deltas, strict=True):
        expected, _ = plain_proposals(logits, own, anchors, count)
        np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-3)
        np.testing.assert_array_equal(found[len(expected) :], 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [3, 15, 100])
def test_are_those_of_the_plain_filter(seed, count):
    inputs = random_inputs(seed)
    assert_proposals(Proposals(count_test=count)(*inputs, IMAGES), *inputs, count)


def test_the_plain_filter_has_something_to_do():
    """Of 66 anchors some go for being small, and some for their overlap: else nothing was tested."""
    objectness, deltas, anchors = random_inputs(0)
    boxes, _ = plain_proposals(objectness[0, :, 0], deltas[0], anchors, 100)
    assert 10 < len(boxes) < 50
    decoded = [
        plain_clip(plain_decode(d, a))
        for d, a in zip(deltas[0], np.concatenate([*anchors.values()]), strict=True)
    ]
    assert sum(min(b[2] - b[0], b[3] - b[1]) < 1e-3 for b in decoded) > 2


def test_deltas_that_grow_without_limit_are_clamped():
    inputs = random_inputs(0, spread=20)
    assert_proposals(Proposals(count_test=30)(*inputs, IMAGES), *inputs, 30)


def test_the_count_is_that_of_training_where_there_are_targets():
    inputs = random_inputs(1)
    layer = Proposals(count_train=7, count_test=12)
    assert_proposals(layer(*inputs, IMAGES, CLASSES), *inputs, 7)
    assert_proposals(layer(*inputs, IMAGES, None), *inputs, 12)


def propose(boxes_of_levels, logits, count=10, **options):
    anchors = {level: np.float32(boxes) for level, boxes in enumerate(boxes_of_levels, start=2)}
    logits = np.float32(logits)[None, :, None]
    deltas = np.zeros([1, logits.shape[1], 4], np.float32)
    (boxes,) = Proposals(count_test=count, **options)(logits, deltas, anchors, IMAGES[:1]).numpy()
    return boxes.tolist()


def test_suppression_is_of_each_level_alone():
    one, same = [10, 10, 30, 30], [10, 10, 30, 31]  # an IoU of 20 / 21
    filled = [[0, 0, 0, 0]] * 8
    assert propose([[one, same]], [1, 2]) == [same, *filled, [0, 0, 0, 0]]
    assert propose([[one], [same]], [1, 2]) == [same, one, *filled]
    assert propose([[one], [same]], [2, 1]) == [one, same, *filled]


def test_an_overlap_of_just_the_threshold_is_kept():
    whole = [0, 0, 20, 20]
    seven_tenths, more = [0, 0, 20, 13.5], [0, 0, 20, 14.5]
    assert propose([[whole, seven_tenths]], [2, 1], count=2) == [whole, seven_tenths]
    assert propose([[whole, more]], [2, 1], count=2) == [whole, [0, 0, 0, 0]]


def test_each_level_has_its_turn_before_the_best_of_all_are_taken():
    """The count is one of each level first: the best level cannot fill it with what goes by suppression."""
    heap = [[10, 10, 30, 30 + i / 10] for i in range(5)]
    other = [50, 10, 70, 30]
    assert propose([[*heap, other]], [9, 8, 7, 6, 5, 4], count=3) == [heap[0], [0] * 4, [0] * 4]
    assert propose([heap, [other]], [9, 8, 7, 6, 5, 4], count=3) == [heap[0], other, [0] * 4]


def test_what_lies_beyond_the_picture_is_no_proposal():
    beyond = [[-30, 10, 0, 40], [WIDTH, 5, WIDTH + 30, 30], [10, HEIGHT + 5, 40, HEIGHT + 20]]
    sliver = [-30, 10, 5e-4, 40]
    thin = [-30, 10, 0.5, 40]
    boxes = propose([[*beyond, sliver, thin]], [5, 4, 3, 2, -1000], count=5)
    assert boxes == [[0, 10, 0.5, 40]] + [[0, 0, 0, 0]] * 4


def test_nothing_to_propose_fills_up_with_zero_boxes():
    assert propose([[[-30, 10, 0, 40]], [[-9, -9, -1, -1]]], [5, 4], count=3) == [[0, 0, 0, 0]] * 3


def test_no_picture():
    objectness, deltas, anchors = random_inputs(0)
    assert Proposals(count_test=5)(objectness[:0], deltas[:0], anchors, IMAGES[:0]).shape == (0, 5, 4)


def gradient_of(fixed, inputs, count=10):
    objectness, deltas, anchors = inputs
    objectness, deltas = tf.Variable(objectness), tf.Variable(deltas)
    with tf.GradientTape() as tape:
        proposals = Proposals(count_test=count, fixed=fixed)(objectness, deltas, anchors, IMAGES)
        total = tf.reduce_sum(proposals * np.float32([1, 2, 3, 5]))
    return tape.gradient(total, [objectness, deltas])


def test_fixed_proposals_are_constants():
    assert gradient_of(True, random_inputs(2)) == [None, None]


def test_gradients_reach_the_deltas_of_those_proposed_and_of_no_other():
    objectness, deltas, anchors = random_inputs(3)
    of_objectness, of_deltas = gradient_of(False, (objectness, deltas, anchors))
    assert of_objectness is None
    of_deltas = tf.convert_to_tensor(of_deltas).numpy()
    every_anchor = np.concatenate([*anchors.values()]).astype(float)
    for picture in (0, 1):
        _, proposed = plain_proposals(objectness[picture, :, 0], deltas[picture], anchors, 10)
        expected = np.zeros(deltas.shape[1:])
        for a in proposed:
            for i in range(4):
                # Central differences of the decoded, clipped box.
                step = np.eye(4)[i] * 1e-6
                ends = [
                    np.dot(
                        plain_clip(plain_decode(deltas[picture, a] + side * step, every_anchor[a])),
                        [1, 2, 3, 5],
                    )
                    for side in (1, -1)
                ]
                expected[a, i] = (ends[0] - ends[1]) / 2e-6
        assert np.abs(expected[proposed]).max(axis=1).all()
        np.testing.assert_allclose(of_deltas[picture], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_answers_are_decoded_in_float32(dtype):
    objectness, deltas, anchors = random_inputs(4)
    far = {level: boxes + np.float32(2000.25) for level, boxes in anchors.items()}  # no numbers of float16
    images = np.zeros([2, 2000 + HEIGHT, 2000 + WIDTH, 3], np.uint8)
    # A thousandth apart at least, and numbers of both types: ties would be anyone's.
    order = np.random.default_rng(0).permutation(objectness.size).reshape(objectness.shape)
    objectness = tf.cast(order, dtype)
    layer = Proposals(count_test=20, dtype=f"mixed_{dtype}")
    proposals = layer(objectness, tf.cast(deltas, dtype), far, images)
    assert proposals.dtype == tf.float32
    whole = Proposals(count_test=20)(
        tf.cast(objectness, tf.float32), tf.cast(tf.cast(deltas, dtype), tf.float32), far, images
    )
    np.testing.assert_array_equal(proposals, whole)
    inputs = tf.cast(objectness, tf.float32).numpy(), tf.cast(tf.cast(deltas, dtype), tf.float32).numpy()
    for picture in (0, 1):
        decoded = [
            plain_decode(d, a)
            for d, a in zip(inputs[1][picture].astype(float), np.concatenate([*far.values()]), strict=True)
        ]
        best = decoded[int(np.argmax(order[picture]))]
        limits = [2000 + WIDTH, 2000 + HEIGHT] * 2
        np.testing.assert_allclose(proposals[picture, 0], np.minimum(best, limits), atol=1e-2)


def test_sizes_that_are_known_late():
    objectness, deltas, anchors = random_inputs(5)
    layer = Proposals(count_test=10, fixed=False)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, 1)),
            tf.TensorSpec((None, None, 4)),
            {level: tf.TensorSpec((None, 4)) for level in anchors},
            tf.TensorSpec((None, None, None, 3), tf.uint8),
        ]
    )
    def propose(objectness, deltas, anchors, images):
        return layer(objectness, deltas, anchors, images)

    tensors = tf.nest.map_structure(tf.constant, (objectness, deltas, anchors, IMAGES))
    assert_proposals(propose(*tensors), objectness, deltas, anchors, 10)
    none = tensors[0][:0], tensors[1][:0], tensors[2], tensors[3][:0]
    assert propose(*none).shape == (0, 10, 4)


def test_configuration():
    layer = Proposals.from_config(Proposals(5, 4, fixed=False, name="boxes").get_config())
    assert (layer.count_train, layer.count_test, layer.fixed, layer.name) == (5, 4, False, "boxes")
    shapes = (None, 66, 1), (None, 66, 4), {2: (66, 4)}, (None, None, None, 3)
    symbolic = [
        {k: keras.KerasTensor(v) for k, v in shape.items()}
        if isinstance(shape, dict)
        else keras.KerasTensor(shape)
        for shape in shapes
    ]
    assert layer(*symbolic).shape == (None, None, 4)
