import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.tiles import for_whole_pictures, predict_tiles


def box_sums(pictures, radius):
    """Sums over (2r+1) x (2r+1) pixels, [B, H - 2rh, W - 2rw, C]: in whole numbers, never rounded."""
    pictures = np.asarray(pictures, np.int64)
    for axis, reach in zip((1, 2), radius, strict=True):
        length = pictures.shape[axis] - 2 * reach
        parts = [np.take(pictures, range(start, start + length), axis) for start in range(2 * reach + 1)]
        pictures = np.sum(parts, axis=0)
    return pictures


def mirrored(pictures, radius):
    """Pictures continued beyond their borders by pixels picked one by one, independently of np.pad."""
    for axis, reach in zip((1, 2), radius, strict=True):
        side = pictures.shape[axis]
        there = np.arange(-reach, side + reach) % (2 * side)
        pictures = np.take(pictures, np.where(there < side, there, 2 * side - 1 - there), axis)
    return pictures


def random_pictures(*shape):
    return np.random.default_rng(0).integers(0, 256, [*shape, 3], dtype=np.uint8)


def filtered(images, margin):
    return box_sums(mirrored(images, margin), margin)


sides = st.tuples(st.integers(1, 23), st.integers(1, 23))
reaches = st.tuples(st.integers(0, 4), st.integers(0, 4))


@settings(deadline=None, max_examples=60)
@given(size=sides, margin=reaches, middle=sides, batch_size=st.integers(1, 5))
def test_a_filter_by_tiles_is_that_of_the_mirrored_whole(size, margin, middle, batch_size):
    images = random_pictures(2, *size)
    tile = tuple(part + 2 * edge for part, edge in zip(middle, margin, strict=True))
    asked = []

    def predict(tiles):
        asked.append(len(tiles))
        assert tiles.shape[1:] == (*tile, 3)
        assert tiles.dtype == np.uint8
        return {"probabilities": box_sums(tiles, margin)}

    answers = predict_tiles(predict, images, tile, margin, batch_size=batch_size)
    expected = filtered(images, margin)
    np.testing.assert_array_equal(answers["probabilities"], expected)
    np.testing.assert_array_equal(answers["classes"], expected.argmax(axis=-1))
    assert (answers["probabilities"].dtype, answers["classes"].dtype) == (np.float32, np.int32)
    tiles = 2 * -(-size[0] // middle[0]) * -(-size[1] // middle[1])  # as few as cover the pictures
    assert sum(asked) == tiles
    assert max(asked) == min(batch_size, tiles)


@pytest.mark.parametrize("overlap", [(2, 2), (3, 5)])
def test_what_a_padding_model_knows_less_of_is_cut_off(overlap):
    """It answers whole tiles, with zeros where it has no context."""
    images = random_pictures(1, 30, 17)

    def predict(tiles):
        zeros = np.pad(tiles, [(0, 0), (2, 2), (2, 2), (0, 0)])
        return {"probabilities": box_sums(zeros, (2, 2))}

    answers = predict_tiles(predict, images, (14, 15), overlap=overlap)["probabilities"]
    np.testing.assert_array_equal(answers, filtered(images, (2, 2)))
    assert (predict_tiles(predict, images, (14, 15))["probabilities"] != answers).any()


def test_margin_and_overlap_together():
    images = random_pictures(1, 20, 20)

    def predict(tiles):
        middle = np.array(tiles[:, 1:-1, 1:-1])
        middle[:, [0, -1]] = middle[:, :, [0, -1]] = 0  # the outermost pixels are wrong
        return {"probabilities": middle}

    answers = predict_tiles(predict, images, (9, 9), (1, 1), (1, 1))["probabilities"]
    np.testing.assert_array_equal(answers, images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros([0, 8, 8, 3])}, r"images: shape \(0, 8, 8, 3\)"),
        ({"images": np.zeros([8, 8, 3])}, r"images: shape \(8, 8, 3\)"),
        ({"tile": (8, 4), "margin": (2, 2)}, "leave nothing of it"),
        ({"tile": (8, 8), "margin": (2, 2), "overlap": (2, 2)}, "leave nothing of it"),
        ({"margin": (2, -1)}, r"margin=\(2, -1\), where a side=-1"),
        ({"tile": 8}, "tile=8: two numbers"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"margin": (1, 1)}, r"of tiles \(4, 8, 8, 3\) .* \[4, 6, 6, C\] .* answered \(4, 8, 8, 3\)"),
    ],
)
def test_what_cannot_be_is_told(changes, message):
    arguments = {"images": np.zeros([1, 8, 8, 3]), "tile": (8, 8)} | changes
    with pytest.raises(ValueError, match=message):
        predict_tiles(lambda tiles: {"probabilities": tiles}, **arguments)


def test_whole_pictures_by_a_model_of_tiles():
    images = random_pictures(2, 21, 34)

    def predict(tiles):
        assert tiles.shape[1:3] == (16, 12)
        return {"probabilities": box_sums(tiles, (3, 1))}

    answers = for_whole_pictures(predict, (16, 12), (10, 10))(images)
    np.testing.assert_array_equal(answers["probabilities"], filtered(images, (3, 1)))


@pytest.mark.parametrize(
    ("tile", "answered"), [((16, 12), (16, 12)), ((None, None), (None, None)), ((16, 12), (None, None))]
)
def test_a_model_of_whole_pictures_is_left_alone(tile, answered):
    assert for_whole_pictures(box_sums, tile, answered) is box_sums
