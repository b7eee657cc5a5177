import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.layers import region_detections
from kzoo.layers.region_detections import RegionDetections

HEIGHT, WIDTH = 60, 90
IMAGES = np.zeros([2, HEIGHT, WIDTH, 3], np.uint8)


def plain_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    return intersection / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection)


def plain_decode(d, r):
    """With torchvision's weights of 10, 10, 5 and 5, clipped to the picture."""
    (w, h), (x, y) = (r[2] - r[0], r[3] - r[1]), ((r[0] + r[2]) / 2, (r[1] + r[3]) / 2)
    x, y = x + d[0] / 10 * w, y + d[1] / 10 * h
    w, h = (side * math.exp(min(log / 5, math.log(1000 / 16))) for side, log in ((w, d[2]), (h, d[3])))
    box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    return [min(max(v, 0.0), limit) for v, limit in zip(box, [WIDTH, HEIGHT] * 2, strict=True)]


def plain_detections(logits, deltas, regions, score_threshold=0.05, nms_threshold=0.5, max_detections=100):
    """What torchvision's `postprocess_detections` does for one picture, in plain loops."""
    found = []
    for r, region in enumerate(regions.astype(float)):
        if region[2] <= region[0] or region[3] <= region[1]:
            continue
        odds = np.exp(logits[r].astype(float) - logits[r].max())
        for c, score in enumerate((odds / odds.sum())[1:]):
            box = plain_decode(deltas[r, c].astype(float), region)
            if score > score_threshold and min(box[2] - box[0], box[3] - box[1]) >= 1e-2:
                found.append((score, c, box))
    kept = []
    for score, c, box in sorted(found, key=lambda entry: -entry[0]):
        if all(plain_iou(box, other) <= nms_threshold for _, same, other in kept if same == c):
            kept.append((score, c, box))
    return kept[:max_detections]


