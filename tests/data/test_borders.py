import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from kzoo.data.borders import border_map, distances, instances_of, separated
from kzoo.data.masks import encode

tiny = arrays(np.int32, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 3))


def measured(instances, spacing=(1.0, 1.0)):
    """d1 and d2 of each pixel, by looking at every pixel of every instance."""
    both = np.full([2, *instances.shape], np.inf)
    for place in np.ndindex(instances.shape):
        to_each = sorted(
            min(
                math.hypot(*((a - b) * s for a, b, s in zip(place, other, spacing, strict=True)))
                for other in there
            )
            for number in set(np.unique(instances)) - {0}
            for there in [np.argwhere(instances == number).tolist()]
        )
        for rank, distance in enumerate(to_each[:2]):
            both[rank][place] = distance
    return both


@given(tiny, st.sampled_from([(1.0, 1.0), (0.5, 0.75)]))
def test_the_two_nearest_instances(instances, spacing):
    np.testing.assert_allclose(distances(instances, 100.0, spacing), measured(instances, spacing), rtol=1e-6)


@given(tiny, st.floats(0.3, 3))
def test_borders_are_the_equation_of_the_paper(instances, sigma):
    """The windows leave nothing out, however small sigma makes them."""
    first, second = measured(instances)
    expected = np.exp(-((first + second) ** 2) / (2 * sigma**2))
    got = border_map(*distances(instances, sigma), sigma)
    assert got.dtype == np.uint8
    np.testing.assert_allclose(got / 255, expected, atol=0.5001 / 255)


def test_between_two_walls():
    """Walls at columns 2 and 8: d1 + d2 is 6 between them, and 2 more for each step outside."""
    instances = np.zeros([5, 11], np.int32)
    instances[:, 2], instances[:, 8] = 1, 2
    got = border_map(*distances(instances, 5.0), 5.0)
    between, beside = math.exp(-36 / 50), math.exp(-64 / 50)
    assert (got[:, 3:8] == round(255 * between)).all() and (got[:, [1, 9]] == round(255 * beside)).all()


@pytest.mark.parametrize(
    "instances", [np.zeros([4, 6], np.int32), np.ones([4, 6], np.int32), np.eye(9, dtype=int)]
)
def test_without_two_instances_there_is_no_border(instances):
    assert not border_map(*distances(instances, 5.0), 5.0).any()


@given(tiny)
def test_the_line_is_what_touches_another_instance(instances):
    labels = np.where(instances > 0, 7, 3).astype(np.uint8)
    _, second = distances(instances, 0.1)
    got = separated(labels, instances, second, background=3)
    for row, column in np.ndindex(instances.shape):
        around = instances[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        touches = bool(set(around.ravel()) - {0, instances[row, column]})
        assert got[row, column] == (7 if instances[row, column] and not touches else 3)
    parts, count = label(got == 7, np.ones([3, 3]))
    assert all(len(np.unique(instances[parts == part])) == 1 for part in range(1, count + 1))


def test_the_line_is_as_wide_as_the_spacing_says():
    instances = np.repeat(np.int32([[1, 2]]), 10, axis=1)
    for spacing, width in [(1.0, 2), (0.5, 4), (0.25, 10)]:
        _, second = distances(instances, 1.0, (spacing, spacing))
        assert np.count_nonzero(separated(instances, instances, second, 0) == 0) == width


@given(arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 6), st.integers(1, 6))))
def test_later_instances_cover_earlier_ones(masks):
    expected = np.zeros(masks.shape[1:], np.int32)
    for number, mask in enumerate(masks, 1):
        expected[mask] = number
    np.testing.assert_array_equal(instances_of(encode(masks), masks.shape[1:]), expected)


def test_hundreds_of_nuclei_take_well_below_a_second():
    rows, columns = np.mgrid[:512, :512]
    masks = [
        (rows - 13 - 26 * (n // 19)) ** 2 + (columns - 13 - 26 * (n % 19)) ** 2 <= 144
        for n in range(19 * 19 + 8)
    ]
    masks = encode(np.array(masks))
    start = time.process_time()
    instances = instances_of(masks, (512, 512))
    border_map(*distances(instances, 5.0), 5.0)
    assert time.process_time() - start < 1
