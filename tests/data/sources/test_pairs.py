import numpy as np
import pytest
from PIL import Image

from kzoo.data.faults import DataError
from kzoo.data.sources.pairs import read_values, scan_labels

VALUES = np.array([[0, 1, 2], [3, 254, 255]], np.uint8)


def palette(values):
    picture = Image.fromarray(values, "P") if values.ndim == 2 else None
    picture.putpalette([255 - number // 3 for number in range(768)])
    return picture


def saved(path, picture):
    picture.save(path)
    return path


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(VALUES),
        palette(VALUES),
        Image.fromarray(VALUES.astype(np.uint16)),
        Image.fromarray(np.repeat(VALUES[..., None], 3, axis=-1)),
        Image.fromarray(np.dstack([VALUES, VALUES, VALUES, VALUES[::-1]])),
        Image.fromarray(np.dstack([VALUES, VALUES[::-1]])),
    ],
    ids=lambda picture: picture.mode,
)
def test_values_are_read_as_they_are_stored(tmp_path, picture):
    path = saved(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_values(path), VALUES)
    assert scan_labels(path) == ((2, 3), {0, 1, 2, 3, 254, 255})


def test_values_of_16_bits_and_of_one(tmp_path):
    deep = np.array([[0, 300, 65535]], np.uint16)
    np.testing.assert_array_equal(read_values(saved(tmp_path / "a.png", Image.fromarray(deep))), deep)
    np.testing.assert_array_equal(read_values(saved(tmp_path / "a.tif", Image.fromarray(deep))), deep)
    flat = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    np.testing.assert_array_equal(read_values(saved(tmp_path / "b.png", flat)), [[0, 255]])


@pytest.mark.parametrize(
    ("name", "picture", "message"),
    [
        ("a.png", Image.new("RGB", (3, 2), (1, 1, 2)), "a picture of colours"),
        ("a.jpg", Image.new("L", (3, 2)), "does not keep values exactly"),
        ("a.tif", Image.new("F", (3, 2)), "of the kind F"),
        ("a.tif", Image.fromarray(np.full((2, 3), -1, np.int32)), "32 bits"),
    ],
)
def test_pictures_that_tell_no_classes(tmp_path, name, picture, message):
    path = saved(tmp_path / name, picture)
    with pytest.raises(DataError) as raised:
        read_values(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)
    assert "expected a label picture" in str(raised.value)


def test_a_truncated_label_picture(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="a.png: .*expected a label picture"):
        read_values(path)
