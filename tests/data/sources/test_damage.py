import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kzoo.data
from kzoo.data.faults import DataError, DataWarning, as_data_errors, collected
from kzoo.data.pictures import read_picture
from kzoo.data.resize import resized
from kzoo.data.sources import open_source, open_split
from kzoo.data.sources.damage import find_damage

HEIGHT, WIDTH = 48, 64
FORMATS = ("jpg", "png", "gif", "bmp", "tif", "webp", "ppm")
ANNOTATION = """<annotation><size><width>64</width><height>48</height></size><object><name>cat</name>
<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object></annotation>"""


def picture(seed):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def encoded(seed, extension="jpg", **options):
    file = io.BytesIO()
    picture(seed).save(file, Image.registered_extensions()[f".{extension}"], **options)
    return file.getvalue()


def flip_a_byte(content, rng):
    content[rng.integers(len(content))] ^= int(rng.integers(1, 256))


def flip_many(content, rng):
    for place in rng.integers(0, len(content), 20):
        content[place] ^= int(rng.integers(1, 256))


def cut_short(content, rng):
    del content[int(rng.integers(len(content))) :]


def lose_the_head(content, rng):
    del content[: int(rng.integers(1, 40))]


def keep(content, rng):
    """The file is only renamed."""


DAMAGES = (flip_a_byte, flip_many, cut_short, lose_the_head, keep)


def damaged_files():
    """Names and contents: of every format and every damage two."""
    rng = np.random.default_rng(0)
    for extension in FORMATS:
        for damage in DAMAGES:
            for number in range(2):
                content = bytearray(encoded(number, extension))
                damage(content, rng)
                called = extension if damage is not keep else FORMATS[number]
                yield f"{extension}-{damage.__name__}-{number}.{called}", bytes(content)


def folder_of(path):
    (path / "cat").mkdir()
    for name, content in damaged_files():
        (path / "cat" / name).write_bytes(content)
    return f"folder:{path}", "classification"


def voc_of(path):
    (path / "JPEGImages").mkdir()
    (path / "Annotations").mkdir()
    for name, content in damaged_files():
        (path / "JPEGImages" / name).write_bytes(content)
        (path / "Annotations" / name).with_suffix(".xml").write_text(ANNOTATION)
    return f"voc:{path}", "detection"


@pytest.mark.parametrize("data_of", [folder_of, voc_of])
def test_each_damaged_file_is_named_or_is_a_picture(tmp_path, data_of):
    spec, task = data_of(tmp_path)
    with collected() as faults:
        split = open_split(open_source(spec, task=task), "all")
    told = "\n".join(fault.told for fault in faults)
    kept = set()
    for index, name in enumerate(split.names):
        kept.add(name.rsplit("/", 1)[1])
        try:
            pixels = split.read(index)
        except DataError as error:
            assert name in str(error)
            continue
        assert (pixels.dtype, pixels.shape) == (np.uint8, (*split.sizes[index], 3))
    names = {name for name, _ in damaged_files()}
    assert {name for name in names if name in told} == names - kept
    assert {name for name in names if "-keep-" in name} <= kept  # what is in a file tells its format
    assert not {name for name in kept if "-lose_the_head-" in name}
    assert not {name for name in kept if "-cut_short-" in name}


def test_load_leaves_the_damaged_out_and_reads_the_rest(tmp_path):
    (tmp_path / "cat").mkdir()
    for seed in range(20):
        (tmp_path / "cat" / f"{seed}.jpg").write_bytes(encoded(seed))
    (tmp_path / "cat" / "7.jpg").write_bytes(encoded(7)[:300])
    (tmp_path / "cat" / "8.jpg").write_text("<html>not found</html>")
    settings = {"split": "all", "task": "classification", "image_size": (24, 32), "batch_size": 6}
    with pytest.warns(DataWarning, match=r"(?s)2 faults in 2 of 20 pictures.*7\.jpg.*8\.jpg"):
        batches = kzoo.data.load(f"folder:{tmp_path}", **settings)
    assert [batch["images"].shape[0] for batch in batches] == [6, 6, 6]
    with pytest.raises(DataError, match=r"(?s)strict=True allows none.*7\.jpg"):
        kzoo.data.load(f"folder:{tmp_path}", strict=True, **settings)


