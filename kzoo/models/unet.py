"""U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597)."""

from collections.abc import Sequence

import keras
from keras import layers

from kzoo.backbones import features_of
from kzoo.backbones.resnet import normalize
from kzoo.checks import (
    check_boolean,
    check_choice,
    check_input_shape,
    check_integer,
    check_known_size,
    check_normalization,
    check_number,
    check_numbers,
)
from kzoo.layers.class_answers import ClassAnswers
from kzoo.layers.convolution import convolution
from kzoo.layers.pixels import CropBack, JoinSkip, PadToMultiple, StandardizePictures
from kzoo.layers.up_convolution import UpConvolution
from kzoo.losses.segmentation import SEGMENTATION_LOSSES, SegmentationLoss
from kzoo.registry import register
from kzoo.zoo_model import ZooModel

PADDINGS = ("same", "valid")
UPSAMPLINGS = ("transposed", "resize")


@register("unet", task="segmentation", paper="Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597")
def unet(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    width: int = 64,
    depth: int = 4,
    padding: str = "same",
    upsampling: str = "transposed",
    normalization: str | None = None,
    standardize: bool = False,
    dropout: float = 0.0,
    backbone: str | None = None,
    freeze_statistics: bool = False,
    loss: str = "cross_entropy",
    class_weights: Sequence[float] | None = None,
    ignored_label: int = -1,
    border_weight: float = 0.0,
    focal_gamma: float = 2.0,
) -> ZooModel:
    """A class for each pixel: down to what is there, and up again to where it is.

    A contracting path halves the picture and doubles the channels, an expanding path goes back up, and at
    each scale it is given what the contracting path saw there (figure 1).

    Args:
        num_classes: how many classes of pixels there are, the background among them.
        input_shape: `(height, width, 3)` of the pictures in pixels, None for any. What 2^depth does not
            divide is mirrored up to where it does, and cut off again.
        width: channels of the first convolutions; each scale has twice as many as the one above it.
        depth: how often the picture is halved.
        padding: `"same"`, or `"valid"` as in the paper: convolutions look at nothing but the picture, so that
            the answers are smaller. It needs a known size, that of a tile, and of these there are some only;
            `kzoo.predict_tiles` answers for whole pictures.
        upsampling: `"transposed"`, a transposed convolution of 2x2, or `"resize"`: a 1x1 convolution whose
            pixels are repeated.
        normalization: None as in the paper, or `"batch"`: batch normalisation behind each 3x3 convolution.
        standardize: whether each picture is brought to zero mean and unit variance by itself (as Isensee et
            al. 2021 do), for pictures of several kinds of light or stain; else all by ImageNet's statistics.
        dropout: share of the deepest features that are left out while training, 0 to below 1.
        backbone: None, or an encoder in place of the contracting path, as for `retinanet`. Its stem halves
            the picture first, so there is no skip at the finest scale.
        freeze_statistics: whether the backbone's batch normalisation keeps its statistics, scale and offset.
        loss: `"cross_entropy"`, `"dice"`, `"cross_entropy_dice"` (their sum) or `"focal"`.
        class_weights: how much each class counts, w_c in equation 2; None weighs all alike.
        ignored_label: the class of pixels that do not count; -1, which padding has, never does.
        border_weight: w_0 in equation 2: how much more the narrow places between two objects count, 10 in
            the paper. The model then also learns from `borders`, which `kzoo.data.load(..., border_sigma=5)`
            gives.
        focal_gamma: how much less easy pixels count in the focal loss.

    Returns:
        A model with inputs `images [B, H, W, 3]` (RGB, 0-255) and, to train, `classes [B, H, W]` and, with a
        `border_weight`, `borders [B, H, W]`. Its loss is `segmentation`. Its answers are a dict of
        `probabilities [B, H, W, C]` and `classes [B, H, W]`, the most probable; with `padding="valid"` they
        are those of the middle of the picture.

    Raises:
        ValueError: an option has a value that it does not take; the message has the option, the value and
            what would be right.

    Example:
        train = kzoo.data.load("folder:DIR", task="segmentation", image_size=(256, 256), augment=True)
        model = kzoo.build("unet", num_classes=len(train.classes), width=32, normalization="batch")
        model.compile(keras.optimizers.AdamW(1e-3))
        model.fit(train, epochs=10)
        model.predict(images)["classes"]
    """
    check_integer("num_classes", num_classes, least=2)
    check_integer("width", width, least=1)
    check_integer("depth", depth, least=1)
    check_choice("padding", padding, PADDINGS)
    check_choice("upsampling", upsampling, UPSAMPLINGS)
    check_normalization(normalization)
    check_boolean("freeze_statistics", freeze_statistics)
    check_boolean("standardize", standardize)
    check_number("dropout", dropout, least=0, most=0.99)
    check_choice("loss", loss, SEGMENTATION_LOSSES)
    check_integer("ignored_label", ignored_label, least=-(2**31))
    check_number("border_weight", border_weight, least=0)
    check_number("focal_gamma", focal_gamma, least=0)
    check_class_weights(class_weights, num_classes)
    check_input_shape(input_shape, stride=1)
    if border_weight and loss == "dice":
        raise ValueError(f'border_weight={border_weight}: loss="dice" has no weights of pixels.')
    if standardize and (backbone is not None or padding == "valid"):
        raise ValueError(
            'standardize=True: a backbone has an input of its own, and tiles of a picture (padding="valid") '
            "would each have another mean; False is expected with them."
        )
    if padding == "valid":
        check_tile(input_shape, depth, backbone)

    images = keras.Input(input_shape, name="images")  # [B, H, W, 3]
    classes = keras.Input((None, None), dtype="int32", name="classes", optional=True)  # [B, H, W]
    borders = keras.Input((None, None), name="borders", optional=True) if border_weight else None

    block = dict(padding=padding, normalization=normalization)
    x = images
    if backbone is None:
        x = StandardizePictures(name="standardize")(x) if standardize else normalize(x)
    if padding == "same":
        x = PadToMultiple(2**depth, name="pad")(x)
    if backbone is None:
        skips, x = contract(x, width=width, depth=depth, **block)
    else:
        skips, x = encode(x, backbone, depth=depth, frozen=freeze_statistics)
    x = layers.Dropout(dropout, name="dropout")(x)
    for level in reversed(range(depth)):
        x = up(x, width * 2**level, upsampling, name=f"up_{level}")
        if level in skips:
            x = JoinSkip(name=f"join_{level}")(x, skips[level])
        x = two_convolutions(x, width * 2**level, name=f"expand_{level}", **block)
    logits = layers.Conv2D(num_classes, 1, kernel_initializer="he_normal", name="classes_of_pixels")(x)
    if padding == "same":
        logits = CropBack(name="crop_back")(logits, images)  # [B, H, W, C]

    logits = SegmentationLoss(
        loss, class_weights, border_weight, ignored_label, focal_gamma, name="segmentation"
    )(logits, classes, borders)
    inputs = {"images": images, "classes": classes} | ({"borders": borders} if border_weight else {})
    return ZooModel(inputs, ClassAnswers(name="answers")(logits), name="unet")


