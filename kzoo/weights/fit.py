"""Gives a model weights by the names of its layers, and accounts for both sides."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from kzoo.checks import listed
from kzoo.weights.errors import WeightsError, shown

# What depends on the classes, and begins anew where there are others: the last layers.
CLASS_LAYERS = (
    "classes_of_picture",
    "class_head_out",
    "box_head_classes",
    "box_head_deltas",
    "mask_head_out",
    "classes_of_pixels",
    "classes_of_slots",
    "boxes_of_slots",
)
MOST_LISTED = 8  # names of a side in the message; the notes behind it have all


@dataclass(frozen=True)
class Fitted:
    """What became of weights that a model was given; `print` shows it.

    Attributes:
        source: where they were from.
        layers: the layers that have them now.
        anew: the layers that begin anew, each with the reason.
        unasked: the layers that begin anew because they were not asked for.
        left: the weights of the source that no layer took, since they were not asked for.
    """

    source: str
    layers: tuple[str, ...]
    anew: dict[str, str]
    left: tuple[str, ...]
    unasked: tuple[str, ...] = ()

    def __str__(self) -> str:
        layers = "1 layer has" if len(self.layers) == 1 else f"{len(self.layers)} layers have"
        lines = [f"{layers} the weights of {self.source}."]
        lines += [f"{layer} begins anew: {reason}." for layer, reason in self.anew.items()]
        if self.unasked:
            layers = "1 layer begins" if len(self.unasked) == 1 else f"{len(self.unasked)} layers begin"
            lines.append(f"{layers} anew, not asked for: {listed(self.unasked, MOST_LISTED)}.")
        if self.left:
            weights = "1 weight" if len(self.left) == 1 else f"{len(self.left)} weights"
            lines.append(f"{weights} of it had no place here or were not asked for.")
        return "\n".join(lines)


def fit(
    model: keras.Model,
    arrays: Mapping[str, np.ndarray],
    *,
    source: str,
    part: str | tuple[str, ...] = "",
    include: Sequence[str] = (),
    skip: Sequence[str] = (),
) -> Fitted:
    """Gives the layers of a model the weights that bear their names.

    Every weight of the source and of the model is accounted for: both sides must be the same, but for the
    last layers, which begin anew where they are for other classes, and for layers that are not asked for.

    Args:
        model: any model; weights that it takes are changed in place, all of them or, on an error, none.
        arrays: from `layer/variable`, such as `backbone_conv1/kernel`, to arrays; other names are the
            source's own, of weights that have no place here.
        source: where they are from, for messages.
        part: only layers whose names begin like this, or like one of these, are looked at, on both sides.
        include: of these only the layers that one of the patterns fits, such as `"backbone_*"`; none is all.
        skip: and not the layers that one of these patterns fits.

    Returns:
        What became of the weights.

    Raises:
        ValueError: a pattern fits no layer of either side, or the two sides are not the same; the message
            lists both, where they are long the first names of each, and notes behind it (`__notes__`) all.
        WeightsError: weights of the source are no numbers.
    """
    variables = variables_by_name(model)
    layers = list(dict.fromkeys(map(_layer, variables)))
    of_both = {*layers, *map(_layer, arrays)}
    for option, patterns in (("include", include), ("skip", skip)):
        for pattern in patterns:
            if not any(fits(layer, [pattern]) for layer in of_both):
                raise ValueError(
                    f'{option}="{pattern}": fits no layer of {model.name} that has weights, and none of '
                    f"{source}; they are called {listed(layers, MOST_LISTED)}."
                )

    def asked_for(name: str) -> bool:
        layer = _layer(name)
        included = not include or fits(layer, include)
        # What has no place here may be of any part.
        return (layer.startswith(part) or "/" not in name) and included and not fits(layer, skip)

    wanted = {name: variable for name, variable in variables.items() if asked_for(name)}
    given = {name: values for name, values in arrays.items() if asked_for(name)}
    shapes = {name: (tuple(given[name].shape), tuple(wanted[name].shape)) for name in wanted if name in given}
    shapes = {name: (there, here) for name, (there, here) in shapes.items() if there != here}
    reshaped = {name: f"{there} there, {here} here" for name, (there, here) in shapes.items()}
    # Where it is for other classes a last layer differs in its outputs alone.
    other_inputs = {_layer(name) for name, (there, here) in shapes.items() if there[:-1] != here[:-1]}
    for_classes = set(CLASS_LAYERS) - other_inputs
    anew = {_layer(name): f"{name} is {how}" for name, how in reshaped.items() if _layer(name) in for_classes}
    wanted = {name: variable for name, variable in wanted.items() if _layer(name) not in anew}
    given = {name: values for name, values in given.items() if _layer(name) not in anew}

    sides = {
        "the model's without a counterpart": [name for name in wanted if name not in given],
        "the file's without a counterpart": [name for name in given if name not in wanted],
        "of another shape": [f"{name} ({reshaped[name]})" for name in reshaped if name in wanted],
    }
    sides = {title: names for title, names in sides.items() if names}
    if sides or not wanted:
        raise _misfit(model, source, sides)
    if broken := [name for name in wanted if not _can_be(name, np.asarray(given[name], np.float32))]:
        raise WeightsError(
            f"{source}: not all numbers are finite, or a variance is negative, in "
            f"{listed(broken, MOST_LISTED)}; expected weights of a training that went well."
        )
    for name, variable in wanted.items():
        variable.assign(np.asarray(given[name], np.float32))
    fitted = tuple(dict.fromkeys(map(_layer, wanted)))
    left = tuple(name for name in arrays if not asked_for(name))
    unasked = tuple(layer for layer in layers if layer not in fitted and layer not in anew)
    return Fitted(source, fitted, anew, left, unasked)


def _can_be(name: str, values: np.ndarray) -> bool:
    """Whether these can be a model's weights."""
    return bool(np.isfinite(values).all()) and not (name.endswith("_variance") and values.min(initial=0) < 0)


