import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kzoo.data.resize import PADDING, fit, letterbox, to_own_pixels, working_size

sizes = st.tuples(st.integers(1, 2000), st.integers(1, 2000))


@pytest.mark.parametrize(
    ("own", "given_size", "resize", "fitted"),
    [
        ((480, 640), (256, 320), "letterbox", (240, 320)),
        ((640, 480), (256, 320), "letterbox", (256, 192)),
        ((100, 100), (256, 320), "letterbox", (256, 256)),
        ((480, 640), (256, 320), "stretch", (256, 320)),
        ((1, 1000), (64, 64), "letterbox", (1, 64)),
    ],
)
def test_fit(own, given_size, resize, fitted):
    assert fit(own, given_size, resize) == fitted


@given(sizes, sizes)
def test_letterbox_fills_one_side_and_keeps_the_proportions(own, image_size):
    height, width = fit(own, image_size, "letterbox")
    assert height == image_size[0] or width == image_size[1]
    assert 1 <= height <= image_size[0] and 1 <= width <= image_size[1]
    factor = min(image_size[0] / own[0], image_size[1] / own[1])
    assert abs(height - max(own[0] * factor, 1)) <= 0.5 + 1e-6
    assert abs(width - max(own[1] * factor, 1)) <= 0.5 + 1e-6


@given(
    sizes, sizes, st.sampled_from(["letterbox", "stretch"]), st.lists(st.floats(0, 1), min_size=4, max_size=4)
)
def test_boxes_come_back(own, image_size, resize, shares):
    box = np.sort(np.float32(shares).reshape(2, 2), axis=0).ravel() * np.float32(own[::-1] * 2)
    scale = np.array(fit(own, image_size, resize)) / own
    there = box * scale[[1, 0, 1, 0]]
    np.testing.assert_allclose(to_own_pixels(there[None], scale, own)[0], box, rtol=1e-5, atol=1e-4)


def test_boxes_are_clipped_to_the_picture_and_batches_have_a_scale_each():
    boxes = np.array([[[-5, -5, 500, 500], [0, 0, 0, 0]], [[10, 20, 30, 40], [0, 0, 0, 0]]])
    own = to_own_pixels(boxes, np.array([[0.5, 0.25], [2, 1]]), np.array([[100, 200], [300, 400]]))
    expected = [[[0, 0, 200, 100], [0, 0, 0, 0]], [[10, 10, 30, 20], [0, 0, 0, 0]]]
    np.testing.assert_array_equal(own, np.float32(expected))
    assert own.dtype == np.float32


def test_working_size_suffices_to_zoom_in_but_invents_no_pixels():
    assert working_size((480, 640), (256, 320), "letterbox", None) == (240, 320)
    assert working_size((480, 640), (256, 320), "letterbox", 1.5) == (360, 480)
    assert working_size((250, 320), (256, 320), "letterbox", 1.5) == (250, 320)
    assert working_size((25, 32), (256, 320), "letterbox", 1.5) == (250, 320)


def test_letterbox_of_a_picture():
    picture = np.zeros([60, 120, 3], np.uint8)
    picture[:, 60:] = [10, 200, 30]
    given, scale = letterbox(picture, (40, 60))
    assert (given.shape, given.dtype, scale.dtype) == ((40, 60, 3), np.uint8, np.float32)
    np.testing.assert_array_equal(scale, [0.5, 0.5])
    np.testing.assert_array_equal(given[:30, :29], np.zeros([30, 29, 3]))
    np.testing.assert_array_equal(given[:30, 31:], np.broadcast_to([10, 200, 30], [30, 29, 3]))
    assert (given[30:] == PADDING).all()


@given(sizes, sizes)
def test_the_scale_of_a_letterbox_is_that_of_whole_pixels(own, image_size):
    own, image_size = ([min(side, 50) for side in size] for size in (own, image_size))
    given, scale = letterbox(np.zeros([*own, 3], np.uint8), tuple(image_size))
    filled = (given == 0).all(axis=-1)
    np.testing.assert_allclose(scale * own, [filled.any(axis=1).sum(), filled.any(axis=0).sum()], rtol=1e-6)
