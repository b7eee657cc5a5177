import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kzoo.evaluation import evaluate_segmentation, own_probabilities, segmentation_metrics


def test_figures_of_a_matrix():
    # Cells: 4 right, 2 taken for ground, 1 of ground taken for them. Dirt is never there; dust is found once.
    matrix = np.array([[6, 1, 0, 1], [2, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    result = segmentation_metrics(matrix, ["ground", "cell", "dirt", "dust"])
    assert math.isnan(result.pop("IoU/dirt"))
    assert math.isnan(result.pop("Dice/dirt"))
    assert result == pytest.approx(
        {
            "mean_iou": (6 / 10 + 4 / 7 + 0) / 3,
            "mean_dice": (12 / 16 + 8 / 11 + 0) / 3,
            "pixel_accuracy": 10 / 14,
            "IoU/ground": 6 / 10,
            "IoU/cell": 4 / 7,
            "IoU/dust": 0,
            "Dice/ground": 12 / 16,
            "Dice/cell": 8 / 11,
            "Dice/dust": 0,
        }
    )
    assert all(map(math.isnan, segmentation_metrics(np.zeros([1, 1], int), ["ground"]).values()))


def test_a_matrix_of_other_classes():
    with pytest.raises(ValueError, match=r"the matrix is \[2, 2\], but there are 1 classes"):
        segmentation_metrics(np.zeros([2, 2], int), ["ground"])


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=3, max_size=3))
def test_dice_and_iou_agree(rows):
    result = segmentation_metrics(np.array(rows), "abc")
    for name in "abc":
        iou, dice = result[f"IoU/{name}"], result[f"Dice/{name}"]
        assert dice == pytest.approx(2 * iou / (1 + iou), nan_ok=True)


def test_without_resampling_own_pixels_are_those_at_the_top_left():
    given_pixels = np.random.default_rng(0).random((8, 8, 2), np.float32)
    own = own_probabilities(given_pixels, np.ones(2, np.float32), np.array([5, 8], np.int32))
    np.testing.assert_array_equal(own, given_pixels[:5])
    assert own.dtype == np.float32


def bilinear(values, y, x):
    """The value at a point between the centres of pixels, of the nearest beyond them, by its definition."""
    y, x = (min(max(at - 0.5, 0), length - 1) for at, length in zip((y, x), values.shape, strict=True))
    total = 0
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            total += max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column)) * values[row, column]
    return total


@pytest.mark.parametrize("own_size", [(12, 10), (3, 5), (6, 20), (4, 3)])
def test_own_pixels_lie_between_given_ones(own_size):
    # The picture covers 6 by 5 of 8 by 8; what stands in the padding must not be seen.
    probabilities = np.random.default_rng(1).random((8, 8, 3)).astype(np.float32)
    scale = (np.array([6, 5]) / own_size).astype(np.float32)
    own = own_probabilities(probabilities, scale, np.array(own_size))
    assert own.shape == (*own_size, 3)
    for row in range(own_size[0]):
        for column in range(own_size[1]):
            y, x = (row + 0.5) * scale[0], (column + 0.5) * scale[1]
            expected = bilinear(probabilities[:6, :5, 1], y, x)
            assert own[row, column, 1] == pytest.approx(expected, abs=1e-5)


def test_probabilities_stay_probabilities():
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet(np.ones(4), (7, 9)).astype(np.float32)
    own = own_probabilities(probabilities, np.array([0.35, 0.45], np.float32), np.array([20, 20]))
    np.testing.assert_allclose(own.sum(axis=-1), 1, atol=1e-5)


def test_a_picture_larger_than_what_was_answered():
    with pytest.raises(
        ValueError, match=r"the picture covers \[16, 8\].*the probabilities are \[8, 8, 2\].*for_whole_pi"
    ):
        own_probabilities(np.zeros([8, 8, 2]), np.ones(2), np.array([16, 8]))


class Batches(list):
    """Batches of a split that knows the labels of its pictures, as `kzoo.data.load` returns them."""

    def __init__(self, batches, labels):
        super().__init__(batches)
        self.pictures = SimpleNamespace(read_labels=labels.__getitem__)


def batch_of(sizes, side=8, first=0):
    """Pictures of these sizes in a square of `side`, at their top left; the pixels are its index."""
    sizes = np.array(sizes, np.int32)
    scale = side / sizes.max(axis=1, keepdims=True)
    indices = first + np.arange(len(sizes))
    images = np.zeros([len(sizes), side, side, 3], np.uint8) + indices.astype(np.uint8)[:, None, None, None]
    return {
        "images": images,
        "image_id": indices,
        "original_size": sizes,
        "scale": np.repeat(scale, 2, axis=1).astype(np.float32),
    }


def predict_from(answers):
    """Answers by the index that the pixels of a picture tell; float [h, w, C] for each."""

    def predict(images):
        probabilities = np.stack([answers[index] for index in images[:, 0, 0, 0]])
        return {"probabilities": probabilities, "classes": probabilities.argmax(axis=-1)}

    return predict


def halves(height, width, left):
    """The second class in the columns from `left` on, one-hot [height, width, 2]."""
    return np.eye(2)[np.broadcast_to(np.arange(width) >= left, [height, width]).astype(int)]


