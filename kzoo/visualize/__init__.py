"""Boxes, masks and training curves as pictures."""

from kzoo.visualize.curves import NOT_LOSSES, compare_trainings, training_curves
from kzoo.visualize.objects import COLOURS, draw_detections, side_by_side

__all__ = ["COLOURS", "NOT_LOSSES", "compare_trainings", "draw_detections", "side_by_side", "training_curves"]
