import numpy as np
import pytest

from kzoo.weights.architecture import Architecture, architecture_of
from kzoo.weights.published import find


def state_of(*names, **rows):
    """Weights by their names, with so many rows, and otherwise one."""
    state = {name: np.zeros([64 if "layer1" in name else 1, 1], np.float32) for name in names}
    return state | {name.replace("__", "."): np.zeros([count, 1], np.float32) for name, count in rows.items()}


def resnet(blocks, bottleneck, body=""):
    """Names of the third stage, which tells a ResNet's size, and of the first."""
    names = [f"{body}layer1.0.conv1.weight"]
    for block in range(blocks):
        names += [f"{body}layer3.{block}.conv{i}.weight" for i in (1, 2, *([3] if bottleneck else []))]
    return names


@pytest.mark.parametrize(
    ("backbone", "blocks", "bottleneck"),
    [("resnet18", 2, False), ("resnet34", 6, False), ("resnet50", 6, True), ("resnet101", 23, True)],
)
def test_backbones(backbone, blocks, bottleneck):
    found = architecture_of(state_of(*resnet(blocks, bottleneck), fc__weight=7))
    assert found == Architecture("classifier", backbone, 7)
    head = {
        "head__classification_head__cls_logits__weight": 4 * 18,
        "head__regression_head__bbox_reg__weight": 16,
    }
    found = architecture_of(state_of(*resnet(blocks, bottleneck, "backbone.body."), **head))
    assert (found.model, found.backbone, found.num_classes) == ("retinanet", backbone, 17)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("faster_rcnn", "roi_heads.box_head.fc6.weight"),
        ("mask_rcnn", "roi_heads.mask_predictor.conv5_mask.weight"),
        ("retinanet", "head.classification_head.conv.0.0.weight"),
    ],
)
def test_versions(model, part, version):
    second = {
        "retinanet": "head.classification_head.conv.0.1.weight",
    }.get(model, "backbone.fpn.inner_blocks.0.1.running_mean")
    # In the first years the name without the last number was that of the convolution itself.
    first = {
        "retinanet": "head.classification_head.conv.0.bias",
    }.get(model, "backbone.fpn.inner_blocks.0.weight")
    state = state_of(part, second if version == 2 else first)
    if model != "retinanet":
        state |= state_of(roi_heads__box_predictor__cls_score__weight=4)
    found = architecture_of(state)
    assert found.like is find(model, "resnet50", f"coco:v{version}")
    assert (found.model, found.num_classes) == (model, 3 if model != "retinanet" else None)


def test_what_is_not_known_is_left_open():
    assert architecture_of({}) == Architecture()
    assert architecture_of(state_of("encoder.weight", "step")) == Architecture()
    assert architecture_of({"step": np.float32(1)}) == Architecture()
    assert architecture_of(state_of(*resnet(3, True))) == Architecture("classifier")
    no_anchors = state_of(
        "head.classification_head.conv.0.0.weight", head__regression_head__bbox_reg__weight=0
    )
    assert architecture_of(no_anchors).num_classes is None
