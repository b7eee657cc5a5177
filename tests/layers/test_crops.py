import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kzoo.layers.crops import ROI, CropRegions, align, levels_of_regions, transform

HEIGHT, WIDTH = 64, 96  # of the picture; with level 2 alone, 16 by 24 pixels of features


def random_pyramid(levels=(2,), height=HEIGHT, width=WIDTH, channels=2, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return {
        level: rng.normal(
            size=[batch, math.ceil(height / 2**level), math.ceil(width / 2**level), channels]
        ).astype(np.float32)
        for level in levels
    }


def plain_bilinear(feature, y, x):
    """torchvision's `bilinear_interpolate`."""
    height, width = feature.shape[:2]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(feature.shape[2])
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = int(y), int(x)
    if top >= height - 1:
        y = top = height - 1
    if left >= width - 1:
        x = left = width - 1
    down, right = min(top + 1, height - 1), min(left + 1, width - 1)
    y, x = y - top, x - left
    above = feature[top, left] * (1 - x) + feature[top, right] * x
    below = feature[down, left] * (1 - x) + feature[down, right] * x
    return above * (1 - y) + below * y


def plain_roi_align(feature, region, stride, size):
    """torchvision's `roi_align` with sampling ratio 2 and `aligned=False` of one region: [size, size, C]."""
    x1, y1, x2, y2 = (float(side) / stride for side in region)
    step_x, step_y = max(x2 - x1, 1.0) / size, max(y2 - y1, 1.0) / size
    crop = np.zeros([size, size, feature.shape[2]])
    for i in range(size):
        for j in range(size):
            for dy in (0.25, 0.75):
                for dx in (0.25, 0.75):
                    point = y1 + (i + dy) * step_y, x1 + (j + dx) * step_x
                    crop[i, j] += plain_bilinear(feature.astype(float), *point) / 4
    return crop


def plain_level(region, finest, coarsest):
    side = math.sqrt(
        max(float(region[2]) - float(region[0]), 0) * max(float(region[3]) - float(region[1]), 0)
    )
    return finest if side == 0 else min(max(math.floor(4 + math.log2(side / 224)), finest), coarsest)


def crop(roi, pyramid, regions, size=3, pictures=None, **options):
    if pictures is None:
        regions = np.float32(regions)[None]
        return CropRegions(size, roi, **options)({k: v[:1] for k, v in pyramid.items()}, regions)[0].numpy()
    return CropRegions(size, roi, **options)(pyramid, np.float32(regions), np.int32(pictures)).numpy()


REGIONS = {
    "inside": [10.5, 7.25, 50, 40],
    "whole picture": [0, 0, WIDTH, HEIGHT],
    "right bottom corner": [70.3, 31.7, WIDTH, HEIGHT],
    "right border": [80, 10, WIDTH, 14],
    "left top corner": [0, 0, 9, 5],
    "one pixel of features": [8, 12, 12, 16],
    "bottom row of features": [0, HEIGHT - 4, WIDTH, HEIGHT],
}


@pytest.mark.parametrize("roi", ROI)
@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
@pytest.mark.parametrize("size", [1, 3])
def test_is_that_of_torchvision(roi, region, size):
    pyramid = random_pyramid()
    expected = plain_roi_align(pyramid[2][0], region, 4, size)
    np.testing.assert_allclose(crop(roi, pyramid, [region], size)[0], expected, atol=1e-4)


TINY = {
    "narrow": [20, 10, 20.5, 40],
    "low": [20, 10, 50, 12],
    "a point": [33.3, 21.1, 33.3, 21.1],
    "between four pixels": [30, 30, 31, 31],
    "at the right border": [WIDTH - 1.3, 10, WIDTH, 30],
    "in the last corner": [WIDTH - 0.5, HEIGHT - 0.5, WIDTH, HEIGHT],
}


@pytest.mark.parametrize("roi", ROI)
@pytest.mark.parametrize("region", TINY.values(), ids=TINY)
def test_tiny_regions_are_those_of_torchvision(roi, region):
    """There a region takes a pixel of features at least along each side."""
    pyramid = random_pyramid()
    expected = plain_roi_align(pyramid[2][0], region, 4, 3)
    np.testing.assert_allclose(crop(roi, pyramid, [region])[0], expected, atol=1e-4)


@pytest.mark.parametrize("roi", ROI)
def test_features_of_one_pixel(roi):
    pyramid = {5: np.float32([[[[3.0, -2]]]])}
    np.testing.assert_allclose(
        crop(roi, pyramid, [[0, 0, 32, 32]])[0], np.tile([3, -2], [3, 3, 1]), atol=1e-6
    )


@pytest.mark.parametrize("roi", ROI)
def test_of_a_ramp_each_part_is_its_middle(roi):
    ramp = np.arange(24.0, dtype=np.float32)[None, None, :, None] * np.ones([1, 16, 1, 1], np.float32)
    found = crop(roi, {2: ramp}, [[20, 8, 68, 32]], size=6)[0, :, :, 0]
    np.testing.assert_allclose(found, np.tile(5 + 2 * (np.arange(6) + 0.5), [6, 1]), atol=1e-4)


@st.composite
def regions_within(draw, height=HEIGHT, width=WIDTH, most=6):
    corners = st.tuples(*[st.floats(0, side, width=32) for side in (width, height, width, height)])
    regions = np.float32(draw(st.lists(corners, min_size=1, max_size=most)))
    regions = np.concatenate(
        [np.minimum(regions[:, :2], regions[:, 2:]), np.maximum(regions[:, :2], regions[:, 2:])], 1
    )
    return regions


def decided_by_rounding(regions, size):
    """Whether a sample lies on the very border of the features, up to which the last pixel counts on."""
    start, end = regions[:, :2].astype(float) / 4, regions[:, 2:].astype(float) / 4
    parts = (np.arange(2 * size) + 0.5) / (2 * size)
    samples = start[..., None] + np.maximum(end - start, 1)[..., None] * parts  # [P, 2, 2 * size]
    return (np.abs(samples - np.float64([[WIDTH / 4], [HEIGHT / 4]])) < 1e-3).any()


@settings(max_examples=50)
@given(regions_within(), st.sampled_from([1, 2, 5]), st.data())
def test_both_ways_give_the_same_crops(regions, size, data):
    pictures = data.draw(st.lists(st.integers(0, 1), min_size=len(regions), max_size=len(regions)))
    assume(not decided_by_rounding(regions, size))
    pyramid = random_pyramid()
    found = [crop(roi, pyramid, regions, size, pictures) for roi in ROI]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


@settings(max_examples=25)
@given(regions_within(most=2))
def test_crops_of_any_region_are_the_plain_ones(regions):
    assume(not decided_by_rounding(regions, 2))
    pyramid = random_pyramid()
    expected = [plain_roi_align(pyramid[2][0], region, 4, 2) for region in regions]
    np.testing.assert_allclose(crop("align", pyramid, regions, 2), expected, atol=1e-4)


def test_bilinear_samples_of_both_kinds():
    """`align` and `transform` alone: samples in the middle of equal parts, in pixels of the features."""
    feature = random_pyramid()[2]
    regions = np.float32([[1.5, 2, 20, 14.5], [0, 0, 24, 16]])
    for kind in (align, transform):
        samples = kind(feature, tf.constant(regions), tf.constant([1, 0]), 5).numpy()
        for found, (x1, y1, x2, y2), picture in zip(samples, regions.astype(float), [1, 0], strict=True):
            for i in range(5):
                for j in range(5):
                    y, x = y1 + (i + 0.5) / 5 * (y2 - y1), x1 + (j + 0.5) / 5 * (x2 - x1)
                    expected = plain_bilinear(feature[picture].astype(float), y, x)
                    np.testing.assert_allclose(found[i, j], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "level"),
    [(0, 2), (1, 2), (56, 2), (111.9, 2), (112, 3), (223.9, 3), (224, 4), (447.9, 4), (448, 5), (3000, 5)],
)
def test_levels_by_hand(side, level):
    regions = tf.constant([[7.0, 9, 7 + side, 9 + side], [3, 5, 3 + 2 * side, 5 + side / 2]])
    assert levels_of_regions(regions, 2, 5).numpy().tolist() == [level, level]
    assert levels_of_regions(regions, 3, 4).numpy().tolist() == [min(max(level, 3), 4)] * 2


