import io
import os
import struct
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from kzoo.data import pictures
from kzoo.data.faults import DataError
from kzoo.data.pictures import MAX_PIXELS, check_picture, read_orientation, read_picture

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


def turning(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
def test_a_turn_that_exif_asks_for_is_carried_out(tmp_path, extension, orientation):
    path = tmp_path / f"a.{extension}"
    options = {"lossless": True} if extension == "webp" else {}
    save(path, Image.fromarray(COLOURS), exif=turning(orientation), **options)
    with Image.open(path) as stored:
        seen = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(read_picture(path), seen)
    assert check_picture(path) == seen.shape[:2] == ((36, 24) if orientation > 4 else (24, 36))
    assert read_orientation(path) == orientation


def tiff_header(entries):
    """EXIF of a byte order, and the entries (tag, type, count, value) of one directory."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0nonsense",
        b"Exif\0\0",
        tiff_header([(0x0112, 3, 1, 9)]),  # 1 to 8 are known
        tiff_header([(0x0112, 3, 1, 0)]),
        tiff_header([(0x0112, 2, 4, 0x36363636)]),  # text
        tiff_header([(0x0112, 3, 2**31, 8)]),  # more values than there are bytes
        tiff_header([(0x0112, 3, 1, 6)])[:-10],
        tiff_header([(0x8769, 4, 1, 8)]),  # a directory within itself
    ],
)
def test_broken_exif_turns_nothing(tmp_path, exif):
    path = save(tmp_path / "a.jpg", Image.fromarray(COLOURS), exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow's, of corrupt EXIF
        assert read_picture(path).shape == (24, 36, 3)
        assert check_picture(path) == (24, 36)
        assert read_orientation(path) == 1


def test_sixteen_bits_of_colour_are_scaled(tmp_path):
    row = [0, 257, 32896, 65535, 65535, 0]  # two pixels
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(b"\0" + struct.pack(">6H", *row))), (b"IEND", b"")]
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, *zip(*chunks, strict=True))))
    np.testing.assert_array_equal(read_picture(path), [[[0, 1, 128], [255, 255, 0]]])


def png_chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("extension", ["gif", "tif", "webp", "png"])
def test_of_several_pages_the_first_is_read(tmp_path, extension):
    first, second = (Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options = {"lossless": True} if extension == "webp" else {}
    path = save(tmp_path / f"a.{extension}", first, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(read_picture(path), np.full((3, 4, 3), [255, 0, 0]))
    assert check_picture(path) == (3, 4)


def test_what_is_in_a_file_tells_its_format(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(COLOURS).save(path, format="PNG")
    np.testing.assert_array_equal(read_picture(path), COLOURS)
    assert check_picture(path) == (24, 36)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 2, "quality": 40}),
        ("RGB", {"progressive": True}),
        ("RGB", {"keep_rgb": True}),
        ("RGB", {"restart_marker_rows": 1}),
        ("L", {}),
        ("CMYK", {}),
    ],
)
def test_jpeg_has_the_pixels_that_pillow_decodes(tmp_path, mode, options):
    smooth = Image.fromarray(COLOURS).resize((333, 217), Image.Resampling.BICUBIC)
    path = save(tmp_path / "a.jpg", smooth.convert(mode), **options)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(read_picture(path), np.asarray(picture.convert("RGB")))


def test_a_jpeg_with_broken_data_is_decoded_as_pillow_does(jpeg):
    content = bytearray(jpeg.read_bytes())
    content[len(content) // 2] ^= 0xFF
    jpeg.write_bytes(content)
    with Image.open(jpeg) as picture:
        np.testing.assert_array_equal(read_picture(jpeg), np.asarray(picture))


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
    with pytest.raises(DataError, match=r"a\.jpg: a picture of 36 x 24 pixels.* max_pixels=863;") as raised:
        function(jpeg, max_pixels=24 * 36 - 1)
    assert raised.value.kind == "too_large"


def png_of_size(width, height):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(9))) + png_chunk(b"IEND", b"")
    )


def jpeg_of_size(width, height):
    file = io.BytesIO()
    Image.new("RGB", (16, 8)).save(file, "JPEG")
    content = file.getvalue()
    assert content.count(struct.pack(">HH", 8, 16)) == 1
    return content.replace(struct.pack(">HH", 8, 16), struct.pack(">HH", height, width))


def tiff_of_size(width, height):
    directory = ImageFileDirectory_v2()
    for tag, value in ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (279, 1)):
        directory[tag] = value
    return b"II*\0" + struct.pack("<I", 8) + directory.tobytes(8)


def bmp_of_size(width, height):
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0)


def gif_of_size(width, height):
    screen = struct.pack("<HHBBB", width, height, 0xF0, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\1\0\0;"


def webp_of_size(width, height):
    bits = (width - 1) | (height - 1) << 14
    lossless = b"VP8L" + struct.pack("<IBI", 6, 0x2F, bits) + b"\0"
    return b"RIFF" + struct.pack("<I", 4 + len(lossless)) + b"WEBP" + lossless


@pytest.mark.parametrize("function", [read_picture, check_picture])
@pytest.mark.parametrize(
    ("content_of", "width", "height"),
    [
        (png_of_size, 20_000, 20_000),
        (jpeg_of_size, 20_000, 20_000),
        (tiff_of_size, 20_000, 20_000),
        (bmp_of_size, 20_000, 20_000),
        (gif_of_size, 20_000, 20_000),
        (webp_of_size, 12_000, 12_000),  # of no format can a WebP have more than 16,383 a side
        (png_of_size, 2**31 - 1, 2**31 - 1),
    ],
)
def test_an_absurd_picture_is_refused_by_its_header(tmp_path, function, content_of, width, height):
    path = tmp_path / "huge.png"
    path.write_bytes(content_of(width, height))
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(
                DataError, match=rf"huge\.png: a picture of {width} x {height} pixels, .*max_pix"
            ):
                function(path)
        taken, (_, most) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 5  # to decode one takes longer
    assert most < 2**20


@pytest.mark.parametrize("function", [read_picture, check_picture])
def test_pillow_has_no_say_in_what_is_too_large(jpeg, monkeypatch, function):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(jpeg)


def test_the_default_lets_a_large_camera_through():
    assert 9504 * 6336 < MAX_PIXELS < 20_000**2


@pytest.mark.parametrize("function", [read_picture, check_picture])
@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_picture_without_pixels(tmp_path, function, size):
    for content_of in (png_of_size, bmp_of_size, tiff_of_size):
        path = tmp_path / f"{content_of.__name__}.png"
        path.write_bytes(content_of(*size))
        with pytest.raises(DataError, match=rf"{path.name}: .*expected a whole picture"):
            function(path)


@pytest.mark.parametrize("function", [read_picture, check_picture, read_orientation])
def test_a_bomb_in_the_text_of_a_png(tmp_path, function):
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50 * 2**20)))
    content = png_of_size(1, 1)
    path = tmp_path / "bomb.png"
    path.write_bytes(content[:33] + bomb + content[33:])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"bomb\.png: .*too large"):
            function(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("function", [read_picture, check_picture, read_orientation])
def test_only_regular_files_are_opened(tmp_path, function):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero"):
        with pytest.raises(DataError, match=f"{path}: a pipe or a device, not a file; expected a whole"):
            function(path)


@pytest.mark.parametrize("function", [read_picture, check_picture, read_orientation])
def test_a_file_that_may_not_be_read(jpeg, monkeypatch, function):
    def refuses(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pictures, "open", refuses, raising=False)  # root may read whatever its mode
    with pytest.raises(DataError, match=r"a\.jpg: the file may not be read; expected"):
        function(jpeg)


@pytest.mark.parametrize("path", ["a\0b.png", "a" * 5000 + ".png"])
def test_a_name_that_no_file_can_have(path):
    for function in (read_picture, check_picture, read_orientation):
        with pytest.raises(DataError, match="expected a whole picture file"):
            function(path)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}])
@pytest.mark.parametrize("extension", ["tif", "png", "bmp", "gif", "ppm", "jpg"])
def test_the_limit_of_pillow_is_none(tmp_path, monkeypatch, extension, options):
    path = save(
        tmp_path / f"a.{extension}", Image.fromarray(COLOURS), **options if extension == "tif" else {}
    )
    expected = read_picture(path)
    for limit in (600, 100):  # at which Pillow would warn, and refuse
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (read_picture(path) == expected).all()
            assert check_picture(path) == (24, 36)


def test_of_webp_it_is_the_limit(tmp_path, monkeypatch):
    path = save(tmp_path / "a.webp", Image.fromarray(COLOURS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 36 // 2 - 1)
    with pytest.raises(DataError, match="a.webp: Image size") as raised:
        check_picture(path)
    assert raised.value.kind == "too_large"


def test_deep_grey_takes_no_more_than_a_few_times_its_own_room(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(np.full([1000, 1000], 40_000, np.uint16)))
    read_picture(path)
    tracemalloc.start()
    picture = read_picture(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (picture == 156).all()
    assert most < 16_000_000  # bytes: 2 of the file, 4 to reckon in twice, 3 of the answer


def test_a_jpeg_that_lacks_data_but_not_its_end_is_not_filled_up_with_grey(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, [100, 120, 3], dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff\xd9")
    with pytest.raises(DataError, match=r"a\.jpg: truncated within") as error:
        read_picture(path)
    assert error.value.kind == "truncated"
