import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.evaluation import coco_average_precision, evaluate_detection, nan_to_none

SQUARE = [0, 0, 40, 40]


def picture(boxes=(), classes=(), scores=None):
    arrays = {"boxes": np.reshape(np.array(boxes, float), (-1, 4)), "classes": np.array(classes, int)}
    return arrays if scores is None else arrays | {"scores": np.array(scores, float)}


def iou(a, b):
    overlap = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return overlap / (sum(areas) - overlap) if overlap else 0.0


def plain_average_precision(truths, detections, label, threshold):
    """101-point interpolated AP of one class at one IoU threshold, as the definition reads."""
    free = [
        [box for box, c in zip(t["boxes"], t["classes"], strict=True) if c == label] for t in truths
    ]  # true boxes that nothing matched yet
    total = sum(len(boxes) for boxes in free)
    ranked = [
        (score, index, box)
        for index, d in enumerate(detections)
        for box, c, score in zip(d["boxes"], d["classes"], d["scores"], strict=True)
        if c == label
    ]
    ranked.sort(key=lambda entry: -entry[0])
    points, hits = [], 0
    for rank, (_, index, box) in enumerate(ranked, start=1):
        overlaps = [iou(box, true) for true in free[index]]
        if overlaps and max(overlaps) >= threshold:
            free[index].pop(
                max(range(len(overlaps)), key=lambda k: (overlaps[k], k))
            )  # COCO: the last of equals
            hits += 1
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


coordinates = st.integers(0, 60)
sides = st.integers(1, 60)
objects = st.tuples(coordinates, coordinates, sides, sides, st.integers(0, 2))


@st.composite
def scenes(draw):
    """Truths and detections of up to four pictures: true boxes moved a little, and some from nowhere."""
    truths, detections = [], []
    for _ in range(draw(st.integers(1, 4))):
        true = draw(st.lists(objects, max_size=4))
        found = draw(st.lists(objects, max_size=3))
        for x, y, w, h, label in true:
            if draw(st.booleans()):
                found.append((x + draw(st.integers(-5, 5)), y, w, h + draw(st.integers(0, 9)), label))
        truths.append(picture([[x, y, x + w, y + h] for x, y, w, h, _ in true], [o[-1] for o in true]))
        detections.append(
            picture([[x, y, x + w, y + h] for x, y, w, h, _ in found], [o[-1] for o in found], [])
        )
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
    ],
)
def test_bad_arrays_are_named(truths, detections, message):
    with pytest.raises(ValueError, match=message):
        coco_average_precision(truths, detections, ["red", "blue"])


def test_max_detections_below_one():
    with pytest.raises(ValueError, match="max_detections is 0"):
        coco_average_precision([picture()], [picture(scores=())], ["cell"], 0)


def batch_of(boxes, classes, scale, original_size):
    """A batch as kzoo.data.load gives them; the pixels hold the index of the picture."""
    count = len(boxes)
    images = np.zeros((count, 64, 64, 3), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    return {
        "images": images,
        "boxes": np.array(boxes, np.float32),
        "classes": np.array(classes, np.int32),
        "scale": np.array(scale, np.float32),
        "original_size": np.array(original_size, np.int32),
        "image_id": np.arange(count),
    }


def perfect(batch):
    """Answers that are the truth of a batch, with the slots that are no objects at the end."""
    real = batch["classes"] >= 0
    return {
        "boxes": batch["boxes"],
        "scores": np.where(real, 0.9, 0).astype(np.float32),
        "classes": batch["classes"],
        "num_detections": real.sum(axis=1).astype(np.int32),
    }


def test_areas_are_those_of_the_pictures_own_pixels():
    # The same 30 x 30 box is 30², 60² and 120 x 100 pixels of three pictures.
    batch = batch_of(
        [[[0, 0, 30, 30], [0, 0, 0, 0]]] * 3,
        [[0, -1]] * 3,
        scale=[(1, 1), (0.5, 0.5), (0.3, 0.25)],
        original_size=[(64, 64), (128, 128), (213, 256)],
    )
    answers = perfect(batch)
    nowhere = np.array([40, 40, 50, 50], np.float32)

    def missing(index):
        boxes = answers["boxes"].copy()
        boxes[index, 0] = nowhere
        result = evaluate_detection(lambda images: answers | {"boxes": boxes}, [batch], ["cell"])
        return [round(result[f"AP_{size}"], 3) for size in ("small", "medium", "large")]

    assert evaluate_detection(lambda images: answers, [batch], ["cell"])["AP"] == pytest.approx(1)
    assert missing(0) == [0, 1, 1]
    assert missing(1)[1] == 0
    assert missing(2)[2] == 0


def test_answers_are_clipped_to_the_picture():
    # The object touches the lower edge of a picture that fills half of the square it was padded to.
    batch = batch_of([[[0, 0, 64, 32]]], [[0]], [(0.5, 0.5)], [(64, 128)])
    answers = perfect(batch) | {"boxes": np.array([[[0, 0, 64, 64]]], np.float32)}  # reaches into the padding
    assert evaluate_detection(lambda images: answers, [batch], ["cell"])["AP"] == pytest.approx(1)


def test_batches_of_different_sizes_and_slots_past_num_detections():
    first = batch_of([[[0, 0, 30, 30]], [[5, 5, 60, 60]]], [[0], [1]], [(1, 1)] * 2, [(64, 64)] * 2)
    last = batch_of([[[0, 0, 0, 0]]], [[-1]], [(1, 1)], [(64, 64)])
    answers = {2: perfect(first), 1: perfect(last)}
    seen = []

    def predict(images):
        seen.append(images.shape)
        return answers[len(images)]

    result = evaluate_detection(predict, [first, last], ["red", "blue"])
    assert result["AP"] == pytest.approx(1)
    assert seen == [(2, 64, 64, 3), (1, 64, 64, 3)]

    # A model that leaves something in its empty slots is not judged by it.
    answers[1] = answers[1] | {"scores": np.array([[1.0]]), "classes": np.array([[0]])}
    assert evaluate_detection(predict, [first, last], ["red", "blue"])["AP"] == pytest.approx(1)


def test_faults_of_the_loop_are_named():
    batch = batch_of([[[0, 0, 30, 30]]] * 2, [[0]] * 2, [(1, 1)] * 2, [(64, 64)] * 2)
    answers = perfect(batch)
    with pytest.raises(ValueError, match="dataset is empty"):
        evaluate_detection(lambda images: answers, [], ["cell"])
    with pytest.raises(ValueError, match=r"answer of predict lacks \['boxes'.*it has \['probabilities'\]"):
        evaluate_detection(lambda images: {"probabilities": images}, [batch], ["cell"])
    with pytest.raises(ValueError, match=r"batch of the dataset lacks \['scale'\]"):
        stripped = {key: value for key, value in batch.items() if key != "scale"}
        evaluate_detection(lambda images: answers, [stripped], ["cell"])
    with pytest.raises(ValueError, match="answered for 1 pictures when it was given 2"):
        evaluate_detection(lambda images: {k: v[:1] for k, v in answers.items()}, [batch], ["cell"])


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
