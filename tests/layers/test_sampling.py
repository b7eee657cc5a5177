import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.layers.matching import BACKGROUND, CROWD, IGNORED
from kzoo.layers.sampling import SampleAnchors, SampleRegions, sample


def kinds(positives, background, ignored):
    """Matches of one picture in a random order; every positive answers for object 3."""
    row = [3] * positives + [BACKGROUND] * background + [IGNORED] * ignored
    return np.random.default_rng(0).permutation(row).astype(np.int32)


def drawn_kinds(matches, count, share, random):
    indices, drawn = (
        part.numpy() for part in sample(tf.constant(matches), count, share, tf.constant(random))
    )
    assert indices.shape == drawn.shape == (len(matches), count)
    assert indices.dtype == np.int32
    return [row[i[d]] for row, i, d in zip(matches, indices, drawn, strict=True)], indices, drawn


counts = st.integers(0, 12)


@settings(max_examples=60)
@given(counts, counts, counts, st.integers(1, 20), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 99))
def test_counts(positives, background, ignored, count, share, seed):
    matches = kinds(positives, background, ignored)[None]
    random = np.random.default_rng(seed).random(matches.shape, np.float32)
    (values,), indices, drawn = drawn_kinds(matches, count, share, random)
    expected_positives = min(positives, int(count * share))
    expected_background = min(background, count - expected_positives)
    assert (values >= 0).sum() == expected_positives
    assert (values == BACKGROUND).sum() == expected_background
    assert drawn.sum() == expected_positives + expected_background
    assert (values[:expected_positives] >= 0).all()  # positives first
    assert drawn[0].tolist() == sorted(drawn[0], reverse=True)  # and what fills up last
    assert len(set(indices[drawn])) == drawn.sum()  # none of them twice
    assert matches.size == 0 or ((indices >= 0) & (indices < matches.size)).all()


def test_the_highest_numbers_are_drawn_even_of_zeros():
    matches = np.int32([[0, BACKGROUND, 1, BACKGROUND, 2, IGNORED, BACKGROUND, 0]])
    random = np.float32([[0.1, 0.9, 0.7, 0.0, 0.8, 1.0, 0.5, 0.0]])
    indices, drawn = sample(tf.constant(matches), 4, 0.5, tf.constant(random))
    assert indices.numpy().tolist() == [[4, 2, 1, 6]]
    assert drawn.numpy().all()
    indices, drawn = sample(tf.constant(matches), 6, 0.5, tf.zeros([1, 8]))
    assert drawn.numpy().all()
    assert sorted(matches[0, indices[0]]) == [-1, -1, -1, 0, 1, 2]


def test_pictures_are_drawn_by_themselves():
    matches = np.stack([kinds(9, 3, 0), kinds(0, 0, 12), kinds(1, 11, 0)])
    random = np.random.default_rng(0).random(matches.shape, np.float32)
    values, _, _ = drawn_kinds(matches, 8, 0.5, random)
    assert [[int((v >= 0).sum()), int((v == BACKGROUND).sum())] for v in values] == [[4, 3], [0, 0], [1, 7]]


def test_anchors_are_256_and_half_of_them_positive():
    matches = np.stack([kinds(300, 500, 100), kinds(10, 790, 100), kinds(300, 20, 580), kinds(0, 0, 900)])
    chosen = SampleAnchors()(matches, training=True)
    assert chosen.dtype == tf.int32
    found = [[int((row >= 0).sum()), int((row == BACKGROUND).sum())] for row in chosen.numpy()]
    assert found == [[128, 128], [10, 246], [128, 20], [0, 0]]
    untouched = chosen.numpy() != IGNORED
    np.testing.assert_array_equal(chosen.numpy()[untouched], matches[untouched])


def test_fewer_anchors_than_are_drawn_are_all_left():
    matches = kinds(3, 5, 2)[None]
    np.testing.assert_array_equal(SampleAnchors(count=50)(matches, training=True), matches)


@pytest.mark.parametrize("training", [True, False])
def test_no_picture_and_no_anchor(training):
    layer = SampleAnchors(count=4)
    assert layer(np.zeros([0, 7], np.int32), training=training).shape == (0, 7)
    assert layer(np.zeros([2, 0], np.int32), training=training).shape == (2, 0)


