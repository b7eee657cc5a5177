"""Pictures a second of torchvision's transforms v2, for `input_pipeline.py`, which starts it.

    python benchmarks/input_pipeline_torchvision.py HEIGHT WIDTH BATCH_SIZE EPOCHS WORKERS < FILES

A line of FILES is the path of a JPEG, a tab, and its boxes. Prints the first epoch's pictures a second, and
those of the fastest later one. Pillow decodes, as in torchvision's own references. Needs nothing of kzoo.
"""

import json
import sys
import time

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

GREY = 114


class Pictures(Dataset):
    """Files with boxes, decoded as they are asked for unless they are kept."""

    def __init__(self, lines, transform):
        files = [line.rstrip("\n").split("\t") for line in lines]
        self.files = [(path, torch.tensor(json.loads(boxes)).reshape(-1, 4)) for path, boxes in files]
        self.transform = transform
        self.kept = {}

    def decoded(self, index):
        """A picture, uint8 [3, H, W]."""
        return v2.functional.pil_to_tensor(Image.open(self.files[index][0]).convert("RGB"))

    def keep(self):
        """Decodes all; workers that start from now on share them."""
        self.kept = {index: self.decoded(index) for index in range(len(self))}

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        rows = self.files[index][1]
        picture = tv_tensors.Image(self.kept[index] if self.kept else self.decoded(index))
        boxes = tv_tensors.BoundingBoxes(rows, format="XYXY", canvas_size=picture.shape[1:])
        return self.transform(picture, {"boxes": boxes, "labels": torch.zeros(len(rows), dtype=torch.int64)})


def together(pairs):
    """A batch; boxes stay a list, as torchvision's detectors take them."""
    return torch.stack([picture for picture, _ in pairs]), [target for _, target in pairs]


def main() -> None:
    """Measures."""
    height, width, batch_size, epochs, workers = map(int, sys.argv[1:])
    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.ScaleJitter((height, width), (0.7, 1.4)),
            v2.RandomCrop((height, width), pad_if_needed=True, fill=GREY),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(),
            v2.ColorJitter(0.12, 0.25, 0.3, 0.02),
        ]
    )
    pictures = Pictures(sys.stdin.readlines(), transform)
    options = {"shuffle": True, "num_workers": workers, "collate_fn": together}
    seconds = []
    for keep in (False, True):
        if keep:
            pictures.keep()
        loader = DataLoader(pictures, batch_size, persistent_workers=workers > 0, **options)
        for _ in range(epochs - 1 if keep else 1):
            begin = time.perf_counter()
            for _ in loader:
                pass
            seconds.append(time.perf_counter() - begin)
    print(len(pictures) / seconds[0], len(pictures) / min(seconds[1:]))


if __name__ == "__main__":
    main()