def _misfit(model: keras.Model, source: str, sides: Mapping[str, Sequence[str]]) -> ValueError:
    """The error of two sides that are not the same, given what of each has no counterpart."""
    sides = {title: list(map(shown, names)) for title, names in sides.items()}
    told = "; ".join(f"{title}: {listed(names, MOST_LISTED)}" for title, names in sides.items())
    error = ValueError(
        f"{source}: does not fit {model.name}; {told or 'no layer was asked for'}. include= and skip= take "
        "patterns of layers."
    )
    for title, names in sides.items():
        if len(names) > MOST_LISTED:
            error.add_note(f"{title}, all {len(names)}: {', '.join(names)}")
    return error


def variables_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """The weights of a model, by `layer/variable`; those of a network within it are counted."""
    named = {}
    for layer in model.layers:
        for i, variable in enumerate(layer.weights):
            own_name = i if isinstance(layer, keras.Model) else variable.path.rpartition("/")[-1]
            named[f"{layer.name}/{own_name}"] = variable
    return named


def _layer(name: str) -> str:
    """The layer of `layer/variable`, and of a source's own name such as `head.fc.weight` its module."""
    return name.rpartition("/")[0] or name.rpartition(".")[0] or name


def patterns_of(option: str, value: object) -> tuple[str, ...]:
    """The patterns of `include=` or `skip=`, of which a single one may stand alone.

    Raises:
        ValueError: it is neither text nor a sequence of texts.
    """
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(pattern, str) for pattern in value):
        raise ValueError(
            f'{option}={value!r}: patterns of layers are expected, as in {option}=["backbone_*"].'
        )
    return tuple(value)


def fits(layer: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns fits a layer's name; capitals count."""
    return any(fnmatch.fnmatchcase(layer, pattern) for pattern in patterns)
