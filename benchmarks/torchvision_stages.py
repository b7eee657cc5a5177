"""What torchvision's Mask R-CNN computes, stage by stage: its weights and outputs, for equals_torchvision.py.

    python benchmarks/torchvision_stages.py --file stages.npz

Needs torch and torchvision, and nothing of kzoo. The weights are random, the statistics of the batch
normalisation are those of the picture, and both samplers of the training losses draw everything: what is
written depends on the seed alone. About 250 MB.
"""

import argparse
import copy
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

HEIGHT, WIDTH = 256, 320
NUM_CLASSES = 91  # with the background
OBJECTS = 7

# The modules that a stage ends with.
MODULES = (
    "backbone",
    "rpn.anchor_generator",
    "rpn.head",
    "rpn",
    "roi_heads.box_roi_pool",
    "roi_heads.box_predictor",
    "roi_heads",
)

# New weights answer hardly anything. The last layers are scaled until there are objects that differ.
SCALES = {
    "rpn.head.conv": 8.0,
    "rpn.head.cls_logits": 1.5,
    "rpn.head.bbox_pred": 0.4,
    "roi_heads.box_predictor.cls_score": 10.0,
    "roi_heads.box_predictor.bbox_pred": 5.0,
}


def random_picture(rng: np.random.Generator) -> np.ndarray:
    """Squares of all colours under noise: uint8 `[H, W, 3]`."""
    squares = rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3)).repeat(16, axis=0).repeat(16, axis=1)
    return (0.7 * squares + 0.3 * rng.integers(0, 256, (HEIGHT, WIDTH, 3))).astype(np.uint8)


def random_objects(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Ellipses that fill their boxes: `boxes [G, 4]`, `labels [G]` (background is 0), `masks [G, H, W]`."""
    sides = rng.uniform(24, 150, (OBJECTS, 2)).round()
    corner = (rng.uniform(0, 1, (OBJECTS, 2)) * ((WIDTH, HEIGHT) - sides)).round()
    pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1) + 0.5  # [H, W, 2]
    place = (pixels - corner[:, None, None]) / sides[:, None, None] * 2 - 1  # [G, H, W, 2], in a box -1 to 1
    return {
        "boxes": np.concatenate([corner, corner + sides], axis=1).astype(np.float32),
        "labels": rng.integers(1, NUM_CLASSES, OBJECTS),
        "masks": (np.square(place).sum(-1) < 1).astype(np.uint8),
    }


@torch.no_grad()
def random_model(image: torch.Tensor) -> nn.Module:
    """A model whose every weight counts, for an image `[3, H, W]` that it takes as it is, in its own size."""
    model = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=NUM_CLASSES, min_size=HEIGHT, max_size=WIDTH
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.6, 1.1)
            nn.init.normal_(module.bias, std=0.1)
            module.momentum = 1.0  # the next statistics are the statistics
    images, _ = model.transform([image])
    model.backbone.train()
    model.backbone(images.tensors)
    for name, scale in SCALES.items():
        for parameter in model.get_submodule(name).parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
            else:
                nn.init.normal_(parameter, std=0.05)
    return model.eval()


@torch.no_grad()
def outputs_of_stages(model: nn.Module, image: torch.Tensor) -> dict[str, np.ndarray]:
    """What the stages say of an image `[3, H, W]`; levels one after the other, channels last."""
    seen = {}
    hooks = [
        # A copy, because what comes behind the last stage changes its answers in place.
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.__setitem__(name, copy.deepcopy(output))
        )
        for name in MODULES
    ]
    model([image])
    for hook in hooks:
        hook.remove()
    objectness, deltas = seen["rpn.head"]
    logits, region_deltas = seen["roi_heads.box_predictor"]
    [detections] = seen["roi_heads"][0]
    outputs = {
        "pyramid": of_all_levels(seen["backbone"].values(), 256),  # [positions, 256]
        "anchors": seen["rpn.anchor_generator"][0],  # [A, 4]
        "objectness": of_all_levels(objectness, 1),  # [A, 1]
        "anchor_deltas": of_all_levels(deltas, 4),  # [A, 4]
        "proposals": seen["rpn"][0][0],  # [K, 4]
        "crops": seen["roi_heads.box_roi_pool"].permute(0, 2, 3, 1),  # [K, 7, 7, 256]
        "logits": logits,  # [K, classes]
        "deltas": region_deltas.reshape(-1, NUM_CLASSES, 4),
        "boxes": detections["boxes"],  # [N, 4]
        "scores": detections["scores"],
        "labels": detections["labels"],
        "masks": detections["masks"][:, 0],  # [N, 28, 28], before they are pasted
    }
    return {name: output.numpy() for name, output in outputs.items()}


def of_all_levels(levels: Iterable[torch.Tensor], width: int) -> torch.Tensor:
    """Levels `[1, C_l, H_l, W_l]` as `[N, width]`, position after position."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(-1, width) for level in levels])


@torch.no_grad()
def training_losses(
    model: nn.Module, image: torch.Tensor, objects: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The five losses over all anchors and all proposals, without updating the statistics."""
    for sampler in (model.rpn.fg_bg_sampler, model.roi_heads.fg_bg_sampler):
        sampler.batch_size_per_image = 10**7
    model.train()
    model.backbone.eval()
    losses = model([image], [{name: torch.from_numpy(values) for name, values in objects.items()}])
    return {name: loss.numpy() for name, loss in losses.items()}


def main() -> None:
    """Writes weights, picture, objects, outputs and losses into one file."""
    parser = argparse.ArgumentParser(description="What torchvision's Mask R-CNN computes, stage by stage.")
    parser.add_argument("--file", type=Path, required=True, help="the .npz file that is written")
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    picture, objects = random_picture(rng), random_objects(rng)
    image = torch.from_numpy(picture).permute(2, 0, 1) / 255
    model = random_model(image)
    groups = {
        "weights": {name: values.numpy() for name, values in model.state_dict().items()},
        "outputs": outputs_of_stages(model, image),
        "objects": objects,
        "losses": training_losses(model, image, objects),
    }
    parts = {f"{group}/{name}": values for group, part in groups.items() for name, values in part.items()}
    np.savez(settings.file, picture=picture, **parts)
    found = groups["outputs"]
    print(f"{len(found['proposals'])} proposals, {len(found['scores'])} detections: {settings.file}")


if __name__ == "__main__":
    main()
