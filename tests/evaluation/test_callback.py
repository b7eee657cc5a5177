import csv
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kzoo.data.masks import encode
from kzoo.data.sources import Split
from kzoo.evaluation import CocoAP, Evaluation

METRICS = ("val_AP", "val_AP50", "val_AP75")


class FixedAnswer(keras.layers.Layer):
    """Answers the same box for each picture, which is a variable."""

    def build(self, shape):
        self.box = self.add_weight(shape=(4,), initializer="zeros", name="box")

    def call(self, images):
        count = keras.ops.shape(images)[0]
        return {
            "boxes": keras.ops.broadcast_to(self.box, (count, 1, 4)),
            "scores": keras.ops.full((count, 1), 0.9),
            "classes": keras.ops.zeros((count, 1), "int32"),
            "num_detections": keras.ops.ones((count,), "int32"),
        }


class Grow(keras.callbacks.Callback):
    """Stands for learning: the answered box is 10, 20, 30 and, as is right, 40 high in the first epochs."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.get_layer("answers").box.assign([0, 0, 40, 10 * min(epoch + 1, 4)])


class StopAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == self.epoch


class Tiny(keras.Model):
    """Nothing to learn: `Grow` does it."""

    def train_step(self, data):
        return {"loss": keras.ops.zeros(())}


@pytest.fixture
def model():
    images = keras.Input((64, 64, 3))
    model = Tiny(images, FixedAnswer(name="answers")(images))
    model.compile("sgd")
    return model


@pytest.fixture
def dataset():
    def batch(count):
        return {
            "images": np.zeros((count, 64, 64, 3), np.uint8),
            "boxes": np.tile(np.array([0, 0, 40, 40], np.float32), (count, 1, 1)),
            "classes": np.zeros((count, 1), np.int32),
            "scale": np.ones((count, 2), np.float32),
            "original_size": np.full((count, 2), 64, np.int32),
        }

    return [batch(2), batch(1)]


def fit(model, epochs, callbacks, **options):
    images = np.zeros((2, 64, 64, 3), np.uint8)
    return model.fit(images, epochs=epochs, callbacks=[Grow(), *callbacks], verbose=0, **options).history


def test_every_epoch(model, dataset, tmp_path):
    ap = CocoAP(dataset, ["cell"])
    history = fit(model, 4, [ap, keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    # IoU 1/4, 2/4, 3/4 and 1: none, one, six and all of the thresholds.
    assert history["val_AP"] == pytest.approx([0, 0.1, 0.6, 1])
    assert history["val_AP50"] == pytest.approx([0, 1, 1, 1])
    assert history["val_AP75"] == pytest.approx([0, 0, 1, 1])
    assert ap.result["AP/cell"] == pytest.approx(1)
    assert [entry["epoch"] for entry in ap.history] == [0, 1, 2, 3]
    assert [entry["AP_medium"] for entry in ap.history] == pytest.approx([0, 0.1, 0.6, 1])
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["val_AP"]) for row in rows] == pytest.approx(history["val_AP"])
    assert not any(name.startswith("val_AP/") for name in rows[0])


def test_first_every_third_and_last_epoch(model, dataset, tmp_path):
    ap = CocoAP(dataset, ["cell"], every=3)
    history = fit(model, 5, [ap, keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    assert history["val_AP"] == pytest.approx([0, math.nan, 0.6, math.nan, 1], nan_ok=True)
    assert [entry["epoch"] for entry in ap.history] == [0, 2, 4]
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["val_AP50"]) for row in rows] == pytest.approx(
        [0, math.nan, 1, math.nan, 1], nan_ok=True
    )


def test_the_epoch_that_another_callback_stops_at_is_evaluated(model, dataset):
    ap = CocoAP(dataset, ["cell"], every=10)
    history = fit(model, 30, [StopAt(3), ap])
    assert history["val_AP"] == pytest.approx([0, math.nan, math.nan, 1], nan_ok=True)


def test_a_run_that_goes_on_evaluates_its_first_epoch(model, dataset):
    ap = CocoAP(dataset, ["cell"], every=10)
    assert fit(model, 6, [ap], initial_epoch=3)["val_AP"] == pytest.approx([1, math.nan, 1], nan_ok=True)


def test_the_best_model_is_kept_by_ap(model, dataset, tmp_path):
    path = tmp_path / "best.weights.h5"
    ap = CocoAP(dataset, ["cell"], every=2)
    best = keras.callbacks.ModelCheckpoint(
        path, monitor="val_AP", mode="max", save_best_only=True, save_weights_only=True
    )
    fit(model, 4, [ap, best])
    model.get_layer("answers").box.assign([0, 0, 0, 0])
    model.load_weights(path)
    assert model.get_layer("answers").box.numpy().tolist() == [0, 0, 40, 40]


def test_answers_of_several_replicas_are_taken_once(model, dataset):
    ap = CocoAP(dataset, ["cell"])
    ap.set_model(model)
    one = model.predict_on_batch
    model.predict_on_batch = lambda images: {k: np.concatenate([v, v]) for k, v in one(images).items()}
    ap.set_params({"epochs": 1})
    ap.on_train_begin()
    model.get_layer("answers").box.assign([0, 0, 40, 40])
    logs = {}
    ap.on_epoch_end(0, logs)
    assert logs == pytest.approx(dict.fromkeys(METRICS, 1.0))


class Masked(list):
    """The batches of `dataset`, with the masks of their objects: the upper half of each box."""

    def __init__(self, batches):
        super().__init__(batch | {"image_id": np.zeros(len(batch["boxes"]), int)} for batch in batches)
        mask = np.zeros([1, 64, 64], bool)
        mask[:, :20, :40] = True
        rows = {"boxes": (), "classes": (), "names": ("one",), "sizes": ((64, 64),), "read": None}
        self.pictures = Split(name="val", **rows, read_masks=lambda index: encode(mask))


def test_masks_have_columns_of_their_own(model, dataset, tmp_path):
    ap = CocoAP(Masked(dataset), ["cell"], every=2)
    masks = np.zeros([1, 1, 28, 28], np.float32)
    masks[:, :, :14] = 1  # at the last epoch's box, 40 by 40, the upper half
    one = model.predict_on_batch
    model.predict_on_batch = lambda images: one(images) | {"masks": np.repeat(masks, len(images), 0)}
    history = fit(model, 4, [ap, keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    # IoU of the masks is that of the boxes: half of 20 pixels, half of 40.
    for name in ("val_AP", "val_mask_AP"):
        assert history[name] == pytest.approx([0, 0.1, math.nan, 1], nan_ok=True)
    assert history["val_mask_AP75"] == pytest.approx([0, 0, math.nan, 1], nan_ok=True)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["val_mask_AP50"]) for row in rows] == pytest.approx([0, 1, math.nan, 1], nan_ok=True)
    assert ap.history[-1]["mask_AP/cell"] == pytest.approx(1)


def test_max_detections_are_handed_on(model, dataset):
    def two(images):
        answer = one(images)
        wrong = np.concatenate([answer["boxes"] + 24, answer["boxes"]], axis=1)
        answer = {k: np.repeat(v, 2, axis=1) for k, v in answer.items() if v.ndim > 1}
        return answer | {"boxes": wrong, "num_detections": np.full(len(images), 2)}

    one, model.predict_on_batch = model.predict_on_batch, two
    for most, expected in ((1, 0), (2, 0.5)):
        ap = CocoAP(dataset, ["cell"], every=4, max_detections=most)
        assert fit(model, 4, [ap])["val_AP75"][-1] == pytest.approx(expected)


def test_every_below_one(dataset):
    with pytest.raises(ValueError, match="every is 0"):
        CocoAP(dataset, ["cell"], every=0)


def logs_of(evaluation, *answers):
    """The logs of epochs after which a model answers so, without one that would learn."""
    model = SimpleNamespace(stop_training=False)
    evaluation.set_model(model)
    evaluation.set_params({"epochs": len(answers)})
    evaluation.on_train_begin()
    logs = [{} for _ in answers]
    for epoch, answer in enumerate(answers):
        model.predict_on_batch = lambda images, answer=answer: answer
        evaluation.on_epoch_end(epoch, logs[epoch])
    return logs


def test_accuracy_of_a_classifier():
    truth = {"images": np.zeros((4, 8, 8, 3), np.uint8), "classes": np.array([0, 1, 2, 5], np.int32)}
    evaluation = Evaluation([truth], list("abcdef"), "classification")
    answers = [{"probabilities": np.eye(6)[taken]} for taken in ([0] * 4, [0, 1, 0, 5])]
    assert logs_of(evaluation, *answers) == [
        {"val_accuracy": 1 / 4, "val_top5_accuracy": 3 / 4},
        {"val_accuracy": 3 / 4, "val_top5_accuracy": 1},
    ]
    assert evaluation.result["recall/f"] == 1
    few = Evaluation([truth | {"classes": np.array([0, 1, 1, 1])}], ["a", "b"], "classification")
    assert logs_of(few, {"probabilities": np.eye(2)[[0, 1, 0, 1]]}) == [{"val_accuracy": 3 / 4}]


def test_mean_iou_of_a_segmenter_every_fourth_epoch():
    truth = np.zeros((1, 8, 8), np.int32)
    truth[:, :, 4:] = 1
    batch = {"images": np.zeros((1, 8, 8, 3), np.uint8), "classes": truth}
    evaluation = Evaluation([batch], ["ground", "cell"], "segmentation", every=4)
    ground = {"classes": np.zeros_like(truth)}
    logs = logs_of(evaluation, ground, ground, ground, {"classes": truth})
    names = ("val_mean_iou", "val_mean_dice", "val_pixel_accuracy")
    assert logs[0] == pytest.approx(dict(zip(names, (1 / 4, 1 / 3, 1 / 2), strict=True)))
    assert logs[2] == pytest.approx(dict.fromkeys(names, math.nan), nan_ok=True)
    assert logs[3] == dict.fromkeys(names, 1)


def test_mean_iou_of_a_box_regressor(dataset):
    box = np.array([[[0, 0, 40, 20]]], np.float32)
    answer = {"boxes": box, "scores": np.ones((1, 1)), "classes": [[0]], "num_detections": [1]}
    [logs] = logs_of(Evaluation(dataset[1:], ["cell"], task="box_regression"), answer)
    assert logs == pytest.approx({"val_mean_iou": 1 / 2, "val_accuracy": 1, "val_AP50": 1})


def test_options_and_tasks_that_there_are_not(dataset):
    with pytest.raises(ValueError, match="max_detections=7: no option of classification; it takes none"):
        Evaluation(dataset, ["cell"], "classification", max_detections=7)
    with pytest.raises(ValueError, match="max_detection=7: no option of detection; it takes max_detections"):
        Evaluation(dataset, ["cell"], "detection", max_detection=7)
    with pytest.raises(ValueError, match='task="detect": unknown'):
        Evaluation(dataset, ["cell"], "detect")
