"""Backbones made elsewhere: `"keras.applications.EfficientNetB0"`, `"keras_cv.resnet18_v2"` and the like."""

import keras

from kzoo.backbones import keras_applications, keras_cv
from kzoo.backbones.strides import maps_by_level
from kzoo.checks import check_choice


@keras.saving.register_keras_serializable("kzoo")
class Backbone(keras.Model):
    """A network from pictures to a list of feature maps, finest first.

    It is a functional model that knows whether it is frozen, since layers within layers would forget it when
    they are loaded.
    """

    frozen: bool = False

    def freeze(self) -> None:
        """Makes all batch normalisation keep its stored statistics, scale and offset as they are."""
        self.frozen = True
        for layer in self._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False

    def get_config(self):
        return super().get_config() | {"frozen": self.frozen}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        frozen = config["frozen"]
        config = {name: value for name, value in config.items() if name != "frozen"}
        backbone = super().from_config(config, custom_objects=custom_objects)
        if frozen:
            backbone.freeze()
        return backbone


def adapter_names() -> list[str]:
    """The names that `adapted_features` takes; keras-cv need not be imported or installed to know them."""
    return [
        *(f"keras.applications.{name}" for name in keras_applications.names()),
        *(f"keras_cv.{name}" for name in keras_cv.names()),
    ]


def adapted_features(
    images: keras.KerasTensor, name: str, frozen: bool = False
) -> dict[int, keras.KerasTensor]:
    """The features that somebody else's network sees in pictures, with random weights.

    Args:
        images: `[B, H, W, 3]`, RGB, 0-255. The network's own preprocessing is part of what is done to them.
        name: one of `adapter_names()`.
        frozen: whether batch normalisation keeps its stored statistics, scale and offset as they are.

    Returns:
        From each level l that the network has, finest first, to `[B, ceil(H / 2^l), ceil(W / 2^l), C_l]`.
        Most networks have levels 1 to 5, those of one patch size (ViTDet) one alone.

    Raises:
        ValueError: the name is unknown, or the network does not take pictures of this size.
        ImportError: keras-cv is not installed, or it does not go with this Keras.
    """
    check_choice("backbone", name, adapter_names())
    package, _, network_name = name.rpartition(".")
    module = keras_cv if package == "keras_cv" else keras_applications
    height, width = images.shape[1:3]
    preprocess, network = module.network(network_name, (height, width))
    if preprocess is not None:
        images = preprocess(images)
    maps = maps_by_level(network)
    backbone = Backbone(network.inputs, list(maps.values()), name="backbone")
    if frozen:
        backbone.freeze()
    try:
        features = backbone(images)
    except ValueError as error:
        raise ValueError(
            f'backbone="{name}": pictures of {height} x {width} are too small for it.'
        ) from error
    return dict(zip(maps, features, strict=True))
