import keras
import numpy as np
import pytest

from kzoo.layers.batch_norm import BatchNorm
from kzoo.layers.heads import GROUPS, answers_of_anchors, dense_head, prior_bias, tower

# Keras would have the keys of its inputs be their names; levels are numbers.
pytestmark = pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")


def model_of(normalization=None, depth=2, levels=(3, 4), channels=8, **kwargs):
    pyramid = {level: keras.Input((None, None, channels), name=str(level)) for level in levels}
    options = dict(outputs=5, per_position=2, name="head") | kwargs
    return keras.Model(pyramid, dense_head(pyramid, depth=depth, normalization=normalization, **options))


def features(*sizes, channels=8):
    rng = np.random.default_rng(0)
    return {3 + i: rng.normal(size=(2, *size, channels)).astype(np.float32) for i, size in enumerate(sizes)}


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_answers_of_all_levels_one_after_the_other(depth):
    model = model_of(depth=depth)
    answers = model(features((4, 6), (2, 3)))
    assert answers.shape == (2, (4 * 6 + 2 * 3) * 2, 5)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == depth + 1


def test_a_single_level():
    assert model_of(levels=(3,))(features((3, 3))).shape == (2, 18, 5)


def test_positions_row_by_row_and_at_each_its_anchors():
    model = model_of(depth=0, levels=(3,), channels=1)
    layer = model.get_layer("head_out")
    kernel = np.zeros(layer.kernel.shape)
    kernel[1, 1, 0] = 10.0 ** np.arange(10)  # an output channel each its own power of ten
    layer.set_weights([kernel, np.zeros(10)])
    feature = np.arange(1.0, 7).reshape(1, 2, 3, 1)
    expected = np.arange(1.0, 7)[:, None] * 10.0 ** np.arange(10)  # [positions, anchors * outputs]
    np.testing.assert_allclose(model({3: feature})[0], expected.reshape(12, 5), rtol=1e-6)


@pytest.mark.parametrize("normalization", [None, "batch"])
def test_levels_share_the_convolutions(normalization):
    """The same feature on both levels has the same answers, as long as no statistics have moved."""
    model = model_of(normalization)
    same = features((3, 4))[3]
    answers = model({3: same, 4: same}).numpy()
    np.testing.assert_allclose(answers[:, :24], answers[:, 24:], rtol=1e-5, atol=1e-6)
    assert np.ptp(answers) > 0


def test_levels_normalize_by_themselves():
    model = model_of("batch")
    normalizations = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
    assert len(normalizations) == 2 * 2
    pyramid = features((8, 8), (4, 4))
    pyramid[4] = 100 * pyramid[4]
    model(pyramid, training=True)
    fine, coarse = (model.get_layer(f"head_bn_0_level_{level}") for level in (3, 4))
    ratio = np.subtract(coarse.moving_variance, 0.9) / np.subtract(fine.moving_variance, 0.9)
    assert ratio.min() > 1000  # 100 squared, give or take


def test_biases_only_where_no_normalization_takes_them_away():
    for normalization, has_bias in ((None, True), ("batch", False)):
        model = model_of(normalization)
        assert model.get_layer("head_conv_0").use_bias == has_bias
        assert model.get_layer("head_out").use_bias


@pytest.mark.parametrize("probability", [0.01, 0.2])
def test_prior_bias(probability):
    bias = float(prior_bias(probability)((1,))[0])
    assert 1 / (1 + np.exp(-bias)) == pytest.approx(probability, rel=1e-5)


@pytest.mark.parametrize("normalization", [None, "batch"])
def test_every_anchor_starts_near_the_prior(normalization):
    keras.utils.set_random_seed(0)
    model = model_of(normalization, channels=32, depth=4, bias_initializer=prior_bias())
    scores = 1 / (1 + np.exp(-model(features((8, 8), (4, 4), channels=32)).numpy()))
    assert scores.mean() == pytest.approx(0.01, rel=0.15)
    assert scores.max() < 0.05


@pytest.mark.parametrize("size", [1, 3])
def test_a_tower_and_two_answers_behind_it(size):
    """As in a region proposal network: both see the same tower, and the tower is built once."""
    pyramid = {level: keras.Input((None, None, 8), name=str(level)) for level in (3, 4)}
    seen = tower(pyramid, depth=1, normalization=None, name="rpn")
    answers = [
        answers_of_anchors(seen, outputs=outputs, per_position=3, size=size, name=name)
        for outputs, name in ((1, "objectness"), (4, "deltas"))
    ]
    model = keras.Model(pyramid, answers)
    kernels = {
        layer.name: layer.kernel.shape for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
    }
    assert kernels == {
        "rpn_conv_0": (3, 3, 8, 8),
        "objectness_out": (size, size, 8, 3),
        "deltas_out": (size, size, 8, 12),
    }
    count = (4 * 6 + 2 * 3) * 3
    assert [answer.shape for answer in model(features((4, 6), (2, 3)))] == [(2, count, 1), (2, count, 4)]


