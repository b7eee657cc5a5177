import csv
import io
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import kzoo
from kzoo.data.faults import DataError, DataWarning, collected
from kzoo.data.sources import csv_rows, open_source, open_split
from kzoo.data.sources.csv_columns import WITHOUT_HEADER, find_columns, has_header

WIDTH, HEIGHT = 40, 30
HEADER = "image,x1,y1,x2,y2,class"


class Table:
    """A small table of 20 pictures with a cat each, to spoil."""

    def __init__(self, path, header=HEADER, count=20):
        self.path, self.file = path, path / "boxes.csv"
        self.spec = f"csv:{self.file}"
        (path / "pictures").mkdir()
        self.names = [f"pictures/p{number:02}.png" for number in range(count)]
        for number, name in enumerate(self.names):
            Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(path / name)
        self.header = [header] if header else []
        self.rows = [f"{name},10,5,20,25,cat" for name in self.names]

    def write(self, text=None, encoding="utf-8"):
        text = "\n".join([*self.header, *self.rows]) + "\n" if text is None else text
        self.file.write_bytes(text.encode(encoding))

    def open(self, split="all", options="", **arguments):
        return open_source(self.spec + options, **arguments).split(split)


@pytest.fixture
def table(tmp_path):
    return Table(tmp_path)


@pytest.mark.parametrize("header", ["", HEADER])
def test_a_faultless_table(tmp_path, header):
    table = Table(tmp_path, header)
    table.rows[1] = "pictures/p01.png,0,0,40,30,cat"
    table.rows.append("pictures/p01.png,1.5,2,10.25,20,dog")
    table.rows[2] = "pictures/p02.png,,,,,"
    table.write()
    source = open_source(table.spec)
    assert source.info.classes == ("cat", "dog")
    assert source.info.splits == {"train": 16, "val": 2, "test": 2, "all": 20}
    assert source.info.tasks == ("detection",)
    assert source.max_objects == 2
    split = source.split("all", strict=True)
    assert split.names == tuple(str(table.path / name) for name in table.names)
    np.testing.assert_array_equal(split.boxes[0], [[10, 5, 20, 25]])
    np.testing.assert_array_equal(split.boxes[1], [[0, 0, 40, 30], [1.5, 2, 10.25, 20]])
    np.testing.assert_array_equal(split.classes[1], [0, 1])
    assert split.boxes[2].shape == (0, 4)
    assert split.classes[2].shape == (0,)
    assert all(boxes.dtype == np.float32 for boxes in split.boxes)
    assert all(classes.dtype == np.int32 for classes in split.classes)
    assert split.sizes == ((HEIGHT, WIDTH),) * 20
    np.testing.assert_array_equal(split.read(7), np.full((HEIGHT, WIDTH, 3), [7, 0, 0]))
    parts = [source.split(name).names for name in ("train", "val", "test")]
    assert sorted(sum(parts, ())) == sorted(split.names)  # none in two, none in none


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Filename,XMin,YMin,XMax,YMax,Label", "{},10,5,20,25,cat"),
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "{},40,30,cat,10,5,20,25"),
        ("image_path,left,top,right,bottom,category,confidence", "{},10,5,20,25,cat,0.5"),
        ("name,class,path,X,Y,Width,Height", "p,cat,{},10,5,10,20"),
        ("class_name,class,x,y,w,h,file", "cat,7,10,5,10,20,{}"),
        ("image id,Class Name,x_min,y_min,x_max,y_max", "{},cat,10,5,20,25"),
        ("label,ymin,xmin,ymax,xmax,img_path", "cat,5,10,25,20,{}"),
    ],
)
def test_columns_as_people_call_them(tmp_path, header, row):
    table = Table(tmp_path, header)
    table.rows = [row.format(name) for name in table.names]
    table.write()
    split = table.open()
    assert len(split) == 20
    assert open_source(table.spec).info.classes == ("cat",)
    np.testing.assert_array_equal(np.concatenate(split.boxes), [[10, 5, 20, 25]] * 20)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", ["", HEADER])
