"""All data read once: what there is, and what is wrong with it. No TensorFlow."""

from kzoo.data.checking.checking import check

__all__ = ["check"]
