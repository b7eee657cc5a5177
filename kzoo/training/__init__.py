"""Training: what every recipe shares."""

from kzoo.training.optimizer import adamw
from kzoo.training.precision import prepare, set_precision
from kzoo.training.run import Run
from kzoo.training.schedule import CosineSchedule
from kzoo.training.settings import OwnPictures, Settings

__all__ = ["CosineSchedule", "OwnPictures", "Run", "Settings", "adamw", "prepare", "set_precision"]
