"""What every recipe can be told on its command line."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kzoo.checks import check_directory, check_integer, check_number


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that all recipes share; a recipe adds what else it needs, and its own defaults."""

    data: str
    """Where the data is: shapes, voc:DIR, coco:DIR."""
    epochs: int = 20
    """How many epochs, unless --minutes is given."""
    minutes: float | None = None
    """Train by the clock instead, the schedule fitted to it; measuring and exporting come on top."""
    batch_size: int = 8
    """Pictures a step."""
    learning_rate: float = 2e-3
    """The highest: it rises to it within 100 steps and falls along a cosine."""
    weight_decay: float = 0.02
    """Of AdamW, not on biases and normalisation."""
    backbone: str = "compact"
    """compact, resnet18, resnet34, resnet50 or resnet101."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    """What layers compute in; auto is bfloat16 where the machine has instructions for it."""
    seed: int = 0
    """Of weights, order and augmentation."""
    output: Path
    """Where settings, log, metrics, model and pictures go."""
    export: Path
    """Where the SavedModel goes, as its next version."""

    def check(self) -> None:
        """Refuses what cannot be, before anything is read or written.

        Raises:
            ValueError: a number is out of its range, or a file is where a folder is to be.
        """
        check_integer("epochs", self.epochs, least=1)
        check_integer("batch_size", self.batch_size, least=1)
        check_integer("seed", self.seed, least=0)
        check_number("seed", self.seed, least=0, most=2**32 - 1)
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes={self.minutes!r}: a number of more than 0 is expected.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate={self.learning_rate!r}: a number of more than 0 is expected.")
        check_number("weight_decay", self.weight_decay, least=0)
        check_directory(self.output, "output")
        check_directory(self.export, "export")
