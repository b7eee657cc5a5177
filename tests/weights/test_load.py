import dataclasses
import hashlib
import warnings
import zipfile

import keras
import numpy as np
import pytest

import kzoo
from kzoo.backbones import keras_cv as keras_cv_backbones
from kzoo.trained import open_published
from kzoo.weights import WeightsError, published
from kzoo.weights.fit import variables_by_name
from kzoo.weights.load import load_file

RNG = np.random.default_rng(0)
SMALL = dict(input_shape=(64, 64, 3), backbone="compact", pyramid_channels=8, anchor_sizes=(16, 32))
TINY_RETINANET = SMALL | {"head_depth": 1}
RESNET = dict(num_classes=3, input_shape=(None, None, 3), backbone="resnet18")
FIVE_LEVELS = dict(num_classes=3, input_shape=(None, None, 3), backbone="resnet18", pyramid_channels=8)
TWO_STAGES = FIVE_LEVELS | {"head_units": 6, "proposals_test": 20, "roi_size": 3}
TWO_STAGES_V2 = {"normalization": "batch", "rpn_normalization": None, "rpn_depth": 2, "head_convolutions": 4}
RETINANET_V2 = {"pyramid_channels": 32, "head_normalization": "group", "coarser_from": "backbone"}
FAMILIES = [
    ("classifier", RESNET, False),
    ("retinanet", FIVE_LEVELS | {"head_depth": 4, "max_detections": 300}, True),
    ("retinanet", FIVE_LEVELS | {"head_depth": 4, "max_detections": 300} | RETINANET_V2, False),
    ("faster_rcnn", TWO_STAGES, True),
    ("faster_rcnn", TWO_STAGES | TWO_STAGES_V2, False),
    ("mask_rcnn", TWO_STAGES | {"mask_channels": 6}, True),
    ("mask_rcnn", TWO_STAGES | {"mask_channels": 6} | TWO_STAGES_V2, False),
]


def scrambled(name, **options):
    """A model in which every weight counts."""
    model = kzoo.build(name, **options)
    for key, variable in variables_by_name(model).items():
        if key.endswith("variance"):
            variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
        elif key.endswith("gamma"):
            variable.assign(RNG.uniform(0.7, 1.2, variable.shape))
        elif not key.endswith("kernel"):
            variable.assign(RNG.normal(size=variable.shape) * 0.1)
    return model


def torchvisions_module(layer, model, first):
    """What torchvision calls a layer; its first files have other names than its source has now."""
    room, *rest = layer.split("_")
    last = rest[-1]
    if layer == "classes_of_picture":
        return "fc"
    if room == "backbone":
        return ("" if model == "classifier" else "backbone.body.") + ".".join(rest)
    if room == "fpn" and last in ("p6", "p7"):
        return f"backbone.fpn.extra_blocks.{last}"
    if room == "fpn":
        block = f"backbone.fpn.{rest[0]}_blocks.{int(rest[1]) - (3 if model == 'retinanet' else 2)}"
        return block if first else f"{block}.{1 if last == 'bn' else 0}"
    if model == "retinanet":
        part = "classification_head" if room == "class" else "regression_head"
        if last == "out":
            return f"head.{part}.{'cls_logits' if room == 'class' else 'bbox_reg'}"
        return f"head.{part}.conv.{2 * int(last)}" if first else (
            f"head.{part}.conv.{last}.{1 if rest[1] == 'gn' else 0}"
        )  # fmt: skip
    if room == "rpn" and last == "out":
        return "rpn.head.cls_logits" if rest[0] == "objectness" else "rpn.head.bbox_pred"
    if room == "rpn":
        return "rpn.head.conv" if first else f"rpn.head.conv.{last}.0"
    if room == "box" and last in ("classes", "deltas"):
        return f"roi_heads.box_predictor.{'cls_score' if last == 'classes' else 'bbox_pred'}"
    if room == "box" and last.startswith("fc"):
        return f"roi_heads.box_head.{last if first else 5}"
    if room == "mask" and last in ("up", "out"):
        return f"roi_heads.mask_predictor.{'conv5_mask' if last == 'up' else 'mask_fcn_logits'}"
    if room == "mask" and first:
        return f"roi_heads.mask_head.mask_fcn{int(last) + 1}"
    return f"roi_heads.{room}_head.{last}.{1 if rest[1] == 'bn' else 0}"


def with_background(rows, anchors=1, numbers=1):
    """Rows [anchors * classes * numbers, ...] with those of a class more, the first, of every anchor."""
    rows = rows.reshape(anchors, -1, *rows.shape[1:])
    more = RNG.normal(size=(anchors, numbers, *rows.shape[2:])).astype(np.float32)
    return np.concatenate([more, rows], axis=1).reshape(-1, *rows.shape[2:])


