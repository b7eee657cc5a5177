"""What torchvision's classifiers and detectors say of pictures, with weights drawn at random.

    python benchmarks/torchvision_models.py --output DIR --pictures FILE FILE ...

Needs torch and torchvision, and nothing of kzoo. For each architecture that has published weights, writes

- `DIR/NAME.pth`, a state dict of that architecture, and
- `DIR/NAME.npz`, what the architecture answers with it, picture after picture (`i` counts them from 0):

| array | what it is |
|---|---|
| `i/picture` | the picture, uint8 `[H, W, 3]` |
| `i/resized` | detectors: the picture that they look at, 0 to 255, float32 `[h, w, 3]`, without its padding |
| `i/features/L` | the backbone's features of stride 2^L, float32 `[h, w, C]` |
| `i/pyramid/L` | detectors: the pyramid's features of stride 2^L, float32 `[h, w, C]` |
| `i/logits` | classifiers: `[1000]` |
| `i/num` | detectors: how many objects there are (N), int |
| `i/boxes`, `i/scores` | detectors: `[N, 4]` in pixels of the picture, `[N]`; in torchvision's order |
| `i/labels` | detectors: `[N]`, the first class of objects is 1 |
| `i/masks` | Mask R-CNN: probabilities within the boxes, float32 `[N, 28, 28]` |
| `i/pasted` | Mask R-CNN: `numpy.packbits` of the masks `[N, H, W]` above 0.5, along the last axis |
| `i/double/...` | detectors: boxes, scores, labels and masks once more, computed in float64 |

Classifiers are given the picture in its own size. Features at many positions would be large: of these a
sample is written, `[positions, C]`, with its flat numbers in `.../positions` and the whole size `[2]` in
`.../size`.

Every weight counts, and the detectors find some tens of objects of many classes. The statistics of batch
normalisation are those of the pictures; and the last layers' outputs are brought to a spread that trained
ones have. Like trained weights, RetinaNet's never find class 0, which no object has.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

CLASSIFIERS = ("resnet18", "resnet34", "resnet50", "resnet101")
FIRST_DETECTORS = ("retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn")
MODELS = (*CLASSIFIERS, *(name + version for name in FIRST_DETECTORS for version in ("", "_v2")))

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures, 0 to 1
FEW_ROWS = 100  # of fewer outputs, a layer's channels have no statistics of their own
MOST_POSITIONS, SAMPLED_POSITIONS = 12_000, 4_096

# The last layers, and the standard deviation that each of their channels gets.
SPREADS = {
    "fc": 3.0,
    "head.classification_head.cls_logits": 2.0,
    "head.regression_head.bbox_reg": 0.2,
    "rpn.head.cls_logits": 1.5,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 3.0,
    "roi_heads.box_predictor.bbox_pred": 1.0,
    "roi_heads.mask_predictor.mask_fcn_logits": 2.0,
}
SCORE = 0.05  # what is less certain is no object, for all detectors
CANDIDATES = 60  # scores above that in most pictures, before non-maximum suppression


def build(name: str, min_size: int, max_size: int) -> nn.Module:
    """A model as torchvision builds it for the published number of classes."""
    if name in CLASSIFIERS:
        return getattr(torchvision.models, name)(weights=None)
    builder = getattr(detection, name)
    return builder(weights=None, weights_backbone=None, num_classes=91, min_size=min_size, max_size=max_size)


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """The batch normalisations of a model."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def draw_weights(model: nn.Module) -> None:
    """Draws all weights outside the backbone's convolutions, which torchvision has drawn, and all biases."""
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            # As in trained networks a block adds little to what it is given: blocks that add as much as that
            # would each enlarge what rounding has left of the ones before.
            last_of_block = name.endswith("bn3") or (name.endswith("bn2") and f"{name[:-1]}3" not in modules)
            low, high = (0.1, 0.3) if last_of_block else (0.6, 1.1)
            nn.init.uniform_(module.weight, low, high)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if "body" not in name:
                nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)


def settle(model: nn.Module, answer: Callable[[Tensor], object], images: list[Tensor]) -> None:
    """Sets statistics and last layers by what the model answers.

    What stands at the end is settled by what stands before it: regions, then objects, then their masks.
    """
    last_layers = {name: module for name, module in model.named_modules() if name in SPREADS}
    for statistics in (True, True, False, False):
        for module in batch_norms(model):
            module.train(statistics)
            if statistics:
                module.momentum = None  # the mean of all passes
                module.reset_running_stats()
        outputs = [outputs_of(last_layers, answer, image) for image in images]
        for name, layer in last_layers.items():
            rows = [output[name] for output in outputs]  # [N, channels] of each image
            settle_layer(layer, rows, SPREADS[name])
            if name.endswith("cls_score"):
                layer.bias[0] += in_middle_image([background_room(part) for part in rows])
            elif name.endswith("classification_head.cls_logits"):
                objects = [part.reshape(len(part), -1, 91)[..., 1:] for part in rows]
                layer.bias += math.log(SCORE / (1 - SCORE)) - in_middle_image(objects)
                layer.bias.view(-1, 91)[:, 0] -= 10 * SPREADS[name]


