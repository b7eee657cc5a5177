import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.losses.segmentation import SEGMENTATION_LOSSES, SegmentationLoss, dice_loss

RNG = np.random.default_rng(0)
LOGITS = np.float32(RNG.normal(size=[2, 4, 5, 3]) * 2)
CLASSES = RNG.integers(-1, 3, [2, 4, 5]).astype(np.int32)
BORDERS = np.float32(RNG.random([2, 4, 5]))
WEIGHTS = (0.5, 2.0, 4.0)


def softmax(row):
    powers = [math.exp(float(logit) - float(max(row))) for logit in row]
    return [power / sum(powers) for power in powers]


def pixels_of(logits, classes, ignored=-1):
    """The place, the probabilities and the class of each pixel that counts."""
    return [
        (place, softmax(logits[place]), int(label))
        for place, label in np.ndenumerate(classes)
        if label != ignored
    ]


def plain_pixel_loss(logits, classes, weights=(1, 1, 1), borders=None, border_weight=0, gamma=0, ignored=-1):
    """The mean of the pixels, weighted by w_c + w_0 * border."""
    total = count = 0.0
    for place, probabilities, label in pixels_of(logits, classes, ignored):
        p, weight = probabilities[label], float(weights[label])
        weight += 0 if borders is None else border_weight * float(borders[place])
        total += weight * (1 - p) ** gamma * -math.log(p)
        count += weight
    return total / count


def plain_dice_loss(logits, classes, weights=(1, 1, 1), ignored=-1):
    pixels = pixels_of(logits, classes, ignored)
    total = count = 0.0
    for c, weight in enumerate(weights):
        true = sum(label == c for _, _, label in pixels)
        if true == 0:
            continue
        both = sum(p[c] for _, p, label in pixels if label == c)
        total += weight * (1 - 2 * both / (sum(p[c] for _, p, _ in pixels) + true))
        count += weight
    return total / count


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_values_are_the_plain_ones(loss_and_gradient, weights):
    plain = dict(weights=weights or (1, 1, 1))
    expected = {
        "cross_entropy": plain_pixel_loss(LOGITS, CLASSES, **plain),
        "dice": plain_dice_loss(LOGITS, CLASSES, **plain),
        "focal": plain_pixel_loss(LOGITS, CLASSES, gamma=2, **plain),
    }
    expected["cross_entropy_dice"] = expected["cross_entropy"] + expected["dice"]
    assert set(expected) == set(SEGMENTATION_LOSSES)
    for kind, value in expected.items():
        loss, gradient = loss_and_gradient(SegmentationLoss(kind, weights), LOGITS, CLASSES)
        assert loss == pytest.approx(value, rel=1e-5), kind
        np.testing.assert_array_equal(gradient[CLASSES == -1], 0)
        assert np.abs(gradient[CLASSES >= 0]).sum(axis=-1).min() > 0


def test_one_pixel_by_hand(loss_and_gradient):
    """Odds of 3 to 1: a probability of 3/4 for the right class."""
    logits, classes = np.float32([[[[math.log(3), 0]]]]), np.int32([[[0]]])
    expected = {
        "cross_entropy": math.log(4 / 3),
        "focal": math.log(4 / 3) / 16,
        "dice": 1 - 2 * 0.75 / (0.75 + 1),
    }
    for kind, value in expected.items():
        loss, _ = loss_and_gradient(SegmentationLoss(kind), logits, classes)
        assert loss == pytest.approx(value, rel=1e-5), kind


def test_whole_numbers_are_weights_too(loss_and_gradient):
    for kind in SEGMENTATION_LOSSES:
        whole, _ = loss_and_gradient(SegmentationLoss(kind, (1, 2, 3)), LOGITS, CLASSES)
        loss, _ = loss_and_gradient(SegmentationLoss(kind, [1.0, 2.0, 3.0]), LOGITS, CLASSES)
        assert whole == loss


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_focal_gammas(loss_and_gradient, gamma):
    loss, _ = loss_and_gradient(SegmentationLoss("focal", WEIGHTS, focal_gamma=gamma), LOGITS, CLASSES)
    assert loss == pytest.approx(plain_pixel_loss(LOGITS, CLASSES, WEIGHTS, gamma=gamma), rel=1e-5)


