import argparse
import collections
import enum
import io
import pickle
import random
import re
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import PurePosixPath

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kzoo.weights import WeightsError
from kzoo.weights.torch_checkpoint import read_checkpoint

DTYPES = [
    np.float32,
    np.float16,
    ml_dtypes.bfloat16,
    np.float64,
    np.int64,
    np.int32,
    np.int16,
    np.int8,
    np.uint8,
    np.bool_,
]
FORMATS = {
    "zip": {},
    "zip of older PyTorch": {"byteorder": False, "prefix": "resnet18"},
    "zip of parameters": {"parameters": True},
    "compressed": {"compressed": True},
    "unaligned": {"aligned": False},
    "legacy": {"legacy": True},
    "legacy parameters": {"legacy": True, "parameters": True},
}


@pytest.fixture(params=FORMATS)
def layout(request):
    return FORMATS[request.param]


@pytest.fixture
def state():
    kernel = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7
    return {
        "conv.weight": kernel,
        "bn.running_mean": np.array([0.5, -2.0], np.float32),
        "bn.num_batches_tracked": np.array(1234567890123, np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }


def assert_same(arrays, state):
    assert list(arrays) == list(state)
    for name, expected in state.items():
        assert arrays[name].shape == expected.shape, name
        assert arrays[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(arrays[name], expected, err_msg=name)


def repack(path, **changes):
    """Replaces members of a checkpoint, by their names without the folder; None takes one out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, content in changes.items():
        members[f"archive/{name}"] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def without_crc(path):
    content = bytearray(path.read_bytes())
    for entry in re.finditer(b"PK\1\2", bytes(content)):
        content[entry.start() + 16 : entry.start() + 20] = bytes(4)
    path.write_bytes(content)
    return path


# What is read.


def test_values_names_and_order(tmp_path, write_checkpoint, state, layout):
    assert_same(read_checkpoint(write_checkpoint(tmp_path / "w.pth", state, **layout)), state)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_dtypes(tmp_path, write_checkpoint, dtype, layout):
    state = {"w": np.array([0, 1, 1, 0, 1], dtype), "scalar": np.array(1, dtype)}
    assert_same(read_checkpoint(write_checkpoint(tmp_path / "w.pth", state, **layout)), state)


def test_views_of_one_storage(tmp_path, write_checkpoint, layout):
    kernel = np.arange(35, dtype=np.float32).reshape(5, 7)
    state = {"w": kernel, "tied": kernel, "turned": kernel.T, "part": kernel[1::2, 2:6:3], "row": kernel[3]}
    arrays = read_checkpoint(write_checkpoint(tmp_path / "w.pth", state, **layout))
    assert_same(arrays, state)
    assert arrays["turned"].strides == (4, 28)
    for name in state:
        assert np.shares_memory(arrays["w"], arrays[name]), name


def test_expanded_tensor(tmp_path, write_checkpoint):
    state = {"w": np.broadcast_to(np.array([[1.0], [2.0]], np.float32), (2, 5))}
    assert_same(read_checkpoint(write_checkpoint(tmp_path / "w.pth", state)), state)


def test_arrays_are_read_only_and_aligned(tmp_path, write_checkpoint, state, layout):
    arrays = read_checkpoint(write_checkpoint(tmp_path / "w.pth", state, **layout))
    for array in arrays.values():
        assert array.flags.aligned
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_arrays_are_views_of_the_file(tmp_path, write_checkpoint):
    """What the file's bytes become, the array becomes: nothing was copied."""
    path = write_checkpoint(tmp_path / "w.pth", {"w": np.full(64, 3.0, np.float32)})
    array = read_checkpoint(path)["w"]
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content.replace(np.full(64, 3.0, "<f4").tobytes(), np.full(64, 5.0, "<f4").tobytes()))
    np.testing.assert_array_equal(array, np.full(64, 5.0))


def test_arrays_outlive_the_name_of_their_file(tmp_path, write_checkpoint, state):
    path = write_checkpoint(tmp_path / "w.pth", state)
    arrays = read_checkpoint(str(path))
    path.unlink()
    assert_same(arrays, state)


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_state_dict_within_a_checkpoint_of_a_training(tmp_path, write_checkpoint, state, layout, key):
    momentum = {"momentum_buffer": np.ones(3, np.float32)}
    optimizer = {"state": {0: momentum}, "param_groups": [{"lr": 0.02, "nesterov": False, "params": [0, 1]}]}
    path = tmp_path / "model_7.pth"
    write_checkpoint(path, {"optimizer": optimizer, key: state, "epoch": 7, "scaler": None}, **layout)
    assert_same(read_checkpoint(path), state)


class Setting(enum.Enum):
    ONE = 1


class Made:
    """Pickled as what a made-up tensor of PyTorch's is: by a name of its own and a state."""

    def __init__(self, state):
        self.state = state


def with_tensor(index, checkpoint):
    """Puts the tensor of `tensor_pickle` in the place of the text "TENSOR" of a pickle of a checkpoint."""
    tensor = tensor_pickle().removeprefix(b"\x80\4}\x8c\1w").removesuffix(b"s.")
    text = b"X\6\0\0\0TENSOR"
    content = pickle.dumps(checkpoint, index)
    assert content.count(text) == 1
    return content.replace(text, tensor)


def test_what_training_scripts_put_beside_the_state_dict(tmp_path):
    """torchvision's save their arguments, a Namespace; other things are not looked up either."""
    arguments = argparse.Namespace(lr=0.02, output=PurePosixPath("/x"), schedule=[Setting.ONE])
    counts = collections.Counter("aab")
    beside = {"optimizer": {"state": {}}, "args": arguments, "epoch": 25, "counts": counts}
    beside |= {"best": np.float64(0.5), "many": collections.defaultdict(list, a=[1]), "made": Made([1])}
    content = with_tensor(2, {"args0": arguments, "model": {"w": "TENSOR"}, **beside})
    state = read_checkpoint(zip_of(tmp_path / "model_25.pth", content, np.arange(6, dtype="f4").tobytes()))
    np.testing.assert_array_equal(state["w"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"model": {"w": "TENSOR", "x": argparse.Namespace(a=1)}},
        {"w": "TENSOR", "x": argparse.Namespace(a=1)},
        {"model": argparse.Namespace(w="TENSOR")},
        {"state_dict": argparse.Namespace(w="TENSOR"), "epoch": 1},
        argparse.Namespace(w="TENSOR"),
    ],
)
def test_what_is_in_the_state_dict_itself_has_to_be_tensors(tmp_path, checkpoint):
    path = zip_of(tmp_path / "w.pth", with_tensor(2, checkpoint))
    refuses(path, "asks for argparse.Namespace", "nothing of it was run", "torch.save")


