import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import kzoo.data
from kzoo.data.checking import check, checking
from kzoo.data.checking.report import NOTICES
from kzoo.data.faults import KINDS, DataError
from kzoo.data.sources import open_source, shapes
from kzoo.tasks import TASKS

WIDTH, HEIGHT = 40, 30
BOX = (11, 6, 20, 25)


class Voc:
    """Without a fault: 24 pictures of a cat each, the last eight of them in "val", to spoil."""

    def __init__(self, path):
        self.path = path
        self.spec = f"voc:{path}"
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (path / folder).mkdir(parents=True)
        self.names = [f"p{number:02}" for number in range(24)]
        for number, name in enumerate(self.names):
            self.annotate(name)
            Image.fromarray(pixels(number)).save(self.picture(name))
        self.list("train", self.names[:16])
        self.list("val", self.names[16:])

    def annotate(self, name, *boxes, label="cat", size=(WIDTH, HEIGHT)):
        lines = [f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"]
        for box in boxes or (BOX,):
            sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
            written = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
            lines.append(f"<object><name>{label}</name><bndbox>{written}</bndbox></object>")
        self.xml(name).write_text(f"<annotation>{''.join(lines)}</annotation>")

    def xml(self, name):
        return self.path / "Annotations" / f"{name}.xml"

    def picture(self, name, extension="png"):
        return self.path / "JPEGImages" / f"{name}.{extension}"

    def list(self, split, names):
        (self.path / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n")


def pixels(seed, width=WIDTH, height=HEIGHT):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def voc(tmp_path):
    return Voc(tmp_path)


def kinds(findings):
    return [finding.kind for finding in findings]


def test_a_faultless_set_has_neither_faults_nor_notices(voc):
    report = check(voc.spec)
    assert (report.faults, report.notices) == ([], [])
    assert "No faults." in report.as_text()


def unreadable(voc):
    voc.picture("p03").write_text("no picture")


def truncated(voc):
    Image.fromarray(pixels(3)).save(voc.picture("p03", "jpg"), quality=95)
    voc.picture("p03").unlink()
    whole = voc.picture("p03", "jpg").read_bytes()
    voc.picture("p03", "jpg").write_bytes(whole[: len(whole) // 2])


def too_large(voc):
    """A header of many pixels, and next to nothing behind it."""
    body = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    header += struct.pack(">I", 4) + b"IDAT" + bytes(4) + struct.pack(">I", zlib.crc32(b"IDAT" + bytes(4)))
    voc.picture("p03").write_bytes(b"\x89PNG\r\n\x1a\n" + header)


def same_bytes(voc):
    voc.picture("p03").write_bytes(voc.picture("p01").read_bytes())


def same_pixels(voc):
    Image.open(voc.picture("p01")).save(voc.picture("p03", "bmp"))
    voc.picture("p03").unlink()


def unknown_class(voc):
    (voc.path / "classes.txt").write_text("cat\n")
    voc.annotate("p03", label="dog")


PLANTED = [
    ("missing", lambda voc: voc.picture("p03").unlink(), "p03.xml: its picture is missing"),
    ("unreadable", unreadable, "p03.png: not a picture"),
    ("truncated", truncated, "p03.jpg: image file is truncated"),
    ("too_large", too_large, "p03.png: a picture of 20000 x 20000 pixels"),
    ("duplicate", same_bytes, "p03.png: the same pixels as "),
    ("duplicate", same_pixels, "p03.bmp: the same pixels as "),
    ("duplicate", lambda voc: voc.list("train", [*voc.names[:16], "p03"]), "p03 is listed 2 times"),
    ("no_annotation", lambda voc: voc.xml("p03").unlink(), "p03.xml: there is no such file"),
    ("annotation", lambda voc: voc.xml("p03").write_text("<annotation>"), "p03.xml: broken XML"),
    ("size", lambda voc: voc.annotate("p03", size=(9, 7)), "p03.xml: says that its picture is 9 x 7"),
    (
        "unknown_class",
        unknown_class,
        'p03.xml, object 1 (the classes are from {path}/classes.txt): class="dog"',
    ),
    ("no_area", lambda voc: voc.annotate("p03", BOX, (5, 5, 5, 5)), "p03.xml, object 2 (cat): box"),
    ("reversed", lambda voc: voc.annotate("p03", BOX, (9, 5, 2, 8)), "p03.xml, object 2 (cat): box"),
    ("outside", lambda voc: voc.annotate("p03", BOX, (9, 5, 99, 8)), "p03.xml, object 2 (cat): box"),
    ("not_numbers", lambda voc: voc.annotate("p03", BOX, (9, 5, "nan", 8)), "p03.xml, object 2 (cat): box"),
]


@pytest.mark.parametrize(
    ("kind", "plant", "told"), PLANTED, ids=[f"{kind}{i}" for i, (kind, *_) in enumerate(PLANTED)]
)
def test_a_planted_fault_is_found_once_with_its_place(voc, kind, plant, told):
    plant(voc)
    report = check(voc.spec)
    assert kinds(report.faults) == [kind]
    [fault] = report.faults
    assert fault.split == "train"
    assert told.format(path=voc.path) in fault.told
    assert KINDS[kind] in report.as_text()
    assert fault.told in report.as_text()
    assert not report.notices


def test_many_faults_are_all_told_and_no_error(voc):
    for name in voc.names[:20]:
        voc.picture(name).write_text("none")
    report = check(voc.spec)
    assert kinds(report.faults) == ["unreadable"] * 20
    assert all(f"{name}.png" in report.as_text() for name in voc.names[:20])
    assert [len(one.sizes) for one in report.tallies.values()] == [0, 4]


def test_damage_that_only_decoding_shows(voc, monkeypatch):
    """A file that looks whole from its header and its end."""
    Image.fromarray(pixels(3)).save(voc.picture("p03", "jpg"))
    voc.picture("p03").unlink()
    file = bytearray(voc.picture("p03", "jpg").read_bytes())
    start = file.index(b"\xff\xc4")  # the first table that all else is coded by
    file[start + 5 : start + 21] = b"\xff" * 16
    voc.picture("p03", "jpg").write_bytes(file)
    split = open_source(voc.spec).split("train", strict=True)
    with pytest.raises(DataError, match="p03.jpg"):
        split.read(3)
    report = check(voc.spec)
    assert kinds(report.faults) == ["unreadable"]
    assert str(voc.picture("p03", "jpg")) in report.faults[0].told
    assert [len(one.sizes) for one in report.tallies.values()] == [15, 8]
    assert report.tallies["train"].counts.tolist() == [1] * 15


def test_damage_in_spite_of_which_a_picture_can_be_decoded(voc):
    Image.fromarray(pixels(3)).save(voc.picture("p03", "jpg"))
    voc.picture("p03").unlink()
    file = voc.picture("p03", "jpg").read_bytes()
    middle = 2 * len(file) // 3
    voc.picture("p03", "jpg").write_bytes(file[:middle] + b"\xa5" * 40 + file[middle + 40 :])
    assert open_source(voc.spec).split("train", strict=True).read(3).shape == (HEIGHT, WIDTH, 3)
    report = check(voc.spec)
    assert kinds(report.faults) == ["damaged"]
    assert report.faults[0].told.startswith(f"{voc.picture('p03', 'jpg')}: Corrupt JPEG data")
    assert len(report.tallies["train"].sizes) == 16


def test_bytes_behind_a_picture_are_no_damage(voc):
    Image.fromarray(pixels(3)).save(voc.picture("p03", "jpg"))
    voc.picture("p03").unlink()
    voc.picture("p03", "jpg").write_bytes(voc.picture("p03", "jpg").read_bytes() + bytes(30))
    assert check(voc.spec).faults == []


def test_the_same_picture_in_two_splits(voc):
    voc.list("val", [*voc.names[16:], "p03"])
    voc.picture("p20").write_bytes(voc.picture("p05").read_bytes())
    report = check(voc.spec)
    assert kinds(report.faults) == ["two_splits"] * 2
    assert [fault.split for fault in report.faults] == ["val"] * 2
    told = {fault.told for fault in report.faults}
    there = f"{voc.picture('p05')}, which is in the split train too; expected each picture in one split"
    assert told == {
        f"{voc.picture('p20')}: the same pixels as {there}",
        f"{voc.picture('p03')}: it is in the split train too; expected each picture in one split",
    }


def test_splits_that_others_make_up_are_told_and_counted_once(voc):
    voc.list("test", voc.names[20:])
    voc.list("val", voc.names[16:20])
    voc.list("trainval", voc.names[:20])
    voc.list("all", voc.names)
    voc.annotate("p03", BOX, (5, 5, 5, 5))
    report = check(voc.spec)
    assert kinds(report.faults) == ["no_area"]
    assert report.faults[0].split == "train"
    assert report.unions == {"trainval": ["train", "val"], "all": ["test", "train", "val"]}
    assert {name: len(one.sizes) for name, one in report.tallies.items()} == {
        "test": 4,
        "train": 16,
        "val": 4,
    }
    assert report.as_json()["all"]["pictures"] == 24


def test_a_split_within_another_is_no_part_of_it(voc):
    """Only where others make it up: val within train is what leakage looks like."""
    voc.list("train", voc.names)
    report = check(voc.spec)
    assert report.unions == {}
    assert kinds(report.faults) == ["two_splits"] * 8


def test_val_and_test_that_make_up_train_are_no_parts_of_it_either(voc):
    voc.list("train", voc.names)
    voc.list("val", voc.names[:10])
    voc.list("test", voc.names[10:])
    report = check(voc.spec)
    assert report.unions == {}
    assert kinds(report.faults) == ["two_splits"] * 24


def test_drawn_splits_of_few_pictures(tmp_path):
    voc = Voc(tmp_path)
    for name in voc.names[1:]:
        voc.xml(name).unlink()
        voc.picture(name).unlink()
    for split in ("train", "val"):
        (tmp_path / f"ImageSets/Main/{split}.txt").unlink()
    report = check(voc.spec)
    assert report.faults == []
    assert report.unions == {"all": ["train"]}


def turned(voc):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels(3)).save(voc.picture("p03", "jpg"), exif=exif)
    voc.picture("p03").unlink()


def empty(voc):
    voc.xml("p03").write_text("<annotation></annotation>")


def rare(voc):
    for name in ("p03", "p20"):
        voc.annotate(name, label="dog")


def absent(voc):
    for name in voc.names[:16]:
        voc.xml(name).write_text(voc.xml(name).read_text().replace("cat", "dog"))
    for name in voc.names[8:16]:
        voc.annotate(name, BOX, BOX)


NOTED = [
    (
        "turned",
        turned,
        "p03.jpg: EXIF's orientation is 3; read as it is seen, 40 x 30, and so are its boxes: its size",
    ),
    ("empty", empty, "p03.png: no object"),
    (
        "unlisted",
        lambda voc: Image.new("RGB", (8, 8)).save(voc.picture("more")),
        "JPEGImages: 1 picture that",
    ),
    ("tiny", lambda voc: voc.annotate("p03", (5, 6, 6, 20)), "p03.png: cat of 2 x 15 pixels at (4, 5)"),
    ("rare_class", rare, "dog: 2 objects in all splits"),
    ("absent_class", absent, "no example of dog"),
    ("empty_split", lambda voc: voc.list("test", []), "no pictures"),
]


@pytest.mark.parametrize(("kind", "plant", "told"), NOTED, ids=[kind for kind, *_ in NOTED])
def test_a_notice_is_no_fault(voc, kind, plant, told):
    plant(voc)
    report = check(voc.spec)
    assert report.faults == []
    assert kind in kinds(report.notices)
    [notice] = [notice for notice in report.notices if notice.kind == kind and told in notice.told]
    assert NOTICES[kind] in report.as_text()
    assert notice.told in report.as_text()


def test_a_single_object_is_no_plural(voc):
    voc.annotate("p03", label="dog")
    assert [notice.told for notice in check(voc.spec).notices if notice.kind == "rare_class"] == [
        "dog: 1 object in all splits"
    ]


def test_a_picture_whose_boxes_are_faulty_is_not_called_empty(voc):
    voc.annotate("p03", (5, 5, 5, 5))
    report = check(voc.spec)
    assert kinds(report.faults) == ["no_area"]
    assert report.notices == []


def test_figures(voc):
    for name in voc.names[16:]:
        voc.annotate(name, (1, 1, 20, 10), (1, 1, 10, 10), (1, 1, 40, 5))
    voc.xml("p16").write_text("<annotation></annotation>")
    found = check(voc.spec).as_json()
    assert json.loads(json.dumps(found)) == found
    assert (found["spec"], found["task"], found["classes"]) == (voc.spec, "detection", ["cat"])
    assert list(found["splits"]) == ["train", "val"]
    assert found["splits"]["val"] == {
        "pictures": 8,
        "objects": 21,
        "crowds": 0,
        "classes": {"cat": 21},
        "width": {"least": 40, "median": 40, "greatest": 40},
        "height": {"least": 30, "median": 30, "greatest": 30},
        "objects_per_picture": {"least": 0, "median": 3, "greatest": 3},
        "box_width": {"least": 10, "median": 20, "greatest": 40},
        "box_height": {"least": 5, "median": 10, "greatest": 10},
        "box_aspect": {"least": 1, "median": 2, "greatest": 8},
    }
    assert found["all"]["objects"] == 16 + 21
    assert found["faults"] == []
    assert [notice["kind"] for notice in found["notices"]] == ["empty"]


def coco(path, annotations, categories=("cat",)):
    images = [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in range(12)]
    (path / "train").mkdir()
    for image in images:
        Image.fromarray(pixels(image["id"])).save(path / "train" / image["file_name"])
    found = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
    }
    (path / "instances_train.json").write_text(json.dumps(found))
    return f"coco:{path}"


def coco_annotation(number, **others):
    square = [[5, 5, 15, 5, 15, 20, 5, 20]]
    there = {
        "id": number,
        "image_id": number,
        "category_id": 0,
        "bbox": [5, 5, 10, 15],
        "segmentation": square,
    }
    return there | others


def test_faults_of_coco(tmp_path):
    annotations = [coco_annotation(number) for number in range(12)]
    annotations[2]["segmentation"] = [[1, 1]]
    annotations[3]["image_id"] = 99
    annotations[4]["category_id"] = 7
    report = check(coco(tmp_path, annotations))
    assert report.task == "instance_segmentation"
    assert sorted(kinds(report.faults)) == ["mask", "no_picture", "unknown_class"]
    told = {fault.kind: fault.told for fault in report.faults}
    file = tmp_path / "instances_train.json"
    assert told["no_picture"].startswith(f"{file}, annotation 3: no picture has its image_id 99")
    assert told["unknown_class"].startswith(f"{file}, annotation 4: category_id 7")
    assert told["mask"].startswith(f"{file}, annotation 2: segmentation has a polygon of 2 numbers")


def test_masks_are_looked_at_only_where_the_task_is_about_them(tmp_path):
    annotations = [coco_annotation(number) for number in range(12)]
    annotations[2]["segmentation"] = [[1, 1]]
    spec = coco(tmp_path, annotations)
    assert kinds(check(spec, "detection").faults) == []
    assert kinds(check(spec, "segmentation").faults) == ["mask"]


def test_classes_of_pixels(tmp_path):
    crowd = coco_annotation(11, iscrowd=1)
    spec = coco(tmp_path, [*(coco_annotation(number) for number in range(11)), crowd])
    report = check(spec, "segmentation")
    [found] = report.as_json()["splits"].values()
    assert found["classes"] == {"background": 12, "cat": 11}
    area = 10 * 15
    every = 12 * WIDTH * HEIGHT
    assert found["pixels"]["cat"] == pytest.approx(11 * area / every)
    assert found["ignored_pixels"] == pytest.approx(area / every)
    assert sum(found["pixels"].values()) + found["ignored_pixels"] == pytest.approx(1)
    assert report.notices == []


def test_crowds_are_no_objects(tmp_path):
    annotations = [*(coco_annotation(number) for number in range(11)), coco_annotation(11, iscrowd=1)]
    [found] = check(coco(tmp_path, annotations)).as_json()["splits"].values()
    assert (found["objects"], found["crowds"], found["classes"]) == (11, 1, {"cat": 11})


def test_pairs_of_pictures_and_labels(tmp_path):
    for folder in ("image", "label"):
        (tmp_path / folder).mkdir()
    for number in range(20):
        Image.fromarray(pixels(number)).save(tmp_path / f"image/{number}.png")
        Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)).save(tmp_path / f"label/{number}.png")
    spec = f"folder:{tmp_path},values=0:0+1:1"
    assert check(spec).faults == []
    Image.fromarray(np.full([HEIGHT, WIDTH], 9, np.uint8)).save(tmp_path / "label/3.png")
    Image.fromarray(np.eye(HEIGHT, dtype=np.uint8)).save(tmp_path / "label/4.png")
    (tmp_path / "label/5.png").unlink()
    (tmp_path / "image/6.png").unlink()
    (tmp_path / "label/7.png").write_text("none")
    report = check(spec)
    told = {fault.kind: fault.told for fault in report.faults}
    assert len(report.faults) == 5
    assert f"{tmp_path}/label/3.png: a value of no class, 9" in told["unknown_class"]
    assert f"{tmp_path}/label/4.png: a picture of 30 x 30 pixels" in told["size"]
    assert f"{tmp_path}/image/5.png: its label picture is missing" in told["no_annotation"]
    assert f"{tmp_path}/label/6.png: its picture is missing" in told["missing"]
    assert f"{tmp_path}/label/7.png" in told["unreadable"]
    assert report.as_json()["all"]["pictures"] == 15


