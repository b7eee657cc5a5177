import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.backbones import BACKBONES, features_of
from kzoo.backbones.resnet import convolution, normalize
from kzoo.layers.batch_norm import BatchNorm


def model_of(backbone, shape=(None, None), frozen=False):
    images = keras.Input((*shape, 3))
    return keras.Model(images, features_of(images, backbone, frozen))


@pytest.mark.parametrize(
    ("backbone", "parameters", "channels"),
    [
        # torchvision's, less the classifier: 11,689,512 - 513,000 and so on.
        ("resnet18", 11_176_512, (64, 128, 256, 512)),
        ("resnet34", 21_284_672, (64, 128, 256, 512)),
        ("resnet50", 23_508_032, (256, 512, 1024, 2048)),
        ("resnet101", 42_500_160, (256, 512, 1024, 2048)),
    ],
)
def test_as_many_parameters_as_published(backbone, parameters, channels):
    model = model_of(backbone)
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == parameters
    # A mean and a variance where there is a scale and an offset.
    normalizations = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
    statistics = sum(2 * layer.gamma.shape[0] for layer in normalizations)
    assert sum(math.prod(weight.shape) for weight in model.non_trainable_weights) == statistics
    assert {level: feature.shape[-1] for level, feature in model.output.items()} == dict(
        zip((1, 2, 3, 4, 5), (64, *channels), strict=True)
    )


@pytest.fixture(scope="module")
def resnet50():
    return model_of("resnet50", (70, 93))


def test_layers_are_torchvisions(resnet50):
    names = {layer.name for layer in resnet50.layers if layer.weights}
    expected = {"backbone_conv1", "backbone_bn1"}
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        expected |= {f"backbone_layer{stage}_0_downsample_{part}" for part in (0, 1)}
        expected |= {
            f"backbone_layer{stage}_{block}_{part}{i}"
            for block in range(blocks)
            for part in ("conv", "bn")
            for i in (1, 2, 3)
        }
    assert names - {"backbone_normalize"} == expected
    # A stage that keeps its size and channels has no convolution on the shortcut.
    eighteen = {layer.name for layer in model_of("resnet18").layers}
    downsampled = {name for name in eighteen if name.endswith("downsample_0")}
    assert downsampled == {f"backbone_layer{stage}_0_downsample_0" for stage in (2, 3, 4)}


def test_the_stride_of_a_bottleneck_is_on_its_3x3(resnet50):
    strides = {i: resnet50.get_layer(f"backbone_layer2_0_conv{i}").strides for i in (1, 2, 3)}
    assert strides == {1: (1, 1), 2: (2, 2), 3: (1, 1)}


@pytest.mark.parametrize("backbone", ["resnet18", "compact"])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (70, 93), (33, 31)])
def test_sizes_are_rounded_up(backbone, height, width):
    outputs = model_of(backbone, (height, width)).output
    for level, feature in outputs.items():
        assert feature.shape[1:3] == (math.ceil(height / 2**level), math.ceil(width / 2**level))
    assert list(outputs) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 7)])
def test_strided_convolutions_look_at_even_pixels(size, height, width):
    images = keras.Input((height, width, 1))
    outputs = convolution(images, 1, size, 2, name="conv", bn="bn", frozen=True, relu=False)
    model = keras.Model(images, outputs)
    kernel = np.zeros([size, size, 1, 1])
    kernel[size // 2, size // 2] = 1
    model.get_layer("conv").set_weights([kernel])
    picture = np.arange(height * width, dtype=np.float32).reshape(1, height, width, 1)
    np.testing.assert_allclose(model(picture), picture[:, ::2, ::2] / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_padding_is_alike_on_all_sides():
    """The features of a mirrored picture of odd size are mirrored, where the kernels are symmetrical."""
    keras.utils.set_random_seed(0)
    model = model_of("resnet18")
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            (kernel,) = layer.get_weights()
            layer.set_weights([kernel + kernel[::-1] + kernel[:, ::-1] + kernel[::-1, ::-1]])
    picture = np.random.default_rng(0).integers(0, 256, [1, 33, 65, 3]).astype(np.float32)
    straight, mirrored = model(picture), model(picture[:, ::-1, ::-1])
    for level in straight:
        there = straight[level].numpy()
        np.testing.assert_allclose(
            mirrored[level][:, ::-1, ::-1], there, rtol=1e-3, atol=1e-4 * np.abs(there).max()
        )


def test_pictures_are_normalized_by_imagenets_statistics():
    picture = np.float32([[[[123.675, 116.28, 103.53], [0, 0, 0], [255, 255, 255]]]])
    images = keras.Input((1, 3, 3))
    normalized = keras.Model(images, normalize(images))(picture)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(normalized[0, 0], [[0, 0, 0], -mean / std, (1 - mean) / std], atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_do_not_move_and_have_no_gradient(frozen):
    model = model_of("compact", frozen=frozen)
    normalizations = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
    before = [layer.get_weights() for layer in normalizations]
    pictures = np.random.default_rng(0).integers(0, 256, [2, 32, 32, 3]).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(pictures, training=True)[5]))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None for gradient in gradients)
    names = {variable.path.split("/")[-1] for variable in model.trainable_variables}
    assert names == ({"kernel"} if frozen else {"kernel", "gamma", "beta"})
    moved = [
        not np.array_equal(old, new)
        for layer, weights in zip(normalizations, before, strict=True)
        for old, new in zip(weights[2:], layer.get_weights()[2:], strict=True)
    ]
    assert not any(moved) if frozen else all(moved)


def test_kernels_start_as_torchvisions():
    """Normal with a variance of 2 / fan out."""
    keras.utils.set_random_seed(0)
    layer = model_of("resnet18").get_layer("backbone_layer4_1_conv2")
    kernel = layer.get_weights()[0]
    assert kernel.std() == pytest.approx(math.sqrt(2 / (9 * 512)), rel=0.01)
    assert np.abs(kernel).max() > 4 * kernel.std()  # not truncated


def test_unknown_backbone():
    with pytest.raises(ValueError, match='backbone="resnet5": unknown. Nearest: "resnet50"'):
        model_of("resnet5")
    assert list(BACKBONES) == ["compact", "resnet18", "resnet34", "resnet50", "resnet101"]
