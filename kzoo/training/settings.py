"""What every recipe can be told on its command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """Settings that all recipes share; a recipe has a subclass with its own defaults and what else it needs."""

    data: str
    """Where the data is: shapes, voc:DIR."""
    epochs: int
    """How many epochs, unless --minutes is given."""
    minutes: float | None
    """Train by the clock instead, the schedule fitted to it; measuring and exporting come on top."""
    batch_size: int
    """Pictures a step."""
    learning_rate: float
    """The highest: it warms up to it and falls along a cosine."""
    weight_decay: float
    """Of AdamW, not on biases and normalisation."""
    backbone: str
    """compact, resnet18, resnet34, resnet50 or resnet101."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
    """What layers compute in; auto is bfloat16 where the machine has instructions for it."""
    seed: int
    """Of weights, order and augmentation."""
    output: Path
    """Where settings, log, metrics, model and pictures go."""
    export: Path
    """Where the SavedModel goes, as its next version."""
