import keras
import numpy as np

from kzoo.training import adamw


def test_biases_and_normalisation_do_not_decay():
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 1), keras.layers.BatchNormalization()]
    )
    for weight in model.trainable_weights:
        weight.assign(np.ones(weight.shape))
    optimizer = adamw(0.1, weight_decay=0.5)
    # With gradients of nothing AdamW's own step is nothing: what moves was decayed.
    zeros = [np.zeros(weight.shape, np.float32) for weight in model.trainable_weights]
    optimizer.apply(zeros, model.trainable_weights)
    values = {weight.name: np.unique(weight.numpy()) for weight in model.trainable_weights}
    np.testing.assert_allclose(values.pop("kernel"), 1 - 0.1 * 0.5, rtol=1e-6)
    assert set(values) == {"bias", "gamma", "beta"}
    assert all(value == 1.0 for value in values.values())
