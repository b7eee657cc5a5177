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
    anchors = Anchors([SIZES, (64, 80, 101)], RATIOS)(pyramid_of((2, 4), (1, 2)))
    expected = [
        (j * 8 - w, i * 8 - h, j * 8 + w, i * 8 + h)
        for i in range(2)
        for j in range(4)
        for w, h in HALF_SIDES
    ]
    np.testing.assert_array_equal(anchors[3], expected)
    assert anchors[4].shape == (1 * 2 * 9, 4)
    # Of P4, ratio 1: 64 / 2, 80 / 2, 50.5 rounded to even; the next position is 16 pixels to the right.
    halves = [32, 40, 50]
    np.testing.assert_array_equal(anchors[4][3:6], [(-s, -s, s, s) for s in halves])
    np.testing.assert_array_equal(anchors[4][12:15], [(16 - s, -s, 16 + s, s) for s in halves])
    assert {anchor.dtype for anchor in anchors.values()} == {tf.float32}


def strides_of(layer, pyramid):
    """For each level the distance of rows and of columns of its anchors, 0 where there is one alone."""
    strides = {}
    for level, anchors in layer(pyramid).items():
        height, width = pyramid[level].shape[1:3]
        corners = anchors.numpy().reshape(height, width, -1, 4)[:, :, 0, :2]
        for values in (corners[:, 0, 1], corners[0, :, 0]):
            steps = set(np.diff(values).astype(int).tolist()) or {0}
            assert len(steps) == 1
            strides.setdefault(level, []).append(steps.pop())
    return {level: tuple(steps) for level, steps in strides.items()}


@pytest.mark.parametrize(
    ("height", "width", "first", "expected"),
    [
        # torchvision's RetinaNet sees 800 x 1344: P3 to P7 have 100, 50, 25, 13, 7 rows and 168, 84, 42, 21,
        # 11 columns. 800 // 13 = 61 and 1344 // 21 = 64; 800 // 7 = 114 and 1344 // 11 = 122.
        (800, 1344, 3, {3: (8, 8), 4: (16, 16), 5: (32, 32), 6: (61, 64), 7: (114, 122)}),
        # Faster R-CNN: P6 has 13 rows of 800 pixels; 200, 100, 50, 25 go into them.
        (800, 1344, 2, {2: (4, 4), 3: (8, 8), 4: (16, 16), 5: (32, 32), 6: (61, 64)}),
        (256, 512, 3, {3: (8, 8), 4: (16, 16), 5: (32, 32), 6: (64, 64), 7: (128, 128)}),
        (96, 160, 3, {3: (8, 8), 4: (16, 16), 5: (32, 32), 6: (48, 53), 7: (0, 80)}),
        # What stride 8 does not divide counts as it is filled up: P3 has 13 rows, 104 pixels.
        (100, 128, 3, {3: (8, 8), 4: (14, 16), 5: (26, 32), 6: (52, 64), 7: (0, 0)}),
    ],
)
def test_strides_are_spread_over_the_picture_as_torchvisions(height, width, first, expected):
    levels = list(expected)
    sizes = [(math.ceil(height / 2**level), math.ceil(width / 2**level)) for level in levels]
    layer = Anchors([[2**level] for level in levels], [1.0])
    assert strides_of(layer, pyramid_of(*sizes, first=first)) == expected


def test_strides_are_of_the_features_that_come():
    """Also in a graph that was traced for any size."""
    layer = Anchors([[16], [32], [64]], [1.0])
    signature = {level: tf.TensorSpec((None, None, None, 4)) for level in (3, 4, 5)}
    traced = tf.function(lambda pyramid: layer(pyramid), input_signature=[signature])
    for pyramid in (pyramid_of((13, 9), (7, 5), (4, 3)), pyramid_of((4, 8), (2, 4), (1, 2))):
        for level, anchors in layer(pyramid).items():
            np.testing.assert_array_equal(traced(pyramid)[level], anchors)


def test_a_level_without_positions_has_no_anchors():
    anchors = Anchors([[8], [16]], [1.0])(pyramid_of((0, 4), (0, 2)))
    assert anchors[3].shape == anchors[4].shape == (0, 4)


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
