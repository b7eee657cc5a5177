"""Backbones made elsewhere: `"keras.applications.EfficientNetB0"`, `"keras_cv.resnet18_v2"` and the like."""

import keras

from kzoo.backbones import keras_applications, keras_cv
from kzoo.backbones.strides import maps_by_level
from kzoo.checks import check_choice
from kzoo.layers.batch_norm import SharedBatchNormalization


@keras.saving.register_keras_serializable("kzoo")
class Backbone(keras.Model):
    """A network from pictures to a list of feature maps, finest first; `adapt` makes it.

    Several replicas share the statistics of its batch normalisation, which otherwise is Keras's own.

    It is saved as its name and built anew when it is loaded, because some of keras-cv's layers do not load.
    """

    network: str  # one of `adapter_names()`
    size: tuple[int | None, int | None]  # height and width of the pictures that it was asked for
    levels: tuple[int, ...]  # of the maps
    coarsest: int | None  # the coarsest level that was asked for, None for all

    def freeze(self) -> None:
        """Makes all batch normalisation keep its stored statistics, scale and offset as they are."""
        for layer in self._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False

    def get_config(self):
        return {
            "name": self.name,
            "network": self.network,
            "size": list(self.size),
            "coarsest": self.coarsest,
            "dtype_policy": self.dtype_policy.name,
            "trainable": [layer.trainable for layer in self._flatten_layers()],  # a layer before its parts
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(config["dtype_policy"])
        try:
            _, backbone = adapt(config["network"], tuple(config["size"]), config["name"], config["coarsest"])
        finally:
            keras.config.set_dtype_policy(policy)
        for layer, trainable in zip(backbone._flatten_layers(), config["trainable"], strict=True):
            layer.trainable = trainable
        return backbone


def adapt(
    name: str,
    size: tuple[int | None, int | None],
    layer_name: str = "backbone",
    coarsest: int | None = None,
    weights: str | None = None,
) -> tuple[keras.layers.Layer | None, Backbone]:
    """A network's feature maps as a layer.

    Args:
        name: one of `adapter_names()`.
        size: height and width that the pictures have, None for any.
        layer_name: what the layer is called.
        coarsest: the coarsest level that is wanted: what lies behind it is left away. None is all.
        weights: None for random ones, or `"imagenet"` for those that its makers published.

    Returns:
        What pictures in 0-255 go through first, None for nothing, and the layer for what comes of them.

    Raises:
        ValueError: the network does not take pictures of this size, or there are no such weights, or they
            cannot be fetched.
        ImportError: keras-cv is not installed, or it does not go with this Keras.
    """
    package, _, network_name = name.rpartition(".")
    module = keras_cv if package == "keras_cv" else keras_applications
    with keras.name_scope(layer_name):  # so that the paths of its variables tell where they belong
        preprocess, network = module.network(network_name, size, weights)
    maps = {level: x for level, x in maps_by_level(network).items() if coarsest is None or level <= coarsest}
    if not maps:
        raise ValueError(f'backbone="{name}": has no features of level {coarsest} or finer.')
    backbone = Backbone(network.inputs, list(maps.values()), name=layer_name)
    for layer in backbone._flatten_layers():
        if type(layer) is keras.layers.BatchNormalization:
            layer.__class__ = SharedBatchNormalization  # where they lie, some within layers that are theirs
    backbone.network, backbone.size, backbone.levels, backbone.coarsest = name, size, tuple(maps), coarsest
    return preprocess, backbone


def adapter_names() -> list[str]:
    """The names that `adapted_features` takes; keras-cv need not be imported or installed to know them."""
    return [
        *(f"keras.applications.{name}" for name in keras_applications.names()),
        *(f"keras_cv.{name}" for name in keras_cv.names()),
    ]


def adapted_features(
    images: keras.KerasTensor, name: str, frozen: bool = False, coarsest: int | None = None
) -> dict[int, keras.KerasTensor]:
    """The features that somebody else's network sees in pictures, with random weights.

    Args:
        images: `[B, H, W, 3]`, RGB, 0-255. The network's own preprocessing is part of what is done to them.
        name: one of `adapter_names()`.
        frozen: whether batch normalisation keeps its stored statistics, scale and offset as they are.
        coarsest: the coarsest level that is wanted, None for all.

    Returns:
        From each level l that the network has, finest first, to `[B, ceil(H / 2^l), ceil(W / 2^l), C_l]`.
        Most networks have levels 1 to 5, those of one patch size (ViTDet) one alone.

    Raises:
        ValueError: the name is unknown, or the network does not take pictures of this size.
        ImportError: keras-cv is not installed, or it does not go with this Keras.
    """
    of_package = [known for known in adapter_names() if known.startswith(name.rpartition(".")[0] + ".")]
    check_choice("backbone", name, of_package or adapter_names())
    height, width = images.shape[1:3]
    preprocess, backbone = adapt(name, (height, width), coarsest=coarsest)
    if preprocess is not None:
        images = preprocess(images)
    if frozen:
        backbone.freeze()
    try:
        features = backbone(images)
    except ValueError as error:
        raise ValueError(
            f'backbone="{name}": cannot take pictures of {height} x {width}, which may be too small: {error}'
        ) from error
    return dict(zip(backbone.levels, features, strict=True))
