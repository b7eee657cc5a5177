"""Training curves as pictures."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOT_LOSSES = (  # columns of a training log
    "epoch",
    "learning_rate",
    "seconds",
    "steps_per_second",
    "pictures_per_second",
    "waiting",
    "memory",
)


def training_curves(log: str | os.PathLike | Mapping[str, Sequence[float]], path: str | os.PathLike) -> None:
    """Writes a picture of a training: its losses and, where it was measured, what it reached.

    Args:
        log: The file that `keras.callbacks.CSVLogger` wrote, or the `history` that `fit` returns (its dict).
            Beside `loss`, every column of training is taken for a named part of it, apart from accuracies and
            those of `NOT_LOSSES`. What only validation has, as `val_AP`, was reached.
        path: The file to write; its ending tells the format (.png, .svg).

    Raises:
        ValueError: The log has no epoch or no loss.

    Example:
        training_curves("runs/cells/log.csv", "runs/cells/curves.png")
    """
    # Imported here because drawing boxes, which serving does too, needs none of it.
    from matplotlib.figure import Figure

    columns = dict(log) if isinstance(log, Mapping) else _read_columns(Path(log))
    if not len(columns.get("loss", ())):
        raise ValueError(f"no losses to draw in {'the history' if isinstance(log, Mapping) else log}")
    epochs = 1 + np.asarray(columns.get("epoch", np.arange(len(columns["loss"]))), float)
    parts = [name for name in columns if not name.startswith("val_") and name not in ("loss", *NOT_LOSSES)]
    losses = ["loss", *(name for name in parts if not name.endswith("accuracy"))]
    reached = [
        name.removeprefix("val_")
        for name in columns
        if name.startswith("val_") and name.removeprefix("val_") not in losses
    ]
    if len(losses) == 2:  # the only part is the total
        del losses[1]

    figure = Figure(figsize=(11 if reached else 5.5, 4), dpi=120, layout="constrained")
    axes = figure.subplots(1, 2 if reached else 1, squeeze=False)[0]
    for index, name in enumerate(losses):
        label = "total" if name == "loss" else name.removesuffix("_loss").replace("_", " ")
        _curve(axes[0], epochs, columns[name], label, f"C{index}", "-")
        if f"val_{name}" in columns:  # Matplotlib keeps what begins with _ out of the legend
            _curve(axes[0], epochs, columns[f"val_{name}"], f"_{label}, validation", f"C{index}", "--")
    axes[0].set(title="Losses, those of validation dashed", ylabel="loss")
    if len(losses) > 3:  # many parts are small beside their sum
        axes[0].set_yscale("log")
    else:
        axes[0].set_ylim(0, None)
    if reached:
        _reached(axes[1], epochs, columns, reached)
    _finish(axes)
    figure.savefig(path)


def compare_trainings(
    logs: Mapping[str, str | os.PathLike], columns: Sequence[str], path: str | os.PathLike
) -> None:
    """Writes a picture of several trainings side by side: a panel for each column, a curve for each training.

    Args:
        logs: From the name of a training to the file that `keras.callbacks.CSVLogger` wrote.
        columns: Of the logs, such as `"box"` and `"val_AP"`.
        path: The file to write; its ending tells the format (.png, .svg).

    Raises:
        ValueError: A log does not have one of the columns.

    Example:
        compare_trainings({"a": "runs/a/log.csv", "b": "runs/b/log.csv"}, ["loss", "val_AP"], "a_and_b.png")
    """
    from matplotlib.figure import Figure

    trainings = {name: _read_columns(Path(log)) for name, log in logs.items()}
    figure = Figure(figsize=(5.5 * len(columns), 4), dpi=120, layout="constrained")
    axes = figure.subplots(1, len(columns), squeeze=False)[0]
    for panel, column in zip(axes, columns, strict=True):
        panel.set_title(column.replace("val_", "validation: ").replace("_", " "))
        for index, (name, training) in enumerate(trainings.items()):
            if column not in training:
                raise ValueError(
                    f"{logs[name]}: no column {column!r}; it has {', '.join(training) or 'none'}"
                )
            _curve(panel, 1 + np.asarray(training["epoch"]), training[column], name, f"C{index}", "-")
    _finish(axes)
    figure.savefig(path)


def figure_name(name: str) -> str:
    """A figure's name as people write it.

    >>> figure_name("mean_iou")
    'mean IoU'
    """
    return name.replace("_", " ").replace("iou", "IoU").replace("dice", "Dice")


def _reached(
    panel: "Axes", epochs: np.ndarray, columns: Mapping[str, Sequence[float]], names: Sequence[str]
) -> None:
    """What validation measured. The same figure of boxes and of masks has one colour."""
    of_boxes = [name for name in names if f"mask_{name}" in names]
    colours: dict[str, str] = {}
    for name in sorted(names, key=lambda name: [*names].index(name.removeprefix("mask_"))):
        figure = name.removeprefix("mask_")
        colour = colours.setdefault(figure, f"C{len(colours)}")
        label = figure_name(figure)
        if figure in of_boxes:
            label += " of boxes" if name in of_boxes else " of masks"
        _curve(panel, epochs, columns[f"val_{name}"], label, colour, "--" if name in of_boxes else "-")
    precisions = all("AP" in name for name in names)
    panel.set(
        title="Average precision, validation" if precisions else "Validation",
        ylabel="average precision" if precisions else "",
        ylim=(0, 1),
    )


def _finish(axes: "Sequence[Axes]") -> None:
    from matplotlib.ticker import MaxNLocator

    for panel in axes:
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize="small")


def _read_columns(path: Path) -> dict[str, list[float]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # CSVLogger writes "NA" for a value that an epoch did not have; a killed run may leave a line cut short.
    missing = ("NA", "", None)
    names = rows[0] if rows else ()
    return {
        name: [float("nan") if row[name] in missing else float(row[name]) for row in rows] for name in names
    }


def _curve(
    panel: "Axes", epochs: np.ndarray, values: Sequence[float], label: str, colour: str, style: str
) -> None:
    """One curve through the epochs in which it was measured, with marks where they are few."""
    values = np.asarray(values, float)
    known = np.isfinite(values)
    mark = "." if known.sum() <= 30 else None
    panel.plot(epochs[known], values[known], style, color=colour, marker=mark, label=label)
