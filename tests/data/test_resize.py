import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kzoo.data.resize import fit, to_own_pixels, working_size

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
