"""The way from a picture's own pixels to those that are given, and each layer of pixels taken along it.

Points are [..., 2], y and x, from the outer corner of the first pixel: the first centre is at (0.5, 0.5).
"""

import math
from typing import NamedTuple

import tensorflow as tf

from kzoo.data.resize import FILLS

_STEPS = (
    8  # towards the place that a displacement brings to a given one; each halves what is missing, at least
)


class View(NamedTuple):
    """How a picture is seen: scaled, turned about its middle, shifted, displaced, mirrored, in this order.

    Attributes:
        own_size: float32 [2], height and width in the picture's own pixels.
        size: int32 [2], height H and width W that are given.
        scale: float32 [2], the factor from own to given pixels.
        offset: float32 [2], where the scaled picture's corner lies before it is turned.
        flip: bool [2], whether top and bottom, left and right are exchanged.
        angle: float32 [], in radians. None: it is not turned.
        displacement: float32 [H, W, 2], how far from its own place each given pixel is taken, before
            mirroring. None: it is not displaced.
    """

    own_size: tf.Tensor
    size: tf.Tensor
    scale: tf.Tensor
    offset: tf.Tensor
    flip: tf.Tensor
    angle: tf.Tensor | None = None
    displacement: tf.Tensor | None = None

    @property
    def is_straight(self) -> bool:
        """Whether rows stay rows and columns stay columns."""
        return self.angle is None and self.displacement is None

    def forth(self, points: tf.Tensor) -> tf.Tensor:
        """Where points of the picture's own pixels are in the given ones."""
        moved = points * self.scale
        if self.angle is not None:
            middle = self.own_size * self.scale / 2
            moved = _turned(moved - middle, self.angle) + middle
        moved += self.offset
        given = self._mirrored(moved)
        if self.displacement is not None:
            for _ in range(_STEPS):
                given = self._mirrored(moved - self._displacement_at(given))
        return given

    def back(self, points: tf.Tensor) -> tf.Tensor:
        """Which points of the picture's own pixels are given at these: `forth` undone."""
        moved = self._mirrored(points)
        if self.displacement is not None:
            moved += self._displacement_at(points)
        moved -= self.offset
        if self.angle is not None:
            middle = self.own_size * self.scale / 2
            moved = _turned(moved - middle, -self.angle) + middle
        return moved / self.scale

    def _mirrored(self, points):
        return tf.where(self.flip, tf.cast(self.size, tf.float32) - points, points)

    def _displacement_at(self, points):
        """Of the pixels in which points lie; beyond the border that of the nearest pixel."""
        pixels = tf.clip_by_value(tf.cast(tf.floor(points), tf.int32), 0, self.size - 1)
        rows = tf.reshape(self.displacement, [-1, 2])
        return tf.gather(rows, pixels[..., 0] * self.size[1] + pixels[..., 1])


def _turned(points, angle):
    """Points turned about the origin."""
    cosine, sine = tf.cos(angle), tf.sin(angle)
    y, x = points[..., 0], points[..., 1]
    return tf.stack([cosine * y + sine * x, cosine * x - sine * y], axis=-1)


def displacement(seed: tf.Tensor, size: tf.Tensor, elastic: float) -> tf.Tensor:
    """Random displacements of 3 x 3 points, and what lies between by bicubic interpolation, [H, W, 2]."""
    coarse = elastic * tf.random.stateless_normal([3, 3, 2], seed)
    return tf.image.resize(coarse, size, "bicubic")


def resample(layers: dict[str, tf.Tensor], view: View, shrinks: float = 1.0) -> dict[str, tf.Tensor]:
    """Layers of pixels as they are seen, each sampled once.

    A picture that is neither turned nor displaced takes `crop_and_resize`. One that is turned takes a
    projective transformation, which takes three times as long; one that is displaced is gathered pixel by
    pixel, which takes six times as long. All three sample alike: a given pixel whose centre lies within the
    picture has nothing of what fills up beyond it, for the outermost pixels go on to the very edge.

    Args:
        layers: uint8 [h, w, C]; the one named `labels` takes the nearest pixel, others are bilinear.
        view: how the picture is seen.
        shrinks: the most kept pixels that a given one may be apart from the next. Above 2, a picture of
            which that is so has squares of pixels averaged first, of which samples would miss most.

    Returns:
        float32 [H, W, C], filled up with what `FILLS` says beyond the picture.
    """
    if view.displacement is not None:
        own = view.back(_centres(view.size))  # [H, W, 2]
    resampled = {}
    for name, layer in layers.items():
        side = 1.0
        span = tf.cast(tf.shape(layer)[:2], tf.float32)
        if name != "labels" and shrinks > 2:
            layer, side = _averaged(layer, tf.reduce_min(span / (view.own_size * view.scale)), shrinks)
        span /= side  # of the picture, in pixels of the layer
        if view.displacement is not None:
            sampled = _gathered(name, layer, own * (span / view.own_size), span)
        elif view.angle is not None:
            sampled = _projected(name, layer, span, view)
        else:
            sampled = _cropped(name, layer, span, view)
        resampled[name] = sampled
    return resampled


