import numpy as np
import pytest
from PIL import Image

from kzoo.data import pictures
from kzoo.data.faults import DataError
from kzoo.data.pictures import check_picture, read_picture

COLOURS = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)


@pytest.fixture
def jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(COLOURS).save(path, quality=95)
    return path


def save(path, picture, **options):
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_formats_come_back_exactly(tmp_path, extension):
    path = save(
        tmp_path / f"a.{extension}",
        Image.fromarray(COLOURS),
        **{"lossless": True} if extension == "webp" else {},
    )
    picture = read_picture(path)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, COLOURS)
    assert check_picture(path) == (24, 36)


def test_grey_is_repeated(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS[..., 0]))
    np.testing.assert_array_equal(read_picture(path), np.repeat(COLOURS[..., :1], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_hides_nothing(tmp_path, mode):
    picture = Image.fromarray(COLOURS).convert(mode)
    picture.putalpha(0)
    path = save(tmp_path / "a.png", picture)
    expected = np.asarray(Image.fromarray(COLOURS).convert("L" if mode == "LA" else "RGB").convert("RGB"))
    np.testing.assert_array_equal(read_picture(path), expected)


def test_palette_is_looked_up(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putpixel((1, 0), 1)
    path = save(tmp_path / "a.png", picture, transparency=bytes([0, 255]))
    np.testing.assert_array_equal(read_picture(path), [[[10, 20, 30], [200, 100, 0]]])


def test_black_and_white(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(np.array([[True, False]])))
    np.testing.assert_array_equal(read_picture(path)[0, :, 0], [255, 0])


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, extension):
    values = np.array([[0, 256, 257, 32768, 65535]], np.uint16)
    path = save(tmp_path / f"a.{extension}", Image.fromarray(values))
    np.testing.assert_array_equal(read_picture(path)[0, :, 1], [0, 1, 1, 128, 255])


def test_values_of_unknown_range_are_refused(tmp_path):
    for number, dtype in enumerate((np.float32, np.int32)):
        path = save(tmp_path / f"{number}.tif", Image.fromarray(np.full((4, 4), 1e6, dtype)))
        with pytest.raises(DataError, match=rf"{number}\.tif.*no known range"):
            read_picture(path)


def test_a_rotation_in_exif_is_carried_out(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS), exif=exif)
    assert check_picture(path) == (36, 24)
    np.testing.assert_array_equal(read_picture(path), np.rot90(COLOURS, -1))


@pytest.mark.parametrize("function", [read_picture, check_picture])
@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_picture(tmp_path, function, content):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.jpg: .*expected a whole picture"):
        function(path)


@pytest.mark.parametrize("function", [read_picture, check_picture])
def test_what_is_no_file(tmp_path, function):
    with pytest.raises(DataError, match=r"none\.jpg: there is no such file"):
        function(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="a directory"):
        function(tmp_path)


@pytest.mark.parametrize("function", [read_picture, check_picture])
@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "tif", "gif"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_files_are_found(tmp_path, function, extension, kept):
    path = save(tmp_path / f"cut.{extension}", Image.fromarray(np.tile(COLOURS, (8, 8, 1))))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=rf"cut\.{extension}"):
        function(path)


@pytest.mark.parametrize("function", [read_picture, check_picture])
def test_a_png_damaged_in_its_middle_is_found(tmp_path, function):
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    path = save(tmp_path / "hurt.png", Image.fromarray(noise))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"hurt\.png"):
        function(path)


def test_a_whole_file_is_checked_without_decoding_it(jpeg, monkeypatch):
    decoded = []
    monkeypatch.setattr(pictures, "read_picture", lambda path, **_: decoded.append(path))
    assert check_picture(jpeg) == (24, 36)
    assert not decoded
    jpeg.write_bytes(jpeg.read_bytes() + bytes(1000))  # padding hides the end, so that decoding has to tell
    assert check_picture(jpeg) == (24, 36)
    assert decoded == [jpeg]


@pytest.mark.parametrize("function", [read_picture, check_picture])
def test_a_picture_of_more_pixels_than_are_allowed(jpeg, function):
    function(jpeg, max_pixels=24 * 36)
    with pytest.raises(DataError, match=r"a\.jpg: a picture of 36 x 24 pixels.* max_pixels=863;"):
        function(jpeg, max_pixels=24 * 36 - 1)
