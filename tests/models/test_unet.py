import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.models.unet import answered_side, check_tile


def tiny(**options):
    keras.utils.set_random_seed(0)
    return kzoo.build("unet", **{"num_classes": 4, "width": 4, "depth": 2} | options)


def labelled(arrays):
    """The toy's pictures with the class of each pixel: 0, or that of the square and one."""
    labels = np.zeros(arrays["images"].shape[:3], np.int32)
    for picture, number in np.argwhere(arrays["classes"] >= 0):
        x1, y1, x2, y2 = arrays["boxes"][picture, number].astype(int)
        labels[picture, y1:y2, x1:x2] = 1 + arrays["classes"][picture, number]
    return {"images": arrays["images"], "classes": labels}


def noise(pictures, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, [pictures, height, width, 3], dtype=np.uint8)


def plain_answered_side(side, depth):
    """Convolution by convolution, and where a side is odd before it is halved, nothing."""
    skips = []
    for _ in range(depth):
        side -= 2
        side -= 2
        skips.append(side)
        if side <= 0 or side % 2 == 1:
            return None
        side //= 2
    side -= 2
    side -= 2
    for skip in reversed(skips):
        if side <= 0:
            return None
        side *= 2
        assert skip >= side and (skip - side) % 2 == 0  # a skip has a middle of this size
        side -= 2
        side -= 2
    return side if side > 0 else None


@pytest.fixture(scope="module")
def trained(toy, dataset):
    """A model that was trained a little, with what it showed."""
    model = tiny(normalization="batch", input_shape=(64, 64, 3), loss="cross_entropy_dice", border_weight=2.0)
    model.compile(keras.optimizers.AdamW(5e-3))
    arrays = labelled(toy(8))
    arrays["borders"] = np.float32(np.random.default_rng(0).random(arrays["classes"].shape))
    data = dataset(arrays | {"image_id": np.arange(8)}).repeat(6)
    history = model.fit(data, epochs=2, validation_data=dataset(arrays), verbose=0).history
    return model, history


def test_fit_lowers_the_loss(trained):
    _, history = trained
    names = ("loss", "segmentation")
    assert set(history) == {name for shown in names for name in (shown, f"val_{shown}")}
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    np.testing.assert_allclose(history["loss"], history["segmentation"], rtol=1e-4)


