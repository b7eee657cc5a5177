"""Data held against the model that is to take it, before anything is computed."""

import keras
import numpy as np
import tensorflow as tf

from kzoo.classes import CROWD
from kzoo.data.masks import MASK_SIZE


def check_data(model: keras.Model, argument: str, data: object, *, targets: bool) -> None:
    """Raises an error if data is not what a model takes.

    Looked at are datasets, dicts of arrays, and arrays of pictures; generators pass.

    Args:
        model: a model of the zoo.
        argument: what the caller calls the data.
        data: what is given to `fit`, `evaluate` or `predict`.
        targets: whether the model is to learn from it, or to be measured.

    Raises:
        ValueError: pictures have another shape than the model takes, a target is missing, targets do not go
            together, or the classes are not those that the model was built for.
    """
    batch = data.element_spec if isinstance(data, tf.data.Dataset) else data
    if isinstance(data, tf.data.Dataset) and isinstance(batch, tuple):
        if targets and len(batch) > 1:
            raise ValueError(
                f"{argument}: the dataset has tuples of {len(batch)}; a dict of pictures and "
                "targets is expected, a batch of {"
                + ", ".join(f'"{name}": ...' for name in model.input)
                + "}."
            )
        batch = batch[0]
    shapes = _shapes(batch)
    if shapes is None:
        return
    wanted = list(model.input)
    missing = [name for name in (wanted if targets else ["images"]) if name not in shapes]
    if missing:
        raise ValueError(
            f"{argument}: a batch has {', '.join(map(str, shapes))}, but no {' and no '.join(missing)}. "
            f"A batch is a dict of {', '.join(wanted)}."
        )
    check_pictures(model, argument, shapes["images"])
    if targets:
        _check_targets(model, argument, {name: shapes[name] for name in wanted})
        if isinstance(data, dict):
            _check_values(model, argument, {name: data[name] for name in wanted})
        _check_classes(model, argument, data)


def check_pictures(model: keras.Model, argument: str, shape: tuple[int | None, ...]) -> None:
    """Raises an error if a model does not take pictures of this shape.

    Args:
        model: a model of the zoo.
        argument: what the caller calls the pictures.
        shape: of a batch of them, None where it is not known.

    Raises:
        ValueError: it is not `[B, H, W, 3]`, there is no picture, they are of another size than the model was
            built for, or they are too small.
    """
    height, width, channels = model.input["images"].shape[1:]
    expected = (None, height, width, channels)
    if len(shape) != 4 or any(
        None not in (want, have) and want != have for want, have in zip(expected, shape, strict=True)
    ):
        raise ValueError(f"{argument}: pictures of shape {shape}, but this model takes {expected}.")
    if shape[0] == 0:
        raise ValueError(f"{argument}: there is no picture in the batch.")
    if any(side is not None and side < model.least_size for side in shape[1:3]):
        raise ValueError(
            f"{argument}: pictures of {shape[1]} by {shape[2]} pixels are too small for this model; the "
            f"least is {model.least_size} by {model.least_size}, the stride of its coarsest level."
        )


def _shapes(batch: object) -> dict[str, tuple[int | None, ...]] | None:
    """The shapes of a batch's parts by name; None where that cannot be known."""
    if not isinstance(batch, dict):
        batch = {"images": batch}
    if not all(hasattr(part, "shape") for part in batch.values()):
        return None
    known = {name: part.shape for name, part in batch.items()}
    if any(shape.rank is None for shape in known.values() if isinstance(shape, tf.TensorShape)):
        return None
    return {name: tuple(shape) for name, shape in known.items()}


