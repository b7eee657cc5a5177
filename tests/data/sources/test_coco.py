import json

import numpy as np
import pytest
from faster_coco_eval import mask as coco
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import kzoo.data
from kzoo.classes import CROWD
from kzoo.data.checking import check
from kzoo.data.faults import DataError, DataWarning
from kzoo.data.masks import decode, encode, paste
from kzoo.data.sources import open_source, slices

HEIGHT, WIDTH = 40, 60
SQUARE = [[10, 5, 30, 5, 30, 25, 10, 25]]
BOX = [10, 5, 20, 20]
CORNER = [[0.5, 1.25, 2.5, 1.25, 2.5, 4.25]]


def annotation(number=1, picture=1, **others):
    entry = {"id": number, "image_id": picture, "category_id": 3, "bbox": BOX, "segmentation": SQUARE}
    return entry | others


def instances(pictures=1, annotations=(), **others):
    """What a file holds; the pictures are numbered from 1."""
    images = [
        {"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH}
        for number in range(1, pictures + 1)
    ]
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    return {"images": images, "annotations": list(annotations), "categories": categories} | others


@pytest.fixture
def write(tmp_path):
    """Writes a file of instances and its pictures, and gives the spec."""

    def written(found, split="train", folder=None):
        text = found if isinstance(found, str | bytes) else json.dumps(found)
        path = tmp_path / f"instances_{split}.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        folder = tmp_path / split if folder is None else tmp_path / folder
        folder.mkdir(parents=True, exist_ok=True)
        for image in found["images"] if isinstance(found, dict) else ():
            name = image.get("file_name") if isinstance(image, dict) else None
            if isinstance(name, str) and ".." not in name and name.isprintable():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
        return f"coco:{tmp_path}"

    return written


def open_split(spec, split="train", task="instance_segmentation", strict=True, **options):
    return open_source(spec, task=task, **options).split(split, strict=strict)


def test_what_there_is(write):
    write(instances(2, [annotation(1), annotation(2), annotation(3, 2)]))
    spec = write(instances(1), "val")
    source = open_source(spec)
    assert source.info == kzoo.data.Info(
        spec,
        ("cat", "dog"),
        {"train": 2, "val": 1},
        ("detection", "segmentation", "instance_segmentation"),
    )
    assert kzoo.data.info(spec) == source.info
    assert source.max_objects == 2
    with pytest.raises(DataError, match='split="trian": unknown. Nearest: "train"'):
        source.split("trian")


def test_boxes_classes_areas_and_crowds_behind_the_objects(write):
    spec = write(
        instances(
            3,
            [
                annotation(11, 1, iscrowd=1, bbox=[0, 0, 60, 40], area=5.5),
                annotation(
                    12, 3, category_id=7, bbox=[0.5, 1.25, 2, 3], iscrowd=0, area=1e999, segmentation=CORNER
                ),
                annotation(13, 1, category_id=7, area=99),
                annotation(14, 1, area=float("nan")),
            ],
        )
    )
    split = open_split(spec)
    assert [name.rsplit("/", 1)[1] for name in split.names] == ["1.png", "2.png", "3.png"]
    assert split.sizes == ((HEIGHT, WIDTH),) * 3
    np.testing.assert_array_equal(split.classes[0], [1, 0, CROWD])
    np.testing.assert_array_equal(split.crowd_classes[0], [0])
    np.testing.assert_array_equal(split.boxes[0], [[10, 5, 30, 25], [10, 5, 30, 25], [0, 0, 60, 40]])
    np.testing.assert_array_equal(split.areas[0], [99, 400, 5.5])
    np.testing.assert_array_equal(split.boxes[2], [[0.5, 1.25, 2.5, 4.25]])
    np.testing.assert_array_equal(split.areas[2], [6])
    assert split.boxes[1].shape == (0, 4) and split.classes[1].shape == (0,) and split.read_masks(1) == []
    assert {part[0].dtype.name for part in (split.boxes, split.areas)} == {"float32"}
    assert split.classes[1].dtype == np.int32
    assert split.read(0).shape == (HEIGHT, WIDTH, 3)


def test_every_kind_of_segmentation_is_the_same_mask(write):
    mask = np.zeros([HEIGHT, WIDTH], bool)
    mask[5:25, 10:30] = mask[30:35, 40:50] = True
    (rle,) = encode(mask[None])
    runs = [405, 20, *[20, 20] * 19, 15 + 400 + 30, 5, *[35, 5] * 9, 405]  # column by column
    kinds = [
        [*SQUARE, [40, 30, 50, 30, 50, 35, 40, 35]],
        {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
        {"size": [HEIGHT, WIDTH], "counts": runs},
    ]
    spec = write(instances(1, [annotation(number, segmentation=kind) for number, kind in enumerate(kinds)]))
    got = open_split(spec).read_masks(0)
    for one in got:
        assert one["size"] == [HEIGHT, WIDTH] and isinstance(one["counts"], bytes)
        np.testing.assert_array_equal(decode(one), mask)
        np.testing.assert_array_equal(coco.decode(one), mask)


def test_masks_are_not_looked_at_for_boxes(write):
    wrong = [annotation(1, segmentation=[[1, 2]]), annotation(2, segmentation=None), annotation(3)]
    del wrong[2]["segmentation"]
    spec = write(instances(1, wrong))
    split = open_split(spec, task="detection")
    assert len(split.boxes[0]) == 3 and split.read_masks is None
    with pytest.raises(DataError, match=r"3 faults in 1 of 1"):
        open_split(spec)


def test_data_without_masks_cannot_teach_them(write):
    spec = write(instances(1, [annotation(1, segmentation=[])]))
    assert open_source(spec).info.tasks == ("detection",)
    with pytest.raises(DataError, match="task='instance_segmentation' cannot be learnt from it"):
        open_source(spec, task="instance_segmentation")


@pytest.mark.parametrize("folder", ["train", "images/train", "images", "."])
@pytest.mark.parametrize("annotations", [".", "annotations"])
def test_where_pictures_and_annotations_may_lie(write, tmp_path, folder, annotations):
    found = instances(2, [annotation()])
    found["images"][1]["file_name"] = "deep/er/2.png"
    spec = write(found, folder=folder)
    (tmp_path / annotations).mkdir(exist_ok=True)
    (tmp_path / "instances_train.json").rename(tmp_path / annotations / "instances_train.json")
    for others in ("train", "images"):
        (tmp_path / others).mkdir(exist_ok=True)  # without pictures
    names = open_split(spec, task="detection").names
    assert names == tuple(str(tmp_path / folder / name) for name in ("1.png", "deep/er/2.png"))


def test_pictures_that_are_nowhere(write, tmp_path):
    spec = write(instances(1, [annotation()]), folder="elsewhere")
    with pytest.raises(DataError) as raised:
        open_split(spec, task="detection")
    for folder in ("train", "images/train", "images", ""):
        assert str(tmp_path / folder) in str(raised.value)
    assert "1.png" in str(raised.value)


def test_a_folder_for_each_split_as_roboflow_exports_it(tmp_path):
    for folder, count in (("test", 1), ("train", 12), ("valid", 2)):
        (tmp_path / folder).mkdir()
        of_each = [annotation(number, number) for number in range(1, count + 1)]
        text = json.dumps(instances(count, of_each))
        (tmp_path / folder / "_annotations.coco.json").write_text(text)
        for number in range(1, count + 1):
            Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / folder / f"{number}.png")
    source = open_source(f"coco:{tmp_path}", task="instance_segmentation")
    assert list(source.info.splits.items()) == [("train", 12), ("val", 2), ("test", 1)]
    names = source.split("val", strict=True).names
    assert names == tuple(str(tmp_path / "valid" / name) for name in ("1.png", "2.png"))
    assert open_source(f"coco:{tmp_path / 'train'}").info.splits["all"] == 12


def test_a_file_of_another_name_is_offered(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(DataError, match=r"or one file alone as 'coco:.*/result\.json,IMAGE_DIR'"):
        open_source(f"coco:{tmp_path}")


def test_a_folder_without_instances(tmp_path):
    with pytest.raises(
        DataError, match=r"no instances_SPLIT\.json in .* or .*annotations, and no .*; expected one for"
    ):
        open_source(f"coco:{tmp_path}")


def test_splits_of_a_single_file_are_drawn_by_name(write, tmp_path):
    write(instances(25, [annotation(number, number) for number in range(1, 26)]), folder="all")
    spec = f"coco:{tmp_path / 'instances_train.json'},{tmp_path / 'all'}"
    source = open_source(spec, task="instance_segmentation")
    assert source.info.splits == {"train": 19, "val": 3, "test": 3, "all": 25}
    parts = [source.split(name, strict=True).names for name in ("train", "val", "test")]
    everything = source.split("all", strict=True)
    assert sorted(sum(parts, ())) == sorted(everything.names)
    assert [len(boxes) for boxes in everything.boxes] == [1] * 25
    assert [open_source(spec).split(name).names for name in ("train", "val", "test")] == parts
    write(instances(0))
    with pytest.raises(DataError, match="`images` is empty"):
        open_source(spec)


def test_classes_in_another_order_and_more_of_them(write):
    spec = write(instances(1, [annotation(1)]))
    source = open_source(spec, classes=["dog", "yak", "cat"])
    assert source.info.classes == ("dog", "yak", "cat")
    np.testing.assert_array_equal(source.split("train").classes[0], [2])
    with pytest.raises(DataError, match=r'classes=\): class="dog": unknown'):
        open_source(spec, classes=["cat"])


def test_splits_that_do_not_agree_on_the_classes(write, tmp_path):
    write(instances(1))
    spec = write(instances(1, categories=[{"id": 1, "name": "cat"}]), "val")
    with pytest.raises(DataError, match=r"categories cat, but .*_train\.json has cat, dog") as raised:
        open_source(spec)
    assert str(tmp_path / "instances_val.json") in str(raised.value)


RUNS = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}


@pytest.mark.parametrize(
    ("wrong", "found", "expected"),
    [
        ({"category_id": 4}, "category_id 4", "id of one of `categories`"),
        ({"category_id": "cat"}, "category_id 'cat'", "id of one of `categories`"),
        ({"category_id": {}}, "category_id {}", "id of one of `categories`"),
        ({"iscrowd": 2}, "iscrowd 2", "0 or 1"),
        ({"iscrowd": [1]}, "iscrowd [1]", "0 or 1"),
        ({"bbox": None}, "no bbox", "[x, y, width, height]"),
        ({"bbox": []}, "bbox []", "[x, y, width, height]"),
        ({"bbox": "wide"}, "bbox 'wide'", "[x, y, width, height]"),
        ({"bbox": [1, 2, 3, "4"]}, "bbox [1, 2, 3, '4']", "[x, y, width, height]"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox [1, 2, nan, 4]", "[x, y, width, height]"),
        ({"bbox": [1, 2, 10**400, 4]}, "bbox [1, 2, 1000", "[x, y, width, height]"),
        ({"bbox": [1e308, 2, 1e308, 4]}, "bbox [1e+308", "[x, y, width, height]"),
        ({"bbox": [20, 2, -5, 4]}, "is reversed", "above 0"),
        ({"bbox": [20, 2, 0, 4]}, "has no area", "above 0"),
        ({"bbox": [50, 2, 12, 4]}, "lies outside its picture", "within 60 x 40"),
        ({"bbox": [-5, 2, 12, 4]}, "lies outside its picture", "within 60 x 40"),
        ({"segmentation": None}, "no segmentation", "a list of polygons"),
        ({"segmentation": []}, "no segmentation", "a list of polygons"),
        ({"segmentation": "ed15"}, "segmentation 'ed15'", "a list of polygons"),
        ({"segmentation": [[1, 2, 3, 4]]}, "a polygon of 4 numbers", "at least three points"),
        ({"segmentation": [[]]}, "a polygon of 0 numbers", "at least three points"),
        ({"segmentation": [*SQUARE, [1, 2, 3, 4, 5, 6, 7]]}, "a polygon of 7", "at least three points"),
        ({"segmentation": [[1, 2, 3, 4, 5, float("inf")]]}, "a polygon [1, 2,", "finite"),
        ({"segmentation": [[1, 2, 3, 4, 5, 1e9]]}, "to [5.0, 1000000000.0]", "within 60 x 40 pixels"),
        ({"segmentation": [[-3, 2, 3, 4, 5, 6]]}, "from [-3.0, 2.0]", "within 60 x 40 pixels"),
        ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "a polygon [1, 2,", "a list of polygons"),
        ({"segmentation": [[1, 2, 3, 4, 5, 10**30]]}, "a polygon [1, 2,", "a list of polygons"),
        ({"segmentation": [[[1, 2], [3, 4], [5, 6]]]}, "a polygon [[1, 2]", "a list of polygons"),
        ({"segmentation": [[[1], 3, 4, 5, 6, 7]]}, "a polygon [[1], 3", "a list of polygons"),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, "a polygon 1", "a list of polygons"),
        ({"segmentation": [RUNS]}, "a polygon {'size'", "a list of polygons"),
        ({"segmentation": {}}, "the size None", "[40, 60], height and width"),
        ({"segmentation": {"counts": [2400]}}, "the size None", "[40, 60], height and width of its picture"),
        ({"segmentation": RUNS | {"size": [60, 40]}}, "the size [60, 40]", "[40, 60]"),
        ({"segmentation": RUNS | {"size": "ab"}}, "the size 'ab'", "[40, 60]"),
        ({"segmentation": RUNS | {"counts": [2399]}}, "counts of 2399 pixels", "2400"),
        ({"segmentation": RUNS | {"counts": [0, 2400, 1]}}, "counts of 2401 pixels", "2400"),
        ({"segmentation": RUNS | {"counts": [-1, 2401]}}, "a run of negative length", "COCO's run lengths"),
        ({"segmentation": RUNS | {"counts": [2**70]}}, "counts beyond all pictures", "COCO's run lengths"),
        ({"segmentation": RUNS | {"counts": [2**61] * 8 + [2400]}}, "counts of 18446744073709", "2400"),
        ({"segmentation": RUNS | {"counts": [2400.0]}}, "counts [2400.0]", "COCO's run lengths"),
        ({"segmentation": RUNS | {"counts": []}}, "counts []", "COCO's run lengths"),
        ({"segmentation": RUNS | {"counts": None}}, "counts None", "COCO's run lengths"),
        ({"segmentation": RUNS | {"counts": ""}}, "no mask is written as", "COCO's run lengths"),
        ({"segmentation": RUNS | {"counts": "0P"}}, "no mask is written as", "COCO's run lengths"),
        ({"segmentation": RUNS | {"counts": "  \u0000"}}, "no mask is written as", "COCO's run lengths"),
        ({"segmentation": RUNS | {"counts": "\ud800é"}}, "no mask is written as", "COCO's run lengths"),
        ({"segmentation": RUNS | {"counts": "O"}}, "a run of negative length", "COCO's run lengths"),
        ({"segmentation": RUNS | {"counts": "0T3"}}, "counts of 100 pixels", "2400"),
        ({"segmentation": RUNS | {"counts": [2400]}}, "has no pixel", "those of the object"),
        ({"segmentation": [[1, 1, 2, 2, 3, 3]]}, "polygons without area", "around the object"),
        ({"segmentation": [[9, 9, 9, 9, 9, 9]]}, "polygons without area", "around the object"),
        ({"segmentation": [[0, 0, 5, 0, 5, 3]]}, "from [0.0, 0.0] to [5.0, 3.0]", "[10, 5] to [30, 25]"),
        ({"segmentation": [[0.2, 0.1, 0.5, 0.1, 0.5, 0.6]]}, "to [0.5, 0.6]", "[10, 5] to [30, 25]"),
        (
            {"segmentation": [[0, 0, 0.3, 0, 0.3, 0.5]], "bbox": [0, 0, 20, 20]},
            "to [0.3, 0.5]",
            "[0, 0] to [20, 20]",
        ),
    ],
)
def test_faults_of_an_annotation_are_told_and_left_out(write, tmp_path, wrong, found, expected):
    good = [annotation(number, number) for number in range(1, 21)]
    spec = write(instances(20, [*good, annotation(77, 1) | wrong]))
    with pytest.warns(DataWarning) as warned:
        split = open_split(spec, strict=False)
    assert [len(boxes) for boxes in split.boxes] == [1] * 20
    (line,) = str(warned[0].message).splitlines()[1:]
    assert line.startswith(f"  {tmp_path / 'instances_train.json'}, annotation 77: ")
    told, _, right = line.partition("; expected ")
    assert found in told and expected in right
    assert len(line) < 300
    with pytest.raises(DataError, match="1 fault in 1 of 20 pictures, and strict=True"):
        open_split(spec)


