import math

import numpy as np
import pytest

from kzoo.evaluation import evaluate_box_regression, evaluate_detection

TRUE = [10, 10, 30, 30]


def batch_of(classes, scale=1.0, boxes=TRUE):
    """A batch of pictures with the same box in given pixels."""
    count, most = np.shape(classes)
    return {
        "images": np.zeros([count, 64, 64, 3], np.uint8),
        "boxes": np.tile(np.array(boxes, np.float32), [count, most, 1]),
        "classes": np.array(classes, np.int32),
        "scale": np.full([count, 2], scale, np.float32),
        "original_size": np.full([count, 2], 64 / scale, np.int32),
    }


def answers_of(*pictures):
    """For each picture a list of (box, score, class), by falling score."""
    most = max(map(len, pictures))
    answers = {
        "boxes": np.zeros([len(pictures), most, 4], np.float32),
        "scores": np.zeros([len(pictures), most], np.float32),
        "classes": np.full([len(pictures), most], -1, np.int32),
        "num_detections": np.array([*map(len, pictures)], np.int32),
    }
    for index, found in enumerate(pictures):
        for slot, (box, score, label) in enumerate(found):
            answers["boxes"][index, slot] = box
            answers["scores"][index, slot] = score
            answers["classes"][index, slot] = label
    return answers


def test_the_box_of_the_highest_score_is_compared():
    batch = batch_of([[0], [0], [1], [1]], scale=0.5)
    answers = answers_of(
        [(TRUE, 0.9, 0)],
        [([10, 20, 30, 40], 0.8, 0), (TRUE, 0.7, 0)],  # 200 of 600 pixels
        [(TRUE, 0.6, 0)],  # of another class
        [],
    )
    asked = []

    def predict(images):
        asked.append(len(images))
        return answers

    result = evaluate_box_regression(predict, [batch], ["red", "blue"])
    assert result["mean_iou"] == pytest.approx((1 + 1 / 3 + 1 + 0) / 4)
    assert result["accuracy"] == 2 / 4
    assert asked == [4]
    detection = evaluate_detection(predict, [batch], ["red", "blue"])
    assert {name: result[name] for name in detection} == pytest.approx(detection, nan_ok=True)
    assert set(result) - set(detection) == {"mean_iou", "accuracy"}


def test_boxes_that_miss_and_boxes_without_area():
    batch = batch_of([[0], [0]])
    answers = answers_of([([40, 40, 50, 50], 0.9, 0)], [([20, 20, 20, 20], 0.9, 0)])
    result = evaluate_box_regression(lambda images: answers, [batch], ["red"])
    assert (result["mean_iou"], result["accuracy"]) == (0, 1)


def test_pictures_without_an_object_are_left_out():
    answers = answers_of([(TRUE, 0.9, 0)], [(TRUE, 0.9, 0)])
    result = evaluate_box_regression(lambda images: answers, [batch_of([[0], [-1]])], ["red"])
    assert (result["mean_iou"], result["accuracy"]) == (1, 1)
    result = evaluate_box_regression(lambda images: answers, [batch_of([[-1], [-1]])], ["red"])
    assert math.isnan(result["mean_iou"])
    assert math.isnan(result["accuracy"])


def test_with_several_objects_there_is_no_one_box_to_compare():
    batch = batch_of([[0, -1], [0, 0]])
    batch["boxes"][1, 1] = [40, 40, 60, 60]
    answers = answers_of([(TRUE, 0.9, 0)], [(TRUE, 0.9, 0), ([40, 40, 60, 60], 0.8, 0)])
    result = evaluate_box_regression(lambda images: answers, [batch], ["red"])
    assert result["AP"] == pytest.approx(1)
    assert "mean_iou" not in result
    assert "accuracy" not in result
