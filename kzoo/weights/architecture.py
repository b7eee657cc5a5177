"""What a state dict of torchvision's is of, told by its names and shapes. No TensorFlow."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kzoo.weights.published import Checkpoint, find
from kzoo.weights.torchvision_names import EPSILON, current_name

_HEADS = {  # what only this family's names begin with, the richest first
    "mask_rcnn": "roi_heads.mask_",
    "faster_rcnn": "roi_heads.",
    "retinanet": "head.classification_head.",
    "classifier": "layer1.",
}
_BACKBONES = {  # by the blocks of the third stage, and whether they are bottlenecks
    (2, False): "resnet18",
    (6, False): "resnet34",
    (6, True): "resnet50",
    (23, True): "resnet101",
}
_WIDTH = 64  # channels of the first block
_OF_SECOND_VERSIONS = ("backbone.fpn.inner_blocks.0.1.", "head.classification_head.conv.0.1.")


@dataclass(frozen=True)
class Architecture:
    """What a state dict is of.

    Attributes:
        model: the builder, None where the names are those of no model that is known.
        backbone: its option, None where the blocks are those of no backbone that is known.
        num_classes: its option, without the background; None where the last layers do not tell.
        like: of a detector, the published checkpoint of the same architecture, whatever the backbone.
        epsilon: of the backbone's batch normalisation. Nothing in a file tells it: where it is frozen, as in
            torchvision's first detectors, it is taken to be that of the published one (`overwrite_eps`).
    """

    model: str | None = None
    backbone: str | None = None
    num_classes: int | None = None
    like: Checkpoint | None = None
    epsilon: float = EPSILON


def architecture_of(state: Mapping[str, np.ndarray]) -> Architecture:
    """What a state dict of torchvision's is of.

    What is missing or does not add up is left open: it is told when names and shapes are compared with a
    model's.

    Args:
        state: from torchvision's names to arrays.
    """
    # What repeats a number may be larger than its file: it tells nothing that a model may be built by.
    rows = {
        current_name(name): values.shape[0]
        for name, values in state.items()
        if values.ndim and (values.strides[0] or values.shape[0] <= 1)
    }
    model = next((model for model, start in _HEADS.items() if _any_begins(rows, start)), None)
    body = "" if model == "classifier" else "backbone.body."
    stage = {name.split(".")[body.count(".") + 1] for name in rows if name.startswith(f"{body}layer3.")}
    backbone = _BACKBONES.get((len(stage), f"{body}layer3.0.conv3.weight" in rows))
    if rows.get(f"{body}layer1.0.conv1.weight") != _WIDTH:
        backbone = None  # wide, or of groups
    like = None
    if model not in (None, "classifier"):
        like = find(model, "resnet50", f"coco:v{2 if _any_begins(rows, *_OF_SECOND_VERSIONS) else 1}")
    num_classes = _classes_told(rows, model)
    counts = any(name.endswith("num_batches_tracked") for name in state)
    epsilon = like.epsilon if like and not counts else EPSILON
    return Architecture(model, backbone, num_classes if num_classes > 0 else None, like, epsilon)


def _any_begins(names: Mapping[str, int], *starts: str) -> bool:
    return any(name.startswith(starts) for name in names)


def _classes_told(rows: Mapping[str, int], model: str | None) -> int:
    """How many classes the last layers tell, given the outputs of each layer; none or less if they do not."""
    if model == "classifier":
        return rows.get("fc.weight", 0)
    if model == "retinanet":
        anchors = rows.get("head.regression_head.bbox_reg.weight", 0) // 4
        return rows.get("head.classification_head.cls_logits.weight", 0) // max(anchors, 1) - 1
    return rows.get("roi_heads.box_predictor.cls_score.weight", 1) - 1