def outputs_of(layers: dict[str, nn.Module], answer: Callable[[Tensor], object], image: Tensor) -> dict:
    """What layers answer for an image, `[N, channels]`: all positions, levels and regions."""
    outputs = defaultdict(list)
    hooks = [
        layer.register_forward_hook(
            lambda module, inputs, output, rows=outputs[name]: rows.append(
                output.movedim(1, -1).flatten(0, -2)
            )
        )
        for name, layer in layers.items()
    ]
    answer(image)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(rows) for name, rows in outputs.items()}


def settle_layer(layer: nn.Module, images: list[Tensor], spread: float) -> None:
    """Brings a layer's outputs to mean 0 and a standard deviation.

    Args:
        layer: convolution or fully connected.
        images: what it answers for each image, `[N, channels]`; changed as the layer is.
        spread: the standard deviation.
    """
    rows = torch.cat(images)
    by_channel = len(rows) >= FEW_ROWS
    mean = rows.mean(0) if by_channel else torch.zeros(rows.shape[1])
    scale = spread / (rows.std(0) if by_channel else rows.std().expand(rows.shape[1]))
    layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.sub_(mean).mul_(scale)
    for part in images:
        part.sub_(mean).mul_(scale)


def in_middle_image(images: list[Tensor]) -> Tensor:
    """What `CANDIDATES` values of an image exceed; of the images, the median."""
    return torch.stack([values.flatten().topk(CANDIDATES).values[-1] for values in images]).median()


def background_room(rows: Tensor) -> Tensor:
    """By how much the background's logit may grow until an object's score is `SCORE`.

    With the objects' logits l and the background's b, there exp(l) = `SCORE` (exp(b + room) + sum exp(l)).

    Args:
        rows: logits of the background and of the objects, `[N, 91]`.

    Returns:
        `[N, 90]`, -inf where the score is less anyway.
    """
    objects = rows[:, 1:]
    total = objects.logsumexp(1, keepdim=True)
    odds = (objects - total).exp() / SCORE - 1
    return torch.where(odds > 0, total + odds.log() - rows[:, :1], -torch.inf)


