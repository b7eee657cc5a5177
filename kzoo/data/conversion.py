"""Writes any data as a TFDS set, which `tfds.load` reads alone, and `"tfds:DIR"` too.

A record has the `image`, its file's own bytes where TensorFlow decodes those to the same picture, or else a
PNG; `image/filename`; and by task

    classification          `label`
    box_regression          `objects`: one
    detection               `objects`: a sequence of `bbox` and `label`, and where the data tells them of
                            `is_crowd` and `area`
    instance_segmentation   the same with `counts`, COCO's compressed run lengths of the object's pixels: with
                            the picture's height and width they are what pycocotools decodes
    segmentation            `segmentation_mask`, the class of each pixel, 255 where it is ignored

Pictures stay in their order, so that slices of the set are those of the data.
"""

import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.utils import tqdm_utils

from kzoo.classes import CROWD
from kzoo.data.faults import DataError
from kzoo.data.paths import read_path
from kzoo.data.pictures import MAX_PIXELS, open_picture, open_stored, turn_left
from kzoo.data.progress import progress_bar
from kzoo.data.sources import Source, Split, open_source, open_split
from kzoo.data.sources.damage import without_damaged
from kzoo.data.sources.pairs import IGNORED
from kzoo.data.sources.tfds_features import AREA, COUNTS, IMAGE, LABEL, PIXELS
from kzoo.data.sources.tfds_features import CROWD as IS_CROWD
from kzoo.data.sources.unions import find_unions
from kzoo.printable import printable
from kzoo.tasks import most_detailed

VERSION = "1.0.0"
_FILE_NAME = "image/filename"  # as TFDS has it of COCO and VOC
_KEPT = {"JPEG": ("L", "RGB"), "MPO": ("L", "RGB"), "PNG": ("L", "RGB", "P")}  # modes that TensorFlow knows


