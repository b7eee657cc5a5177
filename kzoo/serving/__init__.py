"""Serving: a trained model as a SavedModel, and back."""

from kzoo.serving.export import export
from kzoo.serving.load import ServedModel, load

__all__ = ["ServedModel", "export", "load"]