def test_names_out_of_the_file_are_shown_harmlessly(tmp_path, write_checkpoint):
    name = "\x1b]0;owned\x07" + "x" * 10**5
    message = refuses(write_checkpoint(tmp_path / "w.pth", {name: None, "w": np.ones(2)}), r"'\x1b]0;owned")
    assert message.isprintable() and len(message) < 1000
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr(name[:60_000], b"")
    message = refuses(tmp_path / "w.pth", r"\x1b]0;owned")
    assert message.isprintable() and len(message) < 1000
    figures = {"shape": (2**1000,) * 60, "strides": (2**1000,) * 60}
    assert len(refuses(zip_of(tmp_path / "w.pth", tensor_pickle(**figures)), "'w'")) < 1500


def test_crc_of_zero_is_none(tmp_path, write_checkpoint, state):
    """PyTorch leaves it out on request, by `torch.serialization.set_crc32_options(False)`."""
    path = without_crc(write_checkpoint(tmp_path / "w.pth", state))
    assert_same(read_checkpoint(path), state)


@st.composite
def views(draw):
    """An array of any dtype, often a view with an offset, steps and its axes in another order."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    numbers = np.arange(int(np.prod(shape, dtype=int))).reshape(shape) % 2
    array = numbers.astype(draw(st.sampled_from(DTYPES)))
    steps = [slice(draw(st.integers(0, 2)), None, draw(st.integers(1, 3))) for _ in shape]
    array = array[tuple(steps)]
    if draw(st.booleans()) and array.ndim:
        array = np.broadcast_to(array, (draw(st.integers(0, 3)), *array.shape))
    return array.transpose(draw(st.permutations(range(array.ndim))))


@settings(deadline=None, max_examples=100)
@given(arrays=st.lists(views(), min_size=1, max_size=3), layout=st.sampled_from(list(FORMATS)))
def test_round_trip(tmp_path_factory, write_checkpoint, arrays, layout):
    state = {f"layer{place}.weight": array for place, array in enumerate(arrays)}
    path = tmp_path_factory.mktemp("round") / "w.pth"
    assert_same(read_checkpoint(write_checkpoint(path, state, **FORMATS[layout])), state)


# What is refused.


def refuses(path, *parts):
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for part in parts:
        assert part in message
    return message


def test_no_such_file(tmp_path):
    refuses(tmp_path / "w.pth", "no such file")


def test_folder(tmp_path):
    refuses(tmp_path, "directory")


def test_empty_file(tmp_path):
    path = tmp_path / "w.pth"
    path.touch()
    refuses(path, "is empty")


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>", b"\x89HDF\r\n\x1a\n", b"P", b"\0" * 1000])
def test_neither_format(tmp_path, content):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    refuses(path, "not a PyTorch checkpoint", repr(content[:16]))


def test_tar_of_the_first_versions(tmp_path):
    path = tmp_path / "w.pth"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    refuses(path, "before 0.4", "torch.save")


@pytest.mark.parametrize("names", [[], ["config.json", "model.weights.h5"], ["a/data.pkl", "b/data.pkl"]])
def test_other_zips(tmp_path, names):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    refuses(path, "not a PyTorch checkpoint", names[0] if names else "none")


def test_torchscript(tmp_path, write_checkpoint, state):
    path = repack(write_checkpoint(tmp_path / "w.pth", state), **{"constants.pkl": b""})
    refuses(path, "TorchScript", "state_dict()")


def test_missing_storage(tmp_path, write_checkpoint, state):
    path = repack(write_checkpoint(tmp_path / "w.pth", state), **{"data/1": None})
    refuses(path, "'bn.running_mean'", "archive/data/1")


@pytest.mark.parametrize("length", [0, 4, 7, 12])
def test_storage_of_another_length(tmp_path, write_checkpoint, state, length):
    path = repack(write_checkpoint(tmp_path / "w.pth", state), **{"data/1": bytes(length)})
    refuses(path, "'bn.running_mean'", f"{length} bytes", "take 8")


def test_big_endian(tmp_path, write_checkpoint, state):
    path = repack(write_checkpoint(tmp_path / "w.pth", state), byteorder=b"big")
    refuses(path, "little-endian", "big")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression(tmp_path, write_checkpoint, state, method):
    """Their decompressors cannot be told how much is enough."""
    path = write_checkpoint(tmp_path / "w.pth", state)
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("archive/data/9", bytes(10))
    refuses(path, "archive/data/9", "deflate")


def test_member_that_inflates_without_measure(tmp_path, write_checkpoint, state):
    path = write_checkpoint(tmp_path / "w.pth", state)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for key in range(10, 18):
            archive.writestr(f"archive/data/{key}", bytes(2**23 + 1))
    refuses(path, str(8 * (2**23 + 1)), "does not compress")


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ([1, 2], ["list", "not a dict"]),
        (7, ["int", "not a dict"]),
        ({}, ["no tensor", "no keys"]),
        ({"epoch": 3, "lr": 0.1}, ["no tensor", "'epoch', 'lr'"]),
        ({"model": {}, "ema": {"w": np.ones(2)}}, ["no tensor", "'model', 'ema'"]),
        ({"w": np.ones(2), "_extra_state": None}, ["'_extra_state'", "NoneType", "not a tensor"]),
        ({"w": np.ones(2), 3: np.ones(2)}, ["key 3", "text"]),
    ],
)
def test_no_state_dict(tmp_path, write_checkpoint, checkpoint, words, layout):
    refuses(write_checkpoint(tmp_path / "w.pth", checkpoint, **FORMATS[layout]), *words)


def tensor_pickle(*, length=6, offset=0, shape=(2, 3), strides=(3, 1)):
    """The pickle of `{"w": tensor}`, by hand and of protocol 4, with figures that need not be possible."""

    def integer(number):
        content = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(content)]) + content

    def sequence(numbers):
        return b"(" + b"".join(map(integer, numbers)) + b"t"

    storage = b"(\x8c\7storagectorch\nFloatStorage\n\x8c\x010\x8c\3cpu" + integer(length) + b"tQ"
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    tensor = b"(" + storage + integer(offset) + sequence(shape) + sequence(strides) + hooks + b"t"
    return b"\x80\4}\x8c\1wctorch._utils\n_rebuild_tensor_v2\n" + tensor + b"Rs."


def zip_of(path, index, storage=bytes(24)):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", index)
        archive.writestr("w/data/0", storage)
    return path


def test_tensor_by_hand(tmp_path):
    numbers = np.arange(6, dtype=np.float32)
    path = zip_of(
        tmp_path / "w.pth", tensor_pickle(offset=1, shape=(2, 2), strides=(1, 3)), numbers.tobytes()
    )
    np.testing.assert_array_equal(read_checkpoint(path)["w"], [[1, 4], [2, 5]])


def test_stride_of_an_axis_of_one_is_of_no_meaning(tmp_path):
    path = zip_of(tmp_path / "w.pth", tensor_pickle(shape=(1, 6), strides=(2**62, 1)))
    assert read_checkpoint(path)["w"].shape == (1, 6)


@pytest.mark.parametrize(
    "figures",
    [
        {"offset": 1},
        {"offset": 7, "shape": (0,), "strides": (1,)},
        {"offset": 2**70},
        {"shape": (2, 4)},
        {"strides": (4, 1)},
        {"shape": (2**62, 2**62)},
        {"strides": (2**62, 2**62)},
        {"shape": (), "strides": (), "offset": 6},
    ],
    ids=str,
)
def test_tensor_that_reaches_outside_of_its_storage(tmp_path, figures):
    refuses(zip_of(tmp_path / "w.pth", tensor_pickle(**figures)), "'w'", "outside of storage 0", "6 numbers")


@pytest.mark.parametrize(
    "figures",
    [
        {"shape": (2**62, 2**62), "strides": (0, 0)},
        {"shape": (2**13, 2**13), "strides": (0, 0)},
        {"shape": (0, 2**62), "strides": (1, 1)},
    ],
    ids=str,
)
def test_tensor_expanded_past_reason(tmp_path, figures):
    refuses(zip_of(tmp_path / "w.pth", tensor_pickle(**figures)), "'w'", "expanded")


def test_tensors_expanded_past_reason_together(tmp_path, write_checkpoint):
    one = np.ones(1, np.float32)
    state = {f"w{place}": np.broadcast_to(one, 2**23) for place in range(3)}
    assert len(read_checkpoint(write_checkpoint(tmp_path / "w.pth", dict(list(state.items())[:2])))) == 2
    refuses(write_checkpoint(tmp_path / "w.pth", state), "'w2'", "expanded")


def test_tensors_that_repeat_a_storage_past_reason(tmp_path, write_checkpoint):
    numbers = np.zeros(2**20, np.uint8)
    state = {f"w{place}": numbers for place in range(17)}
    assert len(read_checkpoint(write_checkpoint(tmp_path / "w.pth", dict(list(state.items())[:16])))) == 16
    refuses(write_checkpoint(tmp_path / "w.pth", state), "'w16'", "expanded")


@pytest.mark.parametrize("length", [0, 2**40, 2**1000])
def test_storage_of_an_impossible_length(tmp_path, length):
    refuses(zip_of(tmp_path / "w.pth", tensor_pickle(length=length)), "'w'", "24 bytes")


@pytest.mark.parametrize(
    "figures",
    [
        {"offset": -1},
        {"strides": (-3, 1)},
        {"shape": (2, -3)},
        {"shape": (2,)},
        {"shape": (1,) * 65, "strides": (1,) * 65},
    ],
    ids=str,
)
def test_impossible_figures(tmp_path, figures):
    refuses(zip_of(tmp_path / "w.pth", tensor_pickle(**figures)), "pickle is damaged")


def test_pickle_out_of_all_proportion(tmp_path):
    refuses(zip_of(tmp_path / "w.pth", b"\x80\2(" + b"]" * 2**23 + b"t."), "8388613 bytes")


def test_pickle_that_asks_for_more(tmp_path):
    marker = tmp_path / "it ran"
    index = b"\x80\2cos\nsystem\nX" + struct.pack("<I", len(str(marker)) + 8) + f"touch '{marker}'".encode()
    refuses(zip_of(tmp_path / "w.pth", index + b"\x85R."), "os.system", "nothing of it was run")
    assert not marker.exists()


def test_legacy_storages(tmp_path, write_checkpoint):
    """Each storage's length, the list of storages and the file's end have to agree with the index."""
    path = write_checkpoint(tmp_path / "w.pth", {"w": np.ones(3, np.float32)}, legacy=True)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refuses(path, "cut short", f"{len(content)}")
    path.write_bytes(content[:-20] + struct.pack("<q", 4) + content[-12:])
    refuses(path, "storage 0", "4 numbers")
    path.write_bytes(content.replace(b"(X\1\0\0\0000q\1e.", b"(e."))
    refuses(path, "'w'", "storage 0 is missing")
    twice = content.replace(b"(X\1\0\0\0000q\1e.", b"(X\1\0\0\0000q\1h\1e.")
    path.write_bytes(twice + content[-20:])
    refuses(path, "list of storages is damaged")


def test_legacy_head(tmp_path, write_checkpoint, state):
    path = write_checkpoint(tmp_path / "w.pth", state, legacy=True)
    content = path.read_bytes()
    path.write_bytes(b"\x80\2K\1." + content)
    refuses(path, "magic number")
    path.write_bytes(content.replace(b"M\xe9\x03.", b"M\xea\x03.", 1))
    refuses(path, "version 1001")
    path.write_bytes(content.replace(b"\x88", b"\x89", 1))
    refuses(path, "little-endian")


def patch_entry(path, name, place, written, change):
    """Changes a number in the zip's directory: `place` bytes behind the entry's beginning."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\1\2", 0, content.rindex(name.encode()))
    (number,) = struct.unpack_from(written, content, entry + place)
    struct.pack_into(written, content, entry + place, change(number))
    path.write_bytes(content)
    return path


