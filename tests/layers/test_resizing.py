import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from kzoo.layers.resizing import FillUp, MoveBoxes, ResizePictures, fit_pictures, in_own_pixels

COLOUR = (123.675, 116.28, 103.53)


def size_there(height, width, shorter, longest):
    """torchvision's, in double precision: sides are cut to whole pixels."""
    scale = min(shorter / min(height, width), longest / max(height, width))
    return math.floor(height * scale), math.floor(width * scale)


def plain_side(values, size):
    """The first axis resized: a new pixel is made of the two whose centres are nearest to its own."""
    scale = len(values) / size
    resized = np.zeros([size, *values.shape[1:]])
    for i in range(size):
        place = min(max((i + 0.5) * scale - 0.5, 0), len(values) - 1)
        low = math.floor(place)
        high = min(low + 1, len(values) - 1)
        resized[i] = values[low] * (1 - (place - low)) + values[high] * (place - low)
    return resized


def plain_resize(image, height, width):
    return plain_side(plain_side(image.astype(float), height).swapaxes(0, 1), width).swapaxes(0, 1)


def pictures(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((10, 20), (20, 100), (20, 40)),  # twice as large
        ((20, 10), (20, 100), (40, 20)),
        ((30, 40), (7, 100), (7, 9)),  # smaller: only the four nearest pixels count
        ((10, 40), (20, 60), (15, 60)),  # the longer side decides
        ((11, 11), (11, 11), (11, 11)),  # as it was
        ((5, 7), (3, 3), (2, 3)),
    ],
)
def test_pictures_are_resized_by_hand(size, resize, expected, dtype):
    images = pictures(2, *size, 3, dtype=dtype)
    resized = ResizePictures(*resize)(images)
    assert resized.dtype == tf.float32 and resized.shape == (2, *expected, 3)
    for image, found in zip(images, resized, strict=True):
        np.testing.assert_allclose(found, plain_resize(image, *expected), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("side", [97, 161, 167])
def test_sides_are_cut_in_double_precision_as_torchvision_cuts_them(side):
    assert int(side * (800 / side)) == 799
    assert ResizePictures(800, 1333)(np.zeros([1, side, side + 30, 3], np.uint8)).shape[1] == 799
    assert ResizePictures(800, 1333)(keras.KerasTensor((None, side, side + 30, 3))).shape[1] == 799


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    shorter=st.integers(1, 90),
    more=st.integers(0, 90),
)
def test_sizes_are_torchvisions_and_told_before(height, width, shorter, more):
    layer = ResizePictures(shorter, shorter + more)
    expected = [max(side, 1) for side in size_there(height, width, shorter, shorter + more)]
    assert list(layer(np.zeros([1, height, width, 1], np.uint8)).shape[1:3]) == expected
    assert list(layer(keras.KerasTensor((None, height, width, 1), "uint8")).shape[1:3]) == expected


def test_a_strip_keeps_a_pixel():
    assert ResizePictures(10, 20)(np.zeros([1, 1, 500, 3], np.uint8)).shape == (1, 1, 20, 3)
    assert ResizePictures(10, 20)(keras.KerasTensor((None, 1, 500, 3))).shape == (None, 1, 20, 3)


@pytest.mark.parametrize("shape", [(None, None), (None, 64), (64, None)])
def test_sizes_that_are_known_late(shape):
    """One open side leaves both open: the scale is that of both."""
    resized = ResizePictures(32, 64)(keras.KerasTensor((None, *shape, 3), "uint8"))
    assert (resized.shape, resized.dtype) == ((None, None, None, 3), "float32")
    filled = FillUp(32, COLOUR)(keras.KerasTensor((None, *shape, 3)))
    assert filled.shape == (None, *shape, 3)


@pytest.mark.parametrize(("height", "width"), [(5, 8), (4, 4), (7, 9)])
def test_what_is_filled_up_has_just_the_colour(height, width):
    images = pictures(2, height, width, 3, dtype=np.float32)
    filled = FillUp(4, COLOUR)(images).numpy()
    more_rows, more_columns = -height % 4, -width % 4
    assert filled.shape == (2, height + more_rows, width + more_columns, 3)
    np.testing.assert_array_equal(filled[:, :height, :width], images)
    assert np.all(filled[:, height:] == np.float32(COLOUR))
    assert np.all(filled[:, :, width:] == np.float32(COLOUR))
    assert FillUp(4, COLOUR)(keras.KerasTensor((None, height, width, 3))).shape == (None, *filled.shape[1:])


