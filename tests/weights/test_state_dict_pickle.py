import collections
import contextlib
import copyreg
import io
import os
import pickle
import random
import sys
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.weights import WeightsError
from kzoo.weights.state_dict_pickle import StateDictUnpickler, Storage, Tensor, Unread

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**600), 2**600) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(st.text() | st.integers(-(2**40), 2**40), inner)
    ),
    max_leaves=20,
)


def load(content):
    return StateDictUnpickler(content).load()


@settings(deadline=None)
@given(value=PLAIN, protocol=st.integers(2, 5))
def test_reads_what_python_writes(value, protocol):
    assert load(pickle.dumps(value, protocol)) == value


def test_shared_values_stay_shared():
    inner = ["x"]
    first, second = load(pickle.dumps([inner, inner]))
    assert first is second


def test_many_values_need_long_places_in_the_memo():
    value = {f"layer{place}.weight": [f"x{place}"] for place in range(300)}
    assert load(pickle.dumps(value, 2)) == value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_ordered_dict_with_attributes(protocol):
    """A module's state dict carries `_metadata`, which is not looked at."""
    state = collections.OrderedDict()
    state._metadata = {"": {"version": 1}}
    assert load(pickle.dumps({"state": state, "after": 1}, protocol)) == {"state": {}, "after": 1}


def test_pickles_in_a_row():
    content = pickle.dumps([1]) + pickle.dumps("two")
    unpickler = StateDictUnpickler(content)
    assert [unpickler.load(), unpickler.load()] == [[1], "two"]
    assert unpickler.position == len(content)


def test_tensors_and_storages(tmp_path, write_checkpoint):
    kernel = np.ones((2, 3), np.float32)
    path = write_checkpoint(tmp_path / "w.pth", {"w": kernel, "turned": kernel.T[1:]}, parameters=True)
    unpickler = StateDictUnpickler(zipfile.ZipFile(path).read("archive/data.pkl"))
    storage = Storage("0", np.dtype(np.float32), 6)
    assert unpickler.load() == {
        "w": Tensor(storage, 0, (2, 3), (3, 1)),
        "turned": Tensor(storage, 1, (2, 2), (1, 3)),
    }
    assert unpickler.storages == {"0": storage}


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "end"),
    [((), (), 4, 5), ((3,), (2,), 0, 5), ((2, 3), (3, 1), 1, 7), ((0, 9), (9, 1), 2, 2), ((4,), (0,), 3, 4)],
)
def test_where_a_tensor_ends(shape, strides, offset, end):
    assert Tensor(Storage("0", np.dtype("f4"), 9), offset, shape, strides).end == end


# What is refused, by name, and never run.


class Call:
    """Pickled, it is a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def refusal(content):
    before = set(sys.modules)
    with pytest.raises(WeightsError) as caught:
        load(content)
    assert set(sys.modules) == before
    return str(caught.value)


@pytest.mark.parametrize("protocol", [2, 4])  # GLOBAL, STACK_GLOBAL
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (eval, ("1",), "builtins.eval"),
        (getattr, (collections.OrderedDict, "__reduce__"), "builtins.getattr"),
        (io.open, ("/etc/passwd",), "io.open"),
        (collections.Counter, (), "collections.Counter"),
        (np.dtype, ("f4",), "numpy.dtype"),
    ],
)
def test_other_names_stay_unread(protocol, function, arguments, name):
    if protocol == 2:
        name = name.replace("builtins", "__builtin__")
    value = unread(pickle.dumps({"w": Call(function, *arguments)}, protocol))["w"]
    assert value == Unread(name)
    message = str(value.refusal())
    assert f"asks for {name};" in message
    assert "torch.save" in message


@pytest.mark.parametrize("protocol", [2, 4])
def test_functions_are_not_called(protocol, tmp_path):
    """The same pickle makes a folder in the hands of Python's own unpickler."""
    folder = tmp_path / "it ran"
    content = pickle.dumps(Call(os.mkdir, str(folder)), protocol)
    assert unread(content) == Unread(f"{os.mkdir.__module__}.mkdir")
    assert not folder.exists()
    pickle.loads(content)
    assert folder.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cos\nsystem\nX\4\0\0\0true\x85R.", "os.system"),
        (b"\x80\2ctorch\nload\n.", "torch.load"),
        (b"\x80\2ctorch.storage\nUntypedStorage\n.", "torch.storage.UntypedStorage"),
        (b"\x80\2ccollections\nOrderedDict.__reduce__\n)R.", "collections.OrderedDict.__reduce__"),
        (b"\x80\2cmissing_module\nThing\n)\x81}X\1\0\0\0aK\1sb.", "missing_module.Thing"),  # an object
        (b"\x80\2cmissing_module\nThing\n)R(K\1K\2e.", "missing_module.Thing"),  # a list
        (b"\x80\2cmissing_module\nThing\n)R(K\1K\2NNu.", "missing_module.Thing"),  # a dict
        (b"\x80\2cmissing_module\nThing\n)RNNs.", "missing_module.Thing"),
        (b"\x80\4\x8c\2os\x8c\6system\x93.", "os.system"),
        (b"\x80\4\x8c\2os\x8c\x0csystem\x1b[31m!\x93.", r"os.system\x1b[31m!"),
        (b"\x80\4\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.", "collections.OrderedDict.__init__"),
    ],
)
def test_names_are_neither_looked_up_nor_called(content, name):
    assert unread(content) == Unread(name)


