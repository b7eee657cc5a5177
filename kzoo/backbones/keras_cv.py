"""The backbones of keras-cv 0.9.0, its last release.

Its presets ask the network for files merely to build, so the plain classes are constructed here. keras-cv is
imported when one of its backbones is asked for, and not before.
"""

import importlib

import keras
import numpy as np

from kzoo.layers.pixels import PadToMultiple

# Classes that are built for one size of pictures, square and a multiple of this: the embeddings of positions
# are of one size (ViTDet), or attention takes the square root of the number of pixels for both sides (MiT).
SQUARE = {"ViTDetBackbone": 16, "MiTBackbone": 32}

_RESNET = {"stackwise_filters": [64, 128, 256, 512], "stackwise_strides": [1, 2, 2, 2]}
_RESNET_BLOCKS = {
    18: ("basic_block", [2, 2, 2, 2]),
    34: ("basic_block", [3, 4, 6, 3]),
    50: ("block", [3, 4, 6, 3]),
    101: ("block", [3, 4, 23, 3]),
    152: ("block", [3, 8, 36, 3]),
}
_EFFICIENTNET = {
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
}
# b0, b1, ...: width_coefficient, depth_coefficient
_EFFICIENTNET_SCALES = (
    (1.0, 1.0),
    (1.0, 1.1),
    (1.1, 1.2),
    (1.2, 1.4),
    (1.4, 1.8),
    (1.6, 2.2),
    (1.8, 2.6),
    (2.0, 3.1),
)
# repeats, input filters, output filters
_EFFICIENTNET_V2_SIZES = {
    "s": ([2, 4, 4, 6, 9, 15], [24, 24, 48, 64, 128, 160], [24, 48, 64, 128, 160, 256]),
    "m": ([3, 5, 5, 7, 14, 18, 5], [24, 24, 48, 80, 160, 176, 304], [24, 48, 80, 160, 176, 304, 512]),
    "l": ([4, 7, 7, 10, 19, 25, 7], [32, 32, 64, 96, 192, 224, 384], [32, 64, 96, 192, 224, 384, 640]),
}
_EFFICIENTNET_V2_B = ([1, 2, 2, 3, 5, 8], [32, 16, 32, 48, 96, 112], [16, 32, 48, 96, 112, 192])
_MOBILENET_V3_SMALL = {
    "stackwise_expansion": [1, 72 / 16, 88 / 24, 4, 6, 6, 3, 3, 6, 6, 6],
    "stackwise_filters": [16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96],
    "stackwise_kernel_size": [3, 3, 3] + [5] * 8,
    "stackwise_stride": [2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1],
    "stackwise_se_ratio": [0.25, None, None] + [0.25] * 8,
    "stackwise_activation": ["relu"] * 3 + ["hard_swish"] * 8,
}
_MOBILENET_V3_LARGE = {
    "stackwise_expansion": [1, 4, 3, 3, 3, 3, 6, 2.5, 2.3, 2.3, 6, 6, 6, 6, 6],
    "stackwise_filters": [16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160],
    "stackwise_kernel_size": [3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5],
    "stackwise_stride": [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1],
    "stackwise_se_ratio": [None] * 3 + [0.25] * 3 + [None] * 4 + [0.25] * 5,
    "stackwise_activation": ["relu"] * 6 + ["hard_swish"] * 9,
}


def _efficientnet_v2(repeats, input_filters, output_filters, width: float = 1.0, depth: float = 1.0) -> dict:
    stages = len(repeats)
    return {
        "stackwise_kernel_sizes": [3] * stages,
        "stackwise_num_repeats": repeats,
        "stackwise_input_filters": input_filters,
        "stackwise_output_filters": output_filters,
        "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6, 6][:stages],
        "stackwise_squeeze_and_excite_ratios": [0.0] * 3 + [0.25] * (stages - 3),
        "stackwise_strides": [1, 2, 2, 2, 1, 2, 1][:stages],
        "stackwise_conv_types": ["fused"] * 3 + ["unfused"] * (stages - 3),
        "width_coefficient": width,
        "depth_coefficient": depth,
    }


def _scaled(width: float, depth: float) -> dict:
    return _EFFICIENTNET | {"width_coefficient": width, "depth_coefficient": depth}