def _check_targets(model: keras.Model, argument: str, shapes: dict[str, tuple[int | None, ...]]) -> None:
    """Refuses targets of shapes that do not go together."""
    of_rank = {1: "[B]", 2: "[B, G]", 3: "[B, H, W]"}  # a class a picture, an object, a pixel
    lengths = {name: shape[0] for name, shape in shapes.items() if shape[:1] not in ((), (None,))}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise ValueError(f"{argument}: its parts are of different numbers of pictures: {told}.")
    expected = {"boxes": "[B, G, 4]", "masks": "[B, G, m, m]", "borders": "[B, H, W]"}
    if "classes" in model.input:
        expected["classes"] = of_rank[len(model.input["classes"].shape)]
    for name, shape in shapes.items():
        wrong = name in expected and len(shape) != expected[name].count(",") + 1
        if wrong or (name == "boxes" and shape[-1] not in (4, None)):
            raise ValueError(f"{argument}: {name} of shape {shape}, but {expected[name]} is expected.")
        sides = zip(shape[1:3], shapes["images"][1:3], strict=False)
        if expected.get(name) == "[B, H, W]" and any(
            None not in (own, given) and own != given for own, given in sides
        ):
            raise ValueError(
                f"{argument}: {name} of shape {shape}, but pictures of shape {shapes['images']}: a pixel "
                "each is expected."
            )
    slots = {
        name: shape[1]
        for name, shape in shapes.items()
        if "G" in expected.get(name, "") and shape[1] is not None
    }
    if len(set(slots.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in slots.items())
        raise ValueError(f"{argument}: boxes, classes and masks of a picture differ in number: {told}.")
    if "masks" in shapes:
        height, width = shapes["masks"][2:]
        in_pixels = height != MASK_SIZE and None not in (height, width)
        in_pixels = in_pixels and (height, width) == shapes["images"][1:3]
        if in_pixels or (None not in (height, width) and height != width):
            raise ValueError(
                f"{argument}: masks of {height} by {width} seem to be in pixels of the picture. Each is to "
                "be told within its box, m by m: kzoo.data.masks.within_box(mask, box) makes one so."
            )


def _check_values(model: keras.Model, argument: str, arrays: dict[str, object]) -> None:
    """Refuses arrays of targets with values that they cannot have."""
    if "classes" in arrays:
        classes = _counted(model, argument, arrays["classes"])
        of_objects = classes.ndim == 2
        if np.min(classes, initial=0) < (CROWD if of_objects else -1):
            others = f"-1 is padding and {CROWD} a crowd" if of_objects else "-1 is unknown"
            raise ValueError(
                f"{argument}: class {np.min(classes)} is in it; classes are counted from 0, {others}."
            )
    if "boxes" in arrays and not np.isfinite(arrays["boxes"]).all():
        raise ValueError(
            f"{argument}: boxes have values that are not finite; numbers of pixels are expected."
        )
    if "masks" in arrays and np.max(arrays["masks"], initial=0) > 1:
        highest = np.max(arrays["masks"])
        raise ValueError(f"{argument}: masks have values up to {highest}; 0 and 1 are expected.")


def _check_classes(model: keras.Model, argument: str, data: object) -> None:
    if model.num_classes is None:
        return
    if isinstance(data, dict) and "classes" in data:
        highest = int(np.max(_counted(model, argument, data["classes"]), initial=-1))
        if highest >= model.num_classes:
            raise ValueError(
                f"{argument}: class {highest} is in it, but the model was built with "
                f"num_classes={model.num_classes}: 0 to {model.num_classes - 1}, and -1 for padding."
            )
    classes = _classes_of(data)
    if classes is not None and len(classes) != model.num_classes:
        raise ValueError(
            f"{argument}: the data has {len(classes)} classes ({', '.join(classes)}), but the model was "
            f"built with num_classes={model.num_classes}. Build it with num_classes={len(classes)}, or give "
            "the data's loader the classes to use."
        )


def _counted(model: keras.Model, argument: str, classes: object) -> np.ndarray:
    """Classes as an array; those which a model of pixels ignores, whatever their number, are -1."""
    classes = np.asarray(classes)
    if classes.dtype.kind not in "iubf" or (classes != np.floor(classes)).any():
        raise ValueError(
            f"{argument}: classes of type {classes.dtype}; whole numbers are expected, the places of the "
            "names in the list of classes."
        )
    classes = classes.astype(np.int64)
    ignored = (model.zoo_options or {}).get("ignored_label", -1)
    return classes if ignored == -1 else np.where(classes == ignored, -1, classes)


def _classes_of(dataset: object) -> tuple[str, ...] | None:
    """The classes of a dataset of `kzoo.data.load`, also after `repeat` or `take`, but not `map`."""
    while dataset is not None and not hasattr(dataset, "classes") and "Map" not in type(dataset).__name__:
        dataset = getattr(dataset, "_input_dataset", None)
    return getattr(dataset, "classes", None)
