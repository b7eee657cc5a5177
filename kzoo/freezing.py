"""What does not learn: the layers of a model that keep the weights they have."""

import keras

from kzoo.backbones import features_of, is_of_backbone
from kzoo.backbones.adapters import Backbone
from kzoo.checks import check_choice
from kzoo.registry import FREEZABLE
from kzoo.zoo_model import ZooModel


def freeze_layers(model: ZooModel, what: str) -> None:
    """Makes layers of a model keep the weights that they have.

    They are saved and loaded as such, and batch normalisation among them normalises by its stored statistics,
    which stay, too. `kzoo.build(..., freeze=what)` does this; on a model that is there already, it is done
    before `compile`.

        kzoo.freezing.freeze_layers(model, "backbone_at_2")

    Args:
        model: of the zoo; its layers change in place.
        what: `"backbone"` is all of it. `"backbone_at_n"`, with n from 1 to 5, is what its features of stride
            2^n are computed from: at 2, of a ResNet, the stem and the first stage, as Detectron2's
            `FREEZE_AT` counts. `"batch_norm"` is all batch normalisation, of the backbone and beyond it.

    Raises:
        ValueError: `what` is unknown, or the model has no backbone, or it has no such features.
    """
    check_choice("freeze", what, FREEZABLE)
    if what == "batch_norm":
        frozen = [
            layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)
        ]
    else:
        # Only those with weights: pictures are normalised by a layer of that name in every model.
        frozen = [layer for layer in model.layers if is_of_backbone(layer.name) and layer.weights]
        if not frozen:
            raise ValueError(
                f'freeze="{what}": {model.name} has no backbone. "batch_norm" is what can be frozen here.'
            )
        if what != "backbone":
            frozen = _layers_up_to(model, frozen, int(what.rpartition("_")[-1]))
    for layer in frozen:
        layer.trainable = False


def _layers_up_to(model: ZooModel, layers: list[keras.layers.Layer], level: int) -> list[keras.layers.Layer]:
    """Of a backbone's layers those that its features of a level are computed from."""
    if isinstance(layers[0], Backbone):
        (backbone,) = layers
        if level not in backbone.levels:
            there = ", ".join(f'"backbone_at_{there}"' for there in backbone.levels)
            raise ValueError(f'freeze="backbone_at_{level}": {backbone.network} has {there}.')
        return keras.Model(backbone.inputs, backbone.outputs[backbone.levels.index(level)]).layers
    # The same backbone once more tells the names, for any size of pictures.
    images = keras.Input((None, None, 3))
    features = features_of(images, model.zoo_options["backbone"])[level]
    names = {layer.name for layer in keras.Model(images, features).layers}
    return [layer for layer in layers if layer.name in names]
