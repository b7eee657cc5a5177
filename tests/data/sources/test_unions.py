import pytest
from hypothesis import given
from hypothesis import strategies as st

from kzoo.data.sources.unions import find_unions


def unions(**splits):
    return find_unions({name: frozenset(pictures) for name, pictures in splits.items()})


@pytest.mark.parametrize(
    "name", ["trainval", "train_val", "TrainVal", "trainval2017", "val-train", "train+val"]
)
def test_names_that_say_so(name):
    assert unions(train="abc", val="de", **{name: "abcde"}) == {name: ["train", "val"]}
    assert unions(train="abc", val="de", **{name: "abcdef"}) == {}
    assert unions(train="abc", val="de", **{name: "abcd"}) == {}


def test_names_with_years():
    assert unions(train2017="ab", val2017="c", trainval2017="abc") == {
        "trainval2017": ["train2017", "val2017"]
    }


@pytest.mark.parametrize("name", ["train", "val", "test", "mine", "trainmore"])
def test_names_that_do_not(name):
    others = {"train": "ab", "val": "cd", "test": "ef"}
    others.pop(name, None)
    assert unions(**others, **{name: "".join(others.values())}) == {}


def test_all_is_made_up_of_what_there_is():
    assert unions(train="ab", val="c", trainval="abc", all="abcd", test="d") == {
        "trainval": ["train", "val"],
        "all": ["train", "val", "test"],
    }
    assert unions(train="ab", all="ab") == {"all": ["train"]}
    assert unions(train="ab", all="abc") == unions(all="abc") == unions(train="", all="abc") == {}
    assert unions(train="abc", val="ab", all="abc") == {"all": ["train", "val"]}


@given(
    st.dictionaries(
        st.sampled_from(["train", "val", "test", "trainval", "all", "more"]), st.frozensets(st.integers(0, 4))
    )
)
def test_no_picture_is_lost_with_unions(splits):
    found = find_unions(splits)
    kept = {name: those for name, those in splits.items() if name not in found}
    assert frozenset().union(*kept.values()) == frozenset().union(*splits.values())
    assert found.keys() <= {"trainval", "all"}
    assert all(
        frozenset().union(*(kept[part] for part in parts)) == splits[name] for name, parts in found.items()
    )
