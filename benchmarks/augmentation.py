"""Pictures a second that are changed at random, with their boxes: kzoo's way, Keras's layers, keras-cv's.

    python benchmarks/augmentation.py --data voc:/data/bccd

All are given the same pictures, from memory, and make float32 or uint8 pictures of one size of them, as maps
of `tf.data`: with a mirror picture, scale jitter with crop and colours; with a rotation alone; with all of
these. Layers are asked batch by batch, Keras's picture by picture, too. Prints a Markdown table; the last
column is how well boxes fit after the first of the three: the mean IoU with what is seen of white rectangles
on black.

What is not right in the layers, with Keras 3.15 and keras-cv 0.9:

- They sample once for each layer: each resizing, zoom and rotation blurs anew.
- A zoom of Keras's layers is about the middle; that crops lie anywhere takes a shift, which fills up even
  where the picture is larger than what is given. It is left out here, in Keras's favour.
- A cut object stays however little of it is left: there is no share below which it goes. Crowd regions and
  masks within boxes are not known to them. Boxes that are turned are those about the turned corners.
- keras-cv's rotation fails on single pictures behind its other layers, with ragged boxes and dense classes.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import keras_cv
import numpy as np
import tensorflow as tf
import tyro

from kzoo.data import Augmentation
from kzoo.data.augmentation import augment
from kzoo.data.resize import fit, resized, scale_to
from kzoo.data.sources import open_source, open_split

USUAL = Augmentation(aspect=(1.0, 1.0))
STILL = replace(
    USUAL, horizontal_flip=0.0, zoom=(1.0, 1.0), brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0
)
KINDS = {
    "flip, scale jitter, colour": (USUAL, 0.0),
    "rotation": (STILL, 15.0),
    "all of these": (USUAL, 15.0),
}
Pictures = tuple[np.ndarray, np.ndarray, np.ndarray]  # uint8 [N, h, w, 3], boxes [N, G, 4], classes [N, G]


@dataclass(frozen=True)
class Settings:
    """Pictures a second that are changed at random."""

    data: str = "shapes"
    split: str = "train"
    count: int = 64
    """Pictures of it, which are brought to one size before anything is measured."""
    own_size: tuple[int, int] = (480, 640)
    image_size: tuple[int, int] = (512, 512)
    batch_size: int = 8
    runs: int = 5
    """How often each goes over them all; the fastest is told."""


def pictures_of(settings: Settings) -> Pictures:
    """What there is to be changed."""
    source = open_source(settings.data, task="detection")
    split = open_split(source, f"{settings.split}[:{settings.count}]")
    images = np.stack([resized(split.read(index), settings.own_size) for index in range(len(split))])
    boxes = np.zeros([len(split), source.max_objects, 4], np.float32)
    classes = np.full([len(split), source.max_objects], -1, np.int32)
    for index, (own, labels) in enumerate(zip(split.boxes, split.classes, strict=True)):
        scale = scale_to(settings.own_size, split.sizes[index])[[1, 0, 1, 0]]
        boxes[index, : len(own)], classes[index, : len(own)] = own * scale, labels
    return images, boxes, classes


def rectangles(settings: Settings, count: int = 200) -> Pictures:
    """White rectangles on black, one in each picture."""
    rng = np.random.default_rng(0)
    height, width = settings.own_size
    images = np.zeros([count, height, width, 3], np.uint8)
    boxes = np.zeros([count, 1, 4], np.float32)
    for image, box in zip(images, boxes, strict=True):
        x, y = rng.integers(0, [width - 120, height - 120])
        x2, y2 = np.array([x, y]) + rng.integers(40, 120, 2)
        image[y:y2, x:x2], box[0] = 255, (x, y, x2, y2)
    return images, boxes, np.zeros([count, 1], np.int32)


def ours(pictures: Pictures, settings: Settings, change: Augmentation, degrees: float) -> tf.data.Dataset:
    """Changed by kzoo."""
    scale = scale_to(fit(settings.own_size, settings.image_size, "letterbox"), settings.own_size)
    change = replace(change, rotate=degrees)

    def changed(images, boxes, classes, seed):
        example = {"images": images, "boxes": boxes, "classes": classes}
        example |= {"original_size": tf.constant(settings.own_size), "scale": tf.constant(scale)}
        got = augment(example, tf.stack([seed, 0]), settings.image_size, change)
        return got["images"], got["boxes"], got["classes"]

    seeds = tf.data.Dataset.range(len(pictures[0]))
    dataset = tf.data.Dataset.zip(*map(tf.data.Dataset.from_tensor_slices, pictures), seeds)
    return dataset.map(changed, num_parallel_calls=tf.data.AUTOTUNE).batch(settings.batch_size)


def keras_layers(settings: Settings, change: Augmentation, degrees: float) -> list[keras.Layer]:
    """Keras's layers that do this."""
    boxes = {"bounding_box_format": "xyxy", "dtype": "float32"}
    layers = [keras.layers.Resizing(*settings.image_size, pad_to_aspect_ratio=True, **boxes)]
    if change is USUAL:
        smallest, largest = change.zoom
        layers += [
            keras.layers.RandomFlip("horizontal", **boxes),
            keras.layers.RandomZoom((1 / largest - 1, 1 / smallest - 1), fill_mode="constant", **boxes),
            keras.layers.RandomColorJitter(
                (0, 255), change.brightness, change.contrast, (0.35, 0.65), change.hue, **boxes
            ),
        ]
    if degrees:
        layers.append(keras.layers.RandomRotation(degrees / 360, fill_mode="constant", **boxes))
    return layers


