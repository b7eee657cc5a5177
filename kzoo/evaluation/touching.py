"""How many objects that touch each other stay apart when only their pixels are told."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from kzoo.evaluation.rand import cells_of

Window = tuple[slice, slice]


def touching_kept_apart(
    instances: Sequence[np.ndarray], found: np.ndarray, reach: int = 2
) -> tuple[int, int]:
    """How many of the true objects touch another, and how many of these were kept apart.

    An object touches another if a pixel of that one is within `reach` pixels, from centre to centre. It is
    kept apart if a connected part of `found` (over edges and not over corners) covers at least half of it,
    and less than half of every other object.

    Args:
        instances: bool [H, W] of each true object. They may overlap; one without a pixel is left aside.
        found: bool [H, W], the pixels that were taken for object.
        reach: in pixels.

    Returns:
        How many touch, and how many of them are kept apart.

    Raises:
        ValueError: masks of several sizes.

    >>> left, right = np.array([[1, 1, 1, 0, 0, 0]]) > 0, np.array([[0, 0, 0, 1, 1, 1]]) > 0
    >>> touching_kept_apart([left, right], np.array([[1, 1, 0, 1, 1, 1]]) > 0)
    (2, 2)
    """
    found = np.asarray(found, bool)
    sizes = {np.shape(mask) for mask in instances} | {found.shape}
    if len(sizes) > 1:
        raise ValueError(f"masks of several sizes, {sorted(sizes)}; one was expected")
    instances = [mask for mask in (np.asarray(mask, bool) for mask in instances) if mask.any()]
    windows = [_window(mask) for mask in instances]
    parts = cells_of(found)
    covering = []  # the parts that cover at least half, of each object
    for mask, window in zip(instances, windows, strict=True):
        covered = np.bincount(parts[window][mask[window]])
        halves = np.flatnonzero(2 * covered >= covered.sum())
        covering.append(halves[halves > 0].tolist())
    claims = Counter(part for halves in covering for part in halves)
    touching = _touching(instances, windows, reach)
    apart = sum(any(claims[part] == 1 for part in covering[index]) for index in touching)
    return len(touching), apart


def _touching(masks: Sequence[np.ndarray], windows: Sequence[Window], reach: int) -> set[int]:
    """The objects that touch another."""
    rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disc = rows**2 + columns**2 <= reach**2
    corners = np.array([[(side.start, side.stop) for side in window] for window in windows]).reshape(-1, 2, 2)
    starts, stops = corners[..., 0], corners[..., 1]  # [n, 2]
    near = ((starts[:, None] < stops + reach) & (starts < stops[:, None] + reach)).all(axis=-1)  # [n, n]
    touching = set()
    for index, mask in enumerate(masks):
        others = [other for other in np.flatnonzero(near[index]) if other > index]
        if not others:
            continue
        # The slices end at the picture's border by themselves, as long as they do not start before it.
        around = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in windows[index])
        reached = ndimage.binary_dilation(mask[around], disc)
        for other in others:
            if (reached & masks[other][around]).any():
                touching |= {index, int(other)}
    return touching


def _window(mask: np.ndarray) -> Window:
    """The rows and columns from the first pixel of a mask to the last."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