def test_ways_to_write_a_table(tmp_path, delimiter, end, encoding, header):
    table = Table(tmp_path, header, count=2)
    (tmp_path / table.names[1]).rename(tmp_path / "Grüße, a; b.png")
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, lineterminator=end)
    if header:
        writer.writerow(header.split(","))
    writer.writerows(
        [[table.names[0], 1, 2, 3, 4, 'a "cat", big'], [], ["Grüße, a; b.png", 5, 6, 7, 8, "dog"]]
    )
    writer.writerow(["", "", "", "", "", ""])  # as spreadsheets leave them
    table.write(written.getvalue(), encoding)
    split = table.open()
    assert open_source(table.spec).info.classes == ('a "cat", big', "dog")
    boxes = {
        os.path.basename(name): boxes.tolist() for name, boxes in zip(split.names, split.boxes, strict=True)
    }
    assert boxes == {"p00.png": [[1, 2, 3, 4]], "Grüße, a; b.png": [[5, 6, 7, 8]]}


def test_paths_may_be_absolute_of_windows_or_written_in_two_ways(table, tmp_path):
    table.rows[0] = f"{tmp_path}/pictures/p00.png,1,2,3,4,cat"
    table.rows[1] = "pictures\\p01.png,1,2,3,4,cat"
    table.rows[2:3] = ["./pictures/p02.png,1,2,3,4,cat", "pictures/p02.png,5,6,7,8,cat"]
    table.write()
    source = open_source(table.spec)
    split = source.split("all")
    assert sorted(split.names) == sorted(str(tmp_path / name) for name in table.names)
    boxes = dict(zip(split.names, split.boxes, strict=True))
    assert boxes[str(tmp_path / "pictures/p02.png")].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_column_tells_the_splits(table):
    table.header = ["split,image,x1,y1,x2,y2,class"]
    table.rows = [f"{'val' if number < 5 else 'train'},{row}" for number, row in enumerate(table.rows)]
    table.rows.append(f"odd one,{table.names[0]},1,2,3,4,dog")
    table.write()
    source = open_source(table.spec)
    assert source.info.splits == {"train": 15, "val": 5, "odd one": 1}
    assert source.split("val").boxes[0].tolist() == [[10, 5, 20, 25]]
    assert source.split("odd one").boxes[0].tolist() == [[1, 2, 3, 4]]
    with pytest.raises(DataError, match='Nearest: "train"'):
        source.split("trian")
    table.rows[3] = table.rows[3].replace("val", " ")
    table.write()
    with pytest.warns(DataWarning, match=r"boxes\.csv, line 5: 'pictures/p03.png' has no split"):
        open_source(table.spec).split("train")


def test_a_class_for_each_picture(tmp_path):
    table = Table(tmp_path, "Image,Label,x1")
    table.rows = [f"{name},{'dog' if number % 4 else 'cat'},0" for number, name in enumerate(table.names)]
    table.write()
    source = open_source(table.spec)
    assert source.info.tasks == ("classification",)
    assert source.info.classes == ("dog", "cat")
    split = source.split("all", strict=True)
    assert split.boxes is None
    assert [classes.tolist() for classes in split.classes[:5]] == [[1], [0], [0], [0], [1]]
    with pytest.raises(DataError, match="the columns Image, Label, x1 have no box; expected"):
        open_source(table.spec, task="detection")

    table.rows += [f"{table.names[1]},dog,0"]
    table.write()
    with pytest.warns(DataWarning, match=r"line 22: .*p01\.png is in line 3 too; expected one row"):
        assert len(table.open()) == 20
    table.rows[-1] = f"{table.names[1]},cat,0"
    table.write()
    with pytest.warns(DataWarning, match=r"line 22: .*p01\.png is in line 3 too"):
        assert len(table.open()) == 19
    table.rows[-1] = f"{table.names[1]},,0"
    table.write()
    with pytest.warns(DataWarning, match="line 22: a row without a class"):
        assert len(table.open()) == 20


