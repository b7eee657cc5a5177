"""The records of a TFDS set, one by one and in any order.

TFDS keeps its sets in TFRecord files, which know no places. Going through them once tells where each record
begins and how long it is; from then on a record is read by its place, like a file of its own.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError

from kzoo.data.faults import DataError

Record = Mapping[str, Sequence]  # the values of each feature, one behind the other: "objects/bbox": [...]

_BLOCK = 64  # records read at once
_BEFORE, _AROUND = 12, 16  # bytes that a TFRecord file has before a record, and before and behind it


class Scanned(NamedTuple):
    """A record that was come by, and how to find it again."""

    place: str  # what messages call it
    key: Any
    record: Record | DataError


class Records(Protocol):
    """The records of a split or a slice."""

    def __len__(self) -> int:
        """How many there should be."""
        ...

    def scan(self) -> Iterator[Scanned]:
        """All of them, in their order; a DataError in place of a record that cannot be read."""
        ...

    def read(self, scanned: Scanned) -> Record:
        """One of them again. Several threads may read at once; raises DataError naming the file."""
        ...


def open_records(builder: tfds.core.DatasetBuilder, split: str) -> Records:
    """The records of a split, of a slice or of several, in TFDS's own language.

    Args:
        builder: of a set that is prepared.
        split: such as "train", "train[10%:20%]+test[:5]".

    Raises:
        DataError: there is no such split, or none of its files is there.
    """
    if not builder.info.splits:  # of `tfds.testing.mock_data`, which takes any
        return _Kept(builder, split)
    try:
        info = builder.info.splits[split]
        files = info.file_instructions
    except (ValueError, KeyError, NotImplementedError) as error:
        told = str(error).strip().splitlines()[-1]
        expected = "expected one such as train, train[:80%] or train+test[:10]"
        raise DataError(f'split="{split}": {told.rstrip(".")}; {expected}') from None
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        return _ArrayRecords(builder, split)
    local = [file for file in files if os.path.isfile(file.filename)]
    if builder.info.file_format == tfds.core.FileFormat.TFRECORD and (local or not files):
        return _TFRecords(files)
    return _Kept(builder, split)


class _TFRecords:
    """Records of TFRecord files; a key is the file, where in it, and how many bytes."""

    def __init__(self, files: Sequence) -> None:
        self._files = files

    def __len__(self) -> int:
        return sum(file.take for file in self._files)

    def scan(self) -> Iterator[Scanned]:
        for file in self._files:
            path, start, end = os.fspath(file.filename), file.skip, file.skip + file.take
            number = offset = 0
            for data in _contents(path):
                if number == end:
                    break
                if number >= start:
                    place = f"record {number} of {path}"
                    yield Scanned(place, (path, offset + _BEFORE, len(data)), _parsed(data, place))
                offset += len(data) + _AROUND
                number += 1
            # Nothing behind a damaged record can be found, because only it tells where the next one begins.
            first = number
            for missing in range(max(start, first), end):
                place = f"record {missing} of {path}"
                found = f"damaged from record {first} on" if os.path.isfile(path) else "there is no such file"
                error = DataError(
                    f"{place}: {found}; expected {file.examples_in_shard} whole records", "unreadable"
                )
                yield Scanned(place, None, error)

    def read(self, scanned: Scanned) -> Record:
        path, offset, length = scanned.key
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read(length)
        except OSError as error:
            raise DataError(f"{scanned.place}: {error}; expected the file to stay as it was") from error
        return _whole(_parsed(data, scanned.place))


class _ArrayRecords:
    """Records of files that know the places of their records, read by TFDS; a key is a number."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._source = builder.as_data_source(split, deserialize_method=raw)
        self._told = f"of {builder.data_path}, {split}"

    def __len__(self) -> int:
        return len(self._source)

    def scan(self) -> Iterator[Scanned]:
        for number in range(len(self)):
            place = f"record {number} {self._told}"
            yield Scanned(place, number, self._record(number, place))

    def read(self, scanned: Scanned) -> Record:
        return _whole(self._record(scanned.key, scanned.place))

    def _record(self, number: int, place: str) -> Record | DataError:
        try:
            data = self._source[number]
        except Exception as error:  # the library tells no kinds apart
            return DataError(f"{place}: {error}; expected a whole record", "unreadable")
        return _parsed(data, place)


class _Kept:
    """Records of which nothing but TFDS itself knows where they are: read once, and kept in memory."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        try:
            self._examples = list(tfds.as_numpy(builder.as_dataset(split=split)))
        except (tf.errors.OpError, OSError, ValueError, AssertionError, NotImplementedError) as error:
            told = str(error).strip().splitlines()[0]
            raise DataError(f'split="{split}": TFDS cannot read {builder.data_path}: {told}') from error
        self._told = f"of {builder.data_path}, {split}"

    def __len__(self) -> int:
        return len(self._examples)

    def scan(self) -> Iterator[Scanned]:
        for number, example in enumerate(self._examples):
            record = dict(_flat(example))
            yield Scanned(f"record {number} {self._told}", record, record)

    def read(self, scanned: Scanned) -> Record:
        return scanned.key


def _contents(path: str) -> Iterator[bytes]:
    """The records of a file as far as their checksums are right."""
    whole = tf.data.TFRecordDataset(path).ignore_errors()
    for block in whole.batch(_BLOCK).prefetch(1).as_numpy_iterator():
        yield from block


def _parsed(data: bytes, place: str) -> Record | DataError:
    try:
        features = tf.train.Example.FromString(data).features.feature
    except DecodeError as error:
        return DataError(f"{place}: {error}; expected a tf.train.Example", "unreadable")
    lists = {name: feature.WhichOneof("kind") for name, feature in features.items()}
    return {name: getattr(features[name], kind).value for name, kind in lists.items() if kind}


def _whole(record: Record | DataError) -> Record:
    if isinstance(record, DataError):
        raise record
    return record


def _flat(example: Mapping, before: str = "") -> Iterator[tuple[str, Sequence]]:
    """A nested example as its record would be, but for pictures, which are decoded."""
    for name, value in example.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}/")
        elif np.ndim(value) >= 3:  # pictures
            yield f"{before}{name}", [value] if np.ndim(value) == 3 else list(value)
        else:
            yield f"{before}{name}", np.reshape(value, -1)
