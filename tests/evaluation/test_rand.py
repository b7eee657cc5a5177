import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kzoo.evaluation import cells_of, foreground_rand

SMALL = st.tuples(st.integers(1, 4), st.integers(1, 5))
IDS = st.integers(0, 3)


@st.composite
def partitions(draw):
    """Two ways to part the same small picture."""
    shape = draw(SMALL)
    return draw(arrays.arrays(np.int32, shape, elements=IDS)), draw(
        arrays.arrays(np.int32, shape, elements=IDS)
    )


def by_pairs(truth, found):
    """The F-score of the pairs of pixels, each pixel paired with itself too, one by one."""
    cells = [
        (true, guess or f"pixel {index}")
        for index, (true, guess) in enumerate(zip(truth.flat, found.flat, strict=True))
        if true
    ]
    pairs = list(itertools.product(cells, repeat=2))
    truly = sum(a[0] == b[0] for a, b in pairs)
    joined = sum(a[1] == b[1] for a, b in pairs)
    both = sum(a == b for a, b in pairs)
    if not pairs:
        return math.nan
    precision, recall = both / joined, both / truly
    return 2 * precision * recall / (precision + recall)


@given(partitions())
def test_score_is_that_of_the_pairs_of_pixels(pair):
    assert foreground_rand(*pair) == pytest.approx(by_pairs(*pair), nan_ok=True)


@given(partitions())
def test_what_was_found_on_the_true_border_is_nothing(pair):
    truth, found = pair
    elsewhere = np.where(truth == 0, (found + 1) % 4, found)
    assert foreground_rand(truth, elsewhere) == pytest.approx(foreground_rand(truth, found), nan_ok=True)


def test_scores_by_hand():
    truth = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2]])
    assert foreground_rand(truth, np.array([[7, 7, 7, 9, 9]] * 2)) == 1  # whatever the numbers are
    # Merged: p is (1/2, 1/2), s is 1, t is (1/2, 1/2).
    assert foreground_rand(truth, np.ones([2, 5], int)) == pytest.approx(0.5 / (0.5 * 1 + 0.5 * 0.5))
    # Split: the other way round, which costs the same.
    assert foreground_rand(np.ones([2, 4], int), np.array([[1, 1, 2, 2]] * 2)) == pytest.approx(0.5 / 0.75)
    # A pixel in eight that is taken for border is a cell of its own.
    thin = np.array([[1, 1, 0, 0, 2], [1, 1, 0, 2, 2]])
    p = [(4 / 8) ** 2, (3 / 8) ** 2, (1 / 8) ** 2]
    assert foreground_rand(truth, thin) == pytest.approx(sum(p) / (0.5 * sum(p) + 0.5 * 0.5))


def test_more_pixels_than_squares_of_small_integers_hold():
    truth = np.ones([512, 1024], np.uint8)
    assert foreground_rand(truth, truth) == 1
    assert foreground_rand(truth, np.repeat([[1, 2]], 512, 0).repeat(512, 1).astype(np.uint16)) == (
        pytest.approx(0.5 / 0.75)
    )


def test_faults_are_named():
    with pytest.raises(ValueError, match=r"truth is \[1, 2\], but found is \[2, 1\]"):
        foreground_rand(np.ones([1, 2], int), np.ones([2, 1], int))
    with pytest.raises(ValueError, match="negative number"):
        foreground_rand(np.array([[1, -1]]), np.array([[1, 1]]))
    assert math.isnan(foreground_rand(np.zeros([2, 2], int), np.ones([2, 2], int)))


def test_cells_meet_over_edges_alone():
    foreground = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], bool)
    assert cells_of(foreground).tolist() == [[1, 0, 0], [0, 2, 2], [0, 0, 2]]
    assert not cells_of(np.zeros([2, 2], bool)).any()
