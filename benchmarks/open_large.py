"""How long it takes to open a large set, and how much memory: 100,000 boxes over 10,000 small JPEG files.

    python benchmarks/open_large.py

Makes the set in a temporary directory, in each of the layouts, and opens each in a process of its own: the
source, the split with all of its pictures checked. Seconds, and the most memory that the process took, and
had taken before for Python and what is imported (Linux tells). The files were just written, so that the
system still has them in its memory. Prints a Markdown table.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

CLASSES = tuple(f"class_{number}" for number in range(20))
SIDE = 64  # pixels

_OPEN = """
import pathlib, re, sys, time
from kzoo.data.sources import open_source, open_split
def most():  # in MB, of this program alone; what getrusage tells may be of who started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
before = most()
begin = time.perf_counter()
source = open_source(sys.argv[1], task="detection")
opened = time.perf_counter()
split = open_split(source, "all" if "all" in source.info.splits else "train")
end = time.perf_counter()
print(len(split), sum(map(len, split.boxes)), opened - begin, end - opened, before, most())
"""


@dataclass(frozen=True)
class Settings:
    """How long it takes to open a large set."""

    pictures: int = 10_000
    boxes: int = 10
    """In each picture."""
    runs: int = 3
    """Of each the fastest is told."""


def draw(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [pictures, boxes, 4] of whole pixels, xyxy, and classes [pictures, boxes]."""
    rng = np.random.default_rng(0)
    shape = settings.pictures, settings.boxes
    begins = rng.integers(0, SIDE // 2, [*shape, 2])
    extents = rng.integers(4, SIDE // 2, [*shape, 2])
    return np.concatenate([begins, begins + extents], axis=-1), rng.integers(0, len(CLASSES), shape)


def write_pictures(folder: Path, count: int) -> list[str]:
    """Small JPEG files, all of them different."""
    folder.mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        encoded = io.BytesIO()
        colour = number % 256, number // 256 % 256, 90
        Image.new("RGB", (SIDE, SIDE), colour).save(encoded, "JPEG")
        (folder / name).write_bytes(encoded.getvalue())
    return names


def write_coco(folder: Path, names: list[str], boxes: np.ndarray, classes: np.ndarray) -> str:
    """As `coco:DIR` reads it."""
    annotations = []
    for image, (of_one, labels) in enumerate(zip(boxes.tolist(), classes.tolist(), strict=True)):
        for (x1, y1, x2, y2), label in zip(of_one, labels, strict=True):
            box, number = [x1, y1, x2 - x1, y2 - y1], len(annotations)
            area = box[2] * box[3]
            annotations.append(
                {
                    "id": number,
                    "image_id": image,
                    "category_id": label,
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                }
            )
    images = [
        {"id": number, "file_name": name, "height": SIDE, "width": SIDE} for number, name in enumerate(names)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "instances_train.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return f"coco:{path},{folder / 'images'}"


def write_voc(folder: Path, names: list[str], boxes: np.ndarray, classes: np.ndarray) -> str:
    """As `voc:DIR` reads it."""
    directory = folder / "voc"
    (directory / "Annotations").mkdir(parents=True)
    (directory / "ImageSets" / "Main").mkdir(parents=True)
    (directory / "JPEGImages").symlink_to(folder / "images")
    stems = [Path(name).stem for name in names]
    (directory / "ImageSets" / "Main" / "train.txt").write_text("\n".join(stems), encoding="utf-8")
    for stem, of_one, labels in zip(stems, boxes.tolist(), classes.tolist(), strict=True):
        objects = "".join(
            f"\t<object>\n\t\t<name>{CLASSES[label]}</name>\n\t\t<pose>Unspecified</pose>\n"
            f"\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n"
            f"\t\t\t<xmin>{x1 + 1}</xmin>\n\t\t\t<ymin>{y1 + 1}</ymin>\n\t\t\t<xmax>{x2}</xmax>\n"
            f"\t\t\t<ymax>{y2}</ymax>\n\t\t</bndbox>\n\t</object>\n"
            for (x1, y1, x2, y2), label in zip(of_one, labels, strict=True)
        )
        size = (
            f"<size>\n\t\t<width>{SIDE}</width>\n\t\t<height>{SIDE}</height>\n\t\t<depth>3</depth>\n\t</size>"
        )
        text = f"<annotation>\n\t<filename>{stem}.jpg</filename>\n\t{size}\n{objects}</annotation>\n"
        (directory / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")
    return f"voc:{directory}"


def write_csv(folder: Path, names: list[str], boxes: np.ndarray, classes: np.ndarray) -> str:
    """As `csv:FILE` reads it."""
    rows = ["path,class,x1,y1,x2,y2"]
    for name, of_one, labels in zip(names, boxes.tolist(), classes.tolist(), strict=True):
        for box, label in zip(of_one, labels, strict=True):
            rows.append(",".join([f"images/{name}", CLASSES[label], *map(str, box)]))
    path = folder / "train.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return f"csv:{path}"


def write_yolo(folder: Path, names: list[str], boxes: np.ndarray, classes: np.ndarray) -> str:
    """As `yolo:DIR` reads it."""
    directory = folder / "yolo"
    (directory / "images").mkdir(parents=True)
    (directory / "labels" / "train").mkdir(parents=True)
    (directory / "images" / "train").symlink_to(folder / "images")
    lines = ["train: images/train", "names:", *(f"  {number}: {name}" for number, name in enumerate(CLASSES))]
    (directory / "data.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    centres = (boxes[..., :2] + boxes[..., 2:]) / (2 * SIDE)
    normal = np.concatenate([centres, (boxes[..., 2:] - boxes[..., :2]) / SIDE], axis=-1)
    for name, of_one, labels in zip(names, normal.tolist(), classes.tolist(), strict=True):
        rows = [
            " ".join([str(label), *(f"{number:.6f}" for number in box)])
            for box, label in zip(of_one, labels, strict=True)
        ]
        path = directory / "labels" / "train" / f"{Path(name).stem}.txt"
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return f"yolo:{directory}"


LAYOUTS: tuple[Callable, ...] = (write_coco, write_voc, write_csv, write_yolo)


def open_once(spec: str) -> list[float]:
    """Pictures, boxes, seconds of source and split, MB before and at the most, in a process of its own."""
    command = [sys.executable, "-c", _OPEN, spec]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return list(map(float, told.split()))


def main(settings: Settings) -> None:
    """Measures all layouts."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        names = write_pictures(folder / "images", settings.pictures)
        boxes, classes = draw(settings)
        specs = [write(folder, names, boxes, classes) for write in LAYOUTS]
        print(f"{settings.pictures} pictures, {boxes[..., 0].size} boxes, {os.cpu_count()} cores, ", end="")
        print(f"load {os.getloadavg()[0]:.1f}.\n")
        print("| layout | source, s | split, s | both, s | memory, MB | of that before, MB |")
        print("|---|---:|---:|---:|---:|---:|")
        for spec in specs:
            runs = [open_once(spec) for _ in range(settings.runs)]
            found, rows, of_source, of_split, before, most = min(runs, key=lambda run: run[2] + run[3])
            if (found, rows) != (settings.pictures, boxes[..., 0].size):
                raise SystemExit(f"{spec}: {found:.0f} pictures with {rows:.0f} boxes were read.")
            scheme, both = spec.partition(":")[0], of_source + of_split
            print(f"| {scheme} | {of_source:.2f} | {of_split:.2f} | {both:.2f} | {most:.0f} | {before:.0f} |")
    print(f"\n{time.perf_counter() - begin:.0f} s.")


if __name__ == "__main__":
    main(tyro.cli(Settings))