def _averaged(layer, step, most):
    """A layer with squares of pixels averaged, and their side: 1, 2, 4, ..., less than a step."""
    height, width, _ = tf.unstack(tf.shape(layer))
    longest = tf.cast(tf.minimum(height, width), tf.float32)
    level = tf.cast(tf.floor(tf.math.log(tf.clip_by_value(step, 1.0, longest)) / math.log(2)), tf.int32)
    levels = math.floor(math.log2(most))

    def averaged(side):
        pixels = tf.pad(layer, [[0, -height % side], [0, -width % side], [0, 0]], "SYMMETRIC")
        squares = tf.nn.avg_pool2d(tf.cast(pixels, tf.float32)[None], side, side, "VALID")[0]
        return tf.ensure_shape(squares, [None, None, layer.shape[-1]])

    branches = [lambda side=2**number: averaged(side) for number in range(1, levels + 1)]
    level = tf.clip_by_value(level, 0, levels)
    return tf.switch_case(level, [lambda: tf.cast(layer, tf.float32), *branches]), tf.cast(
        2**level, tf.float32
    )


def _cropped(name, layer, span, view):
    """A layer within a window: the given pixels whose centres lie within it, and around them what fills up.

    `crop_and_resize` takes the window in units where 0 and 1 are the centres of the first and of the last
    pixel. So it runs from the centre of the first of these given pixels to the centre of the last one. Beyond
    these units it fills up; one more pixel all around lets them reach to the picture's edge.
    """
    size = tf.cast(view.size, tf.float32)
    corners = tf.stack([view.offset, view.offset + view.own_size * view.scale])  # of the picture, as given
    corners = tf.sort(tf.where(view.flip, size - corners, corners), axis=0)
    begin = tf.clip_by_value(tf.math.ceil(corners[0] - 0.5), 0.0, size - 1)
    end = tf.clip_by_value(tf.floor(corners[1] - 0.5) + 1, begin + 1, size)
    given = tf.stack([begin + 0.5, end - 0.5])  # [first or last, y or x]
    places = (tf.where(view.flip, size - given, given) - view.offset) / (view.own_size * view.scale) * span
    for axis in (0, 1):
        first, last = ([layer[:1], layer[-1:]], [layer[:, :1], layer[:, -1:]])[axis]
        layer = tf.concat([first, layer, last], axis)
    window = (places + 0.5) / tf.cast(tf.shape(layer)[:2] - 1, tf.float32)
    window = tf.reshape(window, [1, 4])
    begin, end = tf.cast(begin, tf.int32), tf.cast(end, tf.int32)
    method = "nearest" if name == "labels" else "bilinear"
    sampled = tf.image.crop_and_resize(layer[None], window, [0], end - begin, method, FILLS[name])[0]
    around = tf.concat([tf.stack([begin, view.size - end], axis=1), [[0, 0]]], axis=0)
    return tf.pad(sampled, around, constant_values=FILLS[name])


