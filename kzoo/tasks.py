"""The answers that the zoo can give about a picture: what a model is for, and what data can teach."""

from typing import Final

TASKS: Final = ("classification", "box_regression", "detection", "segmentation", "instance_segmentation")
