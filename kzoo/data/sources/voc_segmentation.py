"""`"voc:DIR"` with the task "segmentation": the class of each pixel, in the layout of Pascal VOC.

    DIR/SegmentationClass/NAME.png         classes as indices of a palette: 0 is background, 255 ignored
    DIR/JPEGImages/NAME.jpg                or another format
    DIR/ImageSets/Segmentation/SPLIT.txt   a NAME a line; without such files splits are drawn
    DIR/classes.txt or labels.txt          a class a line; without it the classes are those of Pascal VOC

Annotations are not needed.
"""

from pathlib import Path

from kzoo.data.class_names import object_classes, pixel_classes, written_classes
from kzoo.data.faults import DataError, Faults
from kzoo.data.pictures import MAX_PIXELS
from kzoo.data.sources.pairs import IGNORED, Pair, open_pairs
from kzoo.data.sources.source import Info, Split, check_split, draw_splits
from kzoo.data.sources.voc_layout import (
    LABELS,
    each_once,
    find_annotations,
    first_folder,
    index_pictures,
    read_splits,
)

CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


class VocSegmentation:
    """The source behind `"voc:DIR"` where it is about the class of each pixel.

    Args:
        spec: the text that messages call it by.
        directory: which must be there.
        classes: names in the order of their numbers, with or without "background" in front.
        max_pixels: the most that a picture may have.
    """

    def __init__(
        self,
        spec: str,
        directory: Path,
        *,
        classes: tuple[str, ...] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._max_pixels = max_pixels
        self._label_folder = directory / LABELS
        self._labels = index_pictures(self._label_folder) if self._label_folder.is_dir() else {}
        if not self._labels:
            expected = f"the label pictures {self._label_folder / 'NAME.png'}"
            raise DataError(f'{spec}: task="segmentation" takes label pictures; expected {expected}')
        self._picture_folder = first_folder(directory / "JPEGImages", directory)
        names = {path.stem for paths in self._labels.values() for path in paths}
        self._ids = read_splits(directory / "ImageSets" / "Segmentation") or draw_splits(names)
        written = written_classes(directory)
        names = pixel_classes(object_classes(classes or (written[0] if written else CLASSES)))
        self._class_of_value = {label: label for label in range(len(names))}
        self._class_of_value.setdefault(IGNORED, -1)
        tasks = ("detection", "segmentation") if find_annotations(directory) else ("segmentation",)
        self.info = Info(spec, names, {split: len(ids) for split, ids in self._ids.items()}, tasks)
        self.max_objects = 1

    def split(self, name: str, *, strict: bool = False, part: slice = slice(None)) -> Split:
        """The faultless pictures of one split, or of a part of its list."""
        check_split(self.info, name)
        faults = Faults(f'{self.info.spec}, split "{name}"')
        pictures = index_pictures(self._picture_folder)
        ids = each_once(name, self._ids[name], part, faults)
        pairs = [self._pair(picture, pictures) for picture in ids]
        return open_pairs(
            name, pairs, self._class_of_value, faults, strict=strict, max_pixels=self._max_pixels
        )

    def _pair(self, name: str, pictures: dict[str, list[Path]]) -> Pair:
        picture, label = (next(iter(index.get(name, ())), None) for index in (pictures, self._labels))
        fault = None
        for path, file, kind in (
            (label, self._label_folder / f"{name}.png", "no_annotation"),
            (picture, self._picture_folder / f"{name}.jpg", "missing"),
        ):
            if path is None:
                told = f"{file}: there is no such file; expected one for {name}, which the split lists"
                fault = DataError(told, kind)
        return Pair(name, picture, label, fault)
