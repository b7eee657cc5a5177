"""What every recipe can be told on its command line."""

import dataclasses
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import keras
import tensorflow as tf

from kzoo.checks import check_choice, check_directory, check_integer, check_number
from kzoo.data import Augmentation, load
from kzoo.data.pictures import MAX_PIXELS
from kzoo.training.optimizer import LossScale, adamw
from kzoo.training.schedule import CosineSchedule, Schedule, StepSchedule

WARMUP = 100  # changes of weights over which the learning rate rises


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that all recipes share; a recipe adds what else it needs, and its own defaults."""

    data: str
    """Where the data is: shapes, voc:DIR, coco:DIR, yolo:DIR, csv:FILE, folder:DIR or tfds:NAME."""
    strict: bool = False
    """Whether a single fault in the data is an error; else what is faulty is left out, and told."""
    max_pixels: int = MAX_PIXELS
    """The most that a picture file may have; one of more is a fault."""
    epochs: int = 20
    """How many epochs, unless --minutes is given."""
    minutes: float | None = None
    """Train by the clock instead, the schedule fitted to it; measuring and exporting come on top."""
    batch_size: int = 8
    """Pictures a step, of all devices and workers together."""
    accumulate: int = 1
    """Steps whose gradients are gathered before weights change: for batches that memory does not hold."""
    learning_rate: float = 2e-3
    """The highest, for the recipe's own batch size; it follows the root of others. It rises for 100 steps."""
    schedule: Literal["cosine", "step"] = "cosine"
    """How the rate falls: along a cosine to nothing, or to a tenth at 2/3 and again at 8/9 of the run."""
    averages: float = 0.0
    """What averaged weights keep of themselves at a step, as 0.999; the run ends with them. 0 is none."""
    weight_decay: float = 0.02
    """Of AdamW, not on biases and normalisation."""
    backbone: str = "compact"
    """compact, resnet18, resnet34, resnet50, resnet101, keras.applications.NAME or keras_cv.NAME."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    """What layers compute in; auto is bfloat16 where the machine has instructions for it."""
    seed: int = 0
    """Of weights, order and augmentation."""
    cache: str | None = None
    """Where pictures are kept once they are read: memory, or a folder; else in memory, if they fit there."""
    output: Path
    """Where settings, log, metrics, model and pictures go."""
    export: Path
    """Where the SavedModel goes, as its next version."""
    strategy: Literal["auto", "none", "mirrored", "multi_worker"] = "auto"
    """Where it trains: auto is all GPUs, all workers that TF_CONFIG or Slurm tell of, or one device."""
    resume: bool = True
    """Whether it goes on where a run of the same output and settings was stopped."""
    checkpoint_minutes: float = 5.0
    """Minutes of training from one checkpoint to the next."""
    checkpoint_steps: int | None = None
    """Steps from one checkpoint to the next, instead."""
    tensorboard: bool = False
    """Whether figures and pictures are written for TensorBoard, too."""
    profile: bool = False
    """Whether ten steps are traced, for TensorBoard's profiler."""

    # What may be another when a run goes on: it learns the same.
    FREE: ClassVar[tuple[str, ...]] = (
        "output",
        "export",
        "cache",
        "strategy",
        "resume",
        "checkpoint_minutes",
        "checkpoint_steps",
        "tensorboard",
        "profile",
    )

    @property
    def peak_learning_rate(self) -> float:
        """The highest learning rate, for the batches there are.

        By the square root of the batch size, as is right for Adam (Malladi et al. 2022, section 4.2); what
        the recipe's own batch size is stands in its class.
        """
        usual = type(self).__dataclass_fields__["batch_size"].default
        return self.learning_rate * math.sqrt(self.batch_size * self.accumulate / usual)

    def make_schedule(self, steps_per_epoch: int) -> Schedule:
        """The learning rate over the run."""
        kind = {"cosine": CosineSchedule, "step": StepSchedule}[self.schedule]
        length = (
            {"steps": self.epochs * steps_per_epoch} if self.minutes is None else {"minutes": self.minutes}
        )
        return kind(self.peak_learning_rate, **length, warmup=WARMUP * self.accumulate)

    def make_optimizer(self, backbone_rate: float = 1.0) -> keras.optimizers.Optimizer:
        """What changes the weights, as `adamw` makes it.

        Args:
            backbone_rate: the backbone's learning rate as a share of the others'.
        """
        optimizer = adamw(
            self.peak_learning_rate,
            self.weight_decay,
            backbone_rate,
            averages=self.averages,
            accumulate=self.accumulate,
        )
        return LossScale(optimizer) if keras.config.dtype_policy().name == "mixed_float16" else optimizer

    def check(self) -> None:
        """Refuses what cannot be, before anything is read or written.

        Raises:
            ValueError: a number is out of its range, or a file is where a folder is to be.
        """
        check_integer("epochs", self.epochs, least=1)
        check_integer("batch_size", self.batch_size, least=1)
        check_integer("max_pixels", self.max_pixels, least=1)
        check_integer("seed", self.seed, least=0)
        check_number("seed", self.seed, least=0, most=2**32 - 1)
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes={self.minutes!r}: a number of more than 0 is expected.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate={self.learning_rate!r}: a number of more than 0 is expected.")
        check_number("weight_decay", self.weight_decay, least=0)
        check_integer("accumulate", self.accumulate, least=1)
        check_choice("schedule", self.schedule, ("cosine", "step"))
        if not 0 <= self.averages < 1:
            raise ValueError(f"averages={self.averages!r}: a number of at least 0 and below 1 is expected.")
        if not 0 < self.checkpoint_minutes < math.inf:
            raise ValueError(
                f"checkpoint_minutes={self.checkpoint_minutes!r}: a number of more than 0 is expected."
            )
        if self.checkpoint_steps is not None:
            check_integer("checkpoint_steps", self.checkpoint_steps, least=1)
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ValueError("tensorboard=True: it is not installed; pip install tensorboard does that.")
        if self.cache not in (None, "memory"):
            check_directory(Path(self.cache).expanduser(), "cache")
        check_directory(self.output, "output")
        check_directory(self.export, "export")

    def load_splits(
        self,
        task: str,
        augmentation: Augmentation,
        splits: Sequence[str] = ("train", "val", "test"),
        image_size: tuple[int, int] | None = None,
        crop_size: tuple[int, int] | None = None,
        **options: object,
    ) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
        """The data in three splits, the first of them augmented.

        Args:
            task: one of `kzoo.tasks.TASKS`.
            augmentation: of the pictures to learn from.
            splits: to learn from, to watch the training by, to measure the result on.
            image_size: height and width that pictures are fitted into; None is their own.
            crop_size: height and width of the pictures to learn from, where it is another.
            **options: as for `kzoo.data.load`.
        """
        options |= {"task": task, "batch_size": self.batch_size, "seed": self.seed, "cache": self.cache}
        options |= {"strict": self.strict, "max_pixels": self.max_pixels}
        sizes = (crop_size or image_size, image_size, image_size)
        train, validation, test = (
            load(self.data, split=split, augment=augment, image_size=size, **options)
            for split, augment, size in zip(splits, (augmentation, False, False), sizes, strict=True)
        )
        return train, validation, test


