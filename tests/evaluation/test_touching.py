import numpy as np
import pytest

from kzoo.evaluation import touching_kept_apart


def mask(*boxes, size=(20, 40)):
    """A mask of rectangles, each (top, left, bottom, right)."""
    drawn = np.zeros(size, bool)
    for top, left, bottom, right in boxes:
        drawn[top:bottom, left:right] = True
    return drawn


LEFT, RIGHT, FAR = (5, 5, 10, 10), (5, 10, 10, 15), (5, 30, 10, 35)


def test_those_that_touch_are_counted_and_those_kept_apart():
    instances = [mask(box) for box in (LEFT, RIGHT, FAR)]
    apart = mask((5, 5, 10, 9), (5, 11, 10, 15), FAR)
    assert touching_kept_apart(instances, apart) == (2, 2)
    assert touching_kept_apart(instances, mask(LEFT, RIGHT, FAR)) == (2, 0)
    assert touching_kept_apart(instances, mask(LEFT)) == (2, 1)  # the other is missed
    assert touching_kept_apart(instances, mask()) == (2, 0)
    assert touching_kept_apart([instances[2]], apart) == (0, 0)
    assert touching_kept_apart([], apart) == (0, 0)
    assert touching_kept_apart([mask(), *instances, mask()], apart) == (2, 2)  # without a pixel


def test_a_corner_does_not_join():
    first, second = (0, 0, 5, 5), (5, 5, 10, 10)
    assert touching_kept_apart([mask(first), mask(second)], mask(first, second)) == (2, 2)


def test_half_is_enough_and_half_of_another_is_too_much():
    instances = [mask((0, 0, 10, 10)), mask((0, 10, 10, 20))]
    assert touching_kept_apart(instances, mask((0, 0, 10, 5), (0, 15, 10, 20))) == (2, 2)
    assert touching_kept_apart(instances, mask((0, 0, 10, 4), (0, 15, 10, 20))) == (2, 1)
    # The whole of the first and a bit of the second.
    assert touching_kept_apart(instances, mask((0, 0, 10, 14))) == (2, 1)
    assert touching_kept_apart(instances, mask((0, 0, 10, 15))) == (2, 0)
    # Of a cell in two parts, one covers most.
    assert touching_kept_apart(instances, mask((0, 0, 7, 10), (8, 0, 10, 10))) == (2, 1)
    assert touching_kept_apart(instances, mask((0, 0, 4, 10), (6, 0, 10, 10))) == (2, 0)


@pytest.mark.parametrize(
    ("offset", "reach", "touch"),
    [
        ((0, 5), 2, True),  # side by side: the next pixel
        ((0, 6), 2, True),
        ((0, 7), 2, False),  # three pixels from centre to centre
        ((0, 7), 3, True),
        ((-6, 0), 2, True),
        ((5, 5), 2, True),  # over the corner, by the root of two
        ((6, -5), 2, False),  # by the root of five
        ((6, -5), 3, True),
        ((0, 3), 2, True),  # they overlap
        ((0, 5), 1, True),
        ((5, 5), 1, False),
    ],
)
def test_reach_is_from_centre_to_centre(offset, reach, touch):
    one, other = mask((6, 6, 11, 11)), mask((6 + offset[0], 6 + offset[1], 11 + offset[0], 11 + offset[1]))
    found = one & ~other
    assert touching_kept_apart([one, other], found, reach)[0] == 2 * touch
    assert touching_kept_apart([other, one], found, reach)[0] == 2 * touch


def test_at_the_border_of_the_picture():
    instances = [mask((0, 0, 3, 1)), mask((0, 1, 3, 2)), mask((17, 38, 20, 39)), mask((17, 39, 20, 40))]
    assert touching_kept_apart(instances, mask((0, 0, 3, 1), (17, 38, 20, 39))) == (4, 2)


def test_as_counted_pixel_by_pixel():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :40]
    centres = rng.uniform(0, 40, [14, 2])
    instances = [(rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(3, 6) ** 2 for y, x in centres]
    found = np.logical_or.reduce(instances) & (rng.random([40, 40]) > 0.35)
    parts = parts_of(found)
    touching = {
        i
        for i, one in enumerate(instances)
        for j, other in enumerate(instances)
        if i != j and (np.linalg.norm(np.argwhere(one)[:, None] - np.argwhere(other), axis=-1) <= 2).any()
    }
    apart = {
        i
        for i in touching
        for part in parts
        if (part & instances[i]).sum() * 2 >= instances[i].sum()
        and all((part & other).sum() * 2 < other.sum() for j, other in enumerate(instances) if j != i)
    }
    assert touching_kept_apart(instances, found) == (len(touching), len(apart))
    assert 0 < len(apart) < len(touching) < len(instances)


def parts_of(found):
    """The connected parts, each flooded from a pixel."""
    left = {(row, column) for row, column in np.argwhere(found).tolist()}
    parts = []
    while left:
        part, edge = np.zeros(found.shape, bool), [left.pop()]
        while edge:
            row, column = edge.pop()
            part[row, column] = True
            near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
            left -= near
            edge += near
        parts.append(part)
    return parts


def test_masks_of_several_sizes():
    with pytest.raises(ValueError, match=r"several sizes, \[\(20, 40\), \(20, 41\)\]"):
        touching_kept_apart([mask(LEFT)], mask(size=(20, 41)))
