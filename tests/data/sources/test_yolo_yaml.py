import pytest

from kzoo.data.faults import DataError
from kzoo.data.sources.yolo_yaml import read_description


def test_names_may_be_numbers(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [7, 1.5, cat]\n")
    assert read_description(tmp_path).names == ("7", "1.5", "cat")


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "-0x" + "f" * 5000, "1" + "0" * 4000])
def test_a_number_of_many_digits_is_no_name(tmp_path, number):
    (tmp_path / "data.yaml").write_text(f"names: [cat, {number}]\n")
    with pytest.raises(DataError, match="names: 1 is not text; expected a name"):
        read_description(tmp_path)


def test_a_file_of_another_name(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    (tmp_path / "pets.yaml").write_text("names: [dog]\n")
    assert read_description(tmp_path).names == ("cat",)
    assert read_description(tmp_path, tmp_path / "pets.yaml").names == ("dog",)
