import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.data.masks import encode
from kzoo.evaluation import coco_average_precision, nan_to_none

SQUARE = [0, 0, 40, 40]
SIDE = 130  # of a picture with masks


def picture(boxes=(), classes=(), scores=None, crowd=None, pixels=None):
    """One picture's truth or detections; with `pixels`, bool [n, H, W], it has masks."""
    arrays = {"boxes": np.reshape(np.array(boxes, float), (-1, 4)), "classes": np.array(classes, int)}
    if scores is not None:
        arrays["scores"] = np.array(scores, float)
    if crowd is not None:
        arrays["crowd"] = np.array(crowd, bool)
    if pixels is not None:
        arrays |= {"pixels": pixels, "masks": encode(np.reshape(pixels, (-1, SIDE, SIDE)))}
    return arrays


def overlap_of_boxes(a, b, crowd):
    """IoU of a detection and an object; with a crowd, the share of the detection."""
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (areas[0] if crowd else sum(areas) - shared) if shared else 0.0


def overlap_of_masks(a, b, crowd):
    shared = (a & b).sum()
    return shared / (a.sum() if crowd else (a | b).sum()) if shared else 0.0


def plain_average_precision(truths, detections, label, threshold, key="boxes"):
    """101-point interpolated AP of one class at one IoU threshold, as the definition reads."""
    overlap = {"boxes": overlap_of_boxes, "pixels": overlap_of_masks}[key]
    free, crowds = [], []  # of each picture: objects that nothing matched yet, and crowds
    for truth in truths:
        crowd = truth.get("crowd", np.zeros(len(truth["classes"]), bool))
        mine = truth["classes"] == label
        free.append([truth[key][row] for row in np.flatnonzero(mine & ~crowd)])
        crowds.append([truth[key][row] for row in np.flatnonzero(mine & crowd)])
    total = sum(map(len, free))
    ranked = [
        (score, index, found)
        for index, d in enumerate(detections)
        for found, c, score in zip(d[key], d["classes"], d["scores"], strict=True)
        if c == label
    ]
    ranked.sort(key=lambda entry: -entry[0])
    points, hits, rank = [], 0, 0
    for _, index, found in ranked:
        overlaps = [overlap(found, true, False) for true in free[index]]
        if overlaps and max(overlaps) >= threshold:
            free[index].pop(
                max(range(len(overlaps)), key=lambda k: (overlaps[k], k))
            )  # COCO: the last of equals
            hits += 1
        elif any(overlap(found, crowd, True) >= threshold for crowd in crowds[index]):
            continue  # neither right nor wrong
        rank += 1
        points.append((hits / total, hits / rank))
    recalls = [step / 100 for step in range(101)]
    return sum(max((p for r, p in points if r >= recall), default=0.0) for recall in recalls) / 101


def test_by_hand():
    # Three objects; by falling score: hit, miss, hit, and the third object is never found.
    truth = picture([SQUARE, [100, 0, 140, 40], [200, 0, 240, 40]], [0, 0, 0])
    answer = picture([SQUARE, [300, 0, 340, 40], [100, 0, 140, 40]], [0, 0, 0], [0.9, 0.8, 0.7])
    # Precision is 1 up to recall 1/3 (34 of the 101 points), 2/3 up to recall 2/3 (33 more), then 0.
    expected = (34 * 1 + 33 * 2 / 3) / 101
    result = coco_average_precision([truth], [answer], ["cell"])
    assert result["AP50"] == pytest.approx(expected)
    assert [result[name] for name in ("AP", "AP75", "AP/cell")] == pytest.approx([expected] * 3)


def test_perfect_answers_are_one_and_keys_are_as_told():
    truths = [picture([SQUARE, [50, 50, 90, 60]], [0, 1]), picture([[0, 0, 200, 200]], [1])]
    answers = [truth | {"scores": np.linspace(1, 0.5, len(truth["classes"]))} for truth in truths]
    result = coco_average_precision(truths, answers, ("red", "blue"))
    keys = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
    keys += [f"{metric}/{name}" for name in ("red", "blue") for metric in ("AP", "AP50", "AP75")]
    assert result == pytest.approx(dict.fromkeys(keys, 1.0))
    assert all(type(value) is float for value in result.values())


