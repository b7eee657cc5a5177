"""Whether Mask R-CNN is the same function as torchvision's, given the same weights.

    python benchmarks/equals_torchvision.py --file stages.npz

The file is written by torchvision_stages.py, where torch and torchvision are; here neither is needed.
Torchvision's `maskrcnn_resnet50_fpn` counts the background as a class: what its last layers say of the
background's box and mask is left out. Prints the largest differences of every stage, and the losses beside
each other, as Markdown tables.

Only differences of rounding are expected. Rounding can decide whether a box overlaps a better one by too
much, so that single proposals differ; and true masks are given relative to their boxes here, in pixels there,
which the mask loss shows.
"""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tyro

import kzoo
from kzoo.data.masks import within_box
from kzoo.zoo_model import ZooModel

# Each layer with weights: torchvision's module, and how many of its first rows are the background's.
# The backbone's layers need no entry: they have torchvision's names, with _ for .
MODULES = {
    **{
        f"fpn_{kind}_{2 + i}": (f"backbone.fpn.{kind}_blocks.{i}.0", 0)
        for kind in ("inner", "layer")
        for i in range(4)
    },
    "rpn_conv_0": ("rpn.head.conv.0.0", 0),
    "rpn_objectness_head_out": ("rpn.head.cls_logits", 0),
    "rpn_box_head_out": ("rpn.head.bbox_pred", 0),
    "box_head_fc6": ("roi_heads.box_head.fc6", 0),
    "box_head_fc7": ("roi_heads.box_head.fc7", 0),
    "box_head_classes": ("roi_heads.box_predictor.cls_score", 0),
    "box_head_deltas": ("roi_heads.box_predictor.bbox_pred", 4),
    **{f"mask_head_conv_{i}": (f"roi_heads.mask_head.{i}.0", 0) for i in range(4)},
    "mask_head_up": ("roi_heads.mask_predictor.conv5_mask", 0),
    "mask_head_out": ("roi_heads.mask_predictor.mask_fcn_logits", 1),
}
PARTS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
LOSSES = {
    "rpn_objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "classification": "loss_classifier",
    "box": "loss_box_reg",
    "mask": "loss_mask",
}
SAME = 0.1  # pixels: boxes nearer than this are one, and what is said of them is compared


@dataclass(frozen=True)
class Settings:
    """Whether Mask R-CNN is the same function as torchvision's, given the same weights."""

    file: Path
    """The .npz file of torchvision_stages.py."""