def convert(
    spec: str,
    name: str,
    directory: str | Path,
    *,
    task: str | None = None,
    splits: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Path:
    """Writes data as a TFDS set in sharded TFRecord files.

    A set that is there is never written over, and one that was not finished is not to be seen. Faulty
    pictures are left out and told of, as `kzoo.data.load` does it.

    Args:
        spec: the data, as `kzoo.data.load` takes it.
        name: of the set: small letters, digits and underscores.
        directory: of sets, to be given as `data_dir`; the set lies in NAME/1.0.0 below it.
        task: what of the data is written. None: instances with masks if it has them, or else boxes, the
            classes of pixels, or of pictures.
        splits: the new name of each split, and what it is in the data, as in
            {"train": "all[:24]", "val": "all[24:]"}. None: all of them as they are called, but for those that
            others make up, such as "all": TFDS takes "all" and "train+val" anyway. stderr is told of them.
        classes: names in the order of their numbers. None: those that the data has.
        strict: whether a single fault in the data is an error.
        max_pixels: the most that a picture may have.

    Returns:
        The directory of the set.

    Raises:
        DataError: the data is not what it should be, or the set cannot be called or lie so.

    Example:
        kzoo.data.convert("voc:bccd", "bccd", "sets")
        tfds.load("bccd", data_dir="sets")
        kzoo.data.load("tfds:bccd,data_dir=sets")
    """
    directory = read_path(f"directory={directory}", str(directory))
    _check_name(name, directory)
    if task is None:
        task = most_detailed(open_source(spec, classes=classes, max_pixels=max_pixels).info.tasks)
    source = open_source(spec, task=task, classes=classes, max_pixels=max_pixels)
    if splits is not None:
        _check_splits(spec, splits)
        opened = {new: _open(source, text, strict) for new, text in splits.items()}
    else:
        there = [name for name, count in source.info.splits.items() if count]
        opened = {name: _open(source, name, strict) for name in there}
        opened = _without_unions(spec, opened)
        _check_splits(spec, opened)
    features, example = _layout(source, task, opened)
    total = sum(map(len, opened.values()))
    with (
        progress_bar(f"{spec} to {name}", total) as advance,
        _bars_off(),
        tempfile.TemporaryDirectory() as empty,
    ):
        builder = _Builder(
            name=name,
            version=VERSION,
            description=f"{spec}, converted by kzoo for {task}.",
            features=tfds.features.FeaturesDict(features),
            split_datasets={
                new: _examples(split, partial(example, split), advance) for new, split in opened.items()
            },
            data_dir=str(directory),
            disable_shuffling=True,
        )
        builder.download_and_prepare(download_dir=empty)
    return Path(builder.data_dir)


def _open(source: Source, text: str, strict: bool) -> Split:
    """A split, its files looked all through: they are copied as they are."""
    split = open_split(source, text, strict=strict)
    return without_damaged(split, f'{source.info.spec}, split "{text}"', strict=strict)


class _Builder(tfds.dataset_builders.AdhocBuilder, skip_registration=True):
    """Writes records in their order, which is not to bind those who read them."""

    code_path = None  # no code is needed to read the set

    def _download_and_prepare(self, *args, **options) -> None:
        super()._download_and_prepare(*args, **options)
        # Else `tfds.load(..., shuffle_files=True)` would be an error.
        self.info.as_proto.disable_shuffling = False

    def _log_download_bytes(self) -> None:
        """Tells nothing: there is no download."""

    _log_download_done = _log_download_bytes


def _check_name(name: str, directory: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        expected = "expected small letters, digits and underscores, such as my_set"
        raise DataError(f"{name!r} is no name of a TFDS set; {expected}")
    if name in tfds.list_builders(with_community_datasets=False):
        raise DataError(f"{name!r} is a set of TFDS's own; expected a name of your own, such as my_{name}")
    # What was stopped leaves an empty folder, or if it could not clean up one called incomplete.
    if any(not path.name.startswith("incomplete.") for path in (directory / name).glob("*")):
        raise DataError(f"{directory / name} is there already; expected another name or directory")


def _without_unions(spec: str, splits: Mapping[str, Split]) -> dict[str, Split]:
    """The splits but for those that others make up, of which stderr is told."""
    unions = find_unions({name: frozenset(split.names) for name, split in splits.items()})
    for name, parts in unions.items():
        told = f"{spec}: the split {name} is made up of {', '.join(parts)} and not written again"
        print(printable(told, sys.stderr.encoding), file=sys.stderr)
    return {name: split for name, split in splits.items() if name not in unions}


def _check_splits(spec: str, wanted: Collection[str]) -> None:
    if not wanted:
        raise DataError(f"{spec}: no split to convert; expected one, such as train")
    for name in wanted:
        if name == "all":
            told = 'TFDS calls all splits together "all", and none so'
            raise DataError(f"{spec}: {told}; expected another name for it, as in train=all")
        if not re.fullmatch(r"[A-Za-z0-9_-]*[A-Za-z0-9][A-Za-z0-9_-]*", name):
            expected = "expected letters, digits, _ and -, or another name for it, as in NAME=SPLIT"
            raise DataError(f"{spec}: {name!r} is no name of a split in TFDS; {expected}")


def _layout(source: Source, task: str, splits: Mapping[str, Split]) -> tuple[dict, Callable]:
    """The features, and the function of a split and an index that gives an example of them."""
    names, opened = list(source.info.classes), list(splits.values())
    features = {IMAGE: tfds.features.Image(), _FILE_NAME: tfds.features.Text()}
    if task == "classification":
        return features | {LABEL: tfds.features.ClassLabel(names=names)}, _labelled
    if task == "segmentation":
        labels = tfds.features.LabeledImage(labels=names, shape=(None, None, 1), encoding_format="png")
        return features | {PIXELS: labels}, _pixels
    rows = {"bbox": tfds.features.BBoxFeature(), LABEL: tfds.features.ClassLabel(names=names)}
    if any(split.crowd_classes is not None for split in opened):
        rows[IS_CROWD] = np.bool_
    if all(split.areas is not None for split in opened):
        rows[AREA] = np.float32
    if task == "instance_segmentation":
        rows[COUNTS] = tfds.features.Text(doc="COCO's compressed run lengths of the object's pixels")
    single = all(len(one) == 1 and one[0] != CROWD for split in opened for one in split.classes)
    objects = tfds.features.Sequence(rows, length=1 if single else None)
    return features | {"objects": objects}, partial(_objects, columns=tuple(rows))


def _examples(split: Split, example: Callable, advance: Callable) -> Iterator[tuple[int, dict]]:
    for index, name in enumerate(split.names):
        path = Path(name)
        yield (
            index,
            {
                IMAGE: _file_bytes(split, index) or _png(split.read(index)),
                _FILE_NAME: path.name if path.is_file() else name,
                **example(index),
            },
        )
        advance()


def _labelled(split: Split, index: int) -> dict:
    return {LABEL: int(split.classes[index][0])}


def _pixels(split: Split, index: int) -> dict:
    labels = split.read_labels(index)
    return {PIXELS: _png(np.where(labels < 0, IGNORED, labels).astype(np.uint8))}


def _objects(split: Split, index: int, columns: Sequence[str]) -> dict:
    height, width = split.sizes[index]
    shares = split.boxes[index].astype(np.float64)[:, [1, 0, 3, 2]] / (height, width, height, width)
    crowd = split.classes[index] == CROWD
    labels = split.classes[index].copy()
    labels[crowd] = split.crowd_classes[index] if crowd.any() else 0
    values = {"bbox": list(shares), LABEL: labels.tolist(), IS_CROWD: crowd.tolist()}
    if AREA in columns:
        values[AREA] = split.areas[index].tolist()
    if COUNTS in columns:
        values[COUNTS] = [mask["counts"] for mask in split.read_masks(index)]
    rows = zip(*(values[column] for column in columns), strict=True)
    return {"objects": [dict(zip(columns, row, strict=True)) for row in rows]}


def _file_bytes(split: Split, index: int) -> bytes | None:
    """What is in a picture file, if it is one that TensorFlow decodes to the picture as the split has it."""
    name = split.names[index]
    if split.read_bytes is not None:  # a turn that EXIF asks for neither carries out
        data = split.read_bytes(index)
        if data is None:
            return None
        with open_stored(data, name, None) as picture:
            return data if _is_kept(picture) else None
    path = Path(name)
    if not path.is_file():
        return None
    with open_picture(path, None) as picture:
        return path.read_bytes() if _is_kept(picture) and turn_left(picture) == 1 else None


def _is_kept(picture: Image.Image) -> bool:
    return picture.mode in _KEPT.get(picture.format, ()) and "transparency" not in picture.info


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def _bars_off() -> Iterator[None]:
    """Without TFDS's own bars, which know no totals."""
    shown = not isinstance(tqdm_utils.tqdm(disable=True), tqdm_utils.EmptyTqdm)
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        tfds.display_progress_bar(shown)
