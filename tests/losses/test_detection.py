import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.matching import BACKGROUND, IGNORED
from kzoo.losses.detection import BOX_LOSSES, BoxLoss, FocalLoss, count_of

# Two pictures, four anchors, three classes; the second picture has one object and a row of padding.
LOGITS = np.float32(np.random.default_rng(0).normal(size=[2, 4, 3]) * 2)
DELTAS = np.float32(np.random.default_rng(1).normal(size=[2, 4, 4]) * 0.2)
ANCHORS = np.float32([[0, 0, 20, 20], [10, 10, 40, 30], [50, 0, 60, 40], [30, 30, 70, 70]])
LEVELS = {3: tf.constant(ANCHORS[:3]), 4: tf.constant(ANCHORS[3:])}
MATCHES = np.int32([[0, BACKGROUND, 1, IGNORED], [BACKGROUND, 0, BACKGROUND, IGNORED]])
CLASSES = np.int32([[2, 0], [1, -1]])
BOXES = np.float32([[[1, 2, 18, 22], [48, 3, 61, 37]], [[12, 8, 44, 33], [0, 0, 0, 0]]])


def plain_focal(logit, is_one, alpha=0.25, gamma=2.0):
    p = 1 / (1 + math.exp(-logit))
    p_t, alpha_t = (p, alpha) if is_one else (1 - p, 1 - (alpha or 0))
    alpha_t = 1 if alpha is None else alpha_t
    return -alpha_t * (1 - p_t) ** gamma * math.log(p_t)


def plain_encode(b, a):
    (w, h), (x, y) = (a[2] - a[0], a[3] - a[1]), ((a[0] + a[2]) / 2, (a[1] + a[3]) / 2)
    dx, dy = ((b[0] + b[2]) / 2 - x) / w, ((b[1] + b[3]) / 2 - y) / h
    return [dx, dy, math.log((b[2] - b[0]) / w), math.log((b[3] - b[1]) / h)]


def plain_decode(d, a):
    (w, h), (x, y) = (a[2] - a[0], a[3] - a[1]), ((a[0] + a[2]) / 2, (a[1] + a[3]) / 2)
    x, y, w, h = x + d[0] * w, y + d[1] * h, w * math.exp(d[2]), h * math.exp(d[3])
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def plain_giou(a, b):
    def area(c):
        return max(c[2] - c[0], 0) * max(c[3] - c[1], 0)

    intersection = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    union = area(a) + area(b) - intersection
    enclosing = area([min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])])
    return intersection / union - (enclosing - union) / enclosing


POSITIVES = [(b, a, m) for b, row in enumerate(MATCHES) for a, m in enumerate(row) if m >= 0]


def plain_box_loss(kind):
    total = 0.0
    for b, a, m in POSITIVES:
        delta, anchor, box = DELTAS[b, a].tolist(), ANCHORS[a].tolist(), BOXES[b, m].tolist()
        if kind == "giou":
            total += 1 - plain_giou(plain_decode(delta, anchor), box)
            continue
        errors = [abs(d - t) for d, t in zip(delta, plain_encode(box, anchor), strict=True)]
        beta = 1 / 9
        smooth = [e * e / (2 * beta) if e < beta else e - beta / 2 for e in errors]
        total += sum(smooth if kind == "smooth_l1" else errors)
    return total / len(POSITIVES)


def loss_of(layer, *inputs):
    """The one loss that the call adds, which is also what the layer's tracker shows."""
    layer.tracker.reset_state()
    layer(*inputs)
    (loss,) = layer.losses
    assert loss.dtype == tf.float32
    assert float(layer.tracker.result()) == pytest.approx(float(loss), rel=1e-5)
    return float(loss)


def test_count_of():
    assert count_of(tf.constant(MATCHES) >= 0) == 3
    assert count_of(tf.fill([2, 4], BACKGROUND) >= 0) == 1
    assert count_of(tf.zeros([0, 4], tf.bool)) == 1


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 1.5), (None, 0.5)])
def test_focal_loss_of_all_anchors_but_the_ignored_over_the_positives(alpha, gamma):
    expected = 0.0
    for b, row in enumerate(MATCHES):
        for a, m in enumerate(row):
            for c in range(3):
                if m != IGNORED:
                    is_one = m >= 0 and CLASSES[b, m] == c
                    expected += plain_focal(float(LOGITS[b, a, c]), is_one, alpha, gamma)
    assert loss_of(FocalLoss(alpha, gamma), LOGITS, MATCHES, CLASSES) == pytest.approx(expected / 3, rel=1e-5)