def test_focal_with_a_gamma_of_0_is_the_cross_entropy(loss_and_gradient):
    focal, gradient = loss_and_gradient(SegmentationLoss("focal", focal_gamma=0.0), LOGITS, CLASSES)
    expected, slope = loss_and_gradient(SegmentationLoss("cross_entropy"), LOGITS, CLASSES)
    assert focal == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, slope, atol=1e-6)


@pytest.mark.parametrize(("kind", "gamma"), [("cross_entropy", 0), ("focal", 2), ("cross_entropy_dice", 0)])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_borders_weigh_more(loss_and_gradient, kind, gamma, weights):
    layer = SegmentationLoss(kind, weights, border_weight=10.0)
    plain = dict(weights=weights or (1, 1, 1))
    expected = plain_pixel_loss(LOGITS, CLASSES, borders=BORDERS, border_weight=10, gamma=gamma, **plain)
    if "dice" in kind:
        expected += plain_dice_loss(LOGITS, CLASSES, **plain)
    loss, _ = loss_and_gradient(layer, LOGITS, CLASSES, BORDERS)
    assert loss == pytest.approx(expected, rel=1e-5)
    without, _ = loss_and_gradient(layer, LOGITS, CLASSES, np.zeros_like(BORDERS))
    plainly, _ = loss_and_gradient(SegmentationLoss(kind, weights), LOGITS, CLASSES)
    assert without == pytest.approx(plainly, rel=1e-6) != pytest.approx(loss, rel=1e-3)


def test_only_the_middle_of_the_labels_counts(loss_and_gradient):
    """Where a network without padding answers for the middle of a picture."""
    classes = np.full([2, 10, 9], 2, np.int32)
    borders = np.ones([2, 10, 9], np.float32)
    classes[:, 3:7, 2:7], borders[:, 3:7, 2:7] = CLASSES, BORDERS
    layer = SegmentationLoss("cross_entropy_dice", WEIGHTS, border_weight=3.0)
    loss, _ = loss_and_gradient(layer, LOGITS, classes, borders)
    expected, _ = loss_and_gradient(layer, LOGITS, CLASSES, BORDERS)
    assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", SEGMENTATION_LOSSES)
@pytest.mark.parametrize("ignored", [-1, 255, 1])
def test_ignored_pixels(loss_and_gradient, kind, ignored):
    classes = np.where(CLASSES == -1, ignored, CLASSES)
    layer = SegmentationLoss(kind, WEIGHTS, border_weight=2.0, ignored_label=ignored)
    loss, gradient = loss_and_gradient(layer, LOGITS, classes, BORDERS)
    np.testing.assert_array_equal(gradient[classes == ignored], 0)
    others = LOGITS.copy()
    others[classes == ignored] = RNG.normal(size=3) * 50
    same, _ = loss_and_gradient(layer, others, classes, BORDERS)
    assert same == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("kind", SEGMENTATION_LOSSES)
def test_a_batch_of_ignored_pixels_alone_teaches_nothing(loss_and_gradient, kind):
    layer = SegmentationLoss(kind, WEIGHTS, border_weight=10.0)
    loss, gradient = loss_and_gradient(layer, LOGITS, np.full_like(CLASSES, -1), BORDERS)
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


def test_dice_is_the_mean_of_the_classes_that_are_there(loss_and_gradient):
    layer = SegmentationLoss("dice")
    classes = np.where(CLASSES == 1, 0, CLASSES)
    loss, _ = loss_and_gradient(layer, LOGITS, classes)
    assert loss == pytest.approx(plain_dice_loss(LOGITS, classes), rel=1e-5)
    # Of background alone, well told: next to nothing, whatever the absent classes would add.
    sure = np.float32([20.0, 0.0, 0.0]) * np.ones([1, 4, 4, 1], np.float32)
    assert loss_and_gradient(layer, sure, np.zeros([1, 4, 4], np.int32))[0] == pytest.approx(0, abs=1e-6)
    assert loss_and_gradient(layer, sure, np.ones([1, 4, 4], np.int32))[0] == pytest.approx(1, abs=1e-6)