@dataclass(frozen=True, kw_only=True)
class Shapes(Settings):
    """Settings that recipes share which learn from shapes that are drawn as they learn."""

    data: str = "shapes"
    """shapes, or shapes:N for 1 to N in a picture."""
    epochs: int = 6
    """How many epochs, unless --minutes is given."""
    learning_rate: float = 3e-3
    """The highest, for the recipe's own batch size; it follows the root of others. It rises for 100 steps."""

    def load(self, task: str = "detection") -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
        """The three splits, the first of them turned, mirrored and recoloured."""
        turned = Augmentation(vertical_flip=0.5, quarter_turns=True, zoom=(1.0, 1.0), aspect=(1.0, 1.0))
        return self.load_splits(task, turned)


@dataclass(frozen=True, kw_only=True)
class OwnPictures(Settings):
    """Settings that recipes share which learn from a folder of somebody's pictures."""

    image_size: tuple[int, int] = (256, 320)
    """Height and width that pictures are fitted into."""
    splits: tuple[str, str, str] = ("train", "val", "test")
    """To learn from, to watch the training by, to measure on; also parts, all[:24] all[24:] all[24:]."""
    any_way_up: bool = False
    """Whether pictures have no up and down, as from a microscope: then they are turned, not just mirrored."""
    rotate: float = 0.0
    """Degrees by which pictures are turned at random, either way, at most."""
    pictures_per_epoch: int = 2000
    """An epoch is not one pass: small sets would be validated more than trained on."""

    def check(self) -> None:
        """Refuses what cannot be, before anything is read or written; raises as `Settings.check` does."""
        super().check()
        check_number("rotate", self.rotate, least=0, most=180)
        check_integer("pictures_per_epoch", self.pictures_per_epoch, least=1)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return math.ceil(self.pictures_per_epoch / self.batch_size)

    def load(
        self, task: str = "detection", augmentation: Augmentation | None = None, **options: object
    ) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
        """The three splits, the first of them augmented, and turned if it may be.

        Args:
            task: one of `kzoo.tasks.TASKS`.
            augmentation: None is the usual one.
            **options: as for `kzoo.data.load`.
        """
        augmentation = dataclasses.replace(augmentation or Augmentation(), rotate=self.rotate)
        if self.any_way_up:
            augmentation = dataclasses.replace(augmentation, vertical_flip=0.5, quarter_turns=True)
        return self.load_splits(task, augmentation, self.splits, image_size=self.image_size, **options)


