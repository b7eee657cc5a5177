"""Answers, truth and training curves as pictures."""

from kzoo.visualize.confusion import confusion_matrix_picture
from kzoo.visualize.curves import NOT_LOSSES, compare_trainings, training_curves
from kzoo.visualize.distributions import distributions
from kzoo.visualize.drawing import COLOURS
from kzoo.visualize.gallery import gallery
from kzoo.visualize.labels import draw_label
from kzoo.visualize.loss_shares import loss_shares
from kzoo.visualize.objects import draw_detections
from kzoo.visualize.pages import compare_rungs, draw_answer, side_by_side
from kzoo.visualize.pixels import draw_classes, palette_picture

__all__ = [
    "COLOURS",
    "NOT_LOSSES",
    "compare_rungs",
    "compare_trainings",
    "confusion_matrix_picture",
    "distributions",
    "draw_answer",
    "draw_classes",
    "draw_detections",
    "draw_label",
    "gallery",
    "loss_shares",
    "palette_picture",
    "side_by_side",
    "training_curves",
]
