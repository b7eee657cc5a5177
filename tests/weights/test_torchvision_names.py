import numpy as np
import pytest

from kzoo.weights import WeightsError
from kzoo.weights.torchvision_names import from_torchvision

RNG = np.random.default_rng(0)


def values(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def correlate(x, kernel):
    """What PyTorch's Conv2d makes of x [C, H, W] with a kernel [out, C, h, w], without padding."""
    _, _, height, width = kernel.shape
    rows, columns = x.shape[1] - height + 1, x.shape[2] - width + 1
    y = np.zeros([len(kernel), rows, columns])
    for i in range(rows):
        for j in range(columns):
            y[:, i, j] = np.einsum("chw,ochw->o", x[:, i : i + height, j : j + width], kernel)
    return y


def correlate_here(x, kernel):
    """What a layer here makes of x [H, W, C] with a kernel [h, w, C, out], without padding."""
    height, width = kernel.shape[:2]
    rows, columns = x.shape[0] - height + 1, x.shape[1] - width + 1
    y = np.zeros([rows, columns, kernel.shape[-1]])
    for i in range(rows):
        for j in range(columns):
            y[i, j] = np.einsum("hwc,hwco->o", x[i : i + height, j : j + width], kernel)
    return y


def channels_last(x):
    return np.moveaxis(x, 0, -1)


def norm(name, channels=2, batches=True):
    """The state of a batch normalisation."""
    state = {
        f"{name}.weight": values(channels),
        f"{name}.bias": values(channels),
        f"{name}.running_mean": values(channels),
        f"{name}.running_var": np.abs(values(channels)) + 0.1,
    }
    return state | ({f"{name}.num_batches_tracked": np.int64(7)} if batches else {})


def layer(name, *shape):
    return {f"{name}.weight": values(*shape), f"{name}.bias": values(shape[0])}


def test_classifier():
    state = {
        "conv1.weight": values(2, 3, 7, 7),
        **norm("bn1"),
        "layer1.0.conv2.weight": values(2, 2, 3, 3),
        **norm("layer4.11.bn3"),
        "layer2.0.downsample.0.weight": values(4, 2, 1, 1),
        **norm("layer2.0.downsample.1", 4),
        **layer("fc", 5, 4),
    }
    found = from_torchvision(state, "classifier", "a.pth")
    statistics = ("gamma", "beta", "moving_mean", "moving_variance")
    assert set(found) == {
        "backbone_conv1/kernel",
        *(f"backbone_bn1/{name}" for name in statistics),
        "backbone_layer1_0_conv2/kernel",
        *(f"backbone_layer4_11_bn3/{name}" for name in statistics),
        "backbone_layer2_0_downsample_0/kernel",
        *(f"backbone_layer2_0_downsample_1/{name}" for name in statistics),
        "classes_of_picture/kernel",
        "classes_of_picture/bias",
    }
    for name, own in zip(("weight", "bias", "running_mean", "running_var"), statistics, strict=True):
        np.testing.assert_array_equal(found[f"backbone_bn1/{own}"], state[f"bn1.{name}"])
    np.testing.assert_array_equal(found["classes_of_picture/bias"], state["fc.bias"])


def test_convolutions_compute_the_same():
    state = {"conv1.weight": values(4, 3, 3, 2)}  # of another height than width
    kernel = from_torchvision(state, "classifier", "")["backbone_conv1/kernel"]
    x = values(3, 5, 6)
    expected = channels_last(correlate(x, state["conv1.weight"]))
    np.testing.assert_allclose(correlate_here(channels_last(x), kernel), expected, rtol=1e-5, atol=1e-5)


def test_fully_connected_layers_compute_the_same():
    state, x = layer("fc", 5, 4), values(4)
    found = from_torchvision(state, "classifier", "")
    y = x @ found["classes_of_picture/kernel"] + found["classes_of_picture/bias"]
    np.testing.assert_allclose(y, state["fc.weight"] @ x + state["fc.bias"], rtol=1e-5)


def test_transposed_convolutions_compute_the_same():
    """PyTorch has them as [in, out, h, w], Keras as [h, w, out, in]."""
    state = {
        "roi_heads.mask_predictor.conv5_mask.weight": values(3, 4, 2, 2),
        "roi_heads.mask_predictor.conv5_mask.bias": values(4),
    }
    found = from_torchvision(state, "mask_rcnn", "")
    x, there, here = values(3, 2, 3), np.zeros([4, 4, 6]), np.zeros([4, 6, 4])
    for i in range(2):
        for j in range(3):
            for a in range(2):
                for b in range(2):
                    weight = state["roi_heads.mask_predictor.conv5_mask.weight"][:, :, a, b]
                    there[:, 2 * i + a, 2 * j + b] = x[:, i, j] @ weight
                    here[2 * i + a, 2 * j + b] = found["mask_head_up/kernel"][a, b] @ x[:, i, j]
    np.testing.assert_allclose(here, channels_last(there), rtol=1e-5)
    bias = state["roi_heads.mask_predictor.conv5_mask.bias"]
    np.testing.assert_array_equal(found["mask_head_up/bias"], bias)


@pytest.mark.parametrize("module", ["fc6", "5"])  # 5: behind four convolutions, and what makes it flat
def test_the_first_fully_connected_layer_sees_the_same_crops(module):
    name = f"roi_heads.box_head.{module}"
    state = layer(name, 6, 2 * 3 * 3) | layer("backbone.fpn.layer_blocks.0.0", 2, 2, 3, 3)
    found = from_torchvision(state, "faster_rcnn", "")
    crop = values(2, 3, 3)  # [C, h, w]
    expected = state[f"{name}.weight"] @ crop.ravel()
    np.testing.assert_allclose(
        channels_last(crop).ravel() @ found["box_head_fc6/kernel"], expected, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(found["box_head_fc6/bias"], state[f"{name}.bias"])


def test_the_second_fully_connected_layer_is_not_turned():
    state = layer("roi_heads.box_head.fc7", 4, 4)
    kernel = from_torchvision(state, "faster_rcnn", "")["box_head_fc7/kernel"]
    np.testing.assert_array_equal(kernel, state["roi_heads.box_head.fc7.weight"].T)


@pytest.mark.parametrize(
    ("model", "old", "new"),
    [
        ("faster_rcnn", "backbone.fpn.inner_blocks.3", "backbone.fpn.inner_blocks.3.0"),
        ("retinanet", "backbone.fpn.layer_blocks.0", "backbone.fpn.layer_blocks.0.0"),
        ("faster_rcnn", "rpn.head.conv", "rpn.head.conv.0.0"),
        ("mask_rcnn", "roi_heads.mask_head.mask_fcn1", "roi_heads.mask_head.0.0"),
        ("mask_rcnn", "roi_heads.mask_head.mask_fcn4", "roi_heads.mask_head.3.0"),
        ("retinanet", "head.classification_head.conv.0", "head.classification_head.conv.0.0"),
        ("retinanet", "head.regression_head.conv.6", "head.regression_head.conv.3.0"),
    ],
)
def test_names_of_torchvisions_first_years(model, old, new):
    weight, bias = values(2, 2, 3, 3), values(2)
    first, second = (
        from_torchvision({f"{name}.weight": weight, f"{name}.bias": bias}, model, "") for name in (old, new)
    )
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize(
    ("model", "module", "expected"),
    [
        ("retinanet", "backbone.body.layer3.5.conv2", "backbone_layer3_5_conv2"),
        ("retinanet", "backbone.fpn.inner_blocks.0.0", "fpn_inner_3"),
        ("retinanet", "backbone.fpn.layer_blocks.2.0", "fpn_layer_5"),
        ("retinanet", "backbone.fpn.extra_blocks.p7", "fpn_p7"),
        ("retinanet", "head.classification_head.conv.2.0", "class_head_conv_2"),
        ("retinanet", "head.regression_head.conv.3.0", "box_head_conv_3"),
        ("retinanet", "head.regression_head.bbox_reg", "box_head_out"),
        ("faster_rcnn", "backbone.fpn.inner_blocks.0.0", "fpn_inner_2"),
        ("mask_rcnn", "backbone.fpn.layer_blocks.3.0", "fpn_layer_5"),
        ("faster_rcnn", "rpn.head.conv.1.0", "rpn_conv_1"),
        ("faster_rcnn", "rpn.head.cls_logits", "rpn_objectness_head_out"),
        ("mask_rcnn", "rpn.head.bbox_pred", "rpn_box_head_out"),
        ("faster_rcnn", "roi_heads.box_head.3.0", "box_head_conv_3"),
        ("mask_rcnn", "roi_heads.mask_head.1.0", "mask_head_conv_1"),
    ],
)
def test_names(model, module, expected):
    found = from_torchvision(layer(module, 4, 4, 1, 1), model, "")
    assert set(found) == {f"{expected}/kernel", f"{expected}/bias"}


@pytest.mark.parametrize(
    ("model", "module", "expected"),
    [
        ("faster_rcnn", "backbone.fpn.inner_blocks.1.1", "fpn_inner_3_bn"),
        ("mask_rcnn", "backbone.fpn.layer_blocks.0.1", "fpn_layer_2_bn"),
        ("faster_rcnn", "roi_heads.box_head.2.1", "box_head_bn_2"),
        ("mask_rcnn", "roi_heads.mask_head.3.1", "mask_head_bn_3"),
    ],
)
def test_names_of_batch_normalisation(model, module, expected):
    state = norm(module)
    found = from_torchvision(state, model, "")
    assert set(found) == {
        f"{expected}/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    np.testing.assert_array_equal(found[f"{expected}/gamma"], state[f"{module}.weight"])


@pytest.mark.parametrize(("head", "expected"), [("classification", "class"), ("regression", "box")])
def test_names_of_group_normalisation(head, expected):
    state = layer(f"head.{head}_head.conv.2.1", 4)
    found = from_torchvision(state, "retinanet", "")
    assert set(found) == {f"{expected}_head_gn_2/gamma", f"{expected}_head_gn_2/beta"}
    np.testing.assert_array_equal(
        found[f"{expected}_head_gn_2/gamma"], state[f"head.{head}_head.conv.2.1.weight"]
    )


def test_retinanets_background_is_left_out_of_every_anchor():
    """torchvision numbers the outputs of 9 anchors and 91 classes, anchor after anchor."""
    state = layer("head.classification_head.cls_logits", 9 * 91, 2, 3, 3)
    state |= layer("head.regression_head.bbox_reg", 9 * 4, 2, 3, 3)
    found = from_torchvision(state, "retinanet", "")
    kernel, bias = found["class_head_out/kernel"], found["class_head_out/bias"]
    assert kernel.shape == (3, 3, 2, 9 * 90) and bias.shape == (9 * 90,)
    for anchor, label in ((0, 0), (0, 89), (1, 0), (4, 17), (8, 89)):
        there = anchor * 91 + label + 1
        weight = state["head.classification_head.cls_logits.weight"][there]
        np.testing.assert_array_equal(kernel[..., anchor * 90 + label], weight.transpose(1, 2, 0))
        assert bias[anchor * 90 + label] == state["head.classification_head.cls_logits.bias"][there]
    assert found["box_head_out/kernel"].shape == (3, 3, 2, 36)  # each anchor has one box


def test_the_second_stage_has_no_box_and_no_mask_of_the_background():
    state = layer("roi_heads.box_predictor.cls_score", 5, 6)
    state |= layer("roi_heads.box_predictor.bbox_pred", 5 * 4, 6)
    state |= layer("roi_heads.mask_predictor.mask_fcn_logits", 5, 3, 1, 1)
    found = from_torchvision(state, "mask_rcnn", "")
    weight, bias = (state[f"roi_heads.box_predictor.bbox_pred.{part}"] for part in ("weight", "bias"))
    np.testing.assert_array_equal(found["box_head_deltas/kernel"], weight[4:].T)
    np.testing.assert_array_equal(found["box_head_deltas/bias"], bias[4:])
    weight = state["roi_heads.mask_predictor.mask_fcn_logits.weight"]
    np.testing.assert_array_equal(found["mask_head_out/kernel"][0, 0], weight[1:, :, 0, 0].T)
    bias = state["roi_heads.mask_predictor.mask_fcn_logits.bias"]
    np.testing.assert_array_equal(found["mask_head_out/bias"], bias[1:])
    # That it tells the background from the objects is its work.
    weight = state["roi_heads.box_predictor.cls_score.weight"]
    np.testing.assert_array_equal(found["box_head_classes/kernel"], weight.T)


@pytest.mark.parametrize("model", ["retinanet", "faster_rcnn", "mask_rcnn"])
def test_a_backbone_that_normalises_without_an_epsilon_computes_the_same(model):
    """As torchvision's first detectors do; batch normalisation here has an epsilon of 1e-5."""
    state = norm("backbone.body.bn1", 4, batches=False) | norm("backbone.fpn.inner_blocks.0.1", 4)
    variance = state["backbone.body.bn1.running_var"]
    variance[:2] = [1e-9, 1e-5]  # where it matters
    found = from_torchvision(state, model, "", epsilon=0.0)
    x = values(4)
    gamma, beta, mean, moved = (
        found[f"backbone_bn1/{name}"].astype(float)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    here = gamma * (x - mean) / np.sqrt(moved + 1e-5) + beta
    weight, bias, mean = (state[f"backbone.body.bn1.{name}"] for name in ("weight", "bias", "running_mean"))
    there = weight * (x - mean.astype(float)) / np.sqrt(variance.astype(float)) + bias
    np.testing.assert_allclose(here, there, rtol=1e-5)
    (pyramid_gamma,) = (array for name, array in found.items() if name.startswith("fpn") and "gamma" in name)
    np.testing.assert_array_equal(pyramid_gamma, state["backbone.fpn.inner_blocks.0.1.weight"])


def test_a_channel_without_variance_stays_finite():
    state = norm("backbone.body.bn1", 2, batches=False)
    state["backbone.body.bn1.running_var"][0] = 0
    gamma = from_torchvision(state, "retinanet", "", epsilon=0.0)["backbone_bn1/gamma"]
    assert gamma[0] == state["backbone.body.bn1.weight"][0] and np.isfinite(gamma).all()


@pytest.mark.parametrize(("model", "name"), [("retinanet", "backbone.body.bn1"), ("classifier", "bn1")])
@pytest.mark.parametrize("batches", [True, False])
def test_a_backbone_with_the_epsilon_of_here_is_left_as_it_is(model, name, batches):
    """Also without a count of batches: frozen from the start, it has none."""
    state = norm(name, batches=batches)
    gamma = from_torchvision(state, model, "")["backbone_bn1/gamma"]
    np.testing.assert_array_equal(gamma, state[f"{name}.weight"])


def test_a_backbone_with_another_epsilon():
    state = norm("bn1")
    state["bn1.running_var"][:] = [1e-3, 0.0]
    gamma = from_torchvision(state, "classifier", "", epsilon=1e-3)["backbone_bn1/gamma"]
    factor = np.sqrt(np.array([1e-3 + 1e-5, 1e-5]) / [2e-3, 1e-3])
    np.testing.assert_allclose(gamma, state["bn1.weight"] * factor, rtol=1e-6)


@pytest.mark.parametrize(
    ("gamma", "variance"),
    [((3,), (2,)), ((3,), (1,)), ((1, 3), (3,)), ((3, 1), (3, 1)), ((3, 1), (1, 3))],
)
def test_statistics_of_other_shapes_are_left_to_whoever_compares_shapes(gamma, variance):
    state = norm("backbone.body.bn1", 3)
    state["backbone.body.bn1.weight"] = values(*gamma)
    state["backbone.body.bn1.running_var"] = np.abs(values(*variance))
    found = from_torchvision(state, "retinanet", "", epsilon=0.0)
    np.testing.assert_array_equal(found["backbone_bn1/gamma"], state["backbone.body.bn1.weight"].T)
    assert found["backbone_bn1/moving_variance"].shape == variance[::-1]


@pytest.mark.parametrize(
    "module",
    [
        "layer1",
        "layer1.0",
        "layer1.0.conv",
        "layer1.0.conv1.x",
        "layer5.0.conv1",
        "layer1.0.conv4",
        "layer1.0.downsample.2",
        "layer1.0.downsample",
        "layer1.٣.conv1",
        "layer1.1000.conv1",
        "conv1.0",
    ],
)
def test_names_that_no_backbone_has(module):
    assert list(from_torchvision(layer(module, 2, 2), "classifier", "")) == [
        *(f"{module}.weight", f"{module}.bias"),
    ]


@pytest.mark.parametrize(
    ("model", "one", "two", "expected"),
    [
        ("faster_rcnn", "roi_heads.box_head.5", "roi_heads.box_head.7", "box_head_fc6/kernel"),
        ("faster_rcnn", "rpn.head.conv", "rpn.head.conv.0.0", "rpn_conv_0/kernel"),
        ("mask_rcnn", "roi_heads.mask_head.0.0", "roi_heads.mask_head.mask_fcn1", "mask_head_conv_0/kernel"),
        (
            "retinanet",
            "head.regression_head.conv.0",
            "head.regression_head.conv.1",
            "box_head_conv_0/kernel",
        ),
    ],
)
def test_two_names_of_one_weight(model, one, two, expected):
    state = {f"{one}.weight": values(4, 4), f"{two}.weight": values(4, 4)}
    with pytest.raises(WeightsError) as error:
        from_torchvision(state, model, "my.pth")
    for part in ("my.pth", f"{one}.weight", f"{two}.weight", expected):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "roi_heads.box_predictor.cls_score.weight",
        "roi_heads.box_head.fc6.weight",
        "roi_heads.box_head.fc6.bias",
        "backbone.body.bn1.running_var",
    ],
)
def test_a_single_number_is_no_weight(name):
    state = layer("backbone.fpn.layer_blocks.0.0", 2, 2, 3, 3) | {name: np.float32(1)}
    with pytest.raises(WeightsError, match=f"my.pth: {name} is a single number"):
        from_torchvision(state, "faster_rcnn", "my.pth")


@pytest.mark.parametrize("shape", [(4, 0), (0, 4), (0, 0), (3, 0, 1, 1), (3, 4, 2)])
@pytest.mark.parametrize("name", ["box_head.fc6", "box_predictor.cls_score", "box_predictor.bbox_pred"])
def test_weights_of_any_shape_are_left_to_whoever_compares_shapes(name, shape):
    state = MASK_RCNN | {f"roi_heads.{name}.weight": values(*shape)}
    assert set(from_torchvision(state, "mask_rcnn", "")) == set(from_torchvision(MASK_RCNN, "mask_rcnn", ""))


@pytest.mark.parametrize("name", ["head.x_head.conv.{}.weight", "roi_heads.mask_head.mask_fcn{}.weight"])
def test_numbers_in_names_past_all_reason(name):
    (found,) = from_torchvision({name.format("9" * 5000): values(2)}, "retinanet", "")
    assert found == name.format("9" * 5000)


def test_unknown_names_stay_what_they_are_and_are_no_layers_of_here():
    state = layer("fc", 2, 3) | {"backbone_conv1/kernel": values(4, 5), "step": np.float32(7)}
    found = from_torchvision(state, "classifier", "my.pth")
    assert {name: of.shape for name, of in found.items()} == {
        **{"classes_of_picture/kernel": (3, 2), "classes_of_picture/bias": (2,)},
        **{"backbone_conv1?kernel": (4, 5), "step": ()},
    }


@pytest.mark.parametrize("model", ["classifier", "retinanet", "faster_rcnn", "mask_rcnn"])
def test_a_state_of_nothing(model):
    assert from_torchvision({}, model, "a.pth") == {}


MASK_RCNN = {
    **layer("backbone.fpn.layer_blocks.0.0", 2, 2, 3, 3),
    **norm("backbone.body.bn1", batches=False),
    **layer("roi_heads.box_head.fc6", 4, 18),
    **layer("roi_heads.box_predictor.cls_score", 3, 4),
    **layer("roi_heads.box_predictor.bbox_pred", 12, 4),
    **layer("roi_heads.mask_predictor.mask_fcn_logits", 3, 2, 1, 1),
}
RETINANET = {
    **layer("head.classification_head.cls_logits", 6, 2, 3, 3),
    **layer("head.regression_head.bbox_reg", 8, 2, 3, 3),
}


@pytest.mark.parametrize(
    ("model", "missing"),
    [("mask_rcnn", name) for name in MASK_RCNN] + [("retinanet", name) for name in RETINANET],
)
def test_a_missing_weight_is_missing_and_the_others_are_there(model, missing):
    """Whoever fits them to a model tells what is missing."""
    state = dict(MASK_RCNN if model == "mask_rcnn" else RETINANET)
    whole = from_torchvision(state, model, "")
    del state[missing]
    assert len(from_torchvision(state, model, "")) == len(whole) - 1


def test_numbers_of_outputs_that_do_not_add_up_are_left_to_whoever_compares_shapes():
    state = RETINANET | layer("head.classification_head.cls_logits", 7, 2, 3, 3)
    assert from_torchvision(state, "retinanet", "")["class_head_out/bias"].shape == (7,)
    state = (
        MASK_RCNN | layer("roi_heads.box_predictor.bbox_pred", 13, 4) | layer("roi_heads.box_head.fc6", 4, 7)
    )
    found = from_torchvision(state, "mask_rcnn", "")
    assert found["box_head_deltas/kernel"].shape == (4, 13) and found["box_head_fc6/kernel"].shape == (7, 4)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_are_taken(dtype):
    state = {name: array.astype(dtype) for name, array in norm("backbone.body.bn1", batches=False).items()}
    found = from_torchvision(state, "retinanet", "")
    assert all(np.isfinite(array).all() for array in found.values())
    np.testing.assert_allclose(found["backbone_bn1/beta"], state["backbone.body.bn1.bias"])
