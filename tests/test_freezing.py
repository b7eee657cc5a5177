import keras
import numpy as np
import pytest

import kzoo
from kzoo.backbones import BACKBONES
from kzoo.freezing import freeze_layers
from kzoo.layers.batch_norm import BatchNorm
from kzoo.zoo_model import ZooModel

MOBILENET = "keras.applications.MobileNet"


def tiny(**options):
    """A small RetinaNet on one level."""
    small = {"anchor_sizes": (16,), "pyramid_channels": 32, "head_depth": 1, "input_shape": (64, 64, 3)}
    return kzoo.build("retinanet", **{"num_classes": 2, "backbone": "compact"} | small | options)


def batch():
    images = np.random.default_rng(0).integers(0, 256, [2, 64, 64, 3], dtype=np.uint8)
    return {
        "images": images,
        "boxes": np.float32([[[4, 4, 24, 24]], [[30, 20, 60, 50]]]),
        "classes": np.int32([[0], [1]]),
    }


def frozen(model):
    """The names of layers with weights that do not learn."""
    return {layer.name for layer in model._flatten_layers() if layer.weights and not layer.trainable}


def state(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def stems(names):
    """`layer1` of `backbone_layer1_0_conv1`."""
    return {name.removeprefix("backbone_").partition("_")[0] for name in names}


@pytest.mark.parametrize(
    ("backbone", "what", "expected"),
    [
        ("compact", "backbone_at_1", {"conv1", "bn1"}),
        ("compact", "backbone_at_2", {"conv1", "bn1", "conv2", "bn2"}),
        ("compact", "backbone_at_3", {"conv1", "bn1", "conv2", "bn2", "layer1"}),
        ("resnet18", "backbone_at_1", {"conv1", "bn1"}),
        ("resnet18", "backbone_at_2", {"conv1", "bn1", "layer1"}),
        ("resnet18", "backbone_at_4", {"conv1", "bn1", "layer1", "layer2", "layer3"}),
        ("resnet18", "backbone_at_5", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
        ("resnet50", "backbone_at_3", {"conv1", "bn1", "layer1", "layer2"}),
        ("resnet18", "backbone", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
    ],
)
def test_a_backbone_is_frozen_up_to_a_stride(backbone, what, expected):
    names = frozen(kzoo.build("classifier", num_classes=2, backbone=backbone, freeze=what))
    assert all(name.startswith("backbone_") for name in names)
    assert stems(names) == expected


def test_whole_stages_are_frozen():
    model = tiny(backbone="resnet18", freeze="backbone_at_3")
    of_stages = ("backbone_layer1_", "backbone_layer2_")
    with_weights = {layer.name for layer in model.layers if layer.weights}
    assert {name for name in with_weights if name.startswith(of_stages)} <= frozen(model)
    assert "backbone_layer2_0_downsample_0" in frozen(model)
    assert "backbone_layer3_0_conv1" not in frozen(model)  # of a stride of 8, and of the stage behind it


def test_what_is_frozen_is_found_in_the_model_itself(monkeypatch, tmp_path):
    model = tiny(backbone="resnet18", resize=(64, 96), input_shape=(None, None, 3))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    def built_again(*_, **__):
        raise AssertionError("The backbone is built once more.")

    monkeypatch.setitem(BACKBONES, "resnet18", built_again)
    for copy in (model, loaded):
        keras.Model(copy.get_layer("backbone_layer1_0_relu").output, copy.get_layer("fpn_layer_3").output)
        layers, variables = len(copy.layers), len(copy.variables)
        freeze_layers(copy, "backbone_at_2")
        assert stems(frozen(copy)) == {"conv1", "bn1", "layer1"}
        assert "backbone_layer1_1_bn2" in frozen(copy)
        assert (len(copy.layers), len(copy.variables)) == (layers, variables)


def test_several_parts_are_frozen_at_once():
    model = tiny(backbone="resnet18", normalization="batch", freeze=["backbone_at_2", "batch_norm"])
    normalisation = {
        layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert any(not name.startswith("backbone_") for name in normalisation)
    assert frozen(model) == frozen(tiny(backbone="resnet18", freeze="backbone_at_2")) | normalisation
    for wrong in (["backbone", "bn"], ["backbone", None], 3):
        with pytest.raises(ValueError, match="freeze=.*unknown"):
            tiny(backbone="resnet18", freeze=wrong)


def test_a_stride_beyond_what_a_model_takes_of_its_backbone_is_all_of_it():
    model = tiny(backbone="resnet18")  # whose one level is of a stride of 8
    freeze_layers(model, "backbone_at_5")
    assert stems(frozen(model)) == {"conv1", "bn1", "layer1", "layer2"}


def test_a_backbone_that_has_no_stages():
    x = keras.Input((8, 8, 3), name="images")
    model = ZooModel({"images": x}, keras.layers.Conv2D(2, 3, name="backbone_mine")(x), name="mine")
    with pytest.raises(ValueError, match='freeze="backbone_at_1": .*mine.*"backbone"'):
        freeze_layers(model, "backbone_at_1")
    freeze_layers(model, "backbone")
    assert frozen(model) == {"backbone_mine"}


def test_a_backbone_made_elsewhere_is_frozen_up_to_a_stride():
    names = frozen(tiny(backbone=MOBILENET, freeze="backbone_at_2"))
    # MobileNet's blocks 2, 4, 6 and 12 halve the picture.
    assert {"conv1", "conv_dw_1", "conv_dw_2", "conv_dw_3", "conv_pw_3_bn"} <= names
    assert not names & {"conv_dw_4", "backbone"}
    model = tiny(backbone=MOBILENET, freeze="backbone")
    assert model.get_layer("backbone").trainable_variables == []
    assert {name for name in frozen(model) if "head" in name} == set()


def test_all_batch_normalisation_is_frozen_and_nothing_else():
    model = tiny(freeze="batch_norm", normalization="batch", head_normalization="group")
    kinds = {type(layer) for layer in model.layers if layer.name in frozen(model)}
    assert kinds == {BatchNorm}
    assert any(name.startswith("fpn_") for name in frozen(model))
    assert "class_head_gn_0" not in frozen(model) and model.get_layer("class_head_gn_0").trainable
    within = tiny(backbone=MOBILENET, freeze="batch_norm")
    assert {"conv1_bn", "conv_pw_1_bn"} <= frozen(within) and "conv1" not in frozen(within)


def test_a_frozen_layer_that_is_in_no_backbone_is_left():
    model = tiny()
    model.get_layer("class_head_out").trainable = False
    freeze_layers(model, "backbone_at_1")
    assert frozen(model) == {"backbone_conv1", "backbone_bn1", "class_head_out"}


@pytest.mark.parametrize("backbone", ["compact", MOBILENET])
def test_what_is_frozen_stays_in_training_also_after_saving_and_cloning(backbone, tmp_path):
    model = tiny(backbone=backbone, freeze="backbone_at_2", normalization="batch")
    model.save(tmp_path / "model.keras")
    loaded, cloned = keras.models.load_model(tmp_path / "model.keras"), keras.models.clone_model(model)
    for copy in (model, loaded, cloned):
        assert frozen(copy) == frozen(model)
        stay = {
            variable.path
            for layer in copy._flatten_layers()
            if layer.name in frozen(model)
            for variable in layer.variables
        }
        assert any(path.endswith("moving_mean") for path in stay)
        before = state(copy)
        copy.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        copy.fit(batch(), verbose=0)
        after = state(copy)
        changed = {path for path in before if not np.array_equal(before[path], after[path])}
        assert not changed & stay
        for part in ("fpn_inner_3", "fpn_inner_3_bn", "class_head_out"):
            assert any(path.startswith(f"{part}/") for path in changed)
        assert any(path.startswith("backbone") for path in changed)


@pytest.mark.parametrize("backbone", ["compact", MOBILENET])
def test_an_export_answers_as_the_frozen_model(backbone, tmp_path):
    model = tiny(backbone=backbone, freeze="backbone_at_2", score_threshold=0.0)
    images = batch()["images"]
    answers = kzoo.load(kzoo.export(model, tmp_path / "served")).predict(images)
    for name, values in model.predict(images, verbose=0).items():
        np.testing.assert_allclose(answers[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("unet", {"width": 2, "depth": 1}),
        ("classifier", {"backbone": "cnn", "input_shape": (32, 32, 3)}),
        ("spatial_transformer", {"input_shape": (64, 64, 3)}),
    ],
)
def test_a_model_without_a_backbone_says_so(model, options):
    with pytest.raises(ValueError, match=f'freeze="backbone_at_2": {model} has no backbone'):
        kzoo.build(model, num_classes=2, freeze="backbone_at_2", **options)
    with pytest.raises(ValueError, match=f'freeze="batch_norm": {model} has no batch normalisation'):
        kzoo.build(model, num_classes=2, freeze="batch_norm", **options)


def test_a_model_with_an_encoder_of_its_own_says_what_its_option_is():
    for what in ("backbone", "backbone_at_2"):
        with pytest.raises(ValueError, match=f'freeze="{what}": unet has no backbone: backbone=None'):
            kzoo.build("unet", num_classes=2, width=2, depth=1, freeze=what)
    with pytest.raises(ValueError) as caught:
        kzoo.build("classifier", num_classes=2, backbone="cnn", input_shape=(32, 32, 3), freeze="backbone")
    assert "backbone=None" not in str(caught.value)


def test_unknown_parts_are_told_before_the_model_is_built():
    for what in ("backbones", "backbone_at_0", "backbone_at_6", "", 2):
        with pytest.raises(ValueError, match="freeze=.*unknown.*Known: .*backbone_at_1.*backbone_at_5"):
            kzoo.build("retinanet", num_classes=-1, freeze=what)
    with pytest.raises(ValueError, match='freeze="heads": unknown'):
        freeze_layers(tiny(), "heads")


def test_a_stride_that_a_backbone_made_elsewhere_does_not_reach():
    with pytest.raises(ValueError, match='"backbone_at_5": .*MobileNet has .*at_1", .*"backbone_at_3".$'):
        tiny(backbone=MOBILENET, freeze="backbone_at_5")
