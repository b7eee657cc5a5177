"""What `kzoo.data.load` is given, held against what it can be."""

from pathlib import Path

from kzoo.checks import check_choice, check_integer, check_number
from kzoo.data.augmentation import Augmentation
from kzoo.data.faults import DataError
from kzoo.data.pipeline.order import Batches
from kzoo.data.resize import RESIZES
from kzoo.data.sources import Split
from kzoo.data.sources.source import ONE_OBJECT
from kzoo.tasks import TASKS


def check_arguments(
    image_size: object, batch_size: object, resize: object, shuffle: object, seed: object
) -> None:
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


def check_extras(task: object, augment: object, border_sigma: object) -> None:
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


def check_place(cache: object, start: object, shard: object, batch_size: int) -> None:
    """Refuses what cannot be of where pictures are kept, and of which are to come."""
    if not isinstance(cache, str | Path | None) or (
        isinstance(cache, str) and (not cache.strip() or cache.lower() == "memory" != cache)
    ):
        raise ValueError(f"cache={cache!r}: give 'memory', a folder, or None.")
    check_integer("start", start, least=0)
    if not isinstance(shard, tuple | list) or len(shard) != 2:
        raise ValueError(f"shard={shard!r}: give (index, count), as (0, 4) of the first of four workers.")
    index, count = shard
    check_integer(f"shard={shard!r}, where the count", count, least=1)
    check_integer(f"shard={shard!r}, where the index", index, least=0)
    if index >= count or count > batch_size:
        limits = f"an index below the count, and a count up to batch_size={batch_size}"
        raise ValueError(f"shard={shard!r}: give {limits}.")


def check_shares(batches: Batches, where: str) -> None:
    """Refuses a last batch that has not a picture for each worker: all workers have as many batches."""
    workers = batches.shard[1]
    if batches.left < workers:
        raise ValueError(
            f"shard={batches.shard}: the last batch of {where} has {batches.left} of {batches.count} "
            f"pictures, fewer than workers. Give another batch_size than {batches.size}."
        )


def check_task(task: str, spec: str, pictures: Split, border_sigma: float | None) -> None:
    """Refuses data that has too much or too little for the task."""
    counts = sorted(map(len, pictures.classes))
    if task in ONE_OBJECT and set(counts) != {1}:
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
