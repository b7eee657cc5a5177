"""How well cells are told apart by the border between them: the foreground-restricted Rand score."""

import math

import numpy as np
from scipy import ndimage


def foreground_rand(truth: np.ndarray, found: np.ndarray) -> float:
    """The foreground-restricted Rand score of two ways to part a picture into cells.

    Of the pixels that truly are of a cell, let p_ij be the share in the found cell i and the true cell j, s_i
    the sum over j, which is the found cell's share, and t_j the sum over i, which is the true cell's:

        V_Rand = sum_ij p_ij^2 / (1/2 sum_i s_i^2 + 1/2 sum_j t_j^2)

    It is the F-score of the pairs of pixels: of two pixels that one found cell joins, how many one true cell
    joins, and the other way round. Border that was found where truly there is none joins nothing: each pixel
    of it counts as a found cell of its own.

    The figures are not comparable with the published leaderboard of the challenge: its own program thins the
    found border to one pixel before it scores, so that a thick border costs nothing there, and here it does.

    Arganda-Carreras et al. 2015, Crowdsourcing the creation of image segmentation algorithms for connectomics
    (Frontiers in Neuroanatomy 9), the section on the Rand scores, with alpha = 1/2.

    Args:
        truth: integers [H, W]; 0 is border, which is left out, and every other number a cell.
        found: integers [H, W], likewise.

    Returns:
        From 0 to 1, which is the same cells; NaN where the truth has no cell.

    Raises:
        ValueError: shapes that differ, or a negative number.

    >>> foreground_rand(np.array([[1, 1, 0, 2, 2]]), np.array([[1, 1, 1, 1, 1]]))
    0.6666666666666666
    """
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.shape != found.shape:
        raise ValueError(f"truth is {list(truth.shape)}, but found is {list(found.shape)}")
    if min(truth.min(initial=0), found.min(initial=0)) < 0:
        raise ValueError("a cell has a negative number; 0 is expected for border, and 1 or more for a cell")
    true, guess = (values[truth > 0].astype(np.int64) for values in (truth, found))
    if not len(true):
        return math.nan
    inside = guess > 0
    alone = len(guess) - inside.sum()  # pixels that are cells of their own: each adds 1² to both sums
    both = true[inside] * (guess.max() + 1) + guess[inside]
    joint, of_found, of_true = _sum_of_squares(both), _sum_of_squares(guess[inside]), _sum_of_squares(true)
    return float((joint + alone) / ((of_found + alone) / 2 + of_true / 2))


def cells_of(foreground: np.ndarray) -> np.ndarray:
    """The cells of a picture: the connected parts of its foreground, over edges and not over corners.

    Args:
        foreground: bool [H, W].

    Returns:
        int32 [H, W]: 0 elsewhere, and 1, 2, ... in each cell.

    >>> cells_of(np.array([[True, False, True], [True, False, True]]))
    array([[1, 0, 2],
           [1, 0, 2]], dtype=int32)
    """
    cells, _ = ndimage.label(np.asarray(foreground, bool))
    return cells.astype(np.int32, copy=False)


def _sum_of_squares(ids: np.ndarray) -> int:
    """The sum over all ids of the square of how often each is there."""
    _, counts = np.unique(ids, return_counts=True)
    return int((counts.astype(np.int64) ** 2).sum())
