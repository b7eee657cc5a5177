"""PyTorch's checkpoints, written without PyTorch: byte for byte the opcodes that `torch.save` writes."""

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


@pytest.fixture(scope="session")
def write_checkpoint():
    """`write_checkpoint(path, state)` writes arrays as a `.pth`; see the function."""
    return _write_checkpoint


def _write_checkpoint(
    path: Path,
    state: object,
    *,
    prefix: str = "archive",
    byteorder: bool = True,
    parameters: bool = False,
    legacy: bool = False,
    compressed: bool = False,
    aligned: bool = True,
) -> Path:
    """Writes a checkpoint and returns its path.

    Arrays that view the same memory share a storage, with their offset and strides, as tensors do: `{"a": w,
    "tied": w, "turned": w.T}` has one storage. A dict of arrays alone becomes an OrderedDict with the
    `_metadata` of a module's state dict; other dicts, lists, text, numbers and None stay what they are.

    Args:
        path: the file.
        state: dict of arrays, or anything around it: `{"model": {...}, "epoch": 3}`.
        prefix: folder in the zip; PyTorch takes the file's name.
        byteorder: with the member that tells it; PyTorch before 2.1 wrote none.
        parameters: float arrays are saved as `nn.Parameter`.
        legacy: the format before the zip.
        compressed: the zip's members are deflated; PyTorch never does.
        aligned: storages begin at multiples of 64 bytes.
    """
    writer = PickleWriter(parameters=parameters, legacy=legacy)
    index = writer.pickle(state)
    if legacy:
        path.write_bytes(_legacy(index, writer.storages))
        return path
    members = {"data.pkl": index, "version": b"3\n"}
    if byteorder:
        members["byteorder"] = b"little"
    members |= {f"data/{key}": storage.tobytes() for key, storage in writer.storages.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(f"{prefix}/{name}")
            begins = archive.fp.tell() + 30 + len(member.filename) + 4
            padding = -begins % 64 + (0 if aligned else 1)
            member.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
            member.compress_type = archive.compression
            archive.writestr(member, content)
    return path


def _legacy(index: bytes, storages: dict[str, np.ndarray]) -> bytes:
    machine = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    head = [PickleWriter().pickle(value) for value in (MAGIC_NUMBER, 1001, machine)]
    contents = [struct.pack("<q", storage.size) + storage.tobytes() for storage in storages.values()]
    return b"".join([*head, index, PickleWriter().pickle(list(storages)), *contents])


class PickleWriter:
    """Writes one pickle of protocol 2; `storages` are what its tensors are views of."""

    def __init__(self, *, parameters=False, legacy=False):
        self.parameters, self.legacy = parameters, legacy
        self.storages: dict[str, np.ndarray] = {}
        self.keys: dict[int, str] = {}
        self.memo: dict[object, int] = {}
        self.parts = [pickle.PROTO + b"\2"]

    def pickle(self, value) -> bytes:
        self.value(value)
        return b"".join([*self.parts, pickle.STOP])

    def value(self, value):
        if isinstance(value, (np.ndarray, np.generic)):
            self.parameter(np.asarray(value))
        elif isinstance(value, dict):
            self.dict(value)
        elif isinstance(value, (list, tuple)):
            self.sequence(value)
        elif isinstance(value, str):
            self.once(value, pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode())
        elif value is None or isinstance(value, bool):
            self.parts.append({None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}[value])
        elif isinstance(value, float):
            self.parts.append(pickle.BINFLOAT + struct.pack(">d", value))
        else:
            self.integer(value)

    def integer(self, value: int):
        if 0 <= value < 2**8:
            self.parts.append(pickle.BININT1 + struct.pack("<B", value))
        elif 0 <= value < 2**16:
            self.parts.append(pickle.BININT2 + struct.pack("<H", value))
        elif -(2**31) <= value < 2**31:
            self.parts.append(pickle.BININT + struct.pack("<i", value))
        else:
            content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.parts.append(pickle.LONG1 + bytes([len(content)]) + content)

    def once(self, what, opcodes: bytes):
        """The first time in full, from then on from the memo."""
        if what in self.memo:
            place = self.memo[what]
            short = place < 256
            self.parts.append(
                pickle.BINGET + bytes([place]) if short else pickle.LONG_BINGET + struct.pack("<I", place)
            )
        else:
            self.parts.append(opcodes)
            self.memorize(what)

    def memorize(self, what=None):
        place = len(self.memo)
        self.memo[what if what is not None else place] = place
        self.parts.append(
            pickle.BINPUT + bytes([place]) if place < 256 else pickle.LONG_BINPUT + struct.pack("<I", place)
        )

    def named(self, module: str, name: str):
        self.once((module, name), pickle.GLOBAL + f"{module}\n{name}\n".encode())

    def ordered_dict(self):
        self.named("collections", "OrderedDict")
        self.parts.append(pickle.EMPTY_TUPLE + pickle.REDUCE)
        self.memorize()

    def sequence(self, values):
        if isinstance(values, list):
            self.parts.append(pickle.EMPTY_LIST)
            self.memorize()
        self.parts.append(pickle.MARK)
        for value in values:
            self.value(value)
        self.parts.append(pickle.APPENDS if isinstance(values, list) else pickle.TUPLE)
        if isinstance(values, tuple):
            self.memorize()

    def dict(self, values: dict):
        of_arrays = values and all(isinstance(value, (np.ndarray, np.generic)) for value in values.values())
        if of_arrays:
            self.ordered_dict()
        else:
            self.parts.append(pickle.EMPTY_DICT)
            self.memorize()
        self.parts.append(pickle.MARK)
        for key, value in values.items():
            self.value(key)
            self.value(value)
        self.parts.append(pickle.SETITEMS)
        if of_arrays:  # a state dict's attributes: the versions of its modules
            self.value({"_metadata": {"": {"version": 1}}})
            self.parts.append(pickle.BUILD)

    def parameter(self, array: np.ndarray):
        if not self.parameters or array.dtype.kind not in "fV":
            self.tensor(array)
            return
        self.named("torch._utils", "_rebuild_parameter")
        self.tensor(array)
        self.parts.append(pickle.NEWTRUE)
        self.ordered_dict()
        self.parts.append(pickle.TUPLE3)
        self.memorize()
        self.parts.append(pickle.REDUCE)
        self.memorize()

    def tensor(self, array: np.ndarray):
        storage = array
        while isinstance(storage.base, np.ndarray) and storage.base.dtype == array.dtype:
            storage = storage.base
        if not storage.flags.c_contiguous or min(array.strides, default=0) < 0:
            array = storage = array.copy(order="C")
        key = self.keys.setdefault(id(storage), str(len(self.keys)))
        self.storages[key] = storage
        offset = array.__array_interface__["data"][0] - storage.__array_interface__["data"][0]

        self.named("torch._utils", "_rebuild_tensor_v2")
        self.parts.append(pickle.MARK)
        self.parts.append(pickle.MARK)
        self.value("storage")
        self.named("torch", STORAGES[array.dtype.name])
        self.value(key)
        self.value("cpu")
        self.value(storage.size)
        if self.legacy:
            self.value(None)
        self.parts.append(pickle.TUPLE)
        self.memorize()
        self.parts.append(pickle.BINPERSID)
        self.value(offset // array.itemsize)
        self.value(array.shape)
        self.value(tuple(stride // array.itemsize for stride in array.strides))
        self.parts.append(pickle.NEWFALSE)
        self.ordered_dict()
        self.parts.append(pickle.TUPLE)
        self.memorize()
        self.parts.append(pickle.REDUCE)
        self.memorize()