def torchvisions_state(model, first):
    """The weights of a model as torchvision would have saved them."""
    arrays = {name: np.array(of) for name, of in variables_by_name(model).items()}
    parts = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
    parts |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    state = {}
    for name, array in arrays.items():
        layer, variable = name.split("/")
        if layer == "box_head_fc6":
            channels = model.get_layer("crop_regions").output.shape[-1]
            size = model.get_layer("crop_regions").size
            if variable == "kernel":
                array = array.reshape(size, size, channels, -1).transpose(3, 2, 0, 1).reshape(-1, len(array))
        elif array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)  # [h, w, in, out] or, transposed, [h, w, out, in]
        elif array.ndim == 2:
            array = array.T
        if layer == "class_head_out":
            array = with_background(array, anchors=9)
        elif layer in ("box_head_deltas", "mask_head_out"):
            array = with_background(array, numbers=4 if layer == "box_head_deltas" else 1)
        module = torchvisions_module(layer, model.zoo_name, first)
        state[f"{module}.{parts[variable]}"] = np.ascontiguousarray(array, np.float32)
        if variable == "moving_variance" and not first:
            state[f"{module}.num_batches_tracked"] = np.int64(5)
    return state


def assert_same_weights(model, other, *, but=(), rtol=0.0):
    expected = variables_by_name(other)
    for name, of in variables_by_name(model).items():
        if name.rpartition("/")[0] not in but:
            np.testing.assert_allclose(of, expected[name], rtol=rtol, err_msg=name)


def pictures(side=128):
    return RNG.integers(0, 256, [2, side, side, 3], dtype=np.uint8)


@pytest.mark.parametrize(("name", "options", "first"), FAMILIES)
def test_torchvisions_checkpoints(tmp_path, write_checkpoint, name, options, first):
    original = scrambled(name, **options)
    path = write_checkpoint(tmp_path / "a.pth", torchvisions_state(original, first))
    told_by_the_file = {"num_classes", "backbone", "max_detections", *TWO_STAGES_V2, *RETINANET_V2}
    told_by_the_file -= {"pyramid_channels"}
    own = {option: value for option, value in options.items() if option not in told_by_the_file}
    own |= {} if name == "classifier" else {"resize": None}
    model = kzoo.build(name, weights=path, **own)
    assert {option: model.zoo_options[option] for option in options} == options
    assert_same_weights(model, original, rtol=1e-4 if first else 0.0)  # another epsilon is made up for
    assert model.fitted.source == str(path) and not model.fitted.anew and not model.fitted.left
    assert set(model.fitted.layers) == {layer.name for layer in model.layers if layer.weights}
    images = pictures()
    expected = original(images)
    for key, values in model(images).items():
        if not first:
            np.testing.assert_array_equal(values, expected[key], err_msg=key)
        elif key == "scores":  # of which near ones may have changed their places
            np.testing.assert_allclose(values, expected[key], atol=1e-3)


@pytest.fixture(scope="module")
def resnet():
    return scrambled("classifier", **RESNET)


@pytest.fixture(scope="module")
def resnet_state(resnet):
    return torchvisions_state(resnet, first=False)


@pytest.fixture(scope="module")
def resnet_path(tmp_path_factory, write_checkpoint, resnet_state):
    return write_checkpoint(tmp_path_factory.mktemp("resnet") / "resnet18.pth", resnet_state)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("retinanet", FIVE_LEVELS),
        ("mask_rcnn", TWO_STAGES),
        ("unet", {"num_classes": 2, "backbone": "resnet18"}),
        ("box_regressor", RESNET | {"input_shape": (128, 128, 3)}),
    ],
)
def test_a_resnet_gives_other_models_their_backbone(resnet, resnet_path, name, options):
    keras.utils.set_random_seed(3)
    model = kzoo.build(name, weights=str(resnet_path), **options)
    keras.utils.set_random_seed(3)
    random = kzoo.build(name, **options)
    backbone = {layer.name for layer in resnet.layers if layer.weights} - {"classes_of_picture"}
    of_model = {layer.name for layer in model.layers if layer.weights}
    assert set(model.fitted.layers) == backbone & of_model != set()
    assert_same_weights(model, resnet, but=of_model - backbone)
    assert_same_weights(model, random, but=backbone)  # the others are as they would be