sides = st.floats(0.5, 2000, width=32)


@settings(max_examples=60)
@given(sides, sides, st.integers(1, 4), st.integers(4, 6))
def test_level_is_that_of_the_equation(width, height, finest, coarsest):
    region = [10.0, 20.0, 10 + width, 20 + height]
    exact = 4 + math.log2(math.sqrt(width * height) / 224)
    found = int(levels_of_regions(tf.constant([region]), finest, coarsest)[0])
    if abs(exact - round(exact)) > 1e-4:  # else rounding decides
        assert found == plain_level(region, finest, coarsest)


LEVELS = (2, 3, 4)
# From all levels, and none in the order of its level.
MIXED = [[0, 0, 300, 260], [5, 5, 30, 20], [20, 30, 150, 170], [280, 200, 320, 288], [0, 100, 320, 288]]


@pytest.mark.parametrize("roi", ROI)
def test_regions_keep_their_order_across_levels(roi):
    pyramid = random_pyramid(LEVELS, 288, 320)
    levels = [plain_level(region, 2, 4) for region in MIXED]
    assert levels == [4, 2, 3, 2, 4]
    found = crop(roi, pyramid, MIXED)
    for region, level, one in zip(MIXED, levels, found, strict=True):
        expected = plain_roi_align(pyramid[level][0], region, 2**level, 3)
        np.testing.assert_allclose(one, expected, atol=1e-4)