@pytest.mark.parametrize(
    ("height", "thresholds"), [(40, 10), (37, 9), (30.4, 6), (28.4, 5), (21, 1), (19, 0)]
)
def test_a_box_of_known_iou_counts_at_the_thresholds_below_it(height, thresholds):
    result = coco_average_precision(
        [picture([SQUARE], [0])], [picture([[0, 0, 40, height]], [0], [0.5])], ["cell"]
    )
    assert result["AP"] == pytest.approx(thresholds / 10)
    assert result["AP50"] == (thresholds >= 1)
    assert result["AP75"] == (thresholds >= 6)


def test_the_wrong_class_is_no_hit():
    result = coco_average_precision(
        [picture([SQUARE, [100, 0, 140, 40]], [0, 1])],
        [picture([SQUARE, [100, 0, 140, 40]], [1, 1], [0.9, 0.8])],
        ["red", "blue"],
    )
    assert result["AP50/red"] == 0
    assert result["AP50/blue"] == pytest.approx(0.5)  # the miss stands before the hit
    assert result["AP50"] == pytest.approx(0.25)


def test_no_more_than_max_detections_count_and_the_best_ones_do():
    truth = picture([SQUARE], [0])
    answer = picture([[200, 200, 240, 240], SQUARE, [300, 0, 340, 40]], [0, 0, 0], [0.9, 0.5, 0.7])
    found = [coco_average_precision([truth], [answer], ["cell"], count)["AP"] for count in (1, 2, 3, 1000)]
    assert found == pytest.approx([0, 0, 1 / 3, 1 / 3])