def test_dice_of_given_probabilities():
    probabilities = tf.constant([[0.8, 0.2, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 0.0]])  # the last is ignored
    targets = tf.constant([[1.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    first, second = 1 - 1.6 / (1.2 + 1), 1 - 1.2 / (0.8 + 1)
    assert float(dice_loss(probabilities, targets, tf.ones(3))) == pytest.approx((first + second) / 2)
    weighted = float(dice_loss(probabilities, targets, tf.constant([3.0, 1, 7])))
    assert weighted == pytest.approx((3 * first + second) / 4)
    assert float(dice_loss(probabilities, tf.zeros([3, 3]), tf.ones(3))) == 0
    assert float(dice_loss(tf.zeros([0, 3]), tf.zeros([0, 3]), tf.ones(3))) == 0


def test_dice_is_one_of_all_pixels_of_the_batch(loss_and_gradient):
    layer = SegmentationLoss("dice")
    together, _ = loss_and_gradient(layer, LOGITS, CLASSES)
    side_by_side = np.concatenate(LOGITS, axis=1)[None], np.concatenate(CLASSES, axis=1)[None]
    assert together == pytest.approx(loss_and_gradient(layer, *side_by_side)[0], rel=1e-6)


def test_gradients_are_central_differences(loss_and_gradient):
    for kind in SEGMENTATION_LOSSES:
        layer = SegmentationLoss(kind, WEIGHTS, border_weight=2.0)
        _, gradient = loss_and_gradient(layer, LOGITS, CLASSES, BORDERS)
        for seed in range(4):
            nudge = 1e-2 * np.random.default_rng(seed).normal(size=LOGITS.shape).astype(np.float32)
            ends = [loss_and_gradient(layer, LOGITS + s * nudge, CLASSES, BORDERS)[0] for s in (1, -1)]
            assert (gradient * nudge).sum() == pytest.approx((ends[0] - ends[1]) / 2, abs=1e-5), kind


@settings(max_examples=40)
@given(
    st.sampled_from([("cross_entropy", 0.0), ("dice", 0.0), ("focal", 0.5), ("focal", 1.0), ("focal", 2.0)]),
    st.lists(
        st.tuples(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), st.integers(-1, 2)),
        min_size=1,
        max_size=4,
    ),
)
def test_whatever_the_logits_losses_and_gradients_are_finite(loss_and_gradient, kind, pixels):
    kind, gamma = kind
    logits = np.float32([[[row for row, _ in pixels]]])
    classes = np.int32([[[label for _, label in pixels]]])
    layer = SegmentationLoss(kind, WEIGHTS, focal_gamma=gamma)
    loss, gradient = loss_and_gradient(layer, logits, classes)
    assert np.isfinite(loss) and loss >= -1e-6
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", SEGMENTATION_LOSSES)
@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_logits(loss_and_gradient, kind, dtype):
    logits = tf.cast(LOGITS * 3000, dtype)
    layer = SegmentationLoss(kind, WEIGHTS, border_weight=1.0)
    loss, gradient = loss_and_gradient(layer, logits, CLASSES, BORDERS)
    expected, _ = loss_and_gradient(layer, tf.cast(logits, tf.float32), CLASSES, BORDERS)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(gradient.astype(np.float32)).all()


@pytest.mark.parametrize("wrong", [3, 255, -2])
@pytest.mark.parametrize("kind", SEGMENTATION_LOSSES)
def test_classes_that_there_are_not(kind, wrong):
    classes = CLASSES.copy()
    classes[1, 2, 3] = wrong
    told = r"neither 0 to 2 nor ignored \(-1\)"
    for layer_call in (SegmentationLoss(kind), tf.function(SegmentationLoss(kind))):
        with pytest.raises(tf.errors.InvalidArgumentError, match=told):
            layer_call(tf.constant(LOGITS), tf.constant(classes))


def test_without_classes_there_is_no_loss():
    layer = SegmentationLoss("dice")
    np.testing.assert_array_equal(layer(LOGITS), LOGITS)
    assert layer.losses == []
    output = layer(keras.KerasTensor((None, 8, None, 3), "float16"))
    assert (output.shape, output.dtype) == ((None, 8, None, 3), "float32")


def test_unknown_kinds():
    with pytest.raises(ValueError, match='loss="dise": unknown. Nearest: "dice"'):
        SegmentationLoss("dise")


def test_config():
    layer = SegmentationLoss("focal", [1, 2.5], 3.0, 255, 0.5, weight=2.0, name="segmentation")
    again = SegmentationLoss.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.kind, again.class_weights, again.border_weight) == ("focal", (1, 2.5), 3.0)
    assert (again.ignored_label, again.focal_gamma, again.weight) == (255, 0.5, 2.0)
