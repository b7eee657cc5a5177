"""Pictures a second of the input pipeline: of each of its stages, and of all of it beside others.

    python benchmarks/input_pipeline.py --data voc:/data/bccd

Detection at one size and in batches: a flip, a change of scale with a crop, colours, boxes. Once as they
come from the files, and once more in later epochs, when all keep in memory what the first one read; the zoo
also where a folder keeps it. Keras's and keras-cv's layers run in `tf.data`, on single pictures, behind
`tf.io.decode_jpeg`. torchvision is asked by `input_pipeline_torchvision.py`, in its own environment. Prints
Markdown tables.
"""

import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import keras_cv
import numpy as np
import tensorflow as tf
import tyro

import kzoo.data
from kzoo.data.augmentation import augment
from kzoo.data.faults import DataWarning
from kzoo.data.pictures import check_picture, read_picture
from kzoo.data.pipeline.order import Order
from kzoo.data.pipeline.reading import reader
from kzoo.data.resize import fit, resized
from kzoo.data.sources import Split, open_source, open_split

ZOOM = (0.7, 1.4)  # as kzoo.data.Augmentation's, which the others are given, too
MOST = 60  # boxes in a picture, to which the others fill up
COLOUR = {"brightness": 0.12, "contrast": 0.25, "saturation": 0.3, "hue": 0.02}


@dataclass(frozen=True)
class Settings:
    """Pictures a second of the input pipeline."""

    data: str
    """Where the pictures are from, such as voc:DIR; JPEG files for the libraries beside it."""
    split: str = "train"
    image_size: tuple[int, int] = (512, 512)
    batch_size: int = 8
    epochs: int = 4
    """One that reads the files, and so many less one that follow; of these the fastest is told."""
    torchvision: str = ""
    """The interpreter of an environment with torchvision; none leaves it out."""
    workers: int = 2
    """Processes of torchvision's loader."""


def seconds_of(work: Callable[[], object]) -> float:
    """How long something takes, once."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def each(function: Callable, items: Iterable) -> Callable[[], None]:
    """A function of all items, in one thread."""

    def work():
        for item in items:
            function(item)

    return work


def stages(split: Split, settings: Settings) -> dict[str, float]:
    """Seconds that each stage takes for all pictures: those in Python in one thread, then those of `load`."""
    count, size = len(split), settings.image_size
    paths = [Path(name) for name in split.names]
    pictures = [read_picture(path) for path in paths]
    sizes = [fit(picture.shape[:2], size, "letterbox") for picture in pictures]
    given = kzoo.data.Augmentation()
    read = reader(split, "detection", MOST, size, "letterbox", given.zoom[1])
    order = Order(count, shuffled=True, seed=0)
    kept = tf.data.Dataset.range(count).map(read).cache()
    drain(kept)

    def changed(example):
        return augment(example, order.draws(example["image_id"]), size, given)

    options = {"image_size": size, "batch_size": settings.batch_size, "split": settings.split}
    plain = kzoo.data.load(settings.data, cache="memory", **options)
    augmented = kept.map(changed, num_parallel_calls=tf.data.AUTOTUNE)
    for dataset in (plain, augmented):
        drain(dataset)  # traces it
    found = {
        "header check": seconds_of(each(check_picture, paths)),
        "read the file": seconds_of(each(Path.read_bytes, paths)),
        "read and decode": seconds_of(each(read_picture, paths)),
        "resize": seconds_of(each(lambda both: resized(*both), list(zip(pictures, sizes, strict=True)))),
        "augment": seconds_of(lambda: drain(augmented)),
        "batch of what is in memory": seconds_of(lambda: drain(plain)),
    }
    return {stage: count / seconds for stage, seconds in found.items()}


def drain(dataset: tf.data.Dataset) -> None:
    """Takes all that a data set has, and leaves it where it is."""
    for _ in dataset:
        pass


def epochs_of(dataset: tf.data.Dataset, count: int, settings: Settings) -> tuple[float, float]:
    """Pictures a second of the first epoch, and of the fastest later one."""
    seconds = [seconds_of(lambda: drain(dataset)) for _ in range(settings.epochs)]
    return count / seconds[0], count / min(seconds[1:])


def of_layers(split: Split, settings: Settings, change: Callable) -> tf.data.Dataset:
    """Files decoded by TensorFlow, kept in memory, shuffled, changed picture by picture, in batches."""
    boxes = np.full([len(split), MOST, 4], -1, np.float32)
    classes = np.full([len(split), MOST], -1, np.float32)
    for row, (of_one, labels) in enumerate(zip(split.boxes, split.classes, strict=True)):
        boxes[row, : len(of_one)], classes[row, : len(labels)] = of_one, labels

    def read(path, boxes, labels):
        picture = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        picture.set_shape([*common, 3])
        return {"images": picture, "bounding_boxes": {"boxes": boxes, labels_name: labels}}

    common = split.sizes[0] if len(set(split.sizes)) == 1 else (None, None)
    labels_name = "classes" if change is keras_cv_layers else "labels"
    dataset = tf.data.Dataset.from_tensor_slices((list(split.names), boxes, classes))
    dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE).cache()
    dataset = dataset.shuffle(len(split)).map(change(settings), num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(settings.batch_size).prefetch(tf.data.AUTOTUNE)


def keras_layers(settings: Settings) -> Callable:
    """Keras's layers."""
    layers = [
        keras.layers.Resizing(
            *settings.image_size, pad_to_aspect_ratio=True, bounding_box_format="xyxy", dtype="float32"
        ),
        keras.layers.RandomFlip("horizontal", bounding_box_format="xyxy"),
        keras.layers.RandomZoom(
            (1 / ZOOM[1] - 1, 1 / ZOOM[0] - 1), fill_mode="constant", bounding_box_format="xyxy"
        ),
        keras.layers.RandomColorJitter(
            (0, 255),
            brightness_factor=COLOUR["brightness"],
            contrast_factor=COLOUR["contrast"],
            saturation_factor=(0.35, 0.65),
            bounding_box_format="xyxy",
            hue_factor=COLOUR["hue"],
        ),
    ]

    def change(example):
        for layer in layers:
            example = layer(example, training=True)
        return example

    return change


