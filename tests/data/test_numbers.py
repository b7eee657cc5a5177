import math

import pytest

from kzoo.data.numbers import read_number


@pytest.mark.parametrize(("text", "number"), [(" 1.5", 1.5), ("-2e3", -2000), ("inf", math.inf)])
def test_numbers(text, number):
    assert read_number(text) == number


@pytest.mark.parametrize("text", ["1_0", "", "x", "1,5"])
def test_what_is_no_number(text):
    with pytest.raises(ValueError):
        read_number(text)
