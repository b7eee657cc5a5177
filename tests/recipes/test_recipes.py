"""The recipes, run for a few seconds from their own files."""

import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

import kzoo

ANNOTATION = """
<annotation>
  <size><width>64</width><height>48</height><depth>3</depth></size>
  <object>
    <name>{name}</name>
    <bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>
  </object>
</annotation>
"""


@pytest.fixture
def voc(tmp_path):
    """Six pictures of a bright square or a dark one."""
    directory = tmp_path / "squares"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (directory / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        picture = np.full((48, 64, 3), 120, np.uint8)
        x, y = rng.integers(0, [40, 24])
        picture[y : y + 24, x : x + 24] = (20, 240)[i % 2]
        Image.fromarray(picture).save(directory / f"JPEGImages/{i}.png")
        square = ANNOTATION.format(name=("dark", "bright")[i % 2], x1=x + 1, y1=y + 1, x2=x + 24, y2=y + 24)
        (directory / f"Annotations/{i}.xml").write_text(square.strip())
    for split, ids in (("train", "0\n1\n2\n3\n"), ("val", "4\n"), ("test", "5\n")):
        (directory / f"ImageSets/Main/{split}.txt").write_text(ids)
    return directory


def check_run(directory, classes, pictures_seen, parts=("classification", "box")):
    """Everything that a run leaves is there and fits together."""
    metrics = json.loads((directory / "metrics.json").read_text())
    assert {"AP", "AP50", "AP75", "seconds"} <= set(metrics)
    assert {f"{metric}/{name}" for metric in ("AP", "AP50", "AP75") for name in classes} <= set(metrics)
    if pictures_seen is not None:
        assert metrics["pictures_seen"] == pictures_seen
    with (directory / "log.csv").open() as log:
        rows = list(csv.DictReader(log))
    losses = {"loss", *parts, "val_loss", "val_AP", "val_AP50", "learning_rate"}
    assert rows and losses <= set(rows[0])
    assert float(rows[0]["loss"]) == pytest.approx(sum(float(rows[0][name]) for name in parts), rel=1e-4)
    for picture in ("predictions.png", "curves.png"):
        assert min(Image.open(directory / picture).size) > 100
    settings = json.loads((directory / "settings.json").read_text())
    assert settings["classes"] == list(classes)
    return settings


def test_shapes_by_the_clock(recipe, tmp_path, capsys):
    recipe("retinanet_shapes", "--minutes", "0.02", "--output", "here", "--precision", "float32")
    settings = check_run(tmp_path / "here", ("circle", "square", "triangle", "star", "ring"), None)
    assert settings["minutes"] == 0.02
    out = capsys.readouterr().out
    assert "epoch 1 · " in out and "0:00 left" in out and "epoch 1/" not in out
    model = keras.models.load_model(tmp_path / "here/model.keras")
    served = kzoo.load(tmp_path / "saved_models/retinanet_shapes")
    images = next(iter(kzoo.data.load("shapes", split="test", batch_size=2)))["images"].numpy()
    np.testing.assert_allclose(
        served.predict(images)["scores"], model.predict(images, verbose=0)["scores"], atol=1e-5
    )


def test_voc_by_epochs_and_over_an_earlier_run(recipe, voc, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").write_text("of an earlier run")
    sizes = ("--image-size", "64", "64", "--anchor-sizes", "16", "--batch-size", "2")
    length = ("--epochs", "2", "--pictures-per-epoch", "6", "--any-way-up")
    places = ("--output", "run", "--export", "served")
    recipe("retinanet_voc", "--data", f"voc:{voc}", *sizes, *length, *places)
    settings = check_run(tmp_path / "run", ("bright", "dark"), pictures_seen=12)
    assert (settings["epochs"], settings["image_size"]) == (2, [64, 64])
    assert kzoo.load(tmp_path / "served").labels == ("bright", "dark")


STAGES = ("rpn_objectness", "rpn_box", "classification", "box")
SMALL = ("--image-size", "64", "64", "--anchor-sizes", "16", "32", "--batch-size", "2")


def test_faster_rcnn_on_voc(recipe, voc, tmp_path):
    length = ("--epochs", "2", "--pictures-per-epoch", "4")
    recipe("faster_rcnn_voc", "--data", f"voc:{voc}", *SMALL, *length, "--max-detections", "7")
    check_run(tmp_path / "runs/faster_rcnn_voc", ("bright", "dark"), 8, STAGES)
    served = kzoo.load(tmp_path / "saved_models/faster_rcnn_voc")
    assert served.predict(np.zeros([1, 64, 64, 3], np.uint8))["boxes"].shape == (1, 7, 4)


BUILT = {  # small, and otherwise than the builders' defaults: the file is to tell
    "retinanet": {"head_depth": 1, "head_normalization": "group", "coarser_from": "backbone"},
    "faster_rcnn": {"rpn_depth": 2, "head_units": 16, "proposals_train": 50, "roi_samples": 8},
}
ANEW = {"retinanet": {"class_head_out"}, "faster_rcnn": {"box_head_classes", "box_head_deltas"}}


@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn"])
def test_a_model_of_other_classes_is_fine_tuned_on_voc(name, recipe, voc, tmp_path, capsys):
    small = {
        "backbone": "compact",
        "pyramid_channels": 32,
        "anchor_sizes": (16, 32),
        "normalization": "batch",
    }
    first = kzoo.build(name, num_classes=5, **small, **BUILT[name])
    for variable in first.variables:  # not to be met by chance
        variable.assign(variable + 0.01)
    first.save(tmp_path / "first.keras")

    begin = ("--model", name, "--weights", "first.keras", "--learning-rate", "0.001")
    sizes = ("--image-size", "64", "64", "--batch-size", "2", "--precision", "float32")
    recipe(
        "finetune_voc", "--data", f"voc:{voc}", *begin, *sizes, "--epochs", "1", "--pictures-per-epoch", "4"
    )
    directory = tmp_path / "runs/finetune_voc"
    losses = STAGES if name == "faster_rcnn" else STAGES[2:]
    settings = check_run(directory, ("bright", "dark"), 4, losses)
    assert (settings["freeze"], settings["backbone_rate"]) == ("backbone_at_2", 0.1)
    told = capsys.readouterr().out
    assert "layers have the weights of first.keras" in told
    assert {line.split()[0] for line in told.splitlines() if "begins anew" in line} == ANEW[name]

    tuned = keras.models.load_model(directory / "model.keras")
    assert tuned.zoo_options == first.zoo_options | {
        "num_classes": 2,
        "input_shape": (64, 64, 3),
        "freeze_statistics": True,
    }
    far = {}
    for layer in tuned.layers:
        if layer.weights and layer.name not in ANEW[name]:
            pairs = zip(layer.get_weights(), first.get_layer(layer.name).get_weights(), strict=True)
            far[layer.name] = max(np.abs(after - before).max() for after, before in pairs)
    at_rest = {layer for layer, change in far.items() if change == 0}
    normalisation = {
        layer.name
        for layer in tuned.layers
        if layer.name.startswith("backbone_") and isinstance(layer, keras.layers.BatchNormalization)
    }
    assert at_rest == normalisation | {"backbone_conv1", "backbone_conv2"}
    convolutions = {layer: change for layer, change in far.items() if "_conv" in layer}
    assert max(convolutions.values()) < 1e-3  # in two steps of the warm-up
    assert far["backbone_layer1_0_conv1"] < 0.2 * far["fpn_layer_3"]
    assert kzoo.load(tmp_path / "saved_models/finetune_voc").labels == ("bright", "dark")


def test_what_cannot_be_fine_tuned_is_told_before_anything_is_written(recipe, voc, tmp_path, capsys):
    for arguments, told in (
        (["--freeze", "backbone_at_9"], 'freeze="backbone_at_9": unknown'),
        (["--weights", "nowhere.keras"], 'weights="nowhere.keras": there is no such file'),
        (["--weights", "imagenet:v3"], 'weights="imagenet:v3": unknown'),
        (["--backbone-rate", "2"], "backbone_rate=2.0: a number from 0 to 1"),
    ):
        with pytest.raises(SystemExit) as stop:
            recipe("finetune_voc", "--data", f"voc:{voc}", *arguments)
        assert stop.value.code == 1
        assert told in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"squares"}


def test_mask_rcnn_on_coco(recipe, coco, tmp_path):
    length = ("--epochs", "1", "--pictures-per-epoch", "4", "--any-way-up")
    recipe("mask_rcnn_coco", "--data", f"coco:{coco}", *SMALL, *length)
    directory = tmp_path / "runs/mask_rcnn_coco"
    check_run(directory, ("dark", "bright"), 4, (*STAGES, "mask"))
    metrics = json.loads((directory / "metrics.json").read_text())
    assert {"mask_AP", "mask_AP50", "mask_AP75", "mask_AP/dark", "mask_AP50/bright"} <= set(metrics)
    assert kzoo.load(tmp_path / "saved_models/mask_rcnn_coco").labels == ("dark", "bright")


def test_mask_rcnn_on_shapes(recipe, tmp_path):
    recipe("mask_rcnn_shapes", "--minutes", "0.02", "--precision", "float32")
    directory = tmp_path / "runs/mask_rcnn_shapes"
    check_run(directory, ("circle", "square", "triangle", "star", "ring"), None, (*STAGES, "mask"))


def test_the_road_between_the_stages_is_compared(recipe, tmp_path):
    recipe("roi_gradients_shapes", "--minutes", "0.02", "--precision", "float32")
    directory = tmp_path / "runs/roi_gradients_shapes"
    for roi in ("align", "spatial_transformer"):
        check_run(directory / roi, ("circle", "square", "triangle", "star", "ring"), None, STAGES)
    figures = json.loads((directory / "comparison.json").read_text())
    for loss in ("classification", "box"):
        pulls = [figures[roi][f"pull of {loss}"] for roi in ("align", "spatial_transformer")]
        assert pulls[0] == 0 < pulls[1]
    assert min(Image.open(directory / "comparison.png").size) > 100


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--data", "voc:nowhere"], "nowhere does not exist"),
        (["--data", "voc:squares", "--splits", "train", "dev", "test"], 'split="dev": unknown'),
        (
            ["--data", "voc:squares", "--backbone", "resnet5"],
            'backbone="resnet5": unknown. Nearest: "resnet50"',
        ),
        (["--data", "voc:squares", "--image-size", "8", "8"], "input_shape"),
        (["--data", "voc:squares", "--output", "file"], "output='file': 'file' is a file"),
        (["--data", "voc:squares", "--export", "file/served"], "export='file/served': 'file' is a file"),
        (["--data", "voc:squares", "--minutes", "-1"], "minutes=-1.0"),
        (["--data", "voc:squares", "--epochs", "0"], "epochs=0"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_before_anything_is_written(
    arguments, told, recipe, voc, tmp_path, capsys
):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stop:
        recipe("retinanet_voc", *arguments)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error
    assert {path.name for path in tmp_path.iterdir()} == {"file", "squares"}