@pytest.mark.parametrize(
    ("wrong", "found", "expected"),
    [
        ({"file_name": "no.png"}, "no.png: there is no such file", "a whole picture file"),
        ({"file_name": "../1.png"}, "'../1.png' leads out of", "a path within it"),
        ({"file_name": "a/../../1.png"}, "leads out of", "a path within it"),
        ({"file_name": "/etc/passwd"}, "leads out of", "a path within it"),
        ({"file_name": "x" * 300 + ".png"}, "File name too long", "a whole picture file"),
        ({"file_name": "."}, "a directory", "a whole picture file"),
        ({"height": 60, "width": 40}, "says that its picture is 40 x 60", "60 x 40, the size of"),
        ({"height": "40"}, "says that its picture is 60 x '40'", "60 x 40, the size of"),
        ({"id": 1}, "the id is there before", "each id once"),
    ],
)
def test_faults_of_a_picture_are_told_and_left_out(write, tmp_path, wrong, found, expected):
    whole = instances(20, [annotation(number, number) for number in range(1, 20)])
    whole["images"][19] |= {"id": 20}
    spec = write(whole)
    whole["images"][19] |= wrong
    (tmp_path / "instances_train.json").write_text(json.dumps(whole))
    with pytest.warns(DataWarning) as warned:
        split = open_split(spec, strict=False)
    assert len(split) == 19
    (line,) = str(warned[0].message).splitlines()[1:]
    assert line.startswith(f"  {tmp_path / 'instances_train.json'}, image {whole['images'][19]['id']} (")
    told, _, right = line.partition("; expected ")
    assert found in told and expected in right


