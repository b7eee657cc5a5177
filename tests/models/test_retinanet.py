import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.layers.anchors import Anchors
from kzoo.layers.detections import Detections
from kzoo.layers.matching import Match

TINY = dict(num_classes=3, backbone="compact", pyramid_channels=16, head_depth=1, anchor_sizes=(16, 32))
RNG = np.random.default_rng(0)


def tiny(**options):
    keras.utils.set_random_seed(0)
    return kzoo.build("retinanet", **TINY | {"input_shape": (None, None, 3)} | options)


def batch(pictures=4, height=64, width=64):
    """Bright rectangles on noise; the last picture has one object less, the row is padding."""
    images = RNG.integers(0, 60, [pictures, height, width, 3], dtype=np.uint8)
    boxes, classes = np.zeros([pictures, 2, 4], np.float32), np.full([pictures, 2], -1, np.int32)
    for picture in range(pictures):
        for i, left in enumerate((4, 36)[: 1 if picture == pictures - 1 else 2]):
            x, y = left + RNG.integers(0, 6), RNG.integers(0, 40)
            label = RNG.integers(0, 3)
            images[picture, y : y + 18, x : x + 18, label] = 250
            boxes[picture, i], classes[picture, i] = [x, y, x + 18, y + 18], label
    return {"images": images, "boxes": boxes, "classes": classes}


@pytest.fixture(scope="module")
def trained(dataset):
    """A model that was trained a little, with what it showed."""
    model = tiny(input_shape=(64, 64, 3), normalization="batch", score_threshold=0.02, max_detections=30)
    model.compile(keras.optimizers.AdamW(3e-3))
    data = dataset(batch(8) | {"image_id": np.arange(8)}).repeat(6)
    history = model.fit(data, epochs=2, validation_data=dataset(batch(6)), verbose=0).history
    return model, history


def test_fit_lowers_the_losses_and_they_sum_up(trained):
    _, history = trained
    assert set(history) == {
        name for loss in ("loss", "classification", "box") for name in (loss, f"val_{loss}")
    }
    for name in ("loss", "classification"):
        assert history[name][1] < 0.9 * history[name][0]
    for prefix in ("", "val_"):
        total = np.add(history[f"{prefix}classification"], history[f"{prefix}box"])
        np.testing.assert_allclose(history[f"{prefix}loss"], total, rtol=1e-4)


def test_predict(trained):
    model, _ = trained
    images = batch(3)["images"]
    answers = model.predict(images, verbose=0)
    kinds = {name: (values.shape, values.dtype) for name, values in answers.items()}
    assert kinds == {
        "boxes": ((3, 30, 4), np.float32),
        "scores": ((3, 30), np.float32),
        "classes": ((3, 30), np.int32),
        "num_detections": ((3,), np.int32),
    }
    assert answers["num_detections"].min() > 0
    assert np.all(np.diff(answers["scores"], axis=1) <= 0)
    for picture, count in enumerate(answers["num_detections"]):
        boxes, scores, classes = (answers[name][picture] for name in ("boxes", "scores", "classes"))
        assert np.all(scores[:count] > 0.02) and np.all(scores[count:] == 0)
        assert set(classes[:count]) <= {0, 1, 2} and set(classes[count:]) <= {-1}
        assert np.all(boxes[:count, 2:] >= boxes[:count, :2]) and np.all((boxes >= 0) & (boxes <= 64))
        assert np.all(boxes[count:] == 0)


def test_pictures_of_bytes_and_of_floats_are_the_same(trained):
    model, _ = trained
    images = batch(2)["images"]
    expected = model.predict(images, verbose=0)
    for other in (images.astype(np.float32), {"images": images}):
        for name, values in model.predict(other, verbose=0).items():
            np.testing.assert_array_equal(values, expected[name])


def test_save_and_load(trained, dataset, tmp_path):
    model, _ = trained
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.zoo_name == "retinanet"
    assert again.zoo_options == model.zoo_options
    assert again.zoo_options["anchor_sizes"] == (16, 32) and again.zoo_options["match_best"] is True
    data = batch(2)
    expected = model.predict(data["images"], verbose=0)
    for name, values in again.predict(data["images"], verbose=0).items():
        np.testing.assert_array_equal(values, expected[name])
    expected = model.evaluate(dataset(data), verbose=0, return_dict=True)
    assert again.evaluate(dataset(data), verbose=0, return_dict=True) == pytest.approx(expected)