def _stages(channels: list[int], depth: list[int]) -> dict:
    return {"stackwise_channels": channels, "stackwise_depth": depth}


def _mix_transformer(embedding_dims: list[int], depths: list[int]) -> dict:
    return {"embedding_dims": embedding_dims, "depths": depths}


def _vitdet(embed_dim: int, depth: int, num_heads: int) -> dict:
    quarter = depth // 4  # the last encoder of each quarter attends globally
    return {
        "embed_dim": embed_dim,
        "depth": depth,
        "mlp_dim": 4 * embed_dim,
        "num_heads": num_heads,
        "global_attention_indices": [quarter * i - 1 for i in (1, 2, 3, 4)],
    }


# A preset's name: its class in keras_cv.models and what makes it. Left out are those for videos.
# The numbers are the papers', as the docstrings of the classes and the descriptions of the presets have them,
# and make as many parameters as the presets' metadata tell, with these exceptions: the metadata of MiT count
# ten classes too; those of EfficientNet (v1, lite) and MobileNet are off by less than 0.7 percent, while v1
# and MobileNet have as many as in keras.applications; DenseNet's tell none, and it is as there, too.
BACKBONES: dict[str, tuple[str, dict]] = {
    "csp_darknet_tiny": ("CSPDarkNetBackbone", _stages([48, 96, 192, 384], [1, 3, 3, 1])),
    "csp_darknet_s": ("CSPDarkNetBackbone", _stages([64, 128, 256, 512], [1, 3, 3, 1])),
    "csp_darknet_m": ("CSPDarkNetBackbone", _stages([96, 192, 384, 768], [2, 6, 6, 2])),
    "csp_darknet_l": ("CSPDarkNetBackbone", _stages([128, 256, 512, 1024], [3, 9, 9, 3])),
    "csp_darknet_xl": ("CSPDarkNetBackbone", _stages([170, 340, 680, 1360], [4, 12, 12, 4])),
    "densenet121": ("DenseNetBackbone", {"stackwise_num_repeats": [6, 12, 24, 16]}),
    "densenet169": ("DenseNetBackbone", {"stackwise_num_repeats": [6, 12, 32, 32]}),
    "densenet201": ("DenseNetBackbone", {"stackwise_num_repeats": [6, 12, 48, 32]}),
    **{
        f"efficientnetlite_b{i}": ("EfficientNetLiteBackbone", _scaled(*scale))
        for i, scale in enumerate(_EFFICIENTNET_SCALES[:5])
    },
    **{
        f"efficientnetv1_b{i}": (
            "EfficientNetV1Backbone",
            _scaled(*scale) | {"stackwise_squeeze_and_excite_ratios": [0.25] * 7},
        )
        for i, scale in enumerate(_EFFICIENTNET_SCALES)
    },
    **{
        f"efficientnetv2_{size}": ("EfficientNetV2Backbone", _efficientnet_v2(*stages))
        for size, stages in _EFFICIENTNET_V2_SIZES.items()
    },
    **{
        f"efficientnetv2_b{i}": ("EfficientNetV2Backbone", _efficientnet_v2(*_EFFICIENTNET_V2_B, *scale))
        for i, scale in enumerate(_EFFICIENTNET_SCALES[:4])
    },
    "mit_b0": ("MiTBackbone", _mix_transformer([32, 64, 160, 256], [2, 2, 2, 2])),
    "mit_b1": ("MiTBackbone", _mix_transformer([64, 128, 320, 512], [2, 2, 2, 2])),
    "mit_b2": ("MiTBackbone", _mix_transformer([64, 128, 320, 512], [3, 4, 6, 3])),
    "mit_b3": ("MiTBackbone", _mix_transformer([64, 128, 320, 512], [3, 4, 18, 3])),
    "mit_b4": ("MiTBackbone", _mix_transformer([64, 128, 320, 512], [3, 8, 27, 3])),
    "mit_b5": ("MiTBackbone", _mix_transformer([64, 128, 320, 512], [3, 6, 40, 3])),
    "mobilenet_v3_small": ("MobileNetV3Backbone", _MOBILENET_V3_SMALL),
    "mobilenet_v3_large": ("MobileNetV3Backbone", _MOBILENET_V3_LARGE),
    **{
        f"resnet{depth}{version}": (
            f"ResNet{version[1:].upper()}Backbone",
            _RESNET | {"block_type": block, "stackwise_blocks": blocks},
        )
        for version in ("", "_v2")
        for depth, (block, blocks) in _RESNET_BLOCKS.items()
    },
    "vgg16": ("VGG16Backbone", {"include_top": False}),  # has no preset
    "vitdet_base": ("ViTDetBackbone", _vitdet(768, depth=12, num_heads=12)),
    "vitdet_large": ("ViTDetBackbone", _vitdet(1024, depth=24, num_heads=16)),
    "vitdet_huge": ("ViTDetBackbone", _vitdet(1280, depth=32, num_heads=16)),
    "yolo_v8_xs_backbone": ("YOLOV8Backbone", _stages([32, 64, 128, 256], [1, 2, 2, 1])),
    "yolo_v8_s_backbone": ("YOLOV8Backbone", _stages([64, 128, 256, 512], [1, 2, 2, 1])),
    "yolo_v8_m_backbone": ("YOLOV8Backbone", _stages([96, 192, 384, 576], [2, 4, 4, 2])),
    "yolo_v8_l_backbone": ("YOLOV8Backbone", _stages([128, 256, 512, 512], [3, 6, 6, 3])),
    "yolo_v8_xl_backbone": ("YOLOV8Backbone", _stages([160, 320, 640, 640], [3, 6, 6, 3])),
}


