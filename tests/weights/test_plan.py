import json
import re
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import pytest

import kzoo
import kzoo.weights.published
from kzoo.weights import WeightsError
from kzoo.weights import plan as planning
from kzoo.weights.plan import plan_for
from kzoo.weights.published import find


def plan(model, weights, **options):
    return plan_for(model, weights, options, kzoo.info(model).options)


def test_a_detectors_own_weights_bring_their_options():
    plans = {weights: plan("retinanet", weights) for weights in ("coco", "coco:v1", "coco:v2")}
    assert plans["coco"] == plans["coco:v2"] != plans["coco:v1"]
    for weights in ("coco:v1", "coco:v2"):
        checkpoint = find("retinanet", "resnet50", weights)
        assert plans[weights].checkpoint is checkpoint
        assert plans[weights].path is None and plans[weights].of == "retinanet"
        needed = {"backbone": "resnet50", "num_classes": 90, "resize": (800, 1333)} | checkpoint.options
        assert plans[weights].options == needed
    assert plans["coco:v2"].options["head_normalization"] == "group"


@pytest.mark.parametrize("model", ["faster_rcnn", "mask_rcnn"])
def test_of_two_stages(model):
    first = {"backbone": "resnet50", "num_classes": 90, "resize": (800, 1333)}
    assert plan(model, "coco:v1").options == first
    assert plan(model, "coco").options == first | {
        **{"num_classes": 90, "resize": (800, 1333), "head_convolutions": 4, "rpn_depth": 2},
        **{"normalization": "batch", "rpn_normalization": None},
    }


@pytest.mark.parametrize("checkpoint", [one for model in kzoo.list_models() for one in
                                        kzoo.weights.published.checkpoints(model)], ids=str)  # fmt: skip
def test_options_of_checkpoints_are_the_builders(checkpoint):
    options = plan(checkpoint.model, checkpoint.name, backbone=checkpoint.backbone).options
    assert set(options) <= set(kzoo.info(checkpoint.model).options)


def test_what_is_given_wins():
    options = plan("faster_rcnn", "coco", num_classes=3, rpn_depth=1, resize=(400, 600), roi_samples=64)
    assert options.options == {
        **{"backbone": "resnet50", "num_classes": 3, "rpn_depth": 1, "resize": (400, 600), "roi_samples": 64},
        **{"head_convolutions": 4, "normalization": "batch", "rpn_normalization": None},
    }
    assert plan("retinanet", "coco", resize=None).options["resize"] is None


def test_a_size_that_is_given_is_not_resized():
    options = plan("mask_rcnn", "coco:v1", input_shape=(320, 320, 3)).options
    assert options == {"backbone": "resnet50", "num_classes": 90, "input_shape": (320, 320, 3)}


def test_options_that_are_given_are_not_changed():
    given = {"num_classes": 3}
    plan_for("retinanet", "coco", given, kzoo.info("retinanet").options)
    assert given == {"num_classes": 3}


def test_a_classifier():
    made = plan("classifier", "imagenet", backbone="resnet18")
    assert made.options == {"backbone": "resnet18", "num_classes": 1000}
    assert made.checkpoint.name == "imagenet:v1" and made.of == "classifier"
    assert plan("classifier", "imagenet").checkpoint.name == "imagenet:v2"
    assert plan("classifier", "imagenet:v1").checkpoint.name == "imagenet:v1"


@pytest.mark.parametrize("model", ["retinanet", "faster_rcnn", "mask_rcnn", "unet", "box_regressor"])
def test_a_backbone_of_another_model(model):
    made = plan(model, "imagenet", backbone="resnet34", num_classes=3)
    assert made.options == {"backbone": "resnet34", "num_classes": 3}  # and not those of a classifier
    assert (made.of, made.checkpoint.model, made.checkpoint.backbone) == (
        *("classifier", "classifier", "resnet34"),
    )


