"""How good answers are, measured against the truth.

For each task there is an arithmetic on arrays (`classification_metrics`, `coco_average_precision`,
`segmentation_metrics`), an evaluation of a dataset and a function that predicts (`evaluate_classification`,
`evaluate_box_regression`, `evaluate_detection`, `evaluate_segmentation`), and one callback for `fit`,
`Evaluation`; `measure_of` tells which belongs to which task. `evaluate_rand` and `evaluate_touching` ask how
well pixels alone tell objects apart. Only the callbacks need Keras, which is imported when one is first
asked for.
"""

from typing import TYPE_CHECKING

from kzoo.evaluation.apart import evaluate_rand, evaluate_touching
from kzoo.evaluation.box_regression import evaluate_box_regression
from kzoo.evaluation.classification import (
    classification_metrics,
    confusion_matrix,
    evaluate_classification,
    truth_and_probabilities,
)
from kzoo.evaluation.coco import coco_average_precision, nan_to_none
from kzoo.evaluation.dataset import evaluate_detection
from kzoo.evaluation.measures import Measure, measure_of
from kzoo.evaluation.rand import cells_of, foreground_rand
from kzoo.evaluation.segmentation import evaluate_segmentation, own_probabilities, segmentation_metrics
from kzoo.evaluation.touching import touching_kept_apart

if TYPE_CHECKING:
    from kzoo.evaluation.callback import CocoAP, Evaluation

__all__ = [
    "CocoAP",
    "Evaluation",
    "Measure",
    "cells_of",
    "classification_metrics",
    "coco_average_precision",
    "confusion_matrix",
    "evaluate_box_regression",
    "evaluate_classification",
    "evaluate_detection",
    "evaluate_rand",
    "evaluate_segmentation",
    "evaluate_touching",
    "foreground_rand",
    "measure_of",
    "nan_to_none",
    "own_probabilities",
    "segmentation_metrics",
    "touching_kept_apart",
    "truth_and_probabilities",
]


def __getattr__(name: str):
    if name in ("CocoAP", "Evaluation"):
        from kzoo.evaluation import callback

        return getattr(callback, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