@pytest.mark.parametrize("roi", ROI)
def test_levels_that_do_not_halve_evenly(roi):
    """A picture of 250 by 333 pixels: the features are rounded up, and a stride is a stride all the same."""
    pyramid = random_pyramid(LEVELS, 250, 333)
    for region in ([0, 0, 333, 250], [200, 140, 333, 250], [310, 240, 333, 250]):
        level = plain_level(region, 2, 4)
        expected = plain_roi_align(pyramid[level][0], region, 2**level, 3)
        np.testing.assert_allclose(crop(roi, pyramid, [region])[0], expected, atol=1e-4)


@pytest.mark.parametrize("roi", ROI)
def test_regions_of_pictures_and_a_list_with_its_pictures(roi):
    pyramid = random_pyramid(LEVELS, 288, 320)
    regions = np.float32([MIXED, MIXED[::-1]])
    layer = CropRegions(3, roi)
    by_picture = layer(pyramid, regions)
    assert by_picture.shape == (2, 5, 3, 3, 2)
    order = np.random.default_rng(0).permutation(10)
    as_list = layer(pyramid, regions.reshape(10, 4)[order], np.repeat(np.int32([0, 1]), 5)[order])
    np.testing.assert_array_equal(as_list, by_picture.numpy().reshape(10, 3, 3, 2)[order])
    first = plain_roi_align(pyramid[4][1], MIXED[-1], 16, 3)
    np.testing.assert_allclose(by_picture[1, 0], first, atol=1e-4)


def gradients(roi, pyramid, regions, pictures, weights):
    features = {level: tf.Variable(feature) for level, feature in pyramid.items()}
    regions = tf.Variable(np.float32(regions))
    with tf.GradientTape() as tape:
        crops = CropRegions(weights.shape[1], roi)(features, regions, np.int32(pictures))
        total = tf.reduce_sum(crops * weights)
    return tape.gradient(total, (features, regions))


def test_aligned_regions_are_constants():
    weights = np.ones([2, 2, 2, 2], np.float32)
    _, of_regions = gradients("align", random_pyramid(), [[1, 2, 40, 30], [5, 5, 90, 60]], [0, 1], weights)
    assert of_regions is None or not tf.convert_to_tensor(of_regions).numpy().any()


def test_gradient_of_a_spatial_transformer_to_its_regions_is_the_central_difference():
    pyramid = random_pyramid(LEVELS, 288, 320)
    regions, pictures = np.float64(MIXED[:4]), [0, 1, 1, 0]
    regions = regions + np.random.default_rng(5).uniform(0.1, 0.9, regions.shape)  # beside the pixels
    regions[3] = [280.4, 200.3, 319.6, 287.3]
    weights = np.random.default_rng(1).normal(size=[4, 3, 3, 2])
    _, found = gradients("spatial_transformer", pyramid, regions, pictures, np.float32(weights))
    found = tf.convert_to_tensor(found).numpy()
    for n, (region, picture) in enumerate(zip(regions, pictures, strict=True)):
        level = plain_level(region, 2, 4)

        def value(region, level=level, picture=picture, n=n):
            return (plain_roi_align(pyramid[level][picture], region, 2**level, 3) * weights[n]).sum()

        for i in range(4):
            step = np.eye(4)[i] * 1e-6
            expected = (value(region + step) - value(region - step)) / 2e-6
            assert found[n, i] == pytest.approx(expected, rel=1e-3, abs=1e-4)
            assert abs(expected) > 1e-3  # of which 1e-3 says something


@pytest.mark.parametrize("roi", ROI)
def test_gradient_to_the_features_is_the_weights(roi):
    pyramid = random_pyramid()
    weights = np.random.default_rng(1).normal(size=[2, 2, 2, 2]).astype(np.float32)
    regions, pictures = [[10, 8, 90, 60], [50, 30, WIDTH, HEIGHT]], [1, 0]
    of_features, _ = gradients(roi, pyramid, regions, pictures, weights)
    found = tf.convert_to_tensor(of_features[2]).numpy()
    # The crops are linear in the features: with the gradient as weights, features give what the crops give.
    total = sum(
        (plain_roi_align(pyramid[2][picture], region, 4, 2) * weight).sum()
        for region, picture, weight in zip(regions, pictures, weights, strict=True)
    )
    assert (found * pyramid[2]).sum() == pytest.approx(total, rel=1e-3)
    ones = np.abs(found).sum(axis=(1, 2, 3))
    assert (ones > 0).all()


