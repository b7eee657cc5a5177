"""What is taken for what, as a picture."""

import os
from collections.abc import Sequence

import numpy as np

_MANY = 14  # classes: in the cells of more there is place for counts alone
_TOO_MANY = 60  # classes: of more only the colours are told


def confusion_matrix_picture(
    matrix: np.ndarray, classes: Sequence[str], path: str | os.PathLike, title: str = ""
) -> None:
    """Writes a confusion matrix as a picture: how many pictures, and which share of those that are truly so.

    Args:
        matrix: integers [C, C], how often what truly is the row's class was taken for the column's.
        classes: The names of the C classes.
        path: The file to write; its ending tells the format (.png, .svg).
        title: What stands above it.

    Raises:
        ValueError: The matrix does not have a row and a column for each class.

    Example:
        confusion_matrix_picture([[9, 1], [0, 10]], ("cat", "dog"), "confusion.png", "accuracy 0.950")
    """
    # Imported here because drawing boxes, which serving does too, needs none of it.
    from matplotlib.figure import Figure

    matrix, count = np.asarray(matrix), len(classes)
    if matrix.shape != (count, count) or not count:
        raise ValueError(f"matrix: shape {matrix.shape}, but there are {count} classes.")
    of_truth = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(of_truth, 1)
    few, told = count <= _MANY, count <= _TOO_MANY
    cell = 0.75 if few else min(0.34, 0.34 * _TOO_MANY / count)  # inches
    longest = max(map(len, classes))
    border = 1.2 + 0.085 * min(longest, 30)
    across = max(count * cell, 2.0) + border
    figure = Figure(figsize=(across + 0.6, across), dpi=120, layout="compressed")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(matrix) if told else ():
        share = shares[row, column]
        percent = "<1%" if share < 0.005 else f"{share:.0%}"
        text = f"{matrix[row, column]:,}\n{percent}" if few else str(matrix[row, column])
        size = 9 if few else max(4.0, 7.5 - 0.6 * len(text))
        colour = "white" if share > 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    names = [name if len(name) <= 30 else f"{name[:29]}…" for name in classes]
    upright = not few or longest * 0.075 > cell
    if told:
        axes.set_xticks(range(count), names, rotation=90 if upright else 0, fontsize=9 if few else 7)
        axes.set_yticks(range(count), names, fontsize=9 if few else 7)
    axes.set(xlabel="taken for", ylabel="truth", title=title)
    axes.tick_params(length=0)
    if told:
        axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.02, format=lambda share, _: f"{share:.0%}")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    figure.savefig(path)
