import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.losses.slots import SlotBoxLoss, SlotClassLoss, in_slots

RNG = np.random.default_rng(0)
LOGITS = np.float32(RNG.normal(size=[3, 2, 4]) * 2)  # two slots, three classes and "no object"
NUMBERS = np.float32(RNG.random([3, 2, 4]))
IMAGES = np.zeros([3, 40, 80, 3], np.float32)
BOXES = np.float32(
    [
        [[8, 10, 24, 30], [0, 0, 80, 40], [1, 1, 2, 2]],  # more objects than slots
        [[40, 20, 80, 30], [0, 0, 0, 0], [0, 0, 0, 0]],  # fewer
        [[0, 0, 0, 0]] * 3,  # none
    ]
)
CLASSES = np.int32([[2, 0, 1], [1, -1, -1], [-1, -1, -1]])


def plain_class_loss(logits, labels):
    """The sum over the slots; "no object" is the last."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        powers = [math.exp(float(logit)) for logit in row]
        total -= math.log(powers[label] / sum(powers))
    return total


def test_in_slots():
    for slots in (1, 2, 3, 5):
        labels = in_slots(tf.constant(CLASSES), slots, -1).numpy()
        boxes = in_slots(tf.constant(BOXES), slots, 0.0).numpy()
        assert labels.shape == (3, slots) and boxes.shape == (3, slots, 4)
        np.testing.assert_array_equal(labels[:, :3], CLASSES[:, :slots])
        np.testing.assert_array_equal(boxes[:, :3], BOXES[:, :slots])
        assert np.all(labels[:, 3:] == -1) and np.all(boxes[:, 3:] == 0)
    np.testing.assert_array_equal(in_slots(tf.constant(CLASSES[:, :0]), 2, -1), np.full([3, 2], -1))


def test_more_objects_than_slots_fewer_and_none(loss_and_gradient):
    loss, gradient = loss_and_gradient(SlotClassLoss(), LOGITS, CLASSES)
    labels = [[2, 0], [1, 3], [3, 3]]
    expected = [plain_class_loss(logits, row) for logits, row in zip(LOGITS, labels, strict=True)]
    assert loss == pytest.approx(sum(expected) / 3, rel=1e-5)
    assert np.abs(gradient).sum(axis=-1).min() > 0  # the free slots learn that nothing is there


def test_crowds_are_no_object(loss_and_gradient):
    crowded = np.where(CLASSES == -1, -2, CLASSES)
    assert loss_and_gradient(SlotClassLoss(), LOGITS, crowded)[0] == pytest.approx(
        loss_and_gradient(SlotClassLoss(), LOGITS, CLASSES)[0]
    )
    boxes = np.where(CLASSES[..., None] == -1, np.float32([5, 5, 30, 30]), BOXES)
    loss, gradient = loss_and_gradient(SlotBoxLoss(), NUMBERS, IMAGES, boxes, crowded)
    assert loss == pytest.approx(loss_and_gradient(SlotBoxLoss(), NUMBERS, IMAGES, BOXES, CLASSES)[0])
    np.testing.assert_array_equal(gradient[1, 1], 0)


def test_squared_errors_of_shares_of_the_picture(loss_and_gradient):
    loss, gradient = loss_and_gradient(SlotBoxLoss(), NUMBERS, IMAGES, BOXES, CLASSES)
    # (x_c, y_c, h, w): x and w in shares of 80 pixels, y and h of 40.
    true = {(0, 0): [0.2, 0.5, 0.5, 0.2], (0, 1): [0.5, 0.5, 1, 1], (1, 0): [0.75, 0.625, 0.25, 0.5]}
    errors = {slot: NUMBERS[slot].astype(float) - numbers for slot, numbers in true.items()}
    assert loss == pytest.approx(sum((error**2).sum() for error in errors.values()) / 3, rel=1e-5)
    expected = np.zeros([3, 2, 4])
    for slot, error in errors.items():
        expected[slot] = 2 * error / 3
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_no_object_has_no_box_whatever_is_there(loss_and_gradient):
    nothing = np.full([3, 3], -1, np.int32)
    for boxes in (BOXES, np.full_like(BOXES, 1e30), np.full_like(BOXES, np.nan)):
        loss, gradient = loss_and_gradient(SlotBoxLoss(), NUMBERS, IMAGES, boxes, nothing)
        assert loss == 0
        np.testing.assert_array_equal(gradient, 0)
    loss, gradient = loss_and_gradient(SlotBoxLoss(), NUMBERS, IMAGES, BOXES[:, :0], CLASSES[:, :0])
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)
    loss, gradient = loss_and_gradient(SlotClassLoss(), LOGITS, CLASSES[:, :0])
    expected = sum(plain_class_loss(logits, [3, 3]) for logits in LOGITS) / 3
    assert loss == pytest.approx(expected, rel=1e-5)


def test_hostile_boxes_and_logits(loss_and_gradient):
    boxes = np.tile(np.float32([[[30, 30, 10, 10], [-1e4, -1e4, 1e4, 1e4]]]), [3, 1, 1])
    loss, gradient = loss_and_gradient(SlotBoxLoss(), NUMBERS, IMAGES, boxes, CLASSES)
    assert np.isfinite(loss) and np.isfinite(gradient).all()
    loss, gradient = loss_and_gradient(SlotClassLoss(), LOGITS * np.float32(1e6), CLASSES)
    assert np.isfinite(loss) and np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision(loss_and_gradient, dtype):
    numbers, logits = tf.cast(NUMBERS, dtype), tf.cast(LOGITS * 1000, dtype)
    loss, gradient = loss_and_gradient(SlotBoxLoss(), numbers, IMAGES, BOXES, CLASSES)
    expected, _ = loss_and_gradient(SlotBoxLoss(), tf.cast(numbers, tf.float32), IMAGES, BOXES, CLASSES)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(gradient.astype(np.float32)).all()
    loss, gradient = loss_and_gradient(SlotClassLoss(), logits, CLASSES)
    assert loss == pytest.approx(
        loss_and_gradient(SlotClassLoss(), tf.cast(logits, tf.float32), CLASSES)[0], rel=1e-6
    )
    assert np.isfinite(gradient.astype(np.float32)).all()


def test_the_weights(loss_and_gradient):
    one, _ = loss_and_gradient(SlotBoxLoss(), NUMBERS, IMAGES, BOXES, CLASSES)
    ten, _ = loss_and_gradient(SlotBoxLoss(weight=10.0), NUMBERS, IMAGES, BOXES, CLASSES)
    assert ten == pytest.approx(10 * one, rel=1e-6)
    again = SlotBoxLoss.from_config(SlotBoxLoss(weight=10.0, name="box").get_config())
    assert (again.weight, again.name) == (10.0, "box")


def test_classes_beyond_the_last():
    for layer_call in (SlotClassLoss(), tf.function(SlotClassLoss())):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="a class of the batch is not below num_classes=3"
        ):
            layer_call(tf.constant(LOGITS), tf.constant([[0], [3], [1]]))


def test_without_targets_there_is_no_loss():
    for layer, inputs in ((SlotClassLoss(), [LOGITS]), (SlotBoxLoss(), [NUMBERS, IMAGES])):
        np.testing.assert_array_equal(layer(*inputs), inputs[0])
        assert layer.losses == []
    output = SlotBoxLoss()(keras.KerasTensor((None, 2, 4), "float16"), keras.KerasTensor((None, 8, 8, 3)))
    assert (output.shape, output.dtype) == ((None, 2, 4), "float32")
    output = SlotClassLoss()(keras.KerasTensor((None, 2, 4), "bfloat16"))
    assert (output.shape, output.dtype) == ((None, 2, 4), "float32")
