import dataclasses

import numpy as np
import pytest

from kzoo.data.masks import encode
from kzoo.data.sources import Split
from kzoo.evaluation import evaluate_detection


def batch_of(boxes, classes, scale, original_size):
    """A batch as kzoo.data.load gives them; the pixels hold the index of the picture."""
    count = len(boxes)
    images = np.zeros((count, 64, 64, 3), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    return {
        "images": images,
        "boxes": np.array(boxes, np.float32),
        "classes": np.array(classes, np.int32),
        "scale": np.array(scale, np.float32),
        "original_size": np.array(original_size, np.int32),
        "image_id": np.arange(count),
    }


def perfect(batch):
    """Answers that are the truth of a batch, with the slots that are no objects at the end."""
    real = batch["classes"] >= 0
    return {
        "boxes": batch["boxes"],
        "scores": np.where(real, 0.9, 0).astype(np.float32),
        "classes": batch["classes"],
        "num_detections": real.sum(axis=1).astype(np.int32),
    }


def test_areas_are_those_of_the_pictures_own_pixels():
    # The same 30 x 30 box is 30², 60² and 120 x 100 pixels of three pictures.
    batch = batch_of(
        [[[0, 0, 30, 30], [0, 0, 0, 0]]] * 3,
        [[0, -1]] * 3,
        scale=[(1, 1), (0.5, 0.5), (0.3, 0.25)],
        original_size=[(64, 64), (128, 128), (213, 256)],
    )
    answers = perfect(batch)
    nowhere = np.array([40, 40, 50, 50], np.float32)

    def missing(index):
        boxes = answers["boxes"].copy()
        boxes[index, 0] = nowhere
        result = evaluate_detection(lambda images: answers | {"boxes": boxes}, [batch], ["cell"])
        return [round(result[f"AP_{size}"], 3) for size in ("small", "medium", "large")]

    assert evaluate_detection(lambda images: answers, [batch], ["cell"])["AP"] == pytest.approx(1)
    assert missing(0) == [0, 1, 1]
    assert missing(1)[1] == 0
    assert missing(2)[2] == 0


def test_answers_are_clipped_to_the_picture():
    # The object touches the lower edge of a picture that fills half of the square it was padded to.
    batch = batch_of([[[0, 0, 64, 32]]], [[0]], [(0.5, 0.5)], [(64, 128)])
    answers = perfect(batch) | {"boxes": np.array([[[0, 0, 64, 64]]], np.float32)}  # reaches into the padding
    assert evaluate_detection(lambda images: answers, [batch], ["cell"])["AP"] == pytest.approx(1)


def test_batches_of_different_sizes_and_slots_past_num_detections():
    first = batch_of([[[0, 0, 30, 30]], [[5, 5, 60, 60]]], [[0], [1]], [(1, 1)] * 2, [(64, 64)] * 2)
    last = batch_of([[[0, 0, 0, 0]]], [[-1]], [(1, 1)], [(64, 64)])
    answers = {2: perfect(first), 1: perfect(last)}
    seen = []

    def predict(images):
        seen.append(images.shape)
        return answers[len(images)]

    result = evaluate_detection(predict, [first, last], ["red", "blue"])
    assert result["AP"] == pytest.approx(1)
    assert seen == [(2, 64, 64, 3), (1, 64, 64, 3)]

    # A model that leaves something in its empty slots is not judged by it.
    answers[1] = answers[1] | {"scores": np.array([[1.0]]), "classes": np.array([[0]])}
    assert evaluate_detection(predict, [first, last], ["red", "blue"])["AP"] == pytest.approx(1)


def test_faults_of_the_loop_are_named():
    batch = batch_of([[[0, 0, 30, 30]]] * 2, [[0]] * 2, [(1, 1)] * 2, [(64, 64)] * 2)
    answers = perfect(batch)
    with pytest.raises(ValueError, match="dataset is empty"):
        evaluate_detection(lambda images: answers, [], ["cell"])
    with pytest.raises(ValueError, match=r"answer of predict lacks \['boxes'.*it has \['probabilities'\]"):
        evaluate_detection(lambda images: {"probabilities": images}, [batch], ["cell"])
    with pytest.raises(ValueError, match=r"batch of the dataset lacks \['scale'\]"):
        stripped = {key: value for key, value in batch.items() if key != "scale"}
        evaluate_detection(lambda images: answers, [stripped], ["cell"])
    with pytest.raises(ValueError, match="answered for 1 pictures when it was given 2"):
        evaluate_detection(lambda images: {k: v[:1] for k, v in answers.items()}, [batch], ["cell"])


class Batches(list):
    """Batches of one split, as `kzoo.data.load` returns them: `pictures` is the split."""

    def __init__(self, batches, boxes, classes, sizes, masks=None, areas=None):
        super().__init__(batches)
        self.pictures = Split(
            name="val",
            boxes=tuple(boxes),
            classes=tuple(classes),
            names=tuple(map(str, range(len(boxes)))),
            sizes=tuple(sizes),
            read=None,
            read_masks=masks and masks.__getitem__,
            areas=areas,
        )


def halves(box, size, lower=False):
    """The upper or the lower half of a box, bool [H, W]."""
    x1, y1, x2, y2 = box
    middle = (y1 + y2) // 2
    mask = np.zeros(size, bool)
    mask[slice(middle, y2) if lower else slice(y1, middle), x1:x2] = True
    return mask


@pytest.fixture
def masked():
    """Pictures at half and at their own size, of one object and of two: the upper halves of their boxes."""
    own = [[[20, 20, 80, 100]], [[0, 0, 40, 40], [20, 30, 60, 60]]]
    given = [[[10, 10, 40, 50], [0, 0, 0, 0]], own[1]]
    sizes = [(128, 100), (64, 64)]
    batch = batch_of(given, [[0, -1], [0, 1]], [(0.5, 0.5), (1, 1)], sizes)
    masks = [
        encode(np.stack([halves(box, size) for box in boxes])) for boxes, size in zip(own, sizes, strict=True)
    ]
    return batch, Batches([batch], own, [[0], [0, 1]], sizes, masks)


def within_boxes(lower=()):
    """What a model answers for `masked`: float [2, 2, 28, 28], the upper halves, of some the lower ones."""
    masks = np.zeros([2, 2, 28, 28], np.float32)
    masks[:, :, :14] = 0.9
    for place in lower:
        masks[place] = masks[place][::-1]
    return masks


def test_masks_within_boxes_in_the_pictures_own_pixels(masked):
    batch, dataset = masked
    answers = perfect(batch)

    def measured(masks):
        return evaluate_detection(lambda images: answers | {"masks": masks}, dataset, ["red", "blue"])

    assert measured(within_boxes())["mask_AP"] == pytest.approx(1)
    result = measured(within_boxes(lower=[(0, 0)]))
    assert result["AP"] == pytest.approx(1)
    # Of equal scores the first picture's, the wrong one, comes first: precision is 1/2 up to a recall of 1/2.
    assert (result["mask_AP/red"], result["mask_AP/blue"]) == pytest.approx((51 * 0.5 / 101, 1))
    assert measured(within_boxes(lower=[(1, 1)]))["mask_AP/blue"] == 0


def test_masks_in_pixels_of_what_the_model_was_given(masked):
    batch, dataset = masked
    masks = np.zeros([2, 2, 64, 64], np.uint8)
    masks[0, 0] = halves([10, 10, 40, 50], (64, 64))
    masks[1, 0] = halves([0, 0, 40, 40], (64, 64))
    masks[1, 1] = halves([20, 30, 60, 60], (64, 64), lower=True)
    answers = perfect(batch) | {"masks": masks}
    result = evaluate_detection(lambda images: answers, dataset, ["red", "blue"])
    assert (result["mask_AP/red"], result["mask_AP/blue"]) == (pytest.approx(1), 0)


def test_masks_on_one_side_alone_are_left_aside(masked):
    batch, dataset = masked
    answers = perfect(batch)
    of_data = evaluate_detection(lambda images: answers, dataset, ["red", "blue"])
    dataset.pictures = None
    with_masks = answers | {"masks": within_boxes()}
    for data in (dataset, [batch], Batches([batch], [[]], [[]], [])):
        assert evaluate_detection(lambda images: with_masks, data, ["red", "blue"]) == pytest.approx(
            of_data, nan_ok=True
        )
    assert not any(name.startswith("mask_") for name in of_data)


def test_areas_are_those_of_the_annotations(masked):
    batch, dataset = masked
    areas = ([100.0], [2000.0, 100000.0])
    dataset = Batches([batch], [[]] * 2, [[]] * 2, [], areas=tuple(map(np.array, areas)))
    answers = perfect(batch)
    result = evaluate_detection(lambda images: answers, dataset, ["red", "blue"])
    assert [result[f"AP_{size}"] for size in ("small", "medium", "large")] == pytest.approx([1, 1, 1])
    assert np.isnan(evaluate_detection(lambda images: answers, [batch], ["red", "blue"])["AP_large"])


def test_crowds_are_not_to_be_found_and_excuse_what_lies_in_them():
    # Slots: an object, a crowd, padding. Answers: two in the crowd, the object, one that is nowhere.
    batch = batch_of([[[0, 0, 30, 30], [20, 30, 64, 64], [0] * 4]], [[1, -2, -1]], [(1, 1)], [(64, 64)])
    answers = {
        "boxes": np.array([[[30, 35, 50, 60], [40, 40, 64, 64], [0, 0, 30, 30], [40, 0, 60, 20]]], float),
        "scores": np.array([[0.9, 0.8, 0.7, 0.6]]),
        "classes": np.array([[1, 1, 1, 1]]),
        "num_detections": np.array([4]),
    }
    masks = encode(
        np.stack([halves([0, 0, 30, 30], (64, 64)), halves([20, 30, 64, 64], (64, 64), lower=True)])
    )
    dataset = Batches([batch], [[]], [[]], [], [masks], areas=(np.array([450.0, 1e4]),))
    within = np.ones([1, 4, 28, 28], np.float32)
    within[:, 2, 14:] = 0
    for data in ([batch], dataset):
        result = evaluate_detection(lambda images: answers | {"masks": within}, data, ["red", "blue"])
        assert result["AP/blue"] == pytest.approx(1)
        assert np.isnan(result["AP/red"])
        assert np.isnan(result["AP_large"])
    # Of the crowd's mask only the lower half is there: 13 of the first answer's 25 rows, 17 of the next's 24.
    assert (result["mask_AP50/blue"], result["mask_AP75/blue"]) == pytest.approx((1, 1 / 3))


def test_a_crowd_excuses_only_its_own_class_where_the_data_tells_it():
    # One true object of each class, found; and one of each within a crowd, with higher scores.
    boxes = [[[0, 0, 20, 20], [0, 30, 20, 60], [30, 30, 64, 64]]]
    batch = batch_of(boxes, [[0, 1, -2]], [(1, 1)], [(64, 64)])
    answers = {
        "boxes": np.array([[[35, 35, 50, 60], [40, 40, 60, 60], [0, 0, 20, 20], [0, 30, 20, 60]]], float),
        "scores": np.array([[0.9, 0.8, 0.7, 0.6]]),
        "classes": np.array([[0, 1, 0, 1]]),
        "num_detections": np.array([4]),
    }
    data = Batches([batch], [[]], [[]], [], None)
    data.pictures = dataclasses.replace(data.pictures, crowd_classes=(np.array([1], np.int32),))
    result = evaluate_detection(lambda images: answers, data, ["red", "blue"])
    assert result["AP/blue"] == pytest.approx(1)
    assert result["AP/red"] == pytest.approx(0.5)  # the one in the crowd of blue is wrong, and comes first
