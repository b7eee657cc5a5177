import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(scope="session")
def loss_and_gradient():
    """Computes the one loss that a layer adds, and its gradient to the first input, which it returns."""

    def compute(layer, first, *others):
        first = tf.Variable(first)
        layer.tracker.reset_state()
        with tf.GradientTape() as tape:
            passed = layer(first, *others)
            (loss,) = layer.losses
        assert loss.dtype == passed.dtype == tf.float32
        np.testing.assert_array_equal(passed, tf.cast(first, tf.float32))
        assert float(layer.tracker.result()) == pytest.approx(float(loss), rel=1e-5)  # what is shown
        return float(loss), tf.convert_to_tensor(tape.gradient(loss, first)).numpy()

    return compute