@pytest.mark.parametrize(("name", "sizes"), [("retinanet", (32,)), ("faster_rcnn", (16, 32))])
def test_a_pyramid_that_ends_early_takes_what_it_has_of_a_backbone(resnet, resnet_path, name, sizes):
    options = (FIVE_LEVELS if name == "retinanet" else TWO_STAGES) | {"anchor_sizes": sizes}
    model = kzoo.build(name, weights=resnet_path, **options)
    assert "backbone_layer2_1_bn2" in model.fitted.layers
    assert "backbone_layer4_1_bn2" not in {layer.name for layer in model.layers}
    but = {layer.name for layer in model.layers} - {layer.name for layer in resnet.layers}
    assert_same_weights(model, resnet, but=but)


def test_other_classes_begin_anew(resnet, resnet_path):
    model = kzoo.build("classifier", weights=resnet_path, **RESNET | {"num_classes": 7})
    assert_same_weights(model, resnet, but=["classes_of_picture"])
    assert list(model.fitted.anew) == ["classes_of_picture"]


@pytest.mark.parametrize(
    ("name", "first", "anew"),
    [
        ("retinanet", 1, {"class_head_out"}),
        ("mask_rcnn", 5, {"box_head_classes", "box_head_deltas", "mask_head_out"}),
    ],
)
def test_other_classes_of_a_detector(tmp_path, write_checkpoint, name, first, anew):
    _, options, first = FAMILIES[first]
    original = scrambled(name, **options)
    path = write_checkpoint(tmp_path / "a.pth", torchvisions_state(original, first))
    with pytest.warns(UserWarning, match=r"num_classes=4: .*a\.pth has 3 classes, since the back"):
        kzoo.build(name, weights=path, **options | {"num_classes": 4})
    model = kzoo.build(name, weights=path, **options | {"num_classes": 5})
    assert set(model.fitted.anew) == anew
    assert_same_weights(model, original, but=anew, rtol=1e-4)


