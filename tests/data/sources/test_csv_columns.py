import pytest

from kzoo.data.faults import DataError
from kzoo.data.sources.csv_columns import find_columns, has_header

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


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (
            "image,xmin,ymin,xmax,ymx,class",
            "has the columns xmin, ymin, xmax of a box, but not ymax, perhaps ymx",
        ),
        ("image,class,x1,y1", "has the columns x1, y1 of a box, but not x2, y2; expected all four"),
        (
            "image,class,x_center,y_center,width,height",
            "x_center, y_center of a box's middle; expected corners, or box=x_center\\+y_center\\+WIDTH",
        ),
        ("image,class,xc,yc,w,h", "the columns xc, yc of a box's middle"),
    ],
)
def test_a_box_of_which_columns_are_missing(header, told):
    with pytest.raises(DataError, match=f"t: .*{told}"):
        columns(header)


def test_a_table_of_classes_may_tell_the_sizes_of_pictures():
    assert columns("image,class,width,height").box == ()


def test_a_box_s_width_stands_before_the_picture_s():
    assert columns("image_id,width,height,class,x,y,w,h").box == (4, 5, 6, 7)
