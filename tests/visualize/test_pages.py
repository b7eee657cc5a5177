import numpy as np
import pytest
from PIL import Image

from kzoo.visualize import compare_rungs, draw_answer, side_by_side
from kzoo.visualize.drawing import COLOURS
from kzoo.visualize.labels import RIGHT, UNKNOWN, WRONG
from kzoo.visualize.objects import FILL

GREY = 114
BOX = [20, 30, 60, 70]
WITHIN = np.repeat([[1.0], [0.0]], 14, axis=0) * np.ones(28)


def blank(height=100, width=120):
    return np.full((height, width, 3), GREY, np.uint8)


def objects(boxes, classes, scores=None):
    arrays = {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "classes": np.array(classes, np.int32)}
    return arrays if scores is None else arrays | {"scores": np.array(scores, np.float32)}


def tinted(colour):
    return np.round((1 - FILL) * GREY + FILL * np.array(colour)).astype(int).tolist()


def pasted(box, height=100, width=120):
    """The upper half of a box, bool [H, W]."""
    x1, y1, x2, y2 = box
    mask = np.zeros([height, width], bool)
    mask[y1 : (y1 + y2) // 2, x1:x2] = True
    return mask


@pytest.mark.parametrize("masks", [np.float32(WITHIN)[None], pasted(BOX)[None].astype(np.uint8)])
def test_side_by_side_scales_masks(tmp_path, masks):
    path = tmp_path / "gallery.png"
    truth, answer = objects([BOX], [1]), objects([BOX], [1], [0.9]) | {"masks": masks}
    one = [{key: values[None] for key, values in of.items()} for of in (truth, answer)]
    side_by_side(blank()[None], *one, ["", ""], path)
    page = np.asarray(Image.open(path)).astype(int)
    found = (page == tinted(COLOURS[0])).all(axis=-1)  # truth has no masks, and keeps the colour of the class
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    factor = 400 / 120
    for edges, (first, last) in (
        (rows, (32 + 30 * factor, 32 + 50 * factor)),
        (columns, (416 + 20 * factor, 416 + 60 * factor)),
    ):
        assert edges[0] == pytest.approx(first, abs=4)
        assert edges[-1] == pytest.approx(last, abs=4)


def test_side_by_side_scales_pictures_and_boxes_together(tmp_path):
    path = tmp_path / "gallery.png"
    images = np.stack([blank(50, 100)] * 3)
    boxes = np.array([[[10, 20, 60, 45]]] * 3, np.float32)
    truths = {"boxes": boxes, "classes": np.zeros((3, 1), np.int32)}
    answers = {"boxes": boxes, "classes": np.ones((3, 1), np.int32), "scores": np.full((3, 1), 0.8)}
    side_by_side(images, truths, answers, ["a", "b"], path)
    page = np.asarray(Image.open(path))
    red, green = ((page == colour).all(axis=-1) for colour in COLOURS[:2])
    assert page.shape[1] > 1600  # two pairs in a row, each picture 400 wide
    assert page.shape[0] > 400  # and two rows
    # Factor 4: the boxes of the first pair are 200 pixels wide, from 40 of their cell's left edge on.
    columns = np.flatnonzero(red[:230, :408].any(axis=0))
    assert columns[-1] - columns[0] == 199
    assert columns[0] == 8 + 40
    columns = np.flatnonzero(green[:230, 408:820].any(axis=0))
    assert columns[-1] - columns[0] == 199


def test_side_by_side_takes_pictures_of_different_sizes(tmp_path):
    images = [blank(1000, 500), blank(30, 90)]
    truths = {"boxes": [np.zeros((0, 4)), np.array([[1, 1, 9, 9]])], "classes": [np.zeros(0), np.array([0])]}
    answers = {**truths, "scores": [np.zeros(0), np.array([0.9])]}
    side_by_side(images, truths, answers, ["cell"], tmp_path / "gallery.png")
    assert Image.open(tmp_path / "gallery.png").size[1] == 32 + 400 + 8
    with pytest.raises(ValueError, match="no picture"):
        side_by_side([], truths, answers, ["cell"], tmp_path / "none.png")


def test_an_answer_of_any_task_is_scaled_before_it_is_drawn():
    image = blank(50, 100)
    labels = np.zeros([50, 100], np.int32)
    labels[10:20, 30:50] = 2
    drawn = draw_answer(image, {"classes": labels}, ("background", "a", "b"), longer_side=200)
    assert drawn.shape == (100, 200, 3)
    changed = (drawn != GREY).any(axis=-1)
    expected = np.zeros([100, 200], bool)
    expected[20:40, 60:100] = True
    np.testing.assert_array_equal(changed, expected)
    boxed = draw_answer(image, objects([[30, 10, 50, 20]], [0], [0.9]), ["a"], longer_side=200)
    assert boxed[39, 80].tolist() == list(COLOURS[0])
    assert (boxed[30, 80] == GREY).all()


@pytest.mark.parametrize(
    ("truth", "ground"), [(None, UNKNOWN), ({"classes": 1}, RIGHT), ({"classes": 0}, WRONG)]
)
def test_a_class_of_the_whole_picture_is_right_or_wrong(truth, ground):
    answer = {"classes": np.int32(1), "probabilities": np.array([0.2, 0.8], np.float32)}
    drawn = draw_answer(blank(), answer, ["cat", "dog"], truth)
    assert drawn[0, 0].tolist() == list(ground)
    assert drawn.shape == (333, 400, 3)


def test_side_by_side_of_classes(tmp_path):
    path = tmp_path / "gallery.png"
    answers = {"classes": np.array([0, 0]), "probabilities": np.array([[0.9, 0.1], [0.6, 0.4]])}
    side_by_side(np.stack([blank(80, 80)] * 2), {"classes": np.array([0, 1])}, answers, ["a", "b"], path)
    page = np.asarray(Image.open(path))
    corners = [page[32, x].tolist() for x in (8, 416, 840, 1248)]
    assert corners == [list(colour) for colour in (UNKNOWN, RIGHT, UNKNOWN, WRONG)]


def test_side_by_side_of_pixels_has_one_legend_of_what_is_there(tmp_path):
    def page(truth, answer):
        path = tmp_path / "gallery.png"
        labels = [{"classes": np.full([2, 40, 40], label)} for label in (truth, answer)]
        side_by_side(np.stack([blank(40, 40)] * 2), *labels, ("background", "a", "b"), path)
        return np.asarray(Image.open(path))

    without, both = page(0, 0), page(1, 2)
    assert (without[32:432, 8:408] == GREY).all()
    assert without.shape[0] == 32 + 400 + 8
    strip = both[without.shape[0] :].reshape(-1, 3).tolist()
    assert [list(colour) in strip for colour in COLOURS[:3]] == [True, True, False]


def test_rungs_are_rows(tmp_path):
    path = tmp_path / "page.png"
    rows = {
        "first\nand more": [blank(20, 30) * np.uint8([1, 0, 0]) + value for value in (1, 2)],
        "second, which has a long title": [blank(40, 30) * np.uint8([1, 0, 0]) + value for value in (3, 4)],
    }
    compare_rungs(rows, path)
    page = np.asarray(Image.open(path)).astype(int)
    places = {}
    for value in (1, 2, 3, 4):
        ys, xs = np.nonzero((page == (GREY + value, value, value)).all(axis=-1))
        assert len(ys) == (20 if value < 3 else 40) * 30
        places[value] = ys.min(), xs.min()
    assert places[1][0] == places[2][0] < places[3][0] == places[4][0]
    assert places[1][1] == places[3][1] < places[2][1] == places[4][1]
    titles = (page[:, : places[1][1]] < 100).all(axis=-1).any(axis=1)
    assert titles[8:28].any()
    assert titles[36:76].any()


@pytest.mark.parametrize("rows", [{}, {"a": []}, {"a": [blank()], "b": [blank()] * 2}])
def test_rungs_without_the_same_pictures(tmp_path, rows):
    with pytest.raises(ValueError, match="as many pictures"):
        compare_rungs(rows, tmp_path / "page.png")
