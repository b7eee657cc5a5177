"""A PyTorch checkpoint becomes a dict of arrays, without PyTorch.

`torch.save` has written two formats, and published checkpoints have both. Since PyTorch 1.6 it is a zip: a
pickle that says what the tensors are, and beside it, uncompressed, one member a storage. Before, it was five
pickles in a row (a magic number, a version, the machine, the index, the storages' keys), and behind them
each storage with its length in front. `kzoo.weights.state_dict_pickle` reads the pickles.

A zip is mapped into memory, and the arrays are views of it. So it must not be cut short or written over while
its arrays are in use (to put another file in its place is fine). In the older format storages begin anywhere,
which not every reader of arrays can bear: these are read into memory of their own.

What a hostile file can cost is bounded by its size: its pickle, what its members inflate to, and how often
all tensors together repeat the numbers of their storages. Members that share their bytes are refused.
"""

import itertools
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kzoo.weights.errors import WeightsError, shown
from kzoo.weights.state_dict_pickle import StateDictUnpickler, Storage, Tensor, Unread

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., lengths of the name and of the extra field
_WRAPPERS = ("model", "state_dict")

_LONGEST_PICKLE = 2**23  # ResNet-101 takes 2**18 bytes; a hostile one makes 64 bytes of each of its own
_LARGEST_INFLATED = 2**26, 20  # bytes, and times the file: trained weights hardly get smaller by compression
_MOST_NUMBERS = 2**24, 4  # of all tensors, and times those of their storages: views repeat them

# The bytes of a storage, uint8 [N].
_Fetch = Callable[[Storage], np.ndarray]


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the state dict of a PyTorch checkpoint (`.pth`, `.pt`), without PyTorch.

    The file is either a state dict itself, or a dict with one under "model" (as torchvision's training
    scripts write it) or "state_dict"; what lies beside it is not looked at. Both of PyTorch's formats are
    read, the zip and the one before it.
    Zip members are checked against their CRC, if the file has any; the older format has nothing of the kind.

    Args:
        path: the file. It must stay as it is for as long as the arrays are in use.

    Returns:
        By name, in the file's order: arrays of the tensors' own shapes and dtypes (bfloat16 is
        `ml_dtypes.bfloat16`). They are read-only. Those of a zip are views of the file, if it is as PyTorch
        writes it, uncompressed and aligned; tensors that share a storage share it here.

    Raises:
        WeightsError: if there is no such file, if it is no checkpoint, cut short, damaged or without
            tensors, or if its state dict asks for anything but tensors. Nothing that a file names is run.

    Example:
        >>> arrays = read_checkpoint("resnet18-f37072fd.pth")  # doctest: +SKIP
        >>> arrays["conv1.weight"].shape  # doctest: +SKIP
        (64, 3, 7, 7)
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or error
        raise WeightsError(f"{path}: {reason}; a PyTorch checkpoint was to be read from there") from None
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    if not file.read(1):
        raise WeightsError("the file is empty; it should be a PyTorch checkpoint")
    try:
        data = mmap(file.fileno(), 0, access=ACCESS_READ)
    except ValueError:
        raise WeightsError("not a file that can be mapped into memory") from None
    if data[:2] == b"PK":
        return _arrays(*_open_zip(file, data))
    if data[:1] == b"\x80":
        return _arrays(*_open_legacy(file, data))
    if data[257:262] == b"ustar":
        raise WeightsError(
            "this is a tar file: PyTorch before 0.4 wrote such checkpoints. Load and save it with a newer "
            "PyTorch: torch.save(torch.load(PATH, weights_only=False), NEW)"
        )
    raise WeightsError(
        f"not a PyTorch checkpoint: it is neither a zip nor a pickle, but begins with {data[:16]!r}"
    )


