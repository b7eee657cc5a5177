"""From logits to what a picture or a pixel shows."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kzoo")
class ClassAnswers(keras.layers.Layer):
    """The probability of each class, and the most probable one.

    Input: logits `[..., C]`. Output: a dict of `probabilities`, float32 `[..., C]`, and `classes`, int32
    `[...]`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})

    def call(self, logits):
        return {
            "probabilities": tf.nn.softmax(logits),
            "classes": tf.argmax(logits, axis=-1, output_type=tf.int32),
        }

    def compute_output_spec(self, logits):
        return {
            "probabilities": keras.KerasTensor(logits.shape, "float32"),
            "classes": keras.KerasTensor(logits.shape[:-1], "int32"),
        }
