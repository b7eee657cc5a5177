import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict

import pytest

from kzoo.weights.published import Resize, checkpoints, find

ALL = checkpoints()
every_checkpoint = pytest.mark.parametrize("checkpoint", ALL, ids=lambda each: each.url.rpartition("/")[2])


def test_what_there_is():
    versions = {}
    for checkpoint in ALL:
        versions.setdefault((checkpoint.model, checkpoint.backbone), []).append(checkpoint.name)
    assert versions == {
        ("classifier", "resnet18"): ["imagenet:v1"],
        ("classifier", "resnet34"): ["imagenet:v1"],
        ("classifier", "resnet50"): ["imagenet:v1", "imagenet:v2"],
        ("classifier", "resnet101"): ["imagenet:v1", "imagenet:v2"],
        ("retinanet", "resnet50"): ["coco:v1", "coco:v2"],
        ("faster_rcnn", "resnet50"): ["coco:v1", "coco:v2"],
        ("mask_rcnn", "resnet50"): ["coco:v1", "coco:v2"],
    }


@every_checkpoint
def test_the_address_is_https_and_ends_with_the_digest(checkpoint):
    assert re.fullmatch(r"[0-9a-f]{8}", checkpoint.digest)
    assert re.fullmatch(
        rf"https://download\.pytorch\.org/models/\w+-{checkpoint.digest}\.pth", checkpoint.url
    )


def test_no_file_stands_for_two_checkpoints():
    assert len({checkpoint.digest for checkpoint in ALL}) == len(ALL)
    assert len({checkpoint.url for checkpoint in ALL}) == len(ALL)
    assert len({checkpoint.source for checkpoint in ALL}) == len(ALL)


@every_checkpoint
def test_figures_are_named_as_evaluation_names_them(checkpoint):
    expected = {"classifier": ["accuracy", "top5_accuracy"], "mask_rcnn": ["AP", "mask_AP"]}
    assert list(checkpoint.figures) == expected.get(checkpoint.model, ["AP"])
    assert all(0.3 < value < 1 for value in checkpoint.figures.values())


@every_checkpoint
def test_the_file_is_about_four_bytes_a_parameter(checkpoint):
    in_bytes = checkpoint.size * 2**20
    assert 1 < in_bytes / (4 * checkpoint.parameters) < 1.02


@every_checkpoint
def test_source_licence_and_terms_are_told(checkpoint):
    data, terms = {"imagenet": ("IMAGENET1K", "non-commercial"), "coco": ("COCO", "Flickr")}[
        checkpoint.name.partition(":")[0]
    ]
    assert re.fullmatch(rf"torchvision\.models\.[\w.]+_Weights\.{data}_V[12]", checkpoint.source)
    assert checkpoint.recipe.startswith("https://github.com/pytorch/vision/")
    assert "none stated" in checkpoint.licence
    assert terms in checkpoint.data_terms


@pytest.mark.parametrize("model", ["classifier", "retinanet", "faster_rcnn", "mask_rcnn"])
def test_checkpoints_of_a_model(model):
    assert {checkpoint.model for checkpoint in checkpoints(model)} == {model}


def test_checkpoints_of_a_backbone():
    assert [checkpoint.name for checkpoint in checkpoints("classifier", "resnet34")] == ["imagenet:v1"]
    assert len(checkpoints(backbone="resnet50")) == 8
    assert checkpoints("unet") == []
    assert checkpoints("retinanet", "resnet18") == []


