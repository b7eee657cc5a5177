"""A run and the folder that it leaves behind."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo import visualize
from kzoo.evaluation import CocoAP, evaluate_detection, nan_to_none
from kzoo.training.schedule import CosineSchedule


class Run:
    """A training run of a detector: it trains, measures, and leaves a folder that tells what happened.

    The folder holds `settings.json`, `log.csv` (a line an epoch), `model.keras`, `metrics.json` (AP, AP50, AP75, the
    same for each class, seconds, pictures seen), `predictions.png` (beside the truth) and `curves.png`.

    Args:
        directory: the run's folder; made when it is not there. What an earlier run left is overwritten.
        settings: a dataclass of all that the run was started with.

    Raises:
        ValueError: `directory` is a file, or lies in one.
    """

    def __init__(self, directory: str | os.PathLike, settings: object) -> None:
        self.directory = Path(directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ValueError(f"output={str(directory)!r}: there is a file; give the path of a folder.") from error
        for stale in ("log.csv", "metrics.json", "model.keras", "predictions.png", "curves.png"):
            (self.directory / stale).unlink(missing_ok=True)
        self._write_json("settings.json", dataclasses.asdict(settings))
        self.seconds = 0.0
        self.pictures_seen = 0

    def fit(
        self,
        model: keras.Model,
        train: tf.data.Dataset,
        validation: tf.data.Dataset,
        classes: Sequence[str],
        *,
        batch_size: int,
        learning_rate: float,
        steps_per_epoch: int,
        epochs: int,
        minutes: float | None = None,
    ) -> None:
        """Trains, with COCO's AP after each epoch, and saves the model.

        Args:
            model: a compiled detector.
            train: batches without end.
            validation: batches of the pictures to watch the training by.
            classes: their names.
            batch_size: pictures in a batch of `train`.
            learning_rate: the highest, as `CosineSchedule` takes it.
            steps_per_epoch: batches in an epoch.
            epochs: how many, unless `minutes` is given.
            minutes: train by the clock instead.
        """
        length = {"steps": epochs * steps_per_epoch} if minutes is None else {"minutes": minutes}
        start, first_step = time.monotonic(), int(model.optimizer.iterations)
        model.fit(
            train,
            epochs=epochs if minutes is None else sys.maxsize,
            steps_per_epoch=steps_per_epoch,
            validation_data=validation,
            callbacks=[
                CosineSchedule(learning_rate, **length),
                CocoAP(validation, classes),
                keras.callbacks.CSVLogger(self.directory / "log.csv"),
            ],
            verbose=1 if sys.stdout.isatty() else 2,
        )
        self.seconds = time.monotonic() - start
        self.pictures_seen = (int(model.optimizer.iterations) - first_step) * batch_size
        model.save(self.directory / "model.keras")

    def measure(
        self, model: keras.Model, test: tf.data.Dataset, classes: Sequence[str], max_detections: int = 100
    ) -> dict[str, float]:
        """Measures the model on pictures that it did not learn from, writes `metrics.json` and draws the pictures.

        Args:
            model: the trained detector.
            test: batches without augmentation.
            classes: their names.
            max_detections: boxes a picture that count, the best first.

        Returns:
            The metrics, as written.
        """
        metrics = evaluate_detection(model.predict_on_batch, test, classes, max_detections)
        metrics |= {"seconds": round(self.seconds, 1), "pictures_seen": self.pictures_seen}
        self._write_json("metrics.json", nan_to_none(metrics))
        batch = {name: np.asarray(values) for name, values in next(iter(test)).items()}
        answers = model.predict_on_batch(batch["images"])
        visualize.side_by_side(batch["images"], batch, answers, classes, self.directory / "predictions.png")
        visualize.training_curves(self.directory / "log.csv", self.directory / "curves.png")
        return metrics

    def _write_json(self, name: str, content: Mapping) -> None:
        # Written whole or not at all: a reader never finds half a file.
        path = self.directory / name
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        partial.replace(path)