def unread(content):
    before = set(sys.modules)
    value = load(content)
    assert set(sys.modules) == before
    return value


def test_a_storage_of_another_kind_is_refused_by_name():
    kind = b"ctorch\nComplexFloatStorage\n"
    content = b"\x80\2(X\7\0\0\0storage" + kind + b"X\1\0\0\x000X\3\0\0\0cpuK\1tQ."
    assert "asks for torch.ComplexFloatStorage;" in refusal(content)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"(S'true'\nios\nsystem\n.", "the opcode STRING"),
        (b"(ios\nsystem\n.", "the opcode INST"),
        (b"\x80\2\x82\1.", "the opcode EXT1"),
        (b"\x80\2\x83\1\0.", "the opcode EXT2"),
        (b"\x80\2\x84\1\0\0\0.", "the opcode EXT4"),
        (b"\x80\4cos\nsystem\n)}\x92.", "the opcode NEWOBJ_EX"),
        (b"\x80\2(o.", "the opcode OBJ"),
        (b"\x80\2P0\n.", "the opcode PERSID"),
        (b"\x80\5\x97.", "the opcode NEXT_BUFFER"),
        (b"\xff.", "the opcode ff"),
    ],
)
def test_other_opcodes(content, name):
    assert name in refusal(content)


def test_extension_registry_is_not_asked(monkeypatch):
    """Python's unpickler takes what is cached there without asking `find_class`."""
    monkeypatch.setitem(copyreg._inverted_registry, 240, ("os", "getpid"))
    assert isinstance(pickle.loads(b"\x80\2\x82\xf0)R."), int)
    copyreg.clear_extension_cache()
    assert "EXT1" in refusal(b"\x80\2\x82\xf0)R.")


ORDERED = b"ccollections\nOrderedDict\n"
FLOATS = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80\2",
        b"\x80\2K",
        b"\x80\2}",
        b"\x80\2]].",  # two values
        b"\x80\2(.",
        b"\x80\2t.",  # no mark
        b"\x80\2R.",
        b"\x80\2]\x85R.",  # nothing below
        b"\x80\2K\1(\x85.",  # below a mark
        b"\x80\2K\1K\2K\3s.",  # no dict to put into
        b"\x80\2}(K\1u.",  # a key without a value
        b"\x80\2}K\1a.",
        b"\x80\2K\1(K\2e.",
        b"\x80\2h\0.",  # nothing kept there
        b"\x80\2X\xff\xff\xff\xffab.",
        b"\x80\4\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.",
        b"\x80\2X\2\0\0\0\xff\xfe.",  # no text
        b"\x80\4\x95\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x80\2cos",
        b"\x80\4K\1K\2\x93.",
        b"\x80\2)\x81.",
        b"\x80\2" + ORDERED + b")\x81.",  # made by a call, not as an object
        b"\x80\2cos\nsystem\nK\1R.",
        b"\x80\2cos\nsystem\n]\x81.",
        b"\x80\2" + REBUILD + b"(cos\nsystem\nK\0))\x89NtR.",
        b"\x80\2" + ORDERED + b"K\1R.",
        b"\x80\2" + ORDERED + b"]\x85R.",
        b"\x80\2" + ORDERED + b"]R.",  # arguments are a tuple
        b"\x80\2" + ORDERED + b"}b.",  # BUILD of what is no dict
        b"\x80\2" + FLOATS + b")R.",  # what is no function
        b"\x80\2]}b.",
        b"\x80\2}}bb.",
        b"\x80\2K\1Q.",
        b"\x80\2)Q.",
        b"\x80\2(X\6\0\0\0moduleX\1\0\0\0aNNNtQ.",
        b"\x80\2(X\7\0\0\0storageNX\1\0\0\x000X\3\0\0\0cpuK\1tQ.",
        b"\x80\2(X\7\0\0\0storage" + FLOATS + b"K\0X\3\0\0\0cpuK\1tQ.",
        b"\x80\2(X\7\0\0\0storage" + FLOATS + b"X\1\0\0\x000X\3\0\0\0cpuJ\xff\xff\xff\xfftQ.",
        b"\x80\2(X\7\0\0\0storage" + FLOATS + b"X\1\0\0\x000X\3\0\0\0cpuK\1)tQ.",  # a view of another
        b"\x80\2" + REBUILD + b"(NK\0))\x89NtR.",
        b"\x80\2ctorch._utils\n_rebuild_parameter\nN\x88N\x87R.",
    ],
)
def test_damaged(content):
    assert "damaged or cut short at byte" in refusal(content)


