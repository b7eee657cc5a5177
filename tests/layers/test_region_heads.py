import keras
import numpy as np
import pytest

from kzoo.layers.batch_norm import BatchNorm
from kzoo.layers.region_heads import MergeRegions, SplitRegions, box_head, mask_head


def box_model(num_classes=3, units=16, size=2, channels=3, **options):
    crops = keras.Input((None, size, size, channels))
    return keras.Model(crops, box_head(crops, num_classes=num_classes, units=units, **options))


def crops_of(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("num_classes", [1, 3, 91])
@pytest.mark.parametrize("batch", [(2, 5), (2, 0), (0, 5)])
def test_box_head_answers_with_a_background_and_deltas_of_every_class(num_classes, batch):
    logits, deltas = box_model(num_classes)(crops_of(*batch, 2, 2, 3))
    assert logits.shape == (*batch, 1 + num_classes)
    assert deltas.shape == (*batch, num_classes, 4)


def test_box_head_by_hand():
    model = box_model()
    rng = np.random.default_rng(1)
    weights = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
            weights[layer.name] = layer.get_weights()
    crops = crops_of(2, 4, 2, 2, 3)
    x = crops.reshape(2, 4, 12).astype(float)  # row by row, at each position its channels
    for name in ("box_head_fc6", "box_head_fc7"):
        kernel, bias = weights.pop(name)
        x = np.maximum(x @ kernel + bias, 0)
    (class_kernel, class_bias), (delta_kernel, delta_bias) = (
        weights[f"box_head_{name}"] for name in ("classes", "deltas")
    )
    logits, deltas = model(crops)
    np.testing.assert_allclose(logits, x @ class_kernel + class_bias, rtol=1e-3, atol=1e-3)
    expected = (x @ delta_kernel + delta_bias).reshape(2, 4, 3, 4)
    np.testing.assert_allclose(deltas, expected, rtol=1e-3, atol=1e-3)


def test_box_head_starts_near_nothing():
    """All classes about as likely, and the regions stay where they are."""
    keras.utils.set_random_seed(0)
    logits, deltas = box_model(units=256, size=4, channels=32)(crops_of(1, 50, 4, 4, 32))
    assert np.abs(logits).max() < 1
    assert 0 < np.abs(deltas).max() < 0.1


def mask_model(num_classes=3, channels=4, normalization=None, size=5):
    crops = keras.Input((size, size, 2))
    return keras.Model(
        crops, mask_head(crops, num_classes=num_classes, channels=channels, normalization=normalization)
    )


@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize("num_classes", [1, 3, 91])
def test_mask_head_doubles_the_size(normalization, num_classes):
    model = mask_model(num_classes, normalization=normalization)
    assert model(crops_of(3, 5, 5, 2)).shape == (3, 10, 10, num_classes)


def test_mask_head_by_hand():
    """Four convolutions that take each pixel three, two, ... times, a transposed one, and the answer."""
    model = mask_model(num_classes=2, channels=1)
    factors = iter([3.0, 2.0, 0.5, 1.0])
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            layer.set_weights([np.float32([[1, 10], [100, -7]])[:, :, None, None], np.float32([0.25])])
        elif isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3):
            kernel, bias = (np.zeros(w.shape) for w in layer.get_weights())
            kernel[1, 1] = next(factors)
            layer.set_weights([kernel, bias])
        elif isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([np.float32([[[[1, -2]]]]), np.float32([0, 5])])
    crops = np.abs(crops_of(2, 5, 5, 2))
    crops[0] *= -1  # of which the first ReLU leaves nothing
    seen = np.maximum(3 * crops.sum(axis=-1), 0)  # 3 * 2 * 0.5 * 1
    up = np.zeros([2, 10, 10])
    for i, j, factor in ((0, 0, 1), (0, 1, 10), (1, 0, 100), (1, 1, -7)):
        up[:, i::2, j::2] = np.maximum(factor * seen + 0.25, 0)
    np.testing.assert_allclose(model(crops), np.stack([up, 5 - 2 * up], axis=-1), rtol=1e-4, atol=1e-4)


