"""A trained model from a path, the same to ask whether it was saved, exported or left by a run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import kzoo

if TYPE_CHECKING:
    from kzoo.zoo_model import ZooModel


@dataclass(frozen=True)
class Trained:
    """A model to ask.

    Args:
        predict: from pictures [B, H, W, 3] to a dict of answers.
        labels: the names of its classes, where they are known.
        input_size: height and width that it takes, or (None, None) where it takes any.
        num_classes: the number of its classes, where it is known.
    """

    predict: Callable[[np.ndarray], dict[str, np.ndarray]]
    labels: tuple[str, ...] | None
    input_size: tuple[int | None, int | None]
    num_classes: int | None


def open_trained(path: Path, labels: tuple[str, ...] | None = None) -> Trained:
    """Opens a `.keras` file, the directory of a run that has one, or an export.

    Args:
        path: `model.keras`, `runs/NAME` or `saved_models/NAME`.
        labels: the names of the classes, where the model itself does not know them.

    Raises:
        ValueError: there is no model at `path`, or it has another number of classes than there are labels.
    """
    if path.is_dir() and not list(path.glob("*.keras")):
        served = kzoo.load(path)
        trained = Trained(
            predict=served.predict,
            labels=labels or served.labels,
            input_size=served.input_shape[:2],
            num_classes=len(served.labels) if served.labels else None,
        )
    else:
        model = open_keras(path)
        height, width = model.input["images"].shape[1:3]
        trained = Trained(
            model.predict_on_batch, labels, (height, width), model.zoo_options.get("num_classes")
        )
    if labels and trained.num_classes not in (None, len(labels)):
        raise ValueError(
            f"labels: {path} has {trained.num_classes} classes, but {len(labels)} names were given."
        )
    return trained


def open_keras(path: Path) -> "ZooModel":
    """Opens a model that `model.save` wrote: a `.keras` file, or the directory of a run with one in it.

    Raises:
        ValueError: there is no such model at `path`.
    """
    files = sorted(path.glob("*.keras")) if path.is_dir() else [path]
    if len(files) > 1:
        raise ValueError(f"{path}: has several models; name one of {', '.join(map(str, files))}.")
    if not files:
        raise ValueError(f"{path}: has no .keras file in it.")
    if not files[0].is_file():
        raise ValueError(
            f"{path}: there is no such file or directory; "
            "a model is a .keras file, an export such as saved_models/NAME, or a run such as runs/NAME."
        )
    if files[0].suffix != ".keras":
        raise ValueError(f"{path}: a file that is not named .keras, which `model.save` writes.")
    import keras

    return keras.models.load_model(files[0])
