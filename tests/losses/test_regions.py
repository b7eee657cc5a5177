import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.matching import BACKGROUND, CROWD, IGNORED
from kzoo.losses.regions import MaskLoss, ObjectnessLoss, RegionClassificationLoss

# Two pictures, five anchors or regions, three classes; the second picture has one object and a crowd.
MATCHES = np.int32([[0, BACKGROUND, 1, IGNORED, 0], [BACKGROUND, 0, IGNORED, IGNORED, BACKGROUND]])
CLASSES = np.int32([[2, 0], [1, CROWD]])
OBJECTNESS = np.float32(np.random.default_rng(0).normal(size=[2, 5, 1]) * 2)
LOGITS = np.float32(np.random.default_rng(1).normal(size=[2, 5, 4]) * 2)


def plain_binary(logit, target):
    p = 1 / (1 + math.exp(-float(logit)))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def loss_of(layer, *inputs):
    """The one loss that the call adds, which is also what the layer's tracker shows."""
    layer.tracker.reset_state()
    answers = layer(*inputs)
    assert answers.dtype == tf.float32
    np.testing.assert_array_equal(answers, tf.cast(inputs[0], tf.float32))
    (loss,) = layer.losses
    assert loss.dtype == tf.float32
    assert float(layer.tracker.result()) == pytest.approx(float(loss), rel=1e-5)
    return float(loss)


def gradient_of(layer, values, *inputs):
    values = tf.Variable(values)
    with tf.GradientTape() as tape:
        layer(values, *inputs)
        (loss,) = layer.losses
    return float(loss), tf.convert_to_tensor(tape.gradient(loss, values)).numpy()


def plain_objectness():
    entries = [
        plain_binary(OBJECTNESS[b, a, 0], float(m >= 0))
        for b, row in enumerate(MATCHES)
        for a, m in enumerate(row)
        if m != IGNORED
    ]
    return sum(entries) / len(entries)


def plain_classification():
    entries = []
    for b, row in enumerate(MATCHES):
        for r, m in enumerate(row):
            if m != IGNORED:
                odds = np.exp(LOGITS[b, r].astype(float))
                entries.append(-math.log(odds[1 + CLASSES[b, m] if m >= 0 else 0] / odds.sum()))
    return sum(entries) / len(entries)


CASES = {
    "objectness": (ObjectnessLoss, OBJECTNESS, plain_objectness),
    "classification": (RegionClassificationLoss, LOGITS, plain_classification),
}
both = pytest.mark.parametrize(("kind", "logits", "plain"), CASES.values(), ids=CASES)


@both
def test_mean_cross_entropy_of_the_sample(kind, logits, plain):
    assert loss_of(kind(), logits, MATCHES, CLASSES) == pytest.approx(plain(), rel=1e-5)
    assert loss_of(kind(weight=2.5), logits, MATCHES, CLASSES) == pytest.approx(2.5 * plain(), rel=1e-5)


@both
def test_the_ignored_teach_nothing(kind, logits, plain):
    loss, gradient = gradient_of(kind(), logits, MATCHES, CLASSES)
    assert loss == pytest.approx(plain(), rel=1e-5)
    np.testing.assert_array_equal(np.abs(gradient).sum(axis=-1) > 0, MATCHES != IGNORED)


@both
def test_pictures_without_objects_are_background(kind, logits, plain):
    matches = np.full([2, 5], BACKGROUND, np.int32)
    if kind is ObjectnessLoss:
        expected = np.mean([plain_binary(logit, 0.0) for logit in logits.ravel()])
    else:
        odds = np.exp(logits.astype(float))
        expected = -np.log(odds[..., 0] / odds.sum(axis=-1)).mean()
    for classes in (np.full([2, 2], -1, np.int32), np.zeros([2, 0], np.int32)):
        assert loss_of(kind(), logits, matches, classes) == pytest.approx(expected, rel=1e-5)


@both
def test_an_empty_sample_costs_nothing_with_a_zero_gradient(kind, logits, plain):
    loss, gradient = gradient_of(kind(), logits, np.full([2, 5], IGNORED, np.int32), CLASSES)
    assert loss == 0
    assert not gradient.any()


@both
def test_no_picture(kind, logits, plain):
    layer = kind()
    assert layer(logits[:0], MATCHES[:0], CLASSES[:0]).shape == (0, *logits.shape[1:])
    assert layer.losses[0] == 0


@both
def test_without_targets_nothing_is_added(kind, logits, plain):
    layer = kind()
    np.testing.assert_array_equal(layer(logits, np.zeros([0, 5], np.int32), None), logits)
    assert layer.losses == []


@both
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(kind, logits, plain, dtype):
    layer = kind(dtype=f"mixed_{dtype}")
    loss = loss_of(layer, tf.cast(logits, dtype), MATCHES, CLASSES)
    assert loss == pytest.approx(plain(), rel=2e-2)
    huge = tf.cast(tf.fill(logits.shape, 30000.0), dtype) * tf.cast(np.sign(logits), dtype)
    assert np.isfinite(loss_of(layer, huge, MATCHES, CLASSES))
    # Fifty thousand entries: a sum that float16 has no number for.
    many = tf.cast(np.repeat(logits, 5000, axis=1), dtype)
    loss = loss_of(layer, many, np.repeat(MATCHES, 5000, axis=1), CLASSES)
    assert loss == pytest.approx(plain(), rel=2e-2)


