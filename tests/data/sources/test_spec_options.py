import pytest

from kzoo.data.faults import DataError
from kzoo.data.sources.spec_options import read_options


def test_options_stand_behind_the_path(tmp_path):
    (tmp_path / "a,image=b").mkdir()
    assert read_options("x", f"{tmp_path}/a,image=b,image= c", ["image"], "directory") == (
        tmp_path / "a,image=b",
        {"image": "c"},
    )


def test_an_option_may_be_longer_than_a_file_name(tmp_path):
    values = "+".join(f"{value}:{value}" for value in range(200))
    path, options = read_options("x", f"{tmp_path},values={values}", ["values"], "directory")
    assert (path, options) == (tmp_path, {"values": values})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "lacks the directory; expected 'folder:DIR'"),
        ("a,imag=b", 'Nearest: "image"'),
        ("a,image=b,image=c", "has the option image twice"),
        ("a,image= ", "has nothing behind image="),
        ("a" * 300 + ",image=b", "File name too long"),
    ],
)
def test_options_that_are_wrong(where, message):
    with pytest.raises(DataError, match=message):
        read_options(f"folder:{where}", where, ["image"], "directory")
