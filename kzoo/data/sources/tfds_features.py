"""What the features of a TFDS set teach: the class of a picture, boxes, masks, the classes of pixels."""

from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from kzoo.data.class_names import BACKGROUND
from kzoo.data.faults import DataError
from kzoo.data.sources.pairs import IGNORED

IMAGE = "image"
LABEL = "label"
COUNTS = "counts"  # of objects: COCO's run lengths of their pixels
CROWD = "is_crowd"
AREA = "area"
PIXELS = "segmentation_mask"

_LABELS = (LABEL, "type")  # what the class of an object is called; KITTI calls it type
_MASKS = ("mask", "segmentation")  # pictures of an object's pixels, as of LVIS
_LABEL_PICTURES = (PIXELS, "segmentation_label", "annotation")


class Objects(NamedTuple):
    """Where boxes lie.

    Attributes:
        prefix: of the names of their features, "objects/" or "" where a picture has a single box.
        label: the feature of the classes.
        names: the classes; None where the set does not tell them.
        single: whether there is one in each picture.
        crowd, area, counts, masks: the features of these, where there are any.
    """

    prefix: str
    label: str
    names: tuple[str, ...] | None
    single: bool
    crowd: str | None = None
    area: str | None = None
    counts: str | None = None
    masks: str | None = None

    @property
    def boxes(self) -> str:
        return f"{self.prefix}bbox"


class Pixels(NamedTuple):
    """Where the classes of pixels lie.

    Attributes:
        feature: the label picture.
        names: the classes; None where the set does not tell them.
        values: the class of each value, -1 where it is ignored; None where they are the same.
    """

    feature: str
    names: tuple[str, ...] | None
    values: dict[int, int] | None = None


class Features(NamedTuple):
    """What there is to learn from."""

    label: bool
    label_names: tuple[str, ...] | None
    objects: Objects | None
    pixels: Pixels | None


def find_features(spec: str, info: tfds.core.DatasetInfo) -> Features:
    """What the features of a set are called, and which classes they have.

    Args:
        spec: the text that messages call the set by.
        info: of the set. Its records are not read.

    Raises:
        DataError: there is no picture, or nothing to learn.
    """
    features = dict(info.features.items()) if isinstance(info.features, tfds.features.FeaturesDict) else {}
    there = ", ".join(features) or str(info.features)
    if not _is_picture(features.get(IMAGE)):
        raise DataError(f"{spec} has the features {there}; expected a picture called {IMAGE} among them")
    label = features.get(LABEL)
    objects, pixels = _find_objects(spec, features), _find_pixels(info.name, features)
    found = Features(_is_class(label), _names(label), objects, pixels)
    if not any((found.label, found.objects, found.pixels)):
        expected = f"{LABEL}, objects with bbox and {LABEL}, or {PIXELS}"
        raise DataError(f"{spec} has the features {there}; expected {expected} beside the picture")
    return found


def _find_objects(spec: str, features: dict) -> Objects | None:
    """The first sequence of boxes with classes, or else the one box of a picture."""
    for name, feature in features.items():
        inner = feature.feature if isinstance(feature, tfds.features.Sequence) else None
        if not isinstance(inner, tfds.features.FeaturesDict):
            continue
        inner = dict(inner.items())
        label = next((label for label in _LABELS if _is_class(inner.get(label))), None)
        if label and isinstance(inner.get("bbox"), tfds.features.BBoxFeature):
            _check_format(spec, inner["bbox"])
            prefix = f"{name}/"
            single = feature.get_tensor_info()["bbox"].shape[0] == 1
            optional = {
                "crowd": CROWD if CROWD in inner else None,
                "area": AREA if AREA in inner else None,
                "counts": COUNTS if isinstance(inner.get(COUNTS), tfds.features.Text) else None,
                "masks": next((mask for mask in _MASKS if _is_picture(inner.get(mask))), None),
            }
            told = {role: one and f"{prefix}{one}" for role, one in optional.items()}
            return Objects(prefix, f"{prefix}{label}", _names(inner[label]), single, **told)
    if _is_class(features.get(LABEL)) and isinstance(features.get("bbox"), tfds.features.BBoxFeature):
        _check_format(spec, features["bbox"])
        return Objects("", LABEL, _names(features[LABEL]), True)
    return None


def _check_format(spec: str, box: tfds.features.BBoxFeature) -> None:
    found = getattr(box.bbox_format, "value", box.bbox_format)
    if found not in (None, tfds.features.BBoxFeature().bbox_format.value):
        expected = "expected ymin, xmin, ymax, xmax as shares of height and width"
        raise DataError(f"{spec} has boxes of the format {found}; {expected}")


def _find_pixels(set_name: str, features: dict) -> Pixels | None:
    name = next((name for name in _LABEL_PICTURES if _is_picture(features.get(name))), None)
    if name is None:
        return None
    if set_name == "oxford_iiit_pet":
        # As the set's own description has it: 1 the animal, 2 the ground, 3 not classified, a line between.
        return Pixels(name, (BACKGROUND, "pet"), {1: 1, 2: 0, 3: -1})
    names = _names(features[name])
    if names is None:
        return Pixels(name, None)
    return Pixels(name, names, {value: value for value in range(len(names))} | {IGNORED: -1})


def _is_picture(feature) -> bool:
    return isinstance(feature, tfds.features.Image)


def _is_class(feature) -> bool:
    """Whether a feature is the number of a class: it says so itself, or is a single integer."""
    is_number = isinstance(feature, tfds.features.Tensor) and feature.shape == ()
    return is_number and np.issubdtype(feature.np_dtype, np.integer)


def _names(feature) -> tuple[str, ...] | None:
    """The classes of a feature; those without names are called by their numbers."""
    return tuple(feature.names) if getattr(feature, "num_classes", None) else None