@pytest.mark.parametrize("backbone", ["keras.applications.MobileNet", "keras_cv.resnet18"])
@pytest.mark.parametrize("model", ["retinanet", "classifier", "unet"])
def test_a_backbone_made_elsewhere(model, backbone):
    made = plan(model, "imagenet", backbone=backbone, num_classes=3)
    assert made.options == {"backbone": backbone, "num_classes": 3}
    assert made.checkpoint is None and made.path is None


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file(tmp_path, suffix, kind):
    path = tmp_path / f"my.model{suffix}"
    path.write_bytes(b"")
    made = plan("retinanet", kind(path), num_classes=3)
    assert (made.path, made.checkpoint, made.options) == (path, None, {"num_classes": 3})


def test_a_saved_model_tells_its_options(tmp_path):
    saved = {"num_classes": 5, "anchor_sizes": [16, 32], "backbone": "compact", "of_another_version": 1}
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as file:
        config = {"zoo_name": "retinanet", "zoo_options": saved}
        file.writestr("config.json", json.dumps({"config": config}))
    made = plan("retinanet", path, num_classes=3)
    assert made.options == {"num_classes": 3, "anchor_sizes": (16, 32), "backbone": "compact"}
    assert plan("faster_rcnn", path, num_classes=3).options == {"num_classes": 3}


