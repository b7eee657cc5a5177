import json
from pathlib import Path

import keras
import numpy as np
import pytest

import kzoo
from kzoo.training import Run, Settings, run


@pytest.fixture(scope="module")
def pictures():
    return kzoo.data.load("shapes", split="test", batch_size=2).take(2)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    options = {"backbone": "compact", "pyramid_channels": 8, "head_depth": 0, "anchor_sizes": (16,)}
    return kzoo.build("retinanet", num_classes=5, input_shape=(128, 128, 3), score_threshold=0.0, **options)


@pytest.fixture
def settings(tmp_path):
    return Settings(data="shapes", output=tmp_path / "run", export=tmp_path / "served", epochs=2)


def test_an_export_that_answers_as_the_model_does(settings, model, pictures, tmp_path):
    a_run = Run(settings, kzoo.data.info("shapes").classes)
    a_run.export(model, pictures)
    assert a_run.exported == tmp_path / "served/1"


@pytest.mark.parametrize("name", ["boxes", "scores", "classes", "num_detections"])
def test_an_export_that_answers_otherwise_is_an_error(settings, model, pictures, name, monkeypatch):
    class Spoilt:
        def __init__(self, directory):
            self.served = kzoo.load(directory)

        def predict(self, images):
            answers = self.served.predict(images)
            return answers | {name: answers[name] + np.asarray(1e-3 if name in ("boxes", "scores") else 1)}

    monkeypatch.setattr(run, "load", Spoilt)
    with pytest.raises(RuntimeError, match=name):
        Run(settings, kzoo.data.info("shapes").classes).export(model, pictures)


def test_an_earlier_run_stays_whole_until_a_new_one_can_start(settings, model, pictures):
    settings.output.mkdir()
    (settings.output / "model.keras").write_text("of an earlier run")
    other = kzoo.build(
        "retinanet", num_classes=2, input_shape=(128, 128, 3), backbone="compact", anchor_sizes=(16,)
    )
    with pytest.raises(ValueError, match=r"^train: the data has 5 classes.*num_classes=2"):
        Run(settings, ("a", "b")).fit(other, pictures, pictures)
    assert [path.name for path in Path(settings.output).iterdir()] == ["model.keras"]
    model.compile(keras.optimizers.SGD(1e-3))
    Run(settings, kzoo.data.info("shapes").classes).fit(model, pictures, pictures, steps_per_epoch=1)
    assert (settings.output / "previous/model.keras").read_text() == "of an earlier run"
    (settings.output / "model.keras").unlink()  # as if that run had been stopped
    Run(settings, kzoo.data.info("shapes").classes).fit(model, pictures, pictures, steps_per_epoch=1)
    assert (settings.output / "previous/model.keras").read_text() == "of an earlier run"


def test_settings_tell_what_was_used(settings, model, pictures):
    model.compile(keras.optimizers.SGD(1e-3))
    a_run = Run(settings, kzoo.data.info("shapes").classes)
    a_run.fit(model, pictures, pictures, steps_per_epoch=1)
    told = json.loads((settings.output / "settings.json").read_text())
    assert (told["precision"], told["epochs"], told["classes"][0]) == ("float32", 2, "circle")
    assert a_run.metrics["pictures_seen"] == 2 * settings.batch_size


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("minutes", 0.0),
        ("minutes", float("nan")),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("seed", 2**32),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting, value, tmp_path):
    places = {"output": tmp_path / "run", "export": tmp_path / "served"}
    with pytest.raises(ValueError, match=f"^{setting}="):
        Settings(data="shapes", **places, **{setting: value}).check()


@pytest.mark.parametrize(
    ("name", "masks", "told"),
    [
        ("faster_rcnn", False, "recipes/faster_rcnn_voc.py --data voc:DIR --minutes 10 "),
        ("mask_rcnn", True, "recipes/mask_rcnn_coco.py --data coco:DIR --minutes 20 "),
    ],
)
def test_the_summary_tells_what_ran(settings, capsys, name, masks, told):
    a_run = Run(settings, ("cat", "dog"))
    a_run.model_name = name
    figures = {"AP": 0.123, "AP50": 0.234, "AP75": 0.345, "AP50/cat": 0.456, "AP50/dog": 0.567}
    a_run.metrics = {"seconds": 60.4, "pictures_seen": 1200} | figures
    if masks:
        a_run.metrics |= {f"mask_{figure}": value + 0.5 for figure, value in figures.items()}
    a_run.summary()
    out = capsys.readouterr().out
    assert "AP 0.123, AP50 0.234, AP75 0.345 on the pictures" in out
    assert "AP50 by class: cat 0.456, dog 0.567" in out
    assert ("Masks: AP 0.623, AP50 0.734, AP75 0.845\n" in out) == masks
    assert told in out
    assert "retinanet" not in out


def test_three_hundred_detections_are_measured_all_the_way(settings, model, pictures, monkeypatch):
    asked = []

    def evaluate(predict, dataset, classes, max_detections):
        asked.append(max_detections)
        return {"AP": 0.5, "AP50": 0.5, "AP75": np.nan, "mask_AP": 0.25}

    monkeypatch.setattr(run, "evaluate_detection", evaluate)
    monkeypatch.setattr("kzoo.evaluation.callback.evaluate_detection", evaluate)
    model.compile(keras.optimizers.SGD(1e-3))
    a_run = Run(settings, kzoo.data.info("shapes").classes, max_detections=300)
    a_run.fit(model, pictures, pictures, steps_per_epoch=1)
    a_run.measure(model, pictures)
    assert asked == [300, 300, 300]
    assert a_run.model_name == "retinanet"
    written = json.loads((settings.output / "metrics.json").read_text())
    assert (written["mask_AP"], written["AP75"]) == (0.25, None)
