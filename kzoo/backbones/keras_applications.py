"""The networks of `keras.applications`, whichever this Keras has."""

import inspect
import sys
from collections.abc import Callable
from functools import partial

import keras

from kzoo.backbones.preprocessing import ChannelScale, preprocessing


def names() -> list[str]:
    """What the networks are called there, such as `"EfficientNetB0"`, sorted."""
    return sorted(name for name, value in vars(keras.applications).items() if inspect.isfunction(value))


def network(
    name: str, size: tuple[int | None, int | None], weights: str | None = None
) -> tuple[ChannelScale | None, keras.Model]:
    """A network, with random weights or those that Keras publishes.

    Args:
        name: one of `names()`.
        size: height and width that the pictures have, None for any.
        weights: None, or `"imagenet"`.

    Returns:
        What pictures in 0-255 go through first, None where the network does that itself, and the network
        without classes at its end.

    Raises:
        ValueError: the network takes pictures of one size only, and the size is open; or there are no such
            weights, or they cannot be fetched.
    """
    constructor = getattr(keras.applications, name)
    # The module that it is written in, because not all have their `preprocess_input` beside them in public.
    module = sys.modules[constructor.__module__]
    build = partial(_build, constructor, weights)
    model = build((None, None, 3))
    try:
        model.compute_output_shape((1, 512, 512, 3))
    except ValueError as error:
        # NASNet compares the sizes of its maps while it is built.
        if None in size:
            raise ValueError(
                f'backbone="keras.applications.{name}": takes pictures of one size, but input_shape has '
                f"{size[0]} x {size[1]}: give height and width."
            ) from error
        model = build((*size, 3))
    return preprocessing(module.preprocess_input), model


def _build(
    constructor: Callable[..., keras.Model], weights: str | None, input_shape: tuple[int | None, ...]
) -> keras.Model:
    """Builds a network, and tells in a sentence when its weights cannot be had."""
    try:
        return constructor(include_top=False, weights=weights, input_shape=input_shape)
    except Exception as error:
        if weights is None:
            raise
        raise ValueError(
            f'weights="{weights}": Keras cannot give those of keras.applications.{constructor.__name__}: '
            f"{error}"
        ) from error
