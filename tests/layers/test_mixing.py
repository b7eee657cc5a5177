import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from kzoo.layers.mixing import MixPictures, _windows


def flat_pictures(count, height=1, width=1):
    """Pictures of one value each, all of other classes: what is mixed can be told from both."""
    values = np.random.default_rng(0).permutation(np.arange(count, dtype=np.float32) * 255 / count)
    images = np.broadcast_to(values[:, None, None, None], [count, height, width, 3])
    return values, np.array(images), np.arange(count, dtype=np.int32)


def mixed(layer, images, classes):
    images, targets = layer(tf.constant(images), tf.constant(classes), training=True)
    return images.numpy(), targets.numpy()


def own_shares(targets):
    """The share that each picture keeps, of those that are not mixed with themselves."""
    own = np.diagonal(targets)
    return own[(targets > 0).sum(axis=1) == 2]


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_pictures_and_targets_are_mixed_by_the_same_shares(options):
    keras.utils.set_random_seed(0)
    values, images, classes = flat_pictures(32, 16, 24)
    layer = MixPictures(32, **options)
    for _ in range(4):
        pictures, targets = mixed(layer, images, classes)
        assert pictures.shape == images.shape and pictures.dtype == targets.dtype == np.float32
        assert targets.min() >= 0
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        assert (targets > 0).sum(axis=1).max() == 2
        np.testing.assert_allclose(pictures.mean(axis=(1, 2, 3)), targets @ values, rtol=1e-4, atol=1e-3)


def test_every_picture_is_the_partner_of_one():
    keras.utils.set_random_seed(0)
    _, images, classes = flat_pictures(64)
    _, targets = mixed(MixPictures(64, mixup=1.0), images, classes)
    others = targets * (1 - np.eye(64))
    assert (others > 0).sum(axis=0).max() == 1 and (others > 0).sum() >= 58


def test_mixup_is_a_weighted_mean_of_every_pixel():
    keras.utils.set_random_seed(1)
    images = np.random.default_rng(0).uniform(0, 255, [8, 5, 7, 3]).astype(np.float32)
    pictures, targets = mixed(MixPictures(8, mixup=1.0), images, np.arange(8, dtype=np.int32))
    np.testing.assert_allclose(pictures, np.einsum("bc,chwk->bhwk", targets, images), rtol=1e-4, atol=1e-3)


def test_cutmix_puts_one_window_of_another_picture_into_each():
    keras.utils.set_random_seed(1)
    images = np.random.default_rng(0).uniform(0, 255, [64, 12, 20, 3]).astype(np.float32)
    pictures, targets = mixed(MixPictures(64, cutmix=1.0), images, np.arange(64, dtype=np.int32))
    windows = 0
    for picture, shares, own in zip(pictures, targets, range(64), strict=True):
        partners = [label for label in np.flatnonzero(shares) if label != own]
        inside = (picture != images[own]).any(axis=-1)
        assert inside.sum() == pytest.approx(240 * (1 - shares[own]), abs=1e-2)
        if not partners:
            continue
        windows += 1
        (partner,) = partners
        np.testing.assert_array_equal(picture[inside], images[partner][inside])
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert windows > 50


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_of_mixup_are_drawn_from_a_beta(alpha):
    keras.utils.set_random_seed(2)
    _, images, classes = flat_pictures(1000)
    shares = own_shares(mixed(MixPictures(1000, mixup=alpha), images, classes)[1])
    assert len(shares) > 900  # the others met themselves, or kept all or nothing in float32
    law = stats.beta(alpha, alpha)
    if alpha >= 1:
        assert stats.kstest(shares, law.cdf).pvalue > 0.01
    assert shares.mean() == pytest.approx(0.5, abs=0.04)
    every = np.diagonal(mixed(MixPictures(1000, mixup=alpha), images, classes)[1])
    assert every.std() == pytest.approx(law.std(), rel=0.06)


def test_windows_have_the_picture_s_proportions_and_the_share_that_is_asked_for():
    shares = np.linspace(0.02, 0.98, 400).astype(np.float32)
    inside = _windows(tf.constant([400, 60, 90]), tf.constant(shares), tf.constant([1, 2])).numpy()
    whole = 0
    for window, share in zip(inside, shares, strict=True):
        rows, columns = np.flatnonzero(window.any(axis=1)), np.flatnonzero(window.any(axis=0))
        assert len(rows) and len(columns)
        assert window.sum() == len(rows) * len(columns)
        sides = np.sqrt(1 - share) * np.array([60, 90])
        assert np.all([len(rows), len(columns)] <= sides + 1)  # cut off at the border, never larger
        if rows[0] > 0 and rows[-1] < 59 and columns[0] > 0 and columns[-1] < 89:
            whole += 1
            np.testing.assert_allclose([len(rows), len(columns)], sides, atol=1.01)
    assert whole > 30