def test_a_size_need_not_be_told(write):
    found = instances(2, [annotation()])
    del found["images"][0]["height"]
    found["images"][1] |= {"height": 0, "width": None}
    assert len(open_split(write(found), task="detection")) == 2


def test_an_annotation_that_is_there_twice(write):
    good = [annotation(number, number) for number in range(1, 21)]
    spec = write(instances(20, [*good, annotation(5, 5, bbox=[1, 1, 2, 2])]))
    with pytest.warns(DataWarning, match="annotation 5: the id is there before; expected each id once"):
        split = open_split(spec, strict=False)
    np.testing.assert_array_equal(split.boxes[4], [[10, 5, 30, 25]])


def test_more_than_a_tenth_of_the_pictures_with_faults(write):
    found = instances(10, [annotation(number, number, bbox=[0, 0, 0, 0]) for number in (1, 2)])
    with pytest.raises(DataError, match="2 faults in 2 of 10 pictures, which is more than a tenth"):
        open_split(write(found), task="detection", strict=False)


@pytest.mark.parametrize("unknown", [55, True, "1", [1]])
def test_annotations_of_no_picture_are_told(write, unknown):
    whole = [annotation(number, number) for number in range(1, 21)]
    spec = write(instances(20, [*whole, annotation(77, unknown)]))
    with pytest.warns(DataWarning, match="1 fault in 1 of 21 annotations") as warned:
        split = open_split(spec, strict=False)
    assert [len(boxes) for boxes in split.boxes] == [1] * 20
    told = f"annotation 77: no picture has its image_id {unknown!r}; expected the id of one of `images`"
    assert told in str(warned[0].message)
    with pytest.raises(DataError, match="1 fault in 1 of 21 annotations, and strict=True"):
        open_split(spec)