@pytest.mark.parametrize(
    ("model", "backbone", "weights", "file"),
    [
        ("classifier", "resnet50", "imagenet", "resnet50-11ad3fa6"),
        ("classifier", "resnet50", "imagenet:v1", "resnet50-0676ba61"),
        ("classifier", "resnet34", "imagenet", "resnet34-b627a593"),
        ("unet", "resnet101", "imagenet", "resnet101-cd907fc2"),
        ("retinanet", "resnet18", "imagenet", "resnet18-f37072fd"),
        ("mask_rcnn", "resnet50", "imagenet:v2", "resnet50-11ad3fa6"),
        ("retinanet", "resnet50", "coco", "retinanet_resnet50_fpn_v2_coco-5905b1c5"),
        ("retinanet", "resnet50", "coco:v1", "retinanet_resnet50_fpn_coco-eeacb38b"),
        ("faster_rcnn", "resnet50", "coco:v2", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a"),
        ("mask_rcnn", "resnet50", "coco", "maskrcnn_resnet50_fpn_v2_coco-73cbd019"),
    ],
)
def test_find(model, backbone, weights, file):
    assert find(model, backbone, weights).url == f"https://download.pytorch.org/models/{file}.pth"


@every_checkpoint
def test_data_alone_means_the_best(checkpoint):
    best = find(checkpoint.model, checkpoint.backbone, checkpoint.name.partition(":")[0])
    assert all(best.figures[figure] >= value for figure, value in checkpoint.figures.items())


@pytest.mark.parametrize(
    ("model", "backbone", "weights", "message"),
    [
        (
            "retinanet",
            "resnet18",
            "coco",
            'weights="coco": there are none for retinanet with backbone resnet18; there are for resnet50.',
        ),
        (
            "unet",
            "resnet50",
            "coco:v2",
            'weights="coco:v2": there are none for unet; there are for retinanet, faster_rcnn, mask_rcnn.',
        ),
        (
            "faster_rcnn",
            "compact",
            "imagenet",
            'weights="imagenet": there are none for faster_rcnn with backbone compact; there are for '
            "resnet18, resnet34, resnet50, resnet101.",
        ),
        (
            "classifier",
            "resnet34",
            "imagenet:v2",
            'weights="imagenet:v2": there are none for classifier with backbone resnet34; there are for '
            'resnet50, resnet101. resnet34 has "imagenet:v1".',
        ),
        (
            "retinanet",
            "resnet50",
            "coco:v3",
            'weights="coco:v3": unknown. Nearest: "coco:v2", "coco:v1", "coco". Known: "coco", "coco:v1", '
            '"coco:v2", "imagenet", "imagenet:v1", "imagenet:v2".',
        ),
    ],
)
def test_what_there_is_not_is_told_with_what_there_is(model, backbone, weights, message):
    with pytest.raises(ValueError) as error:
        find(model, backbone, weights)
    assert str(error.value) == message


@pytest.mark.parametrize("weights", ["", "imagenet:", ":v1", None, 1])
def test_weights_that_are_no_name(weights):
    with pytest.raises(ValueError, match=r"weights=.*: unknown\."):
        find("classifier", "resnet50", weights)


def test_imagenet_classes():
    classes = find("classifier", "resnet18", "imagenet").classes
    assert len(classes) == len(set(classes)) == 1000
    assert (classes[0], classes[207], classes[999]) == ("tench", "golden retriever", "toilet tissue")


def test_coco_classes_are_where_coco_counts_them():
    classes = find("mask_rcnn", "resnet50", "coco").classes
    assert len(classes) == len(set(classes)) == 90
    assert (classes[0], classes[17], classes[89]) == ("person", "dog", "toothbrush")
    unused = [number for number, name in enumerate(classes, start=1) if name.startswith("unused")]
    assert unused == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert all(classes[number - 1] == f"unused {number}" for number in unused)


def test_pictures_are_resized_as_for_the_figures():
    assert find("classifier", "resnet50", "imagenet:v1").resize == Resize(shorter=256, crop=224)
    assert find("classifier", "resnet50", "imagenet:v2").resize == Resize(shorter=232, crop=224)
    detectors = [checkpoint for checkpoint in ALL if checkpoint.model != "classifier"]
    assert {checkpoint.resize for checkpoint in detectors} == {
        Resize(shorter=800, longest=1333, multiple=32, antialias=False)
    }


@every_checkpoint
def test_second_detectors_and_retinanets_need_options(checkpoint):
    retinanet = checkpoint.model == "retinanet"
    assert bool(checkpoint.options) == (checkpoint.name == "coco:v2" or retinanet)
    assert checkpoint.options.get("max_detections") == (300 if retinanet else None)
    # torchvision runs its first detectors without an epsilon.
    assert checkpoint.epsilon == (0.0 if checkpoint.name == "coco:v1" else 1e-5)


def test_a_model_without_backbone_is_told_to_have_one():
    with pytest.raises(ValueError, match=r'weights="imagenet": unet needs a backbone .* backbone="resnet34"'):
        find("unet", None, "imagenet")


@every_checkpoint
def test_a_line_tells_it(checkpoint):
    line = str(checkpoint)
    assert "\n" not in line
    assert len(line) <= 100
    for part in (checkpoint.name, checkpoint.backbone, checkpoint.digest):
        assert part in line


def test_lines_stand_in_columns():
    starts = {str(checkpoint).index("sha256") for checkpoint in ALL}
    assert len(starts) == 1
    assert str(find("mask_rcnn", "resnet50", "coco")) == (
        "coco:v2      resnet50   AP 0.474, mask_AP 0.418              177 MiB  sha256 73cbd019..."
    )


def test_a_checkpoint_cannot_be_changed_and_is_plain_data():
    checkpoint = find("retinanet", "resnet50", "coco")
    with pytest.raises(FrozenInstanceError):
        checkpoint.url = "https://example.org"
    assert asdict(checkpoint)["figures"] == {"AP": 0.415}


def test_it_needs_nothing_heavy():
    script = """
import sys
from kzoo.weights.published import find
find("classifier", "resnet18", "imagenet").classes
heavy = {"tensorflow", "keras", "torch", "numpy"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
