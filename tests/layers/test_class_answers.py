import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.class_answers import ClassAnswers


def test_by_hand():
    answers = ClassAnswers()(np.log(np.float32([[1, 3], [9, 1], [2, 2]])))
    np.testing.assert_allclose(answers["probabilities"], [[0.25, 0.75], [0.9, 0.1], [0.5, 0.5]], atol=1e-6)
    assert answers["classes"].numpy().tolist() == [1, 0, 0]


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 7, 6), (2, 5, 7, 1), (0, 3)])
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_pictures_and_pixels(shape, kind):
    logits = tf.cast(np.random.default_rng(0).normal(size=shape) * 5, kind)
    answers = ClassAnswers()(logits)
    plain = logits.numpy().astype(float)
    powers = np.exp(plain - plain.max(axis=-1, keepdims=True)) if plain.size else plain
    expected = powers / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(answers["classes"], plain.argmax(axis=-1))
    symbols = ClassAnswers()(keras.KerasTensor(shape, kind))
    for name, dtype in (("probabilities", "float32"), ("classes", "int32")):
        assert answers[name].dtype.name == symbols[name].dtype == dtype
        assert tuple(answers[name].shape) == symbols[name].shape


def test_huge_logits():
    answers = ClassAnswers()(np.float32([[1e30, -1e30, 0], [-1e30, -1e30, -1e30]]))
    np.testing.assert_allclose(answers["probabilities"], [[1, 0, 0], [1 / 3] * 3], atol=1e-6)
