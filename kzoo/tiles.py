"""Pictures of any size answered tile by tile, by a model that takes tiles of one size.

This is the overlap-tile strategy of Ronneberger et al. 2015 (https://arxiv.org/abs/1505.04597, figure 2). A
tile is answered in its middle only, where the model has seen all the context that it asks for, and tiles
overlap so that their middles meet. Context that is missing at the border of the picture is the picture
mirrored there.
"""

from collections.abc import Callable, Mapping

import numpy as np

from kzoo.checks import check_integer

Predict = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def predict_tiles(
    predict: Predict,
    images: np.ndarray,
    tile: tuple[int, int],
    margin: tuple[int, int] = (0, 0),
    overlap: tuple[int, int] = (0, 0),
    batch_size: int = 4,
) -> dict[str, np.ndarray]:
    """The class of each pixel, put together from answers about tiles.

    Args:
        predict: from tiles [b, h, w, 3] to a dict with `probabilities` [b, h - 2mh, w - 2mw, C]: those of the
            middle where there is a margin.
        images: [B, H, W, 3] of any height and width, also smaller than a tile.
        tile: height h and width w of a tile in pixels.
        margin: (mh, mw), how many pixels at each side of a tile `predict` leaves unanswered.
        overlap: how many more it answers at each side that are cut off, because it has seen less around them:
            for a model without a margin, which pads its feature maps.
        batch_size: tiles that are asked about at once.

    Returns:
        `probabilities` float32 [B, H, W, C] and `classes` int32 [B, H, W], the most probable.

    Raises:
        ValueError: there is no picture, margin and overlap leave nothing of a tile, or `predict` answers for
            another part of it.

    Example:
        predict_tiles(model.predict_on_batch, images, tile=(572, 572), margin=(92, 92))["classes"]
    """
    images = np.asarray(images)
    _check(images, tile, margin, overlap, batch_size)
    borders = [of_margin + of_overlap for of_margin, of_overlap in zip(margin, overlap, strict=True)]
    middle = [side - 2 * border for side, border in zip(tile, borders, strict=True)]  # what is kept of a tile
    size = images.shape[1:3]
    whole = [max(pair) for pair in zip(size, middle, strict=True)]
    gaps = [(border, border + w - s) for border, w, s in zip(borders, whole, size, strict=True)]
    mirrored = np.pad(images, [(0, 0), *gaps, (0, 0)], mode="symmetric")
    places = [
        (index, slice(top, top + middle[0]), slice(left, left + middle[1]))
        for index in range(len(images))
        for top in _starts(whole[0], middle[0])
        for left in _starts(whole[1], middle[1])
    ]
    probabilities = None
    for first in range(0, len(places), batch_size):
        some = places[first : first + batch_size]
        tiles = np.stack(
            [
                mirrored[index, rows.start : rows.start + tile[0], columns.start : columns.start + tile[1]]
                for index, rows, columns in some
            ]
        )
        answers = _answers(predict, tiles, margin, overlap)  # [b, *middle, C]
        if probabilities is None:
            probabilities = np.empty([len(images), *whole, answers.shape[-1]], np.float32)
        for place, answer in zip(some, answers, strict=True):
            probabilities[place] = answer
    probabilities = probabilities[:, : size[0], : size[1]]  # [B, H, W, C]
    return {"probabilities": probabilities, "classes": probabilities.argmax(axis=-1).astype(np.int32)}


def for_whole_pictures(
    predict: Predict, tile: tuple[int | None, int | None], answered: tuple[int | None, int | None]
) -> Predict:
    """What answers for all pixels of pictures of any size, by what answers for the middle of tiles.

    Args:
        predict: as `predict_tiles` takes it.
        tile: height and width that it takes, None for any.
        answered: height and width of what it answers about a tile, None where that depends on the tile.

    Returns:
        `predict` itself where it answers for all that it is given.
    """
    if None in tile or None in answered or tuple(answered) == tuple(tile):
        return predict
    margin = tuple((side - middle) // 2 for side, middle in zip(tile, answered, strict=True))
    return lambda images: predict_tiles(predict, images, tile, margin)


def _starts(length: int, step: int) -> list[int]:
    """Where the middles of tiles begin along an axis; the last is moved inwards, to end with it."""
    return [*range(0, length - step, step), length - step]


def _answers(
    predict: Predict, tiles: np.ndarray, margin: tuple[int, int], overlap: tuple[int, int]
) -> np.ndarray:
    """The probabilities of the tiles' middles, [b, h, w, C]."""
    probabilities = np.asarray(predict(tiles)["probabilities"])
    height, width = (side - 2 * edge for side, edge in zip(tiles.shape[1:3], margin, strict=True))
    if probabilities.ndim != 4 or probabilities.shape[:3] != (len(tiles), height, width):
        raise ValueError(
            f"margin={margin}: of tiles {tiles.shape} probabilities [{len(tiles)}, {height}, {width}, C] are "
            f"expected, but predict answered {probabilities.shape}."
        )
    rows, columns = slice(overlap[0], height - overlap[0]), slice(overlap[1], width - overlap[1])
    return probabilities[:, rows, columns]


def _check(images: np.ndarray, tile: object, margin: object, overlap: object, batch_size: object) -> None:
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images: shape {images.shape}, but one or more pictures [B, H, W, 3] are expected.")
    check_integer("batch_size", batch_size, least=1)
    for argument, pair, least in (("tile", tile, 1), ("margin", margin, 0), ("overlap", overlap, 0)):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"{argument}={pair!r}: two numbers of pixels are expected, vertical first.")
        for side in pair:
            check_integer(f"{argument}={pair!r}, where a side", side, least=least)
    if any(side <= 2 * (m + o) for side, m, o in zip(tile, margin, overlap, strict=True)):
        raise ValueError(
            f"tile={tile}: margin={margin} and overlap={overlap} at each side leave nothing of it; "
            "give larger tiles."
        )
