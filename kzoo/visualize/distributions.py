"""How classes and sizes are distributed in data."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kzoo.data.checking.tally import Tally, examples, total
from kzoo.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CLASSES = 30  # that are shown


def distributions(tallies: Mapping[str, Tally], classes: Sequence[str], path: str | os.PathLike) -> None:
    """Writes a picture of what pictures have: classes, sizes of pictures and boxes, boxes a picture.

    Args:
        tallies: of each split.
        classes: the names of the classes.
        path: the file to write; its ending tells the format (.png, .svg).

    Raises:
        ValueError: there is no picture.

    Example:
        report = check("voc:bccd")
        distributions(report.tallies, report.info.classes, "distributions.png")
    """
    from matplotlib.figure import Figure

    every = total(tallies.values()) if tallies else None
    if every is None or not len(every.sizes):
        raise ValueError("tallies: there is no picture in them")
    figure = Figure(figsize=(12, 9 if every.boxes is not None else 4.5), dpi=110, layout="constrained")
    if every.boxes is None:
        panels = figure.subplots(1, 2)
    else:
        panels = figure.subplots(2, 2).reshape(-1)
        _draw_counts(panels[2], tallies)
        _draw_points(panels[3], *(every.boxes[:, 2:] - every.boxes[:, :2]).T, "Boxes")
    _draw_classes(panels[0], tallies, classes, every)
    _draw_points(panels[1], *every.sizes[:, ::-1].T, "Pictures")
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    if len(tallies) > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        legend = figure.legend(handles, labels, loc="outside lower left", ncols=8, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    figure.savefig(path)


def _draw_classes(panel: "Axes", tallies: Mapping[str, Tally], classes: Sequence[str], every: Tally) -> None:
    """A bar for each class, in the parts of the splits."""
    shown = np.argsort(-examples(every, len(classes)), kind="stable")[:_CLASSES][::-1]
    left = np.zeros(len(shown))
    for split, one in tallies.items():
        if every.pixels is not None:
            counts = 100 * one.pixels[:, 1:].sum(axis=0)[shown] / every.pixels.sum()
        else:
            counts = examples(one, len(classes))[shown]
        panel.barh(np.arange(len(shown)), counts, left=left, label=printable(split), height=0.8)
        left += counts
    names = [printable(classes[label]) for label in shown]
    panel.set_yticks(np.arange(len(shown)), names, parse_math=False)
    noun = "Objects" if every.boxes is not None else "Pictures"
    noun = "Percent of the pixels" if every.pixels is not None else noun
    more = f", the {len(shown)} most frequent of {len(classes)}" if len(classes) > len(shown) else ""
    panel.set(title=f"{noun} of each class{more}")
    panel.grid(alpha=0.3, axis="x")


def _draw_counts(panel: "Axes", tallies: Mapping[str, Tally]) -> None:
    """How many pictures have how many objects."""
    most = max(int(one.counts.max(initial=0)) for one in tallies.values())
    edges = np.arange(-0.5, most + 1) if most <= 40 else np.linspace(-0.5, most + 0.5, 41)
    counts = [one.counts for one in tallies.values()]
    panel.hist(counts, bins=edges, stacked=True)
    panel.set(title="Objects a picture", xlabel="objects", ylabel="pictures")
    panel.grid(alpha=0.3)


def _draw_points(panel: "Axes", width: np.ndarray, height: np.ndarray, noun: str) -> None:
    """Widths and heights, the darker the more there are of."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    plain = StrMethodFormatter("{x:,.0f}")
    panel.set(title=f"{noun} by width and height", xlabel="width in pixels", ylabel="height in pixels")
    if len(width):
        low, high = min(width.min(), height.min()) / 1.3, max(width.max(), height.max()) * 1.3
        edges = np.geomspace(low, high, 50)
        table, _, _ = np.histogram2d(width, height, bins=[edges, edges])
        norm = LogNorm(1, max(10, table.max()))
        image = panel.pcolormesh(edges, edges, np.ma.masked_equal(table.T, 0), cmap="viridis_r", norm=norm)
        panel.figure.colorbar(image, ax=panel, label=noun.lower(), format=plain)
        panel.plot([low, high], [low, high], color="0.8", linewidth=1, zorder=0)
    panel.set(xscale="log", yscale="log", aspect="equal")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(NullFormatter())
    panel.grid(alpha=0.3)