def test_a_second_box_on_the_same_object_is_a_miss():
    answer = picture([SQUARE, SQUARE, [100, 0, 140, 40]], [0, 0, 0], [0.9, 0.8, 0.7])
    result = coco_average_precision([picture([SQUARE, [100, 0, 140, 40]], [0, 0])], [answer], ["cell"])
    assert result["AP50"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


def test_no_detections_are_zero_and_no_truth_is_nan():
    truth, nothing = picture([SQUARE], [0]), picture(scores=())
    result = coco_average_precision([truth], [nothing], ["cell", "absent"])
    assert result["AP"] == result["AP50"] == result["AP/cell"] == result["AP_medium"] == 0
    assert all(math.isnan(result[name]) for name in ("AP_small", "AP_large", "AP/absent", "AP50/absent"))

    result = coco_average_precision([picture()], [picture([SQUARE], [0], [0.5])], ["cell"])
    assert all(math.isnan(value) for value in result.values())
    assert all(math.isnan(v) for v in coco_average_precision([picture()], [nothing], ["cell"]).values())


def test_a_picture_without_truth_costs_precision():
    answer = picture([SQUARE], [0], [0.5])
    surer = picture([SQUARE], [0], [0.9])
    assert coco_average_precision([picture([SQUARE], [0])], [answer], ["cell"])["AP"] == pytest.approx(1)
    result = coco_average_precision([picture([SQUARE], [0]), picture()], [answer, surer], ["cell"])
    assert result["AP"] == pytest.approx(0.5)


def test_a_box_without_area_matches_nothing():
    result = coco_average_precision(
        [picture([SQUARE], [0])], [picture([[5, 5, 5, 5], SQUARE], [0, 0], [0.9, 0.8])], ["cell"]
    )
    assert result["AP"] == pytest.approx(0.5)


def rectangle(box, shape=0):
    """The pixels of a box: all of it (0), or the part above (1) or below (2) its diagonal."""
    x1, y1, x2, y2 = box
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    u, v = (x - x1) / (x2 - x1), (y - y1) / (y2 - y1)
    inside = (u > 0) & (u < 1) & (v > 0) & (v < 1)
    return inside & (True, u >= v, u < v)[shape]


def test_masks_count_for_themselves():
    # The same two boxes, in each the other half: the boxes are all found, of the masks none.
    boxes = [SQUARE, [60, 60, 120, 120]]
    upper, lower = (np.stack([rectangle(box, shape) for box in boxes]) for shape in (1, 2))
    truth = picture(boxes, [0, 0], pixels=upper)
    result = coco_average_precision([truth], [picture(boxes, [0, 0], [0.9, 0.8], pixels=lower)], ["cell"])
    names = ("AP", "AP50", "AP75", "AP/cell", "AP50/cell", "AP75/cell", "AP_medium")
    assert {name: result[name] for name in names} == pytest.approx(dict.fromkeys(names, 1.0))
    assert {name: result[f"mask_{name}"] for name in names} == dict.fromkeys(names, 0.0)
    result = coco_average_precision([truth], [picture(boxes, [0, 0], [0.9, 0.8], pixels=upper)], ["cell"])
    assert {name: result[f"mask_{name}"] for name in names} == pytest.approx(dict.fromkeys(names, 1.0))
    assert len(result) == 18


def test_there_are_no_figures_of_masks_where_one_side_has_none():
    full = np.stack([rectangle(SQUARE)])
    sides = ({}, {"pixels": full}), ({"pixels": full}, {})
    for of_truth, of_answer in sides:
        truth, answer = picture([SQUARE], [0], **of_truth), picture([SQUARE], [0], [0.9], **of_answer)
        result = coco_average_precision([truth], [answer], ["cell"])
        assert result["AP"] == pytest.approx(1)
        assert not any(name.startswith("mask_") for name in result)


def test_masks_of_pictures_with_nothing_in_them():
    none = np.zeros([0, SIDE, SIDE], bool)
    result = coco_average_precision([picture(pixels=none)], [picture(scores=(), pixels=none)], ["cell"])
    assert len(result) == 18
    assert all(math.isnan(value) for value in result.values())
    truth = picture([SQUARE], [0], pixels=np.stack([rectangle(SQUARE)]))
    nothing = coco_average_precision([truth], [picture(scores=(), pixels=none)], ["cell"])
    assert nothing["mask_AP"] == 0
    empty = picture([SQUARE], [0], [0.9], pixels=np.zeros([1, SIDE, SIDE], bool))  # a mask without a pixel
    assert coco_average_precision([truth], [empty], ["cell"])["mask_AP"] == 0


def test_the_size_of_an_object_is_what_it_is_told_to_be():
    # Half of a box of 40 x 40 is 820 pixels: small, though the box is not.
    truth = picture([SQUARE], [0], pixels=np.stack([rectangle(SQUARE, 1)]))
    result = coco_average_precision([truth], [truth | {"scores": np.array([0.9])}], ["cell"])
    told = [name for name in result if "_AP_" in f"_{name}" and not math.isnan(result[name])]
    assert told == ["AP_medium", "mask_AP_small"]
    truth["areas"] = np.array([9300.0])
    result = coco_average_precision([truth], [truth | {"scores": np.array([0.9])}], ["cell"])
    told = [name for name in result if "_AP_" in f"_{name}" and not math.isnan(result[name])]
    assert told == ["AP_large", "mask_AP_large"]


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong():
    # One object, and a crowd of 100 x 100. The surest answer lies in the crowd, the next half in it.
    crowd, answers = [20, 0, 120, 100], [[100, 0, 120, 40], [0, 80, 40, 100], SQUARE]
    truth = picture([[0, 0, 40, 40], crowd], [0, 0], crowd=[False, True])
    result = coco_average_precision([truth], [picture(answers, [0, 0, 0], [0.9, 0.8, 0.7])], ["cell"])
    assert result["AP50"] == pytest.approx(1)  # half is enough at 0.50, and at no other threshold
    assert result["AP75"] == pytest.approx(0.5)
    assert result["AP"] == pytest.approx((1 + 9 * 0.5) / 10)
    counted = coco_average_precision(
        [picture(truth["boxes"], [0, 0])], [picture(answers, [0, 0, 0], [0.9, 0.8, 0.7])], ["cell"]
    )
    assert counted["AP50"] == pytest.approx(51 * (1 / 3) / 101)  # two misses, one hit, one not found


def test_a_crowd_takes_any_number_of_answers_and_none_of_another_class():
    crowd = [0, 50, 120, 120]
    truth = picture([SQUARE, SQUARE, crowd], [0, 1, 0], crowd=[False, False, True])
    within = [[x, 60, x + 10, 90] for x in range(0, 100, 10)]
    for label, expected in ((0, 1.0), (1, 1 / 11)):
        answer = picture([*within, SQUARE, SQUARE], [label] * 10 + [0, 1], [0.9] * 10 + [0.5, 0.5])
        result = coco_average_precision([truth], [answer], ["red", "blue"])
        assert result[f"AP/{('red', 'blue')[label]}"] == pytest.approx(expected)


def test_a_class_of_crowds_alone_has_nothing_to_find():
    truth = picture([SQUARE, SQUARE], [0, 1], crowd=[True, False])
    result = coco_average_precision([truth], [picture([SQUARE], [1], [0.9])], ["red", "blue"])
    assert math.isnan(result["AP/red"])
    assert result["AP"] == result["AP/blue"] == pytest.approx(1)


def test_three_hundred_detections_of_a_picture():
    boxes = [[x, y, x + 6, y + 6] for x in range(0, 128, 8) for y in range(0, 128, 8)][:250]
    pixels = np.stack([rectangle(box) for box in boxes])
    truth = picture(boxes, [0] * 250, pixels=pixels)
    answer = truth | {"scores": np.linspace(1, 0.1, 250)}
    result = coco_average_precision([truth], [answer], ["cell"])
    assert result["AP"] == result["mask_AP"] == pytest.approx(41 / 101)  # 100 of 250: recalls up to 0.40
    result = coco_average_precision([truth], [answer], ["cell"], max_detections=300)
    assert result["AP"] == result["mask_AP"] == pytest.approx(1)


coordinates = st.integers(0, 60)
sides = st.integers(1, 60)
objects = st.tuples(coordinates, coordinates, sides, sides, st.integers(0, 2))


@st.composite
def scenes(draw, masks=False):
    """Truths and detections of up to four pictures: true boxes moved a little, and some from nowhere.

    With masks, each is a half of its box or the whole, and some of the truth are crowds.
    """
    truths, detections = [], []

    def one(objects, scores=None):
        boxes = [[x, y, x + w, y + h] for x, y, w, h, _ in objects]
        options = {}
        if masks:
            shapes = [rectangle(box, draw(st.integers(0, 2))) for box in boxes]
            options["pixels"] = np.array(shapes, bool).reshape(-1, SIDE, SIDE)
            if scores is None:
                options["crowd"] = [draw(st.integers(0, 3)) == 0 for _ in boxes]
        return picture(boxes, [o[-1] for o in objects], scores, **options)

    for _ in range(draw(st.integers(1, 4))):
        true = draw(st.lists(objects, max_size=4))
        found = draw(st.lists(objects, max_size=3))
        for x, y, w, h, label in true:
            if draw(st.booleans()):
                found.append((x + draw(st.integers(-5, 5)), y, w, h + draw(st.integers(0, 9)), label))
        truths.append(one(true))
        detections.append(one(found, []))
    total = sum(len(d["classes"]) for d in detections)
    scores = draw(st.permutations([(rank + 1) / (total + 1) for rank in range(total)]))  # no two alike
    for detection in detections:
        count = len(detection["classes"])
        detection["scores"], scores = np.array(scores[:count]), scores[count:]
    return truths, detections


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_agrees_with_the_definition(scene):
    truths, detections = scene
    result = coco_average_precision(truths, detections, "abc")
    at_50 = []
    for label, name in enumerate("abc"):
        if not any((truth["classes"] == label).any() for truth in truths):
            assert math.isnan(result[f"AP/{name}"])
            continue
        plain = [plain_average_precision(truths, detections, label, 0.5 + 0.05 * step) for step in range(10)]
        assert result[f"AP50/{name}"] == pytest.approx(plain[0], abs=1e-9)
        assert result[f"AP75/{name}"] == pytest.approx(plain[5], abs=1e-9)
        assert result[f"AP/{name}"] == pytest.approx(np.mean(plain), abs=1e-9)
        assert 0 <= result[f"AP/{name}"] <= 1
        at_50.append(plain[0])
    assert result["AP50"] == pytest.approx(np.mean(at_50) if at_50 else math.nan, abs=1e-9, nan_ok=True)


@settings(max_examples=40)
@given(scenes(masks=True))
def test_masks_and_crowds_agree_with_the_definition(scene):
    truths, detections = scene
    result = coco_average_precision(truths, detections, "abc")
    for prefix, key in (("", "boxes"), ("mask_", "pixels")):
        for label, name in enumerate("abc"):
            if not any(((truth["classes"] == label) & ~truth["crowd"]).any() for truth in truths):
                assert math.isnan(result[f"{prefix}AP/{name}"])
                continue
            for at, threshold in (("50", 0.5), ("75", 0.75)):
                plain = plain_average_precision(truths, detections, label, threshold, key)
                assert result[f"{prefix}AP{at}/{name}"] == pytest.approx(plain, abs=1e-9)


def test_pycocotools_says_the_same(capsys):
    coco_module = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(3)
    truths, detections, areas = [], [], rng.uniform(10, 12000, [40, 6])
    for index in range(40):
        boxes = rng.integers(0, 60, [6, 4]) + np.array([0, 0, 61, 61])
        moved = np.clip(boxes + rng.integers(-8, 9, [6, 4]), 0, SIDE)
        labels, shapes = rng.integers(0, 2, 6), rng.integers(0, 3, 6)
        pixels, found = (
            np.stack([rectangle(box, shape) for box, shape in zip(b, shapes, strict=True)])
            for b in (boxes, moved)
        )
        crowd = rng.uniform(size=6) < 0.2
        truths.append(picture(boxes, labels, crowd=crowd, pixels=pixels) | {"areas": areas[index]})
        detections.append(picture(moved, labels, rng.uniform(size=6), pixels=found))
    result = coco_average_precision(truths, detections, ["a", "b"], max_detections=5)

    def entries(pictures, *keys):
        for index, of in enumerate(pictures):
            for row, (x1, y1, x2, y2) in enumerate(of["boxes"].tolist()):
                entry = {"image_id": index, "category_id": int(of["classes"][row])}
                entry |= {"segmentation": of["masks"][row], "bbox": [x1, y1, x2 - x1, y2 - y1]}
                if "scores" in of:
                    entry["score"] = float(of["scores"][row])
                else:
                    entry |= {"iscrowd": int(of["crowd"][row]), "area": of["areas"][row]}
                yield {key: value for key, value in entry.items() if key in keys or key in ALWAYS}

    ALWAYS = ("image_id", "category_id", "segmentation", "iscrowd", "area", "score")
    true = coco_module.COCO()
    true.dataset = {
        "images": [{"id": index, "height": SIDE, "width": SIDE} for index in range(40)],
        "categories": [{"id": 0}, {"id": 1}],
        "annotations": [entry | {"id": 1 + k} for k, entry in enumerate(entries(truths, "bbox"))],
    }
    true.createIndex()
    for prefix, kind, keys in (("", "bbox", ("bbox",)), ("mask_", "segm", ())):
        found = true.loadRes(list(entries(detections, *keys)))  # without a box, its area is the mask's
        evaluation = COCOeval(true, found, kind)
        evaluation.params.maxDets = [1, 2, 5]
        evaluation.evaluate()
        evaluation.accumulate()
        precision = evaluation.eval["precision"][..., 2]  # [10, 101, K, 4], -1 where there is no truth
        for name, part in (
            ("AP", precision[..., 0]),
            ("AP50", precision[0, ..., 0]),
            ("AP75", precision[5, ..., 0]),
            ("AP_small", precision[..., 1]),
            ("AP_medium", precision[..., 2]),
            ("AP_large", precision[..., 3]),
            ("AP/b", precision[:, :, 1, 0]),
        ):
            assert 0 < result[prefix + name] == pytest.approx(part[part > -1].mean(), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(scenes(), st.randoms())
def test_order_of_pictures_and_of_detections_is_nothing(scene, random):
    truths, detections = scene
    before = coco_average_precision(truths, detections, "abc")
    shuffled = []
    for detection in detections:
        order = np.array(random.sample(range(len(detection["scores"])), len(detection["scores"])), int)
        shuffled.append({name: values[order] for name, values in detection.items()})
    pairs = list(zip(truths, shuffled, strict=True))
    random.shuffle(pairs)
    after = coco_average_precision([t for t, _ in pairs], [d for _, d in pairs], "abc")
    assert after == pytest.approx(before, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("truths", "detections", "message"),
    [
        ([], [], "no picture"),
        ([picture()], [], "1 pictures in truths, but 0"),
        (
            [picture([SQUARE], [2])],
            [picture(scores=())],
            r"truths\[0\] has class 2; the 2 classes given are 0 to 1",
        ),
        ([picture()], [picture([SQUARE], [-1], [0.5])], r"detections\[0\] has class -1"),
        ([picture()], [picture([SQUARE], [0], [0.5, 0.4])], "1 boxes, 1 classes and 2 scores"),
        (
            [picture([SQUARE], [0])],
            [picture([[0, 0, np.nan, 9]], [0], [0.5])],
            r"detections\[0\].*not finite",
        ),
        ([picture([SQUARE], [0])], [picture([SQUARE], [0], [np.nan])], "not finite"),
        ([picture([SQUARE], [0], crowd=[])], [picture(scores=())], r"truths\[0\] has 1 boxes and 0 crowd"),
        ([picture([SQUARE], [0]) | {"areas": [1, 2]}], [picture(scores=())], "1 boxes and 2 areas"),
        ([picture() | {"masks": []}], [picture([SQUARE], [0], [0.5]) | {"masks": []}], "1 boxes and 0 masks"),
        (
            [picture([SQUARE], [0]) | {"masks": encode(np.ones([1, 40, 50], bool))}],
            [picture([SQUARE], [0], [0.5]) | {"masks": encode(np.ones([1, 50, 40], bool))}],
            r"picture \[0\] has masks of 2 sizes, \[\(40, 50\), \(50, 40\)\]",
        ),
    ],
)
def test_bad_arrays_are_named(truths, detections, message):
    with pytest.raises(ValueError, match=message):
        coco_average_precision(truths, detections, ["red", "blue"])


def test_max_detections_below_one():
    with pytest.raises(ValueError, match="max_detections is 0"):
        coco_average_precision([picture()], [picture(scores=())], ["cell"], 0)


def test_nan_becomes_null():
    assert json.dumps(nan_to_none({"AP": 0.5, "AP_small": math.nan}), allow_nan=False) == (
        '{"AP": 0.5, "AP_small": null}'
    )


def test_nothing_is_printed(capfd):
    coco_average_precision([picture([SQUARE], [0])], [picture([SQUARE], [0], [0.5])], ["cell"])
    assert capfd.readouterr() == ("", "")


def test_the_arithmetic_needs_no_tensorflow():
    code = "import sys, kzoo.evaluation; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
