"""The pickle of a PyTorch state dict, read by a machine that knows nothing else.

Python's own unpickler calls whatever a file names. This one has only the opcodes that a dict of tensors is
written with, and only the names in `_STORAGES` and `_BUILDERS`. Whatever else a file names is never looked
up, imported or called: in its place is an `Unread`, so that what training scripts put beside a state dict
does not keep from reading it. What it costs to read a pickle is bounded by its length; its tensors are not
made here, and what they would take is for whoever makes them to bound.

Source: the opcodes and their arguments are those of Python's `pickletools`; what `torch.save` writes with
them is in PyTorch's `torch/serialization.py` and `torch/_utils.py`.
"""

import pickle
import pickletools
import struct
from dataclasses import dataclass
from mmap import mmap
from types import FunctionType

import ml_dtypes
import numpy as np

from kzoo.weights.errors import WeightsError, shown

_LONGEST_NAME = 200
_LARGEST_KEY = 2**63
_MOST_AXES = 64  # NumPy's limit

_STORAGES = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}

# Opcodes that differ only in a number: what they push, or how the number after them is written.
_PUSH = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False, pickle.EMPTY_TUPLE: ()}
_NEW = {pickle.EMPTY_DICT: dict, pickle.EMPTY_LIST: list}
_NUMBERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H", pickle.BINFLOAT: ">d"}
_TEXTS = {pickle.SHORT_BINUNICODE: "<B", pickle.BINUNICODE: "<I", pickle.BINUNICODE8: "<Q"}
_KEEP = {pickle.BINPUT: "<B", pickle.LONG_BINPUT: "<I"}
_RECALL = {pickle.BINGET: "<B", pickle.LONG_BINGET: "<I"}
_TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
_SKIP = {pickle.PROTO: 1, pickle.FRAME: 8}


@dataclass(frozen=True, slots=True)
class Storage:
    """A row of numbers that the file keeps outside of its pickle.

    Args:
        key: what it is called there.
        dtype: of its numbers.
        length: how many it has.
    """

    key: str
    dtype: np.dtype
    length: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage, not yet known to lie within it; offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def end(self) -> int:
        """How many numbers the storage must have for the tensor to lie within it."""
        if 0 in self.shape:
            return self.offset
        return self.offset + 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True, slots=True)
class Unread:
    """In the place of what a file names and nobody looks up, and of all that would be made by it.

    Args:
        name: what the file asks for, such as `argparse.Namespace`; as `kzoo.weights.errors.shown` has it.
    """

    name: str

    def refusal(self) -> WeightsError:
        """The error where a state dict cannot do without it."""
        return _refusal(f"asks for {self.name}")


def _ordered_dict() -> dict:
    return {}  # a dict of today keeps its order


def _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks, metadata=None) -> Tensor:
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError
    if any(type(number) is not int or number < 0 for number in (offset, *shape, *strides)):
        raise TypeError
    if len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise ValueError
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor, requires_grad, hooks) -> Tensor:
    if type(tensor) is not Tensor:
        raise TypeError
    return tensor


_BUILDERS = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


