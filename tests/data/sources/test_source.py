import pytest

from kzoo.data.faults import DataError
from kzoo.data.sources import Info
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
