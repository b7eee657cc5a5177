"""Gives a model the weights that it is to begin with."""

import dataclasses
import re
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from kzoo.backbones.adapters import adapt
from kzoo.checks import listed
from kzoo.weights.download import fetch
from kzoo.weights.errors import WeightsError, shown
from kzoo.weights.fit import (
    CLASS_LAYERS,
    MOST_LISTED,
    Fitted,
    fit,
    fits,
    patterns_of,
    variables_by_name,
)
from kzoo.weights.plan import Plan, takes_options
from kzoo.weights.published import Checkpoint
from kzoo.weights.torch_checkpoint import read_checkpoint
from kzoo.weights.torchvision_names import BACKBONE, MODELS, from_torchvision


def load_planned(
    model: keras.Model, plan: Plan, include: Sequence[str] = (), skip: Sequence[str] = ()
) -> Fitted:
    """Gives a model that was built by a plan the weights of the plan.

    Args:
        model: what the builder made of the plan's options; it knows its `zoo_name`.
        plan: by `kzoo.weights.plan.plan_for`.
        include: as for `kzoo.weights.fit.fit`.
        skip: as for `kzoo.weights.fit.fit`.

    Raises:
        WeightsError: a file is broken, or cannot be fetched.
        ValueError: weights and model do not fit each other.
    """
    include, skip = patterns_of("include", include), patterns_of("skip", skip)
    if plan.checkpoint:
        return _load_published(model, plan.checkpoint, plan.path, include, skip)
    if plan.state is not None:
        return _fit_torchvisions(model, plan.state, plan.of, str(plan.path), include, skip, plan.epsilon)
    if plan.path:
        return load_file(model, plan.path, include, skip)
    if include or skip:
        raise ValueError("include= and skip= do not look into backbones of Keras or keras-cv.")
    return _load_made_elsewhere(model)


def _load_published(
    model: keras.Model, checkpoint: Checkpoint, path: Path | None, include: Sequence[str], skip: Sequence[str]
) -> Fitted:
    if path is None:
        most_bytes = int(2 * checkpoint.size * 2**20)
        path = fetch(checkpoint.url, checkpoint.digest, most_bytes=most_bytes)
        source = f"{checkpoint.name} ({checkpoint.url})"
    else:
        source = f"{checkpoint.name} ({path})"
    state = read_checkpoint(path)
    return _fit_torchvisions(model, state, checkpoint.model, source, include, skip, checkpoint.epsilon)


def _fit_torchvisions(
    model: keras.Model,
    state: Mapping[str, np.ndarray],
    of: str | None,
    source: str,
    include: Sequence[str],
    skip: Sequence[str],
    epsilon: float,
) -> Fitted:
    """Gives a model the weights of a state dict of torchvision's, of `of` where that is known."""
    own = model.zoo_name
    if (own, of) == ("faster_rcnn", "mask_rcnn"):
        skip = (*skip, "mask_head_*")
    arrays = from_torchvision(state, of or (own if own in MODELS else "classifier"), source, epsilon=epsilon)
    stages = _backbone_of(model)
    part = stages if of == "classifier" and own != "classifier" else ""
    if of not in (None, "classifier") and not takes_options(own, of):
        # Whatever of it is asked for, but no stages of the backbone that this model has none of.
        arrays = {
            name: values
            for name, values in arrays.items()
            if not name.startswith(BACKBONE) or name.startswith(stages)
        }
    return fit(model, arrays, source=source, part=part, include=include, skip=skip)


def load_file(
    model: keras.Model, path: Path, include: Sequence[str] = (), skip: Sequence[str] = ()
) -> Fitted:
    """Gives a model the weights of a file that Keras wrote.

    Args:
        model: what `kzoo.build` made.
        path: a `.keras` or `.weights.h5` file, of this model.
        include: as for `kzoo.weights.fit.fit`.
        skip: as for `kzoo.weights.fit.fit`.

    Raises:
        WeightsError: the file is broken.
        ValueError: file and model do not fit each other.
    """
    fitting = {"source": str(path), "include": include, "skip": skip}
    if path.name.endswith(".weights.h5"):
        return _load_h5(model, path, **fitting)
    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{path}: not a whole .keras file; expected what `model.save` writes.")
    try:
        other = keras.models.load_model(path, compile=False)
    except Exception as error:  # from files of any content Keras, zipfile and h5py raise errors of any kind
        told = str(error) or type(error).__name__
        raise WeightsError(f"{path}: not a whole .keras file that can be read ({told}).") from error
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
        mine, its = (listed(map(shown, sorted(names)), MOST_LISTED) for names in (own - theirs, theirs - own))
        raise ValueError(
            f"{path}: of another architecture than {model.name}; the model's without a counterpart: {mine}; "
            f"the file's without a counterpart: {its}. Build with the options that it was built with."
        )
    before = model.get_weights()
    try:
        # What is not loaded keeps what was there before, and so is not the same both times.
        zeros, loaded = (_loaded_over(model, path, start) for start in (0, 1))
    except Exception as error:  # from files of any content Keras and h5py raise errors of any kind
        raise WeightsError(f"{path}: not a whole .weights.h5 file of Keras ({error}).") from error
    finally:
        model.set_weights(before)
    left = {name for name in loaded if not np.array_equal(zeros[name], loaded[name], equal_nan=True)}
    missing = {name.rpartition("/")[0] for name in left}
    anew = {
        layer: "it is of another shape there"
        for layer in CLASS_LAYERS
        if layer in missing and (not include or fits(layer, include)) and not fits(layer, skip)
    }
    fitted = fit(
        model,
        {name: values for name, values in loaded.items() if name not in left},
        source=source,
        include=include,
        skip=[*skip, *anew],
    )
    return dataclasses.replace(fitted, anew=anew)


def _loaded_over(model: keras.Model, path: Path, start: int) -> dict[str, np.ndarray]:
    """What a model's weights are once they were all `start` and then loaded from a `.weights.h5` file."""
    model.set_weights([np.full_like(values, start) for values in model.get_weights()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras tells of what it leaves out; here it is accounted for
        model.load_weights(path, skip_mismatch=True)
    return {name: np.copy(np.asarray(of)) for name, of in variables_by_name(model).items()}


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
