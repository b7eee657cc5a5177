"""Backbones: pictures in, a feature map a level out."""

from collections.abc import Callable
from functools import partial

import keras

from kzoo.backbones.resnet import basic_block, bottleneck, compact, resnet
from kzoo.checks import check_choice

BACKBONES: dict[str, Callable[..., dict[int, keras.KerasTensor]]] = {
    "compact": compact,
    "resnet18": partial(resnet, block=basic_block, blocks=(2, 2, 2, 2)),
    "resnet34": partial(resnet, block=basic_block, blocks=(3, 4, 6, 3)),
    "resnet50": partial(resnet, block=bottleneck, blocks=(3, 4, 6, 3)),
    "resnet101": partial(resnet, block=bottleneck, blocks=(3, 4, 23, 3)),
}


def features_of(
    images: keras.KerasTensor, backbone: str, frozen: bool = False
) -> dict[int, keras.KerasTensor]:
    """The features that a backbone sees in pictures.

    Args:
        images: `[B, H, W, 3]`, RGB, 0-255.
        backbone: a name in `BACKBONES`.
        frozen: whether batch normalisation keeps its stored statistics, scale and offset as they are.

    Returns:
        C2 to C5: a dict from level l to `[B, H / 2^l, W / 2^l, C_l]`.

    Raises:
        ValueError: the name is unknown.
    """
    check_choice("backbone", backbone, BACKBONES)
    return BACKBONES[backbone](images, frozen=frozen)
