import numpy as np
import pytest

from kzoo.data.faults import DataError
from kzoo.data.sources import Info, Split
from kzoo.data.sources.source import check_name, check_split


def test_an_empty_split():
    with pytest.raises(
        DataError, match=r'voc:x: split="val" is empty; .* train \(3 pictures\), val \(0 pictures\)'
    ):
        check_split(Info("voc:x", ("a",), {"train": 3, "val": 0}, ("detection",)), "val")


@pytest.mark.parametrize(("kind", "expected"), [((), "annotation"), (("unknown_class",), "unknown_class")])
def test_whose_name_is_unknown_tells_what_kind_of_fault_it_is(kind, expected):
    with pytest.raises(DataError, match='here: class="dgo": unknown. Nearest: "dog"') as raised:
        check_name("here", "class", "dgo", ["dog"], *kind)
    assert raised.value.kind == expected


def test_a_digest_tells_pictures_apart(tmp_path):
    def split(**changes):
        usual = {
            "names": ("a/1.png", "a/2.png"),
            "sizes": ((4, 5), (6, 7)),
            "classes": (np.array([0, 1]), np.array([1])),
            "boxes": (np.zeros([2, 4], np.float32), np.ones([1, 4], np.float32)),
        }
        return Split(name="train", read=None, **usual | changes)

    digest = split().digest()
    assert split(names=("b/1.png", "c/2.png")).digest() == digest  # the same pictures elsewhere
    others = [
        split(names=("a/2.png", "a/1.png")),
        split(sizes=((4, 5), (7, 6))),
        split(classes=(np.array([0]), np.array([1, 1]))),
        split(classes=(np.array([1, 0]), np.array([1]))),
        split(boxes=(np.zeros([2, 4], np.float32), np.zeros([1, 4], np.float32))),
        split(boxes=None),
    ]
    assert len({other.digest() for other in others} | {digest}) == 7