def test_a_class_beyond_the_model_stops_the_training():
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="not below num_classes=3"):
        RegionClassificationLoss()(LOGITS, MATCHES, np.int32([[3, 0], [1, -1]]))


def test_configuration():
    for kind in (ObjectnessLoss, RegionClassificationLoss, MaskLoss):
        layer = kind.from_config(kind(weight=2.0, name="one").get_config())
        assert (layer.weight, layer.name) == (2.0, "one")
    logits, matches = keras.KerasTensor((None, 5, 4), "float16"), keras.KerasTensor((None, 5), "int32")
    symbolic = RegionClassificationLoss()(logits, matches)
    assert (symbolic.shape, symbolic.dtype) == ((None, 5, 4), "float32")


# Masks: two pictures with two objects and a row of padding; the second object of the second is a crowd.
BOXES = np.float32([[[0, 0, 20, 20], [30, 10, 50, 50], [0] * 4], [[5, 5, 25, 15], [60, 60, 80, 80], [0] * 4]])
LABELS = np.int32([[2, 0, -1], [1, CROWD, -1]])
TRUE_MASKS = np.uint8(np.random.default_rng(2).random([2, 3, 8, 8]) > 0.5)
PICKS = {
    # The second region is the box itself, the others are shifted, and the last one is nobody's.
    "regions": np.float32([[31, 12, 52, 50], [0, 0, 20, 20], [3, 4, 24, 16], [0, 0, 0, 0]]),
    "pictures": np.int32([0, 0, 1, 0]),
}
OBJECTS = [(0, 1), (0, 0), (1, 0)]  # picture and object of each region
MASK_LOGITS = np.float32(np.random.default_rng(3).normal(size=[4, 4, 4, 3]) * 2)


def plain_target(mask, box, x, y):
    """What a mask [M, M], told within its box, has at a point: bilinear, and nothing outside."""
    x1, y1, x2, y2 = map(float, box)
    if not (x1 <= x < x2 and y1 <= y < y2):
        return 0.0
    last = len(mask) - 1
    y, x = (
        min(max((point - low) / (high - low) * len(mask) - 0.5, 0.0), last)
        for point, low, high in ((y, y1, y2), (x, x1, x2))
    )
    i, j = int(y), int(x)
    rows = [
        float(mask[row, j]) * (1 - (x - j)) + float(mask[row, min(j + 1, last)]) * (x - j)
        for row in (i, min(i + 1, last))
    ]
    return rows[0] * (1 - (y - i)) + rows[1] * (y - i)


def plain_mask_loss(regions=None, objects=OBJECTS, logits=MASK_LOGITS, true_masks=TRUE_MASKS):
    regions = PICKS["regions"] if regions is None else regions
    losses = []
    for n, (picture, g) in enumerate(objects):
        x1, y1, x2, y2 = regions[n].astype(float)
        total = 0.0
        for i in range(4):
            for j in range(4):
                x, y = x1 + (j + 0.5) / 4 * (x2 - x1), y1 + (i + 0.5) / 4 * (y2 - y1)
                target = plain_target(true_masks[picture, g], BOXES[picture, g], x, y)
                total += plain_binary(logits[n, i, j, LABELS[picture, g]], target)
        losses.append(total / 16)
    return sum(losses) / max(len(losses), 1)


def test_mask_loss_is_the_mean_of_the_positives_and_of_their_own_class():
    assert loss_of(MaskLoss(), MASK_LOGITS, PICKS, TRUE_MASKS, BOXES, LABELS) == pytest.approx(
        plain_mask_loss(), rel=1e-4
    )
    assert loss_of(MaskLoss(weight=3.0), MASK_LOGITS, PICKS, TRUE_MASKS, BOXES, LABELS) == pytest.approx(
        3 * plain_mask_loss(), rel=1e-4
    )


def test_targets_of_a_shifted_region_are_no_whole_numbers():
    """Else nothing above would tell interpolation from rounding."""
    regions = PICKS["regions"] + np.float32([[1.3, 0.7, 1.3, 0.7]] * 3 + [[0] * 4])
    found = loss_of(MaskLoss(), MASK_LOGITS, PICKS | {"regions": regions}, TRUE_MASKS, BOXES, LABELS)
    assert found == pytest.approx(plain_mask_loss(regions), rel=1e-4)
    x1, y1, x2, y2 = regions[0]
    points = [
        (x1 + (j + 0.5) / 4 * (x2 - x1), y1 + (i + 0.5) / 4 * (y2 - y1)) for i in range(4) for j in range(4)
    ]
    targets = np.float64([plain_target(TRUE_MASKS[0, 1], BOXES[0, 1], *point) for point in points])
    assert ((targets > 0.05) & (targets < 0.95)).sum() > 4
    assert (targets == 0).sum() >= 4  # and one column lies outside of the box


