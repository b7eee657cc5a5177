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


def of_pictures(**options):
    """A model with the inputs of a classifier, and no more."""
    inputs = {
        "images": keras.Input((8, 8, 3), name="images"),
        "classes": keras.Input((), dtype="int32", name="classes", optional=True),
    }
    model = ZooModel(inputs, keras.layers.Flatten()(inputs["images"]))
    model.zoo_options = {"num_classes": 3} | options
    return model


def of_pixels(**options):
    """A model with the inputs of a U-Net that weighs borders, and no more."""
    inputs = {
        "images": keras.Input((8, None, 3), name="images"),
        "classes": keras.Input((None, None), dtype="int32", name="classes", optional=True),
        "borders": keras.Input((None, None), name="borders", optional=True),
    }
    model = ZooModel(inputs, keras.layers.Conv2D(1, 1)(inputs["images"]))
    model.zoo_options = {"num_classes": 3} | options
    return model


def pictures(**others):
    return {"images": np.zeros([4, 8, 8, 3], np.uint8), "classes": np.array([0, 1, 2, -1], np.int32)} | others


def pixels(**others):
    labels = np.random.default_rng(0).integers(-1, 3, [2, 8, 6]).astype(np.int32)
    return {
        "images": np.zeros([2, 8, 6, 3], np.uint8),
        "classes": labels,
        "borders": np.zeros([2, 8, 6], np.float32),
    } | others


@pytest.mark.parametrize(("make", "data"), [(of_pictures, pictures), (of_pixels, pixels)])
def test_batches_of_pictures_and_of_pixels_pass(make, data):
    for given in (data(), tf.data.Dataset.from_tensors(data()), data(image_id=np.arange(4))):
        check_data(make(), "x", given, targets=True)
        check_data(make(), "x", given, targets=False)


@pytest.mark.parametrize(
    ("make", "data", "told"),
    [
        (
            of_pictures,
            pictures(classes=np.zeros([4, 3])),
            r"classes of shape \(4, 3\), but \[B\] is expected",
        ),
        (of_pictures, pictures(classes=np.zeros([4, 8, 8])), r"classes of shape .*, but \[B\] is expected"),
        (of_pictures, {"images": pictures()["images"]}, "a batch has images, but no classes"),
        (of_pixels, pixels(classes=np.zeros(2)), r"classes of shape \(2,\), but \[B, H, W\] is expected"),
        (of_pixels, pixels(classes=np.zeros([2, 3])), r"classes of shape \(2, 3\), but \[B, H, W\]"),
        (
            of_pixels,
            pixels(classes=np.zeros([2, 8, 6, 1])),
            r"classes of shape \(2, 8, 6, 1\), but \[B, H, W\]",
        ),
        (
            of_pixels,
            pixels(borders=np.zeros([2, 8, 6, 1])),
            r"borders of shape \(2, 8, 6, 1\), but \[B, H, W\]",
        ),
        (
            of_pixels,
            pixels(classes=np.zeros([2, 8, 7])),
            r"classes of shape \(2, 8, 7\), but pictures of shape \(2, 8, 6, 3\): a pixel each",
        ),
        (of_pixels, pixels(borders=np.zeros([2, 4, 3])), r"borders of shape \(2, 4, 3\), but pictures"),
        (of_pixels, pixels(classes=np.zeros([2, 6, 8])), "a pixel each is expected"),
        (of_pixels, {k: v for k, v in pixels().items() if k != "borders"}, "but no borders"),
    ],
)
def test_targets_of_pictures_and_pixels_that_do_not_go_together(make, data, told):
    for given in (data, tf.data.Dataset.from_tensors(data)):
        with pytest.raises(ValueError, match=f"^x: .*{told}"):
            check_data(make(), "x", given, targets=True)
        check_data(make(), "x", given, targets=False)


@pytest.mark.parametrize(("make", "data"), [(of_pictures, pictures), (of_pixels, pixels)])
def test_classes_of_pictures_and_pixels_that_there_are_not(make, data):
    """Where the model learns objects -2 is a crowd; pictures and pixels know none."""
    for wrong, told in (
        (-2, "class -2 is in it; classes are counted from 0, -1 is unknown"),
        (3, "class 3 is in it, but the model was built with num_classes=3: 0 to 2"),
        (255, "class 255 is in it, but the model was built with num_classes=3: 0 to 2"),
    ):
        classes = data()["classes"].copy()
        classes[(-1,) * classes.ndim] = wrong
        with pytest.raises(ValueError, match=f"^x: {told}"):
            check_data(make(), "x", data(classes=classes), targets=True)
        check_data(make(), "x", data(classes=classes), targets=False)


@pytest.mark.parametrize("ignored", [255, -2, 7])
def test_the_ignored_label_may_be_any_number(ignored):
    classes = pixels()["classes"]
    classes[classes == -1] = ignored
    check_data(of_pixels(ignored_label=ignored), "x", pixels(classes=classes), targets=True)
    with pytest.raises(ValueError, match=f"class {ignored} is in it"):
        check_data(of_pixels(ignored_label=-1), "x", pixels(classes=classes), targets=True)
