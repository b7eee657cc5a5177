"""The batch at which a run diverged, kept for a look."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from kzoo.visualize import compare_rungs, draw_answer

SHOWN = 8  # pictures


def keep(batches: tf.data.Dataset, directory: Path, classes: Sequence[str]) -> str:
    """Writes `diverged.npz`, which `numpy.load` reads, and pictures of it with their truth, `diverged.png`.

    Args:
        batches: the batch, or those of one execution.
        directory: where to.
        classes: the names of the classes.

    Returns:
        A sentence on where it is, or why not: the divergence is what is to be told in any case.
    """
    path = directory / "diverged.npz"
    try:
        parts = [{name: values.numpy() for name, values in batch.items()} for batch in batches]
        batch = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        np.savez(path, **batch)
    except (OSError, ValueError, tf.errors.OpError) as error:
        return f"The batch is not saved: {error}."
    try:
        _draw(batch, path.with_suffix(".png"), classes)
    except Exception:  # numbers that are none cannot all be drawn
        return f"The batch is saved in {path}; it cannot be drawn."
    return f"The batch is saved in {path}, and drawn in {path.with_suffix('.png')}."


def _draw(batch: dict[str, np.ndarray], path: Path, classes: Sequence[str]) -> None:
    truths = [
        {name: batch[name][index] for name in ("boxes", "classes", "masks") if name in batch}
        for index in range(len(batch["images"][:SHOWN]))
    ]
    images = np.nan_to_num(batch["images"])
    drawn = [draw_answer(image, truth, classes) for image, truth in zip(images, truths, strict=False)]
    compare_rungs({"diverged": drawn}, path)