def test_members_that_disagree_with_the_directory(tmp_path, write_checkpoint, state):
    path = write_checkpoint(tmp_path / "w.pth", state)
    content, words = path.read_bytes(), ("'bn.running_mean'", "archive/data/1", "damaged")
    refuses(patch_entry(path, "archive/data/1", 16, "<I", lambda crc: crc ^ 1), *words)
    path.write_bytes(content)
    refuses(patch_entry(path, "archive/data/1", 20, "<I", lambda size: size + 1), *words)
    refuses(patch_entry(path, "archive/data/1", 24, "<I", lambda size: size + 1), *words)
    patch_entry(path, "archive/data/1", 20, "<I", lambda size: 2**31)
    patch_entry(path, "archive/data/1", 24, "<I", lambda size: 2**31)
    refuses(path, "archive/data/1 and archive/data/2 overlap")
    path.write_bytes(content)
    refuses(patch_entry(path, "archive/data/1", 42, "<I", lambda offset: len(content) - 4), *words)
    path.write_bytes(content.replace(b"PK\3\4", b"PK\3\5"))
    refuses(path, "damaged")


def test_members_placed_before_the_file(tmp_path, write_checkpoint, state):
    path = without_crc(write_checkpoint(tmp_path / "w.pth", state))
    content = bytearray(path.read_bytes())
    (offset,) = struct.unpack_from("<I", content, len(content) - 6)
    struct.pack_into("<I", content, len(content) - 6, offset + len(content))
    path.write_bytes(content)
    refuses(path, "damaged")


