"""Gives a model the weights that it is to begin with."""

import dataclasses
import re
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from kzoo.backbones.adapters import adapt
from kzoo.weights.download import fetch
from kzoo.weights.errors import WeightsError
from kzoo.weights.fit import CLASS_LAYERS, Fitted, fit, fits, listed, patterns_of, variables_by_name
from kzoo.weights.plan import Plan
from kzoo.weights.torch_checkpoint import read_checkpoint
from kzoo.weights.torchvision_names import BACKBONE, MODELS, from_torchvision


def load_planned(
    model: keras.Model, plan: Plan, include: Sequence[str] = (), skip: Sequence[str] = ()
) -> Fitted:
    """Gives a model that was built by a plan the weights of the plan.

    Raises:
        WeightsError: a file is broken, or cannot be fetched.
        ValueError: weights and model do not fit each other.
    """
    include, skip = patterns_of("include", include), patterns_of("skip", skip)
    if plan.path:
        return load_file(model, plan.path, include, skip)
    if not plan.checkpoint:
        if include or skip:
            raise ValueError("include= and skip= do not look into backbones of Keras or keras-cv.")
        return _load_made_elsewhere(model)
    checkpoint = plan.checkpoint
    source = f"{checkpoint.name} ({checkpoint.url})"
    most_bytes = int(2 * checkpoint.size * 2**20)
    state = read_checkpoint(fetch(checkpoint.url, checkpoint.digest, most_bytes=most_bytes))
    arrays = from_torchvision(state, checkpoint.model, source, epsilon=checkpoint.epsilon)
    part = _backbone_of(model) if plan.backbone_alone else ""
    return fit(model, arrays, source=source, part=part, include=include, skip=skip)


def load_file(
    model: keras.Model, path: Path, include: Sequence[str] = (), skip: Sequence[str] = ()
) -> Fitted:
    """Gives a model the weights of a file.

    Args:
        model: what `kzoo.build` made.
        path: a `.keras` or `.weights.h5` file, or a `.pth` of torchvision's, of this model; a `.pth` of a
            ResNet gives any model its backbone.
        include: as for `kzoo.weights.fit.fit`.
        skip: as for `kzoo.weights.fit.fit`.

    Raises:
        WeightsError: the file is broken.
        ValueError: file and model do not fit each other.
    """
    fitting = {"source": str(path), "include": include, "skip": skip}
    if path.name.endswith(".pth"):
        state = read_checkpoint(path)
        of = model.zoo_name if any(name.startswith("backbone.") for name in state) else "classifier"
        if of not in MODELS:
            raise WeightsError(f"{path}: of a detector, and {of} is none of {', '.join(MODELS)}.")
        part = _backbone_of(model) if of == "classifier" and model.zoo_name != "classifier" else ""
        return fit(model, from_torchvision(state, of, str(path)), part=part, **fitting)
    if path.name.endswith(".weights.h5"):
        return _load_h5(model, path, **fitting)
    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{path}: not a whole .keras file; expected what `model.save` writes.")
    try:
        other = keras.models.load_model(path, compile=False)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: not a whole .keras file that can be read ({error}).") from error
    return fit(model, {name: np.asarray(of) for name, of in variables_by_name(other).items()}, **fitting)


def _backbone_of(model: keras.Model) -> tuple[str, ...]:
    """What the names of a backbone's layers begin with, of the stages that a model has.

    Where a pyramid or a U-Net ends early, nothing looks at the coarser stages.
    """
    stem = (f"{BACKBONE}conv", f"{BACKBONE}bn")
    stages = (re.match(rf"{BACKBONE}layer\d+_", layer.name) for layer in model.layers)
    return (*stem, *dict.fromkeys(stage[0] for stage in stages if stage))


def _load_h5(
    model: keras.Model, path: Path, *, source: str, include: Sequence[str], skip: Sequence[str]
) -> Fitted:
    """Through Keras itself, which alone knows the order of such a file; then as from any other source.

    It names layers by their kind and count, so that another architecture would put weights into layers that
    they are not of: the file must have all that this model would write, and nothing else.
    """
    theirs = _datasets(path)
    with tempfile.TemporaryDirectory() as directory:
        own_file = Path(directory) / "own.weights.h5"
        model.save_weights(own_file)
        own = _datasets(own_file)
    if own != theirs:
        raise ValueError(
            f"{path}: of another architecture than {model.name}; the model's without a counterpart: "
            f"{listed(sorted(own - theirs))}; the file's without a counterpart: "
            f"{listed(sorted(theirs - own))}. Build with the options that it was built with."
        )
    before = model.get_weights()
    try:
        # What is not loaded is seen by what is left of these.
        model.set_weights(
            [values if values.dtype.kind in "iub" else np.full_like(values, np.nan) for values in before]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras tells of what it leaves out; here it is accounted for
            model.load_weights(path, skip_mismatch=True)
        loaded = {name: np.asarray(of) for name, of in variables_by_name(model).items()}
    except (OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: not a whole .weights.h5 file of Keras ({error}).") from error
    finally:
        model.set_weights(before)
    missing = {name.rpartition("/")[0] for name, values in loaded.items() if np.isnan(values).any()}
    anew = {
        layer: "it is of another shape there"
        for layer in CLASS_LAYERS
        if layer in missing and (not include or fits(layer, include)) and not fits(layer, skip)
    }
    fitted = fit(
        model,
        {name: values for name, values in loaded.items() if not np.isnan(values).any()},
        source=source,
        include=include,
        skip=[*skip, *anew],
    )
    return dataclasses.replace(fitted, anew=anew)


def _datasets(path: Path) -> set[str]:
    """The names of what a `.weights.h5` file has, but for an optimizer's."""
    found = set()

    def look(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            found.add(name)

    try:
        with h5py.File(path) as file:
            file.visititems(look)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: not a whole .weights.h5 file of Keras ({error}).") from error
    return found


def _load_made_elsewhere(model: keras.Model) -> Fitted:
    """The weights that Keras or keras-cv publish for a backbone of theirs."""
    backbone = model.get_layer("backbone")
    published = adapt(backbone.network, backbone.size, coarsest=backbone.coarsest, weights="imagenet")[1]
    backbone.set_weights(published.get_weights())
    return Fitted(f"{backbone.network} on ImageNet", ("backbone",), {}, ())
