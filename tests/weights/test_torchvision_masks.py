import numpy as np
import pytest

from kzoo.data.masks import paste
from kzoo.weights.torchvision_masks import frame_as_torchvision, framing_as_torchvision

RNG = np.random.default_rng(0)


def pasted_by_hand(mask, box, size):
    """torchvision's steps one by one: pad, enlarge, cut to whole numbers, resize, cut to the picture."""
    samples = mask.shape[0]
    padded = np.zeros([samples + 2, samples + 2])
    padded[1:-1, 1:-1] = mask
    x1, y1, x2, y2 = (float(side) for side in box)
    enlarged = (samples + 2) / samples
    left = int((x1 + x2) / 2 - (x2 - x1) / 2 * enlarged)
    right = int((x1 + x2) / 2 + (x2 - x1) / 2 * enlarged)
    top = int((y1 + y2) / 2 - (y2 - y1) / 2 * enlarged)
    low = int((y1 + y2) / 2 + (y2 - y1) / 2 * enlarged)
    width, height = max(right - left + 1, 1), max(low - top + 1, 1)
    result = np.zeros(size, bool)
    for row in range(height):
        for column in range(width):
            y, x = top + row, left + column
            if not (0 <= y < size[0] and 0 <= x < size[1]):
                continue
            v = min(max((row + 0.5) * (samples + 2) / height - 0.5, 0), samples + 1)
            u = min(max((column + 0.5) * (samples + 2) / width - 0.5, 0), samples + 1)
            v0, u0 = int(v), int(u)
            v1, u1 = min(v0 + 1, samples + 1), min(u0 + 1, samples + 1)
            above = padded[v0, u0] * (1 - (u - u0)) + padded[v0, u1] * (u - u0)
            below = padded[v1, u0] * (1 - (u - u0)) + padded[v1, u1] * (u - u0)
            result[y, x] = above * (1 - (v - v0)) + below * (v - v0) > 0.5
    return result


@pytest.mark.parametrize(
    "box",
    [
        (3.2, 4.7, 20.9, 11.1),
        (-5.5, -0.3, 8.25, 30.6),  # beyond the first corner
        (25.3, 14.2, 60.8, 45.4),  # beyond the last one
        (7.4, 7.3, 7.6, 7.5),  # less than a pixel
        (-40.2, 3.3, -20.1, 9.9),  # outside
    ],
)
def test_as_torchvision_does_it(box):
    mask = RNG.random([28, 28])
    found = paste(*frame_as_torchvision(mask, np.float32(box)), (24, 40))
    np.testing.assert_array_equal(found, pasted_by_hand(mask, box, (24, 40)))


def test_it_is_about_a_pixel_larger_than_where_the_box_is():
    box = (10.3, 10.3, 30.3, 30.3)
    ours = paste(np.ones([28, 28]), box, (50, 50))
    theirs = paste(*frame_as_torchvision(np.ones([28, 28]), np.float32(box)), (50, 50))
    assert ours.sum() == 20 * 20 and 20 * 20 < theirs.sum() <= 22 * 22


def test_answers_with_their_frames():
    masks = RNG.random([2, 3, 14, 14]).astype(np.float32)
    boxes = np.float32([[[2, 2, 10, 9], [1, 3, 12, 15], [0, 0, 0, 0]], [[0] * 4] * 3])
    answers = {"masks": masks, "boxes": boxes, "scores": np.ones([2, 3])}
    found = framing_as_torchvision(lambda images: answers)(np.zeros([2, 16, 20, 3], np.uint8))
    for place in (0, 1):
        expected = pasted_by_hand(masks[0, place], boxes[0, place], (16, 20))
        pasted = paste(found["masks"][0, place], found["mask_boxes"][0, place], (16, 20))
        np.testing.assert_array_equal(pasted, expected)
    assert found["scores"] is answers["scores"] and found["boxes"] is boxes and answers["masks"] is masks