def random_inputs(seed, num_classes=3, regions=30, spread=2.0):
    """Heaps of regions, some of them filling up; of two pictures."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform([0, 0], [WIDTH, HEIGHT], [6, 2])[rng.integers(0, 6, [2, regions])]
    half = rng.uniform(5, 15, [2, regions, 2])
    centres = centres + rng.normal(size=half.shape) * 2
    boxes = np.concatenate([centres - half, centres + half], axis=-1)
    boxes = np.clip(boxes, 0, [WIDTH, HEIGHT] * 2)
    boxes[:, -4:] = 0
    logits = rng.normal(size=[2, regions, 1 + num_classes]) * spread
    deltas = rng.normal(size=[2, regions, num_classes, 4]) * [2, 2, 1, 1]
    return tuple(np.float32(values) for values in (logits, deltas, boxes))


def assert_detections(answers, inputs, count, **options):
    for b, picture in enumerate(zip(*inputs, strict=True)):
        expected = plain_detections(*picture, max_detections=count, **options)
        n = len(expected)
        assert answers["num_detections"][b] == n
        for name, part, nothing, shape in (
            ("scores", 0, 0, ()),
            ("classes", 1, -1, ()),
            ("boxes", 2, 0, (4,)),
        ):
            found = np.asarray(answers[name][b])
            assert found.shape == (count, *shape)
            values = np.reshape([entry[part] for entry in expected], (n, *shape))
            np.testing.assert_allclose(found[:n], values, atol=1e-3, err_msg=name)
            np.testing.assert_array_equal(found[n:], nothing, err_msg=name)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_classes", [1, 3, 91])
def test_are_those_of_the_plain_loops(seed, num_classes):
    inputs = random_inputs(seed, num_classes)
    answers = RegionDetections()(*inputs, IMAGES)
    assert_detections(answers, inputs, 100)
    assert answers["classes"].dtype == answers["num_detections"].dtype == tf.int32
    assert (np.asarray(answers["num_detections"]) > 5).all()


@pytest.mark.parametrize("score_threshold", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("nms_threshold", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("max_detections", [1, 8, 120])
def test_options(score_threshold, nms_threshold, max_detections):
    inputs = random_inputs(7)
    answers = RegionDetections(score_threshold, nms_threshold, max_detections)(*inputs, IMAGES)
    assert_detections(
        answers, inputs, max_detections, score_threshold=score_threshold, nms_threshold=nms_threshold
    )


def detect(logits, regions, deltas=None, **options):
    logits, regions = np.float32([logits]), np.float32([regions])
    shape = (*logits.shape[:2], logits.shape[2] - 1, 4)
    deltas = np.zeros(shape, np.float32) if deltas is None else np.float32([deltas])
    answers = RegionDetections(**options)(logits, deltas, regions, IMAGES[:1])
    count = int(answers["num_detections"][0])
    found = (answers[name][0, :count].numpy().tolist() for name in ("classes", "scores", "boxes"))
    return [(c, round(s, 4), [round(v, 3) for v in b]) for c, s, b in zip(*found, strict=True)]


def test_by_hand():
    """A background that is likely, a class that is, and one region that answers for two classes."""
    log = np.log
    logits = log([[0.97, 0.02, 0.01], [0.1, 0.2, 0.7], [0.25, 0.75, 1e-9]])
    regions = [[0, 0, 10, 10], [20, 10, 40, 50], [50, 0, 70, 20]]
    deltas = np.zeros([3, 2, 4])
    deltas[1, 0] = [10, -2.5, 0, 0]  # of class 0: by a width to the right, by a quarter of the height up
    deltas[1, 1] = [0, 0, 5 * log(0.5), 5 * log(1.2)]  # of class 1: half as wide, higher by a fifth
    assert detect(logits, regions, deltas) == [
        (0, 0.75, [50, 0, 70, 20]),
        (1, 0.7, [25, 6, 35, 54]),
        (0, 0.2, [40, 0, 60, 40]),
    ]


def test_classes_do_not_suppress_each_other():
    region = [10, 10, 30, 30]
    likely = np.log([[0.1, 0.5, 0.4], [0.1, 0.3, 0.6]])
    assert detect(likely, [region, region]) == [(1, 0.6, region), (0, 0.5, region)]


def test_regions_that_fill_up_never_answer():
    sure = [[-50.0, 50.0]] * 3
    deltas = np.full([3, 1, 4], 100.0)  # which would make something of nothing
    assert detect(sure, [[0, 0, 0, 0]] * 3, deltas) == []
    assert detect(sure, [[0, 0, 0, 0], [5, 5, 25, 25], [0, 0, 0, 0]]) == [(0, 1.0, [5, 5, 25, 25])]
    assert detect(sure, [[0, 0, 0, 0]] * 3, deltas, score_threshold=0.0) == []


def test_boxes_without_a_pixel_never_answer():
    beyond = [[[100.0, 0, 0, 0]]]  # ten widths to the right
    assert detect([[-50.0, 50.0]], [[50, 10, 60, 20]], beyond) == []
    assert detect([[-50.0, 50.0]], [[50, 10, 60, 20]], [[[0, 0, -1000, 0]]]) == []


def test_huge_deltas_are_clamped():
    assert detect([[-50.0, 50.0]], [[50, 10, 60, 20]], [[[0, 0, 1e30, 1e30]]]) == [
        (0, 1.0, [0, 0, WIDTH, HEIGHT])
    ]


def test_only_the_best_pairs_come_into_question(monkeypatch):
    monkeypatch.setattr(region_detections, "CANDIDATES", 2)
    apart = [[10 * i, 0, 10 * i + 8, 8] for i in range(5)]
    logits = [[0.0, score] for score in (1, 5, 2, 4, 3)]
    assert [box[0] for _, _, box in detect(logits, apart)] == [10, 30]


def test_regions_that_fill_up_take_no_place_of_others(monkeypatch):
    monkeypatch.setattr(region_detections, "CANDIDATES", 1)
    logits = [[-50.0, 50.0], [0.0, 1.0], [-50.0, 50.0]]
    (found,) = detect(logits, [[0, 0, 0, 0], [5, 5, 25, 25], [0, 0, 0, 0]])
    assert found[2] == [5, 5, 25, 25]


def test_no_region_and_no_picture():
    logits, deltas, regions = random_inputs(0)
    answers = RegionDetections(max_detections=7)(logits[:0], deltas[:0], regions[:0], IMAGES[:0])
    assert {name: value.shape.as_list() for name, value in answers.items()} == {
        "boxes": [0, 7, 4],
        "scores": [0, 7],
        "classes": [0, 7],
        "num_detections": [0],
    }


def test_with_targets_the_answers_are_there_and_empty():
    answers = RegionDetections()(*random_inputs(0), IMAGES, np.zeros([2, 3], np.int32))
    assert {name: value.shape.as_list() for name, value in answers.items()} == {
        "boxes": [2, 0, 4],
        "scores": [2, 0],
        "classes": [2, 0],
        "num_detections": [2],
    }
    np.testing.assert_array_equal(answers["num_detections"], [0, 0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_answers_are_decoded_in_float32(dtype):
    logits, deltas, regions = random_inputs(3)
    logits, deltas = tf.cast(logits, dtype), tf.cast(deltas, dtype)
    answers = RegionDetections(dtype=f"mixed_{dtype}")(logits, deltas, regions, IMAGES)
    assert answers["boxes"].dtype == answers["scores"].dtype == tf.float32
    inputs = tf.cast(logits, tf.float32).numpy(), tf.cast(deltas, tf.float32).numpy(), regions
    assert_detections(answers, inputs, 100)


def test_sizes_that_are_known_late():
    layer = RegionDetections(max_detections=20)
    inputs = random_inputs(5)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, 4)),
            tf.TensorSpec((None, None, 3, 4)),
            tf.TensorSpec((None, None, 4)),
            tf.TensorSpec((None, None, None, 3), tf.uint8),
        ]
    )
    def late(*arguments):
        return layer(*arguments)

    assert_detections(late(*map(tf.constant, inputs), tf.constant(IMAGES)), inputs, 20)


def test_configuration():
    layer = RegionDetections.from_config(RegionDetections(0.2, 0.4, 17).get_config())
    assert (layer.score_threshold, layer.nms_threshold, layer.max_detections) == (0.2, 0.4, 17)
    shapes = (None, None, 4), (None, None, 3, 4), (None, None, 4), (None, None, None, 3)
    answers = layer(*map(keras.KerasTensor, shapes))
    assert answers["boxes"].shape == (None, None, 4)
    assert answers["classes"].dtype == "int32"