def test_focal_loss_of_pictures_without_objects_is_that_of_the_background():
    matches = np.full([2, 4], BACKGROUND, np.int32)
    expected = sum(plain_focal(float(logit), False) for logit in LOGITS.ravel())
    for classes in (np.full([2, 2], -1, np.int32), np.zeros([2, 0], np.int32)):
        assert loss_of(FocalLoss(), LOGITS, matches, classes) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_box_loss_of_the_positives(kind):
    assert loss_of(BoxLoss(kind), DELTAS, LEVELS, MATCHES, BOXES) == pytest.approx(
        plain_box_loss(kind), rel=1e-4
    )


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_box_loss_of_pictures_without_objects_is_zero_with_a_zero_gradient(kind):
    matches = tf.fill([2, 4], BACKGROUND)
    for boxes in (tf.zeros([2, 1, 4]), tf.zeros([2, 0, 4])):
        layer, deltas = BoxLoss(kind), tf.Variable(DELTAS)
        with tf.GradientTape() as tape:
            layer(deltas, LEVELS, matches, boxes)
            loss = layer.losses[0]
        assert loss == 0
        gradient = tf.convert_to_tensor(tape.gradient(loss, deltas))
        np.testing.assert_array_equal(gradient, np.zeros_like(DELTAS))


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_boxes_without_area_and_huge_deltas_are_survived(kind):
    boxes = tf.constant([[[5.0, 5, 5, 5], [9, 9, 2, 2]], [[10, 10, 40, 10], [0, 0, 0, 0]]])
    layer, deltas = BoxLoss(kind), tf.Variable(DELTAS * 1e6)
    with tf.GradientTape() as tape:
        layer(deltas, LEVELS, MATCHES, boxes)
        loss = layer.losses[0]
    assert np.isfinite(loss)
    assert np.isfinite(tf.convert_to_tensor(tape.gradient(loss, deltas))).all()


def test_perfect_deltas_cost_nothing():
    deltas = np.array(DELTAS)
    for b, a, m in POSITIVES:
        deltas[b, a] = plain_encode(BOXES[b, m].tolist(), ANCHORS[a].tolist())
    for kind in BOX_LOSSES:
        assert loss_of(BoxLoss(kind), deltas, LEVELS, MATCHES, BOXES) == pytest.approx(0, abs=1e-6)


def test_weight():
    once = loss_of(BoxLoss("l1"), DELTAS, LEVELS, MATCHES, BOXES)
    assert loss_of(BoxLoss("l1", weight=2.5), DELTAS, LEVELS, MATCHES, BOXES) == pytest.approx(2.5 * once)


def test_without_targets_nothing_is_added():
    no_matches = tf.zeros([0, 4], tf.int32)
    for layer, values, inputs in (
        (FocalLoss(), LOGITS, (no_matches, None)),
        (BoxLoss(), DELTAS, (LEVELS, no_matches, None)),
    ):
        np.testing.assert_array_equal(layer(values, *inputs), values)
        assert layer.losses == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_comes_out_as_float32(dtype):
    logits, deltas = tf.cast(LOGITS, dtype), tf.cast(DELTAS, dtype)
    focal, box = FocalLoss(dtype=f"mixed_{dtype}"), BoxLoss(dtype=f"mixed_{dtype}")
    assert focal(logits, MATCHES, CLASSES).dtype == box(deltas, LEVELS, MATCHES, BOXES).dtype == tf.float32
    assert loss_of(focal, logits, MATCHES, CLASSES) == pytest.approx(
        loss_of(FocalLoss(), LOGITS, MATCHES, CLASSES), rel=1e-2
    )
    # 2000.25 is no number of float16: the boxes must not pass through it.
    far = tf.constant(BOXES + 2000.25)
    levels = {level: anchors + 2000.25 for level, anchors in LEVELS.items()}
    assert loss_of(box, deltas, levels, MATCHES, far) == pytest.approx(plain_box_loss("smooth_l1"), rel=2e-2)


def test_unknown_kind():
    with pytest.raises(ValueError, match='box_loss="l2": unknown. Known: "smooth_l1", "l1", "giou"'):
        BoxLoss("l2")


def test_configuration():
    focal = FocalLoss.from_config(FocalLoss(0.3, 1.0, weight=2.0, name="classification").get_config())
    assert (focal.alpha, focal.gamma, focal.weight, focal.name) == (0.3, 1.0, 2.0, "classification")
    assert BoxLoss.from_config(BoxLoss("giou").get_config()).kind == "giou"
    symbolic = focal(keras.KerasTensor((None, 4, 3), "float16"), keras.KerasTensor((None, 4), "int32"))
    assert (symbolic.shape, symbolic.dtype) == ((None, 4, 3), "float32")


WEIGHTS = (10.0, 10.0, 5.0, 5.0)
REGIONS = np.stack([ANCHORS, ANCHORS[::-1] + np.float32([1, 2, 3, 5])])  # of each picture its own
DELTAS_BY_CLASS = np.float32(np.random.default_rng(2).normal(size=[2, 4, 3, 4]) * 2)


def plain_region_loss(kind, deltas, per):
    """`deltas [2, 4, 4]` of weighted coding, to `REGIONS`."""
    total = 0.0
    for b, a, m in POSITIVES:
        delta, region, box = deltas[b, a].astype(float), REGIONS[b, a].tolist(), BOXES[b, m].tolist()
        if kind == "giou":
            total += 1 - plain_giou(plain_decode((delta / WEIGHTS).tolist(), region), box)
            continue
        errors = np.abs(delta - np.multiply(plain_encode(box, region), WEIGHTS))
        smooth = np.where(errors < 1 / 9, errors**2 * 4.5, errors - 1 / 18)
        total += (smooth if kind == "smooth_l1" else errors).sum()
    return total / {"positive": len(POSITIVES), "sample": (MATCHES != IGNORED).sum()}[per]


