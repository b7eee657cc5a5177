"""What a trained model answers about picture files, drawn and written down."""

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
from kzoo.evaluation import own_probabilities
from kzoo.trained import Trained
from kzoo.visualize import draw_classes, draw_detections, draw_label, palette_picture
from kzoo.visualize.drawing import name_of

MOST_PROBABLE = 5  # classes of a picture that are written down


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
        files = sorted(
            file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS and file.name[0] != "."
        )
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
    """Draws what a model answers about each picture, and writes it to `output/predictions.json`.

    The file has for each picture its `picture` (path), `height` and `width`, and by the task of the model

    - detection, box_regression, instance_segmentation: `objects`, each with `box` (xyxy in the picture's own
      pixels), `score`, `class` and `label` (null if it has no name). If the model finds masks there is `mask`
      too: COCO's compressed run lengths, `{"size": [height, width], "counts": text}`.
    - classification: `class`, `label` and `probability`, and the same of the `most_probable` five.
    - segmentation: `classes`, each with `class`, `label` and `share` (of the picture's pixels), and the path
      of the `classes_picture`: of the picture's own size, with a palette, and the classes are its values.

    Args:
        model: what to ask.
        drawn: from a picture to where it is to be drawn, as `drawings` tells.
        output: the directory to write to; it is made if it is not there.
        score_threshold: objects with a lower score are left out.

    Raises:
        DataError: a file is not a picture.
        ValueError: a picture would be drawn where the classes of another are to go.
    """
    if model.task == "segmentation":
        for path, target in drawn.items():
            if _classes_path(target) in drawn.values():
                raise ValueError(
                    f"{_classes_path(target)}: the classes of {path} and a picture would go there."
                )
    output.mkdir(parents=True, exist_ok=True)
    predictions = []
    for path, target in drawn.items():
        picture = read_picture(path)
        if model.task == "classification":
            drawing, answer, told = _classified(model, picture)
        elif model.task == "segmentation":
            drawing, answer, told = _segmented(model, picture, _classes_path(target))
        else:
            drawing, answer, told = _found(model, picture, score_threshold)
        Image.fromarray(drawing).save(target)
        print(f"{path}: {told}, drawn in {target}")
        height, width = picture.shape[:2]
        predictions.append({"picture": str(path), "height": height, "width": width} | answer)
    (output / "predictions.json").write_text(json.dumps(predictions, indent=1, ensure_ascii=False) + "\n")


def find_objects(
    model: Trained, picture: np.ndarray, score_threshold: float
) -> dict[str, np.ndarray | list[dict]]:
    """What a model finds in one picture of any size.

    Args:
        model: a detector. Where it has an input size, the picture is letterboxed to it.
        picture: uint8 [H, W, 3].
        score_threshold: objects with a lower score are left out.

    Returns:
        `boxes` float32 [n, 4] xyxy in pixels of `picture`, `scores` [n] descending, `classes` int32 [n], and
        if the model finds masks `masks`: n run lengths as `kzoo.data.masks` has them, in pixels of `picture`.
    """
    size = picture.shape[:2]
    answers, scale = _ask(model, picture)
    boxes, scores, classes = (answers[key] for key in ("boxes", "scores", "classes"))
    kept = (classes >= 0) & (scores >= score_threshold)
    boxes = to_own_pixels(boxes[kept], scale, np.array(size))
    found = {"boxes": boxes, "scores": scores[kept], "classes": classes[kept]}
    if "masks" in answers:
        mask_boxes = answers["mask_boxes"][kept] if "mask_boxes" in answers else None
        found["masks"] = to_own_masks(answers["masks"][kept], boxes, scale, np.array(size), mask_boxes)
    return found


def find_pixels(model: Trained, picture: np.ndarray) -> np.ndarray:
    """The probability of each class at each pixel of one picture of any size.

    Args:
        model: for segmentation. Where it has an input size, the picture is letterboxed to it.
        picture: uint8 [H, W, 3].

    Returns:
        float32 [H, W, C], in pixels of `picture`.
    """
    answers, scale = _ask(model, picture)
    return own_probabilities(answers["probabilities"], scale, np.array(picture.shape[:2]))


def _ask(model: Trained, picture: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A model's answers about a picture, and the factor [2] (y, x) from its pixels to those it was given."""
    given, scale = picture, np.ones(2)
    if None not in model.input_size:
        given, scale = letterbox(picture, model.input_size)
    answers = model.predict(given[np.newaxis])
    return {name: np.asarray(values)[0] for name, values in answers.items()}, scale


def _classes_path(target: Path) -> Path:
    return target.with_name(f"{target.stem}_classes.png")


# Each of these: the drawing, what predictions.json has of the picture, and what is told of it.
_Answer = tuple[np.ndarray, dict, str]


def _classified(model: Trained, picture: np.ndarray) -> _Answer:
    answers, _ = _ask(model, picture)
    probabilities = answers["probabilities"]  # [C]
    foremost = np.argsort(-probabilities, kind="stable")[:MOST_PROBABLE].tolist()
    probable = [
        _class(label, model.labels) | {"probability": float(probabilities[label])} for label in foremost
    ]
    best = probable[0]
    name, probability = name_of(best["class"], model.labels or ()), best["probability"]
    drawing = draw_label(picture, name, probability)
    return drawing, best | {"most_probable": probable}, f"{name} {probability:.2f}"


def _segmented(model: Trained, picture: np.ndarray, classes_path: Path) -> _Answer:
    probabilities = find_pixels(model, picture)
    classes, names = probabilities.argmax(axis=-1), model.labels or ()
    palette_picture(classes, names).save(classes_path)
    shares = np.bincount(classes.reshape(-1), minlength=probabilities.shape[-1]) / classes.size
    answer = {
        "classes_picture": str(classes_path),
        "classes": [
            _class(label, model.labels) | {"share": share} for label, share in enumerate(shares.tolist())
        ],
    }
    most = [label for label in np.argsort(-shares, kind="stable").tolist() if shares[label]][:3]
    told = ", ".join(f"{shares[label]:.1%} {name_of(label, names)}" for label in most)
    return draw_classes(picture, classes, names), answer, told


def _found(model: Trained, picture: np.ndarray, score_threshold: float) -> _Answer:
    found = find_objects(model, picture, score_threshold)
    objects = [
        {"box": box, "score": score} | _class(label, model.labels)
        for box, score, label in zip(
            *(found[key].tolist() for key in ("boxes", "scores", "classes")), strict=True
        )
    ]
    for written, mask in zip(objects, found.get("masks", ()), strict=False):
        written["mask"] = {"size": mask["size"], "counts": mask["counts"].decode("ascii")}
    drawing = draw_detections(picture, found, model.labels or (), score_threshold)
    return drawing, {"objects": objects}, f"{len(objects)} found"


def _class(label: int, labels: tuple[str, ...] | None) -> dict:
    return {"class": label, "label": labels[label] if labels else None}