def _open_zip(file: BinaryIO, data: mmap) -> tuple[object, _Fetch]:
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # from fields of any value, zipfile raises errors of any kind
        raise WeightsError(
            f"the zip's directory, which is at its end, is missing or damaged ({shown(str(error))}): the "
            "file was cut short or broken on its way; fetch it anew"
        ) from None
    members = {member.filename: member for member in archive.infolist()}
    inflated = 0
    for member in members.values():
        if member.compress_type == zipfile.ZIP_DEFLATED:
            inflated += member.file_size
        elif member.compress_type != zipfile.ZIP_STORED:
            raise WeightsError(
                f"its member {shown(member.filename)} is compressed by another method than deflate"
            )
    least, times = _LARGEST_INFLATED
    if inflated > max(least, times * len(data)):
        raise WeightsError(
            f"its compressed members would take {inflated} bytes, over {times} times the file's own "
            f"{len(data)}; torch.save does not compress"
        )
    _refuse_overlaps(list(members.values()))
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise WeightsError(
            f"a zip, but not a PyTorch checkpoint: it has {len(pickles)} members NAME/data.pkl where it "
            f"should have one; its first members are {', '.join(map(shown, list(members)[:4])) or 'none'}"
        )
    folder = pickles[0].removesuffix("data.pkl")
    if folder + "constants.pkl" in members:
        raise WeightsError(
            "this is a TorchScript program, not a state dict; write its weights where PyTorch is: "
            "torch.save(torch.jit.load(PATH).state_dict(), NEW)"
        )

    def read(name: str) -> np.ndarray:
        if folder + name not in members:
            raise WeightsError(f"the zip has no member {shown(folder + name)}; the file is incomplete")
        return _member(archive, members[folder + name], data)

    if folder + "byteorder" in members and (order := read("byteorder").tobytes()) != b"little":
        raise WeightsError(f"its numbers have byte order {order[:16]!r}; only little-endian files are read")
    index = read("data.pkl")
    if index.size > _LONGEST_PICKLE:
        raise WeightsError(f"its pickle has {index.size} bytes; a state dict's has at most {_LONGEST_PICKLE}")
    return StateDictUnpickler(index.tobytes()).load(), lambda storage: read(f"data/{storage.key}")


def _refuse_overlaps(members: list[zipfile.ZipInfo]) -> None:
    """Members of the same bytes would make a file's storages larger than the file."""
    members.sort(key=lambda member: member.header_offset)
    for member, following in itertools.pairwise(members):
        # At the least; the header also has the name and an extra field.
        if following.header_offset < member.header_offset + _LOCAL_HEADER.size + member.compress_size:
            raise WeightsError(
                f"the zip's members {shown(member.filename)} and {shown(following.filename)} overlap, so it "
                "is damaged or made to cost more than its size; fetch the file anew"
            )


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, data: mmap) -> np.ndarray:
    """A member's bytes, uint8 [N]: a view of the file if it is stored, a copy if it is compressed."""
    broken = WeightsError(
        f"the zip's member {shown(member.filename)} is damaged or cut short; fetch the file anew"
    )
    if member.compress_type != zipfile.ZIP_STORED:
        try:
            with archive.open(member) as stream:
                inflated = stream.read(member.file_size)  # no more, whatever it inflates to
        except Exception:  # as above, and those of the decompressor
            raise broken from None
        return np.ndarray(len(inflated), np.uint8, buffer=inflated)
    header = data[member.header_offset : member.header_offset + _LOCAL_HEADER.size]
    # A directory can place members before the file's beginning; NumPy does not check an offset below zero.
    if member.header_offset < 0 or len(header) < _LOCAL_HEADER.size:
        raise broken
    signature, name, extra = _LOCAL_HEADER.unpack(header)
    start = member.header_offset + _LOCAL_HEADER.size + name + extra
    if signature != b"PK\3\4" or member.compress_size != member.file_size:
        raise broken
    if start + member.file_size > len(data):
        raise broken
    content = np.ndarray(member.file_size, np.uint8, buffer=data, offset=start)
    # Zero stands for none: torch.serialization.set_crc32_options(False).
    if member.CRC and zlib.crc32(content) != member.CRC:
        raise broken
    return content


def _open_legacy(file: BinaryIO, data: mmap) -> tuple[object, _Fetch]:
    unpickler = StateDictUnpickler(data, end=_LONGEST_PICKLE)
    if unpickler.load() != _MAGIC_NUMBER:
        raise WeightsError(
            "a pickle, but not a PyTorch checkpoint: it does not begin with PyTorch's magic number"
        )
    version, machine = unpickler.load(), unpickler.load()
    if version != _PROTOCOL_VERSION:
        raise WeightsError(f"its format is not of version {_PROTOCOL_VERSION}, the only one that is known")
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise WeightsError("its numbers are not little-endian; only little-endian files are read")
    checkpoint, keys = unpickler.load(), unpickler.load()
    if not isinstance(keys, list):
        raise WeightsError("its list of storages is damaged")

    position, begins = unpickler.position, {}
    for key in keys:
        storage = unpickler.storages.get(key) if isinstance(key, str) else None
        if storage is None or key in begins:
            raise WeightsError("its list of storages is damaged")
        start = position + 8
        position = start + storage.length * storage.dtype.itemsize
        if position > len(data):
            raise WeightsError(
                f"cut short: it has {len(data)} bytes, and storage {shown(key)} ends at {position}"
            )
        (length,) = struct.unpack("<q", data[start - 8 : start])
        if length != storage.length:
            raise WeightsError(f"storage {shown(key)} has {length} numbers, its index says {storage.length}")
        begins[key] = start

    def fetch(storage: Storage) -> np.ndarray:
        if storage.key not in begins:
            raise WeightsError(f"storage {shown(storage.key)} is missing; the file is incomplete")
        content = np.empty(storage.length * storage.dtype.itemsize, np.uint8)
        file.seek(begins[storage.key])
        if file.readinto(content) != content.size:
            raise WeightsError(f"storage {shown(storage.key)} is cut short")
        content.flags.writeable = False
        return content

    return checkpoint, fetch


