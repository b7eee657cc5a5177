"""Serving: a trained model as a SavedModel, and back."""

from kzoo.serving.export import check_directory, export
from kzoo.serving.load import ServedModel, load

__all__ = ["ServedModel", "check_directory", "export", "load"]
