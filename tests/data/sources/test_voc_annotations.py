import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kzoo.data.sources.source import ROUNDING
from kzoo.data.sources.voc_annotations import read_box

HEIGHT, WIDTH = 30, 40


@given(st.tuples(*[st.floats(-50, 100) | st.sampled_from([0, 1, 40, 41, float("nan")])] * 4))
def test_a_box_is_inside_its_picture_or_a_fault(sides):
    try:
        left, top, right, bottom = read_box(tuple(map(str, sides)), (HEIGHT, WIDTH))
    except ValueError as error:
        assert "expected" in str(error)
    else:
        assert 0 <= left < right <= WIDTH
        assert 0 <= top < bottom <= HEIGHT
        moved = np.abs(np.subtract((left, top, right, bottom), (sides[0] - 1, sides[1] - 1, *sides[2:])))
        assert moved.max() <= ROUNDING
