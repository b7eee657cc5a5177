import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform

from kzoo.data.augmentation.geometry import View, displacement, resample


def view(own_size, size, scale=(1.0, 1.0), offset=(0.0, 0.0), flip=(False, False), angle=None, moved=None):
    """A view of the given numbers."""
    return View(
        own_size=tf.constant(own_size, tf.float32),
        size=tf.constant(size),
        scale=tf.constant(scale, tf.float32),
        offset=tf.constant(offset, tf.float32),
        flip=tf.constant(flip),
        angle=None if angle is None else tf.constant(angle, tf.float32),
        displacement=moved,
    )


def matrix(one):
    """[3, 3] of (y, x, 1), from own to given pixels: what the view's docstring says, step by step."""
    middle = one.own_size.numpy() * one.scale.numpy() / 2
    cosine, sine = math.cos(one.angle or 0), math.sin(one.angle or 0)
    steps = [np.diag([*one.scale.numpy(), 1.0]), shift(-middle)]
    steps.append(np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]))
    steps += [shift(middle), shift(one.offset.numpy())]
    for axis in np.flatnonzero(one.flip.numpy()):
        mirror = np.eye(3)
        mirror[axis, axis], mirror[axis, 2] = -1, one.size.numpy()[axis]
        steps.append(mirror)
    whole = np.eye(3)
    for step in steps:
        whole = step @ whole
    return whole


def shift(by):
    moved = np.eye(3)
    moved[:2, 2] = by
    return moved


def own_places(one):
    """Where the centres of the given pixels are in the picture's own ones, [H, W, 2]."""
    rows, columns = np.mgrid[: int(one.size[0]), : int(one.size[1])] + 0.5
    points = np.stack([rows, columns, np.ones_like(rows)], axis=-1)
    return (points @ np.linalg.inv(matrix(one)).T)[..., :2]


def place_of(one):
    """Which given pixels have their centre in the picture, and which so near its edge that both are right."""
    own, span = own_places(one), one.own_size.numpy()
    near = np.minimum(np.abs(own), np.abs(own - span)).min(axis=-1) < 1e-3
    return ((own >= 0) & (own <= span)).all(axis=-1), near


angles = st.one_of(st.none(), st.floats(-math.pi, math.pi))
factors = st.tuples(st.floats(0.2, 4), st.floats(0.2, 4))
shifts = st.tuples(st.floats(-50, 50), st.floats(-50, 50))
flips = st.tuples(st.booleans(), st.booleans())


@settings(max_examples=40, deadline=None)
@given(angle=angles, scale=factors, offset=shifts, flip=flips)
def test_points_go_where_the_matrix_says_and_back(angle, scale, offset, flip):
    one = view((60, 90), (70, 50), scale, offset, flip, angle)
    points = np.float32([[0, 0], [60, 90], [13.5, 70.25], [-4, 99]])
    expected = (np.c_[points, np.ones(4)] @ matrix(one).T)[:, :2]
    moved = one.forth(tf.constant(points))
    np.testing.assert_allclose(moved, expected, atol=1e-3)
    np.testing.assert_allclose(one.back(moved), points, atol=5e-3)


@pytest.mark.parametrize("seed", range(5))
def test_displaced_points_come_back(seed):
    moved = displacement(tf.constant([seed, 1]), tf.constant([80, 100]), 4.0)
    one = view((60, 90), (80, 100), (1.2, 1.1), (2.0, -3.0), (True, False), 0.3, moved)
    points = np.random.default_rng(seed).uniform(10, 60, [50, 2]).astype(np.float32)
    there = one.forth(tf.constant(points))
    # A displacement is that of the pixel in which a point lies: it jumps a little from one to the next.
    np.testing.assert_allclose(one.back(there), points, atol=0.8)
    straight = one._replace(displacement=None).forth(tf.constant(points))
    assert np.abs(there - straight).max() > 1


