import numpy as np
import pytest

from kzoo.data.masks import encode
from kzoo.visualize.drawing import COLOURS
from kzoo.visualize.objects import CROWD_COLOUR, FILL, MANY, draw_detections

GREY = 114


def blank(height=100, width=120):
    return np.full((height, width, 3), GREY, np.uint8)


def objects(boxes, classes, scores=None):
    arrays = {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "classes": np.array(classes, np.int32)}
    return arrays if scores is None else arrays | {"scores": np.array(scores, np.float32)}


def test_a_box_lies_on_the_edges_of_its_object_in_the_colour_of_its_class():
    image = blank()
    drawn = draw_detections(image, objects([[20, 30, 60, 80]], [1]), ["red", "green"])
    assert drawn.dtype == np.uint8
    assert drawn.shape == image.shape
    assert (image == GREY).all()  # the picture that was given is left alone
    colour = list(COLOURS[1])
    for y, x in [(30, 59), (79, 20), (79, 59), (50, 20), (50, 59), (79, 40)]:
        assert drawn[y, x].tolist() == colour
    for y, x in [(50, 19), (50, 60), (80, 40), (50, 40)]:
        assert drawn[y, x].tolist() == [GREY] * 3


def test_padding_and_low_scores_are_not_drawn():
    image = blank()
    padding = objects([[0, 0, 0, 0], [10, 10, 50, 50]], [-1, -1])
    assert (draw_detections(image, padding, ["cell"]) == image).all()
    weak = objects([[10, 10, 50, 50]], [0], [0.29])
    assert (draw_detections(image, weak, ["cell"]) == image).all()
    assert (draw_detections(image, weak, ["cell"], score_threshold=0.2) != image).any()
    assert (draw_detections(image, objects([], [], []), ["cell"]) == image).all()


def test_the_better_answer_lies_on_top():
    same = [[30, 40, 90, 90]] * 2
    for scores, top in (([0.9, 0.5], 0), ([0.5, 0.9], 1)):
        drawn = draw_detections(blank(), objects(same, [0, 1], scores), ["a", "b"])
        assert drawn[70, 30].tolist() == list(COLOURS[top])


def test_a_float_picture_of_any_range_is_drawn_on():
    image = np.full((40, 40, 3), 300.0, np.float32)
    image[0] = -5.0
    drawn = draw_detections(image, objects([], []), [])
    assert drawn.dtype == np.uint8
    assert drawn[0, 0, 0] == 0
    assert drawn[1, 0, 0] == 255


@pytest.mark.parametrize(
    "box", [[-50, -50, 500, 500], [119, 99, 120, 100], [200, 200, 300, 300], [60, 60, 20, 20], [5, 5, 5, 5]]
)
@pytest.mark.parametrize("size", [(100, 120), (8, 8), (1, 1)])
def test_boxes_outside_reversed_or_empty_and_tiny_pictures_are_survived(box, size):
    image = blank(*size)
    drawn = draw_detections(image, objects([box], [25], [0.5]), ["only one name"])
    assert drawn.shape == image.shape
    assert (drawn != image).any()


def tinted(colour):
    return np.round((1 - FILL) * GREY + FILL * np.array(colour)).astype(int).tolist()


