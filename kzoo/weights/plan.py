"""What `weights=` means for a model: where the weights are, and how the model is to be built for them.

No TensorFlow: a slip of the pen is told before anything is imported or fetched.
"""

import hashlib
import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kzoo.options import plain
from kzoo.weights.architecture import architecture_of
from kzoo.weights.errors import WeightsError
from kzoo.weights.published import Checkpoint, checkpoints, find
from kzoo.weights.torch_checkpoint import read_checkpoint
from kzoo.weights.torchvision_names import EPSILON

SUFFIXES = (".keras", ".weights.h5", ".pth", ".pt")
TWO_STAGES = ("faster_rcnn", "mask_rcnn")  # one has all of the other
MOST_CONFIG = 2**26  # bytes of a `.keras` file's config.json
MADE_ELSEWHERE = ("keras.applications.", "keras_cv.")


@dataclass(frozen=True)
class Plan:
    """Where the weights of a model are, and the options that it is built with.

    Attributes:
        options: of the builder: those that were given, and behind them those that the weights need.
        checkpoint: a published one, or None.
        path: a file, or None.
        state: what a `.pth` holds that is nobody's but the user's, or None.
        of: the model whose weights they are, where that is known.
        epsilon: of the backbone's batch normalisation, as the state is run in torchvision.
        warning: what is probably not meant, or nothing.
    """

    options: dict[str, object]
    checkpoint: Checkpoint | None = None
    path: Path | None = None
    state: Mapping[str, np.ndarray] | None = None
    of: str | None = None
    epsilon: float = EPSILON
    warning: str = ""


def path_of(weights: str | Path) -> Path | None:
    """The file that `weights=` means; None where it means published weights.

    Raises:
        ValueError: there is no such file, or it is of another kind.
    """
    if "://" in str(weights):
        raise ValueError(f'weights="{weights}": an address. Fetch the file, and give the path of it.')
    if not (Path(weights).suffix or isinstance(weights, Path) or "/" in weights):
        return None
    try:
        path = Path(weights).expanduser()
        is_file = path.is_file()
    except (OSError, RuntimeError):  # a name that is too long, a user without a home
        is_file = False
    if not str(weights).endswith(SUFFIXES):
        raise ValueError(f'weights="{weights}": a file that ends in {", ".join(SUFFIXES)} is expected.')
    if not is_file:
        raise ValueError(f'weights="{weights}": there is no such file.')
    return path


def plan_for(
    model: str, weights: str | Path, options: Mapping[str, object], defaults: Mapping[str, object]
) -> Plan:
    """What `weights=` means for a model.

    Args:
        model: the builder's name.
        weights: `"imagenet"`, `"coco"`, a version of them such as `"coco:v1"`, or the path of a file: a
            `.keras` file tells the options that its model was built with, a `.pth` of torchvision's the
            backbone, the number of classes and which of torchvision's architectures it is.
        options: the builder's options that were given.
        defaults: the builder's options with their defaults.

    Raises:
        ValueError: there are no such weights for this model and this backbone, or no such file.
        WeightsError: a file is broken.
    """
    if not isinstance(weights, str | Path):
        raise ValueError(
            f'weights={weights!r}: a name such as "imagenet" or "coco:v1" is expected, or the path of a file.'
        )
    if path := path_of(weights):
        if path.suffix in (".pth", ".pt"):
            return _plan_of_torchvisions(path, model, options, defaults)
        return Plan(_options_of_saved(path, model, defaults) | dict(options), path=path)

    backbone = options.get("backbone", defaults.get("backbone"))
    if str(backbone).startswith(MADE_ELSEWHERE) and weights == "imagenet":
        return Plan(dict(options))
    if "backbone" not in defaults:
        raise ValueError(f'weights="{weights}": there are none for {model}, which has no backbone.')
    return _plan_of_published(find(model, backbone, weights), model, options)


def _plan_of_published(
    checkpoint: Checkpoint, model: str, options: Mapping[str, object], path: Path | None = None
) -> Plan:
    """A published checkpoint, of which another model takes the backbone."""
    needed, warning = {"backbone": checkpoint.backbone}, ""
    if takes_options(model, checkpoint.model):
        needed |= _options_like(checkpoint, len(checkpoint.classes), options)
        warning = _background_counted(checkpoint, len(checkpoint.classes), options, checkpoint.name)
    return Plan(needed | dict(options), checkpoint, path, of=checkpoint.model, warning=warning)