@pytest.mark.parametrize("unknown", [55, "1"])
def test_annotations_that_are_lost_count_one_by_one(write, unknown):
    strays = [annotation(100 + number, unknown) for number in range(3)]
    spec = write(instances(20, [*(annotation(number, number) for number in range(1, 21)), *strays]))
    with pytest.raises(DataError, match="3 faults in 3 of 23 annotations, which is more than a tenth"):
        open_split(spec, strict=False)


@pytest.mark.parametrize("annotations", [[], [annotation(iscrowd=1)]])
def test_a_split_without_any_object_teaches_none(write, annotations):
    write(instances(2, [annotation(), annotation(2, 2)]), "train")
    spec = write(instances(2, annotations), "val")
    assert len(open_split(spec, "train")) == 2
    for task in ("detection", "instance_segmentation"):
        with pytest.raises(DataError, match='split="val" has no object in any of its pictures; expected'):
            open_split(spec, "val", task)
    assert len(open_split(spec, "val", "segmentation")) == 2
    faults = [fault for fault in check(spec).faults if fault.kind == "no_annotation"]
    assert [(fault.split, fault.picture) for fault in faults] == [("val", "val")]


def test_boxes_in_shares_of_the_picture(write):
    boxes = [[0.1, 0.2, 0.5, 0.8], [0, 0, 1, 1], [0.5, 0.25, 0.5, 0.5], BOX, [0.5, 0.5, 0.75, 0.5]]
    spec = write(instances(5, [annotation(place, place, bbox=box) for place, box in enumerate(boxes, 1)]))
    with pytest.raises(
        DataError, match=r"3 of 5 boxes .* as \[0.1, 0.2, 0.5, 0.8\]; expected pixels, not shar"
    ):
        open_source(spec)
    few = [annotation(place, place, bbox=box) for place, box in enumerate([*boxes[:2], BOX, BOX], 1)]
    assert len(open_split(write(instances(4, few)), task="detection")) == 4


