import numpy as np
import pytest

from kzoo.visualize import draw_label
from kzoo.visualize.labels import RIGHT, UNKNOWN, WRONG

BLUE = (40, 90, 200)


def blank(height=100, width=160):
    return np.full((height, width, 3), BLUE, np.uint8)


@pytest.mark.parametrize(("right", "ground"), [(None, UNKNOWN), (True, RIGHT), (False, WRONG)])
def test_the_ground_tells_right_from_wrong(right, ground):
    image = blank()
    drawn = draw_label(image, "cat", 0.93, right)
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    assert drawn[0, 0].tolist() == list(ground)
    written = (drawn != BLUE).any(axis=-1)
    assert not written[30:].any()
    assert (drawn > 200).all(axis=-1).any()  # the text itself
    assert (image == BLUE).all()


def test_name_and_probability_are_written():
    longer = draw_label(blank(), "cat", 0.93)
    width = [(drawn[0] != BLUE).any(axis=-1).sum() for drawn in (draw_label(blank(), "cat"), longer)]
    assert 0 < width[0] < width[1]
    assert (draw_label(blank(), "cat", 0.52) != longer).any()


@pytest.mark.parametrize("size", [(30, 40), (8, 8), (1, 1), (300, 50)])
def test_long_names_are_made_to_fit(size):
    drawn = draw_label(blank(*size), "a name that is far too long for such a picture", 0.5, True)
    assert drawn.shape == (*size, 3)
    assert drawn[0, 0].tolist() != list(BLUE)


def test_the_text_shrinks_before_it_is_cut():
    narrow, wide = (draw_label(blank(320, width), "a name of many letters") for width in (200, 800))
    heights = [(drawn[:, 0] != BLUE).any(axis=-1).sum() for drawn in (narrow, wide)]
    assert heights[0] < heights[1]
