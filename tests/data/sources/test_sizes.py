from PIL import Image

from kzoo.data.faults import DataError
from kzoo.data.sources.sizes import picture_size, picture_sizes


def test_sizes_and_what_is_wrong(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(70)]  # more than a thread is handed at once
    for number, path in enumerate(paths):
        Image.new("L", (number + 1, 3)).save(path)
    paths[50].write_text("no picture")
    found = picture_sizes(paths, max_pixels=180)
    assert found[:50] == [(3, number + 1) for number in range(50)]
    assert [(type(one), one.kind) for one in (found[50], found[60])] == [
        (DataError, "unreadable"),
        (DataError, "too_large"),
    ]
    assert found[59] == picture_size(paths[59]) == (3, 60)