@pytest.mark.parametrize(("option", "taken"), [("include", True), ("skip", False)])
def test_patterns(resnet, resnet_path, option, taken):
    model = kzoo.build("classifier", weights=resnet_path, **{option: ["backbone_layer1*"]}, **RESNET)
    layers = {layer.name for layer in model.layers if layer.weights}
    fitting = {layer for layer in layers if layer.startswith("backbone_layer1")}
    assert set(model.fitted.layers) == (fitting if taken else layers - fitting)
    assert_same_weights(model, resnet, but=layers - set(model.fitted.layers))
    kernel = np.array(model.get_layer("backbone_layer1_0_conv1").kernel)
    assert np.array_equal(kernel, resnet.get_layer("backbone_layer1_0_conv1").kernel) == taken


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small detector, and the folder in which it lies as a model.keras and a model.weights.h5."""
    folder = tmp_path_factory.mktemp("saved")
    model = scrambled("retinanet", num_classes=3, **TINY_RETINANET)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    return model, folder


SAVED = pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])


@SAVED
def test_what_keras_saved(saved, file):
    original, folder = saved
    model = kzoo.build("retinanet", num_classes=3, weights=folder / file, **TINY_RETINANET)
    assert_same_weights(model, original)
    assert set(model.fitted.layers) == {layer.name for layer in model.layers if layer.weights}
    assert not model.fitted.anew and model.fitted.source == str(folder / file)
    images = pictures(64)
    expected = original(images)
    for key, values in model(images).items():
        np.testing.assert_array_equal(values, expected[key], err_msg=key)


@SAVED
def test_what_keras_saved_for_other_classes(saved, file):
    original, folder = saved
    model = kzoo.build("retinanet", num_classes=5, weights=folder / file, **TINY_RETINANET)
    assert_same_weights(model, original, but=["class_head_out"])
    assert list(model.fitted.anew) == ["class_head_out"]
    assert "class_head_out begins anew" in str(model.fitted)
    bias = np.array(model.get_layer("class_head_out").bias)
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), 0.01, rtol=1e-4)  # as a new model begins


@SAVED
@pytest.mark.parametrize("classes", [3, 5])
def test_patterns_of_what_keras_saved(saved, file, classes):
    original, folder = saved
    options = {"num_classes": classes, "weights": folder / file} | TINY_RETINANET
    whole = {layer.name for layer in original.layers if layer.weights}
    backbone = {layer for layer in whole if layer.startswith("backbone")}
    model = kzoo.build("retinanet", include=["backbone_*"], **options)
    assert set(model.fitted.layers) == backbone and not model.fitted.anew
    assert_same_weights(model, original, but=whole - backbone)
    model = kzoo.build("retinanet", skip=["*_head_*"], **options)
    assert set(model.fitted.layers) == {layer for layer in whole if "_head_" not in layer}
    assert not model.fitted.anew
    with pytest.raises(ValueError, match='include="backbon": fits no layer of retinanet'):
        kzoo.build("retinanet", include=["backbon"], **options)


@SAVED
def test_what_keras_saved_of_another_network(saved, file):
    _, folder = saved
    other = TINY_RETINANET | {"pyramid_channels": 16}
    with pytest.raises(ValueError, match=f"{file}: does not fit retinanet; .*fpn_inner_3/kernel"):
        kzoo.build("retinanet", num_classes=3, weights=folder / file, **other)


def test_a_keras_file_of_another_model_has_its_backbone(saved):
    original, folder = saved
    two = {**SMALL, "num_classes": 3, "head_units": 8, "proposals_test": 9}
    path = folder / "model.keras"
    with pytest.raises(ValueError, match=r"model\.keras: does not fit faster_rcnn; .*rpn_conv_0/kernel"):
        kzoo.build("faster_rcnn", weights=path, **two)
    include = ["backbone_conv*", "backbone_bn*", "backbone_layer1*"]
    model = kzoo.build("faster_rcnn", weights=path, include=include, **two)
    np.testing.assert_array_equal(
        model.get_layer("backbone_layer1_1_conv2").kernel,
        original.get_layer("backbone_layer1_1_conv2").kernel,
    )


def test_a_network_that_counts_is_read_from_its_weights(tmp_path):
    """keras.layers.Normalization, which is in EfficientNet, has a whole number among its weights."""

    def network():
        layers = [
            keras.Input((2,)),
            keras.layers.Normalization(name="norm"),
            keras.layers.Dense(2, name="out"),
        ]
        return keras.Sequential(layers)

    original = network()
    original.set_weights([np.float32([1, 2]), np.float32([3, 4]), np.int32(9), *original.get_weights()[3:]])
    original.save_weights(tmp_path / "a.weights.h5")
    model = network()
    load_file(model, tmp_path / "a.weights.h5")
    for new, old in zip(model.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@SAVED
@pytest.mark.parametrize("how", ["cut", "empty", "other"])
def test_broken_files_of_keras(saved, tmp_path, file, how):
    content = (saved[1] / file).read_bytes()
    path = tmp_path / file
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "other": b"no model" * 99}[how])
    with pytest.raises(WeightsError, match=rf"{file}: not a whole \.(keras|weights\.h5) file"):
        kzoo.build("retinanet", num_classes=3, weights=path, **TINY_RETINANET)


def test_a_zip_that_is_no_model(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("readme.txt", "no model")
    with pytest.raises(WeightsError, match=r"a\.keras: not a whole \.keras file"):
        kzoo.build("retinanet", num_classes=3, weights=tmp_path / "a.keras", **TINY_RETINANET)


def test_a_keras_file_tells_how_its_model_was_built(saved):
    original, folder = saved
    model = kzoo.build("retinanet", weights=folder / "model.keras")
    assert model.zoo_options == original.zoo_options
    assert_same_weights(model, original)
    assert kzoo.build("retinanet", weights=folder / "model.keras", nms_threshold=0.7).zoo_options == (
        original.zoo_options | {"nms_threshold": 0.7}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("layer4.1.bn2.running_var"),
            "a.pth: does not fit classifier; the model's without a counterpart: "
            "backbone_layer4_1_bn2/moving_variance.",
        ),
        (
            lambda state: state.pop("fc.weight"),
            "the model's without a counterpart: classes_of_picture/kernel",
        ),
        (
            lambda state: state.update({"layer4.2.conv1.weight": np.zeros([2, 2, 3, 3], np.float32)}),
            "the file's without a counterpart: backbone_layer4_2_conv1/kernel.",
        ),
        (
            lambda state: state.update({"head.weight": np.zeros([2, 2], np.float32)}),
            "the file's without a counterpart: head.weight.",
        ),
        (
            lambda state: state.update({"layer1.0.conv1.weight": np.zeros([64, 64, 1, 1], np.float32)}),
            "of another shape: backbone_layer1_0_conv1/kernel ((1, 1, 64, 64) there, (3, 3, 64, 64) here).",
        ),
    ],
    ids=["missing", "missing class", "extra layer", "unknown", "shape"],
)
def test_a_checkpoint_that_does_not_fit(tmp_path, write_checkpoint, resnet_state, change, message):
    state = dict(resnet_state)
    change(state)
    path = write_checkpoint(tmp_path / "a.pth", state)
    with pytest.raises(ValueError) as error:
        kzoo.build("classifier", weights=path, **RESNET)
    assert message in str(error.value)


def test_a_checkpoint_of_a_larger_resnet(resnet_path):
    with pytest.raises(ValueError, match=r"backbone='resnet34': the weights of .* are of \"resnet18\""):
        kzoo.build("classifier", weights=resnet_path, **RESNET | {"backbone": "resnet34"})


def test_a_detectors_checkpoint_for_what_is_none(tmp_path, write_checkpoint):
    original = scrambled("retinanet", **FIVE_LEVELS)
    path = write_checkpoint(tmp_path / "a.pth", torchvisions_state(original, first=True))
    for name in ("unet", "faster_rcnn"):
        with pytest.raises(ValueError, match=rf"of torchvision's retinanet, and this is {name}\. As"):
            kzoo.build(name, num_classes=2, weights=path)
    unet = kzoo.build("unet", num_classes=2, weights=path, include="backbone_*")
    assert unet.zoo_options["backbone"] == "resnet18" and unet.zoo_options["num_classes"] == 2
    kernel = unet.get_layer("backbone_layer3_1_conv2").kernel
    np.testing.assert_array_equal(kernel, original.get_layer("backbone_layer3_1_conv2").kernel)


def test_of_two_stages_one_has_all_of_the_other(tmp_path, write_checkpoint):
    original = scrambled("mask_rcnn", **TWO_STAGES | {"mask_channels": 6})
    path = write_checkpoint(tmp_path / "a.pth", torchvisions_state(original, first=True))
    options = {option: value for option, value in TWO_STAGES.items() if option != "num_classes"}
    model = kzoo.build("faster_rcnn", weights=path, **options)
    assert_same_weights(model, original, rtol=1e-4)
    assert model.num_classes == 3 and all(name.startswith("mask_head_") for name in model.fitted.left)
    assert f"{len(model.fitted.left)} weights of it had no place here" in str(model.fitted)


def test_where_the_epsilon_of_a_file_is_from_is_told(tmp_path, write_checkpoint):
    original = scrambled("retinanet", **FIVE_LEVELS)
    state = torchvisions_state(original, first=True)
    with pytest.warns(UserWarning, match="taken to be fine-tuned from torchvision's COCO v1, .*epsilon of 0"):
        frozen = kzoo.build("retinanet", weights=write_checkpoint(tmp_path / "a.pth", state), **FIVE_LEVELS)
    counting = state | {"backbone.body.bn1.num_batches_tracked": np.int64(7)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trained = kzoo.build(
            "retinanet", weights=write_checkpoint(tmp_path / "b.pth", counting), **FIVE_LEVELS
        )
    variance, gamma = state["backbone.body.bn1.running_var"], state["backbone.body.bn1.weight"]
    np.testing.assert_array_equal(trained.get_layer("backbone_bn1").gamma, gamma)
    expected = gamma * np.sqrt((variance + 1e-5) / variance)
    np.testing.assert_allclose(frozen.get_layer("backbone_bn1").gamma, expected, rtol=1e-6)


def test_a_model_is_asked_with_weights_by_their_path(tmp_path, write_checkpoint, resnet, resnet_path):
    trained = open_published("classifier", str(resnet_path))
    assert (trained.num_classes, trained.labels, trained.input_size) == (3, None, (None, None))
    images = pictures(64)
    expected = resnet.predict_on_batch(images)["probabilities"]
    np.testing.assert_allclose(trained.predict(images)["probabilities"], expected, rtol=1e-6)
    with pytest.raises(ValueError, match="labels: 2 names"):
        open_published("classifier", str(resnet_path), ("cat", "dog"))
    with pytest.raises(ValueError, match=r"\.pth: of a classifier, and mask_rcnn is asked for"):
        open_published("mask_rcnn", str(resnet_path))

    original = scrambled("mask_rcnn", **TWO_STAGES | {"mask_channels": 6})
    path = write_checkpoint(tmp_path / "a.pth", torchvisions_state(original, first=False))
    with pytest.raises(ValueError, match=r"a\.pth: of a mask_rcnn, and faster_rcnn is asked for"):
        open_published("faster_rcnn", str(path))


def test_names_that_no_rule_is_for_can_be_skipped(tmp_path, write_checkpoint, resnet, resnet_state):
    state = resnet_state | {"layer1.0.se.weight": np.zeros([2], "f4"), "step": np.float32(3)}
    path = write_checkpoint(tmp_path / "a.pth", state)
    for name in ("classifier", "retinanet"):  # of which the latter takes the backbone alone
        with pytest.raises(ValueError, match=r"the file's without a counterpart: layer1\.0\.se\.weight, st"):
            kzoo.build(name, weights=path, num_classes=3)
    model = kzoo.build("classifier", weights=path, skip=["*.se", "step"])
    assert_same_weights(model, resnet)
    assert model.fitted.left == ("layer1.0.se.weight", "step")


def test_weights_that_are_no_numbers(tmp_path, write_checkpoint, resnet_state, saved):
    state = dict(resnet_state)
    state["layer2.0.bn1.bias"] = np.full_like(state["layer2.0.bn1.bias"], np.nan)
    path = write_checkpoint(tmp_path / "a.pth", state)
    with pytest.raises(WeightsError, match=r"not all numbers are finite.* in backbone_layer2_0_bn1/b"):
        kzoo.build("classifier", weights=path)
    broken = kzoo.build("retinanet", weights=saved[1] / "model.keras")
    broken.get_layer("box_head_out").bias.assign(np.full([36], np.inf))
    broken.save(tmp_path / "a.keras")
    broken.save_weights(tmp_path / "a.weights.h5")
    for file in ("a.keras", "a.weights.h5"):
        with pytest.raises(WeightsError, match=rf"{file}: not all numbers .*in box_head_out/bias"):
            kzoo.build("retinanet", weights=tmp_path / file, num_classes=3, **TINY_RETINANET)


def test_a_truncated_checkpoint(tmp_path, resnet_path):
    path = tmp_path / "cut.pth"
    path.write_bytes(resnet_path.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match="cut.pth: "):
        kzoo.build("classifier", weights=path, **RESNET)


def test_nothing_of_a_pickle_is_run(tmp_path):
    marker, path = tmp_path / "it ran", tmp_path / "evil.pth"
    command = f"touch '{marker}'".encode()
    index = b"\x80\2cos\nsystem\nX" + len(command).to_bytes(4, "little") + command + b"\x85R."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", index)
        archive.writestr("archive/version", "3\n")
    with pytest.raises(WeightsError, match=r"evil\.pth: .*os\.system"):
        kzoo.build("classifier", weights=path, **RESNET)
    assert not marker.exists()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A mirror and a cache of the test's own."""
    monkeypatch.setenv("KZOO_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("KZOO_HOME", str(tmp_path / "home"))
    (tmp_path / "mirror").mkdir()
    return tmp_path / "mirror", tmp_path / "home"


@pytest.fixture
def publish(folders, monkeypatch, write_checkpoint):
    """Puts a state dict on the mirror as if it was a published file, with its true digest in its name."""

    def put(name, weights, state):
        backbone = "resnet18" if name == "classifier" else "resnet50"
        record = published.find(name, backbone, weights)
        path = write_checkpoint(folders[0] / "made.pth", state)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path = path.rename(folders[0] / f"made-{digest[:8]}.pth")
        made = dataclasses.replace(record, url=f"https://example.org/{path.name}", backbone="resnet18")
        monkeypatch.setattr(published, "_PUBLISHED", (made,))
        return made

    return put


def test_a_published_classifier_and_its_backbone(publish, folders):
    original = scrambled("classifier", **RESNET | {"num_classes": 1000})
    made = publish("classifier", "imagenet:v1", torchvisions_state(original, first=False))
    model = kzoo.build("classifier", weights="imagenet", backbone="resnet18")
    assert model.zoo_options["num_classes"] == 1000
    assert_same_weights(model, original)
    assert model.fitted.source == f"imagenet:v1 ({made.url})"
    assert [path.name for path in (folders[1] / "weights").glob("*.pth")] == [made.url.rpartition("/")[2]]

    for name, options in (("retinanet", FIVE_LEVELS), ("unet", {"num_classes": 2, "backbone": "resnet18"})):
        other = kzoo.build(name, weights="imagenet:v1", **options)
        assert other.zoo_options["num_classes"] == options["num_classes"]
        backbone = [layer for layer in other.layers if layer.name in model.fitted.layers]
        assert {layer.name for layer in backbone} == set(other.fitted.layers)
        assert {"backbone_conv1", "backbone_layer3_1_bn2"} <= set(other.fitted.layers)
        for layer in backbone:
            for new, old in zip(
                layer.get_weights(), original.get_layer(layer.name).get_weights(), strict=True
            ):
                np.testing.assert_array_equal(new, old)
        assert {"classes_of_picture/kernel", "classes_of_picture/bias"} <= set(other.fitted.left)


def test_a_published_detector(publish):
    small = {"backbone": "resnet18", "pyramid_channels": 8, "head_units": 6, "roi_size": 3}
    whole = small | TWO_STAGES_V2 | {"num_classes": 90}
    original = scrambled("faster_rcnn", **whole)
    publish("faster_rcnn", "coco:v2", torchvisions_state(original, first=False))
    model = kzoo.build("faster_rcnn", weights="coco", **small)
    expected = whole | {"resize": (800, 1333)}
    assert {option: model.zoo_options[option] for option in expected} == expected
    assert_same_weights(model, original)
    assert model.num_classes == 90 and not model.fitted.anew

    given = kzoo.build("faster_rcnn", weights="coco:v2", num_classes=3, resize=(300, 500), **small)
    assert given.zoo_options["num_classes"] == 3 and given.zoo_options["resize"] == (300, 500)
    assert set(given.fitted.anew) == {"box_head_classes", "box_head_deltas"}
    assert_same_weights(given, original, but=given.fitted.anew)
    of_one_size = kzoo.build("faster_rcnn", weights="coco", input_shape=(128, 128, 3), **small)
    assert of_one_size.zoo_options["resize"] is None
    with pytest.raises(ValueError, match="does not fit faster_rcnn; .*rpn_conv_1/kernel"):
        kzoo.build("faster_rcnn", weights="coco", rpn_depth=1, **small)


def test_the_first_detectors_are_run_without_an_epsilon(publish):
    small = {"backbone": "resnet18", "pyramid_channels": 8, "head_units": 6, "roi_size": 3}
    original = scrambled("faster_rcnn", num_classes=90, **small)
    publish("faster_rcnn", "coco:v1", torchvisions_state(original, first=True))
    model = kzoo.build("faster_rcnn", weights="coco:v1", **small)
    there, here = (of.get_layer("backbone_bn1") for of in (original, model))
    x = RNG.normal(size=[3, 64])
    gamma, beta, mean, variance = (np.float64(values) for values in there.get_weights())
    own_gamma, own_beta, own_mean, own_variance = (np.float64(values) for values in here.get_weights())
    expected = gamma * (x - mean) / np.sqrt(variance) + beta
    found = own_gamma * (x - own_mean) / np.sqrt(own_variance + here.epsilon) + own_beta
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert_same_weights(model, original, rtol=1e-4)


def test_a_published_file_by_its_path(publish, folders):
    small = {"backbone": "resnet18", "pyramid_channels": 8, "head_units": 6, "roi_size": 3}
    whole = small | TWO_STAGES_V2 | {"num_classes": 90}
    original = scrambled("faster_rcnn", **whole)
    made = publish("faster_rcnn", "coco:v2", torchvisions_state(original, first=False))
    path = folders[0] / made.url.rpartition("/")[2]
    options = {option: value for option, value in small.items() if option != "backbone"}
    model = kzoo.build("faster_rcnn", weights=path, **options)
    assert model.zoo_options | whole | {"resize": (800, 1333)} == model.zoo_options
    assert model.fitted.source == f"coco:v2 ({path})" and not model.fitted.anew
    assert_same_weights(model, original)
    with pytest.raises(ValueError, match="backbone='compact': the weights of .* are of \"resnet18\""):
        kzoo.build("faster_rcnn", weights=path, **options, backbone="compact")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(WeightsError, match=rf"{path}: has the name of a published file, but another"):
        kzoo.build("faster_rcnn", weights=path, **options)
    assert not (folders[1] / "weights").exists()


def test_a_published_file_with_another_digest(folders, write_checkpoint, resnet_state):
    mirror, home = folders
    write_checkpoint(mirror / "resnet18-f37072fd.pth", {"fc.weight": resnet_state["fc.weight"]})
    with pytest.raises(WeightsError, match=r"brought another file .* sha256 is [0-9a-f]{64} instead of f370"):
        kzoo.build("classifier", weights="imagenet", backbone="resnet18")
    assert not list(home.rglob("*.pth"))


def test_a_published_file_that_is_not_there(folders):
    with pytest.raises(WeightsError, match=r"cannot fetch .*by hand, put the file .* at .*resnet18-f37072fd"):
        kzoo.build("classifier", weights="imagenet", backbone="resnet18")


SHALLOW = dict(num_classes=3, pyramid_channels=8, head_depth=1, anchor_sizes=(16, 32))


def made_elsewhere(network, model):
    """The weights of each layer of the model's backbone, beside those of the layer of a network."""
    layers = [layer for layer in model.get_layer("backbone").layers if layer.weights]
    assert len(layers) > 5
    for layer in layers:
        yield from zip(layer.get_weights(), network.get_layer(layer.name).get_weights(), strict=True)


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")
def test_the_weights_of_keras_applications(tmp_path, monkeypatch):
    network = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(None, None, 3))
    network.set_weights([RNG.uniform(0.5, 1, weight.shape) for weight in network.get_weights()])
    network.save_weights(tmp_path / "made.weights.h5")
    asked = []

    def get_file(name, *args, **kwargs):
        asked.append(name)
        return str(tmp_path / "made.weights.h5")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    backbone = "keras.applications.MobileNet"
    model = kzoo.build("retinanet", backbone=backbone, weights="imagenet", **SHALLOW)
    for new, old in made_elsewhere(network, model):
        np.testing.assert_array_equal(new, old)
    assert asked and model.fitted.layers == ("backbone",)
    assert str(model.fitted) == "1 layer has the weights of keras.applications.MobileNet on ImageNet."
    with pytest.raises(ValueError, match="include= and skip= do not look into backbones of Keras"):
        kzoo.build("retinanet", backbone=backbone, weights="imagenet", skip=["backbone*"], **SHALLOW)


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")
def test_weights_of_keras_applications_that_cannot_be_had(monkeypatch):
    def get_file(*args, **kwargs):
        raise OSError("URL fetch failure on https://example.org: None -- no route")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    with pytest.raises(
        ValueError, match='weights="imagenet": Keras cannot give those of .*MobileNet: URL fetch'
    ):
        kzoo.build("retinanet", backbone="keras.applications.MobileNet", weights="imagenet", **SHALLOW)