def test_boxes_of_a_pixel_in_pictures_of_a_few(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "1.png")
    found = instances(1, [annotation(bbox=[0, 0, 1, 1])])
    found["images"][0] |= {"height": 3, "width": 4}
    (tmp_path / "instances_train.json").write_text(json.dumps(found))
    np.testing.assert_array_equal(open_split(f"coco:{tmp_path}", task="detection").boxes[0], [[0, 0, 1, 1]])


def test_windows_paths_and_absolute_ones_that_lie_within(write, tmp_path):
    found = instances(2, [annotation()])
    found["images"][0]["file_name"] = "sub/1.png"
    found["images"][1]["file_name"] = str(tmp_path / "train" / "2.png")
    spec = write(found)
    found["images"][0]["file_name"] = "sub\\1.png"
    (tmp_path / "instances_train.json").write_text(json.dumps(found))
    assert open_split(spec).names == tuple(str(tmp_path / "train" / name) for name in ("sub/1.png", "2.png"))


@pytest.mark.parametrize("elsewhere", ["/elsewhere/1.png", "C:\\pictures\\1.png"])
def test_absolute_paths_that_lie_elsewhere(write, tmp_path, elsewhere):
    found = instances(1, [annotation()])
    spec = write(found)
    found["images"][0]["file_name"] = elsewhere
    (tmp_path / "instances_train.json").write_text(json.dumps(found))
    with pytest.raises(DataError, match="expected paths in `images` that start from their folder") as raised:
        open_split(spec)
    assert elsewhere in str(raised.value)