def pasted(box, height=100, width=120):
    """The upper half of a box, bool [H, W]."""
    x1, y1, x2, y2 = box
    mask = np.zeros([height, width], bool)
    mask[y1 : (y1 + y2) // 2, x1:x2] = True
    return mask


BOX = [20, 30, 60, 70]
WITHIN = np.repeat([[1.0], [0.0]], 14, axis=0) * np.ones(28)


@pytest.mark.parametrize(
    "masks",
    [
        np.float32(WITHIN)[None],
        np.kron(WITHIN, np.ones([2, 2])).astype(np.uint8)[None],
        pasted(BOX)[None],
        pasted(BOX).astype(np.uint8)[None],
        encode(pasted(BOX)[None]),
    ],
    ids=["probabilities", "samples", "bool", "uint8", "run lengths"],
)
def test_a_mask_of_any_kind_is_tinted_within_a_contour(masks):
    drawn = draw_detections(blank(), objects([BOX], [0]) | {"masks": masks}, [""]).astype(int)
    for y, x in ((48, 21), (40, 40), (45, 58)):
        assert drawn[y, x].tolist() == tinted(COLOURS[0])
    for y, x in ((49, 30), (49, 58), (60, 20)):  # the mask's lower edge, and the box
        assert drawn[y, x].tolist() == list(COLOURS[0])
    for y, x in ((50, 40), (60, 40), (40, 61)):
        assert drawn[y, x].tolist() == [GREY] * 3


def test_objects_of_one_class_have_a_colour_each_where_there_are_masks():
    boxes = [[5, 5, 40, 90], [40, 5, 80, 90], [80, 5, 115, 90]]
    masks = np.ones([3, 28, 28], np.float32)

    def middles(labels, **options):
        drawn = draw_detections(blank(), objects(boxes, labels) | options, ["a", "b"]).astype(int)
        return [drawn[60, x].tolist() for x in (20, 60, 100)]

    assert middles([1, 1, 1], masks=masks) == [tinted(colour) for colour in COLOURS[:3]]
    assert middles([1, 1, -1], masks=masks)[:2] == [tinted(colour) for colour in COLOURS[:2]]
    assert middles([1, 1, 0], masks=masks) == [tinted(COLOURS[label]) for label in (1, 1, 0)]
    edges = draw_detections(blank(), objects(boxes, [1, 1, 1]), ["a", "b"])[60]
    assert {tuple(colour) for colour in edges.tolist()} == {(GREY,) * 3, COLOURS[1]}


def test_crowds_are_outlined_in_grey_without_a_name():
    truth = objects([[30, 40, 90, 90], [0, 0, 0, 0]], [-2, -1])
    for masks in ({}, {"masks": np.ones([2, 56, 56], np.uint8)}):
        drawn = draw_detections(blank(), truth | masks, ["cell"])
        assert {tuple(colour) for colour in drawn.reshape(-1, 3).tolist()} == {(GREY,) * 3, CROWD_COLOUR}
        assert drawn[40, 50].tolist() == list(CROWD_COLOUR)
        assert drawn[60, 60].tolist() == [GREY] * 3


def test_names_do_not_hide_many_objects_of_one_class():
    boxes = [[x, y, x + 4, y + 4] for y in range(20, 90, 10) for x in range(5, 115, 10)]

    def changed(count, labels=None, **options):
        labels = [0] * count if labels is None else labels
        drawn = draw_detections(blank(), objects(boxes[:count], labels) | options, ["a long name", "other"])
        return (drawn != GREY).any(axis=-1)

    of_boxes = np.zeros([100, 120], bool)
    for x1, y1, x2, y2 in boxes[: MANY + 1]:
        of_boxes[y1:y2, x1:x2] = True
    assert (changed(MANY) & ~of_boxes).any()
    assert not (changed(MANY + 1) & ~of_boxes).any()
    assert (changed(MANY + 1, [0] * MANY + [1]) & ~of_boxes).any()
    # Around masks there are no boxes either: of these only the middle is object.
    middle = np.zeros([MANY + 1, 4, 4], np.float32)
    middle[:, 1:3, 1:3] = 1
    assert changed(MANY + 1, masks=middle).sum() == 4 * (MANY + 1)


@pytest.mark.parametrize("masks", [np.zeros([1, 28, 28], np.float32), np.ones([1, 28, 28], np.float32)])
@pytest.mark.parametrize("box", [[-50, -50, 500, 500], [200, 200, 300, 300], [60, 60, 20, 20], [5, 5, 5, 5]])
def test_masks_of_nothing_and_beyond_the_picture_are_survived(box, masks):
    drawn = draw_detections(blank(), objects([box], [0], [0.9]) | {"masks": masks}, ["cell"])
    assert drawn.shape == (100, 120, 3)