def test_folders_of_classes_all_of_whose_pictures_are_broken(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(pixels(number + 100 * len(name) * (name == "dog"))).save(
                tmp_path / f"train/{name}/{number}.png"
            )
    assert check(f"folder:{tmp_path}").faults == []
    for number in range(12):
        (tmp_path / f"train/dog/{number}.png").write_text("none")
    report = check(f"folder:{tmp_path}")
    assert kinds(report.faults) == ["unreadable"] * 13  # each of them, and the folder
    assert report.as_json()["all"]["classes"] == {"cat": 12, "dog": 0}
    assert [notice.told for notice in report.notices] == ["dog: 0 pictures in all splits"]


def test_a_split_that_cannot_be_read_is_a_fault(tmp_path):
    spec = coco(tmp_path, [coco_annotation(number) for number in range(12)])
    (tmp_path / "instances_val.json").write_bytes((tmp_path / "instances_train.json").read_bytes())
    (tmp_path / "train").rename(tmp_path / "val")
    report = check(spec)
    assert kinds(report.faults) == ["split"]
    assert (report.faults[0].split, list(report.tallies)) == ("train", ["val"])


def test_nothing_that_can_be_read(voc):
    for name in voc.names:
        voc.picture(name).write_text("none")
    report = check(voc.spec)
    assert kinds(report.faults) == ["unreadable"] * 24
    json.dumps(report.as_json())
    assert "24 faults" in report.as_text()


@pytest.mark.parametrize("task", [None, *TASKS])
def test_data_that_is_drawn(monkeypatch, task, tmp_path):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("other.png")  # none of the data's business
    splits = {"train": 200, "val": 20, "test": 20}
    monkeypatch.setattr(shapes, "SPLITS", splits)
    report = check("shapes", task)
    assert report.task == (task or "instance_segmentation")
    assert report.faults == []
    assert "unlisted" not in kinds(report.notices)
    assert {name: len(one.sizes) for name, one in report.tallies.items()} == splits


def test_broken_beyond_opening(tmp_path):
    (tmp_path / "instances_train.json").write_text("{")
    with pytest.raises(DataError, match="instances_train.json: "):
        check(f"coco:{tmp_path}")


def test_reading_stops_at_once_and_keeps_no_thread(voc, monkeypatch):
    read = []

    def look(split, index, num_classes):
        read.append(index)
        raise KeyboardInterrupt

    monkeypatch.setattr(checking, "_look", look)
    monkeypatch.setattr(checking, "_AHEAD", 2)
    with pytest.raises(KeyboardInterrupt):
        check(voc.spec)
    assert len(read) <= 3


def test_it_is_a_function_of_the_package(voc):
    assert kzoo.data.check(voc.spec).faults == []


def test_classes_and_the_most_pixels_are_the_callers(voc):
    Image.new("RGB", (50, 30)).save(voc.picture("p03"))
    assert check(voc.spec, classes=["dog", "cat"]).info.classes == ("dog", "cat")
    assert kinds(check(voc.spec, max_pixels=WIDTH * HEIGHT).faults) == ["too_large"]
    assert "unknown_class" in kinds(check(voc.spec, classes=["dog"]).faults)
