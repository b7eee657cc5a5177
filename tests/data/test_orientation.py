import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from kzoo.data import masks
from kzoo.data.orientation import (
    ORIENTATIONS,
    orientation_of_annotation,
    turn_boxes,
    turn_mask,
    turn_pixels,
    turn_size,
)

SIDES = st.integers(1, 9)


@st.composite
def boxes_in_pictures(draw):
    """Height and width, and up to four boxes of whole pixels within them."""
    height, width = draw(SIDES), draw(SIDES)
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))))
    return (height, width), np.array(boxes, np.float32).reshape(-1, 4)


def rasterised(box, size):
    x1, y1, x2, y2 = map(int, box)
    mask = np.zeros(size, bool)
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_turn_as_pillow_turns_them(orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    picture = Image.fromarray(pixels)
    picture.getexif()[0x0112] = orientation
    turned = turn_pixels(pixels, orientation)
    np.testing.assert_array_equal(turned, ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(turn_pixels(pixels[..., 0], orientation), turned[..., 0])
    assert turned.flags.c_contiguous
    assert turned.shape[:2] == turn_size((5, 7), orientation)


@given(given_boxes=boxes_in_pictures(), orientation=st.sampled_from(list(ORIENTATIONS)))
def test_a_turned_box_rasterised_is_the_rasterised_box_turned(given_boxes, orientation):
    size, boxes = given_boxes
    turned = turn_boxes(boxes, size, orientation)
    assert turned.shape == boxes.shape
    assert turned.dtype == np.float32
    for box, seen in zip(boxes, turned, strict=True):
        expected = turn_pixels(rasterised(box, size), orientation)
        np.testing.assert_array_equal(rasterised(seen, turn_size(size, orientation)), expected)


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(list(ORIENTATIONS)), st.data())
def test_a_mask_turns_with_its_picture(height, width, orientation, data):
    pixels = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(pixels).reshape(height, width)
    rle = masks.encode(mask[np.newaxis])[0]
    turned = turn_mask(rle, orientation)
    assert turned["size"] == list(turn_size((height, width), orientation))
    np.testing.assert_array_equal(masks.decode(turned), turn_pixels(mask, orientation))


@pytest.mark.parametrize(
    ("told", "orientation", "expected"),
    [
        ((30, 40), 6, 6),  # the stored size
        ((30, 40), 5, 5),
        ((40, 30), 6, 1),  # the seen size
        ((30, None), 8, 8),  # one side is enough
        ((None, 30), 8, 1),
        ((None, None), 6, 1),  # nothing tells
        ((31, 40), 6, 1),  # neither: a fault, which others tell
        ((40, 30), 3, 1),  # both sizes are the same
        ((30, 40), 1, 1),
    ],
)
def test_whose_picture_an_annotation_is_of(told, orientation, expected):
    assert orientation_of_annotation(told, (40, 30), orientation) == expected


def test_of_a_square_nothing_tells():
    assert orientation_of_annotation((40, 40), (40, 40), 6) == 1
