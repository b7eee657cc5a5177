"""Which part of the loss the easy samples make up."""

import os
from collections.abc import Mapping

import numpy as np

_POINTS = 1000  # of a curve, evenly spaced, and as many again that come ever nearer to its end


def loss_shares(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], path: str | os.PathLike) -> None:
    """Writes a picture of how the loss is spread over samples, as Lin et al. 2017 do in figure 4.

    The samples are sorted from the lowest loss to the highest. A curve tells which share of the whole loss
    the easiest of them make up: on the diagonal each sample counts alike; a curve that stays low and rises at
    the very end says that the few hardest samples make up nearly all of it.

    Args:
        curves: From the name of a training to the losses of its foreground anchors [n] and of its background
            anchors [m], in any order and of any scale.
        path: The file to write; its ending tells the format (.png, .svg).

    Raises:
        ValueError: There is no training; a training has no foreground or no background; or losses are
            negative, not finite, or all zero.

    Example:
        loss_shares({"focal loss": (of_objects, of_background), "cross-entropy": ...}, "shares.png")
    """
    from matplotlib.figure import Figure

    if not curves:
        raise ValueError("curves: there is no training to draw")
    panels = {"foreground": 0, "background": 1}
    spread = {
        panel: {
            title: cumulative_shares(parts[index], f"{title}, {panel}") for title, parts in curves.items()
        }
        for panel, index in panels.items()
    }
    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    for axes, (panel, of_panel) in zip(figure.subplots(1, 2), spread.items(), strict=True):
        for title, (fractions, shares) in of_panel.items():
            axes.plot(fractions, shares, label=title)
        axes.set(
            title=f"{panel.capitalize()} anchors",
            xlabel=f"fraction of {panel}, from the lowest loss to the highest",
            ylabel="share of the loss, cumulative",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small", loc="upper left")
    figure.savefig(path)


def cumulative_shares(losses: np.ndarray, told: str = "losses") -> tuple[np.ndarray, np.ndarray]:
    """The share of the loss that the easiest samples make up, for growing fractions of them.

    Args:
        losses: [n], of each sample, 0 or more.
        told: what an error calls them.

    Returns:
        Fractions and shares, each float64 [k], both from 0 to 1.

    Raises:
        ValueError: as `loss_shares`.

    >>> cumulative_shares(np.array([3.0, 0.0, 1.0, 0.0]))
    (array([0.  , 0.25, 0.5 , 0.75, 1.  ]), array([0.  , 0.  , 0.  , 0.25, 1.  ]))
    """
    losses = np.sort(np.asarray(losses, np.float64).reshape(-1))
    if not len(losses) or not np.isfinite(losses).all() or losses[0] < 0 or losses[-1] == 0:
        raise ValueError(f"{told}: one or more losses are expected, finite, not negative, and not all zero")
    count = len(losses)
    even = np.linspace(0, count, min(count, _POINTS) + 1)
    to_the_end = count - np.geomspace(1, count, min(count, _POINTS))  # where curves are steep
    places = np.unique(np.concatenate([even, to_the_end]).astype(int))
    shares = np.concatenate([[0], np.cumsum(losses)])
    return places / count, shares[places] / shares[-1]