def test_windows_lie_anywhere():
    inside = _windows(tf.constant([3000, 20, 20]), tf.fill([3000], 0.96), tf.constant([3, 4])).numpy()
    seen = inside.mean(axis=0)  # 4 by 4 pixels: those 2 from the border are as often seen as the middle
    assert seen[2:-2, 2:-2].mean() == pytest.approx(0.04, rel=0.05)
    assert seen[2:-2, 2:-2].min() > 0.02 and seen[2:-2, 2:-2].max() < 0.06
    assert seen[:2].mean() < 0.9 * 0.04  # there are no windows around places outside


def test_windows_at_the_ends_of_the_shares():
    inside = _windows(tf.constant([2, 8, 8]), tf.constant([1.0, 0.0]), tf.constant([0, 0])).numpy()
    assert not inside[0].any()
    assert inside[1].sum() >= 16  # as large as the picture, and cut off: a quarter of it at the least


def test_with_both_each_batch_draws_one():
    keras.utils.set_random_seed(0)
    values, images, classes = flat_pictures(8, 8, 8)
    layer = MixPictures(8, mixup=1.0, cutmix=1.0)
    kinds = []
    for _ in range(40):
        pictures, _ = mixed(layer, images, classes)
        pure = np.isin(pictures, values).all(axis=(1, 2, 3))
        kinds.append("cutmix" if pure.all() else "mixup")
        assert kinds[-1] == "cutmix" or pure.sum() < 8
    assert 10 < kinds.count("cutmix") < 30


def test_batches_are_mixed_anew_and_seeds_repeat_them():
    _, images, classes = flat_pictures(8, 2, 2)

    def draw():
        keras.utils.set_random_seed(5)
        layer = MixPictures(8, mixup=1.0)
        return [mixed(layer, images, classes)[1] for _ in range(2)]

    (first, second), again = draw(), draw()
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal([first, second], again)


def test_only_while_training_and_with_classes():
    _, images, classes = flat_pictures(6, 2, 2)
    layer = MixPictures(6, mixup=1.0, cutmix=1.0)
    for training in (False, None):
        pictures, targets = layer(images, classes, training=training)
        np.testing.assert_array_equal(pictures, images)
        np.testing.assert_array_equal(targets, np.eye(6))
    pictures, targets = layer(images, training=True)
    np.testing.assert_array_equal(pictures, images)
    np.testing.assert_array_equal(targets, np.zeros([6, 6]))
    pictures, targets = MixPictures(6)(images, classes, training=True)
    np.testing.assert_array_equal(pictures, images)
    np.testing.assert_array_equal(targets, np.eye(6))


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_pictures_of_unknown_class_are_not_mixed_into_others(options):
    keras.utils.set_random_seed(0)
    values, images, classes = flat_pictures(32, 6, 6)
    classes[::2] = -1
    pictures, targets = mixed(MixPictures(32, **options), images, classes)
    known = classes >= 0
    np.testing.assert_allclose(targets[known].sum(axis=1), 1, atol=1e-6)
    means = targets[:, known] @ values[known]
    np.testing.assert_allclose(pictures.mean(axis=(1, 2, 3))[known], means[known], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2])
def test_the_smallest_batches(count):
    _, images, classes = flat_pictures(count, 4, 4)
    for options in ({"mixup": 1.0}, {"cutmix": 1.0}):
        pictures, targets = mixed(MixPictures(count, **options), images, classes)
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        if count == 1:
            np.testing.assert_allclose(pictures, images, rtol=1e-6)


def test_in_a_graph_and_in_float32_whatever_the_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = MixPictures(3, mixup=0.2, cutmix=1.0)
        pictures = keras.Input((4, None, 3), name="images")
        classes = keras.Input((), dtype="int32", name="classes", optional=True)
        shapes = [(output.shape, output.dtype) for output in layer(pictures, classes)]
    finally:
        keras.config.set_dtype_policy(before)
    assert shapes == [((None, 4, None, 3), "float32"), ((None, 3), "float32")]
    run = tf.function(lambda x, y: layer(x, y, training=True))
    images = np.float32(np.random.default_rng(0).uniform(0, 255, [3, 4, 4, 3]))
    first, second = run(images, np.arange(3))[1].numpy(), run(images, np.arange(3))[1].numpy()
    np.testing.assert_allclose(first.sum(axis=1), 1, atol=1e-6)
    assert np.abs(first - second).max() > 0.001


def test_config():
    again = MixPictures.from_config(MixPictures(7, 0.2, 1.0, name="mix").get_config())
    assert (again.num_classes, again.mixup, again.cutmix, again.name) == (7, 0.2, 1.0, "mix")