@pytest.mark.parametrize("training", [True, False])
def test_every_anchor_is_drawn_as_often_as_any_other(training):
    """20 of each kind, of which 5 and 15 are drawn: rates of 1/4 and 3/4, give or take five deviations.

    In pictures whose objects differ, as in each of them the same is drawn.
    """
    keras.utils.set_random_seed(0)
    row = kinds(20, 20, 8)
    layer = SampleAnchors(count=20, positive_share=0.25)
    pictures = np.where(row >= 0, np.arange(500, dtype=np.int32)[:, None], row)
    chosen = np.concatenate([layer(pictures, training=training) for _ in range(8 if training else 1)])
    rate = (chosen != IGNORED).mean(axis=0)
    tolerance = 5 * np.sqrt(0.25 * 0.75 / len(chosen))
    np.testing.assert_allclose(rate[row >= 0], 0.25, atol=tolerance)
    np.testing.assert_allclose(rate[row == BACKGROUND], 0.75, atol=tolerance)
    assert not rate[row == IGNORED].any()
    # Whether an anchor is drawn says nothing of its picture: two neighbours are drawn together by chance.
    a, b = np.flatnonzero(row >= 0)[:2]
    together = ((chosen[:, a] != IGNORED) & (chosen[:, b] != IGNORED)).mean()
    assert together == pytest.approx(5 / 20 * 4 / 19, abs=tolerance)


def test_training_draws_anew_in_each_step_and_measuring_does_not():
    layer = SampleAnchors(count=16)
    matches = np.stack([kinds(100, 100, 0)] * 2)
    matches[1, np.flatnonzero(matches[1] == BACKGROUND)[0]] = 0

    @tf.function
    def draw(training):
        return layer(matches, training=training)

    steps = {draw(True).numpy().tobytes() for _ in range(5)}
    assert len(steps) == 5
    measured = {draw(False).numpy().tobytes() for _ in range(3)}
    measured |= {layer(matches).numpy().tobytes(), SampleAnchors(count=16)(matches).numpy().tobytes()}
    assert len(measured) == 1
    first, second = layer(matches, training=False).numpy()
    assert ((first == IGNORED) != (second == IGNORED)).any()  # but two pictures are two draws


@pytest.mark.parametrize("training", [True, False])
def test_what_is_drawn_does_not_depend_on_the_place_in_the_batch_nor_on_how_it_is_filled_up(training):
    rng = np.random.default_rng(0)
    pictures = rng.permuted(np.stack([kinds(30, 30, 5)] * 3), axis=1)
    proposals = np.float32([NEAR + FAR] * 3)
    boxes = np.float32([OBJECT, shifted(OBJECT, 1), shifted(OBJECT, 2)])[:, None]
    classes = np.zeros([3, 1], np.int32)
    filled = np.pad(boxes, [[0, 0], [0, 4], [0, 0]]), np.pad(classes, [[0, 0], [0, 4]], constant_values=-1)

    def draws(order, boxes, classes):
        keras.utils.set_random_seed(0)
        anchors = SampleAnchors(count=16)(pictures[order], training=training).numpy()
        regions = SampleRegions(16)(proposals[order], boxes[order], classes[order], training=training)
        return anchors, regions.numpy()

    expected = draws([0, 1, 2], boxes, classes)
    assert len(set(map(bytes, expected[0]))) == len(set(map(bytes, expected[1]))) == 3
    for order in ([2, 0, 1], [1]):
        for found, all_three in zip(draws(order, *filled), expected, strict=True):
            np.testing.assert_array_equal(found, all_three[order])


def test_a_seed_leads_to_the_same_draws():
    matches = kinds(100, 100, 0)[None]

    def run(seed):
        keras.utils.set_random_seed(seed)
        layer = SampleAnchors(count=16)
        return [layer(matches, training=True).numpy().tolist() for _ in range(3)]

    assert run(1) == run(1) != run(2)


def shifted(box, dx):
    return [box[0] + dx, box[1], box[2] + dx, box[3]]


OBJECT = [10.0, 10, 50, 50]
FAR = [[100.0 + 5 * i, 100, 130 + 5 * i, 130] for i in range(30)]
NEAR = [shifted(OBJECT, 0.25 * i) for i in range(1, 31)]  # an IoU of 0.68 at least


def regions_of(proposals, boxes, classes, *, count=16, training=True):
    layer = SampleRegions(count)
    arguments = np.float32([proposals]), np.float32([boxes]), np.int32([classes])
    (regions,) = layer(*arguments, training=training).numpy()
    assert regions.shape == (count, 4)
    return regions.tolist()


def test_positives_are_a_quarter_and_come_first():
    regions = regions_of(NEAR + FAR, [OBJECT, [0, 0, 0, 0]], [1, -1])
    assert all(region in [OBJECT, *NEAR] for region in regions[:4])
    assert all(region in FAR for region in regions[4:])
    assert len(set(map(tuple, regions))) == 16
    assert SampleRegions(16).most_positives == 4
    assert SampleRegions().most_positives == 128


def test_a_proposal_is_positive_from_an_iou_of_a_half():
    tall = [10.0, 10, 50, 130]  # IoU 1/3
    half, less = [10.0, 10, 50, 90], [10.0, 10, 50, 90.5]
    regions = regions_of([less, half, tall], [OBJECT], [0])
    assert sorted(regions[:2]) == sorted([half, OBJECT])
    assert sorted(regions[2:4]) == sorted([less, tall])
    assert regions[4:] == [[0, 0, 0, 0]] * 12


