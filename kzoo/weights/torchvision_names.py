"""By rule from torchvision's names and layouts to those of the layers here.

A weight there is `backbone.body.layer1.0.conv1.weight` of `[out, in, h, w]`; here it is the `kernel` of the
layer `backbone_layer1_0_conv1`, of `[h, w, in, out]`. torchvision's detectors count the background as a class
of its own, the first: where only objects are told apart here, its part is left out.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from kzoo.weights.errors import WeightsError, shown

EPSILON = 1e-5  # of batch normalisation here, and in most of torchvision
BACKBONE = "backbone_"  # what the names of a backbone's layers begin with here

_VARIABLES = {"running_mean": "moving_mean", "running_var": "moving_variance"}

_Rule = tuple[str, str | Callable[[re.Match], str]]

# Names that torchvision itself changes as it reads files of its first years.
_OLD_NAMES: tuple[_Rule, ...] = (
    (r"(backbone\.fpn\.\w+_blocks\.\d)\.(weight|bias)", r"\1.0.\2"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    (
        r"(roi_heads\.mask_head)\.mask_fcn(\d)\.(weight|bias)",
        lambda name: f"{name[1]}.{int(name[2]) - 1}.0.{name[3]}",
    ),
    (
        r"(head\.\w+_head\.conv)\.(\d)\.(weight|bias)",
        lambda name: f"{name[1]}.{int(name[2]) // 2}.0.{name[3]}",
    ),
)


def _body(prefix: str) -> _Rule:
    block = r"layer[1-4]\.\d{1,2}\.(?:conv[123]|bn[123]|downsample\.[01])"
    return rf"{prefix}(conv1|bn1|{block})", lambda name: BACKBONE + name[1].replace(".", "_")


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

MODELS = tuple(_LAYERS)  # of which torchvision has checkpoints


def from_torchvision(
    state: Mapping[str, np.ndarray], model: str, source: str, *, epsilon: float = EPSILON
) -> dict[str, np.ndarray]:
    """A state dict of torchvision's, by the names and in the layouts that are used here.

    Args:
        state: from names such as `backbone.body.conv1.weight` to arrays.
        model: what it is of: `"classifier"` (a ResNet), `"retinanet"`, `"faster_rcnn"` or `"mask_rcnn"`.
        source: where it is from, for messages.
        epsilon: what the backbone's batch normalisation adds to the variance there. It is 0.0 for the first
            detectors that torchvision published (`overwrite_eps`), and nothing in a file tells of it.

    Returns:
        From `layer/variable`, such as `backbone_conv1/kernel`, to arrays, most of them views. Whether their
        shapes are a model's is not looked at. What no rule is for keeps its name and its layout.

    Raises:
        WeightsError: two names are of one weight, or weights are single numbers.
    """
    # (module, part) by the name in the file, and the other way round
    places = {name: current_name(name).rpartition(".")[::2] for name in state}
    at_place = {place: name for name, place in places.items()}
    found, names = {}, {}
    for name, (module, part) in places.items():
        if part == "num_batches_tracked":  # a count for a mean of statistics that nobody asks for
            continue
        layer = _renamed(module, _LAYERS[model])
        values = state[name]
        if layer is None:
            # Without the sign that parts a layer from its variable here: it is nobody's name.
            found[name.replace("/", "?")] = values
            continue
        if values.ndim == 0:
            raise WeightsError(f"{source}: {shown(name)} is a single number; a weight has at least one axis.")
        weight = state.get(at_place.get((module, "weight")))
        is_norm = (module, "running_mean") in at_place or (weight is not None and weight.ndim == 1)
        own_name = f"{layer}/{_variable(part, is_norm)}"
        if own_name in names:
            raise WeightsError(
                f"{source}: {shown(names[own_name])} and {shown(name)} are both {shown(own_name)} here; "
                "one of them has to go."
            )
        names[own_name] = name
        found[own_name] = _own_layout(values)
    if model != "classifier":
        _leave_out_the_background(found)
    if model in ("faster_rcnn", "mask_rcnn"):
        _turn_flattened_crops(found)
    if epsilon != EPSILON:
        _allow_for_epsilon(found, epsilon)
    return found


def current_name(name: str) -> str:
    """What torchvision calls now what its files of its first years may call otherwise."""
    return _renamed(name, _OLD_NAMES) or name


def _renamed(name: str, rules: tuple[_Rule, ...]) -> str | None:
    for pattern, new in rules:
        if match := re.fullmatch(pattern, name, re.ASCII):
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
                *others, outputs = found[name].shape
                numbers = outputs // (anchors * classes)
                by_class = found[name].reshape(*others, anchors, classes, numbers)[..., 1:, :]
                found[name] = by_class.reshape(*others, anchors * (classes - 1) * numbers)


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
    if kernel.ndim != 2 or len(kernel) != channels * side**2:
        return
    turned = kernel.reshape(channels, side, side, kernel.shape[1]).transpose(1, 2, 0, 3)
    found["box_head_fc6/kernel"] = turned.reshape(kernel.shape)


def _allow_for_epsilon(found: dict[str, np.ndarray], epsilon: float) -> None:
    """Scales of a backbone that normalises with another epsilon than the layers here.

    gamma * (x - mean) / sqrt(variance + epsilon) is the same with the epsilon of here, and a gamma that makes
    up for it.
    """
    for name in [name for name in found if name.startswith(BACKBONE) and name.endswith("/gamma")]:
        gamma, variance = found[name], found.get(name.replace("/gamma", "/moving_variance"))
        # What is missing or of another shape is told when the shapes are compared with a model's.
        if variance is None or gamma.ndim != 1 or variance.shape != gamma.shape:
            continue
        there = variance.astype(np.float64) + epsilon
        proper = there > 0  # others are told when the weights are looked at
        factor = np.sqrt(np.where(proper, there - epsilon + EPSILON, 1.0) / np.where(proper, there, 1.0))
        found[name] = (gamma * factor).astype(np.float32)