def test_annotations_of_no_picture_count_against_the_whole_file_that_splits_are_drawn_of(write, tmp_path):
    strays = [annotation(100 + number, 1000 + number) for number in range(3)]
    write(instances(40, [*(annotation(number, number) for number in range(1, 41)), *strays]), folder="all")
    source = open_source(f"coco:{tmp_path / 'instances_train.json'},{tmp_path / 'all'}")
    with pytest.warns(DataWarning, match="json: 3 faults in 3 of 43 annotations"):
        assert len(source.split("val")) == 4
    with pytest.raises(DataError, match="no picture has its image_id 1000"):
        source.split("val", strict=True)


def entries(**first):
    """A whole file but for the first entry of each named part."""
    whole = instances(1, [annotation(1)])
    return whole | {part: [entry, *whole[part][1:]] for part, entry in first.items()}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (b"", "expected COCO's instances as JSON"),
        (b"\xff\xfe\x00", "expected COCO's instances as JSON"),
        (b"[" * 100_000, "expected COCO's instances as JSON"),
        (b'{"images": ' + b"1" * 5000 + b"}", "expected COCO's instances as JSON"),
        ("[]", "no list of objects `images`; expected images, annotations, categories"),
        ("null", "no list of objects `images`"),
        ({"images": []}, "no list of objects `annotations`"),
        (entries() | {"images": [1]}, "no list of objects `images`"),
        (entries() | {"annotations": {"id": 1}}, "no list of objects `annotations`"),
        (entries() | {"categories": None}, "no list of objects `categories`"),
        (entries() | {"categories": []}, "`categories` is empty"),
        (entries(images={"file_name": "1.png"}), "id of entry 1 of `images` is None; expected an integer"),
        (entries(annotations={"id": "1"}), "id of entry 1 of `annotations` is '1'; expected an integer"),
        (entries(categories={"id": True, "name": "a"}), "id of entry 1 of `categories` is True"),
        (entries(categories={"id": 3, "name": "a"}), "have the ids [3, 3]; expected each id once"),
        (entries(categories={"id": 7, "name": "cat"}), "`categories` must name each class once"),
        (
            entries(categories={"id": 7, "name": ["cat"]}),
            "name of 7 in `categories` is ['cat']; expected text",
        ),
        (entries(categories={"id": 7, "name": ""}), "name of 7 in `categories` is ''; expected text"),
        (entries(images={"id": 1}), "file_name of 1 in `images` is None; expected text"),
        (entries(images={"id": 1, "file_name": "a\0b"}), "file_name of 1 in `images` is 'a\\x00b'"),
        (entries(images={"id": 1, "file_name": "\ud800"}), "file_name of 1 in `images` is '\\ud800'"),
    ],
)
def test_files_that_are_none_of_coco(write, tmp_path, found, told):
    spec = write(found)
    with pytest.raises(DataError) as raised:
        open_source(spec)
    assert str(raised.value).startswith(f"{tmp_path / 'instances_train.json'}: ")
    assert told in str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"no\.json: there is no such file"):
        open_source(f"coco:{tmp_path / 'no.json'},{tmp_path}")


