"""How good answers are, measured against the truth.

`coco_average_precision` works on arrays, `evaluate_detection` on a dataset and a function that predicts, and
`CocoAP` inside `fit`. Only `CocoAP` needs Keras, which is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from kzoo.evaluation.coco import coco_average_precision, nan_to_none
from kzoo.evaluation.dataset import evaluate_detection

if TYPE_CHECKING:
    from kzoo.evaluation.callback import CocoAP

__all__ = ["CocoAP", "coco_average_precision", "evaluate_detection", "nan_to_none"]


def __getattr__(name: str):
    if name == "CocoAP":
        from kzoo.evaluation.callback import CocoAP

        return CocoAP
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