def _projected(name, layer, span, view):
    """A layer turned. The operation counts from the centre of the first pixel, and takes x before y."""
    last = tf.cast(view.size, tf.float32) - 1
    corners = tf.stack([[0.0, 0.0], [0.0, last[1]], [last[0], 0.0]])  # top left, top right, bottom left
    start, right, down = tf.unstack(view.back(corners + 0.5) * (span / view.own_size) - 0.5)
    right, down = (right - start) / tf.maximum(last[1], 1), (down - start) / tf.maximum(last[0], 1)
    rows = tf.stack([right, down, start], axis=1)[::-1]  # x, then y
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=(layer if name == "labels" else tf.cast(layer, tf.float32))[None],
        transforms=tf.concat([tf.reshape(rows, [1, 6]), tf.zeros([1, 2])], axis=1),
        output_shape=view.size,
        fill_value=tf.constant(0.0),
        interpolation="NEAREST" if name == "labels" else "BILINEAR",
        fill_mode="NEAREST",
    )
    inside = _columns_inside(start + 0.5, right, down, span, view.size, layer.shape[-1])
    turned = tf.reshape(tf.cast(turned[0], tf.float32), tf.shape(inside))
    turned = tf.where(inside, turned, tf.fill(tf.shape(inside), float(FILLS[name])))
    return tf.reshape(turned, [view.size[0], view.size[1], layer.shape[-1]])


def _columns_inside(start, right, down, span, size, channels):
    """Which given pixels lie within a picture, each as many times as it has channels, bool [H, W * C].

    In each row they lie side by side: of an axis, those from where it is 0 to where it is the span.
    """
    rows = start + tf.range(tf.cast(size[0], tf.float32))[:, None] * down  # [H, 2], of the first column
    step = tf.where(tf.abs(right) < 1e-9, 1e-9, right)
    ends = tf.sort(tf.stack([-rows, span - rows]) / step, axis=0)  # [first or last, H, 2], in columns
    first, last = tf.reduce_max(ends[0], axis=1), tf.reduce_min(ends[1], axis=1)
    columns = tf.repeat(tf.range(tf.cast(size[1], tf.float32)), channels)
    return (columns >= first[:, None]) & (columns <= last[:, None])


def _centres(size):
    """The centres of all given pixels, [H, W, 2]."""
    rows, columns = (tf.range(tf.cast(size[axis], tf.float32)) + 0.5 for axis in (0, 1))
    return tf.stack(tf.meshgrid(rows, columns, indexing="ij"), axis=-1)


def _gathered(name, layer, places, span):
    """A layer [h, w, C] sampled at places [H, W, 2], which may be anywhere.

    Bilinear as `kzoo.layers.sampler` is, which has gradients and takes several times as long.
    """
    height, width, channels = tf.unstack(tf.shape(layer))
    y, x = (tf.reshape(places[..., axis], [-1]) for axis in (0, 1))  # [H * W]
    inside = (y >= 0) & (y <= span[0]) & (x >= 0) & (x <= span[1])
    fill = tf.fill([1, channels], tf.cast(FILLS[name], layer.dtype))
    rows = tf.concat([tf.reshape(layer, [-1, channels]), fill], axis=0)
    if name == "labels":
        sampled = tf.gather(rows, _nearest(y, x, inside, height, width))
    else:
        sampled = _between(tf.cast(rows, tf.float32), y, x, inside, height, width)
    shape = tf.concat([tf.shape(places)[:2], [channels]], axis=0)
    return tf.cast(tf.reshape(sampled, shape), tf.float32)


def _nearest(y, x, inside, height, width):
    """The rows of the pixels in which places lie; outside the picture it is the row behind the last pixel."""
    row = tf.clip_by_value(tf.cast(y, tf.int32), 0, height - 1)
    column = tf.clip_by_value(tf.cast(x, tf.int32), 0, width - 1)
    return tf.where(inside, row * width + column, height * width)


def _between(rows, y, x, inside, height, width):
    """Bilinear samples at places [P] of pixels [height * width + 1, C]; outside the picture the last one."""
    y = tf.clip_by_value(y - 0.5, 0.0, tf.cast(height - 1, tf.float32))
    x = tf.clip_by_value(x - 0.5, 0.0, tf.cast(width - 1, tf.float32))
    first = _nearest(y, x, inside, height, width)
    down, right = (y - tf.floor(y))[:, None], (x - tf.floor(x))[:, None]
    # Beyond the last row and the last column it is some other pixel, of which the share is 0.
    neighbours = (tf.minimum(first + step, height * width) for step in (0, 1, width, width + 1))
    top_left, top_right, low_left, low_right = (tf.gather(rows, neighbour) for neighbour in neighbours)
    top = top_left + (top_right - top_left) * right
    low = low_left + (low_right - low_left) * right
    return top + (low - top) * down
