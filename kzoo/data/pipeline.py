"""From the name of data to batches: order, read, resize, keep, augment, batch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from kzoo.checks import check_choice, check_integer, check_number
from kzoo.data import augmentation, source
from kzoo.data.augmentation import Augmentation
from kzoo.data.caching import in_memory
from kzoo.data.faults import DataError
from kzoo.data.masks import MASK_SIZE
from kzoo.data.order import Batches, Order, Passes
from kzoo.data.pictures import MAX_PIXELS
from kzoo.data.reading import reader
from kzoo.data.resize import RESIZES, working_size
from kzoo.tasks import TASKS

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
    start: int = 0,
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
            epoch by epoch, as long as TensorFlow's own seed (`keras.utils.set_random_seed`) is the same too.
        classes: names in the order of their numbers. None: those that the data has.
        strict: whether a single fault in the data is an error.
        border_sigma: for "segmentation" of data that tells instances apart: there are `borders`, as wide as
            this many pixels of `images`, and a line of background where two instances touch. U-Net's authors
            took 5.0. Where augmentation zooms, pixels are those at the geometric mean of its factors.
        max_pixels: the most that a picture file may have. One of more is a fault in the data: its header is
            read, and it is not decoded.

    Returns:
        Batches whose number is known (`len`), each a dict with

        - `images`: uint8 [B, H, W, 3], RGB; where sizes differ, H and W are those of each picture.
        - `image_id`: int64 [B], the picture's place in the split.
        - `original_size`: int32 [B, 2], height and width of the picture in its own pixels, as it is seen.
        - `scale`: float32 [B, 2] (y, x), the factor from the pixels on disk to those of `images`, which
          `kzoo.data.to_own_pixels` undoes.

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
        `kzoo.data.source.Split` with what lies on disk, where `image_id` is the index.

    Raises:
        ValueError: an argument is not what it can be.
        DataError: the data is not what it should be.

    Example:
        batches = kzoo.data.load("voc:bccd", image_size=(256, 320), augment=True)
        model.fit(batches, epochs=30)

        slices = kzoo.data.load("folder:membrane", split="all[:24]", task="segmentation", augment=True)
    """
    _check(image_size, batch_size, resize, shuffle, seed)
    _check_extras(task, augment, border_sigma)
    opened = source.open_source(spec, task=task, classes=classes, seed=seed, max_pixels=max_pixels)
    pictures = source.open_split(opened, split, strict=strict)
    if task not in ("detection", "instance_segmentation"):
        pictures = _without_crowds(pictures)
    _check_task(task, spec, pictures, border_sigma)
    most = 1 if task in source.ONE_OBJECT else opened.max_objects
    settings = Augmentation() if augment is True else augment or None
    if image_size is None:
        as_they_are = batch_size == 1 and settings is None
        image_size = _common_size(pictures.sizes, f"{spec!r}, split {split!r}", as_they_are)
    else:
        image_size = tuple(image_size)
    one_by_one = image_size is None
    if shuffle is None:
        shuffle = split.partition("[")[0] == "train" or settings is not None

    zoom = max(settings.zoom[1], 1.0) if settings else None
    usual_zoom = math.sqrt(math.prod(settings.zoom)) if settings else 1.0
    read = reader(pictures, task, most, image_size, resize, zoom, border_sigma, usual_zoom)
    layers = 3 + (task == "segmentation") + (border_sigma is not None)
    kept_sizes = [working_size(size, image_size or size, resize, zoom) for size in pictures.sizes]
    memory = sum(map(math.prod, kept_sizes)) * layers
    if task == "instance_segmentation":
        memory += sum(map(len, pictures.classes)) * MASK_SIZE**2
    if memory <= _MEMORY:
        read = in_memory(read)
    order = Order(len(pictures), shuffle, seed)
    batches = Batches(len(pictures), batch_size)
    passes = Passes(batches, start)
    dataset = passes.numbers().flat_map(batches.positions)
    dataset = dataset.map(
        lambda position: read(order.picture(position)) | {"position": position},
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    if settings:
        dataset = _augmented(dataset, read, image_size, settings, order)
    dataset = dataset.map(lambda example: _targets(example, task))
    # One by one none is left behind, and that each batch has one picture is known before it is read.
    dataset = dataset.batch(batch_size, drop_remainder=one_by_one).prefetch(tf.data.AUTOTUNE)
    dataset = dataset.map(lambda batch: _taken(batch, passes))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    dataset = dataset.with_options(options)
    dataset.classes = opened.info.classes
    dataset.num_pictures = len(pictures.names)
    dataset.pictures = pictures
    return dataset


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


def _taken(batch: dict[str, tf.Tensor], passes: Passes) -> dict[str, tf.Tensor]:
    """What a batch is about, once it is noted that it was taken."""
    batch = dict(batch)
    passes.taken(batch.pop("position")[0])
    return batch


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


def _check(image_size, batch_size, resize, shuffle, seed):
    """Refuses what cannot be, before anything is read."""
    if image_size is not None:
        if not isinstance(image_size, tuple | list) or len(image_size) != 2:
            raise ValueError(f"image_size={image_size!r}: give (height, width) in whole pixels, or None.")
        for length in image_size:
            check_integer(f"image_size={image_size!r}, where a side", length, least=1)
    check_integer("batch_size", batch_size, least=1)
    check_integer("seed", seed, least=0)
    check_choice("resize", resize, RESIZES)
    if not isinstance(shuffle, bool | None):
        raise ValueError(f"shuffle={shuffle!r}: give True, False or None.")


def _check_extras(task, augment, border_sigma):
    """Refuses what cannot be, or not for this task."""
    if not isinstance(augment, bool | Augmentation):
        raise ValueError(f"augment={augment!r}: give True, False or an Augmentation.")
    check_choice("task", task, TASKS)
    if isinstance(augment, Augmentation):
        augment.check_task(task)
    if border_sigma is not None:
        check_number("border_sigma", border_sigma, least=0)
        if border_sigma == 0:
            raise ValueError(f"border_sigma={border_sigma!r}: give a number of pixels above 0, or None.")
        if task != "segmentation":
            raise ValueError(f"border_sigma={border_sigma!r} with task={task!r}: it is for 'segmentation'.")


def _without_crowds(pictures):
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


def _check_task(task, spec, pictures, border_sigma):
    """Refuses data that has too much or too little for the task."""
    counts = sorted(map(len, pictures.classes))
    if task in source.ONE_OBJECT and set(counts) != {1}:
        raise DataError(
            f"task={task!r} takes pictures of one object each; those of {spec!r} have "
            f"{counts[0]} to {counts[-1]}."
        )
    if task == "segmentation" and pictures.read_labels is None:
        raise DataError(f"task={task!r} takes the class of each pixel; {spec!r} does not have them.")
    if task == "instance_segmentation" and pictures.read_masks is None:
        raise DataError(f"task={task!r} takes the pixels of each object; {spec!r} does not have them.")
    if border_sigma is not None and pictures.read_masks is None:
        raise DataError(
            f"border_sigma={border_sigma!r} takes the pixels of each object; {spec!r} does not have them, "
            "only the class of each pixel."
        )


def _common_size(sizes, where, may_differ):
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
