from types import SimpleNamespace

import numpy as np
import pytest

from kzoo.tasks import TASKS, most_detailed, task_of

DETECTION = {
    "boxes": np.zeros([2, 5, 4]),
    "scores": np.zeros([2, 5]),
    "classes": np.zeros([2, 5]),
    "num_detections": np.zeros([2]),
}


@pytest.mark.parametrize(
    ("answers", "task"),
    [
        (DETECTION, "detection"),
        (DETECTION | {"masks": np.zeros([2, 5, 28, 28])}, "instance_segmentation"),
        ({"probabilities": np.zeros([2, 7]), "classes": np.zeros([2])}, "classification"),
        ({"probabilities": SimpleNamespace(shape=(None, None, None, 3)), "classes": None}, "segmentation"),
    ],
)
def test_answers_tell_the_task(answers, task):
    assert task_of(answers) == task
    assert task in TASKS


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({}, "the answers are none;"),
        ({"probabilities": np.zeros([2, 5, 7])}, r"the answers are probabilities \(2, 5, 7\);"),
        ({"boxes": np.zeros([2, 5, 4])}, r"the answers are boxes \(2, 5, 4\);"),
    ],
)
def test_answers_of_no_task_are_told(answers, told):
    with pytest.raises(ValueError, match=told):
        task_of(answers)


def test_masks_tell_more_than_boxes_and_these_more_than_classes():
    assert most_detailed(TASKS) == "instance_segmentation"
    assert most_detailed(["classification", "box_regression", "detection"]) == "detection"
    assert most_detailed(["classification", "segmentation", "box_regression"]) == "segmentation"