def test_the_weights_of_keras_cv(monkeypatch):
    import keras_cv

    constructor = keras_cv.models.CSPDarkNetBackbone
    _, network = keras_cv_backbones.network("csp_darknet_tiny", (None, None))
    network.set_weights([RNG.uniform(0.5, 1, weight.shape) for weight in network.get_weights()])
    asked = []

    def from_preset(preset, load_weights=None):
        asked.append((preset, load_weights))
        return network

    monkeypatch.setattr(constructor, "from_preset", from_preset)
    model = kzoo.build("retinanet", backbone="keras_cv.csp_darknet_tiny", weights="imagenet", **SHALLOW)
    assert asked == [("csp_darknet_tiny_imagenet", True)]
    for new, old in made_elsewhere(network, model):
        np.testing.assert_array_equal(new, old)


def test_weights_of_keras_cv_that_there_are_not(monkeypatch):
    with pytest.raises(ValueError, match='weights="imagenet": keras-cv publishes none for keras_cv.resnet18'):
        kzoo.build("retinanet", backbone="keras_cv.resnet18", weights="imagenet", **SHALLOW)

    import keras_cv

    def from_preset(preset, load_weights=None):
        raise OSError("no route to host")

    monkeypatch.setattr(keras_cv.models.CSPDarkNetBackbone, "from_preset", from_preset)
    with pytest.raises(ValueError, match="keras-cv cannot give those of keras_cv.csp_darknet_tiny: no route"):
        kzoo.build("retinanet", backbone="keras_cv.csp_darknet_tiny", weights="imagenet", **SHALLOW)


