import pytest

from kzoo import evaluation
from kzoo.evaluation import measure_of
from kzoo.tasks import TASKS


def test_every_task_is_measured():
    evaluate = {task: measure_of(task).evaluate for task in TASKS}
    assert evaluate == {
        "classification": evaluation.evaluate_classification,
        "box_regression": evaluation.evaluate_box_regression,
        "detection": evaluation.evaluate_detection,
        "segmentation": evaluation.evaluate_segmentation,
        "instance_segmentation": evaluation.evaluate_detection,
    }


def test_a_task_that_there_is_not():
    with pytest.raises(ValueError, match='task="detect": unknown. Nearest: "detection"'):
        measure_of("detect")