def _arrays(checkpoint: object, fetch: _Fetch) -> dict[str, np.ndarray]:
    contents: dict[str, np.ndarray] = {}
    arrays = {}
    stored = numbers = 0
    for name, tensor in _state_dict(checkpoint).items():
        if not isinstance(name, str):
            raise WeightsError(f"its state dict has the key {name!r}; every key should be text")
        try:
            if isinstance(tensor, Unread):
                raise tensor.refusal()
            if not isinstance(tensor, Tensor):
                raise WeightsError(f"it is of type {type(tensor).__name__} in its state dict, not a tensor")
            storage = tensor.storage
            if storage.key not in contents:
                contents[storage.key] = _aligned(fetch(storage), storage.dtype)
                stored += contents[storage.key].size // storage.dtype.itemsize
            _check(tensor, contents[storage.key])
            # What has no numbers may still have a shape past all reason.
            numbers += math.prod(max(side, 1) for side in tensor.shape)
            least, times = _MOST_NUMBERS
            if numbers > max(least, times * stored):
                raise WeightsError(
                    f"with a tensor of shape {shown(str(tensor.shape))} the {stored} numbers of the storages "
                    f"are expanded to over {max(least, times * stored)}"
                )
            arrays[name] = _view(tensor, contents[storage.key])
        except WeightsError as error:
            raise WeightsError(f"'{shown(name)}': {error}") from None
    return arrays


def _state_dict(checkpoint: object) -> dict:
    if isinstance(checkpoint, Unread):
        raise checkpoint.refusal()
    if not isinstance(checkpoint, dict):
        raise WeightsError(f"it holds an object of type {type(checkpoint).__name__}, not a dict of tensors")
    states = [checkpoint, *(checkpoint.get(key) for key in _WRAPPERS)]
    for state in states:
        if isinstance(state, dict) and any(isinstance(value, Tensor) for value in state.values()):
            return state
    for state in states:
        if isinstance(state, Unread):  # a whole model, for example
            raise state.refusal()
    keys = ", ".join(repr(key)[:40] for key in list(checkpoint)[:10])
    raise WeightsError(
        f"there is no tensor in it, nor in a dict under {' or '.join(map(repr, _WRAPPERS))}; "
        f"it has {f'the keys {keys}' if keys else 'no keys'}"
    )


def _aligned(content: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if content.ctypes.data % dtype.itemsize == 0:
        return content
    content = content.copy()  # a zip that others packed: PyTorch aligns its storages
    content.flags.writeable = False
    return content


def _check(tensor: Tensor, content: np.ndarray) -> None:
    storage = tensor.storage
    size = storage.length * storage.dtype.itemsize
    if content.size != size:
        raise WeightsError(
            f"storage {shown(storage.key)} has {content.size} bytes; the {storage.length} numbers of "
            f"{storage.dtype} that it should have take {size}"
        )
    if tensor.end > storage.length:
        figures = f"shape {tensor.shape}, strides {tensor.strides} and offset {tensor.offset}"
        raise WeightsError(
            f"a tensor of {shown(figures)} reaches outside of storage {shown(storage.key)}, which has "
            f"{storage.length} numbers"
        )


def _view(tensor: Tensor, content: np.ndarray) -> np.ndarray:
    storage, itemsize = tensor.storage, tensor.storage.dtype.itemsize
    if 0 in tensor.shape:
        array = np.empty(tensor.shape, storage.dtype)
        array.flags.writeable = False
        return array
    # Along an axis of one number the stride is of no meaning, and need not even be possible.
    strides = [
        (step if side > 1 else 1) * itemsize for side, step in zip(tensor.shape, tensor.strides, strict=True)
    ]
    return np.ndarray(
        tensor.shape, storage.dtype, buffer=content, offset=tensor.offset * itemsize, strides=strides
    )