def test_labels_are_read_in_the_pictures_own_pixels():
    wide = np.zeros([8, 16], np.int16)  # given as 4 by 8, half its size
    wide[:, 8:] = 1
    own = np.ones([8, 8], np.int16)
    own[:, :3], own[0] = 0, -1
    dataset = Batches([batch_of([(8, 16)]), batch_of([(8, 8)], first=1)], [wide, own])
    right = [halves(8, 8, 4), halves(8, 8, 3)]
    right[0][4:] = right[0][4:, ::-1]  # what is said of the padding is nothing
    right[1][0] = right[1][0, ::-1]  # nor of what is ignored
    result = evaluate_segmentation(predict_from(right), dataset, ["ground", "cell"])
    assert (result["mean_iou"], result["pixel_accuracy"]) == (1, 1)
    # A border that is one given pixel off is two of the picture's own: 8 rows of 2.
    wrong = [halves(8, 8, 5), right[1]]
    result = evaluate_segmentation(predict_from(wrong), dataset, ["ground", "cell"])
    assert result["pixel_accuracy"] == pytest.approx(1 - 16 / (8 * 16 + 7 * 8))
    assert result["IoU/cell"] == (48 + 35) / (64 + 35)
    assert result["IoU/ground"] == (64 + 21) / (80 + 21)


def test_labels_that_lie_in_no_file_are_those_of_the_batch():
    truth = np.ones([2, 8, 8], np.int32)
    truth[:, :, :4], truth[:, 4:] = 0, -1
    answers = [halves(8, 8, 4), halves(8, 8, 2)]
    dataset = [batch_of([(8, 8)] * 2) | {"classes": truth}]
    result = evaluate_segmentation(predict_from(answers), dataset, ["ground", "cell"])
    assert result["pixel_accuracy"] == 1 - 8 / 64
    without = Batches(dataset, [])
    without.pictures.read_labels = None
    assert evaluate_segmentation(predict_from(answers), without, ["ground", "cell"]) == result


def test_what_else_is_ignored_in_a_batch():
    truth = np.array([[[0, 1, 255, -1]]], np.int16)
    dataset = [{"images": np.zeros([1, 1, 4, 3], np.uint8), "classes": truth}]
    answers = [np.eye(2)[[[0, 1, 1, 0]]]]
    result = evaluate_segmentation(predict_from(answers), dataset, "ab", ignored_label=255)
    assert result["pixel_accuracy"] == result["IoU/b"] == 1
    dataset[0]["classes"] = np.array([[[0, 1, 255, 255]]], np.uint8)
    assert evaluate_segmentation(predict_from(answers), dataset, "ab", ignored_label=255) == result
    with pytest.raises(ValueError, match="class 255"):
        evaluate_segmentation(predict_from(answers), dataset, "ab")


def test_of_an_answer_for_the_central_part_that_part_is_measured():
    labels = np.random.default_rng(3).integers(0, 2, [8, 8]).astype(np.int16)
    central = np.eye(2)[labels[2:6, 1:7]]
    of_data = Batches([batch_of([(8, 8)])], [labels])
    of_batch = [of_data[0] | {"classes": labels[None].astype(np.int32)}]
    for dataset in (of_data, of_batch):
        for answer, right in ((central, 1), (1 - central, 0)):
            result = evaluate_segmentation(predict_from([answer]), dataset, "ab")
            assert result["pixel_accuracy"] == right


@pytest.mark.parametrize(
    ("side", "rows", "columns"),
    [(16, slice(4, 12), slice(2, 14)), (4, slice(1, 3), slice(0, 4))],  # whose centres lie in the part
)
def test_the_central_part_in_own_pixels(side, rows, columns):
    """Rows 2 to 6 and columns 1 to 7 of 8 are answered for."""
    labels = np.ones([side, side], np.int16)
    labels[rows, columns] = 0
    dataset = Batches([batch_of([(side, side)])], [labels])
    result = evaluate_segmentation(predict_from([halves(4, 6, 6)]), dataset, "ab")
    assert (result["pixel_accuracy"], result["IoU/a"]) == (1, 1)
    labels[:] = 1
    wrong = evaluate_segmentation(predict_from([halves(4, 6, 6)]), dataset, "ab")
    assert wrong["pixel_accuracy"] == 0
    labels[rows, columns] = -1
    nothing = evaluate_segmentation(predict_from([halves(4, 6, 6)]), dataset, "ab")
    assert math.isnan(nothing["pixel_accuracy"])


def test_faults_are_named():
    labels = [np.zeros([8, 8], np.int16)]
    dataset = Batches([batch_of([(8, 8)])], labels)

    def measured(answer):
        return evaluate_segmentation(predict_from([answer]), dataset, ["ground", "cell"])

    with pytest.raises(ValueError, match="dataset is empty"):
        evaluate_segmentation(predict_from([]), [], ["ground"])
    with pytest.raises(ValueError, match=r"lacks \['probabilities'\]"):
        evaluate_segmentation(lambda images: {"classes": images}, dataset, ["ground"])
    with pytest.raises(ValueError, match=r"answered for \[5, 8\] pixels when it was given \[8, 8\]"):
        measured(halves(5, 8, 0))
    with pytest.raises(ValueError, match=r"answered for \[2\] pixels"):
        measured(np.zeros(2))
    with pytest.raises(ValueError, match="not finite"):
        measured(halves(8, 8, 0) * np.nan)
    with pytest.raises(ValueError, match="predicted has class 2"):
        measured(np.eye(3)[np.full([8, 8], 2)])
    labels[0] = np.zeros([8, 9], np.int16)
    with pytest.raises(ValueError, match=r"truth is \[8, 9\], but predicted is \[8, 8\]"):
        measured(halves(8, 8, 0))