def test_a_model_that_was_not_given_weights_tells_nothing():
    assert kzoo.build("retinanet", num_classes=3, **TINY_RETINANET).fitted is None


@pytest.mark.parametrize(
    ("other", "side"),
    [
        ({"anchor_sizes": (16,)}, "the file's without a counterpart: layers/"),
        ({"head_depth": 0}, "the file's without a counterpart: layers/"),
        ({"head_depth": 2}, "the model's without a counterpart: layers/"),
    ],
)
def test_an_h5_of_another_architecture_is_refused(tmp_path, other, side):
    """Keras names layers in it by kind and count: weights would come into layers that they are not of."""
    kzoo.build("retinanet", num_classes=3, **TINY_RETINANET).save_weights(tmp_path / "a.weights.h5")
    model = kzoo.build("retinanet", num_classes=3, **TINY_RETINANET | other)
    before = model.get_weights()
    with pytest.raises(ValueError, match="of another architecture than retinanet") as raised:
        load_file(model, tmp_path / "a.weights.h5")
    assert side in str(raised.value)
    for weight, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, was)


def test_patterns_may_stand_alone_and_must_be_text(tmp_path):
    original = kzoo.build("retinanet", num_classes=3, **TINY_RETINANET)
    original.save(tmp_path / "a.keras")
    model = kzoo.build("retinanet", weights=tmp_path / "a.keras", skip="box_head*")
    assert not [layer for layer in model.fitted.layers if layer.startswith("box_head")]
    assert "class_head_out" in model.fitted.layers
    with pytest.raises(ValueError, match=r"include=3: patterns of layers are expected"):
        kzoo.build("retinanet", weights=tmp_path / "a.keras", include=3)