def test_load_refuses_a_picture_of_more_pixels_than_are_allowed(tmp_path):
    (tmp_path / "cat").mkdir()
    for seed in range(10):
        (tmp_path / "cat" / f"{seed}.jpg").write_bytes(encoded(seed))
    picture(3).resize((WIDTH + 1, HEIGHT)).save(tmp_path / "cat" / "3.jpg")
    settings = {"split": "all", "task": "classification", "image_size": (24, 32)}
    with pytest.warns(DataWarning, match=r"3\.jpg: a picture of 65 x 48 pixels"):
        batches = kzoo.data.load(f"folder:{tmp_path}", max_pixels=HEIGHT * WIDTH, **settings)
    assert batches.num_pictures == 9
    with pytest.raises(ValueError, match="max_pixels=0: a whole number of at least 1"):
        kzoo.data.load(f"folder:{tmp_path}", max_pixels=0, **settings)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_rows": 1}])
def test_a_whole_jpeg_has_no_damage(tmp_path, options):
    path = tmp_path / "a.jpg"
    for mode in ("RGB", "L", "CMYK"):
        picture(0).convert(mode).save(path, **options)
        assert find_damage(path) is None
    path.write_bytes(path.read_bytes() + bytes(100))  # as cameras pad their files
    assert find_damage(path) is None
    assert find_damage(path) is None


def test_damage_that_the_decoder_passes_over(tmp_path):
    path = tmp_path / "a.jpg"
    content = encoded(0, quality=95)
    middle = len(content) // 2
    path.write_bytes(content[:middle] + b"\xa5" * 40 + content[middle + 40 :])
    assert read_picture(path).shape == (HEIGHT, WIDTH, 3)
    assert find_damage(path).startswith("Corrupt JPEG data: ")


