import pytest

from kzoo.data.csv_columns import find_columns, has_header
from kzoo.data.faults import DataError

BOX = "xmin,ymin,xmax,ymax"


def columns(header, **options):
    return find_columns("t", header.split(","), options, boxes=False)


@pytest.mark.parametrize(
    ("header", "options", "split"),
    [
        ("path,class", {}, None),
        ("path,class,Split", {}, 2),
        ("path,class,subset", {}, 2),
        ("Set,path,class", {}, 0),
        ("set,path,class,split", {}, 3),
        ("split,path,class,fold", {"split": "fold"}, 3),
    ],
)
def test_which_column_tells_the_split(header, options, split):
    assert columns(header, **options).split == split


def test_a_split_s_column_that_there_is_not():
    with pytest.raises(DataError, match='t: split="flod": unknown. Nearest: "fold"'):
        columns("path,class,fold", split="flod")


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (f"path,class,{BOX}", ()),
        (f"path,Width,Height,class,{BOX}", (2, 1)),
        (f"path,class,{BOX},width", ()),
        ("path,class,x,y,width,height", ()),  # these are the box's
        ("path,class,x,y,width,height,image_width,image_height", (7, 6)),
        (f"path,class,{BOX},width,height,width", ()),
        ("path,class,width,height", ()),  # pictures with a class may have been resized
    ],
)
def test_which_columns_tell_the_size_of_the_picture(header, size):
    assert columns(header).size == size


@pytest.mark.parametrize("first", ["a.jpg,1_0,2,3,4,cat", "a,1,2,3,4,cat", "a.jpg,cat"])
def test_rows_that_are_no_header(first):
    assert not has_header(first.split(","))


def test_words_are_a_header():
    assert has_header(["a", "1_0", "2", "3", "4", "cat"])