def test_float_masks_and_other_sizes():
    masks = np.random.default_rng(4).random([2, 3, 5, 5]).astype(np.float32)
    found = loss_of(MaskLoss(), MASK_LOGITS, PICKS, masks, BOXES, LABELS)
    assert found == pytest.approx(plain_mask_loss(true_masks=masks), rel=1e-4)


def test_only_the_class_of_the_object_is_taught():
    loss, gradient = gradient_of(MaskLoss(), MASK_LOGITS, PICKS, TRUE_MASKS, BOXES, LABELS)
    assert loss == pytest.approx(plain_mask_loss(), rel=1e-4)
    taught = np.zeros([4, 3], bool)
    for n, (picture, g) in enumerate(OBJECTS):
        taught[n, LABELS[picture, g]] = True
    np.testing.assert_array_equal((gradient != 0).all(axis=(1, 2)), taught)
    np.testing.assert_array_equal((gradient != 0).any(axis=(1, 2)), taught)


def test_perfect_masks_cost_nothing():
    logits = np.zeros([1, 4, 4, 3], np.float32)
    blocks = np.random.default_rng(5).random([4, 4]) > 0.5
    logits[0, :, :, 2] = np.where(blocks, 50, -50)
    masks = np.zeros([1, 1, 4, 4], np.uint8)
    masks[0, 0] = blocks
    picks = {"regions": BOXES[0, :1], "pictures": np.int32([0])}
    assert loss_of(MaskLoss(), logits, picks, masks, BOXES[:1, :1], LABELS[:1, :1]) == pytest.approx(
        0, abs=1e-6
    )


def test_crowds_and_padding_are_never_matched():
    regions = np.float32([[60, 60, 80, 80], [0, 0, 0, 0], [5, 5, 25, 15]])
    picks = {"regions": regions, "pictures": np.int32([1, 1, 1])}
    loss, gradient = gradient_of(MaskLoss(), MASK_LOGITS[:3], picks, TRUE_MASKS, BOXES, LABELS)
    expected = plain_mask_loss(regions[2:], [(1, 0)], MASK_LOGITS[2:])
    assert loss == pytest.approx(expected, rel=1e-4)
    assert not gradient[:2].any()
    # Padding whose box and mask were not cleared is no object either.
    uncleared = np.where(LABELS[..., None] == -1, np.float32([60, 60, 80, 80]), BOXES)
    again = loss_of(MaskLoss(), MASK_LOGITS[:3], picks, TRUE_MASKS, uncleared, LABELS)
    assert again == pytest.approx(expected, rel=1e-4)


def test_each_region_is_matched_in_its_own_picture():
    picks = {"regions": BOXES[0, :1], "pictures": np.int32([1])}  # where no object lies there
    assert loss_of(MaskLoss(), MASK_LOGITS[:1], picks, TRUE_MASKS, BOXES, LABELS) == 0


@pytest.mark.parametrize("objects", [0, 2])
def test_no_positive_costs_nothing_with_a_zero_gradient(objects):
    picks = {"regions": np.zeros([1, 4], np.float32), "pictures": np.int32([0])}
    targets = TRUE_MASKS[:, :objects], BOXES[:, :objects], LABELS[:, :objects]
    loss, gradient = gradient_of(MaskLoss(), MASK_LOGITS[:1], picks, *targets)
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(MASK_LOGITS[:1]))


def test_mask_loss_of_no_picture():
    picks = {"regions": np.zeros([0, 4], np.float32), "pictures": np.zeros(0, np.int32)}
    loss, gradient = gradient_of(MaskLoss(), MASK_LOGITS[:0], picks, TRUE_MASKS[:0], BOXES[:0], LABELS[:0])
    assert loss == 0
    assert gradient.shape == (0, 4, 4, 3)


def test_mask_loss_without_targets():
    layer = MaskLoss()
    for targets in ((None, None, None), (None, BOXES, LABELS), (TRUE_MASKS, None, None)):
        np.testing.assert_array_equal(layer(MASK_LOGITS, PICKS, *targets), MASK_LOGITS)
        assert layer.losses == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mask_loss_in_half_precision(dtype):
    """Boxes at 2000.25 pixels and more, which are no numbers of float16."""
    layer = MaskLoss(dtype=f"mixed_{dtype}")
    shift = np.float32([2000.25, 1000.25, 2000.25, 1000.25])
    picks = PICKS | {
        "regions": PICKS["regions"] + np.append(np.ones([3, 1]), [[0]], 0).astype(np.float32) * shift
    }
    boxes = np.where(BOXES.any(axis=-1, keepdims=True), BOXES + shift, BOXES)
    logits = tf.cast(MASK_LOGITS, dtype)
    expected = plain_mask_loss(logits=tf.cast(logits, tf.float32).numpy())
    assert loss_of(layer, logits, picks, TRUE_MASKS, boxes, LABELS) == pytest.approx(expected, rel=2e-3)
    assert np.isfinite(loss_of(layer, logits * 5000, picks, TRUE_MASKS, boxes, LABELS))
