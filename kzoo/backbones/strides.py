"""The one way to find a feature map a level in any convolutional network, by the sizes of its maps alone."""

import math

import keras
import tensorflow as tf
from keras import layers

# Of a picture that shows what a network of open size does with sizes. Rounding is told by an odd map at every
# level: 2049, 1025, 513 and so on. And what is pooled to 1 x 1 has no common stride in height and width.
PROBE = (1024, 2049)


@keras.saving.register_keras_serializable("kzoo")
class FitToStride(layers.Layer):
    """Brings a map to the size that its stride means, centred: padded with zeros or cropped.

    Networks that do not pad their convolutions, or that round odd sizes down, have smaller maps.

    Inputs: features `[B, h, w, C]` and the images `[B, H, W, 3]` that they are of.
    Output: `[B, ceil(H / stride), ceil(W / stride), C]`.

    Args:
        stride: pixels of the images a cell of the map.
        **kwargs: as for every layer.
    """

    def __init__(self, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, features, images):
        sizes, targets = _size(features), [-(-size // self.stride) for size in _size(images)]
        if all(isinstance(size, int) for size in sizes + targets) and sizes == targets:
            return features
        missing = [target - size for size, target in zip(sizes, targets, strict=True)]
        before = [tf.maximum(part, 0) // 2 for part in missing]
        after = [tf.maximum(part, 0) - half for part, half in zip(missing, before, strict=True)]
        (top, left), (bottom, right) = before, after
        features = tf.pad(features, [[0, 0], [top, bottom], [left, right], [0, 0]])
        top, left = (tf.maximum(-part, 0) // 2 for part in missing)
        return features[:, top : top + targets[0], left : left + targets[1]]

    def compute_output_shape(self, features_shape, images_shape):
        sizes = [None if size is None else -(-size // self.stride) for size in images_shape[1:3]]
        return (features_shape[0], *sizes, features_shape[3])

    def get_config(self):
        return super().get_config() | {"stride": self.stride}


def _size(x) -> list:
    """Height and width, numbers where they are known."""
    dynamic = tf.shape(x)
    return [dynamic[axis] if x.shape[axis] is None else x.shape[axis] for axis in (1, 2)]


def maps_by_level(network: keras.Model) -> dict[int, keras.KerasTensor]:
    """The feature map that a network has at each stride.

    Of all maps with a stride of 2^l it is the deepest that everything deeper is computed from: a stage's
    output, and never a branch in the middle of a residual or Inception block. Where a network has no such map
    because connections skip along (NASNet), it is the deepest of those that the fewest tensors bypass.

    Args:
        network: functional, of one input `[B, H, W, C]`, without classes at its end.

    Returns:
        From level l >= 1, finest first, to `[B, ceil(H / 2^l), ceil(W / 2^l), C_l]`, tensors of the network's
        graph. Levels that the network does not have are not there.

    Example:
        network = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(None, None, 3))
        features = keras.Model(network.inputs, list(maps_by_level(network).values()))
    """
    (images,) = network.inputs
    picture = tuple(
        probe if size is None else size for size, probe in zip(images.shape[1:3], PROBE, strict=True)
    )
    tensors, bypassing = _tensors(network)
    shapes = keras.Model(images, tensors).compute_output_shape((1, *picture, images.shape[-1]))

    best: dict[int, tuple[int, int]] = {}  # level: (how many bypass it, index)
    for index, (shape, count) in enumerate(zip(shapes, bypassing, strict=True)):
        level = _level(picture, shape)
        # Padding only prepares the next convolution.
        producer = tensors[index]._keras_history.operation
        if level is None or isinstance(producer, layers.ZeroPadding2D | layers.Cropping2D):
            continue
        if level not in best or count <= best[level][0]:
            best[level] = count, index

    maps = {}
    for level, (_, index) in sorted(best.items()):
        expected = tuple(math.ceil(size / 2**level) for size in picture)
        maps[level] = tensors[index]
        if shapes[index][1:3] != expected:
            maps[level] = FitToStride(2**level, name=f"level_{level}")(tensors[index], images)
    return maps


def _tensors(network: keras.Model) -> tuple[list[keras.KerasTensor], list[int]]:
    """A network's tensors from first to last, and how many earlier ones are used beyond each."""
    depths = sorted(network._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in network._nodes_by_depth[depth]]
    tensors = [tensor for node in nodes for tensor in node.output_tensors]
    position = {id(tensor): index for index, tensor in enumerate(tensors)}
    last_use = list(range(len(tensors)))
    for node in nodes:
        for tensor in node.input_tensors:
            used_at = position[id(node.output_tensors[0])]
            last_use[position[id(tensor)]] = max(last_use[position[id(tensor)]], used_at)
    starts = [0] * (len(tensors) + 1)  # where one more, or one less, tensor passes by
    for index, last in enumerate(last_use):
        if last > index + 1:
            starts[index + 1] += 1
            starts[last] -= 1
    bypassing, passing = [], 0
    for change in starts[: len(tensors)]:
        passing += change
        bypassing.append(passing)
    return tensors, bypassing


def _level(picture: tuple[int, int], shape: tuple[int | None, ...]) -> int | None:
    """The level l >= 1 of a map, whose shape is nearly `[B, H / 2^l, W / 2^l, C]`, None of anything else."""
    if len(shape) != 4 or None in shape[1:3]:
        return None
    levels = {round(math.log2(size / part)) for size, part in zip(picture, shape[1:3], strict=True)}
    return max(levels) if len(levels) == 1 and min(levels) >= 1 else None
