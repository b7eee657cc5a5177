"""A classifier: one class for the whole picture."""

import keras
from keras import layers

from kzoo.backbones import KNOWN, features_of
from kzoo.backbones.cnn import cnn
from kzoo.backbones.resnet import normalize
from kzoo.checks import (
    check_boolean,
    check_choice,
    check_input_shape,
    check_integer,
    check_known_size,
    check_number,
)
from kzoo.layers.class_answers import ClassAnswers
from kzoo.layers.mixing import MixPictures
from kzoo.losses.classification import ClassificationLoss
from kzoo.registry import register
from kzoo.zoo_model import ZooModel


@register("classifier", task="classification", paper="He et al. 2016, https://arxiv.org/abs/1512.03385")
def classifier(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    backbone: str = "resnet50",
    freeze_statistics: bool = False,
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> ZooModel:
    """What is in the picture: a backbone, the mean over all places, and a class.

    The deepest features of the backbone are averaged over height and width, and one linear layer tells the
    classes (He et al. 2016, table 1). `backbone="cnn"` is a plain network with dense layers of its own
    (Dominguez-Sanchez et al. 2018) for pictures of a known, small size.

    Args:
        num_classes: how many classes of pictures there are.
        input_shape: `(height, width, 3)` of the pictures in pixels, None for any.
        backbone: as for `retinanet`, or `"cnn"`.
        freeze_statistics: whether the backbone's batch normalisation keeps its statistics, scale and offset.
        dropout: share of the averaged features that are left out while training, 0 to below 1; for `"cnn"`
            it is that behind its convolutions, and at most 0.49.
        label_smoothing: the share of the truth that is spread over all classes (Szegedy et al. 2016), 0 to 1.
        mixup: alpha of MixUp (Zhang et al. 2018), which shows weighted means of two pictures; 0 is none, 0.2
            is usual.
        cutmix: alpha of CutMix (Yun et al. 2019), which puts a window of a picture into another; 0 is none, 1
            is usual. With both, each batch draws one of them.

    Returns:
        A model with inputs `images [B, H, W, 3]` (RGB, 0-255) and, to train, `classes [B]` (-1 is unknown).
        Its loss is `classification`, and `accuracy` is shown beside it. Its answers are a dict of
        `probabilities [B, C]` and `classes [B]`, the most probable.

    Raises:
        ValueError: an option has a value that it does not take; the message has the option, the value and
            what would be right.

    Example:
        train = kzoo.data.load("folder:DIR", task="classification", image_size=(64, 64), augment=True)
        model = kzoo.build("classifier", num_classes=len(train.classes), backbone="resnet18")
        model.compile(keras.optimizers.AdamW(1e-3))
        model.fit(train, epochs=10)
        model.predict(images)["classes"]
    """
    check_integer("num_classes", num_classes, least=1)
    check_boolean("freeze_statistics", freeze_statistics)
    check_number("dropout", dropout, least=0, most=0.49 if backbone == "cnn" else 0.99)
    check_number("label_smoothing", label_smoothing, least=0, most=1)
    check_number("mixup", mixup, least=0)
    check_number("cutmix", cutmix, least=0)
    if "." not in str(backbone):
        check_choice("backbone", backbone, ["cnn", *KNOWN])
    least_size = 4 if backbone == "cnn" else 32
    check_input_shape(input_shape, stride=least_size)
    if backbone == "cnn":
        check_known_size(input_shape, 'backbone="cnn"')

    images = keras.Input(input_shape, name="images")  # [B, H, W, 3]
    classes = keras.Input((), dtype="int32", name="classes", optional=True)  # [B]

    mixed, targets = images, None
    if mixup or cutmix:
        mixed, targets = MixPictures(num_classes, mixup, cutmix, name="mix")(images, classes)
    if backbone == "cnn":
        x = cnn(normalize(mixed), dropout=dropout)
    else:
        features = features_of(mixed, backbone, frozen=freeze_statistics)
        x = layers.GlobalAveragePooling2D(name="pool")(features[max(features)])  # [B, C_l]
        x = layers.Dropout(dropout, name="dropout")(x)
    logits = layers.Dense(num_classes, name="classes_of_picture")(x)

    logits = ClassificationLoss(label_smoothing, name="classification")(logits, classes, targets)
    answers = ClassAnswers(name="answers")(logits)
    model = ZooModel({"images": images, "classes": classes}, answers, name="classifier")
    model.least_size = least_size
    return model