def fit(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    """Gives a model torchvision's weights.

    Raises:
        KeyError: a weight of the model has no counterpart, or another weight has taken it.
        ValueError: a weight of torchvision's is left over, or one has another shape.
    """
    # Torchvision counts batches, for a mean of statistics that nobody asks for.
    left = {name: values for name, values in weights.items() if not name.endswith("num_batches_tracked")}
    for variable in model.weights:
        layer, part = variable.path.split("/")[-2:]
        in_backbone = "backbone.body." + layer.removeprefix("backbone_").replace("_", ".")
        module, background = MODULES.get(layer, (in_backbone, 0))
        values = left.pop(f"{module}.{PARTS[part]}")[background:]
        if values.ndim == 2:  # fully connected [out, in]; fc6 looks at 7 x 7 parts, channel by channel
            side = 7 if layer == "box_head_fc6" else 1
            values = values.reshape(len(values), -1, side, side).transpose(2, 3, 1, 0)
            values = values.reshape(-1, values.shape[-1])  # [in, out], the channels last
        elif values.ndim == 4:  # [out, in, h, w]; transposed convolutions [in, out, h, w]
            values = values.transpose(2, 3, 1, 0)
        variable.assign(values)
    if left:
        raise ValueError(f"no weight of the model is torchvision's {', '.join(left)}.")


def outputs_of_stages(model: ZooModel, picture: np.ndarray) -> dict[str, np.ndarray]:
    """What the stages say of a picture `[H, W, 3]`; levels one after the other."""
    layers = {
        "objectness": "rpn_objectness",
        "anchor_deltas": "rpn_box",
        "proposals": "proposals",
        "crops": "crop_regions",
        "logits": "classification",
        "deltas": "box",
    }
    tensors = {stage: model.get_layer(name).output for stage, name in layers.items()}
    pyramid = [*(f"fpn_layer_{level}" for level in range(2, 6)), "fpn_pool_6"]
    tensors["pyramid"] = [model.get_layer(name).output for name in pyramid]
    tensors["anchors"] = model.get_layer("anchors").output
    answers = ZooModel(model.input, tensors | model.output)(picture[None])
    levels = {name: [np.asarray(level) for level in answers.pop(name)] for name in ("pyramid", "anchors")}
    outputs = {name: np.asarray(answer)[0] for name, answer in answers.items()}
    outputs["pyramid"] = np.concatenate([level.reshape(-1, level.shape[-1]) for level in levels["pyramid"]])
    outputs["anchors"] = np.concatenate(levels["anchors"])
    outputs["proposals"] = outputs["proposals"][outputs["proposals"].any(axis=1)]
    for name in ("boxes", "scores", "classes", "masks"):
        outputs[name] = outputs[name][: outputs["num_detections"]]
    return outputs


def training_losses(
    model: ZooModel, picture: np.ndarray, objects: dict[str, np.ndarray], num_anchors: int
) -> dict[str, float]:
    """The five losses over all anchors and all proposals, with the statistics as they are."""
    num_regions = model.get_layer("proposals").count_train + len(objects["boxes"])
    for name, count in (("sample_anchors", num_anchors), ("regions", num_regions)):
        model.get_layer(name).count = count
        model.get_layer(name).positive_share = 1.0
    model.get_layer("mask_regions").most_positives = num_regions
    masks = [within_box(mask > 0, box) for mask, box in zip(objects["masks"], objects["boxes"], strict=True)]
    batch = {
        "images": picture,
        "boxes": objects["boxes"],
        "classes": objects["labels"].astype(np.int32) - 1,
        "masks": np.stack(masks),
    }
    model({name: keras.ops.convert_to_tensor(values[None]) for name, values in batch.items()}, training=False)
    return {name: float(model.get_layer(name).losses[0]) for name in LOSSES}


def alike(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of our rows that are among theirs, and of theirs that these are."""
    distances = np.abs(ours[:, None] - theirs).max(axis=-1)
    found = distances.min(axis=1) < SAME
    return np.flatnonzero(found), distances.argmin(axis=1)[found]


def compare_stages(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    """Prints the largest differences; classes and deltas without the background, as ours are."""
    theirs = theirs | {"deltas": theirs["deltas"][:, 1:], "classes": theirs["labels"] - 1}
    print("| stage | values | largest value | largest difference |\n|---|---|---|---|")

    def row(stage: str, ours: np.ndarray, theirs: np.ndarray, of: str = "") -> None:
        shape = " x ".join(str(side) for side in theirs.shape)
        print(f"| {stage} | {of}{shape} | {np.abs(theirs).max():.4g} | {np.abs(ours - theirs).max():.2g} |")

    for stage in ("pyramid", "anchors", "objectness", "anchor_deltas"):
        row(stage.replace("_", " "), ours[stage], theirs[stage])

    # Behind a non-maximum suppression the order may differ where scores are alike, so each finds its like.
    own, other = alike(ours["proposals"], theirs["proposals"])
    count = f"{len(own)} of "
    for stage in ("proposals", "crops", "logits", "deltas"):
        row(stage, ours[stage][own], theirs[stage][other], count if stage == "proposals" else "")

    rows_with_class = [np.column_stack([part["boxes"], part["classes"]]) for part in (ours, theirs)]
    own, other = alike(*rows_with_class)
    count = f"{len(own)} of "
    for stage in ("boxes", "classes", "scores", "masks"):
        row(f"detections: {stage}", ours[stage][own], theirs[stage][other], count if stage == "boxes" else "")


def compare_losses(ours: dict[str, float], theirs: dict[str, np.ndarray]) -> None:
    """Prints the losses beside each other."""
    print("\n| loss | torchvision | kzoo | difference |\n|---|---|---|---|")
    for name, loss in ours.items():
        expected = float(theirs[LOSSES[name]])
        print(f"| {name} | {expected:.6f} | {loss:.6f} | {loss - expected:.1g} |")


def main(settings: Settings) -> None:
    """Fits the weights, and compares."""
    file = np.load(settings.file)
    groups = {
        group: {name.split("/")[1]: file[name] for name in file.files if name.startswith(f"{group}/")}
        for group in ("weights", "outputs", "objects", "losses")
    }
    num_classes = groups["outputs"]["logits"].shape[-1] - 1
    model = kzoo.build("mask_rcnn", num_classes=num_classes)
    fit(model, groups["weights"])
    compare_stages(outputs_of_stages(model, file["picture"]), groups["outputs"])
    num_anchors = len(groups["outputs"]["anchors"])
    compare_losses(training_losses(model, file["picture"], groups["objects"], num_anchors), groups["losses"])


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