class StateDictUnpickler:
    """Reads one pickle after the other; `position` is where the next one would begin.

    Args:
        data: the file, or a part of it.
        position: where the pickle begins.
        end: where it has to be over at the latest.

    Example:
        unpickler = StateDictUnpickler(data)
        state = unpickler.load()      # {"fc.weight": Tensor(...), ...}
        unpickler.storages            # {"0": Storage(...), ...}
    """

    def __init__(self, data: bytes | mmap, position: int = 0, end: int | None = None):
        self.data = data
        self.position = position
        self.end = len(data) if end is None else min(end, len(data))
        self.storages: dict[str, Storage] = {}

    def load(self) -> object:
        """Reads a pickle.

        Returns:
            What it holds: dicts, lists, tuples, text, numbers, None, `Tensor`s, and `Unread` for all others.

        Raises:
            WeightsError: if it uses an opcode that a state dict does not need, is damaged or is cut short.
        """
        self._stack, self._marks, self._memo = [], [], {}
        while True:
            start = self.position
            try:
                opcode = self._take(1)
                if opcode == pickle.STOP:
                    (value,) = self._stack
                    return value
                self._step(opcode)
            except (LookupError, TypeError, ValueError) as error:
                if isinstance(error, WeightsError):
                    raise
                raise WeightsError(f"its pickle is damaged or cut short at byte {start}") from None

    def _step(self, opcode: bytes):
        stack = self._stack
        if opcode in _PUSH:
            stack.append(_PUSH[opcode])
        elif opcode in _NEW:
            stack.append(_NEW[opcode]())
        elif opcode in _NUMBERS:
            stack.append(self._number(_NUMBERS[opcode]))
        elif opcode == pickle.LONG1:
            stack.append(int.from_bytes(self._take(self._number("<B")), "little", signed=True))
        elif opcode in _TEXTS:
            stack.append(str(self._take(self._number(_TEXTS[opcode])), "utf-8"))
        elif opcode in _KEEP:
            self._memo[self._number(_KEEP[opcode])] = stack[-1]
        elif opcode == pickle.MEMOIZE:
            self._memo[len(self._memo)] = stack[-1]
        elif opcode in _RECALL:
            stack.append(self._memo[self._number(_RECALL[opcode])])
        elif opcode == pickle.MARK:
            self._marks.append(len(stack))
        elif opcode == pickle.TUPLE:
            stack.append(tuple(self._pop(self._marks.pop())))
        elif opcode in _TUPLES:
            stack.append(tuple(self._pop(-_TUPLES[opcode])))
        elif opcode == pickle.APPEND:
            self._append(self._pop(-1))
        elif opcode == pickle.APPENDS:
            self._append(self._pop(self._marks.pop()))
        elif opcode == pickle.SETITEM:
            self._set_items(self._pop(-2))
        elif opcode == pickle.SETITEMS:
            self._set_items(self._pop(self._marks.pop()))
        elif opcode == pickle.GLOBAL:
            stack.append(_admit(self._line(), self._line()))
        elif opcode == pickle.STACK_GLOBAL:
            stack.append(_admit(*self._pop(-2)))
        elif opcode in (pickle.REDUCE, pickle.NEWOBJ):
            stack.append(_call(opcode, *self._pop(-2)))
        elif opcode == pickle.BUILD:
            # Attributes, which are of no use here: an OrderedDict's are the versions of a model's modules.
            self._pop(-1)
            if type(stack[-1]) not in (dict, Unread):
                raise TypeError
        elif opcode == pickle.BINPERSID:
            stack.append(self._storage(*self._pop(-1)[0]))
        elif opcode in _SKIP:
            self._take(_SKIP[opcode])
        else:
            raise _not_in_a_state_dict(opcode)

    def _take(self, count: int) -> bytes:
        if count > self.end - self.position:
            raise ValueError
        self.position += count
        return self.data[self.position - count : self.position]

    def _number(self, written: str) -> int | float:
        return struct.unpack(written, self._take(struct.calcsize(written)))[0]

    def _line(self) -> str:
        stop = self.data.find(b"\n", self.position, min(self.end, self.position + _LONGEST_NAME))
        if stop < 0:
            raise ValueError
        return str(self._take(stop + 1 - self.position)[:-1], "utf-8")

    def _pop(self, place: int) -> list:
        """What lies on the stack from a place on; a place below zero counts from the top."""
        if place < 0:
            place += len(self._stack)
        # What lies below a mark that is still open belongs to another.
        if place < (self._marks[-1] if self._marks else 0) or place > len(self._stack):
            raise ValueError
        values = self._stack[place:]
        del self._stack[place:]
        return values

    def _append(self, values: list):
        if type(self._stack[-1]) is Unread:
            return
        if type(self._stack[-1]) is not list:
            raise TypeError
        self._stack[-1].extend(values)

    def _set_items(self, values: list):
        target = self._stack[-1]
        if type(target) is Unread:
            return
        if type(target) is not dict:
            raise TypeError
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Other keys could be made to collide, to nest without end, or both.
            if type(key) is not str and (type(key) is not int or abs(key) >= _LARGEST_KEY):
                raise WeightsError(f"one of its dicts has a key of type {type(key).__name__}; a key is text")
            target[key] = value

    def _storage(self, kind, dtype, key, location, length, view=None) -> Storage:
        if type(dtype) is Unread:
            raise dtype.refusal()
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise TypeError
        if type(key) is not str or type(length) is not int or length < 0:
            raise TypeError
        storage = Storage(key, dtype, length)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError
        return storage


def _admit(module: str, name: str) -> np.dtype | FunctionType | Unread:
    if type(module) is not str or type(name) is not str:
        raise TypeError
    if len(module) + len(name) > 2 * _LONGEST_NAME:  # a text of any length can be recalled by two bytes
        raise ValueError
    wanted = f"{module}.{name}"
    if wanted in _STORAGES:
        return _STORAGES[wanted]
    return _BUILDERS[wanted] if wanted in _BUILDERS else Unread(shown(wanted))


def _call(opcode: bytes, function: object, arguments: object) -> object:
    if type(arguments) is not tuple:
        raise TypeError
    if type(function) is Unread:
        return function  # not called: what would come of it is as unread as itself
    if opcode != pickle.REDUCE or type(function) is not FunctionType:
        raise TypeError
    return function(*arguments)  # one of `_BUILDERS`: no other function can be on the stack


def _not_in_a_state_dict(opcode: bytes) -> WeightsError:
    known = pickletools.code2op.get(opcode.decode("latin-1"))
    return _refusal(f"uses the opcode {known.name if known else opcode.hex()}")


def _refusal(what: str) -> WeightsError:
    return WeightsError(
        f"its pickle {what}; a state dict needs nothing but tensors of plain numbers, "
        "collections.OrderedDict, lists, text and numbers, so it was refused and nothing of it was run. "
        "If you trust it, write its state dict to a file of its own where PyTorch is: "
        'checkpoint = torch.load(PATH, weights_only=False), then torch.save(checkpoint["model"], NEW), or '
        "torch.save(checkpoint.state_dict(), NEW) if it is a whole model"
    )
