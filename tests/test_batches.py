import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.batches import check_data
from kzoo.zoo_model import ZooModel


@pytest.fixture(scope="module")
def model():
    """A model with the inputs of Mask R-CNN, and no more."""
    inputs = {
        "images": keras.Input((64, 64, 3), name="images"),
        "boxes": keras.Input((None, 4), name="boxes", optional=True),
        "classes": keras.Input((None,), dtype="int32", name="classes", optional=True),
        "masks": keras.Input((None, None, None), dtype="uint8", name="masks", optional=True),
    }
    return ZooModel(inputs, keras.layers.Flatten()(inputs["images"]))


def batch(**others):
    return {
        "images": np.zeros([2, 64, 64, 3], np.uint8),
        "boxes": np.zeros([2, 3, 4], np.float32),
        "classes": np.array([[0, 1, -2], [0, -1, -1]], np.int32),
        "masks": np.zeros([2, 3, 56, 56], np.uint8),
    } | others


def test_whole_batches_pass(model):
    check_data(model, "x", batch(), targets=True)
    check_data(model, "x", tf.data.Dataset.from_tensors(batch()), targets=True)
    for masks in (np.ones([2, 3, 28, 28], bool), np.ones([2, 3, 5, 5], np.float32)):
        check_data(model, "x", batch(masks=masks), targets=True)


def test_masks_within_boxes_of_pictures_of_their_size_pass():
    pictures = keras.Input((56, 56, 3), name="images")
    masks = keras.Input((None, None, None), dtype="uint8", name="masks", optional=True)
    model = ZooModel({"images": pictures, "masks": masks}, keras.layers.Flatten()(pictures))
    check_data(model, "x", batch(images=np.zeros([2, 56, 56, 3], np.uint8)), targets=True)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"masks": np.zeros([2, 3, 64, 64], np.uint8)}, "masks of 64 by 64 seem to be in pixels.*within_box"),
        ({"masks": np.zeros([2, 3, 48, 64], np.uint8)}, "masks of 48 by 64 seem to be in pixels"),
        ({"masks": np.zeros([2, 64, 64], np.uint8)}, r"masks of shape \(2, 64, 64\), but \[B, G, m, m\]"),
        ({"masks": np.zeros([2, 3, 28, 28, 1])}, r"masks of shape \(2, 3, 28, 28, 1\)"),
        ({"masks": np.zeros([2, 2, 28, 28])}, "differ in number: boxes 3, classes 3, masks 2"),
        ({"boxes": np.zeros([2, 3, 5])}, r"boxes of shape \(2, 3, 5\), but \[B, G, 4\] is expected"),
        ({"boxes": np.zeros([2, 4])}, r"boxes of shape \(2, 4\), but \[B, G, 4\] is expected"),
        ({"classes": np.zeros([2, 5], int)}, "differ in number: boxes 3, classes 5, masks 3"),
    ],
)
def test_targets_that_do_not_go_together(model, wrong, told):
    for data in (batch(**wrong), tf.data.Dataset.from_tensors(batch(**wrong))):
        with pytest.raises(ValueError, match=f"^x: .*{told}"):
            check_data(model, "x", data, targets=True)
        check_data(model, "x", data, targets=False)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"classes": np.full([2, 3], -5)}, "class -5 is in it; classes are counted from 0"),
        ({"masks": np.full([2, 3, 28, 28], 255, np.uint8)}, "masks have values up to 255; 0 and 1"),
    ],
)
def test_values_that_cannot_be(model, wrong, told):
    with pytest.raises(ValueError, match=told):
        check_data(model, "x", batch(**wrong), targets=True)
