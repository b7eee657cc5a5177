"""Backbones: pictures in, a feature map a level out."""

from collections.abc import Callable, Sequence
from functools import partial

import keras

from kzoo.backbones.adapters import adapted_features
from kzoo.backbones.resnet import basic_block, bottleneck, compact, resnet
from kzoo.checks import check_choice, listed

BACKBONES: dict[str, Callable[..., dict[int, keras.KerasTensor]]] = {
    "compact": compact,
    "resnet18": partial(resnet, block=basic_block, blocks=(2, 2, 2, 2)),
    "resnet34": partial(resnet, block=basic_block, blocks=(3, 4, 6, 3)),
    "resnet50": partial(resnet, block=bottleneck, blocks=(3, 4, 6, 3)),
    "resnet101": partial(resnet, block=bottleneck, blocks=(3, 4, 23, 3)),
}
KNOWN = (*BACKBONES, "keras.applications.NAME", "keras_cv.NAME")


def features_of(
    images: keras.KerasTensor, backbone: str, frozen: bool = False, levels: Sequence[int] = ()
) -> dict[int, keras.KerasTensor]:
    """The features that a backbone sees in pictures.

    Args:
        images: `[B, H, W, 3]`, RGB, 0-255.
        backbone: a name in `BACKBONES`, or one of `kzoo.backbones.adapters.adapter_names()`.
        frozen: whether batch normalisation keeps its stored statistics, scale and offset as they are.
        levels: those that there must be.

    Returns:
        C1 to C5: a dict from level l to `[B, H / 2^l, W / 2^l, C_l]`. A backbone made elsewhere may have
        other levels.

    Raises:
        ValueError: the name is unknown, or the backbone does not have one of the levels.
    """
    if backbone in BACKBONES or "." not in str(backbone):
        check_choice("backbone", backbone, KNOWN)
        features = BACKBONES[backbone](images, frozen=frozen)
    else:
        features = adapted_features(images, backbone, frozen, max(levels, default=None))
    if missing := [level for level in levels if level not in features]:
        raise ValueError(
            f'backbone="{backbone}": has features of level {listed(features)}, but level {listed(missing)} '
            "is needed."
        )
    return features


def is_of_backbone(layer: str) -> bool:
    """Whether the layer of a model that has this name belongs to its backbone."""
    return layer == "backbone" or layer.startswith("backbone_")