@pytest.mark.parametrize("roi", ROI)
def test_no_region(roi):
    pyramid = random_pyramid(LEVELS, 288, 320)
    weights = np.zeros([0, 3, 3, 2], np.float32)
    of_features, of_regions = gradients(roi, pyramid, np.zeros([0, 4]), np.zeros(0), weights)
    for level, gradient in of_features.items():
        assert gradient is None or not tf.convert_to_tensor(gradient).numpy().any(), level
    assert of_regions is None or of_regions.shape == (0, 4)
    layer = CropRegions(3, roi)
    assert layer(pyramid, np.zeros([2, 0, 4], np.float32)).shape == (2, 0, 3, 3, 2)
    none = {level: feature[:0] for level, feature in pyramid.items()}  # as a replica may get
    of_none, _ = gradients(roi, none, np.zeros([0, 4]), np.zeros(0), weights)
    assert all(gradient is None or gradient.shape[0] == 0 for gradient in of_none.values())
    assert layer(none, np.zeros([0, 5, 4], np.float32)).shape == (0, 5, 3, 3, 2)


@pytest.mark.parametrize("roi", ROI)
def test_zero_boxes_that_fill_up_are_cropped_without_nan(roi):
    weights = np.ones([2, 3, 3, 2], np.float32)
    of_features, of_regions = gradients(roi, random_pyramid(), np.zeros([2, 4]), [0, 1], weights)
    assert np.isfinite(tf.convert_to_tensor(of_features[2])).all()
    assert of_regions is None or np.isfinite(tf.convert_to_tensor(of_regions)).all()


@pytest.mark.parametrize("roi", ROI)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_crops_a_region_where_it_is(roi, dtype):
    """3000.25 is no number of float16: next to it are 3000 and 3002, half a pixel of features away."""
    wide = np.zeros([1, 4, 800, 1], np.float32)
    wide[0, :, :, 0] = 8 * (np.arange(800) % 4)  # a saw, numbers of both types
    region = [3000.25, 4, 3005.25, 12]  # of which the parts lie on a slope
    expected = plain_roi_align(wide[0], region, 4, 1)
    moved = plain_roi_align(wide[0], np.float32(np.float16(region)), 4, 1)
    assert abs(expected - moved).max() > 0.4
    layer = CropRegions(1, roi, dtype=f"mixed_{dtype}")
    found = layer({2: tf.cast(wide, dtype)}, np.float32([[region]]))
    assert found.dtype == dtype
    np.testing.assert_allclose(tf.cast(found[0, 0], tf.float32), expected, atol=0.1)


@pytest.mark.parametrize("roi", ROI)
def test_sizes_that_are_known_late(roi):
    pyramid = random_pyramid(LEVELS, 288, 320)
    layer = CropRegions(3, roi)
    spec = {level: tf.TensorSpec((None, None, None, 2)) for level in pyramid}

    @tf.function(input_signature=[spec, tf.TensorSpec((None, None, 4))])
    def late(pyramid, regions):
        return layer(pyramid, regions)

    regions = tf.constant([MIXED, MIXED[::-1]], tf.float32)
    features = {level: tf.constant(feature) for level, feature in pyramid.items()}
    np.testing.assert_allclose(late(features, regions), layer(pyramid, regions), atol=1e-5)


def test_unknown_roi():
    with pytest.raises(ValueError, match='roi="pool": unknown. Known: "align", "spatial_transformer"'):
        CropRegions(7, "pool")


def test_configuration():
    layer = CropRegions.from_config(CropRegions(5, "spatial_transformer", name="crops").get_config())
    assert (layer.size, layer.roi, layer.name) == (5, "spatial_transformer", "crops")
    pyramid = {2: keras.KerasTensor((None, None, None, 16))}
    assert layer(pyramid, keras.KerasTensor((None, None, 4))).shape == (None, None, 5, 5, 16)
    pictures = keras.KerasTensor((None,), "int32")
    assert layer(pyramid, keras.KerasTensor((None, 4)), pictures).shape == (None, 5, 5, 16)


@pytest.mark.parametrize("roi", ROI)
def test_a_graph_that_knows_its_shapes_and_one_that_does_not_crop_alike_to_the_last_bit(roi):
    pyramid = {level: tf.constant(values) for level, values in random_pyramid((2, 3)).items()}
    corners = tf.random.stateless_uniform([2, 40, 2], [0, 1], 0, 50)
    regions = tf.concat([corners, corners + tf.random.stateless_uniform([2, 40, 2], [0, 2], 1, 40)], axis=-1)
    layer = CropRegions(7, roi)
    shapeless = [tf.TensorSpec([None, None, None, 2])] * 2 + [tf.TensorSpec([None, None, 4])]
    crops = [
        tf.function(lambda p2, p3, regions: layer({2: p2, 3: p3}, regions), input_signature=signature)(
            *pyramid.values(), regions
        )
        for signature in (None, shapeless)
    ]
    np.testing.assert_array_equal(*crops)
