import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kzoo.data.class_names import check_classes, found_classes
from kzoo.data.faults import DataError


def test_names_are_checked():
    assert check_classes(["cat", "dog"], "classes") == ("cat", "dog")
    with pytest.raises(DataError, match="classes must name each class once, but it repeats 'a', 'b'"):
        check_classes(["b", "a", "c", "a", "b"], "classes")


def test_many_names_are_checked_at_once():
    begun = time.perf_counter()
    check_classes([f"class {number}" for number in range(50_000)], "classes")
    assert time.perf_counter() - begun < 2  # each with each would take minutes


@pytest.mark.parametrize(
    ("found", "classes"),
    [
        ("dog cat cat bird bird", ("bird", "cat", "dog")),
        ("7 7 7 10 0 2 2", ("0", "2", "7", "10")),  # numbers are not called by how often they occur
        ("7 7 x 0", ("7", "0", "x")),
        ("1_0 2 2", ("2", "1_0")),
    ],
)
def test_classes_that_no_list_tells(found, classes):
    assert found_classes(found.split()) == classes


@given(st.lists(st.text("0123456789", min_size=1), min_size=1))
def test_whole_numbers_are_in_their_order(found):
    assert list(map(int, found_classes(found))) == sorted(map(int, set(found)))


def test_numbers_of_any_length():
    assert found_classes(["1" * 5000, "2"]) == ("2", "1" * 5000)