def names() -> list[str]:
    """What the backbones are called: keras-cv's presets without weights, such as `"resnet18_v2"`, sorted."""
    return sorted(BACKBONES)


def network(
    name: str, size: tuple[int | None, int | None], weights: str | None = None
) -> tuple[PadToMultiple | None, keras.Model]:
    """A backbone, with random weights or those that keras-cv publishes.

    Args:
        name: one of `names()`.
        size: height and width that the pictures have, None for any.
        weights: None, or `"imagenet"`.

    Returns:
        What pictures in 0-255 go through first, None for nothing, and the backbone.

    Raises:
        ValueError: a transformer does not take this size; or there are no such weights, or they cannot be
            fetched.
        ImportError: keras-cv is not installed, or it does not go with this Keras.
    """
    class_name, config = BACKBONES[name]
    shape = (None, None, 3)
    if class_name in SQUARE:
        _check_size(name, size, SQUARE[class_name])
        shape = (*size, 3)
    try:
        constructor = getattr(importlib.import_module("keras_cv").models, class_name)
        backbone = constructor(include_rescaling=True, input_shape=shape, **config)
    except Exception as error:
        raise ImportError(
            f'backbone="keras_cv.{name}": keras-cv does not build it here, with Keras {keras.__version__}: '
            f"{error!r}. keras-cv 0.9.0 is its last release and was seen to work with Keras 3.15 "
            "(pip install keras-cv==0.9.0); keras.applications has networks that go with every Keras."
        ) from error
    if weights is not None:
        backbone.set_weights(_published(name, weights, constructor))
    # The first layer of darknet takes every second pixel of every second row as channels.
    darknet = class_name == "CSPDarkNetBackbone"
    return PadToMultiple(2, name="backbone_preprocess") if darknet else None, backbone


def _published(name: str, weights: str, constructor: type) -> list[np.ndarray]:
    """The weights of keras-cv's own preset `NAME_imagenet`, which it fetches by itself."""
    preset = f"{name.removesuffix('_backbone')}_{weights}"
    known = sorted(constructor.presets_with_weights)
    if preset not in known:
        raise ValueError(
            f'weights="{weights}": keras-cv publishes none for keras_cv.{name}; it has '
            f"{', '.join(known) or 'none'} of this kind."
        )
    try:
        return constructor.from_preset(preset, load_weights=True).get_weights()
    except Exception as error:
        raise ValueError(
            f'weights="{weights}": keras-cv cannot give those of keras_cv.{name}: {error}'
        ) from error


def _check_size(name: str, size: tuple[int | None, int | None], stride: int) -> None:
    """Raises a `ValueError` unless a transformer takes pictures of this size."""
    height, width = size
    if height is None or height != width or height % stride:
        raise ValueError(
            f'backbone="keras_cv.{name}": takes square pictures of one size, a multiple of {stride}, '
            f"but input_shape has {height} x {width}."
        )
