"""What becomes of damaged picture files: whether `load` and `check` name each, and whether any crashes.

    python benchmarks/damaged_files.py --data voc:/data/bccd --files 1000

Draws pictures of the data, writes them into a temporary directory, one in two as another format, and damages
each in a way that is drawn, too. `kzoo.data.load` and `kzoo.data.check` read that directory. A file that
neither names is decoded and compared with the picture that it was. Prints a Markdown table; what kills the
process leaves none.
"""

import hashlib
import io
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

import kzoo.data
from kzoo.data.checking import check
from kzoo.data.faults import DataError, collected
from kzoo.data.pictures import read_picture
from kzoo.data.sources import Split, open_source, open_split

FORMATS = ("png", "gif", "bmp", "webp", "tiff", "ppm")
COPIES = ("duplicate", "two_splits")  # a picture may be drawn more than once
HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n"
COLUMNS = ("files", "named by load", "named by check", "other pixels", "same pixels", "crashes")


@dataclass(frozen=True)
class Settings:
    """What becomes of damaged picture files."""

    data: str
    """Where the pictures are from, such as voc:DIR."""
    split: str = "train"
    files: int = 1000
    seed: int = 0


def change_a_byte(content: bytearray, rng: np.random.Generator) -> bytearray:
    """One byte, anywhere in the file."""
    content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    return content


def change_bytes(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Sixteen bytes in a row."""
    start = int(rng.integers(max(1, len(content) - 16)))
    content[start : start + 16] = rng.bytes(len(content[start : start + 16]))
    return content


def lose_a_block(content: bytearray, rng: np.random.Generator) -> bytearray:
    """A block of a disk, which reads as zeros."""
    start = int(rng.integers(len(content))) // 512 * 512
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    return content


def cut_short(content: bytearray, rng: np.random.Generator) -> bytearray:
    """The end is missing; of some nothing is there."""
    return content[: int(rng.integers(len(content)))]


def cut_out(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Up to a quarter is missing from the middle."""
    start = int(rng.integers(len(content)))
    del content[start : start + int(rng.integers(1, len(content) // 4))]
    return content


def lose_the_head(content: bytearray, rng: np.random.Generator) -> bytearray:
    """The beginning is missing."""
    return content[int(rng.integers(1, 4096)) :]


def replace(content: bytearray, rng: np.random.Generator) -> bytearray:
    """What a server answers that does not have the picture."""
    return bytearray(HTML)


def keep(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Nothing is damaged; the file is called as if it were of another format."""
    return content


DAMAGES: dict[str, Callable[[bytearray, np.random.Generator], bytearray]] = {
    "a byte changed": change_a_byte,
    "16 bytes changed": change_bytes,
    "512 bytes zero": lose_a_block,
    "cut short": cut_short,
    "cut out of the middle": cut_out,
    "the head missing": lose_the_head,
    "a web page": replace,
    "renamed": keep,
}


def write_damaged(split: Split, directory: Path, settings: Settings) -> dict[Path, tuple[str, bytes]]:
    """Damaged files, and of each what was done to it and a digest of the pixels that it had."""
    rng = np.random.default_rng(settings.seed)
    damaged = {}
    for number in range(settings.files):
        name = Path(split.names[rng.integers(len(split))])
        content, extension = name.read_bytes(), name.suffix.lstrip(".")
        if rng.random() < 0.5:
            extension = str(rng.choice(FORMATS))
            file = io.BytesIO()
            Image.fromarray(read_picture(name)).save(file, extension)
            content = file.getvalue()
        path = directory / f"{number:05}.{extension}"
        path.write_bytes(content)
        pixels = digest(path)
        kind = str(rng.choice(list(DAMAGES)))
        path.unlink()
        if kind == "renamed":
            path = path.with_suffix(str(rng.choice([".jpg", ".png", ".txt", ""])))
        path.write_bytes(DAMAGES[kind](bytearray(content), rng))
        damaged[path] = kind, pixels
    return damaged


def digest(path: Path) -> bytes:
    """What tells the pixels of a picture file from others."""
    return hashlib.blake2b(read_picture(path)).digest()


def decoded(path: Path, pixels: bytes) -> str:
    """What becomes of a file that nobody named."""
    try:
        return "same pixels" if digest(path) == pixels else "other pixels"
    except Exception as error:
        print(f"{path.name}: {type(error).__name__}: {error}")
        return "crashes"


def main(settings: Settings) -> None:
    """Damages files, has them read and prints what became of them."""
    pictures = open_split(open_source(settings.data), settings.split)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "class"
        folder.mkdir()
        damaged = write_damaged(pictures, folder, settings)
        spec = f"folder:{directory}"
        with collected() as faults:
            data = kzoo.data.load(
                spec, split="all", task="classification", image_size=(32, 32), batch_size=1, shuffle=False
            )
        by_load = {fault.picture for fault in faults}
        for index, name in enumerate(data.pictures.names):
            try:
                data.pictures.read(index)
            except DataError as error:
                assert name in str(error), error
                by_load.add(name)
        by_check = {finding.picture for finding in check(spec).faults if finding.kind not in COPIES}
        rows = {kind: Counter() for kind in DAMAGES}
        for path, (kind, pixels) in damaged.items():
            rows[kind]["files"] += 1
            rows[kind]["named by load"] += str(path) in by_load
            rows[kind]["named by check"] += str(path) in by_check
            if str(path) not in by_load | by_check:
                rows[kind][decoded(path, pixels)] += 1
    rows["all"] = sum(rows.values(), Counter())
    print(f"| damage | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}")
    for kind, row in rows.items():
        print(f"| {kind} | {' | '.join(str(row[column]) for column in COLUMNS)} |")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
