"""An evaluation at the end of training's epochs."""

import math
from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from kzoo.evaluation.measures import measure_of


class Evaluation(keras.callbacks.Callback):
    """Evaluates a model as it trains: its task's headline figures are `val_NAME` in the epoch's logs.

    | task | figures |
    |---|---|
    | classification | `val_accuracy`; `val_top5_accuracy` with more than five classes |
    | box_regression | `val_mean_iou`, `val_accuracy` (both with one object a picture), `val_AP50` |
    | detection, instance_segmentation | `val_AP`, `val_AP50`, `val_AP75`; `val_mask_AP`, ... with masks |
    | segmentation | `val_mean_iou`, `val_mean_dice`, `val_pixel_accuracy` |

    The progress line, the history, and every callback that stands after this one in the list see them: put it
    before `CSVLogger`, `EarlyStopping` and `ModelCheckpoint(monitor="val_accuracy", mode="max")`. A callback
    that stops the training by the clock belongs before it.

    Evaluated are a run's first epoch, each `every`-th (counted from 1), and the last: the last that was asked
    for, or the one that a callback before this one stops at. In the epochs between, they are NaN: a log
    then says nothing that was not measured, while its columns stay the same. (Keras takes the first value it
    sees for the best one, and nothing is better than NaN: that is why the first epoch is never left out.)

    Args:
        dataset: Batches that `kzoo.data.load` gives without augmentation.
        classes: The names of the classes.
        task: One of `kzoo.tasks.TASKS`.
        every: Epochs from one evaluation to the next.
        options: What the evaluation of the task takes beyond: `max_detections` for detection and
            instance_segmentation, `ignored_label` for segmentation.

    Attributes:
        result: The latest result, whole; empty before the first.
        history: A dict for each evaluation: `epoch` (from 0, as in Keras' own logs) and the result.

    Example:
        evaluation = Evaluation(val_dataset, classes=("RBC", "WBC", "Platelets"), task="classification")
        model.fit(dataset, epochs=30, callbacks=[evaluation, keras.callbacks.CSVLogger("log.csv")])
        evaluation.result["recall/WBC"]
    """

    def __init__(
        self, dataset: Iterable[Mapping], classes: Sequence[str], task: str, every: int = 1, **options: object
    ) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}, and must be 1 or more epochs")
        self.measure = measure_of(task)
        unknown = sorted(set(options) - set(self.measure.options))
        if unknown:
            known = ", ".join(self.measure.options) or "none"
            raise ValueError(f"{unknown[0]}={options[unknown[0]]!r}: no option of {task}; it takes {known}.")
        self.dataset = dataset
        self.classes = tuple(classes)
        self.every = every
        self.options = options
        self.result: dict[str, float] = {}
        self.history: list[dict[str, float]] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        own = getattr(self.dataset, "classes", self.classes)  # datasets of kzoo.data.load know theirs
        if tuple(own) != self.classes:
            raise ValueError(f"classes={self.classes}: the dataset's are {tuple(own)}, in this order.")
        self._first_is_due = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        last = epoch + 1 == self.params.get("epochs") or self.model.stop_training
        measured = {}
        if self._first_is_due or last or (epoch + 1) % self.every == 0:
            self._first_is_due = False
            measured = self.measure.evaluate(self._predict, self.dataset, self.classes, **self.options)
            self.result = measured
            self.history.append({"epoch": epoch, **measured})
        if logs is not None:
            names = [name for name in self.measure.headlines if name in self.result]
            logs |= {f"val_{name}": measured.get(name, math.nan) for name in names}

    def _predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        answers = self.model.predict_on_batch(images)
        # With several replicas Keras gives the whole batch to each and joins their answers, which are equal.
        return {name: values[: len(images)] for name, values in answers.items()}


class CocoAP(Evaluation):
    """`Evaluation` of a detection model: `val_AP`, `val_AP50` and `val_AP75` in the epoch's logs.

    Where the model answers masks and the dataset has true ones, `val_mask_AP`, `val_mask_AP50` and
    `val_mask_AP75` are there too.

    Args:
        dataset: Batches that `kzoo.data.load` gives without augmentation.
        classes: The names of the classes.
        every: Epochs from one evaluation to the next.
        max_detections: As for `coco_average_precision`.

    Example:
        ap = CocoAP(val_dataset, classes=("RBC", "WBC", "Platelets"), every=5)
        model.fit(dataset, epochs=30, callbacks=[ap, keras.callbacks.CSVLogger("log.csv")])
        ap.result["AP/WBC"]
    """

    def __init__(
        self, dataset: Iterable[Mapping], classes: Sequence[str], every: int = 1, max_detections: int = 100
    ) -> None:
        super().__init__(dataset, classes, "detection", every, max_detections=max_detections)
