"""What every recipe can be told on its command line."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tensorflow as tf

from kzoo.checks import check_directory, check_integer, check_number
from kzoo.data import Augmentation, load


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that all recipes share; a recipe adds what else it needs, and its own defaults."""

    data: str
    """Where the data is: shapes, voc:DIR, coco:DIR or coco:INSTANCES.json,IMAGE_DIR."""
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


@dataclass(frozen=True, kw_only=True)
class OwnPictures(Settings):
    """Settings that recipes share which learn from a folder of somebody's pictures."""

    image_size: tuple[int, int] = (256, 320)
    """Height and width that pictures are fitted into."""
    anchor_sizes: tuple[float, ...]
    """The smallest anchor of each level, finest first, in pixels of the fitted picture."""
    splits: tuple[str, str, str] = ("train", "val", "test")
    """To learn from, to watch the training by, to measure the result on."""
    any_way_up: bool = False
    """Whether pictures have no up and down, as from a microscope: then they are turned, not just mirrored."""
    max_detections: int = 100
    """How many objects are found in a picture at most."""
    pictures_per_epoch: int = 2000
    """An epoch is not one pass: small sets would be validated more than trained on."""

    def check(self) -> None:
        """Refuses what cannot be, before anything is read or written; raises as `Settings.check` does."""
        super().check()
        check_integer("max_detections", self.max_detections, least=1)
        check_integer("pictures_per_epoch", self.pictures_per_epoch, least=1)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return math.ceil(self.pictures_per_epoch / self.batch_size)

    def load(self, task: str = "detection") -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
        """The three splits, the first of them augmented."""
        augmentation = Augmentation(
            vertical_flip=0.5 if self.any_way_up else 0.0, quarter_turns=self.any_way_up
        )
        train, validation, test = (
            load(
                self.data,
                split=split,
                task=task,
                image_size=self.image_size,
                batch_size=self.batch_size,
                augment=augment,
                seed=self.seed,
            )
            for split, augment in zip(self.splits, (augmentation, False, False), strict=True)
        )
        return train, validation, test
