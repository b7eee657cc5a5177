"""Where pictures come from: each kind of data, and what they share. No TensorFlow but for TFDS's."""