@pytest.mark.parametrize("kind", BOX_LOSSES)
@pytest.mark.parametrize("per", ["positive", "sample"])
def test_box_loss_of_regions_with_weighted_deltas(kind, per):
    deltas = DELTAS_BY_CLASS[:, :, 0]
    layer = BoxLoss(kind, per, WEIGHTS)
    assert loss_of(layer, deltas, REGIONS, MATCHES, BOXES) == pytest.approx(
        plain_region_loss(kind, deltas, per), rel=1e-4
    )


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_box_loss_of_the_deltas_of_the_objects_class(kind):
    own = np.zeros([2, 4, 4], np.float32)
    for b, a, m in POSITIVES:
        own[b, a] = DELTAS_BY_CLASS[b, a, CLASSES[b, m]]
    expected = plain_region_loss(kind, own, "sample")
    layer, deltas = BoxLoss(kind, "sample", WEIGHTS), tf.Variable(DELTAS_BY_CLASS)
    with tf.GradientTape() as tape:
        layer(deltas, REGIONS, MATCHES, BOXES, CLASSES)
        (loss,) = layer.losses
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    gradient = tf.convert_to_tensor(tape.gradient(loss, deltas)).numpy()
    taught = np.zeros([2, 4, 3], bool)
    for b, a, m in POSITIVES:
        taught[b, a, CLASSES[b, m]] = True
    np.testing.assert_array_equal(np.abs(gradient).sum(axis=-1) > 0, taught)


def test_perfect_weighted_deltas_cost_nothing():
    deltas = np.array(DELTAS_BY_CLASS)
    for b, a, m in POSITIVES:
        perfect = np.multiply(plain_encode(BOXES[b, m].tolist(), REGIONS[b, a].tolist()), WEIGHTS)
        deltas[b, a, CLASSES[b, m]] = perfect
    for kind in BOX_LOSSES:
        loss = loss_of(BoxLoss(kind, "sample", WEIGHTS), deltas, REGIONS, MATCHES, BOXES, CLASSES)
        assert loss == pytest.approx(0, abs=1e-5)


def test_the_gradient_of_a_box_loss_also_goes_to_regions_that_are_not_fixed():
    regions = tf.Variable(REGIONS)
    layer = BoxLoss("smooth_l1", "sample", WEIGHTS)
    with tf.GradientTape() as tape:
        layer(DELTAS_BY_CLASS, regions, MATCHES, BOXES, CLASSES)
        (loss,) = layer.losses
    gradient = tf.convert_to_tensor(tape.gradient(loss, regions)).numpy()
    np.testing.assert_array_equal(np.abs(gradient).sum(axis=-1) > 0, MATCHES >= 0)


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_regions_that_fill_up_are_survived(kind):
    regions = np.concatenate([REGIONS, np.zeros([2, 3, 4], np.float32)], axis=1)
    matches = np.pad(MATCHES, [[0, 0], [0, 3]], constant_values=IGNORED)
    deltas = tf.Variable(np.pad(DELTAS_BY_CLASS, [[0, 0], [0, 3], [0, 0], [0, 0]]))
    layer = BoxLoss(kind, "sample", WEIGHTS)
    with tf.GradientTape() as tape:
        layer(deltas, regions, matches, BOXES, CLASSES)
        (loss,) = layer.losses
    assert float(loss) == pytest.approx(
        loss_of(BoxLoss(kind, "sample", WEIGHTS), DELTAS_BY_CLASS, REGIONS, MATCHES, BOXES, CLASSES), rel=1e-5
    )
    assert np.isfinite(tf.convert_to_tensor(tape.gradient(loss, deltas))).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_deltas_of_regions(dtype):
    deltas = tf.cast(DELTAS_BY_CLASS, dtype)
    layer = BoxLoss(per="sample", delta_weights=WEIGHTS, dtype=f"mixed_{dtype}")
    loss = loss_of(layer, deltas, REGIONS + 2000.25, MATCHES, BOXES + 2000.25, CLASSES)
    whole = BoxLoss(per="sample", delta_weights=WEIGHTS)
    expected = loss_of(whole, tf.cast(deltas, tf.float32), REGIONS, MATCHES, BOXES, CLASSES)
    assert loss == pytest.approx(expected, rel=1e-3)


def test_unknown_per():
    with pytest.raises(ValueError, match='per="picture": unknown. Known: "positive", "sample"'):
        BoxLoss(per="picture")


def test_configuration_of_a_box_loss():
    layer = BoxLoss.from_config(BoxLoss("giou", "sample", list(WEIGHTS), weight=2.0).get_config())
    assert (layer.kind, layer.per, layer.delta_weights, layer.weight) == ("giou", "sample", WEIGHTS, 2.0)
