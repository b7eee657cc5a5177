"""Which evaluation belongs to which task, and the figures to look at first."""

from collections.abc import Callable
from dataclasses import dataclass

from kzoo.checks import check_choice
from kzoo.evaluation.box_regression import evaluate_box_regression
from kzoo.evaluation.classification import evaluate_classification
from kzoo.evaluation.dataset import evaluate_detection
from kzoo.evaluation.segmentation import evaluate_segmentation
from kzoo.tasks import TASKS


@dataclass(frozen=True)
class Measure:
    """How the answers of a task are measured.

    Attributes:
        evaluate: `evaluate(predict, dataset, classes, **options) -> {name: figure}`, the same call for every
            task. `options` are those in `options`.
        headlines: the names of the figures to look at first, the one to judge by at the head. Some are there
            only for some data (`mask_AP` with masks, `top5_accuracy` with more than five classes).
        options: the names of what `evaluate` takes beyond.
    """

    evaluate: Callable[..., dict[str, float]]
    headlines: tuple[str, ...]
    options: tuple[str, ...] = ()


_AVERAGE_PRECISION = ("AP", "AP50", "AP75", "mask_AP", "mask_AP50", "mask_AP75")
_DETECTION = Measure(evaluate_detection, _AVERAGE_PRECISION, ("max_detections",))

_MEASURES = {
    "classification": Measure(evaluate_classification, ("accuracy", "top5_accuracy")),
    "box_regression": Measure(evaluate_box_regression, ("mean_iou", "accuracy", "AP50")),
    "detection": _DETECTION,
    "segmentation": Measure(
        evaluate_segmentation, ("mean_iou", "mean_dice", "pixel_accuracy"), ("ignored_label",)
    ),
    "instance_segmentation": _DETECTION,
}


def measure_of(task: str) -> Measure:
    """How the answers of a task are measured.

    Args:
        task: one of `kzoo.tasks.TASKS`.

    Raises:
        ValueError: there is no such task.

    Example:
        measure = measure_of("segmentation")
        result = measure.evaluate(model.predict_on_batch, test, test.classes)
        {name: result[name] for name in measure.headlines if name in result}
    """
    check_choice("task", task, TASKS)
    return _MEASURES[task]
