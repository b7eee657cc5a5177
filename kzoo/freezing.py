"""What does not learn: the layers of a model that keep the weights they have."""

import re

import keras

from kzoo.backbones import is_of_backbone
from kzoo.backbones.adapters import Backbone
from kzoo.checks import check_choice
from kzoo.registry import FREEZABLE
from kzoo.zoo_model import ZooModel

_STAGE_END = re.compile(r"backbone_(bn\d+|layer\d+)(?:_\d+)?_relu")  # of stem and of blocks, not within


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
        if not frozen:
            raise ValueError(f'freeze="batch_norm": {model.name} has no batch normalisation.')
    else:
        # Only those with weights: pictures are normalised by a layer of that name in every model.
        frozen = [layer for layer in model.layers if is_of_backbone(layer.name) and layer.weights]
        if not frozen:
            options = model.zoo_options or {}
            its_own = ": backbone=None, its encoder is its own" if options.get("backbone", "") is None else ""
            raise ValueError(f'freeze="{what}": {model.name} has no backbone{its_own}.')
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
    stages = {}  # of the house's backbones, each of twice the stride of the one before, to its last ReLU
    for layer in model.layers:
        if stage := _STAGE_END.fullmatch(layer.name):
            stages[stage[1]] = layer
    if not stages:
        raise ValueError(
            f'freeze="backbone_at_{level}": the layers of {model.name} do not tell their strides. "backbone" '
            "is all of them."
        )
    # A pyramid that ends early has all of its backbone's stages in fewer levels.
    last = list(stages.values())[:level][-1]
    needed = _layers_before(model, last)
    return [layer for layer in layers if layer in needed]


def _layers_before(model: ZooModel, last: keras.layers.Layer) -> set[keras.layers.Layer]:
    """The layers of a model that a layer's output is computed from, and that layer."""
    needed, wanted = set(), None
    for depth in sorted(model._nodes_by_depth):  # from the answers to the pictures
        for node in model._nodes_by_depth[depth]:
            if wanted is None and node.operation is last:
                wanted = set(map(id, node.output_tensors))
            if wanted and any(id(tensor) in wanted for tensor in node.output_tensors):
                needed.add(node.operation)
                wanted.update(map(id, node.input_tensors))
    return needed
