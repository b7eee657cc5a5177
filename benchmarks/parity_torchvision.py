"""Whether the zoo's models, given torchvision's checkpoints, are the same functions as torchvision's.

    python benchmarks/torchvision_models.py --output parity --pictures FILE FILE ...    # where torch is
    python benchmarks/parity_torchvision.py --directory parity

The first script writes a checkpoint with random weights for each architecture, and what torchvision makes of
the pictures; here neither torch nor torchvision is needed. Each checkpoint is read and fitted as a published
one is. Prints a Markdown table: the largest relative difference of the backbone's features (of the largest
value of their level), and for detectors how many detections there are, how many of them have their like on
the other side (the same class, and a box nearer than 0.05 pixels), the largest differences of those, how many
of their masks are the same to the pixel, and the least IoU of the others. Below it, for each detector, how
far the scores of both sides lie from what torchvision computes in double precision, which is what each side
loses by rounding; and what reading and fitting take (memory on Linux alone).
"""

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tyro

import kzoo
from kzoo.data.masks import paste
from kzoo.weights.load import load_planned
from kzoo.weights.plan import Plan, plan_for
from kzoo.weights.published import Checkpoint, find
from kzoo.weights.torchvision_masks import frame_as_torchvision
from kzoo.zoo_model import ZooModel

DETECTORS = {"retinanet": "retinanet", "fasterrcnn": "faster_rcnn", "maskrcnn": "mask_rcnn"}
NEAR = 0.05  # pixels: a detection of the same class with a box nearer than this is the same


@dataclass(frozen=True)
class Settings:
    """Whether the zoo's models are the same functions as torchvision's, given its checkpoints."""

    directory: Path
    """Where torchvision_models.py has written its files."""
    resize: tuple[int, int] = (800, 1333)
    """The --min-size and --max-size that it was told."""


def published_as(name: str) -> Checkpoint:
    """The published checkpoint of the architecture that torchvision calls so."""
    family = name.partition("_")[0]
    if family not in DETECTORS:
        return find("classifier", name, "imagenet")
    return find(DETECTORS[family], "resnet50", "coco:v2" if name.endswith("_v2") else "coco:v1")


def planned(name: str, resize: tuple[int, int], path: Path) -> Plan:
    """How `weights="coco"` or `weights="imagenet"` gives a model its weights, but from this file."""
    checkpoint = published_as(name)
    options = {"backbone": checkpoint.backbone}
    options |= {} if checkpoint.model == "classifier" else {"resize": resize}
    plan = plan_for(checkpoint.model, checkpoint.name, options, kzoo.info(checkpoint.model).options)
    return replace(plan, path=path)


def answers_of(model: ZooModel, picture: np.ndarray) -> dict[str, np.ndarray]:
    """What a model says of a picture `[H, W, 3]`, with its backbone's features."""
    tensors = dict(model.output)
    for stage in range(1, 5):
        blocks = [name for name in names_of(model) if re.fullmatch(rf"backbone_layer{stage}_\d+_relu", name)]
        tensors[f"features/{stage + 1}"] = model.get_layer(blocks[-1]).output
    for name in names_of(model):
        if match := re.fullmatch(r"fpn_(?:layer_|p|pool_)(\d)(?:_bn)?", name):
            tensors[f"pyramid/{match[1]}"] = model.get_layer(name).output
    if "probabilities" in tensors:
        tensors["logits"] = model.get_layer("classes_of_picture").output
    else:
        tensors["resized"] = model.get_layer("resize").output
    answers = ZooModel(model.input, tensors)(picture[None])
    answers = {name: np.asarray(answer)[0] for name, answer in answers.items()}
    for part in {"boxes", "scores", "classes", "masks"} & (set(answers) if "boxes" in answers else set()):
        answers[part] = answers[part][: answers["num_detections"]]
    return answers


def names_of(model: ZooModel) -> list[str]:
    """The names of a model's layers, in their order."""
    return [layer.name for layer in model.layers]


def relative_difference(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], kind: str) -> float:
    """The largest difference of any level, as a share of the largest value of that level."""
    differences = []
    for name in (name for name in theirs if re.fullmatch(rf"{kind}/\d", name)):
        values = ours[name]
        if f"{name}/positions" in theirs:
            values = values.reshape(-1, values.shape[-1])[theirs[f"{name}/positions"]]
        differences.append(np.abs(values - theirs[name]).max() / np.abs(theirs[name]).max())
    return max(differences)


