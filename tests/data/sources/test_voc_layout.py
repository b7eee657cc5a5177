from kzoo.data.faults import Faults, collected
from kzoo.data.sources.voc_layout import each_once


def test_what_is_listed_again_is_told_where_it_is_read():
    listed = ["a", "b", "a", *map(str, range(20)), "b", "b"]
    assert told_of(listed, slice(None)) == ["a is listed 2 times in", "b is listed 3 times in"]
    assert told_of(listed, slice(1, None)) == ["b is listed 3 times in"]
    assert told_of(listed, slice(2, None)) == []


def told_of(listed, part):
    faults = Faults("here")
    names = each_once("train", listed, part, faults)
    assert names == ["a", "b", *map(str, range(20))][part]
    with collected() as found:
        faults.close(len(names))
    return [fault.told.partition(" the split train; expected once")[0] for fault in found]