def keras_cv_layers(settings: Settings) -> Callable:
    """keras-cv's layers, those of its own recipe for RetinaNet and a change of colours."""
    layers = [
        keras_cv.layers.RandomFlip("horizontal", bounding_box_format="xyxy"),
        keras_cv.layers.JitteredResize(settings.image_size, ZOOM, bounding_box_format="xyxy"),
        keras_cv.layers.RandomColorJitter(
            (0, 255),
            brightness_factor=COLOUR["brightness"],
            contrast_factor=COLOUR["contrast"],
            saturation_factor=COLOUR["saturation"],
            hue_factor=COLOUR["hue"],
        ),
    ]

    def filled(rows):  # what a layer left of them, as many again
        free = [[0, MOST - tf.shape(rows)[0]], *[[0, 0]] * (rows.shape.rank - 1)]
        return tf.pad(rows, free, constant_values=-1)

    def change(example):
        for layer in layers:
            example = layer(example, training=True)
        boxes = {name: filled(rows) for name, rows in example["bounding_boxes"].items()}
        return {"images": example["images"], "bounding_boxes": boxes}

    return change


def ask_torchvision(split: Split, settings: Settings) -> str:
    """The row of torchvision's, from its own environment."""
    script = Path(__file__).with_name("input_pipeline_torchvision.py")
    height, width = map(str, settings.image_size)
    numbers = [height, width, str(settings.batch_size), str(settings.epochs), str(settings.workers)]
    files = "\n".join(
        f"{name}\t{boxes.tolist()}" for name, boxes in zip(split.names, split.boxes, strict=True)
    )
    command = [settings.torchvision, str(script), *numbers]
    return subprocess.run(command, input=files, text=True, capture_output=True, check=True).stdout.strip()


def main(settings: Settings) -> None:
    """Measures all, one after another."""
    warnings.simplefilter("ignore", DataWarning)
    begin = time.perf_counter()
    split = open_split(open_source(settings.data, task="detection"), settings.split)
    count = len(split)
    told = f"{count} pictures of {settings.data}, {os.cpu_count()} cores"
    print(f"{told}, load {os.getloadavg()[0]:.1f} at the beginning.\n")
    rows = {}
    options = {
        "image_size": settings.image_size,
        "batch_size": settings.batch_size,
        "split": settings.split,
        "augment": True,
    }
    rows["kzoo"] = epochs_of(kzoo.data.load(settings.data, **options), count, settings)
    if settings.torchvision:
        first, later = map(float, ask_torchvision(split, settings).split())
        rows[f"torchvision, {settings.workers} workers"] = first, later
    rows["keras-cv's layers"] = epochs_of(of_layers(split, settings, keras_cv_layers), count, settings)
    rows["Keras's layers"] = epochs_of(of_layers(split, settings, keras_layers), count, settings)
    with tempfile.TemporaryDirectory() as folder:
        in_folder = kzoo.data.load(settings.data, cache=folder, **options)
        rows["kzoo, cache=DIR"] = epochs_of(in_folder, count, settings)
    rows["kzoo, once more"] = epochs_of(kzoo.data.load(settings.data, **options), count, settings)
    print("| pictures a second | first epoch | later epochs |\n|---|---:|---:|")
    for name, (first, later) in rows.items():
        print(f"| {name} | {first:.0f} | {later:.0f} |")
    print("\n| stage of kzoo | pictures a second |\n|---|---:|")
    for name, rate in stages(split, settings).items():
        print(f"| {name} | {rate:.0f} |")
    print(f"\n{time.perf_counter() - begin:.0f} s, load {os.getloadavg()[0]:.1f} at the end.")


if __name__ == "__main__":
    main(tyro.cli(Settings))
