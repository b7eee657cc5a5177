"""By rule from torchvision's names and layouts to those of the layers here.

A weight there is `backbone.body.layer1.0.conv1.weight` of `[out, in, h, w]`; here it is the `kernel` of the
layer `backbone_layer1_0_conv1`, of `[h, w, in, out]`. torchvision's detectors count the background as a class
of its own, the first: where only objects are told apart here, its part is left out.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from kzoo.weights.errors import WeightsError

EPSILON = 1e-5  # of batch normalisation here, and in most of torchvision

_Rule = tuple[str, str | Callable[[re.Match], str]]

# Names that torchvision itself changes as it reads files of its first years.
_OLD_NAMES: tuple[_Rule, ...] = (
    (r"(backbone\.fpn\.\w+_blocks\.\d+)\.(weight|bias)", r"\1.0.\2"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    (
        r"(roi_heads\.mask_head)\.mask_fcn(\d+)\.(.+)",
        lambda name: f"{name[1]}.{int(name[2]) - 1}.0.{name[3]}",
    ),
    (
        r"(head\.\w+_head\.conv)\.(\d+)\.(weight|bias)",
        lambda name: f"{name[1]}.{int(name[2]) // 2}.0.{name[3]}",
    ),
)


def _body(prefix: str) -> _Rule:
    return rf"{prefix}((?:conv1|bn1|layer\d)(?:\..+)?)", lambda name: "backbone_" + name[1].replace(".", "_")


def _pyramid(finest: int) -> tuple[_Rule, ...]:
    def level(name: re.Match) -> str:
        return f"fpn_{name[1]}_{int(name[2]) + finest}" + ("_bn" if name[3] == "1" else "")

    return (
        (r"backbone\.fpn\.(inner|layer)_blocks\.(\d)\.([01])", level),
        (r"backbone\.fpn\.extra_blocks\.(p\d)", r"fpn_\1"),
    )


_TWO_STAGES: tuple[_Rule, ...] = (
    _body(r"backbone\.body\."),
    *_pyramid(finest=2),
    (r"rpn\.head\.conv\.(\d)\.0", r"rpn_conv_\1"),
    (r"rpn\.head\.cls_logits", "rpn_objectness_head_out"),
    (r"rpn\.head\.bbox_pred", "rpn_box_head_out"),
    (r"roi_heads\.box_head\.(fc\d)", r"box_head_\1"),
    (r"roi_heads\.box_head\.(\d)\.0", r"box_head_conv_\1"),
    (r"roi_heads\.box_head\.(\d)\.1", r"box_head_bn_\1"),
    (r"roi_heads\.box_head\.\d", "box_head_fc6"),
    (r"roi_heads\.box_predictor\.cls_score", "box_head_classes"),
    (r"roi_heads\.box_predictor\.bbox_pred", "box_head_deltas"),
)
# For each model: a module of torchvision's, and the layer.
_LAYERS: dict[str, tuple[_Rule, ...]] = {
    "classifier": (_body(""), (r"fc", "classes_of_picture")),
    "retinanet": (
        _body(r"backbone\.body\."),
        *_pyramid(finest=3),
        (r"head\.classification_head\.conv\.(\d)\.0", r"class_head_conv_\1"),
        (r"head\.classification_head\.conv\.(\d)\.1", r"class_head_gn_\1"),
        (r"head\.classification_head\.cls_logits", "class_head_out"),
        (r"head\.regression_head\.conv\.(\d)\.0", r"box_head_conv_\1"),
        (r"head\.regression_head\.conv\.(\d)\.1", r"box_head_gn_\1"),
        (r"head\.regression_head\.bbox_reg", "box_head_out"),
    ),
    "faster_rcnn": _TWO_STAGES,
    "mask_rcnn": (
        *_TWO_STAGES,
        (r"roi_heads\.mask_head\.(\d)\.0", r"mask_head_conv_\1"),
        (r"roi_heads\.mask_head\.(\d)\.1", r"mask_head_bn_\1"),
        (r"roi_heads\.mask_predictor\.conv5_mask", "mask_head_up"),
        (r"roi_heads\.mask_predictor\.mask_fcn_logits", "mask_head_out"),
    ),
}


def from_torchvision(state: Mapping[str, np.ndarray], model: str, source: str) -> dict[str, np.ndarray]:
    """A state dict of torchvision's, by the names and in the layouts that are used here.

    Args:
        state: from names such as `backbone.body.conv1.weight` to arrays.
        model: what it is of: `"classifier"` (a ResNet), `"retinanet"`, `"faster_rcnn"` or `"mask_rcnn"`.
        source: where it is from, for messages.

    Returns:
        From `layer/variable`, such as `backbone_conv1/kernel`, to arrays, most of them views.

    Raises:
        WeightsError: there are names that no rule is for, or the state is of no such model.
    """
    state = {_renamed(name, _OLD_NAMES) or name: values for name, values in state.items()}
    rules = _LAYERS[model]
    found, unknown = {}, []
    for name, values in state.items():
        module, _, part = name.rpartition(".")
        if part == "num_batches_tracked":  # a count for a mean of statistics that nobody asks for
            continue
        layer = _renamed(module, rules)
        if layer is None:
            unknown.append(name)
            continue
        weight = state.get(f"{module}.weight")
        is_norm = f"{module}.running_mean" in state or (weight is not None and weight.ndim == 1)
        found[f"{layer}/{_variable(part, is_norm)}"] = _own_layout(values)
    if unknown or not found:
        raise WeightsError(
            f"{source}: not torchvision's {model}: it has {_some(unknown or state)}, and names such as "
            f"{_EXAMPLES[model]} are expected."
        )
    if model != "classifier":
        _leave_out_the_background(found)
    if model in ("faster_rcnn", "mask_rcnn"):
        _turn_flattened_crops(found)
    if model != "classifier" and "backbone.body.bn1.num_batches_tracked" not in state:
        _allow_for_epsilon(found)
    return found


BACKBONE = "backbone_"  # what the names of a backbone's layers begin with here
MODELS = tuple(_LAYERS)
_EXAMPLES = {
    "classifier": "layer1.0.conv1.weight and fc.weight",
    "retinanet": "backbone.body.conv1.weight and head.regression_head.bbox_reg.weight",
    "faster_rcnn": "backbone.body.conv1.weight and roi_heads.box_predictor.bbox_pred.weight",
    "mask_rcnn": "backbone.body.conv1.weight and roi_heads.mask_predictor.mask_fcn_logits.weight",
}
_VARIABLES = {"running_mean": "moving_mean", "running_var": "moving_variance"}


def _renamed(name: str, rules: tuple[_Rule, ...]) -> str | None:
    for pattern, new in rules:
        if match := re.fullmatch(pattern, name):
            return new(match) if callable(new) else match.expand(new)
    return None


def _variable(part: str, is_norm: bool) -> str:
    """The variable of a layer that a part of a module is."""
    if part == "weight":
        return "gamma" if is_norm else "kernel"
    if part == "bias":
        return "beta" if is_norm else "bias"
    return _VARIABLES.get(part, part)


def _own_layout(values: np.ndarray) -> np.ndarray:
    """Convolutions [out, in, h, w] as [h, w, in, out], fully connected [out, in] as [in, out]; views."""
    return values.transpose(2, 3, 1, 0) if values.ndim == 4 else values.T


def _leave_out_the_background(found: dict[str, np.ndarray]) -> None:
    """Of what each anchor or region says of the classes, the first part goes where it is the background's.

    The second stage does tell the background from objects: `box_head_classes` stays as it is.
    """
    classes, anchors = _outputs(found, "box_head_classes"), 1
    if "class_head_out/kernel" in found:
        anchors = _outputs(found, "box_head_out") // 4
        classes = _outputs(found, "class_head_out") // max(anchors, 1)
    for layer in ("class_head_out", "box_head_deltas", "mask_head_out"):
        for name in (f"{layer}/kernel", f"{layer}/bias"):
            # What is missing or does not add up is told when the shapes are compared with a model's.
            if name in found and classes and anchors and found[name].shape[-1] % (anchors * classes) == 0:
                # [..., out]: for each anchor (or once) the classes, and of each its numbers
                by_class = found[name].reshape(*found[name].shape[:-1], anchors, classes, -1)
                found[name] = by_class[..., 1:, :].reshape(*found[name].shape[:-1], -1)


def _outputs(found: dict[str, np.ndarray], layer: str) -> int:
    """How many numbers a layer tells, 0 without the layer."""
    return found[f"{layer}/kernel"].shape[-1] if f"{layer}/kernel" in found else 0


def _turn_flattened_crops(found: dict[str, np.ndarray]) -> None:
    """The first fully connected layer looks at crops flattened as [C, h, w] there, and as [h, w, C] here."""
    channels = _outputs(found, "fpn_layer_2")
    if not channels or "box_head_fc6/kernel" not in found:
        return
    kernel = found["box_head_fc6/kernel"]  # [C * h * w, units]
    side = round((len(kernel) // channels) ** 0.5)
    if len(kernel) != channels * side**2:
        return
    turned = kernel.reshape(channels, side, side, -1).transpose(1, 2, 0, 3)
    found["box_head_fc6/kernel"] = turned.reshape(kernel.shape)


def _allow_for_epsilon(found: dict[str, np.ndarray]) -> None:
    """Scales of a backbone whose statistics are frozen and normalise without an epsilon.

    That is how torchvision runs its first detectors (`overwrite_eps`); they alone count no batches.
    gamma * (x - mean) / sqrt(variance) is the same with a variance that has an epsilon more, and a gamma that
    makes up for it.
    """
    for name in [name for name in found if name.startswith("backbone_") and name.endswith("/gamma")]:
        variance = found.get(name.replace("/gamma", "/moving_variance"), np.zeros(())).astype(np.float64)
        factor = np.sqrt((variance + EPSILON) / np.where(variance > 0, variance, 1.0))
        found[name] = np.where(variance > 0, found[name] * factor, found[name]).astype(np.float32)


def _some(names: Mapping | list, most: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more
