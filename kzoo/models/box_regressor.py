"""A box regressor: the class and the box of one object, as numbers."""

import keras
from keras import layers

from kzoo.backbones import features_of
from kzoo.checks import check_boolean, check_input_shape, check_integer, check_known_size, check_number
from kzoo.layers.slots import SlotDetections
from kzoo.losses.slots import SlotBoxLoss, SlotClassLoss
from kzoo.registry import register
from kzoo.zoo_model import ZooModel

FINE_LEVEL = 4  # coarser features tell what is there, and less of where
CHANNELS = 64  # of the features that the fully connected layer is given, place by place


@register(
    "box_regressor",
    task="box_regression",
    paper="Szegedy et al. 2013, Deep neural networks for object detection",
)
def box_regressor(
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    backbone: str = "resnet50",
    freeze_statistics: bool = False,
    max_objects: int = 1,
    head_units: int = 512,
    box_loss_weight: float = 30.0,
) -> ZooModel:
    """Where the one object is: its class, and its box as four numbers, learned by a quadratic loss.

    Fully connected layers behind the backbone's features of stride 16 tell, for each of `max_objects` slots,
    the class, or that there is none (softmax), and (x_c, y_c, h, w) in shares of the picture's size. It works
    for one object. With more slots the objects are learned in the order in which the data has them; nothing
    in a picture tells which object belongs in which slot, and so it learns the mean of several answers. That
    is what anchors are for.

    Args:
        num_classes: how many classes of objects there are; "no object" is none.
        input_shape: `(height, width, 3)` of the pictures in pixels, all known: the fully connected layers
            have weights for each place.
        backbone: as for `retinanet`.
        freeze_statistics: as for `retinanet`.
        max_objects: how many slots there are.
        head_units: of the fully connected layer.
        box_loss_weight: how much the box loss counts in the total. Its errors are shares of the picture, and
            their squares are small.

    Returns:
        A model with inputs `images [B, H, W, 3]` (RGB, 0-255) and, to train, `boxes [B, G, 4]` (xyxy in
        pixels) and `classes [B, G]` (negative is no object); of more objects than slots the first count. Its
        losses are `classification` and `box`. Its answers are those of a detector: a dict of `boxes [B, N,
        4]`, `scores [B, N]` (best first), `classes [B, N]` and `num_detections [B]`, with N = `max_objects`.

    Raises:
        ValueError: an option has a value that it does not take; the message has the option, the value and
            what would be right.

    Example:
        model = kzoo.build("box_regressor", num_classes=5, input_shape=(128, 128, 3), backbone="compact")
        model.compile(keras.optimizers.AdamW(1e-3))
        model.fit(kzoo.data.load("shapes", task="box_regression"))
        model.predict(images)["boxes"][:, 0]
    """
    check_integer("num_classes", num_classes, least=1)
    check_integer("max_objects", max_objects, least=1)
    check_integer("head_units", head_units, least=1)
    check_number("box_loss_weight", box_loss_weight, least=0)
    check_boolean("freeze_statistics", freeze_statistics)
    check_input_shape(input_shape, stride=32)
    check_known_size(input_shape, "box_regressor")

    images = keras.Input(input_shape, name="images")  # [B, H, W, 3]
    boxes = keras.Input((None, 4), name="boxes", optional=True)  # [B, G, 4]
    classes = keras.Input((None,), dtype="int32", name="classes", optional=True)  # [B, G]

    features = features_of(images, backbone, freeze_statistics, levels=[FINE_LEVEL])
    x = layers.Conv2D(CHANNELS, 1, activation="relu", name="squeeze")(features[FINE_LEVEL])
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(head_units, activation="relu", kernel_initializer="he_normal", name="head")(x)
    small = keras.initializers.RandomNormal(stddev=0.01)
    logits = layers.Dense(max_objects * (num_classes + 1), kernel_initializer=small, name="classes_of_slots")(
        x
    )
    logits = layers.Reshape((max_objects, num_classes + 1), name="logits")(logits)  # [B, N, C + 1]
    # In float32: eight bits of a coordinate would be pixels.
    numbers = layers.Dense(max_objects * 4, kernel_initializer=small, dtype="float32", name="boxes_of_slots")(
        x
    )
    numbers = layers.Reshape((max_objects, 4), dtype="float32", name="numbers")(numbers)  # [B, N, 4]

    logits = SlotClassLoss(name="classification")(logits, classes)
    numbers = SlotBoxLoss(weight=box_loss_weight, name="box")(numbers, images, boxes, classes)
    answers = SlotDetections(name="answers")(logits, numbers, images)
    return ZooModel({"images": images, "boxes": boxes, "classes": classes}, answers, name="box_regressor")