def test_members_that_share_their_bytes(tmp_path):
    """A file of a few bytes could have as many storages of all its bytes as it has names."""
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", tensor_pickle())
        archive.writestr("w/data/0", bytes(24))
        shared = archive.getinfo("w/data/0").header_offset
        archive.writestr("w/data/1", bytes(24))
    refuses(patch_entry(path, "w/data/1", 42, "<I", lambda offset: shared), "w/data/0 and w/data/1 overlap")
    refuses(patch_entry(path, "w/data/1", 42, "<I", lambda offset: shared + 20), "overlap")


def test_member_that_inflates_to_more_than_it_says(tmp_path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", tensor_pickle())
        archive.writestr("w/data/0", bytes(2**25))
    patch_entry(path, "w/data/0", 24, "<I", lambda size: 24)
    tracemalloc.start()
    refuses(path, "'w'", "damaged")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


# Whatever a file holds: a right answer or a WeightsError, at once.


def outcome(path, content):
    path.write_bytes(content)
    try:
        return read_checkpoint(path)
    except WeightsError:
        return None


@pytest.mark.parametrize("layout", ["zip", "legacy", "compressed"])
def test_cut_files(tmp_path, write_checkpoint, state, layout):
    path = write_checkpoint(tmp_path / "w.pth", state, **FORMATS[layout])
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 3):
        assert outcome(path, content[:length]) is None, length


