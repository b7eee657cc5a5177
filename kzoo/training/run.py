"""A run and the folder that it leaves behind."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo import visualize
from kzoo.batches import check_data
from kzoo.evaluation import CocoAP, evaluate_detection, nan_to_none
from kzoo.serving import export, load
from kzoo.training.schedule import CosineSchedule
from kzoo.training.settings import Settings

FILES = ("settings.json", "log.csv", "model.keras", "metrics.json", "predictions.png", "curves.png")
PREVIOUS = "previous"
SHOWN = 8  # pictures in predictions.png


class Run:
    """A training run of a detector: trains, measures, exports, and leaves a folder that tells of it.

    The folder holds `settings.json`, `log.csv` (a line an epoch), `model.keras`, `metrics.json` (AP, AP50,
    AP75, the same for each class, all of it for masks too where there are some, seconds, pictures seen),
    `predictions.png` (beside the truth) and `curves.png`. What an earlier run left there when it came to its
    end is kept in `previous/`.

    Args:
        settings: all that the run was started with.
        classes: the names of the classes.
        max_detections: how many of a picture's detections are measured, of each class the best.
    """

    def __init__(self, settings: Settings, classes: tuple[str, ...], max_detections: int = 100) -> None:
        self.settings = settings
        self.classes = classes
        self.max_detections = max_detections
        self.metrics: dict[str, float] = {}
        self.directory = settings.output
        self.exported: Path | None = None
        self.model_name: str | None = None

    def fit(
        self,
        model: keras.Model,
        train: tf.data.Dataset,
        validation: tf.data.Dataset,
        steps_per_epoch: int | None = None,
    ) -> None:
        """Trains, with COCO's AP after each epoch, and saves the model.

        Args:
            model: a compiled detector.
            train: batches to learn from.
            validation: batches of the pictures to watch the training by.
            steps_per_epoch: batches in an epoch; None is all of them, once.
        """
        epochs, minutes = self.settings.epochs, self.settings.minutes
        steps_per_epoch = steps_per_epoch or len(train)
        steps = epochs * steps_per_epoch if minutes is None else None
        schedule = CosineSchedule(self.settings.learning_rate, steps=steps, minutes=minutes)
        check_data(model, "train", train, targets=True)
        check_data(model, "validation", validation, targets=True)
        self._compare_detections(train)
        self._begin()
        self.model_name = model.zoo_name
        start, first_step = time.monotonic(), int(model.optimizer.iterations)
        model.fit(
            # Batches across the seam of two passes: none is small, and each picture counts alike.
            train.repeat().rebatch(self.settings.batch_size, drop_remainder=True),
            epochs=epochs if minutes is None else sys.maxsize,
            steps_per_epoch=steps_per_epoch,
            validation_data=validation,
            callbacks=[
                schedule,
                CocoAP(validation, self.classes, max_detections=self.max_detections),
                keras.callbacks.CSVLogger(self.directory / "log.csv"),
                *([] if minutes is None else [_ProgressByTheClock(schedule)]),
            ],
            verbose=1 if sys.stdout.isatty() else 2,
        )
        seconds = time.monotonic() - start
        pictures_seen = (int(model.optimizer.iterations) - first_step) * self.settings.batch_size
        self.metrics |= {"seconds": round(seconds, 1), "pictures_seen": pictures_seen}
        model.save(self.directory / "model.keras")

    def _compare_detections(self, train: tf.data.Dataset) -> None:
        """Tells when pictures have more objects than will be found."""
        classes = train.pictures.classes if hasattr(train, "pictures") else ()  # kzoo.data.load's know theirs
        most = max((np.count_nonzero(of_one >= 0) for of_one in classes), default=0)
        if most > self.max_detections:
            print(
                f"A picture has {most} objects, of which max_detections={self.max_detections} can be found."
            )

    def _begin(self) -> None:
        """Makes the folder, or puts what an earlier run that came to its end left in it into `previous/`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        finished = (self.directory / "model.keras").exists()
        if finished:
            (self.directory / PREVIOUS).mkdir(exist_ok=True)
        for name in FILES:
            path, kept = self.directory / name, self.directory / PREVIOUS / name
            if finished:
                kept.unlink(missing_ok=True)
                if path.exists():
                    path.replace(kept)
            else:  # of a run that was stopped: the model of the one before it stays where it is
                path.unlink(missing_ok=True)
        used = {"precision": keras.config.dtype_policy().name, "classes": self.classes}
        self._write_json("settings.json", dataclasses.asdict(self.settings) | used)

    def measure(self, model: keras.Model, test: tf.data.Dataset) -> None:
        """Measures the model on pictures that it did not learn from, draws what it finds and how it learned.

        Args:
            model: the trained detector.
            test: batches without augmentation.
        """
        measured = evaluate_detection(model.predict_on_batch, test, self.classes, self.max_detections)
        self.metrics = measured | self.metrics
        self._write_json("metrics.json", nan_to_none(self.metrics))
        batch = _first_pictures(test)
        answers = model.predict_on_batch(batch["images"])
        path = self.directory / "predictions.png"
        visualize.side_by_side(batch["images"], batch, answers, self.classes, path)
        visualize.training_curves(self.directory / "log.csv", self.directory / "curves.png")

    def export(self, model: keras.Model, test: tf.data.Dataset) -> None:
        """Exports the model, loads that by TensorFlow alone, and holds its answers against the model's.

        Args:
            model: the trained detector.
            test: batches to ask both about.

        Raises:
            RuntimeError: the export does not answer as the model does, to 1e-4.
        """
        self.exported = export(model, self.settings.export, self.classes)
        images = _first_pictures(test)["images"]
        expected, served = model.predict_on_batch(images), load(self.exported).predict(images)
        for name, values in expected.items():
            difference = np.abs(served[name].astype(np.float64) - values).max()
            if not difference <= 1e-4:
                raise RuntimeError(f"{self.exported}: {name} differ from the model's by {difference:.3g}.")

    def summary(self) -> None:
        """Prints what was reached, where everything is, and what to try next."""
        metrics, directory = self.metrics, self.directory
        programs = str(Path(sys.executable).parent)
        programs = min(programs, os.path.relpath(programs), key=len)
        each = ", ".join(f"{name} {metrics[f'AP50/{name}']:.3f}" for name in self.classes)
        masks = "mask_AP" in metrics
        of_masks = f"Masks: {self._precision('mask_')}\n" if masks else ""
        own = "coco.py --data coco:DIR --minutes 20" if masks else "voc.py --data voc:DIR --minutes 10"
        print(
            f"\n{self._precision('')} on the pictures to measure on; "
            f"{metrics['pictures_seen']:,} pictures seen in {metrics['seconds']:.0f} seconds\n"
            f"{of_masks}AP50 by class: {each}\n\n"
            f"  {directory / 'predictions.png'}   what it finds, beside the truth\n"
            f"  {directory / 'curves.png'}   how it learned\n"
            f"  {directory / 'metrics.json'}, log.csv, settings.json   the figures\n"
            f"  {directory / 'model.keras'}   the model, for Keras\n"
            f"  {self.exported}   the model, for TF Serving: loaded back, it answers the same to 1e-4\n\n"
            "Next:\n"
            f"  {programs}/kzoo predict PICTURES --model {self.exported} --output found\n"
            f"  {programs}/python recipes/{self.model_name}_{own}   on your own pictures"
        )

    def _precision(self, kind: str) -> str:
        """What was reached, of boxes ("") or of masks ("mask_")."""
        return ", ".join(f"{name} {self.metrics[kind + name]:.3f}" for name in ("AP", "AP50", "AP75"))

    def _write_json(self, name: str, content: Mapping) -> None:
        # Written whole or not at all: a reader never finds half a file.
        path = self.directory / name
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        partial.replace(path)


class _ProgressByTheClock(keras.callbacks.ProgbarLogger):
    """Keras's progress line for a run whose number of epochs nobody knows."""

    def __init__(self, schedule: CosineSchedule) -> None:
        super().__init__()
        self._schedule = schedule

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        minutes = self._schedule.minutes
        print(f"Epoch {epoch + 1}, {minutes * self._schedule.progress():.1f} of {minutes:g} minutes")
        self.epochs = 1  # of which Keras says nothing
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # An epoch that the clock cut short is told by the steps that it had.
        self.target = self.progbar.target = min(self.seen, self.target)
        super().on_epoch_end(epoch, logs)
        if self._schedule.progress() >= 1:  # validation took the rest of the time
            self.model.stop_training = True


def _first_pictures(dataset: tf.data.Dataset) -> dict[str, np.ndarray]:
    """The first few pictures of a dataset, as one batch."""
    batch = next(iter(dataset.unbatch().batch(SHOWN)))
    return {name: values.numpy() for name, values in batch.items()}