def as_published(model: nn.Module) -> None:
    """Gives the backbone the normalisation that the first detectors' published weights are read into.

    It is without an epsilon, and does not count batches.
    """
    body = model.backbone.body
    for name, module in list(body.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(module.num_features, eps=0.0)
            frozen.load_state_dict(module.state_dict())
            parent, _, child = name.rpartition(".")
            setattr(body.get_submodule(parent), child, frozen)


def answers_of(model: nn.Module, answer: Callable[[Tensor], object], image: Tensor) -> dict[str, np.ndarray]:
    """What a model says of an image `[3, H, W]`, 0 to 1."""
    seen = {}
    modules = dict(model.named_modules())
    hooks = [
        modules[name].register_forward_hook(
            lambda module, inputs, output, name=name: seen.__setitem__(name, output)
        )
        for name in ("layer1", "layer2", "layer3", "layer4", "backbone.body", "backbone")
        if name in modules
    ]
    if "roi_heads" in modules:  # a copy, because masks are pasted into this very dict
        hooks.append(
            model.roi_heads.register_forward_hook(
                lambda module, inputs, output: seen.__setitem__("roi_heads", dict(output[0][0]))
            )
        )
    found = answer(image)
    for hook in hooks:
        hook.remove()
    if "backbone" not in seen:
        levels = {f"features/{2 + i}": seen[f"layer{1 + i}"] for i in range(4)}
        return levels_as_arrays(levels) | {"logits": found[0].numpy()}
    body, pyramid = list(seen["backbone.body"].values()), list(seen["backbone"].values())
    first = 6 - len(body)  # the coarsest of the backbone has stride 2^5
    levels = {f"features/{first + i}": level for i, level in enumerate(body)}
    levels |= {f"pyramid/{first + i}": level for i, level in enumerate(pyramid)}
    [objects] = found
    arrays = {name: objects[name].numpy() for name in ("boxes", "scores", "labels")}
    arrays["num"] = np.asarray(len(arrays["boxes"]))
    arrays["resized"] = model.transform.resize(255 * image)[0].permute(1, 2, 0).numpy()
    if "masks" in objects:
        arrays["masks"] = seen["roi_heads"]["masks"][:, 0].numpy()
        arrays["pasted"] = np.packbits(objects["masks"][:, 0].numpy() > 0.5, axis=-1)
    return levels_as_arrays(levels) | arrays


def in_double(
    model: nn.Module, answer: Callable[[Tensor], object], images: list[Tensor]
) -> dict[str, np.ndarray]:
    """What a detector says in double precision: what is left of a difference to it is no rounding."""
    model.double()
    parts = {}
    for index, image in enumerate(images):
        arrays = answers_of(model, answer, image.double())
        for part in ("boxes", "scores", "labels", "masks"):
            if part in arrays:
                parts[f"{index}/double/{part}"] = arrays[part]
    return parts


def levels_as_arrays(levels: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Levels `[1, C, h, w]`, channels last; large ones as a sample of their positions."""
    arrays = {}
    for name, level in levels.items():
        values = level[0].permute(1, 2, 0).numpy()
        height, width, channels = values.shape
        if height * width > MOST_POSITIONS:
            chosen = np.random.default_rng(0).choice(height * width, SAMPLED_POSITIONS, replace=False)
            arrays[f"{name}/positions"] = np.sort(chosen)
            arrays[f"{name}/size"] = np.asarray([height, width])
            values = values.reshape(-1, channels)[arrays[f"{name}/positions"]]
        arrays[name] = np.ascontiguousarray(values)
    return arrays


def summary(name: str, index: int, arrays: dict[str, np.ndarray]) -> str:
    """A row of what was found in a picture."""
    shape = "x".join(str(side) for side in arrays["picture"].shape[:2])
    if "logits" in arrays:
        logits = arrays["logits"]
        return (
            f"| {name} | {shape} | | logits {logits.min():.2f} to {logits.max():.2f} | {logits.argmax()} | |"
        )
    resized = "x".join(str(side) for side in arrays["resized"].shape[:2])
    scores = arrays["scores"]
    quantiles = (
        ", ".join(f"{q:.3f}" for q in np.quantile(scores, (0, 0.25, 0.5, 0.75, 1))) if len(scores) else "-"
    )
    gap = f"{-np.diff(scores).max():.1g}" if len(scores) > 1 else "-"
    classes = len(np.unique(arrays["labels"]))
    return f"| {name} | {shape} | {resized} | {len(scores)}: {quantiles} | {classes} | {gap} |"


@torch.no_grad()
def write_model(name: str, pictures: list[np.ndarray], settings: argparse.Namespace) -> None:
    """Draws one model's weights, and writes them and what it answers."""
    torch.manual_seed(settings.seed)
    model = build(name, settings.min_size, settings.max_size).eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))

    def answer(image: Tensor) -> object:
        return model(((image - mean) / std)[None]) if name in CLASSIFIERS else model([image])

    images = [torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture in pictures]
    draw_weights(model)
    settle(model, answer, images)
    if name in FIRST_DETECTORS:
        as_published(model)
    model.eval()
    broken = [key for key, values in model.state_dict().items() if not values.isfinite().all()]
    if broken:
        raise RuntimeError(f"{name}: no number in {', '.join(broken)}; other pictures may have more objects.")
    torch.save(model.state_dict(), settings.output / f"{name}.pth")
    parts = {}
    for index, (picture, image) in enumerate(zip(pictures, images, strict=True)):
        arrays = {"picture": picture} | answers_of(model, answer, image)
        parts |= {f"{index}/{key}": values for key, values in arrays.items()}
        print(summary(name, index, arrays), flush=True)
    if name not in CLASSIFIERS:
        parts |= in_double(model, answer, images)
    np.savez(settings.output / f"{name}.npz", **parts)


def main() -> None:
    """Writes the files of each model, and prints what was found as a Markdown table."""
    parser = argparse.ArgumentParser(
        description="What torchvision's models say of pictures, with random weights."
    )
    parser.add_argument("--output", type=Path, required=True, help="the folder that is written to")
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="files")
    parser.add_argument(
        "--model", nargs="+", choices=MODELS, default=MODELS, metavar="NAME", help="default: all"
    )
    parser.add_argument(
        "--min-size", type=int, default=800, help="detectors: the shorter side of what they see"
    )
    parser.add_argument("--max-size", type=int, default=1333, help="detectors: the longer side at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    settings.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.threads)
    pictures = [np.array(Image.open(file).convert("RGB")) for file in settings.pictures]
    print("| model | picture | resized | detections: quantiles of the scores | classes | smallest gap |")
    print("|---|---|---|---|---|---|")
    for name in settings.model:
        write_model(name, pictures, settings)


if __name__ == "__main__":
    main()