values = st.recursive(
    st.sampled_from([None, True, 1, 3, "1.png"]) | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.sampled_from(["id", "size", "counts", "file_name", "name"]), inner, max_size=3)
    ),
    max_leaves=12,
)
parts = st.sampled_from(["images", "annotations", "categories"])
identities = ["id", "image_id", "category_id", "file_name", "name"]
keys = st.sampled_from([*identities, "bbox", "segmentation", "iscrowd", "area", "height"])


@pytest.fixture(scope="module")
def one_picture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "1.png")
    return folder


@settings(max_examples=150)
@given(parts, keys, values, st.sampled_from(["detection", "instance_segmentation"]))
def test_whatever_a_file_holds_is_data_or_a_data_error(one_picture, part, key, value, task):
    found = instances(1, [annotation(1), annotation(2)])
    found[part][0][key] = value
    (one_picture / "instances_train.json").write_text(json.dumps(found))
    try:
        split = open_split(f"coco:{one_picture}", task=task)
    except DataError as error:
        assert "expected" in str(error) or "must" in str(error) or "cannot be learnt" in str(error)
    else:
        assert split.boxes[0].shape[1:] == (4,) and np.isfinite(split.areas[0]).all()
        for rle in split.read_masks(0) if split.read_masks else ():
            assert decode(rle).shape == (HEIGHT, WIDTH)


counts = st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12)


@settings(max_examples=150)
@given(counts | st.lists(st.integers(-5, 2500), max_size=6))
def test_run_lengths_that_pass_are_whole(one_picture, found):
    mask = {"size": [HEIGHT, WIDTH], "counts": found}
    (one_picture / "instances_train.json").write_text(
        json.dumps(instances(1, [annotation(1, segmentation=mask)]))
    )
    try:
        (rle,) = open_split(f"coco:{one_picture}").read_masks(0)
    except DataError as error:
        assert "counts" in str(error)
    else:
        np.testing.assert_array_equal(decode(rle), coco.decode(rle))


def test_batches_with_masks(write):
    spec = write(
        instances(2, [annotation(1), annotation(2, iscrowd=1, bbox=[0, 0, 60, 40]), annotation(3, 2)])
    )
    dataset = kzoo.data.load(spec, task="instance_segmentation", shuffle=False)
    (batch,) = dataset.as_numpy_iterator()
    np.testing.assert_array_equal(batch["classes"], [[0, CROWD], [0, -1]])
    assert batch["masks"].shape == (2, 2, 56, 56)
    truth = dataset.pictures.read_masks(int(batch["image_id"][0]))
    for number in range(2):
        pasted = paste(batch["masks"][0, number], batch["boxes"][0, number], (HEIGHT, WIDTH))
        np.testing.assert_array_equal(pasted, decode(truth[number]))


