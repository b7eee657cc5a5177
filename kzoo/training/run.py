"""A run and the folder that it leaves behind."""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo import visualize
from kzoo.batches import check_data
from kzoo.evaluation import (
    Evaluation,
    classification_metrics,
    confusion_matrix,
    measure_of,
    nan_to_none,
    truth_and_probabilities,
)
from kzoo.serving import export, load
from kzoo.tiles import Predict, for_whole_pictures
from kzoo.trained import task_of_model
from kzoo.training.progress import ProgressByTheClock
from kzoo.training.schedule import CosineSchedule
from kzoo.training.settings import Settings
from kzoo.training.summary import files, next_steps, reached

FILES = (
    "settings.json",
    "log.csv",
    "model.keras",
    "metrics.json",
    "predictions.png",
    "curves.png",
    "confusion.png",
)
PREVIOUS = "previous"
SHOWN = 8  # pictures in predictions.png


class Run:
    """A training run: trains, measures, exports, and leaves a folder that tells of it.

    The task is that of the model. The folder holds `settings.json`, `log.csv` (a line an epoch),
    `model.keras`, `metrics.json` (the figures of the task, the same for each class, seconds, pictures seen),
    `predictions.png` (beside the truth), `curves.png` and, for a classifier, `confusion.png`. What an earlier
    run left there when it came to its end is kept in `previous/`.

    Args:
        settings: all that the run was started with.
        classes: the names of the classes.
        max_detections: how many of a picture's detections are measured, of each class the best.
    """

    def __init__(self, settings: Settings, classes: tuple[str, ...], max_detections: int = 100) -> None:
        self.settings = settings
        self.classes = classes
        self.max_detections = max_detections
        self.directory = settings.output
        self.exported: Path | None = None
        self.model_name: str | None = None
        self.task: str | None = None
        self._trained: dict[str, float] = {}
        self._measured: dict[str, float] = {}
        self._added: dict[str, float] = {}

    @property
    def metrics(self) -> dict[str, float]:
        """The figures of the task, as measured last; seconds and pictures seen; what `add` was given."""
        return self._measured | self._trained | self._added

    def fit(
        self,
        model: keras.Model,
        train: tf.data.Dataset,
        validation: tf.data.Dataset,
        steps_per_epoch: int | None = None,
    ) -> None:
        """Trains, with the figures of the task after each epoch, and saves the model.

        Args:
            model: compiled.
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
        self._take(model)
        if self._options():
            self._compare_detections(train)
        self._begin()
        start, first_step = time.monotonic(), int(model.optimizer.iterations)
        model.fit(
            self._full_batches(train),
            epochs=epochs if minutes is None else sys.maxsize,
            steps_per_epoch=steps_per_epoch,
            validation_data=validation,
            callbacks=[
                schedule,
                Evaluation(validation, self.classes, self.task, **self._options()),
                keras.callbacks.CSVLogger(self.directory / "log.csv"),
                *([] if minutes is None else [ProgressByTheClock(schedule)]),
            ],
            verbose=1 if sys.stdout.isatty() else 2,
        )
        seconds = time.monotonic() - start
        pictures_seen = (int(model.optimizer.iterations) - first_step) * self.settings.batch_size
        self._trained = {"seconds": round(seconds, 1), "pictures_seen": pictures_seen}
        model.save(self.directory / "model.keras")

    def _full_batches(self, train: tf.data.Dataset) -> tf.data.Dataset:
        """Batches across the seam of two passes, too: none is small, and each picture counts alike."""
        if hasattr(train, "passes") and train.passes.batches.size == self.settings.batch_size:
            return train.without_end(full=True)
        return train.repeat().rebatch(self.settings.batch_size, drop_remainder=True)

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
            model: trained.
            test: batches without augmentation.
        """
        self._take(model)
        predict = _whole(model, model.predict_on_batch)
        if self.task == "classification":
            self._measured = self._classify(predict, test)
        else:
            self._measured = measure_of(self.task).evaluate(predict, test, self.classes, **self._options())
        self._write_metrics()
        batch = _first_pictures(test)
        path = self.directory / "predictions.png"
        visualize.side_by_side(batch["images"], batch, predict(batch["images"]), self.classes, path)
        visualize.training_curves(self.directory / "log.csv", self.directory / "curves.png")

    def add(self, figures: Mapping[str, float]) -> None:
        """Takes figures that the recipe measured, before `measure` or after it.

        They are written down in `metrics.json`, and the summary tells them, too.

        Args:
            figures: name -> figure. One of a name that was added before takes its place.

        Example:
            run.add(kzoo.evaluation.evaluate_touching(model.predict_on_batch, test))
        """
        self._added |= figures
        if self._measured:
            self._write_metrics()

    def _classify(self, predict: Predict, test: tf.data.Dataset) -> dict[str, float]:
        """The figures of a classifier, once its confusion matrix is drawn."""
        truth, probabilities = truth_and_probabilities(predict, test)
        measured = classification_metrics(truth, probabilities, self.classes)
        matrix = confusion_matrix(truth, probabilities.argmax(axis=-1), len(self.classes))
        path, title = self.directory / "confusion.png", f"accuracy {measured['accuracy']:.3f}"
        visualize.confusion_matrix_picture(matrix, self.classes, path, title)
        return measured

    def export(self, model: keras.Model, test: tf.data.Dataset) -> None:
        """Exports the model, loads that by TensorFlow alone, and holds its answers against the model's.

        Args:
            model: trained.
            test: batches to ask both about.

        Raises:
            RuntimeError: the export does not answer as the model does, to 1e-4.
        """
        image_size = getattr(self.settings, "image_size", None)
        self.exported = export(model, self.settings.export, self.classes, image_size)
        images = _first_pictures(test)["images"]
        expected, served = (
            _whole(model, predict)(images)
            for predict in (model.predict_on_batch, load(self.exported).predict)
        )
        for name, values in expected.items():
            difference = np.abs(served[name].astype(np.float64) - values).max()
            if not difference <= 1e-4:
                raise RuntimeError(f"{self.exported}: {name} differ from the model's by {difference:.3g}.")

    def summary(self) -> None:
        """Prints what was reached, where everything is, and what to try next."""
        told = reached(self.metrics, self.task, self.classes, tuple(self._added))
        left = files(self.directory, self.exported, self.task)
        print(f"\n{told}\n\n{left}\n\n{next_steps(self.model_name, self.settings.data, self.exported)}")

    def _take(self, model: keras.Model) -> None:
        self.model_name, self.task = model.zoo_name, task_of_model(model)

    def _options(self) -> dict[str, int]:
        """What the evaluation of the task takes beyond the classes."""
        takes = "max_detections" in measure_of(self.task).options
        return {"max_detections": self.max_detections} if takes else {}

    def _write_metrics(self) -> None:
        self._write_json("metrics.json", nan_to_none(self.metrics))

    def _write_json(self, name: str, content: Mapping) -> None:
        # Written whole or not at all: a reader never finds half a file.
        path = self.directory / name
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        partial.replace(path)


def _whole(model: keras.Model, predict: Predict) -> Predict:
    """What answers for whole pictures, also where the model answers for the middle of tiles only.

    Args:
        model: the model.
        predict: its own, or that of its export.
    """
    probabilities = model.output.get("probabilities")
    if probabilities is None or len(probabilities.shape) != 4:
        return predict
    return for_whole_pictures(predict, model.input["images"].shape[1:3], probabilities.shape[1:3])


def _first_pictures(dataset: tf.data.Dataset) -> dict[str, np.ndarray]:
    """The first few pictures of a dataset, as one batch."""
    batch = next(iter(dataset.unbatch().batch(SHOWN)))
    return {name: values.numpy() for name, values in batch.items()}
