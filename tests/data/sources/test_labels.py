import numpy as np
import pytest

from kzoo.classes import CROWD
from kzoo.data.masks import encode
from kzoo.data.sources.labels import labels_of_masks

# Columns 0-1, 1-2 and all of a picture of 2 x 4.
LEFT, MIDDLE, ALL = [[1, 1, 0, 0]] * 2, [[0, 1, 1, 0]] * 2, [[1, 1, 1, 1]] * 2


@pytest.mark.parametrize(
    ("masks", "classes", "row"),
    [
        ([], [], [0, 0, 0, 0]),
        ([LEFT], [0], [1, 1, 0, 0]),
        ([LEFT, MIDDLE], [4, 2], [5, 3, 3, 0]),
        ([MIDDLE, LEFT], [2, 4], [5, 5, 3, 0]),
        ([ALL], [CROWD], [-1, -1, -1, -1]),
        ([MIDDLE, ALL], [300, CROWD], [-1, 301, 301, -1]),
    ],
)
def test_later_objects_cover_earlier_ones_and_all_cover_crowds(masks, classes, row):
    masks = np.array(masks, np.uint8).reshape(-1, 2, 4)
    labels = labels_of_masks(encode(masks), np.array(classes, np.int32), (2, 4))
    assert labels.dtype == np.int16
    np.testing.assert_array_equal(labels, [row] * 2)


def test_as_many_classes_as_masks():
    with pytest.raises(ValueError, match="zip"):
        labels_of_masks(encode(np.ones((1, 2, 4))), np.array([0, 1]), (2, 4))