@pytest.mark.parametrize("classes", [None, ["cat", "dog"], ["background", "cat", "dog"]])
def test_classes_of_pixels(write, classes):
    crowd = annotation(2, iscrowd=1, segmentation={"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]})
    later = annotation(3, category_id=7, bbox=[20, 5, 20, 20], segmentation=[[20, 5, 40, 5, 40, 25, 20, 25]])
    spec = write(instances(2, [annotation(), crowd, later]))
    source = open_source(spec, task="segmentation", classes=classes)
    assert source.info.classes == ("background", "cat", "dog")
    split = source.split("train", strict=True)
    expected = np.full((HEIGHT, WIDTH), -1)
    expected[5:25, 10:30] = 1
    expected[5:25, 20:40] = 2
    np.testing.assert_array_equal(split.read_labels(0), expected)
    np.testing.assert_array_equal(split.read_labels(1), np.zeros((HEIGHT, WIDTH)))
    assert open_source(spec, task="detection").info.classes == ("cat", "dog")
    assert kzoo.data.info(spec).tasks == ("detection", "segmentation", "instance_segmentation")


def test_an_object_class_cannot_be_called_background(write):
    found = instances(1, [annotation()], categories=[{"id": 3, "name": "background"}])
    with pytest.raises(DataError, match="must name each class once, but it repeats 'background'"):
        open_source(write(found), task="segmentation")


def test_a_part_of_a_split(write):
    spec = write(instances(30, [annotation(number, number) for number in range(1, 31)]))
    source = open_source(spec, task="segmentation")
    part = slices.open_split(source, "train[-2:]", strict=True)
    assert [name.rsplit("/", 1)[-1] for name in part.names] == ["29.png", "30.png"]
    assert len(part.boxes) == len(part.areas) == len(part.crowd_classes) == 2
    assert part.read_labels(1).max() == 1


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["polygon", "runs"])
def test_what_is_of_the_stored_picture_is_turned_with_it(write, tmp_path, orientation, kind):
    """The object is white: box, mask and labels find it in the picture as it is read."""
    stored = np.zeros([HEIGHT, WIDTH], np.uint8)
    stored[5:25, 10:30] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    runs = {"size": [HEIGHT, WIDTH], "counts": encode(stored[None])[0]["counts"].decode()}
    segmentation = SQUARE if kind == "polygon" else runs
    spec = write(instances(2, [annotation(1, segmentation=segmentation), annotation(2, 2)]))
    Image.fromarray(stored).save(tmp_path / "train" / "1.png", exif=exif)
    split = open_split(spec)
    pixels = split.read(0)[..., 0]
    assert split.sizes == (pixels.shape, (HEIGHT, WIDTH)) == ((WIDTH, HEIGHT), (HEIGHT, WIDTH))
    np.testing.assert_array_equal(decode(split.read_masks(0)[0]), pixels == 255)
    rows, columns = np.nonzero(pixels)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_array_equal(split.boxes[0], [expected])
    np.testing.assert_array_equal(split.boxes[1], [[10, 5, 30, 25]])
    labels = open_split(spec, task="segmentation").read_labels(0)
    np.testing.assert_array_equal(labels, (pixels == 255) * 1)


@pytest.mark.parametrize("sizes", [{"height": WIDTH, "width": HEIGHT}, {"height": 0, "width": None}])
def test_what_is_of_the_seen_picture_is_not_turned(write, tmp_path, sizes):
    found = instances(1, [annotation(bbox=[1, 2, 39, 58])])
    found["images"][0] |= sizes
    spec = write(found)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "train" / "1.png", exif=exif)
    split = open_split(spec, task="detection")
    np.testing.assert_array_equal(split.boxes[0], [[1, 2, 40, 60]])
    assert split.sizes == ((WIDTH, HEIGHT),)


def test_a_turned_picture_of_another_size(write, tmp_path):
    found = instances(1, [annotation()])
    found["images"][0]["width"] = WIDTH + 1
    spec = write(found)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "train" / "1.png", exif=exif)
    with pytest.raises(DataError, match=r"says that its picture is 61 x 40; expected 40 x 60, the size of"):
        open_split(spec)


def test_a_picture_of_too_many_pixels(write):
    spec = write(instances(1, [annotation()]))
    assert len(open_split(spec, max_pixels=HEIGHT * WIDTH)) == 1
    with pytest.raises(DataError, match=r"1\.png: a picture of 60 x 40 pixels.* max_pixels=2399"):
        open_split(spec, max_pixels=HEIGHT * WIDTH - 1)