def test_answers_are_kept_by_saving_loading_and_exporting(trained, toy, assert_kept):
    model, _ = trained
    answers, _ = assert_kept(model, toy(3)["images"])
    kinds = {name: (values.shape, values.dtype) for name, values in answers.items()}
    assert kinds == {"probabilities": ((3, 64, 64, 4), np.float32), "classes": ((3, 64, 64), np.int32)}
    np.testing.assert_allclose(answers["probabilities"].sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(answers["classes"], answers["probabilities"].argmax(axis=-1))


def test_borders_are_needed_where_they_are_weighed(trained, toy):
    model, _ = trained
    with pytest.raises(ValueError, match="a batch has images, classes, but no borders"):
        model.fit(labelled(toy(4)), verbose=0)
    assert "borders" not in tiny().input


def test_as_many_parameters_as_the_paper_s():
    def conv(size, channels, out):
        return size * size * channels * out + out

    widths = [64, 128, 256, 512, 1024]
    down = sum(
        conv(3, before, after) + conv(3, after, after)
        for before, after in zip([3, *widths], widths, strict=False)
    )
    up = sum(conv(2, 2 * out, out) + conv(3, 2 * out, out) + conv(3, out, out) for out in (512, 256, 128, 64))
    assert down == 18_843_200 and up == 12_188_480
    for padding, shape in (("same", (None, None, 3)), ("valid", (572, 572, 3))):
        model = kzoo.build("unet", num_classes=2, input_shape=shape, padding=padding)
        assert model.count_params() == down + up + conv(1, 64, 2) == 31_031_810


def test_the_paper_s_sizes():
    """Ronneberger et al. 2015, figure 1, with 2 channels where it has 64."""
    model = tiny(num_classes=2, width=2, depth=4, padding="valid", input_shape=(572, 572, 3))

    def size_of(name):
        shape = model.get_layer(name).output.shape
        assert shape[1] == shape[2]
        return shape[2], shape[3]

    contracting = [size_of(f"contract_{level}_relu_{i}") for level in range(5) for i in range(2)]
    sides, channels = [570, 568, 282, 280, 138, 136, 66, 64, 30, 28], [2, 4, 8, 16, 32]
    assert contracting == list(zip(sides, np.repeat(channels, 2), strict=True))
    joined = [size_of(f"join_{level}") for level in (3, 2, 1, 0)]
    assert joined == [(56, 32), (104, 16), (200, 8), (392, 4)]
    expanding = [size_of(f"expand_{level}_relu_{i}") for level in (3, 2, 1, 0) for i in range(2)]
    assert [side for side, _ in expanding] == [54, 52, 102, 100, 198, 196, 390, 388]
    assert model.output["probabilities"].shape == (None, 388, 388, 2)
    assert model.output["classes"].shape == (None, 388, 388)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_sides_that_leave_something_without_padding(depth):
    for side in range(1, 300):
        expected = plain_answered_side(side, depth)
        assert answered_side(side, depth) == expected, side
        if expected is not None:
            check_tile((side, side, 3), depth, None)
            continue
        fitting = [near for near in range(1, 600) if plain_answered_side(near, depth)]
        below = [near for near in fitting if near < side][-1:]
        above = [near for near in fitting if near > side][:1]
        nearest = " and ".join(map(str, below + above))
        for shape in ((side, fitting[0], 3), (fitting[0], side, 3)):
            with pytest.raises(ValueError, match=rf"a side of {side} pixels .*that fit: {nearest}\.$"):
                check_tile(shape, depth, None)


def test_tiles_that_fit_are_built_and_answered():
    for height, width in ((44, 60), (48, 44)):
        model = tiny(padding="valid", input_shape=(height, width, 3))
        expected = (2, plain_answered_side(height, 2), plain_answered_side(width, 2))
        assert model.output["classes"].shape == (None, *expected[1:])
        answers = model.predict(noise(2, height, width), verbose=0)
        assert answers["classes"].shape == expected
        assert answers["probabilities"].shape == (*expected, 4)


def test_without_padding_a_moved_picture_has_moved_answers():
    """By 2^depth pixels, so that what is pooled together is the same."""
    model = tiny(padding="valid", input_shape=(60, 60, 3))
    picture = noise(1, 68, 64)
    first = model.predict(picture[:, :60, :60], verbose=0)["probabilities"]
    second = model.predict(picture[:, 8:, 4:], verbose=0)["probabilities"]
    np.testing.assert_allclose(second[:, :-8, :-4], first[:, 8:, 4:], atol=1e-5)
    assert first.std() > 1e-3  # it does say something of the picture


def test_without_padding_nothing_but_the_picture_counts_and_the_middle_is_learned(losses_and_gradients):
    model = tiny(padding="valid", input_shape=(60, 60, 3))
    images = noise(2, 60, 60)
    classes = np.random.default_rng(1).integers(-1, 4, [2, 60, 60]).astype(np.int32)
    losses, _ = losses_and_gradients(model, {"images": images, "classes": classes})
    probabilities = model.predict(images, verbose=0)["probabilities"].astype(float)
    side = plain_answered_side(60, 2)
    margin = (60 - side) // 2
    middle = classes[:, margin : margin + side, margin : margin + side]
    own = np.take_along_axis(probabilities, np.maximum(middle, 0)[..., None], axis=-1)[..., 0]
    assert losses["segmentation"] == pytest.approx(-np.log(own)[middle >= 0].mean(), rel=1e-4)


@pytest.fixture(scope="module")
def any_size():
    return tiny()


@pytest.mark.parametrize(("height", "width"), [(37, 53), (4, 4), (5, 64)])
def test_any_size_of_picture(any_size, losses_and_gradients, height, width):
    images = noise(2, height, width)
    answers = any_size.predict(images, verbose=0)
    assert answers["classes"].shape == (2, height, width)
    assert answers["probabilities"].shape == (2, height, width, 4)
    known = tiny(input_shape=(height, width, 3))
    assert known.output["classes"].shape == (None, height, width)
    np.testing.assert_allclose(
        known.predict(images, verbose=0)["probabilities"], answers["probabilities"], atol=1e-5
    )
    classes = np.random.default_rng(0).integers(-1, 4, [2, height, width])
    losses, gradients = losses_and_gradients(any_size, {"images": images, "classes": classes})
    assert losses["segmentation"] > 0
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_what_the_strides_do_not_divide_is_mirrored(any_size):
    images = noise(1, 37, 53)
    mirrored = np.pad(images, [(0, 0), (0, 3), (0, 3), (0, 0)], mode="symmetric")
    answers = any_size.predict(images, verbose=0)["probabilities"]
    expected = any_size.predict(mirrored, verbose=0)["probabilities"][:, :37, :53]
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_a_picture_smaller_than_the_stride_is_mirrored_again_and_again(any_size):
    answers = any_size.predict(np.full((1, 3, 1, 3), 9, np.uint8), verbose=0)
    assert answers["classes"].shape == (1, 3, 1)


@pytest.mark.parametrize(("depth", "height", "width"), [(1, 33, 32), (5, 37, 53)])
def test_backbones_are_encoders(losses_and_gradients, depth, height, width):
    model = tiny(backbone="compact", depth=depth, input_shape=(None, width, 3))
    names = {layer.name for layer in model.layers}
    assert {f"join_{level}" for level in range(1, depth)} == {name for name in names if "join" in name}
    assert not [name for name in names if name.startswith("contract")]
    images = noise(2, height, width)
    assert model.predict(images, verbose=0)["classes"].shape == (2, height, width)
    classes = np.random.default_rng(0).integers(-1, 4, [2, height, width])
    losses, gradients = losses_and_gradients(model, {"images": images, "classes": classes})
    assert np.isfinite(losses["segmentation"])
    assert np.abs(gradients["backbone_conv1/kernel"]).max() > 0
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


def test_a_frozen_backbone_and_own_normalization():
    model = tiny(backbone="compact", depth=3, freeze_statistics=True, normalization="batch")
    learned = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert "backbone_bn1" not in learned and "expand_0_bn_0" in learned and "backbone_conv1" in learned


def test_upsampling_by_resizing():
    model = tiny(upsampling="resize", normalization="batch")
    kinds = [type(layer).__name__ for layer in model.layers]
    assert "Conv2DTranspose" not in kinds and kinds.count("UpSampling2D") == 2
    assert kinds.count("BatchNorm") == 2 * 5  # behind each 3x3 convolution, which then needs no bias
    assert not model.get_layer("contract_0_conv_0").use_bias
    assert model.predict(noise(1, 21, 30), verbose=0)["classes"].shape == (1, 21, 30)
    repeated = keras.Model(model.input["images"], model.get_layer("up_0_repeat").output)(noise(1, 20, 32))
    np.testing.assert_array_equal(
        repeated, np.asarray(repeated)[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
    )


@pytest.mark.parametrize(
    ("policy", "loss"),
    [("float32", "focal"), ("mixed_float16", "cross_entropy_dice"), ("mixed_bfloat16", "focal")],
)
def test_losses_are_float32_and_finite_whatever_comes(losses_and_gradients, precision, policy, loss):
    with precision(policy):
        model = tiny(loss=loss, border_weight=10.0, class_weights=(1, 2, 3, 4), normalization="batch")
    arrays = {
        "images": noise(2, 17, 16),
        "classes": np.random.default_rng(0).integers(-1, 4, [2, 17, 16]),
        "borders": np.ones([2, 17, 16], np.float32),
    }
    for bias in (np.zeros(4), [1e4, -1e4, 0, 0]):
        model.get_layer("classes_of_pixels").bias.assign(bias)
        for classes in (arrays["classes"], np.full([2, 17, 16], -1)):
            losses, gradients = losses_and_gradients(model, arrays | {"classes": classes.astype(np.int32)})
            assert losses["segmentation"].dtype == np.float32 and np.isfinite(losses["segmentation"])
            assert all(np.isfinite(gradient).all() for gradient in gradients.values())
        assert losses["segmentation"] == 0  # of the last, where everything is ignored
        assert not any(gradient.any() for gradient in gradients.values())
    probabilities = model(arrays["images"])["probabilities"]
    assert probabilities.dtype == tf.float32 and np.isfinite(probabilities).all()


def test_classes_that_weigh_more_are_learned_more(losses_and_gradients):
    images, classes = noise(2, 16, 16), np.random.default_rng(0).integers(0, 4, [2, 16, 16])
    biases = []
    for weights in ((1, 1, 1, 1), (1, 1, 100, 1)):
        _, gradients = losses_and_gradients(
            tiny(class_weights=weights), {"images": images, "classes": classes}
        )
        biases.append(gradients["classes_of_pixels/bias"])
    assert biases[1][2] < -0.5 < biases[0][2]  # downhill: more of this class, and less of all others
    assert np.all(np.delete(biases[1], 2) > 0)


def test_options_reach_the_parts():
    model = tiny(
        loss="focal",
        class_weights=[1, 2, 3, 4.5],
        ignored_label=255,
        border_weight=3.0,
        focal_gamma=1.5,
        dropout=0.25,
    )
    layer = model.get_layer("segmentation")
    assert (layer.kind, layer.class_weights, layer.ignored_label) == ("focal", (1, 2, 3, 4.5), 255)
    assert (layer.border_weight, layer.focal_gamma) == (3.0, 1.5)
    assert model.get_layer("dropout").rate == 0.25
    assert set(model.input) == {"images", "classes", "borders"}
    assert model.zoo_options["class_weights"] == (1, 2, 3, 4.5)
    assert kzoo.info("unet").task == "segmentation"


def test_another_ignored_label(dataset):
    model = tiny(ignored_label=255, input_shape=(16, 16, 3))
    model.compile("sgd")
    labels = np.random.default_rng(0).integers(0, 4, [4, 16, 16]).astype(np.int32)
    labels[:, :4] = 255
    arrays = {"images": noise(4, 16, 16), "classes": labels}
    model.fit(arrays, verbose=0)
    labels[0, 8, 8] = 4
    with pytest.raises(ValueError, match="class 4 is in it, but the model was built with num_classes=4"):
        model.fit(arrays, verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"neither 0 to 3 nor ignored \(255\)"):
        model.fit(dataset(arrays), verbose=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes=1: a whole number of at least 2"),
        ({"width": 0}, "width=0: a whole number of at least 1"),
        ({"depth": 0}, "depth=0: a whole number of at least 1"),
        ({"padding": "full"}, 'padding="full": unknown. Known: "same", "valid"'),
        ({"upsampling": "resized"}, 'upsampling="resized": unknown. Nearest: "resize"'),
        ({"normalization": "group"}, "normalization='group': None or \"batch\""),
        ({"dropout": 1.0}, "dropout=1.0: a number from 0 to 0.99"),
        ({"loss": "dise"}, 'loss="dise": unknown. Nearest: "dice"'),
        ({"class_weights": (1, 2)}, r"class_weights=\(1, 2\): 2 numbers, but num_classes=4"),
        ({"class_weights": (1, 2, 3, -4)}, r"class_weights=\(1, 2, 3, -4\): -4 is in it"),
        ({"class_weights": 2.0}, "class_weights=2.0: a list of"),
        ({"border_weight": -1}, "border_weight=-1: a number of at least 0"),
        ({"border_weight": 10, "loss": "dice"}, 'border_weight=10: loss="dice" has no weights of pixels'),
        ({"focal_gamma": -0.5}, "focal_gamma=-0.5: a number of at least 0"),
        ({"freeze_statistics": "yes"}, "freeze_statistics='yes': True or False"),
        ({"backbone": "compct"}, 'backbone="compct": unknown. Nearest: "compact"'),
        (
            {"backbone": "compact", "depth": 6},
            'backbone="compact": has features of level 1, 2, .*level 6 is needed',
        ),
        ({"input_shape": (64, 64, 4)}, r"input_shape=\(64, 64, 4\): \(height, width, 3\) is expected"),
        (
            {"standardize": True, "backbone": "compact"},
            "standardize=True: a backbone has an input of its own",
        ),
        ({"standardize": 1}, "standardize=1: True or False"),
        ({"input_shape": (0, 64, 3)}, r"input_shape=\(0, 64, 3\): too small.*\(1, 1, 3\)"),
        ({"padding": "valid"}, r'input_shape=\(None, None, 3\): padding="valid" needs to know height'),
        ({"padding": "valid", "input_shape": (60, 61, 3)}, "a side of 61 pixels .* that fit: 60 and 64"),
        ({"padding": "valid", "input_shape": (8, 60, 3)}, "a side of 8 pixels .* that fit: 44"),
        ({"padding": "valid", "backbone": "compact"}, "padding=\"valid\": backbone='compact' pads"),
    ],
)
def test_options_are_checked_at_build(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_standardized_pictures_may_be_brighter_and_have_more_contrast():
    model = tiny(standardize=True)
    images = np.random.default_rng(0).integers(0, 80, [1, 16, 16, 3]).astype(np.float32)
    np.testing.assert_allclose(
        model.predict(3 * images + 10, verbose=0)["probabilities"],
        model.predict(images, verbose=0)["probabilities"],
        atol=1e-3,
    )
