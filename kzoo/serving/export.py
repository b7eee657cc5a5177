"""From a model to a version folder that TF Serving takes as it is."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from kzoo.checks import check_directory
from kzoo.image_size import check_image_size
from kzoo.serving.versions import versions

LABELS_FILE = "labels.txt"
IMAGE_SIZE_FILE = "image_size.txt"


def export(
    model: keras.Model,
    directory: str | os.PathLike,
    labels: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
) -> Path:
    """Writes a model as the next version of a served model.

    The SavedModel's signature `serving_default` goes from `images`, float32 `[B, H, W, 3]` in 0-255, to the
    answers that `model.predict` gives, under the same names. The folder appears in one move: a server that
    watches the directory never sees half a model.

    Args:
        model: a trained model of the zoo.
        directory: the served model's folder; made when it is not there. Version folders in it are numbers.
        labels: the names of the classes in their order, kept as `assets/labels.txt`.
        image_size: height and width that pictures were fitted into as it learned, for a model that takes any:
            kept as `assets/image_size.txt`, so that `kzoo predict` asks it at that scale.

    Returns:
        The new version folder, `directory/1` when it is the first.

    Raises:
        ValueError: `directory` is a file or lies in one, there are not as many labels as classes, or
            `image_size` is not two whole numbers of pixels.
        TypeError: `labels` is one string.

    Example:
        kzoo.export(model, "saved_models/cells", labels=["RBC", "WBC", "Platelets"])
    """
    directory = Path(directory)
    check_directory(directory)
    _check_labels(model, labels)
    if image_size is not None:
        check_image_size(image_size)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=directory) as temporary:
        written = Path(temporary) / "model"
        _write(model, written, labels, image_size)
        return _move_to_next_version(written, directory)


def _check_labels(model: keras.Model, labels: Sequence[str] | None) -> None:
    if isinstance(labels, str):
        raise TypeError(f"labels={labels!r}: a list of names is expected, one for each class.")
    for label in labels or ():
        if not isinstance(label, str) or "\n" in label or "\r" in label:
            raise ValueError(f"labels: {label!r} is in it; a name of one line is expected.")
    expected = getattr(model, "num_classes", None)
    if labels is not None and expected is not None and len(labels) != expected:
        raise ValueError(f"labels={list(labels)}: {len(labels)} names, but the model has {expected} classes.")


def _write(
    model: keras.Model, path: Path, labels: Sequence[str] | None, image_size: tuple[int, int] | None
) -> None:
    archive = keras.export.ExportArchive()
    archive.track(model)
    images = model.input["images"]
    archive.add_endpoint(
        "serving_default",
        # Autograph would look for Python's control flow in Keras's own code, and warn of what it finds there.
        tf.autograph.experimental.do_not_convert(lambda images: model(images, training=False)),
        input_signature=[tf.TensorSpec(images.shape, tf.float32, name="images")],
    )
    archive.write_out(str(path), verbose=False)
    (path / "assets").mkdir(exist_ok=True)
    if labels is not None:
        text = "".join(f"{label}\n" for label in labels)
        (path / "assets" / LABELS_FILE).write_text(text, encoding="utf-8")
    if image_size is not None:
        (path / "assets" / IMAGE_SIZE_FILE).write_text("{} {}\n".format(*image_size), encoding="ascii")


def _move_to_next_version(written: Path, directory: Path) -> Path:
    while True:
        target = directory / str(max(versions(directory), default=0) + 1)
        try:
            # A rename onto a folder with content fails: an export that runs beside this one keeps its number.
            os.rename(written, target)
        except OSError:
            if not target.exists():
                raise
        else:
            return target
