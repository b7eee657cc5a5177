"""Published weights: fetched, read without PyTorch, and fitted to the zoo's models."""

from kzoo.weights.errors import WeightsError

__all__ = ["WeightsError"]
