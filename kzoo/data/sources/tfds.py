"""`"tfds:NAME"`: a set of tensorflow-datasets (`kzoo.data.sources.tfds_builder` says where it is looked for).

Sets with the usual features can be read: `image` with `label`; with `objects`, a sequence of `bbox`, `label`
and perhaps `is_crowd`, `area`, and masks; or with `segmentation_mask`. Objects marked as difficult are
objects like all others. Splits and slices are in TFDS's own language, and count in TFDS's own order.

Pictures are read as they are stored, as `tfds.load` does: a turn that EXIF asks for is not carried out,
because boxes are shares of the stored height and width. TFDS keeps these shares in 32 bits, which tell a
place to about a thousandth of a pixel: to that they are rounded, so that whole pixels come back whole. The
boxes of `voc` count pixels from 1 in TFDS too, and are read as `"voc:DIR"` reads them.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from numbers import Integral

import numpy as np
import tensorflow_datasets as tfds

from kzoo.classes import CROWD
from kzoo.data.class_names import object_classes, pixel_classes
from kzoo.data.faults import DataError, Faults
from kzoo.data.sources.labels import labels_of_masks
from kzoo.data.sources.source import MASKED, Info, Split, check_name, check_split
from kzoo.data.sources.tfds_annotations import Annotations, Picture
from kzoo.data.sources.tfds_builder import open_builder, prepare, tell_absent
from kzoo.data.sources.tfds_features import LABEL, Features, find_features
from kzoo.data.sources.tfds_records import Record, Records, Scanned, open_records
from kzoo.data.sources.yolo_labels import MOST_CLASSES

_THREADS = 4
_BLOCK = 256  # records that are looked at together


def open_tfds(
    spec: str, where: str, *, task: str | None, classes: tuple[str, ...] | None, max_pixels: int
) -> "TfdsSource":
    """The source behind `"tfds:..."`.

    Args:
        spec: the text that messages call it by.
        where: a name or a directory, and the options behind it.
        task: what is to be learnt, as far as that is known. None: to see what there is, for which nothing is
            downloaded: of a set that is not there yet the splits are not known.
        classes: names in the order of their numbers; by default those of the set.
        max_pixels: the most that a picture may have.

    Raises:
        DataError: there is no such set, or nothing in it that can be learnt.
    """
    builder = open_builder(spec, where)
    features = find_features(spec, builder.info)
    is_asked_only = not builder.info.splits and task is None
    if is_asked_only:
        tell_absent(spec, builder)
    elif not builder.info.splits:  # TFDS does not know what is in it before it is there
        prepare(spec, builder)
    source = TfdsSource(spec, builder, features, task=task, classes=classes, max_pixels=max_pixels)
    if is_asked_only and not classes and all(map(str.isdecimal, source.info.classes)):
        source.info = replace(source.info, classes=())  # nor does it know their names
    return source


class TfdsSource:
    """A set that TFDS prepares. Opening it reads what TFDS wrote beside the records, and not the records.

    `max_objects` is that of the splits that were opened so far.

    Args:
        spec: the text that messages call it by.
        builder: of the set.
        features: of the set.
        task: what is to be learnt.
        classes: names in the order of their numbers, with or without "background" in front where pixels
            have those of objects. A set that names none takes them as the names of 0, 1, 2, ...; without them
            all records are read to see which numbers there are.
        max_pixels: the most that a picture may have.
    """

    reads_slices = True

    def __init__(
        self,
        spec: str,
        builder: tfds.core.DatasetBuilder,
        features: Features,
        *,
        task: str | None = None,
        classes: tuple[str, ...] | None = None,
        max_pixels: int,
    ) -> None:
        self._builder = builder
        self._features = features
        tasks = _tasks(features)
        self._task = task if task in tasks else tasks[0]
        found, of_masks = _names_for(features, self._task)
        if classes and of_masks:
            classes = object_classes(classes)
        numbers = ()
        if not (found or classes) and task is not None:
            numbers = self._numbers(spec)
        if not (found or classes or numbers) and task is not None:
            expected = "expected classes=, the names of 0, 1, 2, ..."
            raise DataError(f"{spec}: nothing in it names its classes; {expected}")
        for name in found if found and classes else ():
            check_name(f"{spec} (the classes are from classes=)", "class", name, classes)
        names = classes or found or numbers
        class_of = tuple(map(names.index, found or names))  # of the set's own numbers
        from_one = builder.name == "voc"
        self._annotations = Annotations(features, self._task, class_of, max_pixels, from_one)
        splits = {name: int(split.num_examples) for name, split in builder.info.splits.items()}
        self.info = Info(spec, pixel_classes(names) if of_masks else names, splits, tasks)
        self.max_objects = 1

    def _numbers(self, spec: str) -> tuple[str, ...]:
        """The classes of a set that names none, called by their numbers; none where only pixels have them."""
        if self._task == "classification":
            feature = LABEL
        elif self._features.objects:
            feature = self._features.objects.label
        else:
            return ()
        prepare(spec, self._builder)
        highest = -1
        for name in self._builder.info.splits:
            for scanned in open_records(self._builder, name).scan():
                found = () if isinstance(scanned.record, DataError) else scanned.record.get(feature, ())
                there = [int(one) for one in found if isinstance(one, Integral) and one < MOST_CLASSES]
                highest = max([highest, *there])
        return tuple(map(str, range(highest + 1)))

    def split(self, name: str, *, strict: bool = False, part: slice = slice(None)) -> Split:
        """The faultless pictures of a split, or of what TFDS's own language tells of splits."""
        spec = self.info.spec
        prepare(spec, self._builder)
        if self.info.splits and name != "all" and re.fullmatch(r"[\w-]+", name):
            check_split(self.info, name)
        try:
            records = open_records(self._builder, name)
        except DataError as error:
            raise DataError(f"{spec}, {error}") from None
        if not len(records):
            raise DataError(f'{spec}: split="{name}" is empty; expected one with pictures')
        told = f'{spec}, split "{name}"'
        faults, kept = Faults(told), []
        numbers = range(len(records))[part]
        for scanned, picture in self._look(islice(records.scan(), numbers.start, numbers.stop, numbers.step)):
            place = f"{told}, {scanned.place}"
            if isinstance(picture, DataError):
                faults.add(place, f"{told}, {picture}", picture.kind)
                continue
            for fault, kind in picture.faults:
                faults.add(place, f"{place}, {fault}", kind)
            kept.append(picture)
        faults.close(len(numbers), strict=strict)
        self.max_objects = max([self.max_objects, *(len(picture.rows) for picture in kept)])
        return self._split_of(name, told, records, kept)

    def _look(self, scan: Iterator[Scanned]) -> Iterator[tuple[Scanned, Picture | DataError]]:
        """What each record tells. No more than a block of them is in memory."""
        if not self._annotations.by_pixels:  # else each record has a label picture to decode
            yield from ((scanned, self._annotations.look_at(scanned)) for scanned in scan)
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            while block := list(islice(scan, _BLOCK)):
                yield from zip(block, pool.map(self._annotations.look_at, block), strict=True)

    def _split_of(self, name: str, told: str, records: Records, kept: list[Picture]) -> Split:
        annotations, objects = self._annotations, self._features.objects
        of_objects = annotations.of_objects
        masked = of_objects and self._task in MASKED
        sizes = tuple(picture.size for picture in kept)
        rows = [picture.rows for picture in kept]
        classes = self._classes_of(kept)

        def record_of(index: int) -> tuple[Record, str]:
            scanned = kept[index].scanned
            try:
                return records.read(scanned), f"{told}, {scanned.place}"
            except DataError as error:
                raise DataError(f"{told}, {error}", error.kind) from error

        def read_masks(index: int) -> list[dict]:
            if objects.counts:
                return [row.mask for row in rows[index]]
            return annotations.read_masks(*record_of(index), kept[index])

        def read_labels(index: int) -> np.ndarray:
            if masked:
                return labels_of_masks(read_masks(index), classes[index], sizes[index])
            return annotations.read_labels(*record_of(index), sizes[index])

        def column(values: list[list], dtype: type, *shape: int) -> tuple[np.ndarray, ...]:
            return tuple(np.array(one, dtype).reshape(-1, *shape) for one in values)

        crowds = of_objects and objects.crowd is not None
        areas = of_objects and objects.area is not None
        return Split(
            name=name,
            boxes=column([[row.box for row in one] for one in rows], np.float32, 4) if of_objects else None,
            classes=classes,
            names=tuple(f"{told}, {picture.scanned.place}" for picture in kept),
            sizes=sizes,
            read=lambda index: annotations.read_picture(*record_of(index)),
            read_bytes=lambda index: annotations.read_bytes(*record_of(index)),
            read_masks=read_masks if masked else None,
            read_labels=read_labels if self._task == "segmentation" else None,
            areas=column([[row.area for row in one] for one in rows], np.float32) if areas else None,
            crowd_classes=column([[row.label for row in one if row.crowd] for one in rows], np.int32)
            if crowds
            else None,
        )

    def _classes_of(self, kept: list[Picture]) -> tuple[np.ndarray, ...]:
        if self._task == "classification":
            of_label = [np.array([label], np.int32) for label in range(len(self.info.classes))]
            return tuple(of_label[picture.label] for picture in kept)  # shared: there may be millions
        labels = [[CROWD if row.crowd else row.label for row in picture.rows] for picture in kept]
        return tuple(np.array(one, np.int32) for one in labels)


def _tasks(features: Features) -> tuple[str, ...]:
    """What can be learnt; the first is what classes are told of where no task is named."""
    objects, tasks = features.objects, []
    masked = objects is not None and bool(objects.counts or objects.masks)
    if objects:
        tasks += ["detection", *["box_regression"] * objects.single]
    if features.label:
        tasks.append("classification")
    if masked or features.pixels:
        tasks.append("segmentation")
    return (*tasks, "instance_segmentation") if masked else tuple(tasks)


def _names_for(features: Features, task: str) -> tuple[tuple[str, ...] | None, bool]:
    """The names that a set has for a task, and whether they are those of objects where pixels are meant."""
    if task == "classification":
        return features.label_names, False
    if task == "segmentation" and features.pixels:
        return features.pixels.names, False
    return features.objects.names, task == "segmentation"