@pytest.mark.parametrize("layout", ["zip", "compressed"])
def test_flipped_bytes_in_a_zip(tmp_path, write_checkpoint, state, layout):
    path = write_checkpoint(tmp_path / "w.pth", state, **FORMATS[layout])
    content = path.read_bytes()
    rng = random.Random(1)
    refused = 0
    for place in range(rng.randrange(2), len(content), 2):
        changed = bytearray(content)
        changed[place] ^= rng.randrange(1, 256)
        arrays = outcome(path, changed)
        if arrays is None:
            refused += 1
        else:
            assert_same(arrays, state)
    assert refused > len(content) // 6


def test_flipped_bytes_in_the_older_format(tmp_path, write_checkpoint, state):
    """It has no check sums: numbers can come out wrong, but nothing else happens."""
    path = write_checkpoint(tmp_path / "w.pth", state, legacy=True)
    content = path.read_bytes()
    rng = random.Random(2)
    refused = 0
    for place in range(rng.randrange(2), len(content), 2):
        changed = bytearray(content)
        changed[place] ^= rng.randrange(1, 256)
        refused += outcome(path, changed) is None
    assert refused > len(content) // 6


@settings(deadline=None, max_examples=200)
@given(head=st.sampled_from([b"", b"PK\3\4", b"PK\5\6", b"\x80\2"]), content=st.binary(max_size=200))
def test_garbage(tmp_path_factory, head, content):
    assert outcome(tmp_path_factory.mktemp("garbage") / "w.pth", head + content) is None
