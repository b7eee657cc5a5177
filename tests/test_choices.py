import pytest

from kzoo.choices import check_choice


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