def keras_cv_layers(settings: Settings, change: Augmentation, degrees: float) -> list[keras.Layer]:
    """keras-cv's layers that do this."""
    boxes = {"bounding_box_format": "xyxy"}
    if change is USUAL:
        layers = [
            keras_cv.layers.RandomFlip("horizontal", **boxes),
            keras_cv.layers.JitteredResize(settings.image_size, change.zoom, **boxes),
            keras_cv.layers.RandomColorJitter(
                (0, 255), change.brightness, change.contrast, change.saturation, change.hue
            ),
        ]
    else:
        layers = [keras_cv.layers.Resizing(*settings.image_size, pad_to_aspect_ratio=True, **boxes)]
    if degrees:
        layers.append(keras_cv.layers.RandomRotation(degrees / 360, fill_mode="constant", **boxes))
    return layers


def theirs(
    pictures: Pictures, settings: Settings, layers: list, by_batch: bool, labels: str
) -> tf.data.Dataset:
    """Changed by layers."""
    images, boxes, classes = pictures
    slots = boxes.shape[1]
    boxes = np.where(classes[..., None] >= 0, boxes, -1)

    def changed(images, boxes, classes):
        example = {"images": images, "bounding_boxes": {"boxes": boxes, labels: classes}}
        for layer in layers:
            example = layer(example, training=True)
        found = example["bounding_boxes"]
        if labels == "classes":
            found = keras_cv.bounding_box.to_dense(found, max_boxes=slots)
        return example["images"], found["boxes"], found[labels]

    dataset = tf.data.Dataset.from_tensor_slices((images, boxes, classes.astype(np.float32)))
    if by_batch:
        return dataset.batch(settings.batch_size).map(changed, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.map(changed, num_parallel_calls=tf.data.AUTOTUNE).batch(settings.batch_size)


def pictures_a_second(dataset: tf.data.Dataset, count: int, runs: int) -> float:
    """The fastest of some runs, after one that warms up."""
    dataset, seconds = dataset.prefetch(tf.data.AUTOTUNE), []
    for _ in range(1 + runs):
        begin = time.perf_counter()
        for _ in dataset:
            pass
        seconds.append(time.perf_counter() - begin)
    return count / min(seconds[1:])


def fit_of_boxes(dataset: tf.data.Dataset) -> float:
    """The mean IoU of each first box with what is seen of a white rectangle, if 300 pixels are."""
    found = []
    for images, boxes, classes in dataset.unbatch().as_numpy_iterator():
        bright = images[..., 1] > 0.5 * images.max()
        frame = (images == images[..., :1]).all(axis=-1) & (images[..., 1] == 114)  # what kzoo fills up with
        bright &= ~frame
        if bright.sum() < 300 or classes[0] < 0:
            continue
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        low, high = np.maximum(seen[:2], boxes[0, :2]), np.minimum(seen[2:], boxes[0, 2:])
        both = np.prod(np.maximum(high - low, 0))
        areas = sum(np.prod(box[2:] - box[:2]) for box in (seen, boxes[0]))
        found.append(both / (areas - both))
    return float(np.mean(found))


def ways(settings: Settings) -> dict[str, Callable]:
    """Each way by its name: a function of the pictures, the change and degrees."""

    def of_layers(layers, by_batch, labels):
        return lambda pictures, change, degrees: theirs(
            pictures, settings, layers(settings, change, degrees), by_batch, labels
        )

    return {
        "kzoo": lambda pictures, change, degrees: ours(pictures, settings, change, degrees),
        "keras.layers, by picture": of_layers(keras_layers, False, "labels"),
        "keras.layers, by batch": of_layers(keras_layers, True, "labels"),
        "keras_cv.layers, by batch": of_layers(keras_cv_layers, True, "classes"),
    }


def main(settings: Settings) -> None:
    """Measures all, one after another."""
    pictures, known = pictures_of(settings), rectangles(settings)
    count = len(pictures[0])
    told = f"{count} pictures of {settings.data}, {settings.own_size} to {settings.image_size}"
    print(f"{told}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the beginning.\n")
    print("| pictures a second | " + " | ".join(KINDS) + " | fit of boxes |")
    print("|---|" + "---:|" * (len(KINDS) + 1))
    plain = replace(USUAL, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    for name, way in ways(settings).items():
        rates = [
            f"{pictures_a_second(way(pictures, *kind), count, settings.runs):.0f}" for kind in KINDS.values()
        ]
        still = way(known, plain if name == "kzoo" else USUAL, 0.0)
        print(f"| {name} | {' | '.join(rates)} | {fit_of_boxes(still):.2f} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings))