def two_convolutions(
    x: keras.KerasTensor, channels: int, *, padding: str, normalization: str | None, name: str
) -> keras.KerasTensor:
    """Two 3x3 convolutions, each with ReLU."""
    for i in range(2):
        x = convolution(
            x,
            channels,
            3,
            name=name,
            index=i,
            normalization=normalization,
            momentum=0.97,  # the few pictures of a batch differ more than those of photographs do
            padding=padding,
        )
    return x


def contract(
    x: keras.KerasTensor, *, width: int, depth: int, padding: str, normalization: str | None
) -> tuple[dict[int, keras.KerasTensor], keras.KerasTensor]:
    """The contracting path: what it saw at each scale, from level 0, and what is left at the bottom."""
    skips = {}
    for level in range(depth + 1):
        x = two_convolutions(
            x, width * 2**level, padding=padding, normalization=normalization, name=f"contract_{level}"
        )
        if level < depth:
            skips[level] = x
            x = layers.MaxPooling2D(2, name=f"contract_pool_{level}")(x)
    return skips, x


def encode(
    images: keras.KerasTensor, backbone: str, *, depth: int, frozen: bool
) -> tuple[dict[int, keras.KerasTensor], keras.KerasTensor]:
    """A backbone as the contracting path: what it has below level `depth`, and that level itself."""
    features = features_of(images, backbone, frozen=frozen, levels=[depth])
    return {level: x for level, x in features.items() if level < depth}, features[depth]


def up(x: keras.KerasTensor, channels: int, upsampling: str, *, name: str) -> keras.KerasTensor:
    """Twice the height and width, and these channels."""
    if upsampling == "transposed":
        return UpConvolution(channels, kernel_initializer="he_normal", name=name)(x)
    # Repeated pixels and the 3x3 convolutions behind leave no checkerboard (Odena et al. 2016); the channels
    # become fewer first, where the pixels are few.
    x = layers.Conv2D(channels, 1, kernel_initializer="he_normal", name=name)(x)
    return layers.UpSampling2D(2, name=f"{name}_repeat")(x)


def check_class_weights(class_weights: object, num_classes: int) -> None:
    """Raises a `ValueError` unless there is no weight, or one for each class."""
    if class_weights is None:
        return
    check_numbers("class_weights", class_weights)
    if len(class_weights) != num_classes:
        raise ValueError(
            f"class_weights={class_weights!r}: {len(class_weights)} numbers, but num_classes={num_classes}."
        )


def answered_side(side: int, depth: int) -> int | None:
    """How many pixels of a side remain without padding; None if it cannot be halved so often."""
    for _ in range(depth):
        side -= 4
        if side <= 0 or side % 2:
            return None
        side //= 2
    side -= 4
    for _ in range(depth):
        side = 2 * side - 4
    return side if side > 0 else None


def check_tile(input_shape: Sequence[int | None], depth: int, backbone: str | None) -> None:
    """Raises a `ValueError` unless a network without padding answers something for a tile of this size."""
    if backbone is not None:
        raise ValueError(f'padding="valid": backbone={backbone!r} pads; backbone=None is expected.')
    check_known_size(input_shape, 'padding="valid"')
    for side in input_shape[:2]:
        if answered_side(side, depth) is None:
            step = 2**depth
            right = [
                near for near in range(max(1, side - step), side + 40 * step) if answered_side(near, depth)
            ]
            below = [near for near in right if near < side][-1:]
            above = [near for near in right if near > side][:1]
            raise ValueError(
                f'input_shape={tuple(input_shape)!r}: with padding="valid" and depth={depth} a side of '
                f"{side} pixels leaves nothing, or an odd number to be halved; the nearest that fit: "
                f"{' and '.join(map(str, below + above))}."
            )
