"""A classifier behind a spatial transformer (Jaderberg et al. 2015, https://arxiv.org/abs/1506.02025)."""

from collections.abc import Sequence

import keras
from keras import layers

from kzoo.backbones.cnn import KERNELS, cnn
from kzoo.backbones.resnet import normalize
from kzoo.checks import (
    check_boolean,
    check_input_shape,
    check_integer,
    check_known_size,
    check_normalization,
    check_number,
    check_numbers,
)
from kzoo.layers.class_answers import ClassAnswers
from kzoo.layers.convolution import convolution
from kzoo.layers.spatial_transform import CentreOfMass, SpatialTransform
from kzoo.losses.classification import ClassificationLoss
from kzoo.registry import register
from kzoo.zoo_model import ZooModel

LOCALISATION_CHANNELS = (16, 32, 32)
HEAT_GAIN = 20.0  # the window is to arrive before the CNN has learned to do without


@register(
    "spatial_transformer",
    task="classification",
    paper="Jaderberg et al. 2015, https://arxiv.org/abs/1506.02025",
)
def spatial_transformer(
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    window: int = 64,
    transform: bool = True,
    channels: Sequence[int] = (32, 64, 128, 128),
    units: int = 64,
    dropout: float = 0.1,
    normalization: str | None = None,
    label_smoothing: float = 0.0,
) -> ZooModel:
    """What is in the picture, once the network has turned to it: a window is chosen, sampled and classified.

    A localisation network tells an affine map from the picture, a grid is laid by it, the picture is sampled
    on the grid (figure 2), and a small CNN classifies the samples. The sampler is differentiable, so the
    localisation network learns from the classes alone where to look: the middle of the window is that of a
    heat map, its size and turn come from the mean of the features. It starts at the identity: the whole
    picture.

    Args:
        num_classes: how many classes of pictures there are.
        input_shape: `(height, width, 3)` of the pictures in pixels, all known.
        window: samples along each side of what the CNN is given. Pictures more than twice as large are
            averaged down to about twice that first.
        transform: whether there is a transformer. Without it the CNN is given the whole picture at the same
            number of samples: what to compare with.
        channels: of the four convolutions of the CNN.
        units: of its fully connected layer.
        dropout: share of its values that are left out while training, at most 0.49; see `kzoo.backbones.cnn`.
        normalization: None, or `"batch"`: batch normalisation behind each layer.
        label_smoothing: the share of the truth that is spread over all classes (Szegedy et al. 2016), 0 to 1.

    Returns:
        A model with inputs `images [B, H, W, 3]` (RGB, 0-255) and, to train, `classes [B]` (-1 is unknown).
        Its loss is `classification`, and `accuracy` is shown beside it. Its answers are a dict of
        `probabilities [B, C]` and `classes [B]`, the most probable, and with `transform` also `theta [B, 6]`:
        the map from the window to the picture, both from -1 to 1.

    Raises:
        ValueError: an option has a value that it does not take; the message has the option, the value and
            what would be right.

    Example:
        model = kzoo.build("spatial_transformer", num_classes=5, input_shape=(128, 128, 3))
        model.compile(keras.optimizers.AdamW(1e-3))
        model.fit(kzoo.data.load("shapes", task="classification"))
    """
    check_integer("num_classes", num_classes, least=1)
    check_integer("window", window, least=4)
    check_integer("units", units, least=1)
    check_boolean("transform", transform)
    check_numbers("channels", channels, most=len(KERNELS))
    if len(channels) != len(KERNELS):
        raise ValueError(f"channels={channels!r}: {len(KERNELS)} numbers are expected, one a convolution.")
    for count in channels:
        check_integer(f"channels={channels!r}, where a number", count, least=1)
    check_number("dropout", dropout, least=0, most=0.49)
    check_normalization(normalization)
    check_number("label_smoothing", label_smoothing, least=0, most=1)
    check_input_shape(input_shape, stride=2 ** len(LOCALISATION_CHANNELS))
    check_known_size(input_shape, "spatial_transformer")

    images = keras.Input(input_shape, name="images")  # [B, H, W, 3]
    classes = keras.Input((), dtype="int32", name="classes", optional=True)  # [B]

    x = normalize(images)
    # Samples far apart would see single pixels, and the window would be pulled by their noise.
    apart = min(input_shape[:2]) // (2 * window)
    if apart > 1:
        x = layers.AveragePooling2D(apart, padding="same", dtype="float32", name="smooth")(x)
    if transform:
        theta = localise(x, normalization)
        x = SpatialTransform(window, name="sampler")(x, theta)  # [B, window, window, 3]
    else:
        x = layers.Resizing(window, window, name="whole_picture")(x)
    x = cnn(x, channels, units, dropout, normalization)
    logits = layers.Dense(num_classes, name="classes_of_picture")(x)

    logits = ClassificationLoss(label_smoothing, name="classification")(logits, classes)
    answers = ClassAnswers(name="answers")(logits)
    if transform:
        answers["theta"] = theta
    return ZooModel({"images": images, "classes": classes}, answers, name="spatial_transformer")


def localise(x: keras.KerasTensor, normalization: str | None) -> keras.KerasTensor:
    """The localisation network: where to look in each picture, `[B, 6]`; at first at all of it."""
    for i, count in enumerate(LOCALISATION_CHANNELS):
        x = convolution(x, count, 3, name="localisation", index=i, normalization=normalization)
        if i < len(LOCALISATION_CHANNELS) - 1:
            x = layers.MaxPooling2D(2, name=f"localisation_pool_{i}")(x)
    # A fully connected layer would have to learn for each place anew what is worth a look.
    heat = layers.Conv2D(1, 1, use_bias=False, kernel_initializer="zeros", dtype="float32", name="heat")(x)
    heat = layers.Rescaling(HEAT_GAIN, dtype="float32", name="heat_gain")(heat)
    centre = CentreOfMass(name="centre")(heat)  # [B, 2]
    x = layers.GlobalAveragePooling2D(dtype="float32", name="localisation_mean")(x)
    x = layers.Dense(4, kernel_initializer="zeros", dtype="float32", name="departure")(x)
    x = layers.Rescaling(1.0, offset=[1.0, 0.0, 0.0, 1.0], dtype="float32", name="from_identity")(x)
    rows = [
        layers.Reshape((2, columns), dtype="float32", name=name)(part)
        for columns, name, part in ((2, "linear", x), (1, "shift", centre))
    ]
    theta = layers.Concatenate(dtype="float32", name="rows")(rows)  # [B, 2, 3]
    return layers.Reshape((6,), dtype="float32", name="theta")(theta)
