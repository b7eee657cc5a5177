import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kzoo.evaluation import (
    classification_metrics,
    confusion_matrix,
    evaluate_classification,
    truth_and_probabilities,
)


@given(st.lists(st.tuples(st.integers(-2, 3), st.integers(0, 3)), max_size=30))
def test_confusion_matrix_counts_pairs(pairs):
    truth, predicted = np.array(pairs, np.int16).reshape(-1, 2).T
    expected = [[pairs.count((true, guess)) for guess in range(4)] for true in range(4)]
    matrix = confusion_matrix(truth, predicted, 4)
    assert matrix.tolist() == expected
    assert (matrix.dtype, matrix.shape) == (np.int64, (4, 4))


def test_confusion_matrix_of_pixels():
    truth = np.array([[0, 1], [-1, 1]])
    assert confusion_matrix(truth, np.array([[1, 1], [77, 0]]), 2).tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("truth", "predicted", "told"),
    [
        ([0, 3], [0, 0], "truth has class 3; the 3 classes are 0 to 2"),
        ([0, 1], [0, 3], "predicted has class 3"),
        ([0, 1], [0, -1], "predicted has class -1"),
        ([0, 1], [0], r"truth is \[2\], but predicted is \[1\]"),
    ],
)
def test_classes_that_there_are_not(truth, predicted, told):
    with pytest.raises(ValueError, match=told):
        confusion_matrix(np.array(truth), np.array(predicted), 3)


def test_figures_of_three_classes():
    # Taken for: cat, cat, dog, dog and cat. Of no class is the fifth; nothing is an owl.
    truth = np.array([0, 0, 0, 1, -1])
    probabilities = np.eye(3)[[0, 0, 1, 1, 0]]
    result = classification_metrics(truth, probabilities, ["cat", "dog", "owl"])
    assert result.pop("accuracy") == 3 / 4
    assert math.isnan(result.pop("recall/owl"))
    assert math.isnan(result.pop("precision/owl"))
    assert result == {
        "recall/cat": 2 / 3,
        "precision/cat": 1.0,
        "recall/dog": 1.0,
        "precision/dog": 1 / 2,
    }


def test_five_most_probable_of_six():
    probabilities = np.array([[0.3, 0.25, 0.2, 0.15, 0.1, 0.0]] * 2 + [[1 / 6] * 6])
    classes = list("abcdef")
    # The second's class is the least probable; among equal ones the third's comes last.
    result = classification_metrics(np.array([4, 5, 5]), probabilities, classes)
    assert (result["accuracy"], result["top5_accuracy"]) == (0, 1 / 3)
    result = classification_metrics(np.array([0, 5, 0]), probabilities, classes)
    assert (result["accuracy"], result["top5_accuracy"]) == (2 / 3, 2 / 3)
    equal = classification_metrics(np.array([4, 5]), np.full([2, 100], 0.01), list(map(str, range(100))))
    assert equal["top5_accuracy"] == 1 / 2
    assert "top5_accuracy" not in classification_metrics(np.array([4]), probabilities[:1, :5], classes[:5])


def test_nothing_known_is_nan():
    result = classification_metrics(np.array([-1]), np.array([[0.5, 0.5]]), ["cat", "dog"])
    assert all(map(math.isnan, result.values()))


@pytest.mark.parametrize(
    ("truth", "probabilities", "told"),
    [
        ([0], [[0.2, 0.3, 0.5]], r"truth is \[1\] and probabilities \[1, 3\]; \[N\] and \[N, 2\]"),
        ([0, 1], [[0.5, 0.5]], r"truth is \[2\] and probabilities \[1, 2\]"),
        ([0], [[np.nan, 0.5]], "not finite; has the training diverged"),
        ([2], [[0.5, 0.5]], "truth has class 2"),
    ],
)
def test_arrays_that_do_not_fit(truth, probabilities, told):
    with pytest.raises(ValueError, match=told):
        classification_metrics(np.array(truth), np.array(probabilities), ["cat", "dog"])


def batch(*classes):
    """Pictures whose pixels tell what `predict` takes them for."""
    images = np.zeros([len(classes), 4, 4, 3], np.uint8)
    images[:] = np.reshape(classes, [-1, 1, 1, 1]) % 2
    return {"images": images, "classes": np.array(classes, np.int32)}


def predict(images):
    return {"probabilities": np.eye(3, dtype=np.float32)[images[:, 0, 0, 0]]}


def test_a_dataset_of_batches_of_several_sizes():
    dataset = [batch(0, 1, 2), batch(1)]  # the third is taken for the first class
    result = evaluate_classification(predict, dataset, ["cat", "dog", "owl"])
    assert (result["accuracy"], result["recall/owl"], result["precision/cat"]) == (3 / 4, 0, 1 / 2)
    truth, probabilities = truth_and_probabilities(predict, dataset)
    assert truth.tolist() == [0, 1, 2, 1]
    assert probabilities.argmax(axis=1).tolist() == [0, 1, 0, 1]
    assert classification_metrics(truth, probabilities, ["cat", "dog", "owl"]) == result


def test_faults_of_the_loop_are_named():
    with pytest.raises(ValueError, match="dataset is empty"):
        evaluate_classification(predict, [], ["cat"])
    with pytest.raises(ValueError, match=r"answer of predict lacks \['probabilities'\]; it has \['boxes'\]"):
        evaluate_classification(lambda images: {"boxes": images}, [batch(0)], ["cat"])
    with pytest.raises(ValueError, match=r"batch of the dataset lacks \['classes'\]"):
        evaluate_classification(predict, [{"images": np.zeros([1, 4, 4, 3])}], ["cat"])
    with pytest.raises(ValueError, match="answered for 1 pictures when it was given 2"):
        evaluate_classification(lambda images: predict(images[:1]), [batch(0, 1)], ["cat"])
