import math
import re

import numpy as np
import pytest

from kzoo.checks import (
    check_boolean,
    check_choice,
    check_directory,
    check_input_shape,
    check_integer,
    check_known_size,
    check_normalization,
    check_number,
    check_numbers,
    listed,
)


def test_known_value_passes():
    assert check_choice("backbone", "small", ["small", "resnet18"]) is None


def test_known_may_be_an_iterator():
    with pytest.raises(ValueError, match='Known: "a", "b"'):
        check_choice("letter", "zzz", iter(["a", "b"]))


def test_unknown_value_offers_nearest_and_lists_known():
    with pytest.raises(ValueError) as error:
        check_choice("backbone", "resnet5", ["small", "resnet34", "resnet50"])
    assert str(error.value) == (
        'backbone="resnet5": unknown. Nearest: "resnet50", "resnet34". '
        'Known: "small", "resnet34", "resnet50".'
    )


def test_other_case_is_near():
    with pytest.raises(ValueError, match='Nearest: "RetinaNet"'):
        check_choice("model", "RETINANET", ["RetinaNet"])


@pytest.mark.parametrize("value", [None, 3, ["small"], b"small"])
def test_anything_but_a_string_is_unknown(value):
    with pytest.raises(ValueError, match="backbone=.*: unknown. Known:"):
        check_choice("backbone", value, ["small"])


def test_nothing_known():
    with pytest.raises(ValueError, match="Known: none"):
        check_choice("model", "unet", [])


@pytest.mark.parametrize("value", [1, 3, np.int64(1)])
def test_integers_that_are_right(value):
    check_integer("depth", value, least=1)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, True])
def test_integers_that_are_not(value):
    with pytest.raises(ValueError, match=rf"^depth={value!r}: a whole number of at least 1 is expected"):
        check_integer("depth", value, least=1)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.25)])
def test_numbers_that_are_right(value):
    check_number("threshold", value, least=0, most=1)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "0.5", None, True, [0.5]])
def test_numbers_that_are_not(value):
    with pytest.raises(ValueError, match="^threshold=.*: a number from 0 to 1 is expected"):
        check_number("threshold", value, least=0, most=1)


@pytest.mark.parametrize("value", [-1, math.inf, math.nan])
def test_numbers_without_an_upper_end(value):
    with pytest.raises(ValueError, match=f"^gamma={value}: a number of at least 0 is expected"):
        check_number("gamma", value, least=0)


@pytest.mark.parametrize("values", [(1,), [1.5, 2, 3]])
def test_lists_of_numbers_that_are_right(values):
    check_numbers("sizes", values, most=3)


@pytest.mark.parametrize("values", [(), [], 32, "32", None, (1, 2, 3, 4)])
def test_lists_of_numbers_of_a_wrong_length_or_none(values):
    with pytest.raises(ValueError, match=r"^sizes=.*: a list of 1 to 3 numbers is expected"):
        check_numbers("sizes", values, most=3)
    if not values:
        with pytest.raises(ValueError, match=r"^sizes=.*: a list of one or more numbers is expected"):
            check_numbers("sizes", values)


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf, "8", None])
def test_lists_with_something_that_is_no_positive_number(wrong):
    with pytest.raises(ValueError, match=rf"^sizes=.*: {wrong!r} is in it, but positive numbers"):
        check_numbers("sizes", [8, wrong])


@pytest.mark.parametrize("shape", [(64, 64, 3), [64, 100, 3], (None, None, 3), (None, 64, 3)])
def test_input_shapes_that_are_right(shape):
    check_input_shape(shape, stride=64)


@pytest.mark.parametrize(
    "shape",
    [(64, 64), (64, 64, 1), (64.0, 64, 3), ("64", 64, 3), 64, "abc", None, (64, 64, None), (1, 64, 64, 3)],
)
def test_input_shapes_that_are_none(shape):
    with pytest.raises(ValueError, match=r"^input_shape=.*\(height, width, 3\) is expected.*\(64, 64, 3\)"):
        check_input_shape(shape, stride=64)


@pytest.mark.parametrize("shape", [(63, 64, 3), (640, 1, 3), (None, 63, 3), (0, 64, 3), (-64, 64, 3)])
def test_input_shapes_that_are_too_small(shape):
    with pytest.raises(ValueError, match=r"^input_shape=.*too small.*the least is \(64, 64, 3\)") as error:
        check_input_shape(shape, stride=64)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("shape", [(None, 64, 3), (64, None, 3), [None, None, 3]])
def test_sizes_that_are_to_be_known(shape):
    check_known_size((64, 48, 3), "unet")
    told = rf"^input_shape={re.escape(str(tuple(shape)))}: unet needs to know height and width.*image_size="
    with pytest.raises(ValueError, match=told):
        check_known_size(shape, "unet")


@pytest.mark.parametrize("value", [True, False])
def test_booleans(value):
    check_boolean("transform", value)


@pytest.mark.parametrize("value", ["no", "True", 0, 1, None, np.bool_(True)])
def test_what_only_counts_as_true_or_false(value):
    with pytest.raises(ValueError, match=rf"^transform={re.escape(repr(value))}: True or False is expected"):
        check_boolean("transform", value)


def test_normalizations():
    check_normalization(None)
    check_normalization("batch")
    with pytest.raises(ValueError, match="^normalization='group': None or \"batch\" is expected"):
        check_normalization("group")


def test_directories_and_what_can_become_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, tmp_path / "new", tmp_path / "new" / "newer", type(tmp_path)("relative")):
        check_directory(path)
    assert list(tmp_path.iterdir()) == []  # nothing is made


@pytest.mark.parametrize("name", ["file", "file/new", "file/new/newer"])
def test_files_and_what_lies_in_them(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"output='.*': '.*file' is a file; give the path of a folder"):
        check_directory(tmp_path / name, "output")


def test_names_are_listed():
    assert listed([]) == listed({}, 3) == "none"
    assert listed(["a"], 1) == "a" and listed([1, 2, 3]) == "1, 2, 3"
    assert listed("abcd", 2) == "a, b and 2 more"
    assert listed(iter("abc"), 3) == "a, b, c"