def test_options_tell_the_columns(tmp_path):
    table = Table(tmp_path, "shot,what,a,b,c,d,x1,y1,x2,y2")
    table.rows = [f"{name},cat,10,5,10,20,0,0,1,1" for name in table.names]
    table.write()
    with pytest.raises(DataError, match="have no picture"):
        table.open()
    told = ",image=shot,class=what"
    assert table.open(options=told + ",box=a+b+c+d,format=xywh").boxes[0].tolist() == [[10, 5, 20, 25]]
    table.rows = [row.replace(",10,5,10,20,", ",10,5,20,25,") for row in table.rows]
    table.write()
    assert table.open(options=told + ",box=a+b+c+d").boxes[0].tolist() == [[10, 5, 20, 25]]
    for options, message in {
        ",image=shoot": 'image="shoot": unknown. Nearest: "shot"',
        ",image=shot,class=waht": 'class="waht": unknown. Nearest: "what"',
        ",imge=shot": 'option="imge": unknown. Nearest: "image"',
        told + ",box=a+b+c": "has 3 columns; expected",
        told + ",box=a+b+c+e": 'box="e": unknown',
        told + ",box=a+b+c+d,format=xyhw": 'format="xyhw": unknown',
        told + ",format=xywh": "without box=",
        ",image=": "nothing behind image=",
    }.items():
        with pytest.raises(DataError) as raised:
            table.open(options=options)
        assert message in str(raised.value)


BAD_TABLES = {
    "empty": ("", "is empty; expected"),
    "blank": ("\n , \n", "is empty; expected"),
    "only a header": (HEADER + "\n", "no row has a picture"),
    "no picture": (
        "class,x1,y1,x2,y2\n",
        "the columns class, x1, y1, x2, y2 have no picture; expected one of",
    ),
    "no class": ("image,x1,y1,x2,y2\n", "have no class; expected"),
    "twice": ("image,class,image\n", "has the column image twice"),
    "no good row": (
        f"{HEADER}\na.png,1,2\n",
        r"no row has a class; .*boxes\.csv, line 2: 3 cells; expected 6",
    ),
    "no row with a picture": (
        f"{HEADER}\n,1,2,3,4,cat\n",
        "no row has a picture; .*line 2: a row without a pic",
    ),
    "shares": (f"{HEADER}\na.png,0,0.5,1,0.75,cat\n", "most boxes end before pixel 1; expected pixels"),
    "an open quote": (
        f'{HEADER}\na.png,1,2,3,4,"cat\nb.png,1,2,3,4,dog\n',
        "behind line 1: .*; expected rows",
    ),
    "an endless cell": ("a" * 200_000, "field larger than field limit"),
    "an endless cell within": (f"{HEADER}\n{'a' * 200_000}", "field larger than field limit"),
}


@pytest.mark.parametrize("bad", BAD_TABLES)
def test_what_is_no_table_is_refused(table, bad):
    text, message = BAD_TABLES[bad]
    table.write(text)
    with pytest.raises(DataError, match=message):
        open_source(table.spec, task="detection")


def test_files_that_are_none(table, tmp_path):
    for encoding in ("utf-16", "utf-16-le", "latin-1"):
        text = None if encoding == "utf-16" else "\ufeff" * (encoding != "latin-1") + "a.png,chät\n"
        table.write(text, encoding=encoding)
        told = "can't decode" if encoding == "latin-1" else "text in UTF-16"
        with pytest.raises(DataError, match=rf"boxes\.csv: .*{told}.*; expected rows of text in UTF-8"):
            open_source(table.spec)
    with pytest.raises(DataError, match="none.csv does not exist; expected a table"):
        open_source(f"csv:{tmp_path}/none.csv")
    with pytest.raises(DataError, match="is a directory"):
        open_source(f"csv:{tmp_path}")
    with pytest.raises(DataError, match="lacks the file; expected 'csv:FILE'"):
        open_source("csv:")


