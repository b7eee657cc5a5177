"""From the name of data to batches: order, read, resize, keep, augment, batch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from kzoo import __version__
from kzoo.data import augmentation, sources
from kzoo.data.augmentation import Augmentation
from kzoo.data.masks import MASK_SIZE
from kzoo.data.pictures import MAX_PIXELS
from kzoo.data.pipeline.arguments import check_arguments, check_extras, check_place, check_shares, check_task
from kzoo.data.pipeline.caching import in_folder, in_memory
from kzoo.data.pipeline.order import Batches, Order
from kzoo.data.pipeline.passes import in_passes
from kzoo.data.pipeline.reading import reader, replacing
from kzoo.data.resize import working_size
from kzoo.data.sources.damage import without_damaged
from kzoo.data.sources.source import ONE_OBJECT

_MEMORY = 2 * 2**30  # bytes; the pictures of a split that take more are read anew in every epoch


def load(
    spec: str,
    *,
    split: str = "train",
    task: str = "detection",
    image_size: tuple[int, int] | None = None,
    batch_size: int = 8,
    augment: bool | Augmentation = False,
    resize: str = "letterbox",
    shuffle: bool | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    strict: bool = False,
    border_sigma: float | None = None,
    max_pixels: int = MAX_PIXELS,
    cache: str | Path | None = None,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Pictures with what is in them, as batches to train on or to evaluate with.

    Args:
        spec: where the data is: "shapes", "shapes:N", "voc:DIR", "coco:DIR", "coco:INSTANCES.json,IMAGE_DIR",
            "yolo:DIR", "csv:FILE", "folder:DIR", "tfds:NAME", "tfds:DIR", or with options behind commas
            "folder:DIR,image=raw,label=masks,values=0:0+255:1",
            "csv:FILE,image=shot,class=what,box=x+y+dx+dy,format=xywh" or "tfds:NAME,data_dir=DIR".
        split: "train", "val", ...; `kzoo.data.info(spec).splits` has the names. Or a slice of one, such as
            "all[:24]", "all[24:]" or "train[:80%]"; of "tfds:..." also "train[:10]+test".
        task: what is to be learnt: "classification", "box_regression", "detection", "segmentation" or
            "instance_segmentation".
        image_size: height and width that the model is given. None: the pictures' own; where these differ,
            that takes `batch_size=1`, pictures as they are, and a model that takes any size.
        batch_size: pictures in a batch; the last batch of a split has what is left.
        augment: whether pictures are changed at random, each epoch anew; an `Augmentation` says how strongly.
        resize: "letterbox" keeps the proportions and fills up with grey at the bottom and at the right,
            "stretch" does not keep them.
        shuffle: whether the pictures come in random order. None: in the split "train", in its slices, and
            when augmented.
        seed: of order and augmentation, and of data that is drawn. The same seed gives the same batches,
            epoch by epoch, in every process.
        classes: names in the order of their numbers. None: those that the data has.
        strict: whether a single fault in the data is an error, at once: picture files are looked all
            through (a thousand JPEG files of 640 x 480 pixels take up to a second). So they are, too, where
            pictures come in their own order and as they are, as to measure on: what is damaged is left out.
            In others that is found as they are read; then the next picture takes the place, and it is told.
        border_sigma: for "segmentation" of data that tells instances apart: there are `borders`, as wide as
            this many pixels of `images`, and a line of background where two instances touch. U-Net's authors
            took 5.0. Where augmentation zooms, pixels are those at the geometric mean of its factors.
        max_pixels: the most that a picture file may have. One of more is a fault in the data: its header is
            read, and it is not decoded.
        cache: where pictures are kept once they are read and resized. "memory"; or a folder, in which other
            data may be kept, too, and which several processes may share. What a changed picture leaves there
            is written over, but nothing is ever removed: what other sizes or settings left is for you to
            delete, with the folder, at any time. None: in memory if they take no more than 2 GB there, else
            nowhere.
        start: the batch to begin with, counted from 0 over all epochs. Batches are those that an unbroken run
            has from there on, to the last bit. So the number of batches that were taken is all that a
            checkpoint needs to save of its data.
        shard: (index, count): a worker's part of each batch of `batch_size`. The parts of all workers, one
            behind the other, are the batch that one worker alone would have; only its own part is read. See
            `tf.distribute.Strategy.distribute_datasets_from_function`.

    Returns:
        Batches whose number is known (`len`), each a dict with

        - `images`: uint8 [B, H, W, 3], RGB; where sizes differ, H and W are those of each picture.
        - `image_id`: int64 [B], the picture's place in the split.
        - `original_size`: int32 [B, 2], height and width of the picture in its own pixels, as it is seen.
        - `scale`: float32 [B, 2] (y, x), the factor from the pixels on disk to those of `images`, which
          `kzoo.data.to_own_pixels` undoes. Of combined pictures all three are the first one's.

        and what the task is about:

        - "detection" and "box_regression", where G is 1: `boxes` float32 [B, G, 4], xyxy in pixels of
          `images`; G is the most objects that a picture has, times four where augmentation makes mosaics,
          and once more with each of copy-paste and MixUp. `classes` int32 [B, G] from 0. Behind the objects
          come crowd regions, which are -2: what lies in them is neither to be learnt nor to be
          measured. Slots without either are -1, have a zero box and come last.
        - "instance_segmentation": these, and `masks` uint8 [B, G, 56, 56], 1 where the object is seen when
          its box is stretched to these samples; `kzoo.data.masks.paste` brings them back into pixels.
        - "classification": `classes` int32 [B].
        - "segmentation": `classes` int32 [B, H, W], of each pixel from 0. What is not to be learnt is -1:
          what lies outside the picture, and what the data says nothing of. With `border_sigma` also `borders`
          float32 [B, H, W]: exp(-(d1 + d2)^2 / (2 border_sigma^2)) in the background, where d1 and d2 are the
          distances to the nearest two instances in pixels of `images`, and 0 elsewhere (Ronneberger et al.
          2015, equation 2). Augmentation moves and enlarges them as it does the picture.

        The data set itself has the attributes `classes`, the names; `num_pictures`; and `pictures`, the
        `kzoo.data.sources.Split` with what lies on disk, where `image_id` is the index. An iteration
        has as many batches as an epoch, and the next one is the next epoch, also where it was broken off; but
        to look at a first batch moves nothing, unless it is the only one of its epoch.
        `without_end(start, full=False)` gives the batches of all epochs as one sequence, which begins with
        batch `start` whenever it is iterated; with `full` none is smaller than the others, and those across
        the seam of two epochs have pictures of both.

    Raises:
        ValueError: an argument is not what it can be.
        DataError: the data is not what it should be.

    Example:
        batches = kzoo.data.load("voc:bccd", image_size=(256, 320), augment=True)
        model.fit(batches, epochs=30)

        slices = kzoo.data.load("folder:membrane", split="all[:24]", task="segmentation", augment=True)
    """
    check_arguments(image_size, batch_size, resize, shuffle, seed)
    check_extras(task, augment, border_sigma)
    check_place(cache, start, shard, batch_size)
    opened = sources.open_source(spec, task=task, classes=classes, seed=seed, max_pixels=max_pixels)
    pictures = sources.open_split(opened, split, strict=strict)
    told = f'{spec}, split "{split}"'
    settings = Augmentation() if augment is True else augment or None
    if shuffle is None:
        shuffle = split.partition("[")[0] == "train" or settings is not None
    replaces = (shuffle or settings is not None) and not strict
    if not replaces:
        pictures = without_damaged(pictures, told, strict=strict)
    if task not in ("detection", "instance_segmentation"):
        pictures = _without_crowds(pictures)
    check_task(task, spec, pictures, border_sigma)
    if image_size is None:
        image_size = _common_size(pictures.sizes, told, may_differ=batch_size == 1 and settings is None)
    else:
        image_size = tuple(image_size)
    batches = Batches(len(pictures), batch_size, tuple(shard))
    check_shares(batches, told)

    most = 1 if task in ONE_OBJECT else opened.max_objects
    zoom = max(settings.zoom[1], 1.0) if settings else None
    usual_zoom = math.sqrt(math.prod(settings.zoom)) if settings else 1.0
    read = reader(pictures, task, most, image_size, resize, zoom, border_sigma, usual_zoom)
    if cache not in (None, "memory"):
        depends = (__version__, spec, task, opened.info.classes, most, image_size, resize)
        depends += (zoom, border_sigma, usual_zoom, seed if getattr(opened, "is_drawn", False) else None)
        read = in_folder(read, cache, pictures, depends)
    elif cache == "memory" or _bytes_of(pictures, task, image_size, resize, zoom, border_sigma) <= _MEMORY:
        read = in_memory(read)
    if replaces:
        read = replacing(read, len(pictures), told)
    order = Order(len(pictures), shuffle, seed)

    def examples(positions):
        dataset = positions.map(
            lambda position: read(order.picture(position)) | {"position": position},
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        if settings:
            dataset = _augmented(dataset, read, image_size, settings, order)
        return dataset.map(lambda example: _targets(example, task))

    dataset = in_passes(examples, batches, start, one_by_one=image_size is None)
    dataset.classes = opened.info.classes
    dataset.num_pictures = len(pictures.names)
    dataset.pictures = pictures
    return dataset


def _bytes_of(
    pictures: sources.Split,
    task: str,
    image_size: tuple[int, int] | None,
    resize: str,
    zoom: float | None,
    border_sigma: float | None,
) -> int:
    """What all pictures take in memory once they are read."""
    sizes = [working_size(size, image_size or size, resize, zoom) for size in pictures.sizes]
    layers = 3 + (task == "segmentation") + (border_sigma is not None)
    masks = sum(map(len, pictures.classes)) if task == "instance_segmentation" else 0
    return sum(map(math.prod, sizes)) * layers + masks * MASK_SIZE**2


def _augmented(
    dataset: tf.data.Dataset,
    read: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    image_size: tuple[int, int],
    settings: Augmentation,
    order: Order,
) -> tf.data.Dataset:
    """Pictures changed at random: in each epoch otherwise, in every run the same."""

    def augmented(example):
        position = example["position"]

        def partner(number):
            return read(order.picture(position, salt=number))

        return augmentation.augment(example, order.draws(position), image_size, settings, partner)

    return dataset.map(augmented, num_parallel_calls=tf.data.AUTOTUNE)


def _targets(example: dict[str, tf.Tensor], task: str) -> dict[str, tf.Tensor]:
    """What the task is about, and nothing else."""
    example = dict(example)
    if task == "instance_segmentation":
        most = example["classes"].shape[0]
        free = most - tf.shape(example["masks"])[0]
        masks = tf.pad(example["masks"], [[0, free], [0, 0], [0, 0]])
        example["masks"] = tf.ensure_shape(masks, [most, MASK_SIZE, MASK_SIZE])
    if task == "segmentation":
        example["classes"] = tf.cast(example.pop("labels")[..., 0], tf.int32) - 1
    if "borders" in example:
        borders = tf.cast(example["borders"][..., 0], tf.float32) / 255
        example["borders"] = tf.where(example["classes"] == 0, borders, 0.0)
    if task == "classification":
        example["classes"] = example.pop("label")
    return example


def _without_crowds(pictures: sources.Split) -> sources.Split:
    """The same pictures for a task that knows objects only; crowds stay in what `read_labels` tells."""
    if pictures.boxes is None:
        return pictures
    counts = [int(np.count_nonzero(classes >= 0)) for classes in pictures.classes]  # they come first

    def objects(rows):
        return rows and tuple(of_one[:count] for of_one, count in zip(rows, counts, strict=True))

    return replace(
        pictures,
        boxes=objects(pictures.boxes),
        classes=objects(pictures.classes),
        areas=objects(pictures.areas),
        crowd_classes=None,
        read_masks=pictures.read_masks and (lambda index: pictures.read_masks(index)[: counts[index]]),
    )


def _common_size(sizes: Sequence[tuple[int, int]], where: str, *, may_differ: bool) -> tuple[int, int] | None:
    """The size of all pictures; None if it is not the same and need not be."""
    found = sorted(set(sizes))
    if len(found) == 1:
        return found[0]
    if not may_differ:
        raise ValueError(
            f"image_size=None: the pictures of {where} have {len(found)} sizes, "
            f"from {found[0]} to {found[-1]}. Give the height and width that the model is to be given, or, "
            "to have each as it is, batch_size=1 without augment."
        )
    return None