def test_what_would_be_grey_is_refused_as_it_is_read(tmp_path):
    path = tmp_path / "a.jpg"
    content = encoded(0, quality=95)
    path.write_bytes(content[: len(content) // 2] + content[-2:])
    assert find_damage(path) == "Corrupt JPEG data: premature end of data segment"
    with pytest.raises(DataError, match=r"a\.jpg: truncated within \(premature end of data\)"):
        read_picture(path)


def test_most_changes_in_the_data_of_a_jpeg_are_found(tmp_path):
    path = tmp_path / "a.jpg"
    rng = np.random.default_rng(0)
    content = encoded(0, quality=95)
    found = 0
    for _ in range(50):
        changed = bytearray(content)
        start = int(rng.integers(len(content) // 2, len(content) - 20))
        changed[start : start + 16] = rng.bytes(16)
        path.write_bytes(changed)
        found += find_damage(path) is not None
    assert found > 25


@pytest.mark.parametrize("extension", ["png", "gif", "bmp", "tif", "webp", "ppm"])
def test_of_other_formats_nothing_more_is_found(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    path.write_bytes(encoded(0, extension))
    assert find_damage(path) is None


def test_what_cannot_be_looked_at(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.jpg: not a picture"):
        find_damage(path)
    path.write_bytes(encoded(0))
    with pytest.raises(DataError, match="max_pixels=10;"):
        find_damage(path, max_pixels=10)
    path.write_bytes(b"\xff\xd8\xff" + bytes(50))
    with pytest.raises(DataError, match=r"a\.jpg: .*expected a whole picture file"):
        find_damage(path)


def test_data_that_are_left_over_are_damage_but_zeros_are_not(tmp_path):
    path = tmp_path / "a.jpg"
    content = encoded(0)
    for left_over, told in ((bytes(8), None), (b"leftover", "extraneous bytes before marker 0xd9")):
        path.write_bytes(content[:-2] + left_over + content[-2:])
        damage = find_damage(path)
        assert (damage is None) if told is None else told in damage


def cut_within(content):
    """A JPEG that ends as it should, without half of its data: only decoding finds that."""
    return content[: len(content) // 2] + content[-2:]


def left_over(content):
    """A JPEG with damage that decoders pass over."""
    return content[:-2] + b"leftover" + content[-2:]


def twenty(path, **changed):
    """Twenty pictures in one class, some of them changed."""
    (path / "cat").mkdir()
    for seed in range(20):
        change = changed.get(f"_{seed}", bytes)
        (path / "cat" / f"{seed:02}.jpg").write_bytes(change(encoded(seed, quality=95)))
    return f"folder:{path}", {"split": "all", "task": "classification", "image_size": (24, 32)}


def places_of(dataset):
    return [index for batch in dataset for index in batch["image_id"].numpy()]


def test_strict_looks_all_through_the_files_at_once(tmp_path):
    spec, settings = twenty(tmp_path, _7=cut_within)
    with pytest.raises(DataError, match=r"(?s)1 fault in 1 of 20.*strict=True.*07\.jpg: .*premature end"):
        kzoo.data.load(spec, strict=True, shuffle=True, **settings)
    (tmp_path / "cat" / "07.jpg").write_bytes(left_over(encoded(7)))
    with pytest.raises(DataError, match=r"07\.jpg: .*extraneous bytes"):
        kzoo.data.load(spec, strict=True, **settings)
    with pytest.raises(DataError, match=r"07\.jpg: .*extraneous bytes"):
        kzoo.data.convert(spec, name="cats", directory=tmp_path / "sets", splits={"a": "all"}, strict=True)
    (tmp_path / "cat" / "07.jpg").write_bytes(encoded(7))
    assert kzoo.data.load(spec, strict=True, **settings).num_pictures == 20


def test_strict_looks_through_pictures_within_other_files(tmp_path):
    spec, settings = twenty(tmp_path, _7=left_over)
    directory = kzoo.data.convert(spec, name="cats", directory=tmp_path / "sets", splits={"a": "all"})
    with pytest.raises(DataError, match=r"record 7 of .*extraneous bytes"):
        kzoo.data.load(f"tfds:{directory}", strict=True, **settings | {"split": "a"})


def test_to_measure_on_there_are_the_pictures_that_can_be_read(tmp_path):
    spec, settings = twenty(tmp_path, _7=cut_within, _9=left_over)
    with pytest.warns(DataWarning, match=r"(?s)1 fault in 1 of 20 pictures.*07\.jpg: truncated within"):
        batches = kzoo.data.load(spec, shuffle=False, **settings)
    assert [Path(name).name for name in batches.pictures.names[6:9]] == ["06.jpg", "08.jpg", "09.jpg"]
    assert [len(rows) for rows in (batches.pictures.classes, batches.pictures.sizes)] == [19, 19]
    assert places_of(batches) == list(range(19))


def test_to_learn_from_the_next_picture_takes_the_place(tmp_path):
    spec, settings = twenty(tmp_path, _7=cut_within, _8=cut_within)
    batches = kzoo.data.load(spec, shuffle=True, **settings)
    assert batches.num_pictures == 20
    with pytest.warns(DataWarning) as told:
        first = {int(i): p for b in batches for i, p in zip(b["image_id"], b["images"].numpy(), strict=True)}
        places = places_of(batches)
    told = sorted(str(one.message) for one in told)
    assert len(told) == 2 and "1 of 20 pictures cannot be read so far" in told[0]
    assert {name for name in ("07.jpg", "08.jpg") if any(name in one for one in told)} == {"07.jpg", "08.jpg"}
    assert sorted(places) == sorted([*set(range(20)) - {7, 8}, 9, 9])
    kept = read_picture(tmp_path / "cat" / "09.jpg")
    np.testing.assert_array_equal(first[9], resized(kept, (24, 32)))


def test_data_of_which_a_tenth_cannot_be_read_is_not_learnt_from(tmp_path):
    spec, settings = twenty(tmp_path, _7=cut_within, _8=cut_within, _19=cut_within)
    batches = kzoo.data.load(spec, shuffle=True, cache="memory", **settings)
    told = r"3 of 20 pictures cannot be read, which is more than a tenth.*\d\d\.jpg: truncated"
    with pytest.warns(DataWarning), pytest.raises(DataError, match=told), as_data_errors():
        places_of(batches)
