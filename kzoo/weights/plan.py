"""What `weights=` means for a model: where the weights are, and how the model is to be built for them.

No TensorFlow: a slip of the pen is told before anything is imported or fetched.
"""

import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kzoo.options import plain
from kzoo.weights.errors import WeightsError
from kzoo.weights.published import Checkpoint, find

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
        backbone_alone: whether it is the backbone alone that has weights.
    """

    options: dict[str, object]
    checkpoint: Checkpoint | None = None
    path: Path | None = None
    backbone_alone: bool = False


def plan_for(
    model: str, weights: str | Path, options: Mapping[str, object], defaults: Mapping[str, object]
) -> Plan:
    """What `weights=` means for a model.

    Args:
        model: the builder's name.
        weights: `"imagenet"`, `"coco"`, a version of them such as `"coco:v1"`, or the path of a file; a
            `.keras` file tells the options that its model was built with.
        options: the builder's options that were given.
        defaults: the builder's options with their defaults.

    Raises:
        ValueError: there are no such weights for this model and this backbone, or no such file.
        WeightsError: a `.keras` file is broken.
    """
    if not isinstance(weights, str | Path):
        raise ValueError(
            f'weights={weights!r}: a name such as "imagenet" or "coco:v1" is expected, or the path of a file.'
        )
    path = Path(weights)
    if path.suffix or isinstance(weights, Path) or "/" in weights:
        if not path.name.endswith(SUFFIXES):
            raise ValueError(f'weights="{weights}": a file that ends in {", ".join(SUFFIXES)} is expected.')
        if not path.is_file():
            raise ValueError(f'weights="{weights}": there is no such file.')
        return Plan(_options_of_saved(path, model, defaults) | dict(options), path=path)

    backbone = options.get("backbone", defaults.get("backbone"))
    if str(backbone).startswith(MADE_ELSEWHERE) and weights == "imagenet":
        return Plan(dict(options), backbone_alone=True)
    if "backbone" not in defaults:
        raise ValueError(f'weights="{weights}": there are none for {model}, which has no backbone.')
    checkpoint = find(model, backbone, weights)
    if checkpoint.model != model:
        return Plan(dict(options), checkpoint, backbone_alone=True)
    needed = {"num_classes": len(checkpoint.classes)} | checkpoint.options
    if checkpoint.resize.longest and "input_shape" not in options:
        needed["resize"] = (checkpoint.resize.shorter, checkpoint.resize.longest)
    return Plan(needed | dict(options), checkpoint)


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
