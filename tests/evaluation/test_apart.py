import math
from types import SimpleNamespace

import numpy as np
import pytest

from kzoo.data.masks import encode
from kzoo.evaluation import evaluate_rand, evaluate_touching

SIDE = 8


class Batches(list):
    """A batch for each picture, as `kzoo.data.load` gives it: at the top left of a square of `SIDE`."""

    def __init__(self, sizes, labels=None, masks=None):
        super().__init__(
            {
                "images": np.full([1, SIDE, SIDE, 3], index, np.uint8),
                "image_id": np.array([index]),
                "original_size": np.array([size], np.int32),
                "scale": np.full([1, 2], SIDE / max(size), np.float32),
            }
            for index, size in enumerate(sizes)
        )
        self.pictures = SimpleNamespace(
            read_labels=labels and labels.__getitem__, read_masks=masks and masks.__getitem__
        )


def predict_from(probabilities):
    """Answers by the index that a picture's pixels tell, which is its probability [8, 8] of class 1."""

    def predict(images):
        cells = np.stack([probabilities[index] for index in images[:, 0, 0, 0]])
        return {"probabilities": np.stack([1 - cells, cells], axis=-1)}

    return predict


def two_cells(height, width, border):
    """Cells, class 1, at the left and at the right of one column of border, class 0."""
    labels = np.ones([height, width], np.int16)
    labels[:, border] = 0
    return labels


def in_square(values):
    """A picture's own values as an answer about a square, where it fills one side of it; the rest is 1."""
    answer = np.ones([SIDE, SIDE], np.float32)
    times = SIDE // max(values.shape)
    values = np.repeat(np.repeat(values, times, 0), times, 1)
    answer[: values.shape[0], : values.shape[1]] = values
    return answer


def merged(*shares):
    """The score of cells of these shares that were found as one."""
    squares = sum(share**2 for share in shares)
    return squares / (0.5 + 0.5 * squares)


def test_pictures_of_several_sizes_are_scored_each_and_averaged():
    labels = [two_cells(8, 8, 3), two_cells(2, 4, 1), two_cells(5, 8, 4)]
    probabilities = [
        in_square(np.where(of_one, 0.9, low)) for of_one, low in zip(labels, (0, 0.6, 0.6), strict=True)
    ]
    dataset = Batches([(8, 8), (2, 4), (5, 8)], labels)
    result = evaluate_rand(predict_from(probabilities), dataset, cells=1)
    assert result["rand"] == pytest.approx((1 + merged(1 / 3, 2 / 3) + merged(4 / 7, 3 / 7)) / 3)
    assert (result["best_rand"], result["best_rand_threshold"]) == (1, 0.6)


def test_the_first_of_the_best_thresholds_is_told():
    labels = [two_cells(8, 8, 3)]
    predict = predict_from([in_square(np.where(labels[0], 0.9, 0.45))])
    result = evaluate_rand(predict, Batches([(8, 8)], labels), cells=1, thresholds=[0.1, 0.7, 0.8])
    assert result == {"rand": 1, "best_rand": 1, "best_rand_threshold": 0.7}
    result = evaluate_rand(predict, Batches([(8, 8)], labels), cells=1, thresholds=[0.1])
    assert result["best_rand"] == pytest.approx(merged(3 / 7, 4 / 7))


def test_another_class_may_be_the_cells():
    labels = [1 - two_cells(8, 8, 3)]
    predict = predict_from([in_square(np.where(labels[0], 0.9, 0.1))])
    assert evaluate_rand(predict, Batches([(8, 8)], labels), cells=0)["rand"] == 1


def test_ignored_pixels_are_neither_of_a_cell_nor_found():
    labels = [two_cells(8, 8, 3)]
    labels[0][:, 3] = -1  # between the cells, where all is found for cell: it does not join them
    result = evaluate_rand(predict_from([np.ones([8, 8])]), Batches([(8, 8)], labels), cells=1)
    assert (result["rand"], result["best_rand"]) == (1, 1)
    labels[0][:, 3], labels[0][:, 4:] = 0, -1  # one cell is left, and beside it anything may be said
    probability = np.ones([8, 8])
    probability[:, 3] = 0
    probability[::2, 4:] = 0
    assert evaluate_rand(predict_from([probability]), Batches([(8, 8)], labels), cells=1)["rand"] == 1


def test_pictures_without_a_cell_are_left_out():
    labels = [np.zeros([8, 8], np.int16), two_cells(8, 8, 3), np.full([8, 8], -1, np.int16)]
    probabilities = [np.ones([8, 8])] * 3
    some = evaluate_rand(predict_from(probabilities), Batches([(8, 8)] * 3, labels), cells=1)
    assert some["rand"] == some["best_rand"] == pytest.approx(merged(3 / 7, 4 / 7))
    none = evaluate_rand(predict_from(probabilities), Batches([(8, 8)], labels), cells=1)
    assert set(none) == set(some)
    assert all(map(math.isnan, none.values()))


def test_objects_that_touch_over_pictures_of_several_sizes():
    columns = np.arange(8)
    left, right = np.tile(columns < 4, (8, 1)), np.tile(columns >= 4, (8, 1))
    alone = np.tile(columns[:4] < 2, (2, 1))
    masks = [encode(np.stack([left, right])), encode(np.stack([left, right])), encode(alone[None])]
    border = np.tile(np.where((columns == 3) | (columns == 4), 0.1, 0.9), (8, 1))
    predict = predict_from([border, np.ones([8, 8]), in_square(np.where(alone, 0.9, 0.1))])
    dataset = Batches([(8, 8), (8, 8), (2, 4)], masks=masks)
    assert evaluate_touching(predict, dataset) == {"touching": 4, "kept_apart": 2}


def test_faults_are_named():
    labels, dataset = [two_cells(8, 8, 3)], Batches([(8, 8)])
    dataset.pictures.read_labels, dataset.pictures.read_masks = labels.__getitem__, [[]].__getitem__
    central = predict_from([np.ones([4, 4])])
    for evaluate in (lambda: evaluate_rand(central, dataset, 1), lambda: evaluate_touching(central, dataset)):
        with pytest.raises(ValueError, match=r"covers \[8, 8\].*wrapped by kzoo\.tiles\.for_whole_pictures"):
            evaluate()
    with pytest.raises(ValueError, match="thresholds holds none"):
        evaluate_rand(central, dataset, 1, thresholds=())
    with pytest.raises(ValueError, match="dataset is empty"):
        evaluate_rand(central, Batches([]), 1)
