"""Training: what every recipe shares."""

from kzoo.training.optimizer import adamw
from kzoo.training.precision import set_precision
from kzoo.training.preparation import prepare
from kzoo.training.run import Run
from kzoo.training.schedule import CosineSchedule, StepSchedule
from kzoo.training.settings import OwnObjects, OwnPictures, OwnPixels, Settings, Shapes
from kzoo.training.strategy import strategy

__all__ = [
    "CosineSchedule",
    "OwnObjects",
    "OwnPictures",
    "OwnPixels",
    "Run",
    "Settings",
    "Shapes",
    "StepSchedule",
    "adamw",
    "prepare",
    "set_precision",
    "strategy",
]