def test_boxes_are_moved_by_the_factors_of_their_sides():
    boxes = np.float32([[[1, 2, 3, 4], [0, 0, 0, 0]], [[10, 20, 30, 40], [-5, -6, 100, 200]]])
    images, resized = np.zeros([2, 50, 40, 3], np.uint8), np.zeros([2, 100, 60, 3], np.float32)
    moved = MoveBoxes()(boxes, images, resized)
    np.testing.assert_allclose(moved, boxes * [1.5, 2, 1.5, 2], rtol=1e-6)
    np.testing.assert_allclose(MoveBoxes()(moved, resized, images), boxes, rtol=1e-6)
    assert moved.dtype == tf.float32


def test_no_boxes():
    images = np.zeros([2, 50, 40, 3], np.uint8)
    assert MoveBoxes()(None, images, images) is None
    assert MoveBoxes()(np.zeros([2, 0, 4], np.float32), images, images).shape == (2, 0, 4)
    assert MoveBoxes()(keras.KerasTensor((None, 7, 4)), images, images).shape == (None, 7, 4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_half_precision_does_not_reach_pixels_and_boxes(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        layers = ResizePictures(33, 99), FillUp(32, COLOUR), MoveBoxes()
    finally:
        keras.config.set_dtype_policy(before)
    resize, fill, move = layers
    images, boxes = pictures(1, 20, 50, 3), np.float32([[[1.03125, 2, 2049, 4097]]])  # beyond half precision
    resized = resize(images)
    np.testing.assert_array_equal(resized, ResizePictures(33, 99)(images))
    np.testing.assert_array_equal(fill(resized), FillUp(32, COLOUR)(resized))
    np.testing.assert_array_equal(move(boxes, images, images), boxes)
    assert {layer.compute_dtype for layer in layers} == {"float32"}


def model_of(resize, shape=(None, None)):
    images = keras.Input((*shape, 3), name="images")
    boxes = keras.Input((None, 4), name="boxes", optional=True)
    resized, filled, seen = fit_pictures(images, boxes, resize, COLOUR)
    back = in_own_pixels({"boxes": seen, "scores": seen}, resized, images)
    return keras.Model({"images": images, "boxes": boxes}, [resized, filled, seen, back])


@pytest.mark.parametrize("shape", [(None, None), (45, 70)])
def test_pictures_and_boxes_there_and_back(shape, tmp_path):
    model = model_of((50, 75), shape)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    arrays = {"images": pictures(2, 45, 70, 3), "boxes": np.float32([[[7, 9, 14, 18]]] * 2)}
    height, width = size_there(45, 70, 50, 75)
    assert (height, width) == (48, 75)
    for which in (model, again):
        resized, filled, seen, back = which(arrays)
        assert resized.shape == (2, height, width, 3) and filled.shape == (2, 64, 96, 3)
        np.testing.assert_array_equal(filled[:, :height, :width], resized)
        assert np.all(filled[:, height:] == np.float32(COLOUR))
        np.testing.assert_allclose(seen[0, 0], [7.5, 9.6, 15, 19.2], rtol=1e-6)
        np.testing.assert_allclose(back["boxes"], arrays["boxes"], rtol=1e-6)
        np.testing.assert_array_equal(back["scores"], seen)


def test_without_a_size_all_is_as_it_was():
    images, boxes = keras.Input((None, None, 3)), keras.Input((None, 4))
    assert fit_pictures(images, boxes, None, COLOUR) == (images, images, boxes)
    detections = {"boxes": boxes}
    assert in_own_pixels(detections, images, images) is detections


def test_configuration():
    layer = ResizePictures.from_config(ResizePictures(3, 5, name="resize").get_config())
    assert (layer.shorter, layer.longest, layer.name) == (3, 5, "resize")
    layer = FillUp.from_config(FillUp(16, (1.0, 2.0, 3.0)).get_config())
    assert (layer.stride, layer.colour) == (16, (1.0, 2.0, 3.0))


MIRRORED = """
import keras
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import kzoo
from kzoo.training import adamw

options = dict(num_classes=5, backbone="compact", pyramid_channels=8, head_depth=1, anchor_sizes=(16, 32))
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = kzoo.build("retinanet", resize=(64, 96), freeze="backbone_at_2", **options)
    model.compile(adamw(1e-3, 0.0, 0.1))
before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
batches = kzoo.data.load("shapes", split="val[:4]", image_size=(48, 80), batch_size=4)
losses = model.fit(batches, epochs=1, verbose=0).history
assert all(np.isfinite(values).all() for values in losses.values()), losses
after = {name: model.get_layer(name).get_weights() for name in before}
moved = {name: max(np.abs(new - old).max() for new, old in zip(after[name], before[name])) for name in before}
assert moved["backbone_conv1"] == 0, moved
assert 0 < moved["backbone_layer2_0_conv1"] < 0.2 * moved["fpn_layer_3"], moved
"""


def test_a_detector_that_resizes_is_fine_tuned_on_two_replicas():
    subprocess.run([sys.executable, "-c", MIRRORED], check=True)
