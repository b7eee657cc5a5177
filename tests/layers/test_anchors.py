import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers.anchors import Anchors, anchors_of_cell

# torchvision's RetinaNet has sizes (x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) and ratios (0.5, 1, 2).
SIZES = (32, 40, 50)
RATIOS = (0.5, 1.0, 2.0)
# Half of size / sqrt(ratio) and size * sqrt(ratio), rounded: (22.63, 11.31), (28.28, 14.14), (35.36, 17.68);
# 16, 20 and 25; then the first three the other way round.
HALF_SIDES = [(23, 11), (28, 14), (35, 18), (16, 16), (20, 20), (25, 25), (11, 23), (14, 28), (18, 35)]


def pyramid_of(*sizes, batch=1, first=3):
    return {first + i: tf.zeros((batch, h, w, 4)) for i, (h, w) in enumerate(sizes)}


def test_anchors_around_the_origin_are_torchvisions():
    np.testing.assert_array_equal(anchors_of_cell(SIZES, RATIOS), [(-w, -h, w, h) for w, h in HALF_SIDES])


def test_halves_are_rounded_to_even_as_torchvision_does():
    np.testing.assert_array_equal(anchors_of_cell([5, 7], [1]), [[-2, -2, 2, 2], [-4, -4, 4, 4]])


def test_positions_row_by_row_then_ratios_then_sizes():
    anchors = Anchors([SIZES, (64, 80, 101)], RATIOS)(pyramid_of((2, 3), (1, 2)))
    expected = [
        (j * 8 - w, i * 8 - h, j * 8 + w, i * 8 + h)
        for i in range(2)
        for j in range(3)
        for w, h in HALF_SIDES
    ]
    np.testing.assert_array_equal(anchors[3], expected)
    assert anchors[4].shape == (1 * 2 * 9, 4)
    # Of P4, ratio 1: 64 / 2, 80 / 2, 50.5 rounded to even; the next position is 16 pixels to the right.
    halves = [32, 40, 50]
    np.testing.assert_array_equal(anchors[4][3:6], [(-s, -s, s, s) for s in halves])
    np.testing.assert_array_equal(anchors[4][12:15], [(16 - s, -s, 16 + s, s) for s in halves])
    assert {anchor.dtype for anchor in anchors.values()} == {tf.float32}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (250, 333), (1, 1), (129, 127)])
def test_as_many_as_positions_times_anchors(height, width):
    layer = Anchors([[2**level, 2**level * 1.5] for level in range(3, 8)], (0.5, 1.0, 2.0))
    sizes = [(math.ceil(height / 2**level), math.ceil(width / 2**level)) for level in range(3, 8)]
    anchors = layer(pyramid_of(*sizes))
    assert layer.per_position == 6
    assert [tuple(anchors[level].shape) for level in range(3, 8)] == [(h * w * 6, 4) for h, w in sizes]


def test_do_not_depend_on_the_batch_or_its_precision():
    layer = Anchors([SIZES], RATIOS)
    once = layer(pyramid_of((2, 2)))[3]
    np.testing.assert_array_equal(once, layer({3: tf.zeros((5, 2, 2, 4), tf.bfloat16)})[3])


def test_centres_of_large_pictures_are_exact_in_half_precision():
    anchors = Anchors([SIZES], [1.0], dtype="float16")({3: tf.zeros((1, 1, 400, 1), tf.float16)})[3]
    np.testing.assert_array_equal(anchors[-1], [399 * 8 - 25, -25, 399 * 8 + 25, 25])


@pytest.mark.parametrize(("shape", "count"), [((None, None, 4), None), ((2, None, 4), None), ((2, 3, 4), 54)])
def test_symbolic_counts(shape, count):
    anchors = Anchors([SIZES], RATIOS)({3: keras.KerasTensor((None, *shape))})
    assert anchors[3].shape == (count, 4)
    assert anchors[3].dtype == "float32"


def test_a_level_without_sizes_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        Anchors([SIZES], RATIOS)(pyramid_of((2, 2), (1, 1)))


@pytest.mark.parametrize(("sizes", "ratios"), [([1], [1.0]), ([1.4], [0.5]), ([32], [0.0005])])
def test_anchors_without_area_are_an_error(sizes, ratios):
    with pytest.raises(ValueError, match="0 pixels.*larger anchor sizes"):
        Anchors([[32], sizes], ratios)


def test_configuration():
    layer = Anchors.from_config(Anchors([SIZES], RATIOS).get_config())
    assert (layer.sizes, layer.ratios) == ([list(SIZES)], list(RATIOS))
