"""What `weights=` means for a model: where the weights are, and how the model is to be built for them.

No TensorFlow: a slip of the pen is told before anything is imported or fetched.
"""

import hashlib
import json
import lzma
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kzoo.options import plain
from kzoo.weights.architecture import architecture_of
from kzoo.weights.errors import WeightsError
from kzoo.weights.published import Checkpoint, find, find_file
from kzoo.weights.torch_checkpoint import read_checkpoint

SUFFIXES = (".keras", ".weights.h5", ".pth")
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
    """

    options: dict[str, object]
    checkpoint: Checkpoint | None = None
    path: Path | None = None
    state: Mapping[str, np.ndarray] | None = None
    of: str | None = None


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
    if "://" in str(weights):
        raise ValueError(f'weights="{weights}": an address. Fetch the file, and give the path of it.')
    path = Path(weights).expanduser()
    if path.suffix or isinstance(weights, Path) or "/" in weights:
        if not path.name.endswith(SUFFIXES):
            raise ValueError(f'weights="{weights}": a file that ends in {", ".join(SUFFIXES)} is expected.')
        if not path.is_file():
            raise ValueError(f'weights="{weights}": there is no such file.')
        if path.suffix == ".pth":
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
    needed = {"backbone": checkpoint.backbone}
    if checkpoint.model == model:
        needed |= _options_like(checkpoint, len(checkpoint.classes), options, checkpoint.name)
    return Plan(needed | dict(options), checkpoint, path, of=checkpoint.model)


def _plan_of_torchvisions(
    path: Path, model: str, options: Mapping[str, object], defaults: Mapping[str, object]
) -> Plan:
    """A `.pth`: a published file under its own name, or one of the user's, which tells what it is of."""
    if checkpoint := find_file(path.name):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(checkpoint.digest):
            raise WeightsError(
                f"{path}: has the name of a published file, but another sha256, {digest}; expected "
                f"{checkpoint.digest}... Fetch it anew, or rename it if it is your own."
            )
        _check_backbone(path, checkpoint.backbone, options, defaults)
        return _plan_of_published(checkpoint, model, options, path)
    state = read_checkpoint(path)
    there = architecture_of(state)
    needed = {}
    if there.backbone and "backbone" in defaults:
        _check_backbone(path, there.backbone, options, defaults)
        needed["backbone"] = there.backbone
    if there.model == model:
        needed |= _options_like(there.like, there.num_classes, options, str(path))
    return Plan(needed | dict(options), path=path, state=state, of=there.model)


def _options_like(
    checkpoint: Checkpoint | None, num_classes: int | None, options: Mapping[str, object], source: str
) -> dict[str, object]:
    """The options of a model that is a checkpoint's but for its classes and its backbone."""
    needed = dict(checkpoint.options) if checkpoint else {}
    if checkpoint and checkpoint.resize.longest and "input_shape" not in options:
        needed["resize"] = (checkpoint.resize.shorter, checkpoint.resize.longest)
    if num_classes:
        needed["num_classes"] = num_classes
    if checkpoint and num_classes and options.get("num_classes") == num_classes + 1:
        warnings.warn(
            f"num_classes={num_classes + 1}: {source} has {num_classes} classes, since the background is not "
            "counted here; so its last layers begin anew.",
            stacklevel=5,
        )
    return needed


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
