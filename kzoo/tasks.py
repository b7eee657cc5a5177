"""The answers that the zoo can give about a picture: what a model is for, and what data can teach."""

from collections.abc import Collection, Mapping
from typing import Any, Final

TASKS: Final = ("classification", "box_regression", "detection", "segmentation", "instance_segmentation")
_BY_DETAIL = ("instance_segmentation", "detection", "segmentation", "box_regression", "classification")
_BY_RANK = {2: "classification", 4: "segmentation"}  # of the probabilities that a model answers


def most_detailed(tasks: Collection[str]) -> str:
    """The one of some tasks whose annotations tell the most: masks, else boxes, else pixels, else classes."""
    return next(task for task in _BY_DETAIL if task in tasks)


def task_of(answers: Mapping[str, Any]) -> str:
    """The task that a model is for, told from the names and the ranks of its answers.

    A box regressor answers as a detector does, so both are "detection".

    Args:
        answers: name -> an array, a tensor, or anything else with a `shape` of known length. A model's
            `output` is such a dict.

    Returns:
        "classification", "detection", "instance_segmentation" or "segmentation".

    Raises:
        ValueError: they are none of these.

    >>> task_of({"probabilities": np.zeros([8, 64, 64, 3]), "classes": np.zeros([8, 64, 64])})
    'segmentation'
    """
    if {"boxes", "num_detections"} <= set(answers):
        return "instance_segmentation" if "masks" in answers else "detection"
    rank = len(answers["probabilities"].shape) if "probabilities" in answers else None
    if rank in _BY_RANK:
        return _BY_RANK[rank]
    told = ", ".join(f"{name} {tuple(values.shape)}" for name, values in sorted(answers.items()))
    raise ValueError(
        f"the answers are {told or 'none'}; boxes and num_detections are expected, "
        "or probabilities of rank 2 (a class for each picture) or 4 (one for each pixel)."
    )