def keras_file(path, config, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("config.json", config)
    return path


def test_sequences_within_sequences_of_a_saved_model_are_tuples(tmp_path):
    saved = {"anchor_sizes": [[16, 20], [32]], "resize": None, "backbone": {"levels": [[1]]}}
    config = {"config": {"zoo_name": "retinanet", "zoo_options": saved}}
    path = keras_file(tmp_path / "model.keras", json.dumps(config))
    expected = {"anchor_sizes": ((16, 20), (32,)), "resize": None, "backbone": {"levels": ((1,),)}}
    assert plan("retinanet", path).options == expected


@pytest.mark.parametrize("config", [{"name": "functional"}, {"zoo_name": None}, {"zoo_name": "unet"}])
def test_a_saved_model_of_others_tells_nothing(tmp_path, config):
    path = keras_file(tmp_path / "model.keras", json.dumps({"config": config}))
    assert plan("retinanet", path, num_classes=3).options == {"num_classes": 3}


@pytest.mark.parametrize(
    "config",
    [
        *("[]", "1", "{}", '{"config": []}', "", "{", b"\xff\xfe\xfd", "[" * 200_000),
        '{"config": {"zoo_name": "retinanet"}}',
        '{"config": {"zoo_name": "retinanet", "zoo_options": [1]}}',
    ],
)
def test_a_saved_model_that_is_broken(tmp_path, config):
    path = keras_file(tmp_path / "broken.keras", config)
    with pytest.raises(WeightsError, match=r"broken.keras: not a whole .keras file.*`model.save` writes"):
        plan("retinanet", path)


def test_a_saved_model_without_a_config(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.keras", "w"):
        pass
    with pytest.raises(WeightsError, match="empty.keras: not a whole .keras file"):
        plan("retinanet", tmp_path / "empty.keras")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_saved_model_that_is_damaged(tmp_path, compression):
    config = json.dumps({"config": {"zoo_name": "unet"}, "of": list(range(99))})
    path = keras_file(tmp_path / "damaged.keras", config, compression)
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(byte ^ 1 for byte in content[60:70])
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged.keras: not a whole .keras file"):
        plan("retinanet", path)


def test_a_saved_model_that_is_encrypted(tmp_path):
    path = keras_file(tmp_path / "locked.keras", "{}")
    content = path.read_bytes()
    central = content.index(b"PK\x01\x02")
    path.write_bytes(content[: central + 8] + b"\1" + content[central + 9 :])  # bit 0 of its flags
    with pytest.raises(WeightsError, match="locked.keras: not a whole .keras file"):
        plan("retinanet", path)


def test_a_config_is_not_inflated_without_limit(tmp_path, monkeypatch):
    config = json.dumps({"config": {"zoo_name": "unet"}})
    path = keras_file(tmp_path / "bomb.keras", config + " " * 10**7, zipfile.ZIP_DEFLATED)
    assert plan("retinanet", path).options == {}
    monkeypatch.setattr(planning, "MOST_CONFIG", 10**6)
    tracemalloc.start()
    with pytest.raises(WeightsError, match="bomb.keras: .*config.json has more than 1,000,000 bytes"):
        plan("retinanet", path)
    assert tracemalloc.get_traced_memory()[1] < 5 * 10**6
    tracemalloc.stop()


@pytest.mark.parametrize("weights", [1, True, False, b"coco", ["coco"], 0.5])
def test_weights_that_are_neither_text_nor_a_path(weights):
    with pytest.raises(ValueError, match=re.escape(f"weights={weights!r}: ") + '.*"coco:v1".*path'):
        kzoo.build("retinanet", weights=weights)


def test_a_file_of_this_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.weights.h5").write_bytes(b"")
    assert plan("retinanet", "mine.weights.h5").path == Path("mine.weights.h5")


def test_a_file_of_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.weights.h5").write_bytes(b"")
    assert plan("retinanet", "~/mine.weights.h5").path == tmp_path / "mine.weights.h5"


@pytest.mark.parametrize(
    ("model", "weights", "options", "message"),
    [
        ("retinanet", "cocos", {}, 'weights="cocos": unknown. Nearest: "coco"'),
        ("retinanet", "coco:v3", {}, 'weights="coco:v3": unknown. Nearest: "coco:v'),
        ("retinanet", "", {}, 'weights="": unknown'),
        ("classifier", "coco", {}, 'weights="coco": there are none for classifier; there are for retinanet'),
        ("retinanet", "coco", {"backbone": "resnet18"}, "none for retinanet with backbone resnet18"),
        ("retinanet", "imagenet:v2", {"backbone": "resnet18"}, "there are for resnet50, resnet101"),
        ("retinanet", "imagenet", {"backbone": "compact"}, "with backbone compact; there are for resnet18"),
        ("unet", "imagenet", {}, 'weights="imagenet": unet needs a backbone for them'),
        ("retinanet", "coco", {"backbone": "keras.applications.MobileNet"}, "keras.applications.MobileNet"),
        ("spatial_transformer", "imagenet", {}, "none for spatial_transformer, which has no backbone"),
        ("retinanet", "missing.pth", {}, 'weights="missing.pth": there is no such file'),
        ("retinanet", "folder/missing.weights.h5", {}, "there is no such file"),
        (
            "retinanet",
            "model.h5",
            {},
            'h5": a file that ends in .keras, .weights.h5, .pth, .pt is',
        ),
        ("retinanet", "folder/model", {}, "a file that ends in .keras, .weights.h5, .pth, .pt is expected"),
        ("retinanet", "https://a.org/b.pth", {}, 'weights="https://a.org/b.pth": an address. Fetch the file'),
        ("retinanet", Path("coco"), {}, "a file that ends in .keras, .weights.h5, .pth, .pt is expected"),
    ],
)
def test_what_there_is_not(tmp_path, monkeypatch, model, weights, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        plan(model, weights, **options)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.pth").mkdir()
    with pytest.raises(ValueError, match="there is no such file"):
        plan("retinanet", tmp_path / "a.pth")


@pytest.mark.parametrize("weights", ["cocos", "missing.pth", "imagenet:v2"])
def test_a_slip_is_told_before_tensorflow_is_imported(weights):
    script = f"""
import sys
import kzoo
import kzoo.weights.published
import kzoo.weights.plan
try:
    kzoo.build("retinanet", weights={weights!r}, backbone="resnet18", num_classes=3)
except ValueError as error:
    assert {weights!r} in str(error)
    sys.exit("tensorflow" in sys.modules or "keras" in sys.modules)
sys.exit("no error")
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_patterns_without_weights():
    for option in ("include", "skip"):
        with pytest.raises(ValueError, match="include= and skip= choose from weights=, and there are none"):
            kzoo.build("retinanet", num_classes=3, **{option: ["backbone_*"]})