def same_detections(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> np.ndarray:
    """Pairs `[n, 2]` of our and their detections that are the same, each in one pair at most."""
    far = np.abs(ours["boxes"][:, None] - theirs["boxes"]).max(axis=-1)  # [ours, theirs]
    far = np.where(ours["classes"][:, None] == theirs["labels"] - 1, far, np.inf)
    pairs = [(i, far[i].argmin()) for i in range(len(far)) if len(far[i]) and far[i].min() < NEAR]
    taken = {j: i for i, j in pairs}
    return np.array([(i, j) for j, i in taken.items()], int).reshape(-1, 2)


def pasted_masks(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], own: np.ndarray, other: np.ndarray
) -> str:
    """Of detections that are the same, how many have the same mask in pixels; of the others the least IoU."""
    height, width = theirs["picture"].shape[:2]
    pasted = np.unpackbits(theirs["pasted"], axis=-1, count=width).astype(bool)  # [N, H, W]
    ious = []
    for i, j in zip(own, other, strict=True):
        mask = paste(*frame_as_torchvision(ours["masks"][i], ours["boxes"][i]), (height, width))
        union = np.count_nonzero(mask | pasted[j])
        ious.append(np.count_nonzero(mask & pasted[j]) / union if union else 1.0)
    same = ious.count(1.0)
    return f"{same} of {len(ious)}" + (f", {min(ious):.2f}" if same < len(ious) else "")


def rounding(answers: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> float:
    """How far scores lie from those of double precision, of detections that are there in both."""
    one, other = same_detections(answers, exact).T
    return np.abs(answers["scores"][one] - exact["scores"][other]).max(initial=0)


def row(name: str, ours: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> str:
    """What is to be told of one picture, given our answers and torchvision's."""
    shape = "x".join(str(side) for side in arrays["picture"].shape[:2])
    cells = [name, shape, f"{relative_difference(ours, arrays, 'features'):.1g}"]
    if "logits" in arrays:
        off = np.abs(ours["logits"] - arrays["logits"]).max() / np.abs(arrays["logits"]).max()
        return "| " + " | ".join([*cells, f"logits {off:.1g}", "", "", "", "", ""]) + " |"
    count = len(ours["boxes"])
    own, other = same_detections(ours, arrays).T
    cells.append(f"{relative_difference(ours, arrays, 'pyramid'):.1g}")
    cells.append(f"{len(own)} of {count} and {len(arrays['boxes'])}")
    for part in ("boxes", "scores", "masks"):
        there = part in arrays and len(own)
        cells.append(f"{np.abs(ours[part][own] - arrays[part][other]).max():.1g}" if there else "")
    cells.append(pasted_masks(ours, arrays, own, other) if "pasted" in arrays and len(own) else "")
    return "| " + " | ".join(cells) + " |"


def read_and_fit(model: ZooModel, plan: Plan) -> str:
    """Gives a model its weights; tells the seconds, and the memory as a share of the file's size."""
    watch = Path("/proc/self/clear_refs")
    if watch.exists():
        watch.write_text("5")  # the peak is counted anew
    before, start = memory("VmRSS"), time.perf_counter()
    load_planned(model, plan)
    seconds = time.perf_counter() - start
    share = (memory("VmHWM") - before) / plan.path.stat().st_size
    return f"{seconds:.1f} s" + (f" and {share:.1f} times the file" if watch.exists() else "")


def memory(kind: str) -> int:
    """Bytes of this process that are in memory now (`VmRSS`) or were at most (`VmHWM`); 0 but on Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:")), 0)


def main(settings: Settings) -> None:
    """Reads each checkpoint, and compares."""
    print("| model | picture | features | pyramid | same detections | boxes | scores | masks | pixels |")
    print("|---|---|---|---|---|---|---|---|---|")
    rounded, cost = {}, []
    files = sorted(settings.directory.glob("*.npz"))
    if not files:
        raise SystemExit(f"{settings.directory}: no file of torchvision_models.py's, NAME.npz, is in it.")
    for file in files:
        name, arrays = file.stem, np.load(file)
        plan = planned(name, settings.resize, file.with_suffix(".pth"))
        model = kzoo.build(plan.of, **plan.options)
        cost.append(f"{name} {read_and_fit(model, plan)}")
        for index in sorted({part.partition("/")[0] for part in arrays.files}):
            of_picture = [part for part in arrays.files if part.startswith(f"{index}/")]
            theirs = {part.partition("/")[2]: arrays[part] for part in of_picture}
            ours = answers_of(model, theirs["picture"])
            print(row(name, ours, theirs), flush=True)
            exact = {part[7:]: theirs[part] for part in theirs if part.startswith("double/")}
            if exact:
                both = rounding(ours, exact), rounding(theirs | {"classes": theirs["labels"] - 1}, exact)
                rounded[name] = np.maximum(rounded.get(name, (0, 0)), both)
        keras.backend.clear_session()
    for name, (own, other) in rounded.items():
        print(f"\n{name}: scores lie {own:.1g} from double precision here, {other:.1g} in torchvision")
    print(f"\nReading and fitting: {', '.join(cost)}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