@pytest.mark.parametrize("flip", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2, math.pi / 2])
def test_a_turned_picture_is_what_scipy_makes_of_it(angle, flip):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, [6, 8, 3]).repeat(6, 0).repeat(6, 1).astype(np.uint8)
    one = view((36, 48), (40, 44), (1.3, 1.1), (-3.0, -2.5), flip, angle)
    got = resample({"images": tf.constant(picture), "labels": tf.constant(picture[..., :1])}, one)
    got = {name: layer.numpy() for name, layer in got.items()}
    inside, at_edge = place_of(one)
    inverse = np.linalg.inv(matrix(one))
    inverse = shift((-0.5, -0.5)) @ inverse @ shift((0.5, 0.5))  # between centres
    for channel in range(3):
        options = {"output_shape": (40, 44), "order": 1, "mode": "nearest"}
        expected = affine_transform(picture[..., channel].astype(float), inverse, **options)
        expected = np.where(inside, expected, 114)
        np.testing.assert_allclose(got["images"][..., channel][~at_edge], expected[~at_edge], atol=0.1)
    options = {"output_shape": (40, 44), "order": 0, "mode": "nearest"}
    expected = np.where(inside, affine_transform(picture[..., 0].astype(float), inverse, **options), 0)
    assert (got["labels"][..., 0] != expected).mean() < 0.03  # where two pixels are equally near


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["straight", "turned", "displaced"]), scale=factors, offset=shifts, flip=flips)
def test_pictures_reach_to_their_very_edge_however_they_are_seen(kind, scale, offset, flip):
    """A given pixel is bilinear of the picture's, the outermost of which go on to its edge; or it is grey."""
    picture = np.random.default_rng(0).integers(0, 256, [18, 24, 3]).astype(np.uint8)
    moved = tf.zeros([40, 44, 2]) if kind == "displaced" else None
    one = view((18, 24), (40, 44), scale, offset, flip, 0.0 if kind == "turned" else None, moved)
    got = resample({"images": tf.constant(picture), "labels": tf.constant(picture[..., :1])}, one)
    inside, at_edge = place_of(one)
    own = own_places(one)  # [40, 44, 2]
    y, x = (np.clip(own[..., axis] - 0.5, 0, side - 1) for axis, side in ((0, 18), (1, 24)))
    top, left = (np.minimum(np.floor(one).astype(int), side) for one, side in ((y, 16), (x, 22)))
    down, right = (y - top)[..., None], (x - left)[..., None]
    corners = [[picture[top + i, left + j].astype(float) for j in (0, 1)] for i in (0, 1)]
    rows = [(1 - right) * first + right * second for first, second in corners]
    expected = np.where(inside[..., None], (1 - down) * rows[0] + down * rows[1], 114)
    np.testing.assert_allclose(got["images"].numpy()[~at_edge], expected[~at_edge], atol=0.2)
    row, column = (
        np.clip(np.floor(own[..., axis]).astype(int), 0, side) for axis, side in ((0, 17), (1, 23))
    )
    expected = np.where(inside, picture[row, column, 0], 0)
    between = (np.abs(own - np.round(own)) < 1e-3).any(axis=-1)  # two pixels are equally near
    np.testing.assert_array_equal(got["labels"].numpy()[..., 0][~between], expected[~between])


@pytest.mark.parametrize("angle", [0.7, -2.0])
def test_a_marker_goes_where_the_points_go(angle):
    picture = np.zeros([50, 70, 1], np.uint8)
    picture[20, 40] = 255
    one = view((100, 140), (90, 80), (0.7, 0.6), (3.0, 5.0), (False, True), angle)  # kept at half its size
    got = resample({"borders": tf.constant(picture)}, one)["borders"].numpy()[..., 0]
    y, x = np.mgrid[:90, :80] + 0.5
    found = [(axis * got).sum() / got.sum() for axis in (y, x)]
    np.testing.assert_allclose(found, one.forth(tf.constant([[41.0, 81.0]]))[0], atol=0.35)


def test_a_picture_turned_by_nothing_is_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, [31, 44, 3]).astype(np.uint8)
    layers = {"images": tf.constant(picture), "labels": tf.constant(picture[..., :1])}
    for size in ((31, 44), (1, 1), (31, 1)):
        got = resample(layers, view((31, 44), size, angle=0.0))
        np.testing.assert_allclose(got["images"], picture[: size[0], : size[1]], atol=1e-3)
        np.testing.assert_array_equal(got["labels"], picture[: size[0], : size[1], :1])


@pytest.mark.parametrize("angle", [None, 0.0])
@pytest.mark.parametrize("side", [4, 8])
def test_a_picture_that_is_shrunk_much_is_averaged(side, angle):
    """Squares of pixels, of which samples would see one pixel each."""
    picture = np.random.default_rng(0).integers(0, 256, [64, 96, 3]).astype(np.uint8)
    one = view((64, 96), (64 // side, 96 // side), (1 / side, 1 / side), angle=angle)
    got = resample({"images": tf.constant(picture)}, one, shrinks=10.0)["images"]
    squares = picture.reshape(64 // side, side, 96 // side, side, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(got, squares, atol=0.01)
    plain = resample({"images": tf.constant(picture)}, one, shrinks=2.0)["images"]
    assert np.abs(plain - squares).mean() > 10


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (37, 53)])
@pytest.mark.parametrize("scale", [0.05, 0.21, 0.3, 1.0])
def test_averaging_leaves_no_grey_edge_whatever_the_size(size, scale):
    own = tf.fill([*size, 3], tf.constant(7, tf.uint8))
    given_size = [max(1, int(side * scale)) for side in size]
    got = resample({"images": own}, view(size, given_size, (scale, scale)), shrinks=20.0)["images"]
    if all(side * scale >= 1 for side in size):
        assert got.shape == (*given_size, 3)
        np.testing.assert_allclose(got, 7, atol=1e-4)