def test_a_tower_keeps_the_pyramid_and_its_relu():
    pyramid = {level: keras.Input((None, None, 8), name=str(level)) for level in (3, 4)}
    model = keras.Model(pyramid, tower(pyramid, depth=2, normalization="batch", name="rpn"))
    given = features((4, 6), (2, 3))
    seen = model(given)
    assert {level: x.shape for level, x in seen.items()} == {level: x.shape for level, x in given.items()}
    assert all(np.min(x) == 0 and np.max(x) > 0 for x in seen.values())
    assert tower(pyramid, depth=0, normalization=None, name="none") == pyramid


def test_answers_by_hand():
    """Position by position, at each its anchors, the levels one after the other."""
    pyramid = {level: keras.Input((None, None, 2), name=str(level)) for level in (3, 4)}
    model = keras.Model(pyramid, answers_of_anchors(pyramid, outputs=2, per_position=2, size=1, name="head"))
    kernel, bias = np.float32([[1, 2, 3, 4], [10, 20, 30, 40]]), np.float32([0, 0, 0, 0.5])
    model.get_layer("head_out").set_weights([kernel[None, None], bias])
    fine, coarse = np.float32([[[[1, 0], [0, 1]], [[1, 1], [2, 0]]]]), np.float32([[[[0, 3]]]])
    expected = [
        [1, 2],
        [3, 4.5],
        [10, 20],
        [30, 40.5],
        [11, 22],
        [33, 44.5],
        [2, 4],
        [6, 8.5],
        [30, 60],
        [90, 120.5],
    ]
    np.testing.assert_allclose(model({3: fine, 4: coarse})[0], expected, rtol=1e-6)


def test_bias_of_answers():
    pyramid = {3: keras.Input((None, None, 2), name="3")}
    answers = answers_of_anchors(
        pyramid, outputs=1, per_position=1, size=1, name="head", bias_initializer=prior_bias(0.2)
    )
    zeros = np.zeros([1, 2, 2, 2], np.float32)
    np.testing.assert_allclose(1 / (1 + np.exp(-keras.Model(pyramid, answers)({3: zeros}))), 0.2, rtol=1e-5)


def plain_group_norm(x, gamma, beta):
    """Of [B, H, W, C]: each 32nd of the channels has mean 0 and variance 1 (Wu and He 2018, equation 1)."""
    batch, height, width, channels = x.shape
    groups = x.reshape(batch, height * width, GROUPS, channels // GROUPS).astype(float)
    mean, variance = (of(groups, axis=(1, 3), keepdims=True) for of in (np.mean, np.var))
    return ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape) * gamma + beta


def test_group_normalisation_is_shared_by_the_levels_and_each_has_statistics_of_its_own():
    pyramid = {level: keras.Input((None, None, 64), name=str(level)) for level in (3, 4)}
    model = keras.Model(pyramid, tower(pyramid, depth=2, normalization="group", name="head"))
    found = [layer for layer in model.layers if isinstance(layer, keras.layers.GroupNormalization)]
    assert [layer.name for layer in found] == ["head_gn_0", "head_gn_1"]  # and not one a level
    rng = np.random.default_rng(2)
    for layer in found:
        layer.set_weights([rng.uniform(0.5, 2, 64), rng.normal(size=64)])
    for i in range(2):  # a convolution that swaps channels, which is exact
        kernel = np.zeros([3, 3, 64, 64], np.float32)
        kernel[1, 1, range(64), rng.permutation(64)] = 1
        assert not model.get_layer(f"head_conv_{i}").use_bias
        model.get_layer(f"head_conv_{i}").set_weights([kernel])
    given = features((5, 6), (2, 3), channels=64)
    given[4] = 50 * given[4] + 7
    seen = model(given, training=True)
    for level, x in given.items():
        for i in range(2):
            x = x @ model.get_layer(f"head_conv_{i}").kernel.numpy()[1, 1]
            x = np.maximum(plain_group_norm(x, *model.get_layer(f"head_gn_{i}").get_weights()), 0)
        np.testing.assert_allclose(seen[level], x, rtol=1e-3, atol=1e-3)


def test_group_normalisation_of_a_picture_does_not_depend_on_others():
    pyramid = {3: keras.Input((None, None, 32), name="3")}
    model = keras.Model(pyramid, tower(pyramid, depth=1, normalization="group", name="head"))
    x = features((4, 4), channels=32)[3]
    np.testing.assert_allclose(model({3: x})[3][:1], model({3: x[:1]})[3], rtol=1e-4, atol=1e-5)