def test_normalization_of_the_mask_head_is_behind_its_four_convolutions():
    for normalization, count in ((None, 0), ("batch", 4)):
        found = mask_model(normalization=normalization).layers
        assert sum(isinstance(layer, BatchNorm) for layer in found) == count
        convolutions = [layer for layer in found if layer.name.startswith("mask_head_conv")]
        assert [layer.use_bias for layer in convolutions] == [normalization is None] * 4


def test_masks_of_a_region_do_not_depend_on_other_regions():
    model = mask_model()
    crops = crops_of(4, 5, 5, 2)
    alone = model(crops[2:3])
    np.testing.assert_allclose(model(crops)[2:3], alone, rtol=1e-4, atol=1e-6)
    assert np.ptp(alone) > 0


@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize("batch", [(2, 5), (2, 0), (0, 5)])
def test_convolutions_of_the_box_head(batch, normalization):
    model = box_model(convolutions=4, normalization=normalization)
    weights = {layer.name: layer.weights[0].shape for layer in model.layers if layer.weights}
    expected = {f"box_head_conv_{i}": (3, 3, 3, 3) for i in range(4)}
    expected |= {f"box_head_bn_{i}": (3,) for i in range(4)} if normalization else {}
    expected |= {"box_head_fc6": (12, 16), "box_head_classes": (16, 4), "box_head_deltas": (16, 12)}
    assert weights == expected
    assert model.get_layer("box_head_conv_0").use_bias == (normalization is None)
    logits, deltas = model(crops_of(*batch, 2, 2, 3))
    assert logits.shape == (*batch, 4) and deltas.shape == (*batch, 3, 4)


def test_convolutions_of_the_box_head_by_hand():
    """Two that take each pixel's sum of channels three and two times; the layer behind them adds all up."""
    model = box_model(units=1, channels=2, convolutions=2)
    for i, factor in enumerate((3.0, 2.0)):
        kernel = np.zeros([3, 3, 2, 2], np.float32)
        kernel[1, 1] = [[factor, 0], [factor, 0]]  # the second channel becomes 0
        model.get_layer(f"box_head_conv_{i}").set_weights([kernel, np.zeros(2)])
    model.get_layer("box_head_fc6").set_weights([np.ones([8, 1]), np.zeros(1)])
    model.get_layer("box_head_classes").set_weights([np.float32([[1, -1, 2, 0]]), np.zeros(4)])
    crops = crops_of(2, 5, 2, 2, 2)
    logits, _ = model(crops)
    total = 6 * np.maximum(crops.sum(axis=-1), 0).sum(axis=(2, 3))  # [2, 5]
    np.testing.assert_allclose(logits, total[..., None] * [1, -1, 2, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 6), (1, 0, 2, 2, 3), (0, 3, 2, 2, 3)])
def test_regions_are_merged_and_split(shape):
    crops = crops_of(*shape)
    merged = MergeRegions()(crops)
    assert merged.shape == (shape[0] * shape[1], *shape[2:])
    np.testing.assert_array_equal(merged, crops.reshape(-1, *shape[2:]))
    np.testing.assert_array_equal(SplitRegions()(merged, crops), crops)
    fewer = merged[..., :1]  # other channels than came in
    np.testing.assert_array_equal(SplitRegions()(fewer, crops), crops[..., :1])


@pytest.mark.parametrize("regions", [None, 7])
def test_shapes_of_merged_regions_are_told(regions):
    crops = keras.KerasTensor((None, regions, 4, 4, 3), "float16")
    merged = MergeRegions(dtype="float16")(crops)
    assert (merged.shape, merged.dtype) == ((None, 4, 4, 3), "float16")
    split = SplitRegions(dtype="float16")(keras.KerasTensor((None, 4, 4, 9), "float16"), crops)
    assert (split.shape, split.dtype) == ((None, regions, 4, 4, 9), "float16")
