"""The recipes of the rungs below and beside detection, run for a few seconds from their own files."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import kzoo

SHAPES = ["circle", "square", "triangle", "star", "ring"]


def figures(directory):
    """The metrics of a run, once the files beside them are seen to be there."""
    assert {path.name for path in directory.iterdir()} >= {
        "settings.json",
        "log.csv",
        "model.keras",
        "predictions.png",
        "curves.png",
    }
    return json.loads((directory / "metrics.json").read_text())


@pytest.fixture
def folders(tmp_path):
    """Two classes of pictures in folders, in three splits."""
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for name, grey in (("dark", 20), ("bright", 240)):
            (tmp_path / "mine" / split / name).mkdir(parents=True)
            for i in range(count):
                picture = np.full((40 + i, 48, 3), grey, np.uint8)
                Image.fromarray(picture).save(tmp_path / "mine" / split / name / f"{i}.png")
    return tmp_path / "mine"


@pytest.fixture
def pairs(tmp_path):
    """Six pictures of a bright disc, and their labels of 0 and 255."""
    for kind in ("image", "label"):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
    y, x = np.mgrid[:64, :64]
    for i in range(6):
        disc = np.hypot(x - 20 - 3 * i, y - 30) < 14
        Image.fromarray(np.where(disc, 220, 60).astype(np.uint8)).save(tmp_path / f"pairs/image/{i}.png")
        Image.fromarray(np.uint8(255 * disc)).save(tmp_path / f"pairs/label/{i}.png")
    return tmp_path / "pairs"


def test_classifier_on_folders(recipe, folders, tmp_path):
    size = ("--image-size", "32", "32", "--batch-size", "4", "--pictures-per-epoch", "8", "--epochs", "1")
    recipe("classifier_folder", "--data", f"folder:{folders}", *size, "--mixup", "0.2", "--cutmix", "1")
    metrics = figures(tmp_path / "runs/classifier_folder")
    assert {"accuracy", "recall/dark", "precision/bright", "seconds"} <= set(metrics)
    assert (tmp_path / "runs/classifier_folder/confusion.png").exists()
    served = kzoo.load(tmp_path / "saved_models/classifier_folder")
    assert served.labels == ("bright", "dark")
    assert served.predict(np.zeros([1, 32, 32, 3], np.uint8))["probabilities"].shape == (1, 2)


def test_unet_on_pairs(recipe, pairs, tmp_path, capsys):
    splits = ("--splits", "all[:4]", "all[4:]", "all[4:]", "--cells", "255")
    size = ("--image-size", "64", "64", "--width", "4", "--depth", "2", "--batch-size", "2")
    length = ("--epochs", "1", "--pictures-per-epoch", "4")
    recipe("unet_folder", "--data", f"folder:{pairs}", *splits, *size, *length)
    metrics = figures(tmp_path / "runs/unet_folder")
    assert {"mean_iou", "Dice/255", "pixel_accuracy", "rand", "best_rand"} <= set(metrics)
    assert "best rand" in capsys.readouterr().out
    answers = kzoo.load(tmp_path / "saved_models/unet_folder").predict(np.zeros([1, 50, 70, 3], np.uint8))
    assert answers["classes"].shape == (1, 50, 70)


@pytest.mark.parametrize("border_weight", ["10", "0"])
def test_unet_on_coco(recipe, coco, tmp_path, border_weight):
    size = ("--image-size", "48", "64", "--width", "4", "--depth", "2", "--batch-size", "2")
    length = ("--epochs", "1", "--pictures-per-epoch", "4", "--border-weight", border_weight)
    recipe("unet_coco", "--data", f"coco:{coco}", *size, *length)
    metrics = figures(tmp_path / "runs/unet_coco")
    assert metrics["touching"] == metrics["kept_apart"] == 0  # a disc in each picture
    assert "Dice/bright" in metrics


def test_box_regressor_with_one_slot_and_with_several(recipe, tmp_path):
    short = ("--minutes", "0.02", "--precision", "float32")
    recipe("box_regressor_shapes", *short)
    assert {"mean_iou", "accuracy", "AP50"} <= set(figures(tmp_path / "runs/box_regressor_shapes"))
    recipe("box_regressor_shapes", *short, "--data", "shapes:4", "--max-objects", "4")
    metrics = figures(tmp_path / "runs/box_regressor_shapes")
    assert "AP50" in metrics and "mean_iou" not in metrics


def test_the_transformer_is_compared_with_a_cnn_of_its_size(recipe, tmp_path):
    recipe("spatial_transformer_shapes", "--minutes", "0.02", "--window", "16", "--precision", "float32")
    directory = tmp_path / "runs/spatial_transformer_shapes"
    compared = json.loads((directory / "comparison.json").read_text())
    with_transformer, without = (compared[name]["parameters"] for name in ("transformer", "cnn"))
    assert with_transformer <= without < 1.1 * with_transformer
    for picture in ("looks.png", "comparison.png"):
        assert min(Image.open(directory / picture).size) > 100


def test_focal_losses_are_compared(recipe, tmp_path):
    gammas = {
        "cross-entropy": {"focal_alpha": None, "focal_gamma": 0.0},
        "focal, gamma 2": {"focal_alpha": 0.25, "focal_gamma": 2.0},
    }
    short = ("--minutes", "0.02", "--precision", "float32")
    module = recipe("focal_loss_shapes", *short, LOSSES=gammas)
    directory = tmp_path / "runs/focal_loss_shapes"
    compared = json.loads((directory / "comparison.json").read_text())
    assert list(compared) == list(gammas)
    assert all(0 <= compared[loss]["easy share, its own model"] <= 1 for loss in gammas)
    assert min(Image.open(directory / "shares.png").size) > 100

    model = keras.models.load_model(directory / "focal_gamma_2/model.keras")
    test = kzoo.data.load("shapes", split="test", batch_size=4).take(1)
    losses = module.losses_of_anchors(model, test, ["focal, gamma 2"])["focal, gamma 2"]
    model(next(iter(test)), training=False)
    [loss] = model.get_layer("classification").losses  # the same anchors, summed over the positives
    total = losses["foreground"].sum() + losses["background"].sum()
    assert total / len(losses["foreground"]) == pytest.approx(float(loss), rel=1e-3)
    assert module.share_of_easy(losses | {"easy": np.ones_like(losses["easy"])}) < 1


def test_the_ladder_is_climbed_and_shown_on_a_page(recipe, tmp_path, capsys):
    short = ("--minutes", "0.02", "--precision", "float32")
    recipe("ladder_shapes", *short, of_rungs=lambda rung: rung.name in ("classifier", "unet"))
    directory = tmp_path / "runs/ladder_shapes"
    assert {path.name for path in directory.iterdir()} == {"classifier", "u-net", "ladder.png"}
    assert "accuracy" in figures(directory / "classifier") and "mean_iou" in figures(directory / "u-net")
    page = Image.open(directory / "ladder.png")
    assert page.width > 6 * 256 and 3 * 256 < page.height < 4 * 256  # the truth and two rungs, six pictures
    assert "classifier: accuracy" in capsys.readouterr().out