@dataclass(frozen=True, kw_only=True)
class OwnObjects(OwnPictures):
    """Settings that recipes share which find objects in a folder of somebody's pictures."""

    anchor_sizes: tuple[float, ...]
    """The smallest anchor of each level, finest first, in pixels of the fitted picture."""
    max_detections: int = 100
    """How many objects are found in a picture at most."""
    mosaic: float = 0.0
    """Probability that a picture to learn from is made of four, each in one quarter."""
    mixup: float = 0.0
    """Probability that a picture to learn from is mixed with another one, half and half."""
    copy_paste: float = 0.0
    """Probability that objects of another picture are pasted upon one to learn from; of masks only."""

    def check(self) -> None:
        """Refuses what cannot be, before anything is read or written; raises as `Settings.check` does."""
        super().check()
        check_integer("max_detections", self.max_detections, least=1)
        for name in ("mosaic", "mixup", "copy_paste"):
            check_number(name, getattr(self, name), least=0, most=1)

    def load(
        self, task: str = "detection", augmentation: Augmentation | None = None, **options: object
    ) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
        """The three splits as `OwnPictures.load` gives them, pictures of the first of them combined.

        Args:
            task: one of `kzoo.tasks.TASKS`.
            augmentation: None is the usual one.
            **options: as for `kzoo.data.load`.
        """
        combining = {"mosaic": self.mosaic, "mixup": self.mixup, "copy_paste": self.copy_paste}
        augmentation = dataclasses.replace(augmentation or Augmentation(), **combining)
        return super().load(task, augmentation, **options)


@dataclass(frozen=True, kw_only=True)
class OwnPixels(OwnPictures):
    """Settings that recipes share which tell the class of each pixel in a folder of somebody's pictures."""

    backbone: str | None = None
    """An encoder in place of U-Net's own, as for the detectors: compact, resnet18, ..."""
    crop: float = 1.0
    """Side of the crops to learn from, as a share of the fitted picture's; whole pictures are measured."""
    zoom: tuple[float, float] = (0.8, 1.25)
    """Smallest and largest factor by which crops are zoomed at random: how much magnifications differ."""
    elastic: float = 0.0
    """Pixels by which pictures are bent at random (standard deviation), as tissue is."""
    width: int = 16
    """Channels of the first convolutions."""
    depth: int = 4
    """How often the picture is halved."""

    def check(self) -> None:
        """Refuses what cannot be, before anything is read or written; raises as `Settings.check` does."""
        super().check()
        check_number("crop", self.crop, least=0.05, most=1)
        if not 0 < self.zoom[0] <= self.zoom[1] <= 10:
            raise ValueError(f"zoom={self.zoom!r}: (smallest, largest) is expected, two factors up to 10.")
        check_number("elastic", self.elastic, least=0)

    def load_pixels(self, **options: object) -> tuple[tf.data.Dataset, tf.data.Dataset, tf.data.Dataset]:
        """The three splits, crops of the first of them at the same scale as the whole pictures.

        Args:
            **options: as for `kzoo.data.load`.
        """
        height, width = (round(side * self.crop) for side in self.image_size)
        smallest, largest = (factor / self.crop for factor in self.zoom)
        augmentation = Augmentation(zoom=(smallest, largest), elastic=self.elastic)
        return super().load("segmentation", augmentation, crop_size=(height, width), **options)
