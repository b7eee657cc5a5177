import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.losses.classification import ClassificationLoss

LOGITS = np.float32([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0], [-2.0, 1.5, 1.0], [4.0, 4.0, -4.0]])
CLASSES = np.int32([0, 1, 2, 0])


def softmax(row):
    powers = [math.exp(float(logit) - float(max(row))) for logit in row]
    return [power / sum(powers) for power in powers]


def cross_entropy(row, targets):
    return -sum(t * math.log(p) for t, p in zip(targets, softmax(row), strict=True))


def one_hot(label, smoothing=0.0, num_classes=3):
    return [smoothing / num_classes + (1 - smoothing) * (c == label) for c in range(num_classes)]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7, 1.0])
def test_the_mean_cross_entropy(loss_and_gradient, smoothing):
    loss, gradient = loss_and_gradient(ClassificationLoss(smoothing), LOGITS, CLASSES)
    targets = [one_hot(label, smoothing) for label in CLASSES]
    expected = [cross_entropy(row, target) for row, target in zip(LOGITS, targets, strict=True)]
    assert loss == pytest.approx(sum(expected) / 4, rel=1e-5)
    slopes = np.array([softmax(row) for row in LOGITS]) - targets
    np.testing.assert_allclose(gradient, slopes / 4, atol=1e-6)


def test_two_classes_by_hand(loss_and_gradient):
    # Odds of 3 to 1: a probability of 3/4, and of 1/4 for the other one.
    loss, gradient = loss_and_gradient(ClassificationLoss(), np.float32([[math.log(3), 0]]), np.int32([0]))
    assert loss == pytest.approx(math.log(4 / 3), rel=1e-6)
    np.testing.assert_allclose(gradient, [[-0.25, 0.25]], atol=1e-6)


def test_pictures_of_unknown_class_do_not_count(loss_and_gradient):
    layer = ClassificationLoss(0.1)
    loss, gradient = loss_and_gradient(layer, LOGITS, np.int32([0, -1, 2, -1]))
    alone, gradient_alone = loss_and_gradient(layer, LOGITS[[0, 2]], np.int32([0, 2]))
    assert loss == pytest.approx(alone, rel=1e-6)
    np.testing.assert_allclose(gradient[[0, 2]], gradient_alone, atol=1e-7)
    np.testing.assert_array_equal(gradient[[1, 3]], 0)


def test_a_batch_without_any_known_class_teaches_nothing(loss_and_gradient):
    for classes in (np.full(4, -1, np.int32), np.int32([-1, -2, -1, -2])):
        loss, gradient = loss_and_gradient(ClassificationLoss(), LOGITS, classes)
        assert loss == 0
        np.testing.assert_array_equal(gradient, 0)
    targets = np.zeros([4, 3], np.float32)
    loss, gradient = loss_and_gradient(ClassificationLoss(0.2), LOGITS, np.full(4, -1, np.int32), targets)
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_mixed_targets_take_the_place_of_the_classes(loss_and_gradient, smoothing):
    mixed = np.float32([[0.3, 0.7, 0], [0, 1, 0], [0.25, 0.25, 0.5], [1, 0, 0]])
    loss, _ = loss_and_gradient(ClassificationLoss(smoothing), LOGITS, CLASSES, mixed)
    smoothed = mixed * (1 - smoothing) + smoothing / 3
    expected = [cross_entropy(row, target) for row, target in zip(LOGITS, smoothed, strict=True)]
    assert loss == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_a_mixed_target_is_the_mean_of_the_two_losses(loss_and_gradient):
    """Zhang et al. 2018: the cross-entropy is linear in its targets."""
    share = 0.37
    mixed = np.float32([[share, 0, 1 - share]])
    layer = ClassificationLoss()
    loss, _ = loss_and_gradient(layer, LOGITS[:1], np.int32([0]), mixed)
    first, second = (loss_and_gradient(layer, LOGITS[:1], np.int32([label]))[0] for label in (0, 2))
    assert loss == pytest.approx(share * first + (1 - share) * second, rel=1e-5)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), st.integers(-1, 2)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([0.0, 0.1]),
)
def test_whatever_the_logits_the_gradient_is_finite_and_sums_to_nothing(loss_and_gradient, rows, smoothing):
    logits, classes = np.float32([row for row, _ in rows]), np.int32([label for _, label in rows])
    loss, gradient = loss_and_gradient(ClassificationLoss(smoothing), logits, classes)
    assert np.isfinite(loss) and loss >= 0
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-5)
    np.testing.assert_array_equal(gradient[classes < 0], 0)


def test_the_accuracy_is_of_the_known_pictures_and_over_all_batches():
    layer = ClassificationLoss()
    layer(LOGITS, np.int32([0, 0, -1, -1]))  # the first is right, the second wrong
    assert float(layer.accuracy.result()) == 0.5
    layer(LOGITS, np.int32([-1, -1, 1, 1]))  # the third is right; 4 and 4 are a draw, and the first wins
    assert float(layer.accuracy.result()) == 0.5
    layer(LOGITS[:2], np.int32([0, 2]))
    assert float(layer.accuracy.result()) == pytest.approx(4 / 6)
    layer(LOGITS, np.full(4, -1, np.int32))
    assert float(layer.accuracy.result()) == pytest.approx(4 / 6)


def test_classes_beyond_the_last():
    for layer_call in (ClassificationLoss(), tf.function(ClassificationLoss())):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="a class of the batch is not below num_classes=3"
        ):
            layer_call(tf.constant(LOGITS), tf.constant([0, 1, 3, 0]))


def test_without_classes_there_is_no_loss():
    layer = ClassificationLoss()
    np.testing.assert_array_equal(layer(LOGITS), LOGITS)
    assert layer.losses == []
    assert layer(keras.KerasTensor((None, 3), "float16")).dtype == "float32"


def test_the_weight(loss_and_gradient):
    one, gradient = loss_and_gradient(ClassificationLoss(), LOGITS, CLASSES)
    three, thrice = loss_and_gradient(ClassificationLoss(weight=3.0), LOGITS, CLASSES)
    assert three == pytest.approx(3 * one, rel=1e-6)
    np.testing.assert_allclose(thrice, 3 * gradient, rtol=1e-5)


@pytest.mark.parametrize("kind", [tf.float16, tf.bfloat16])
def test_half_precision_logits(loss_and_gradient, kind):
    logits = tf.cast(LOGITS * 1000, kind)
    loss, gradient = loss_and_gradient(ClassificationLoss(0.1), logits, CLASSES)
    expected, _ = loss_and_gradient(ClassificationLoss(0.1), tf.cast(logits, tf.float32), CLASSES)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(gradient.astype(np.float32)).all()


def test_config():
    layer = ClassificationLoss(0.1, weight=2.0, name="classification")
    again = ClassificationLoss.from_config(layer.get_config())
    assert (again.label_smoothing, again.weight, again.name) == (0.1, 2.0, "classification")
