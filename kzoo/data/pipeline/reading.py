"""A picture and its labels as tensors, at the size at which they are kept."""

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf
from PIL import Image

from kzoo.data.borders import border_map, distances, instances_of, separated
from kzoo.data.faults import FAULTY_PICTURES_ALLOWED, PLACES_TOLD, DataError, DataWarning
from kzoo.data.masks import MASK_SIZE, within_box
from kzoo.data.resize import FILLS, fit, padded, resized, scale_to, working_size
from kzoo.data.sources import Split


@dataclass(frozen=True)
class Reader:
    """A function, to be mapped, from a picture's place in the split to the picture and what is in it.

    Attributes:
        parts: type and shape of each of its parts, by their names.
        arrays: the parts of the picture at a place, in this order. Several threads may call it.
    """

    parts: dict[str, tuple[tf.DType, list[int | None]]]
    arrays: Callable[[int], list[np.ndarray]]

    def __call__(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """The parts, and `image_id`, which is the place, int64 [], unless it is one of them."""
        types = [dtype for dtype, _ in self.parts.values()]
        values = tf.numpy_function(lambda place: self.arrays(int(place)), [index], types)
        shapes = [shape for _, shape in self.parts.values()]
        example = dict(zip(self.parts, map(tf.ensure_shape, values, shapes), strict=True))
        return {"image_id": index} | example


def reader(
    split: Split,
    task: str,
    max_objects: int,
    image_size: tuple[int, int] | None,
    resize: str,
    zoom: float | None,
    border_sigma: float | None = None,
    usual_zoom: float = 1.0,
) -> Reader:
    """What reads the pictures of a split.

    Args:
        split: the pictures.
        task: what is to be learnt: it tells what comes with the picture. "classification": `label`, its
            class. "segmentation": `labels` uint8 [h, w, 1], the class of each pixel plus 1, where 0 is
            ignored. Else `boxes` and `classes`, and for "instance_segmentation" `masks`.
        max_objects: G, to which boxes and classes are padded.
        image_size: height and width that the model is given; None is each picture's own.
        resize: "letterbox" or "stretch".
        zoom: None: everything comes as the model is given it. Else pictures come without padding, large
            enough to be enlarged by this factor, and boxes in the picture's own pixels: augmentation does
            the rest.
        border_sigma: of "segmentation": `labels` have a line where instances touch, and there are `borders`
            uint8 [h, w, 1], as of `kzoo.data.borders.border_map`. In pixels of the picture as the model
            usually is given it, as is the line's width.
        usual_zoom: the factor on top of the one with which the picture fits that it usually has there.

    The `masks` [n, 56, 56] are within boxes and not padded: a picture with few objects takes little memory.
    """
    area = (None, None) if zoom or not image_size else image_size
    parts = {
        "images": (tf.uint8, [*area, 3]),
        "original_size": (tf.int32, [2]),
        "scale": (tf.float32, [2]),
    }
    if task == "classification":
        parts["label"] = (tf.int32, [])
    elif task == "segmentation":
        parts["labels"] = (tf.uint8, [*area, 1])
        if border_sigma:
            parts["borders"] = (tf.uint8, [*area, 1])
    else:
        parts["boxes"] = (tf.float32, [max_objects, 4])
        parts["classes"] = (tf.int32, [max_objects])
    if task == "instance_segmentation":
        parts["masks"] = (tf.uint8, [None, MASK_SIZE, MASK_SIZE])

    def read(index):
        picture = split.read(index)
        size = picture.shape[:2]
        given_size = image_size or size
        fitted = fit(size, given_size, resize)
        scale = scale_to(fitted, size)
        kept_size = working_size(size, given_size, resize, zoom)
        example = {"original_size": np.array(size, np.int32), "scale": scale}
        layers = {"images": resized(picture, kept_size)}
        if "label" in parts:
            example["label"] = split.classes[index][0]
        if "labels" in parts:
            labels = (split.read_labels(index) + 1).astype(np.uint8)
            layers["labels"] = resized(labels, kept_size, Image.Resampling.NEAREST)[..., None]
        if "borders" in parts:
            instances = resized(
                instances_of(split.read_masks(index), size), kept_size, Image.Resampling.NEAREST
            )
            usual_size = tuple(usual_zoom * length for length in fitted)
            layers |= _set_apart(layers["labels"], instances, usual_size, border_sigma)
        if "masks" in parts:
            example["masks"] = _within_boxes(split.read_masks(index), split.boxes[index])
        if "boxes" in parts:
            boxes, classes = split.boxes[index], split.classes[index]
            boxes = boxes if zoom else boxes * scale[[1, 0, 1, 0]]
            free = max_objects - len(classes)
            example["boxes"] = np.pad(boxes, [(0, free), (0, 0)])
            example["classes"] = np.pad(classes, (0, free), constant_values=-1)
        if not zoom:
            layers = {name: padded(layer, given_size, FILLS[name]) for name, layer in layers.items()}
        example |= layers
        return [example[name] for name in parts]

    return Reader(parts, read)


def replacing(reader: Reader, count: int, told: str) -> Reader:
    """What reads the next picture in place of one that cannot be read, so that learning goes on.

    For damage that only decoding finds, and files that went meanwhile. Which picture takes the place follows
    from the split alone, and `image_id` is that picture's. Each of the first ten is told when it is found,
    then their number whenever it has doubled.

    Args:
        reader: that reads the pictures.
        count: of the split.
        told: what messages call it.

    Raises, where it reads:
        DataError: more than a tenth of the pictures cannot be read.
    """
    faulty, lock = set(), threading.Lock()

    def note(index: int, error: DataError) -> None:
        with lock:
            is_new = index not in faulty
            faulty.add(index)
            number = len(faulty)
        if number * FAULTY_PICTURES_ALLOWED > count:
            head = f"{told}: {number} of {count} pictures cannot be read, which is more than a tenth"
            raise DataError(f"{head}. Please mend the data; such as {error}", error.kind) from None
        if is_new and (number <= PLACES_TOLD or number & (number - 1) == 0):
            head = f"{told}: {number} of {count} pictures cannot be read so far"
            warnings.warn(f"{head}, the next ones take their places. {error}", DataWarning, stacklevel=2)

    def arrays(index: int) -> list[np.ndarray]:
        while True:
            try:
                return [*reader.arrays(index), np.int64(index)]
            except DataError as error:
                note(index, error)
            index = (index + 1) % count

    return replace(reader, parts=reader.parts | {"image_id": (tf.int64, [])}, arrays=arrays)


def _within_boxes(masks, boxes):
    """Run lengths and boxes, both in own pixels, as uint8 [n, 56, 56]."""
    samples = [within_box(mask, box) for mask, box in zip(masks, boxes, strict=True)]
    return np.array(samples, np.uint8).reshape(-1, MASK_SIZE, MASK_SIZE)


def _set_apart(labels, instances, usual_size, sigma):
    """Labels [h, w, 1] with a line between touching instances [h, w], and the borders between all of them.

    Sigma and the line's width are in pixels of the picture at its usual height and width.
    """
    spacing = tuple(usual / kept for usual, kept in zip(usual_size, instances.shape, strict=True))
    first, second = distances(instances, sigma, spacing)
    apart = separated(labels[..., 0], instances, second, background=1, spacing=spacing)
    return {"labels": apart[..., None], "borders": border_map(first, second, sigma)[..., None]}
