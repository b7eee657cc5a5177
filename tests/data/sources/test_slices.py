import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kzoo.data.faults import DataError
from kzoo.data.sources import Info, Split, open_source, open_split


@pytest.mark.parametrize(
    ("text", "first", "count"),
    [
        ("val", 0, 200),
        ("val[:]", 0, 200),
        ("val[:24]", 0, 24),
        ("val[24:]", 24, 176),
        ("val[-10:]", 190, 10),
        ("val[10:-150]", 10, 40),
        ("val[190:999999999999999999999]", 190, 10),
        ("val[-999999999999999999999:2]", 0, 2),
        ("val[:80%]", 0, 160),
        ("val[80%:]", 160, 40),
        ("val[-20%:]", 160, 40),
        ("val[ 25% : 75% ]", 50, 100),
        ("val[:100%]", 0, 200),
        ("val[10:50%]", 10, 90),
    ],
)
def test_slices(text, first, count):
    split = open_split(open_source("shapes"), text)
    assert split.names == tuple(f"shapes:val[{first + index}]" for index in range(count))
    assert split.name == text
    assert len(split.boxes) == len(split.classes) == len(split.sizes) == len(split) == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian[:3]", 'shapes: split="trian": unknown. Nearest: "train"'),
        ("[:3]", 'Known: "train", "val", "test"'),
        ("", 'Known: "train", "val", "test"'),
        ("val[5:5]", 'shapes: split="val[5:5]" is empty; val has 200 pictures'),
        ("val[200:]", "is empty; val has 200 pictures"),
        ("val[:0%]", "is empty; val has 200 pictures"),
        ("val[3]", "is no slice; expected one such as val[:24], val[-10:] or val[:80%]"),
        ("val[::2]", "is no slice"),
        ("val[:3", "is no slice"),
        ("val[:3]]", "is no slice"),
        ("val[:3]+test", "is no slice"),
        ("val[:1.5]", "is no slice"),
        ("val[:٣]", "is no slice"),
        ("val[:101%]", "has the end 101%; expected -100% to 100%"),
        ("val[-101%:]", "has the end -101%; expected -100% to 100%"),
        (None, "split must be a name such as 'train', got None"),
    ],
)
def test_slices_that_are_none(text, message):
    with pytest.raises(DataError) as raised:
        open_split(open_source("shapes"), text)
    assert message in str(raised.value)


class Numbers:
    """A source whose pictures are known by their names alone."""

    def __init__(self, count):
        self.info = Info("numbers", ("a",), {"all": count, "odd[:1]": 1}, ("detection",))

    def split(self, name, *, strict=False, part=slice(None)):
        names = tuple(map(str, range(self.info.splits[name])[part]))
        return Split(name, None, (), names, (), read=None)


@pytest.mark.parametrize(
    ("count", "text", "kept"), [(3, "all[:50%]", 2), (7, "all[:80%]", 6), (7, "all[:20%]", 1)]
)
def test_shares_are_rounded_to_whole_pictures(count, text, kept):
    assert len(open_split(Numbers(count), text)) == kept


@example(count=3, share=99, from_the_end=True)
@given(count=st.integers(1, 200), share=st.integers(0, 99), from_the_end=st.booleans())
def test_two_slices_with_the_same_end_are_the_whole(count, share, from_the_end):
    source, names = Numbers(count), []
    for text in (f"all[:{share}%]", f"all[{share - 100 if from_the_end else share}%:]"):
        try:
            names.extend(open_split(source, text).names)
        except DataError as error:
            assert "is empty" in str(error)
    assert names == list(map(str, range(count)))


def test_a_split_may_be_called_like_a_slice():
    assert open_split(Numbers(3), "odd[:1]").name == "odd[:1]"
