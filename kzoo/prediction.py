"""What a trained model finds in picture files, drawn and written down."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kzoo.checks import check_directory
from kzoo.data.faults import DataError, Faults
from kzoo.data.masks import to_own_masks
from kzoo.data.pictures import EXTENSIONS, check_picture, read_picture
from kzoo.data.resize import letterbox, to_own_pixels
from kzoo.trained import Trained
from kzoo.visualize import draw_detections


def drawings(paths: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Where each picture will be drawn, `output/NAME.png`, once all are known to be pictures.

    Args:
        paths: picture files, or folders of them. A file that is no picture is an error; in a folder it is
            left out and told, as faults in data are.
        output: the directory to draw in.

    Raises:
        DataError: a file is not a picture, a folder has none, or more than a tenth of a folder's are faulty.
        ValueError: there is no picture, `output` is a file, two pictures would be drawn in the same place, or
            one onto itself.
    """
    if not paths:
        raise ValueError("pictures: none were given.")
    check_directory(output, "output")
    drawn: dict[Path, Path] = {}
    for path in _pictures(paths):
        target = output / f"{path.stem}.png"
        if target in drawn.values():
            [first] = [other for other in drawn if drawn[other] == target]
            raise ValueError(f"{first} and {path} would both be drawn in {target}.")
        if target.resolve() == path.resolve():
            raise ValueError(
                f"output={str(output)!r}: {path} would be drawn onto itself; give another directory."
            )
        drawn[path] = target
    return drawn


def _pictures(paths: Sequence[Path]) -> Iterator[Path]:
    """The picture files, each checked."""
    for path in paths:
        if not path.is_dir():
            check_picture(path)
            yield path
            continue
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS)
        if not files:
            raise DataError(
                f"{path}: a folder without pictures; expected files named *{', *'.join(EXTENSIONS)}"
            )
        faults = Faults(str(path))
        for file in files:
            try:
                check_picture(file)
            except DataError as error:
                faults.add(file.name, str(error))
            else:
                yield file
        faults.close(len(files))


def predict_files(model: Trained, drawn: dict[Path, Path], output: Path, score_threshold: float) -> None:
    """Draws what a model finds in each picture, and writes it to `output/predictions.json`.

    The file has for each picture its `picture` (path), `height`, `width` and `objects`, each with `box` (xyxy
    in the picture's own pixels), `score`, `class` and `label` (null if it has no name). If the model finds
    masks there is `mask` too: COCO's compressed run lengths, `{"size": [height, width], "counts": text}`.

    Args:
        model: a detector.
        drawn: from a picture to where it is to be drawn, as `drawings` tells.
        output: the directory to write to; it is made if it is not there.
        score_threshold: objects with a lower score are left out.

    Raises:
        DataError: a file is not a picture.
        ValueError: the model is not a detector.
    """
    output.mkdir(parents=True, exist_ok=True)
    predictions = []
    for path, target in drawn.items():
        picture = read_picture(path)
        found = find_objects(model, picture, score_threshold)
        Image.fromarray(draw_detections(picture, found, model.labels or (), score_threshold)).save(target)
        print(f"{path}: {len(found['boxes'])} found, drawn in {target}")
        predictions.append(_written(path, picture, found, model.labels))
    (output / "predictions.json").write_text(json.dumps(predictions, indent=1, ensure_ascii=False) + "\n")


def find_objects(
    model: Trained, picture: np.ndarray, score_threshold: float
) -> dict[str, np.ndarray | list[dict]]:
    """What a model finds in one picture of any size.

    Args:
        model: a detector. Where it takes one size only, the picture is letterboxed to it.
        picture: uint8 [H, W, 3].
        score_threshold: objects with a lower score are left out.

    Returns:
        `boxes` float32 [n, 4] xyxy in pixels of `picture`, `scores` [n] descending, `classes` int32 [n], and
        if the model finds masks `masks`: n run lengths as `kzoo.data.masks` has them, in pixels of `picture`.

    Raises:
        ValueError: the model's answers are not those of a detector.
    """
    size = picture.shape[:2]
    given, scale = picture, np.ones(2)
    if None not in model.input_size:
        given, scale = letterbox(picture, model.input_size)
    answers = model.predict(given[np.newaxis])
    if "num_detections" not in answers:
        raise ValueError(f"the model finds no boxes: it answers with {', '.join(sorted(answers))}.")
    boxes, scores, classes = (np.asarray(answers[key])[0] for key in ("boxes", "scores", "classes"))
    kept = (classes >= 0) & (scores >= score_threshold)
    boxes = to_own_pixels(boxes[kept], scale, np.array(size))
    found = {"boxes": boxes, "scores": scores[kept], "classes": classes[kept]}
    if "masks" in answers:
        found["masks"] = to_own_masks(np.asarray(answers["masks"])[0][kept], boxes, scale, np.array(size))
    return found


def _written(
    path: Path, picture: np.ndarray, found: dict[str, np.ndarray | list[dict]], labels: tuple[str, ...] | None
) -> dict:
    objects = [
        {"box": box, "score": score, "class": label, "label": labels[label] if labels else None}
        for box, score, label in zip(
            *(found[key].tolist() for key in ("boxes", "scores", "classes")), strict=True
        )
    ]
    for written, mask in zip(objects, found.get("masks", ()), strict=False):
        written["mask"] = {"size": mask["size"], "counts": mask["counts"].decode("ascii")}
    return {"picture": str(path), "height": picture.shape[0], "width": picture.shape[1], "objects": objects}