def _plan_of_torchvisions(
    path: Path, model: str, options: Mapping[str, object], defaults: Mapping[str, object]
) -> Plan:
    """A `.pth`: a published file under its own name, or one of the user's, which tells what it is of."""
    if checkpoint := published_in(path):
        _check_backbone(path, checkpoint.backbone, options, defaults)
        return _plan_of_published(checkpoint, model, options, path)
    state = read_checkpoint(path)
    there = architecture_of(state)
    needed, warning = {}, ""
    if there.backbone and "backbone" in defaults:
        _check_backbone(path, there.backbone, options, defaults)
        needed["backbone"] = there.backbone
    if takes_options(model, there.model):
        needed |= _options_like(there.like, there.num_classes, options)
        warning = _background_counted(there.like, there.num_classes, options, str(path))
        if there.epsilon != EPSILON:
            warning = warning or (
                f"{path}: taken to be fine-tuned from torchvision's COCO v1, whose batch normalisation has "
                "an epsilon of 0. If it began from ImageNet's weights, that was 1e-5, and answers differ."
            )
    return Plan(
        needed | dict(options), None, path, state, of=there.model, epsilon=there.epsilon, warning=warning
    )


def check_related(plan: Plan, model: str) -> None:
    """Raises a `ValueError` if a plan's weights are of a model that has nothing to do with this one."""
    if plan.of not in (None, model, "classifier") and not takes_options(model, plan.of):
        raise ValueError(
            f"{plan.path}: of torchvision's {plan.of}, and this is {model}. As a {plan.of} it is taken "
            'whole, and in Python include=["backbone_*"] takes its backbone.'
        )


def published_in(path: Path) -> Checkpoint | None:
    """The published checkpoint that a file is, whatever its name; None where it is none.

    Raises:
        WeightsError: it has the name of a published file, but is another.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for checkpoint in checkpoints():
        if digest.startswith(checkpoint.digest):
            return checkpoint
        if checkpoint.url.endswith(f"/{path.name}"):
            raise WeightsError(
                f"{path}: has the name of a published file, but another sha256, {digest}; expected "
                f"{checkpoint.digest}... Fetch it anew, or rename it if it is your own."
            )
    return None


def takes_options(model: str, of: str | None) -> bool:
    """Whether a model is built as one whose weights it begins with."""
    return model == of or (model in TWO_STAGES and of in TWO_STAGES)


def _options_like(
    checkpoint: Checkpoint | None, num_classes: int | None, options: Mapping[str, object]
) -> dict[str, object]:
    """The options of a model that is a checkpoint's but for its classes and its backbone."""
    needed = dict(checkpoint.options) if checkpoint else {}
    shape = options.get("input_shape")
    of_any_size = not isinstance(shape, list | tuple) or None in shape[:2]
    if checkpoint and checkpoint.resize.longest and of_any_size:
        needed["resize"] = (checkpoint.resize.shorter, checkpoint.resize.longest)
    if num_classes:
        needed["num_classes"] = num_classes
    return needed


def _background_counted(
    checkpoint: Checkpoint | None, num_classes: int | None, options: Mapping[str, object], source: str
) -> str:
    """What to say where a detector is asked for with the one class more that torchvision counts."""
    of_detector = checkpoint and checkpoint.model != "classifier"
    if not of_detector or not num_classes or options.get("num_classes") != num_classes + 1:
        return ""
    return (
        f"num_classes={num_classes + 1}: {source} has {num_classes} classes, since the background is not "
        "counted here; so its last layers begin anew."
    )


def _check_backbone(
    path: Path, backbone: str, options: Mapping[str, object], defaults: Mapping[str, object]
) -> None:
    """Raises a `ValueError` where another backbone was asked for than a file has, or there is none."""
    if "backbone" not in defaults:
        raise ValueError(f'weights="{path}": of a {backbone}; this model has no backbone.')
    if options.get("backbone", backbone) != backbone:
        raise ValueError(
            f'backbone={options["backbone"]!r}: the weights of {path} are of "{backbone}". Without '
            "backbone= it is taken."
        )


def _options_of_saved(path: Path, model: str, defaults: Mapping[str, object]) -> dict[str, object]:
    """What a `.keras` file tells of how its model was built; nothing where it is of another.

    What is no zip file at all is left to the one who loads it.
    """
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        return {}
    try:
        config = plain(json.loads(_read_config(path)))
    # Of the zip file, of a compression that is unknown or broken, of encryption, of JSON.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, KeyError, RuntimeError,
            ValueError) as fault:  # fmt: skip
        raise _broken(path, str(fault) or type(fault).__name__) from fault
    if not isinstance(config, dict) or not isinstance(saved := config.get("config"), dict):
        raise _broken(path, "its config.json is of no model")
    if saved.get("zoo_name") != model:
        return {}
    if not isinstance(options := saved.get("zoo_options"), dict):
        raise _broken(path, f"its config.json does not tell the options of {model}")
    return {name: value for name, value in options.items() if name in defaults}


def _read_config(path: Path) -> bytes:
    with zipfile.ZipFile(path) as file, file.open("config.json") as config:
        content = config.read(MOST_CONFIG + 1)  # what the file itself says of its size may be a lie
    if len(content) > MOST_CONFIG:
        raise ValueError(f"its config.json has more than {MOST_CONFIG:,} bytes")
    return content


def _broken(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path}: not a whole .keras file ({why}); expected what `model.save` writes.")
