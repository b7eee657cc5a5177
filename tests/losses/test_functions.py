import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from kzoo.losses.functions import focal_loss, giou_loss, smooth_l1

logits = st.lists(st.tuples(st.floats(-50, 50, width=32), st.booleans()), min_size=1, max_size=20)
exponents = st.one_of(st.sampled_from([0, 1, 2]), st.floats(0, 5))
alphas = st.one_of(
    st.sampled_from([None, 0, 1]), st.floats(0.01, 0.99)
)  # in between, float32 has too few digits


def plain_focal_loss(logits, targets, alpha, gamma):
    """Equation 5 in float64, where p and 1 - p are both exact enough up to logits of 50."""
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets, bool)
    right = np.where(targets, logits, -logits)
    p_t, one_less_p_t = 1 / (1 + np.exp(-right)), 1 / (1 + np.exp(right))
    minus_log_p_t = np.where(p_t < 0.5, -np.log(p_t), -np.log1p(-np.minimum(one_less_p_t, 0.5)))
    return weights(targets, alpha) * one_less_p_t**gamma * minus_log_p_t


def weights(targets, alpha):
    return np.ones(targets.shape) if alpha is None else np.where(targets, alpha, 1 - alpha)


@given(entries=logits, alpha=alphas, gamma=exponents)
def test_focal_loss_is_its_formula(entries, alpha, gamma):
    x, targets = np.float32([x for x, _ in entries]), np.float32([t for _, t in entries])
    loss = focal_loss(tf.constant(x), tf.constant(targets), alpha, gamma)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, plain_focal_loss(x, targets, alpha, gamma), rtol=1e-4, atol=1e-30)


def test_focal_loss_by_hand():
    # p is 0.5, 0.5, 0.9 and 0.9; of a one p_t = p and alpha_t = 0.25, of a zero 1 - p and 0.75.
    x = tf.constant([0.0, 0.0, np.log(9), np.log(9)], tf.float32)
    expected = [0.25 * 0.25 * np.log(2), 0.75 * 0.25 * np.log(2)]
    expected += [0.25 * 0.01 * -np.log(0.9), 0.75 * 0.81 * -np.log(0.1)]
    np.testing.assert_allclose(focal_loss(x, tf.constant([1, 0, 1, 0])), expected, rtol=1e-5)


@given(entries=logits, alpha=alphas)
def test_without_focusing_it_is_the_balanced_cross_entropy(entries, alpha):
    x, targets = np.float32([x for x, _ in entries]), np.float32([t for _, t in entries])
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(targets, x)
    expected = weights(targets == 1, alpha) * cross_entropy
    np.testing.assert_allclose(focal_loss(x, targets, alpha, 0), expected, rtol=1e-4, atol=1e-30)
    np.testing.assert_allclose(focal_loss(x, targets, alpha, 0.0), expected, rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 5])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_focal_loss_and_its_gradient_are_finite_for_large_logits(dtype, gamma):
    x = tf.Variable(tf.constant([-1e4, -100, -88, 0, 88, 100, 1e4] * 2, dtype))
    targets = tf.constant([0] * 7 + [1] * 7)
    with tf.GradientTape() as tape:
        loss = focal_loss(x, targets, gamma=gamma)
    gradient = tape.gradient(loss, x)
    assert loss.dtype == tf.float32 and gradient.dtype == dtype
    assert np.isfinite(loss).all() and np.isfinite(tf.cast(gradient, tf.float32)).all()
    # What is wrong by a hundred costs a hundred, and pulls with its full weight.
    large, small = loss.numpy()[[5, 8]], loss.numpy()[[1, 12]]
    np.testing.assert_allclose(large, [75, 25], rtol=1e-3)
    np.testing.assert_allclose(small, 0, atol=1e-30)
    np.testing.assert_allclose(tf.cast(gradient, tf.float32).numpy()[[5, 8]], [0.75, -0.25], rtol=1e-2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradient_of_focal_loss_is_that_of_the_formula(gamma):
    x = np.linspace(-20, 20, 41)
    for target in (0.0, 1.0):
        variable = tf.Variable(x, dtype=tf.float32)
        with tf.GradientTape() as tape:
            loss = focal_loss(variable, tf.fill([41], target), 0.25, gamma)
        above, below = (
            plain_focal_loss(x + step, np.full(41, target), 0.25, gamma) for step in (1e-5, -1e-5)
        )
        np.testing.assert_allclose(
            tape.gradient(loss, variable), (above - below) / 2e-5, rtol=1e-3, atol=1e-7
        )


def test_half_precision_is_not_computed_in():
    """At 60 numbers of float16 are 0.03 apart, of bfloat16 0.25."""
    x = tf.constant([60.0, 60.09375], tf.float16)
    loss = focal_loss(x, tf.zeros(2), gamma=0).numpy()
    assert loss[1] - loss[0] == pytest.approx(0.75 * 0.09375, rel=1e-4)


def plain_smooth_l1(error, beta):
    error = abs(error)
    return error * error / (2 * beta) if error < beta else error - beta / 2


@given(st.lists(st.floats(-20, 20, width=32), min_size=1), st.floats(1e-3, 5))
def test_smooth_l1_is_its_formula(errors, beta):
    expected = [plain_smooth_l1(error, beta) for error in errors]
    np.testing.assert_allclose(smooth_l1(tf.constant(errors), beta), expected, rtol=1e-4, atol=1e-6)


@given(st.lists(st.floats(-20, 20, width=32), min_size=1))
def test_smooth_l1_without_a_quadratic_part_is_l1(errors):
    np.testing.assert_array_equal(smooth_l1(tf.constant(errors), 0), np.abs(np.float32(errors)))


def test_smooth_l1_by_hand_with_its_gradient():
    errors = tf.Variable([0.0, 0.05, -0.05, 1 / 9, 2.0, -2.0])
    with tf.GradientTape() as tape:
        loss = smooth_l1(errors)
    np.testing.assert_allclose(loss, [0, 0.01125, 0.01125, 1 / 18, 2 - 1 / 18, 2 - 1 / 18], rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, errors), [0, 0.45, -0.45, 1, 1, -1], rtol=1e-5)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([0, 0, 2, 2], 0.0),
        ([0, 0, 2, 1], 0.5),
        ([2, 0, 4, 2], 1.0),  # side by side
        ([4, 0, 6, 2], 4 / 3),
        ([998, 998, 1000, 1000], 2 - 8 / 1e6),  # apart: nearly all of the enclosing box is empty
        ([1, 1, 1, 1], 1.0),  # a point inside
    ],
)
def test_giou_loss(boxes, expected):
    true_box = tf.constant([0.0, 0, 2, 2])
    assert float(giou_loss(tf.constant(boxes, tf.float32), true_box)) == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


def test_giou_loss_draws_disjoint_boxes_together():
    box = tf.Variable([4.0, 0, 6, 2])
    with tf.GradientTape() as tape:
        loss = giou_loss(box, tf.constant([0.0, 0, 2, 2]))
    gradient = tape.gradient(loss, box).numpy()
    assert gradient[0] + gradient[2] > 0  # downhill is to the left