def set_row(row):
    return lambda table: table.rows.__setitem__(3, f"{table.names[3]},{row}")


FAULTS = {  # what to spoil, the message, its kind, whether the picture stays
    "missing": (
        lambda t: (t.path / t.names[3]).unlink(),
        r"boxes\.csv, line 5: .*p03\.png: there is no such file",
        "missing",
        False,
    ),
    "no picture": (
        lambda t: (t.path / t.names[3]).write_text("hello"),
        r"line 5: .*p03\.png: not a picture",
        "unreadable",
        False,
    ),
    "NUL": (lambda t: t.rows.__setitem__(3, "a\0.png,1,2,3,4,cat"), "line 5: .*null", "unreadable", False),
    "too few": (set_row("1,2,3"), "line 5: 4 cells; expected 6, image,x1,y1,x2,y2,class", "annotation", True),
    "too many": (set_row("1,2,3,4,cat,"), "line 5: 7 cells; expected 6", "annotation", True),
    "no area": (
        set_row("5,5,5,9,cat"),
        r"line 5: box \(x1 5, y1 5, x2 5, y2 9\) has no area",
        "no_area",
        True,
    ),
    "reversed": (set_row("5,5,4,9,cat"), "is reversed; expected x1 < x2 and y1 < y2", "reversed", True),
    "outside": (
        set_row("5,5,42,9,cat"),
        r"line 5, \(5, 5, 42, 9\): the box lies outside.*40 x 30",
        "outside",
        True,
    ),
    "negative": (set_row("-2,5,9,9,cat"), "outside its picture", "outside", True),
    "words": (set_row("left,5,9,9,cat"), r"line 5: box \(x1 left, .*not of four finite", "not_numbers", True),
    "of Python": (set_row("1_0,5,20,25,cat"), r"box \(x1 1_0, .*not of four finite", "not_numbers", True),
    "NaN": (set_row("nan,5,9,9,cat"), "not of four finite numbers", "not_numbers", True),
    "infinite": (set_row("1,5,9,1e999,cat"), "not of four finite numbers", "not_numbers", True),
    "half a box": (set_row("1,5,,9,cat"), "not of four finite numbers", "not_numbers", True),
    "no class": (set_row("1,5,9,9,"), "a row without a class", "unknown_class", True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_left_out_and_told(table, fault):
    spoil, message, kind, stays = FAULTS[fault]
    spoil(table)
    table.write()
    source = open_source(table.spec)
    with pytest.warns(DataWarning, match=message) as told:
        split = source.split("all")
    assert len(told) == 1
    assert "1 fault in 1 of 20 pictures" in str(told[0].message)
    assert len(split) == len(split.boxes) == len(split.classes) == len(split.sizes) == (20 if stays else 19)
    if stays:
        assert len(split.boxes[3]) == len(split.classes[3]) == 0
    np.testing.assert_array_equal(split.boxes[-1], [[10, 5, 20, 25]])
    assert split.read(len(split) - 1)[0, 0, 0] == 19
    with pytest.raises(DataError, match=message):
        source.split("all", strict=True)
    with collected() as faults:
        source.split("all")
    assert [one.kind for one in faults] == [kind]


def test_a_row_without_a_picture_is_told_wherever_it_may_belong(table):
    table.rows.append(",1,2,3,4,cat")
    table.write()
    source = open_source(table.spec)
    for name in ("train", "all"):
        with pytest.warns(DataWarning, match="line 22: a row without a picture"):
            source.split(name)


def test_rows_without_a_picture_do_not_count_against_each_split(tmp_path):
    table = Table(tmp_path, count=40)
    table.rows += [",1,2,3,4,cat"] * 4
    table.write()
    source = open_source(table.spec)
    for name in ("val", "train[:3]", "all"):
        with pytest.warns(DataWarning, match=r"all of .*boxes\.csv: 4 faults in 4 of 40 pictures") as told:
            assert len(open_split(source, name))
        assert len(told) == 1
    with pytest.raises(DataError, match="strict=True allows none"):
        source.split("val", strict=True)
    table.rows.append(",1,2,3,4,cat")
    table.write()
    with pytest.raises(DataError, match="5 faults in 5 of 40 pictures, which is more than a tenth"):
        table.open("val")


def test_an_option_tells_the_splits(table):
    table.header = [f"{HEADER},fold"]
    table.rows = [f"{row},{'val' if number < 5 else 'train'}" for number, row in enumerate(table.rows)]
    table.write()
    assert open_source(f"{table.spec},split=fold").info.splits == {"train": 15, "val": 5}
    table.rows[3] = table.rows[3].replace("val", "")
    table.write()
    with pytest.warns(DataWarning, match="line 5: 'pictures/p03.png' has no split; expected .* column fold"):
        table.open("train", options=",split=fold")


def test_a_file_spelled_in_two_ways_keeps_all_its_boxes(table):
    table.rows.append(f"{table.path}/{table.names[3]},1,2,3,4,dog")
    table.write()
    split = table.open()
    assert len(split) == 20
    assert split.names[3] == str(table.path / table.names[3])
    assert split.boxes[3].tolist() == [[10, 5, 20, 25], [1, 2, 3, 4]]


SIZED = "filename,width,height,class,xmin,ymin,xmax,ymax"


def test_a_box_for_another_size_of_picture_is_a_fault(tmp_path):
    table = Table(tmp_path, SIZED)
    table.rows = [f"{name},{WIDTH},{HEIGHT},cat,10,5,20,25" for name in table.names]
    table.rows[1] = f"{table.names[1]},,,cat,10,5,20,25"  # it does not tell
    table.rows[2] = f"{table.names[2]},10,20,cat,10,5,20,25"  # it tells the box's
    table.rows[3] = f"{table.names[3]},20,15,cat,5,2,10,12"
    table.write()
    message = (
        r"line 5, \(5, 2, 10, 12\): says that its picture is 20 x 15; expected 40 x 30, the size of .*p03"
    )
    with pytest.warns(DataWarning, match=message):
        split = table.open()
    assert [len(boxes) for boxes in split.boxes] == [1, 1, 1, 0] + [1] * 16
    with collected() as faults:
        table.open()
    assert [fault.kind for fault in faults] == ["size"]


def test_boxes_of_the_picture_as_it_is_stored_are_turned(tmp_path):
    table = Table(tmp_path, SIZED)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    Image.new("RGB", (WIDTH, HEIGHT)).save(table.path / table.names[3], exif=exif)
    table.rows = [f"{name},{WIDTH},{HEIGHT},cat,10,5,20,25" for name in table.names]
    table.rows.append(f"{table.names[3]},{HEIGHT},{WIDTH},cat,5,10,25,20")
    table.write()
    split = table.open()
    assert split.sizes[3] == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(split.boxes[3], [[HEIGHT - 25, 10, HEIGHT - 5, 20], [5, 10, 25, 20]])


def test_a_class_for_each_picture_without_a_header(tmp_path):
    table = Table(tmp_path, None)
    table.rows = [f"{name},{'dog' if number % 4 else 'cat'}" for number, name in enumerate(table.names)]
    table.write()
    source = open_source(table.spec, task="classification")
    assert source.info.classes == ("dog", "cat")
    assert [int(label) for (label,) in source.split("all", strict=True).classes[:5]] == [1, 0, 0, 0, 1]
    with pytest.raises(DataError, match="rows of path,class have no box; expected path,x1,y1,x2,y2,class"):
        open_source(table.spec, task="detection")


def test_a_part_of_a_split_without_the_faults_of_the_rest(table):
    set_row("5,5,5,9,cat")(table)
    table.write()
    source = open_source(table.spec)
    assert [len(open_split(source, text, strict=True)) for text in ("all[:3]", "all[4:]")] == [3, 16]


def test_the_other_boxes_of_a_picture_stay(table):
    table.rows += [f"{table.names[0]},3,3,1,1,cat", f"{table.names[0]},2,3,5,6,dog"]
    table.write()
    with pytest.warns(DataWarning, match="1 fault in 1 of 20"):
        split = table.open()
    assert split.boxes[0].tolist() == [[10, 5, 20, 25], [2, 3, 5, 6]]
    assert split.classes[0].tolist() == [0, 1]


def test_more_than_a_tenth_faulty_is_an_error(table):
    table.rows[:3] = [f"{name},9,9,9,9,cat" for name in table.names[:3]]
    table.write()
    with pytest.raises(DataError, match="3 faults in 3 of 20 pictures, which is more than a tenth"):
        table.open()


def test_a_box_a_pixel_outside_is_clipped(table):
    set_row(f"-1,-0.5,{WIDTH + 1},{HEIGHT + 0.25},cat")(table)
    table.write()
    np.testing.assert_array_equal(table.open().boxes[3], [[0, 0, WIDTH, HEIGHT]])


def test_a_class_that_the_list_lacks_is_an_error(table):
    table.rows[7] = f"{table.names[7]},1,2,3,4,Dgo"
    table.write()
    with pytest.raises(DataError) as raised:
        table.open(classes=["dog", "cat"])
    assert f"{table.file}, line 9" in str(raised.value)
    assert 'class="Dgo": unknown. Nearest: "dog". Known: "dog", "cat"' in str(raised.value)
    assert "classes=" in str(raised.value)
    with collected() as faults:
        open_source(table.spec, classes=["dog", "cat"]).split("all")
    assert [one.kind for one in faults] == ["unknown_class"]


def test_classes_beside_the_table(table):
    table.write()
    assert table.open().classes[0] == 0
    mapping = table.path / "classes.csv"
    mapping.write_text("cat,1\ndog,0\n")
    assert open_source(table.spec).info.classes == ("dog", "cat")
    assert table.open().classes[0] == 1
    mapping.write_text("class,id\ncat,1\ndog,0\n")
    assert table.open().classes[0] == 1
    for text, message in {
        "cat,0\ndog,2\n": r"the ids are \[0, 2\]; expected 0, 1, 2",
        "cat,0\ndog,0\n": "line 2: 'dog,0'; expected class,id",
        "cat,0\ndog\n": "line 2: 'dog'; expected",
        "cat,-1\n": "line 1: 'cat,-1'; expected",
        "dog,0\n": r"classes\.csv.*class=\"cat\": unknown",
        "": "is empty",
    }.items():
        mapping.write_text(text)
        with pytest.raises(DataError, match=message):
            table.open()
    (table.path / "classes.txt").write_text("bird\ncat\n")
    assert table.open().classes[0] == 1
    assert table.open(classes=["cat"]).classes[0] == 0  # an argument has the last word


def test_a_table_may_itself_be_called_like_the_list_of_classes(table):
    table.file = table.path / "classes.csv"
    table.write()
    assert open_source(f"csv:{table.file}").info.classes == ("cat",)


def test_a_picture_of_too_many_pixels_is_a_fault(table):
    Image.new("RGB", (WIDTH + 1, HEIGHT)).save(table.path / table.names[3])
    table.write()
    with pytest.warns(DataWarning, match=r"line 5: .*p03\.png: .*max_pixels=1200"):
        assert len(table.open(max_pixels=WIDTH * HEIGHT)) == 19


def test_boxes_are_of_the_picture_as_it_is_seen(table):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (WIDTH, HEIGHT)).save(table.path / table.names[3], exif=exif)
    set_row(f"0,0,{HEIGHT},{WIDTH},cat")(table)
    table.write()
    split = table.open()
    assert split.sizes[3] == split.read(3).shape[:2] == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(split.boxes[3], [[0, 0, HEIGHT, WIDTH]])


def test_batches_for_detection(table):
    table.rows.append(f"{table.names[0]},0,0,40,30,dog")
    table.write()
    batches = kzoo.data.load(table.spec, split="all", image_size=(60, 80), batch_size=20)
    batch = next(iter(batches))
    assert batches.classes == ("cat", "dog")
    assert batch["images"].shape == (20, 60, 80, 3)
    np.testing.assert_allclose(batch["boxes"][0], [[20, 10, 40, 50], [0, 0, 80, 60]])
    np.testing.assert_array_equal(batch["classes"][0], [0, 1])
    np.testing.assert_array_equal(batch["classes"][1], [0, -1])


def test_batches_for_classification(tmp_path):
    table = Table(tmp_path, "image,class")
    table.rows = [f"{name},{'dog' if number % 4 else 'cat'}" for number, name in enumerate(table.names)]
    table.write()
    batches = kzoo.data.load(table.spec, split="all", task="classification", batch_size=20)
    np.testing.assert_array_equal(next(iter(batches))["classes"], [1, 0, 0, 0] * 5)


NUMBERS = st.floats(-50, 100, width=32) | st.sampled_from([0, 1, 40, float("nan"), float("inf")])


@given(st.tuples(*[NUMBERS] * 4))
def test_a_box_has_an_area_or_is_a_fault(sides):
    texts = [f" {side!r}" for side in sides]
    try:
        box = csv_rows._read_box(texts, WITHOUT_HEADER)
    except DataError as error:
        assert "expected" in str(error)
        assert not (sides[0] < sides[2] < np.inf and sides[1] < sides[3] < np.inf)
    else:
        assert box == tuple(sides)


@given(x=st.integers(0, 99), y=st.integers(0, 99), width=st.integers(1, 99), height=st.integers(1, 99))
def test_both_formats_tell_the_same_box(x, y, width, height):
    corners = find_columns("t", ["x1", "y1", "x2", "y2", "image", "class"], {}, True)
    sides = find_columns("t", ["x", "y", "width", "height", "image", "class"], {}, True)
    assert csv_rows._read_box(list(map(str, (x, y, x + width, y + height))), corners) == csv_rows._read_box(
        list(map(str, (x, y, width, height))), sides
    )


@given(st.text(max_size=300))
def test_any_text_is_a_table_or_a_data_error(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(text.encode(errors="replace"))
    try:
        source = open_source(f"csv:{file}")
        source.split("all" if "all" in source.info.splits else next(iter(source.info.splits)))
    except DataError as error:
        assert str(file) in str(error)


@pytest.mark.parametrize(
    ("first", "header"),
    [
        ("a.jpg,1,2,3,4,cat", False),
        ("a.JPG,,,,,", False),
        ("a.jpg,1", False),
        ("shot 1,1,2,3,4,cat", False),
        ("image,x1,y1,x2,y2,class", True),
        ("image,class", True),
    ],
)
def test_whether_the_first_row_is_a_header(first, header):
    assert has_header(first.split(",")) == header


def test_boxes_that_are_told_by_their_middle(table):
    table.header = ["image,class,cx,cy,w,h"]
    table.rows = [f"{name},cat,15,15.5,10,21" for name in table.names]
    table.write()
    with pytest.raises(DataError, match=r"expected corners, or box=cx\+cy\+WIDTH\+HEIGHT,format=cxcywh"):
        open_source(table.spec)
    split = table.open(options=",box=cx+cy+w+h,format=cxcywh")
    assert split.boxes[3].tolist() == [[10, 5, 20, 26]]
    table.rows[4] = f"{table.names[4]},cat,15,15,-10,20"
    table.write()
    with pytest.warns(DataWarning, match="cx 15, cy 15, w -10, h 20.* is reversed; expected w and h above 0"):
        table.open(options=",box=cx+cy+w+h,format=cxcywh")


def test_a_decimal_comma_is_told(table):
    table.header = [HEADER.replace(",", ";")]
    table.rows = [row.replace(",", ";") for row in table.rows]
    table.rows[0] = table.rows[0].replace("10;5", "10,5;5")
    table.write()
    with pytest.warns(DataWarning, match="10,5, .*expected a point before decimals, not a comma"):
        table.open()
