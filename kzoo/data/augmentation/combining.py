"""Several pictures made into one: mosaic, copy-paste, MixUp. Without state, as `augmentation` is."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from kzoo.classes import CROWD
from kzoo.data.augmentation.moving import close_ranks, cut_masks, is_learnable, sampled_pixels
from kzoo.data.masks import MASK_SIZE
from kzoo.data.resize import FILLS

Example = dict[str, tf.Tensor]

_NEAREST_BORDER = 0.25  # share of the picture's side; a mosaic's four parts meet at least as far from it
_ALPHA = (
    32.0  # of the Beta(alpha, alpha) of MixUp's share: near a half, as both pictures' objects count alike
)


def mosaic(
    pictures: Sequence[Example],
    seed: tf.Tensor,
    image_size: tuple[int, int],
    see: Callable[[Example, tf.Tensor, tf.Tensor], Example],
) -> Example:
    """Four pictures, each seen in one quarter; the quarters meet at a random place.

    Bochkovskiy et al. 2020, "YOLOv4", section 3.3. As there, a picture is as large in its quarter as it would
    be alone, so that objects keep their sizes; what a quarter shows of it is random.

    Args:
        pictures: four, of top left, top right, bottom left and bottom right.
        seed: int64 [2].
        image_size: height and width of the mosaic, each at least 2.
        see: from a picture, a seed and a size, int32 [2], to what is seen of the picture at that size.

    Returns:
        The first picture's parts, its layers and its objects replaced by those of all four, G four times.
    """
    where = tf.random.stateless_uniform([2], tf.random.fold_in(seed, 8), _NEAREST_BORDER, 1 - _NEAREST_BORDER)
    image_size = tf.constant(image_size)
    centre = tf.clip_by_value(tf.cast(where * tf.cast(image_size, tf.float32), tf.int32), 1, image_size - 1)
    quarters = []
    for number, picture in enumerate(pictures):
        is_end = tf.constant(divmod(number, 2)) == 1  # down, right
        size = tf.where(is_end, image_size - centre, centre)
        quarter = see(picture, tf.random.fold_in(seed, 9 + number), size)
        if "boxes" in quarter:
            corner = tf.cast(tf.where(is_end, centre, 0), tf.float32)
            filled = (quarter["classes"] != -1)[:, None]
            boxes = quarter["boxes"] + tf.gather(corner, [1, 0, 1, 0])
            quarter |= {"boxes": tf.where(filled, boxes, 0.0)}
        quarters.append(quarter)
    combined = dict(quarters[0])
    for name in FILLS.keys() & combined.keys():
        top = tf.concat([quarter[name] for quarter in quarters[:2]], axis=1)
        low = tf.concat([quarter[name] for quarter in quarters[2:]], axis=1)
        combined[name] = tf.concat([top, low], axis=0)
    return combined | joined(quarters)


def joined(parts: Sequence[Example], slots: int | None = None) -> Example:
    """The objects of some examples, then their crowd regions, then padding.

    Args:
        parts: with `boxes` [G, 4], `classes` [G] and perhaps `masks` [n, 56, 56]; or without any.
        slots: how many rows there are to be; None is as many as the parts have.

    Returns:
        These of them all.
    """
    if "boxes" not in parts[0]:
        return {}
    boxes, classes = (tf.concat([part[name] for part in parts], axis=0) for name in ("boxes", "classes"))
    slots = classes.shape[0] if slots is None else slots
    order = tf.concat([tf.where(classes >= 0)[:, 0], tf.where(classes == CROWD)[:, 0]], axis=0)
    together = {
        "boxes": close_ranks(boxes, order, slots),
        "classes": close_ranks(classes + 1, order, slots) - 1,
    }
    if "masks" in parts[0]:
        masks = tf.concat([part["masks"] for part in parts], axis=0)
        place = tf.cumsum(tf.cast(classes != -1, tf.int32), exclusive=True)  # among those that have masks
        together["masks"] = tf.gather(masks, tf.gather(place, order))
    return together


def mixup(first: Example, second: Example, seed: tf.Tensor) -> Example:
    """The weighted mean of two pictures, with the objects of both.

    Zhang et al. 2018, "mixup", for boxes as in Zhang et al. 2019, "Bag of Freebies for Training Object
    Detection Neural Networks", section 3.1. There each object counts by its picture's share; here all count,
    and the share is drawn near a half, where all are to be seen.
    """
    one, other = tf.unstack(tf.random.stateless_gamma([2], seed, _ALPHA))
    share = one / (one + other)
    images = (tf.cast(part["images"], tf.float32) for part in (first, second))
    mixed = share * next(images) + (1 - share) * next(images)
    return first | joined([first, second]) | {"images": tf.cast(tf.round(mixed), tf.uint8)}


def copy_paste(first: Example, second: Example, seed: tf.Tensor, min_visible: float) -> Example:
    """Some objects of the second picture, cut out along their masks, upon the first picture.

    Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation",
    section 3: each object with a probability of a half, its border not blurred. What they cover is no longer
    of the objects below, whose masks and boxes shrink.

    Args:
        first: with `images` uint8 [H, W, 3], `boxes` [G, 4], `classes` [G] and `masks` uint8 [n, 56, 56].
        second: the same; its crowd regions are not pasted.
        seed: int64 [2].
        min_visible: the least share of its mask that an object below keeps.

    Returns:
        The first picture's parts, with the objects of both, twice as many slots.
    """
    slots = second["classes"].shape[0]
    draws = tf.random.stateless_uniform([slots], seed)
    pasted = tf.where((second["classes"] >= 0) & (draws < 0.5))[:, 0]
    above = {
        "boxes": close_ranks(second["boxes"], pasted, slots),
        "classes": close_ranks(second["classes"] + 1, pasted, slots) - 1,
        "masks": tf.gather(second["masks"], pasted),
    }
    covered = _union(above["masks"], above["boxes"], tf.shape(first["images"])[:2])  # [H, W]
    images = tf.where(covered[..., None], second["images"], first["images"])
    below = _uncovered(first, covered, min_visible)
    return first | joined([first | below, above]) | {"images": images}


def _union(masks, boxes, size):
    """Where any of the masks [n, 56, 56] within boxes [n or more, 4] is, bool [H, W], one after the other.

    A pixel takes the value at its centre, bilinear between samples, and is in where that is at least a half.
    """
    # One sample more around, so that up to the border of the box there is something to interpolate with.
    samples = tf.pad(masks, [[0, 0], [1, 1], [1, 1]], "SYMMETRIC")[..., None]
    limit = tf.cast(size, tf.float32)

    def add(index, union):
        box = tf.reshape(boxes[index], [2, 2])[:, ::-1]  # [first or last, y or x]
        # The pixels whose centres lie in the box.
        first, stop = tf.unstack(tf.clip_by_value(tf.math.ceil(box - 0.5), 0, limit))
        centres = tf.stack([first + 0.5, stop - 0.5])
        window = ((centres - box[0]) / (box[1] - box[0]) * MASK_SIZE + 0.5) / (MASK_SIZE + 1)
        window = tf.reshape(0.5 + (window - 0.5) * (1 - 2e-6), [1, 4])
        before, count = tf.cast(first, tf.int32), tf.cast(stop - first, tf.int32)
        values = tf.image.crop_and_resize(samples[index][None], window, [0], tf.maximum(count, 1))[0, ..., 0]
        values = values[: count[0], : count[1]]
        inside = tf.pad(values >= 0.5 - 1e-5, tf.stack([before, size - before - count], axis=1))
        return index + 1, union | tf.ensure_shape(inside, union.shape)

    start = tf.zeros(size, tf.bool)
    return tf.while_loop(lambda index, _: index < tf.shape(masks)[0], add, (0, start))[1]


def _uncovered(example, covered, min_visible):
    """Boxes, classes and masks of what is left of objects where some pixels [H, W] are covered."""
    masks, slots = example["masks"], example["classes"].shape[0]
    count = tf.shape(masks)[0]
    boxes, is_crowd = example["boxes"][:count], example["classes"][:count] == CROWD
    rest = tf.where(sampled_pixels(covered, boxes), tf.zeros_like(masks), masks)
    before, after = (tf.reduce_sum(tf.cast(some, tf.float32), axis=[1, 2]) for some in (masks, rest))
    is_whole = is_crowd | (before == after)  # these keep their boxes
    tight = tf.where(is_whole[:, None], boxes, _tight(rest, boxes))
    enough = (after > 0) & (after >= min_visible * before) & is_learnable(tight)
    kept = tf.where(is_crowd | enough)[:, 0]
    boxes, rest, tight = (tf.gather(rows, kept) for rows in (boxes, rest, tight))
    return {
        "boxes": close_ranks(tight, tf.range(tf.shape(kept)[0]), slots),
        "classes": close_ranks(example["classes"] + 1, kept, slots) - 1,
        "masks": cut_masks(rest, boxes, tight),
    }


def _tight(masks, boxes):
    """The boxes [n, 4] about the samples of masks within boxes [n, 4]."""
    sides = []
    for axis, low, high in ((1, 0, 2), (2, 1, 3)):  # columns, rows
        seen = tf.reduce_any(masks > 0, axis=axis)  # [n, 56]
        begin, extent = boxes[:, low], boxes[:, high] - boxes[:, low]
        first = tf.argmax(seen, axis=1)
        last = MASK_SIZE - tf.argmax(seen[:, ::-1], axis=1)
        sides.append([begin + tf.cast(end, tf.float32) / MASK_SIZE * extent for end in (first, last)])
    (left, right), (top, bottom) = sides
    return tf.stack([left, top, right, bottom], axis=1)