def test_storage_that_is_told_twice_in_two_ways():
    one, two = (
        b"(X\7\0\0\0storage" + FLOATS + b"X\1\0\0\x000X\3\0\0\0cpuK" + bytes([length]) + b"tQ"
        for length in (1, 2)
    )
    assert load(b"\x80\2" + one + one + b"\x86.")
    assert "damaged" in refusal(b"\x80\2" + one + two + b"\x86.")


@pytest.mark.parametrize("key", [(1, 2), None, 1.5, 2**200, False])
def test_keys_of_other_types(key):
    assert "a key is text" in refusal(pickle.dumps({"a": {key: 1}}, 2))


def test_what_lies_behind_the_end_is_not_read():
    content = pickle.dumps("abc", 2)
    with pytest.raises(WeightsError, match="cut short"):
        StateDictUnpickler(content, end=len(content) - 1).load()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\2" + b"]" * 300_000 + b"a" * 299_999 + b".",  # a list in a list in a list ...
        b"\x80\2)" + b"\x85" * 300_000 + b".",
        b"\x80\2" + b"(" * 300_000,
        b"\x80\2]q\0" + b"h\0h\0\x86q\0" * 60_000 + b".",  # 2**60000 leaves
        b"\x80\2]q\0h\0a.",  # a list within itself
        b"\x80\4X\0\0\x10\0" + b"m" * 2**20 + b"q\0" + b"h\0h\0\x93" * 200_000 + b".",  # long names
        b"\x80\2Nr\xff\xff\xff\xff.",  # place 2**32 - 1 of the memo
    ],
)
def test_cost_is_bounded_by_the_length(content):
    begin = time.perf_counter()
    with contextlib.suppress(WeightsError):
        load(content)
    assert time.perf_counter() - begin < 10


def test_flipped_bytes(tmp_path, write_checkpoint):
    state = {"w": np.ones((2, 3), np.float32), "n": np.array(3, np.int64)}
    path = write_checkpoint(tmp_path / "w.pth", {"model": state, "lr": [0.1, None, 70000]}, parameters=True)
    content = zipfile.ZipFile(path).read("archive/data.pkl")
    rng = random.Random(3)
    refused = 0
    for _ in range(3000):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 5])):
            changed[rng.randrange(len(content))] = rng.randrange(256)
        try:
            load(bytes(changed))
        except WeightsError:
            refused += 1
    assert 1000 < refused < 3000


OPCODES = [
    *(bytes([code]) for code in b"().]}NRbQaestu\x85\x86\x87\x88\x89\x93\x94"),
    *(
        b"\x80\2",
        b"K\1",
        b"M\1\1",
        b"J\xff\xff\xff\xff",
        b"\x8a\1\2",
        b"X\1\0\0\x000",
        b"q\0",
        b"h\0",
        b"q\1",
        b"h\1",
    ),
    *(
        b"\x81",
        b"cos\nsystem\n",
        ORDERED,
        FLOATS,
        REBUILD,
        b"X\7\0\0\0storage",
        b"ctorch._utils\n_rebuild_parameter\n",
    ),
]


@settings(deadline=None, max_examples=1000)
@given(st.lists(st.sampled_from(OPCODES), max_size=30))
def test_opcodes_in_any_order(parts):
    with contextlib.suppress(WeightsError):
        load(b"".join(parts) + b".")
