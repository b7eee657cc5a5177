"""Training: what every recipe shares."""

from kzoo.training.precision import set_precision
from kzoo.training.run import Run
from kzoo.training.schedule import CosineSchedule

__all__ = ["CosineSchedule", "Run", "set_precision"]