def test_true_boxes_are_proposals_too_and_crowds_and_padding_are_not():
    crowd = [60.0, 60, 90, 90]
    boxes, classes = [OBJECT, crowd, [60, 10, 90, 40]], [0, CROWD, -1]  # padding that was not cleared
    regions = regions_of([[0, 0, 0, 0]] * 5, boxes, classes)
    assert regions == [OBJECT] + [[0, 0, 0, 0]] * 15


def test_what_lies_in_a_crowd_is_not_drawn():
    in_crowd, beside = [62.0, 62, 80, 80], [85.0, 85, 105, 105]
    regions = regions_of([in_crowd, beside], [OBJECT, [60, 60, 90, 90]], [0, CROWD])
    assert regions == [OBJECT, beside] + [[0, 0, 0, 0]] * 14


def test_zero_boxes_that_fill_up_proposals_are_no_background():
    for _ in range(5):
        regions = regions_of([[0, 0, 0, 0]] * 300 + FAR[:3], [OBJECT], [0])
        assert regions[0] == OBJECT
        assert sorted(regions[1:4]) == FAR[:3]
        assert regions[4:] == [[0, 0, 0, 0]] * 12


@pytest.mark.parametrize("objects", [0, 1, 300])
def test_no_object_and_many(objects):
    boxes = [[i % 20 * 40.0, i // 20 * 40.0, i % 20 * 40 + 30.0, i // 20 * 40 + 30.0] for i in range(objects)]
    away = [[5000.0 + i, 0, 5030 + i, 30] for i in range(20)]
    layer = SampleRegions(16)
    boxes = np.float32(boxes).reshape(1, -1, 4)
    (regions,) = layer(np.float32([away]), boxes, np.zeros([1, objects], np.int32), training=True).numpy()
    assert (regions[:, 0] < 5000).sum() == min(objects, 4)
    assert (regions[:, 0] >= 5000).sum() == 16 - min(objects, 4)


def test_regions_of_two_pictures_and_of_none():
    proposals = np.float32([NEAR[:6] + FAR[:6]] * 2)
    boxes, classes = np.float32([[OBJECT], [[0, 0, 0, 0]]]), np.int32([[0], [-1]])
    regions = SampleRegions(8)(proposals, boxes, classes, training=True).numpy()
    assert (regions[0, :, 0] < 60).tolist() == [True] * 2 + [False] * 6
    assert set(map(tuple, regions[1])) <= set(map(tuple, NEAR[:6] + FAR[:6]))
    assert len(set(map(tuple, regions[1]))) == 8
    nothing = SampleRegions(8)(proposals[:0], boxes[:0], classes[:0], training=True)
    assert nothing.shape == (0, 8, 4)


def test_regions_are_drawn_anew_only_in_training():
    arguments = np.float32([NEAR + FAR]), np.float32([[OBJECT]]), np.int32([[0]])
    layer = SampleRegions(8)
    assert len({layer(*arguments, training=True).numpy().tobytes() for _ in range(4)}) == 4
    assert len({layer(*arguments, training=False).numpy().tobytes() for _ in range(4)}) == 1


def test_gradients_reach_the_proposals_that_were_drawn():
    proposals = tf.Variable(np.float32([FAR]))
    with tf.GradientTape() as tape:
        regions = SampleRegions(8)(proposals, np.float32([[OBJECT]]), np.int32([[0]]), training=True)
        total = tf.reduce_sum(regions)
    gradient = tf.convert_to_tensor(tape.gradient(total, proposals)).numpy()[0]
    drawn = [box in regions.numpy()[0].tolist() for box in FAR]
    assert sum(drawn) == 7
    np.testing.assert_array_equal(gradient, np.float32(drawn)[:, None] * np.ones(4))


def test_without_targets_all_proposals_pass():
    proposals = np.float32([NEAR, FAR])
    boxes, classes = np.zeros([2, 1, 4], np.float32), np.full([2, 1], -1, np.int32)
    layer = SampleRegions(4)
    for targets in ((None, None), (boxes, None), (None, classes)):
        np.testing.assert_array_equal(layer(proposals, *targets), proposals)


def test_configuration():
    for kind in (SampleAnchors, SampleRegions):
        layer = kind.from_config(kind(12, 0.75, name="drawn").get_config())
        assert (layer.count, layer.positive_share, layer.name) == (12, 0.75, "drawn")
    assert SampleAnchors()(keras.KerasTensor((None, 9), "int32")).dtype == "int32"
    assert SampleRegions()(keras.KerasTensor((None, None, 4))).shape == (None, None, 4)