@pytest.fixture(scope="module")
def any_size():
    return tiny(score_threshold=0.0, max_detections=5)


def test_any_size_of_picture(any_size, losses_and_gradients):
    for height, width in ((64, 64), (70, 93), (17, 200), (64, 64)):
        answers = any_size.predict(batch(2, 64, 64)["images"][:, :height, :width], verbose=0)
        assert answers["num_detections"].tolist() == [5, 5]
        losses, _ = losses_and_gradients(any_size, batch(2, max(height, 64), max(width, 64)))
        assert all(np.isfinite(loss) and loss > 0 for loss in losses.values())


def test_answers_of_a_picture_do_not_depend_on_the_others(any_size):
    images = batch(3)["images"]
    together = any_size.predict(images, verbose=0)
    alone = any_size.predict(images[1:2], verbose=0)
    for name in together:
        np.testing.assert_allclose(together[name][1:2], alone[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rows", [2, 0])
def test_pictures_without_objects_teach_background(any_size, losses_and_gradients, rows):
    arrays = batch(2)
    arrays["boxes"], arrays["classes"] = np.zeros([2, rows, 4]), np.full([2, rows], -1)
    losses, gradients = losses_and_gradients(any_size, arrays)
    assert losses["classification"] > 0 and losses["box"] == 0
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    by_name = {name: np.abs(gradient).max() for name, gradient in gradients.items()}
    assert by_name["class_head_out/kernel"] > 0 and by_name["class_head_out/bias"] > 0
    assert by_name["backbone_conv1/kernel"] > 0
    assert by_name["box_head_out/kernel"] == 0


def test_a_step_on_background_alone_lowers_its_loss(dataset):
    model = tiny(input_shape=(64, 64, 3))
    model.compile(keras.optimizers.SGD(0.01))
    arrays = batch(4)
    arrays["boxes"], arrays["classes"] = np.zeros([4, 1, 4], np.float32), np.full([4, 1], -1, np.int32)
    losses = model.fit(dataset(arrays).repeat(3), epochs=2, verbose=0).history["classification"]
    assert losses[1] < losses[0]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_losses_are_float32_and_finite_whatever_comes(
    hostile, losses_and_gradients, precision, policy, box_loss
):
    with precision(policy):
        model = tiny(box_loss=box_loss, normalization="batch")
    for bias in (None, 1e4, -1e4):  # as the model is, and with huge logits
        if bias is not None:
            model.get_layer("class_head_out").bias.assign(np.full(27, bias))
        losses, gradients = losses_and_gradients(model, hostile())
        for loss in losses.values():
            assert loss.dtype == np.float32
            assert np.isfinite(loss)
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    answers = model(hostile()["images"])
    assert all(np.isfinite(values).all() for values in answers.values())
    assert answers["scores"].dtype == answers["boxes"].dtype == tf.float32


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_learns(dataset, precision, policy):
    with precision(policy):
        model = tiny(input_shape=(64, 64, 3), normalization="batch")
        model.compile(keras.optimizers.AdamW(3e-3))
        history = model.fit(dataset(batch(4)).repeat(3), epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    assert model.get_layer("backbone_conv1").compute_dtype == policy.removeprefix("mixed_")


def test_starts_from_the_prior():
    model = tiny(num_classes=2, score_threshold=0.0, normalization="batch")
    scores = model.predict(batch(2)["images"], verbose=0)["scores"]
    assert scores.min() > 0.005 and scores.max() < 0.05


def test_anchors_are_those_of_torchvisions_retinanet():
    model = tiny(anchor_sizes=(32, 64, 128, 256, 512))
    (layer,) = (layer for layer in model.layers if isinstance(layer, Anchors))
    assert layer.sizes == [[x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))] for x in (32, 64, 128, 256, 512)]
    assert layer.sizes[0] == [32, 40, 50]
    assert layer.ratios == [0.5, 1.0, 2.0]


def test_frozen_statistics_are_of_the_backbone_alone():
    model = tiny(freeze_statistics=True, normalization="batch")
    trainable = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert "backbone_bn1" not in trainable
    assert {"fpn_inner_3_bn", "class_head_bn_0_level_3"} <= trainable


def test_options_reach_the_parts():
    model = tiny(
        match_best=False,
        focal_alpha=0.4,
        focal_gamma=1.0,
        box_loss="giou",
        box_loss_weight=2.0,
        head_depth=0,
        anchor_ratios=(1.0,),
        score_threshold=0.2,
        nms_threshold=0.6,
        max_detections=7,
    )
    focal, box = model.get_layer("classification"), model.get_layer("box")
    assert (focal.alpha, focal.gamma, box.kind, box.weight) == (0.4, 1.0, "giou", 2.0)
    (match,) = (layer for layer in model.layers if isinstance(layer, Match))
    assert (match.positive_iou, match.negative_iou, match.match_best) == (0.5, 0.4, False)
    (detections,) = (layer for layer in model.layers if isinstance(layer, Detections))
    assert (detections.score_threshold, detections.nms_threshold, detections.max_detections) == (0.2, 0.6, 7)
    assert model.get_layer("class_head_out").filters == 3 * 3
    assert not [layer for layer in model.layers if layer.name.startswith("class_head_conv")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet5"}, 'backbone="resnet5": unknown. Nearest: "resnet50"'),
        ({"box_loss": "iou"}, 'box_loss="iou": unknown. Nearest: "giou"'),
        ({"normalization": "group"}, "normalization='group': None or \"batch\""),
        (
            {"head_normalization": "layer"},
            'head_normalization=\'layer\': None, "same", "batch" or "group" is',
        ),
        ({"head_normalization": "group"}, "pyramid_channels=16: a multiple of 32 is expected with head_norm"),
        ({"coarser_from": "pool"}, 'coarser_from="pool": unknown. Known: "pyramid", "backbone"'),
        ({"coarser_from": "bakbone"}, 'coarser_from="bakbone": unknown. Nearest: "backbone"'),
        ({"resize": 800}, r"resize=800: \(shorter, longest\) is expected"),
        ({"resize": (800,)}, r"resize=\(800,\): \(shorter, longest\) is expected"),
        ({"resize": (1333, 800)}, r"resize=\(1333, 800\): "),
        ({"resize": (0, 800)}, r"resize=\(0, 800\): "),
        ({"resize": (None, 800)}, r"resize=\(None, 800\): "),
        ({"resize": (800.5, 1333)}, r"resize=\(800.5, 1333\): "),
        ({"resize": "800"}, "resize='800': "),
        ({"num_classes": 0}, "num_classes=0: a whole number of at least 1"),
        ({"head_depth": -1}, "head_depth=-1: a whole number of at least 0"),
        ({"pyramid_channels": 0}, "pyramid_channels=0: "),
        ({"max_detections": 0}, "max_detections=0: a whole number of at least 1"),
        ({"score_threshold": 1.5}, "score_threshold=1.5: a number from 0 to 1"),
        ({"nms_threshold": -0.1}, "nms_threshold=-0.1: a number from 0 to 1"),
        ({"focal_alpha": 2}, "focal_alpha=2: a number from 0 to 1"),
        ({"focal_gamma": -1}, "focal_gamma=-1: a number of at least 0"),
        ({"box_loss_weight": "1"}, "box_loss_weight='1': a number of at least 0"),
        ({"anchor_sizes": ()}, r"anchor_sizes=\(\): a list of 1 to 5 numbers"),
        ({"anchor_sizes": (8, 16, 32, 64, 128, 256)}, "anchor_sizes=.*: a list of 1 to 5 numbers"),
        ({"anchor_sizes": (16, -32)}, r"anchor_sizes=\(16, -32\): -32 is in it"),
        ({"anchor_sizes": (1, 32)}, "anchors: sizes .* larger anchor sizes"),
        ({"anchor_ratios": ()}, r"anchor_ratios=\(\): a list of one or more"),
        ({"input_shape": (64, 64)}, r"input_shape=\(64, 64\): \(height, width, 3\) is expected"),
        ({"input_shape": (64, 64, 1)}, r"input_shape=\(64, 64, 1\): \(height, width, 3\) is expected"),
        ({"input_shape": (15, 64, 3)}, r"input_shape=\(15, 64, 3\): too small.*\(16, 16, 3\)"),
        (
            {"input_shape": (None, 127, 3), "anchor_sizes": (32, 64, 128, 256, 512)},
            r"input_shape=\(None, 127, 3\): too small.*\(128, 128, 3\)",
        ),
    ],
)
def test_options_are_checked_at_build(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_the_smallest_picture_is_enough(losses_and_gradients):
    model = tiny(input_shape=(16, 16, 3), score_threshold=0.0)
    arrays = {
        "images": batch(2)["images"][:, :16, :16],
        "boxes": [[[2, 2, 14, 14]]] * 2,
        "classes": [[0]] * 2,
    }
    losses, _ = losses_and_gradients(model, {name: np.array(values) for name, values in arrays.items()})
    assert np.isfinite(list(losses.values())).all()
    assert model.predict(arrays["images"], verbose=0)["num_detections"].min() > 0


def resizing(**options):
    return tiny(**{"score_threshold": 0.0, "max_detections": 20} | options)


def test_resized_within_the_model(assert_resizes):
    answers = assert_resizes(resizing, batch(2, 58, 64) | {"images": batch(2, 58, 64)["images"][:, :48]})
    assert answers["boxes"].shape == (2, 20, 4)


def test_any_size_is_resized(assert_resizes_any_size, losses_and_gradients):
    assert_resizes_any_size(resizing(resize=(50, 75)), batch(2), losses_and_gradients)
    assert resizing(resize=(50, 75), input_shape=(2, 5, 3)).least_size == 1


def test_a_model_that_resizes_is_kept(assert_kept):
    _, again = assert_kept(resizing(resize=(50, 75)), batch(2)["images"][:, :, :50])
    assert again.zoo_options["resize"] == (50, 75)


def test_a_model_that_resizes_learns(dataset):
    model = tiny(resize=(64, 96), normalization="batch")
    model.compile(keras.optimizers.AdamW(3e-3))
    history = model.fit(dataset(batch(4)).repeat(4), epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.parametrize(
    ("options", "pyramid", "heads"),
    [
        ({}, False, None),
        ({"normalization": "batch"}, True, "bn"),
        ({"normalization": "batch", "head_normalization": None}, True, None),
        ({"head_normalization": "batch"}, False, "bn"),
        ({"head_normalization": "group"}, False, "gn"),
        ({"normalization": "batch", "head_normalization": "group"}, True, "gn"),
    ],
)
def test_what_is_normalised(options, pyramid, heads):
    model = tiny(**{"pyramid_channels": 32} | options)
    names = {layer.name for layer in model.layers}
    assert ("fpn_layer_3_bn" in names) == pyramid
    for head in ("class_head", "box_head"):
        assert ((f"{head}_bn_0_level_3" in names), (f"{head}_gn_0" in names)) == (
            heads == "bn",
            heads == "gn",
        )
        assert model.get_layer(f"{head}_conv_0").use_bias == (heads is None)


@pytest.mark.parametrize(("coarser_from", "channels"), [("pyramid", 16), ("backbone", 256)])
def test_what_the_coarser_levels_are_made_of(coarser_from, channels):
    model = tiny(anchor_sizes=(8, 16, 32, 64, 128), coarser_from=coarser_from)
    assert model.get_layer("fpn_p6").kernel.shape == (3, 3, channels, 16)


def test_the_second_version_is_kept(assert_kept):
    """All of torchvision's options at once, in little."""
    model = tiny(
        pyramid_channels=32,
        head_normalization="group",
        coarser_from="backbone",
        anchor_sizes=(8, 16, 32, 64),
        score_threshold=0.0,
        max_detections=9,
    )
    assert_kept(model, batch(2)["images"])
