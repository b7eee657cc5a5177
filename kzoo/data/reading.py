"""A picture and its labels as tensors, at the size at which they are kept."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image

from kzoo.data.masks import MASK_SIZE, decode, within_box
from kzoo.data.resize import PADDING, fit, padded, resized, scale_to, working_size
from kzoo.data.source import Split


def reader(
    split: Split, task: str, max_objects: int, image_size: tuple[int, int], resize: str, zoom: float | None
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """A function, to be mapped, from a picture's place in the split to the picture and its labels.

    Args:
        split: the pictures.
        task: what is to be learnt: it tells whether to read `masks` or a `segmentation` [h, w, 1].
        max_objects: G, to which boxes and classes are padded.
        image_size: height and width that the model is given.
        resize: "letterbox" or "stretch".
        zoom: None: everything comes as the model is given it. Else pictures come without padding, large
            enough to be enlarged by this factor, and boxes in the picture's own pixels: augmentation does
            the rest.

    The `masks` [n, 56, 56] are within boxes and not padded: a picture with few objects takes little memory.
    """
    area = (None, None) if zoom else image_size
    parts = {
        "images": (tf.uint8, [*area, 3]),
        "boxes": (tf.float32, [max_objects, 4]),
        "classes": (tf.int32, [max_objects]),
        "original_size": (tf.int32, [2]),
        "scale": (tf.float32, [2]),
    }
    if task == "instance_segmentation":
        parts["masks"] = (tf.uint8, [None, MASK_SIZE, MASK_SIZE])
    if task == "segmentation":
        parts["segmentation"] = (tf.uint8, [*area, 1])

    def read(index):
        picture, boxes, classes = split.read(int(index)), split.boxes[index], split.classes[index]
        size = picture.shape[:2]
        scale = scale_to(fit(size, image_size, resize), size)
        kept_size = working_size(size, image_size, resize, zoom)
        layers = {"images": resized(picture, kept_size)}
        if "segmentation" in parts:
            labels = _segmentation(split.read_masks(int(index)), classes, size)
            layers["segmentation"] = resized(labels, kept_size, Image.Resampling.NEAREST)[..., None]
        masks = _within_boxes(split.read_masks(int(index)), boxes) if "masks" in parts else None
        if not zoom:
            boxes = boxes * scale[[1, 0, 1, 0]]
            layers = {
                name: padded(layer, image_size, PADDING if name == "images" else 0)
                for name, layer in layers.items()
            }
        free = max_objects - len(classes)
        example = layers | {
            "boxes": np.pad(boxes, [(0, free), (0, 0)]),
            "classes": np.pad(classes, (0, free), constant_values=-1),
            "original_size": np.array(size, np.int32),
            "scale": scale,
            "masks": masks,
        }
        return [example[name] for name in parts]

    def read_in_graph(index):
        values = tf.numpy_function(read, [index], [dtype for dtype, _ in parts.values()])
        shapes = [shape for _, shape in parts.values()]
        example = dict(zip(parts, map(tf.ensure_shape, values, shapes), strict=True)) | {"image_id": index}
        if task == "classification":
            # A copy, which stays even where augmentation moves the object out of view.
            example["label"] = example["classes"][0]
        return example

    return read_in_graph


def _within_boxes(masks, boxes):
    """Run lengths and boxes, both in own pixels, as uint8 [n, 56, 56]."""
    samples = [within_box(mask, box) for mask, box in zip(masks, boxes, strict=True)]
    return np.array(samples, np.uint8).reshape(-1, MASK_SIZE, MASK_SIZE)


def _segmentation(masks, classes, size):
    """Run lengths as one layer uint8 [H, W] of class + 1; later objects cover earlier ones."""
    labels = np.zeros(size, np.uint8)
    for mask, label in zip(masks, classes, strict=True):
        labels[decode(mask)] = label + 1
    return labels
