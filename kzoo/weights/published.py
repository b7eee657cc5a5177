"""The published checkpoints as data: where they are, what they reach, and what they need.

Everything here was read from torchvision's own source (0.28, the weights enums of `torchvision.models`). None
of the files was downloaded here: of their sha256 only the first eight hex digits are known, which torchvision
writes into the file names, and the figures are those that torchvision published. The classes have
torchvision's names, word for word.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kzoo.checks import check_choice, listed

ORIGIN = (
    "torchvision 0.28's own records; no file was downloaded where kzoo was made, and of each sha256 the "
    "first eight digits are known, from its name"
)
_FILES = "https://download.pytorch.org/models"
_RECIPES = "https://github.com/pytorch/vision/tree/main/references"
_NEW_CLASSIFIER_RECIPES = {
    "resnet50": "https://github.com/pytorch/vision/issues/3995#issuecomment-1013906621",
    "resnet101": "https://github.com/pytorch/vision/issues/3995#new-recipe",
}
_RETINANET = {"max_detections": 300}
_TWO_STAGES_V2 = {"normalization": "batch", "rpn_normalization": None, "rpn_depth": 2, "head_convolutions": 4}
_LICENCE = (
    "none stated for the weights; torchvision, whose code is BSD-3-Clause, says that pretrained models may "
    "have licences or terms derived from the data that they learned from"
)
_IMAGENET_TERMS = "ImageNet: non-commercial research and education (https://www.image-net.org/download.php)"
_COCO_TERMS = (
    "COCO: annotations CC BY 4.0, pictures under Flickr's terms of use "
    "(https://cocodataset.org/#termsofuse); the backbone may have begun on ImageNet, which has its own"
)


@dataclass(frozen=True)
class Resize:
    """How pictures were fitted to a model when its figures were published; always bilinear, aspect kept.

    Args:
        shorter: the shorter side becomes so many pixels, unless
        longest: the longer side would then have more than this; None is no limit.
        crop: side of the square that is cut from the middle afterwards; None is none.
        multiple: height and width are filled up with the mean colour, below and on the right, to a multiple
            of this; 1 is not at all.
        antialias: whether pixels that are left out count, as in Pillow's resizing; without, the four nearest
            pixels make a new one.
    """

    shorter: int
    longest: int | None = None
    crop: int | None = None
    multiple: int = 1
    antialias: bool = True


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights that somebody else trained and published; `print` shows it in a line.

    Args:
        model: the builder whose whole model it is, as in `kzoo.build`.
        name: what `weights=` takes, the data and the version: `"imagenet:v1"`, `"coco:v2"`.
        backbone: the builder's option.
        url: where the file is.
        size: of the file in MiB.
        parameters: as torchvision counts them: what can learn. Frozen batch normalisation (detectors,
            `"coco:v1"`) is not counted, nor are stored statistics. Their head counts torchvision's 91
            classes.
        source: the record of it in torchvision, as Python imports it.
        recipe: how it was trained.
        licence: what is known of the licence of the file.
        data_terms: the terms of the data that it learned from, as its owners tell them.
        figures: what it reaches, from 0 to 1, named as `kzoo.evaluation` names them.
        evaluated_on: the data that the figures are of, as torchvision names it.
        resize: how pictures were fitted for these figures.
        options: the builder's options that differ from its defaults.
        epsilon: of the backbone's batch normalisation, as the file is run in torchvision.
    """

    model: str
    name: str
    backbone: str
    url: str
    size: float
    parameters: int
    source: str
    recipe: str
    licence: str
    data_terms: str
    figures: dict[str, float]
    evaluated_on: str
    resize: Resize
    options: dict[str, object]
    epsilon: float = 1e-5

    @property
    def digest(self) -> str:
        """The first eight hex digits of the file's sha256, from its name; the others are not known here."""
        return self.url.removesuffix(".pth")[-8:]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of the model's outputs, without the background.

        torchvision's class k of a detector is class k - 1 here. COCO numbers its 80 classes up to 90; the
        outputs that stand for no class are named `"unused 12"`, with COCO's number.
        """
        return _class_names(_data(self.name))

    def __str__(self) -> str:
        figures = ", ".join(f"{figure} {value:.3f}" for figure, value in self.figures.items())
        what = f"{self.name:<11}  {self.backbone:<9}  {figures:<35}"
        return f"{what}  {self.size:3.0f} MiB  sha256 {self.digest}..."


def checkpoints(model: str | None = None, backbone: str | None = None) -> list[Checkpoint]:
    """The published checkpoints, those of a model and a backbone from the oldest version to the newest.

    Args:
        model: only those of the whole of this model. A detector's backbone takes those of `"classifier"`.
        backbone: only those with this backbone.

    Returns:
        The checkpoints; none where a model or a backbone has none.
    """
    return [
        checkpoint
        for checkpoint in _PUBLISHED
        if model in (None, checkpoint.model) and backbone in (None, checkpoint.backbone)
    ]


def find(model: str, backbone: str | None, weights: str) -> Checkpoint:
    """The checkpoint that `weights=` means.

    ```python
    >>> find("unet", "resnet50", "imagenet").name  # the whole classifier, of which it takes the backbone
    'imagenet:v2'
    ```

    Args:
        model: the builder's name.
        backbone: its option; None is a model that has an encoder of its own.
        weights: the name of a checkpoint, or its data alone for the best version: `"imagenet"` for a
            classifier, of which other models take the backbone, `"coco"` for a whole detector.

    Raises:
        ValueError: the name is unknown, or there are none for the model and the backbone; the message has
            what there is.
    """
    names = sorted({checkpoint.name for checkpoint in _PUBLISHED})
    check_choice("weights", weights, sorted({*names, *map(_data, names)}))
    owner = "classifier" if _data(weights) == "imagenet" else model
    if backbone is None and owner != model:
        raise ValueError(
            f'weights="{weights}": {model} needs a backbone for them, as in backbone="resnet34".'
        )
    same = [checkpoint for checkpoint in _PUBLISHED if weights in (checkpoint.name, _data(checkpoint.name))]
    fitting = [
        checkpoint for checkpoint in same if (checkpoint.model, checkpoint.backbone) == (owner, backbone)
    ]
    if fitting:
        return fitting[-1]
    if with_backbone := [checkpoint.backbone for checkpoint in same if checkpoint.model == owner]:
        missing, there = f"{model} with backbone {backbone}", with_backbone
    else:
        missing, there = model, [checkpoint.model for checkpoint in same]
    message = (
        f'weights="{weights}": there are none for {missing}; there are for {listed(dict.fromkeys(there))}.'
    )
    if others := [f'"{checkpoint.name}"' for checkpoint in checkpoints(owner, backbone)]:
        message += f" {backbone} has {listed(others)}."
    raise ValueError(message)


def _data(name: str) -> str:
    """`"imagenet"` of `"imagenet:v1"`."""
    return name.partition(":")[0]


@cache
def _class_names(data: str) -> tuple[str, ...]:
    return tuple(Path(__file__).with_name(f"{data}_classes.txt").read_text("utf-8").splitlines())


def _classifier(
    backbone: str, version: int, *, file: str, size: float, parameters: int, figures: tuple[float, float]
) -> Checkpoint:
    """A residual network that learned ImageNet's 1,000 classes."""
    new = version == 2
    return Checkpoint(
        model="classifier",
        name=f"imagenet:v{version}",
        backbone=backbone,
        url=f"{_FILES}/{file}.pth",
        size=size,
        parameters=parameters,
        source=f"torchvision.models.ResNet{backbone.removeprefix('resnet')}_Weights.IMAGENET1K_V{version}",
        recipe=_NEW_CLASSIFIER_RECIPES[backbone] if new else f"{_RECIPES}/classification#resnet",
        licence=_LICENCE,
        data_terms=_IMAGENET_TERMS,
        figures=dict(zip(("accuracy", "top5_accuracy"), figures, strict=True)),
        evaluated_on="ImageNet-1K",
        resize=Resize(shorter=232 if new else 256, crop=224),
        options={},
    )


def _detector(
    model: str,
    version: int,
    *,
    file: str,
    size: float,
    parameters: int,
    source: str,
    recipe: str,
    figures: dict[str, float],
    options: dict[str, object],
) -> Checkpoint:
    """A whole detector on a ResNet-50 that learned COCO's classes."""
    return Checkpoint(
        model=model,
        name=f"coco:v{version}",
        backbone="resnet50",
        url=f"{_FILES}/{file}.pth",
        size=size,
        parameters=parameters,
        source=f"torchvision.models.detection.{source}.COCO_V1",
        recipe=recipe,
        licence=_LICENCE,
        data_terms=_COCO_TERMS,
        figures=figures,
        evaluated_on="COCO-val2017",
        resize=Resize(shorter=800, longest=1333, multiple=32, antialias=False),
        options=options,
        epsilon=0.0 if version == 1 else 1e-5,  # torchvision's `overwrite_eps`, for the first versions
    )


_PUBLISHED = (
    _classifier(
        "resnet18",
        1,
        file="resnet18-f37072fd",
        size=44.661,
        parameters=11_689_512,
        figures=(0.69758, 0.89078),
    ),
    _classifier(
        "resnet34",
        1,
        file="resnet34-b627a593",
        size=83.275,
        parameters=21_797_672,
        figures=(0.73314, 0.9142),
    ),
    _classifier(
        "resnet50",
        1,
        file="resnet50-0676ba61",
        size=97.781,
        parameters=25_557_032,
        figures=(0.7613, 0.92862),
    ),
    _classifier(
        "resnet50",
        2,
        file="resnet50-11ad3fa6",
        size=97.79,
        parameters=25_557_032,
        figures=(0.80858, 0.95434),
    ),
    _classifier(
        "resnet101",
        1,
        file="resnet101-63fe2227",
        size=170.511,
        parameters=44_549_160,
        figures=(0.77374, 0.93546),
    ),
    _classifier(
        "resnet101",
        2,
        file="resnet101-cd907fc2",
        size=170.53,
        parameters=44_549_160,
        figures=(0.81886, 0.9578),
    ),
    _detector(
        "retinanet",
        1,
        file="retinanet_resnet50_fpn_coco-eeacb38b",
        size=130.267,
        parameters=34_014_999,
        source="RetinaNet_ResNet50_FPN_Weights",
        recipe=f"{_RECIPES}/detection#retinanet",
        figures={"AP": 0.364},
        options=_RETINANET,
    ),
    _detector(
        "retinanet",
        2,
        file="retinanet_resnet50_fpn_v2_coco-5905b1c5",
        size=146.037,
        parameters=38_198_935,
        source="RetinaNet_ResNet50_FPN_V2_Weights",
        recipe="https://github.com/pytorch/vision/pull/5756",
        figures={"AP": 0.415},
        options=_RETINANET | {"head_normalization": "group", "coarser_from": "backbone", "box_loss": "giou"},
    ),
    _detector(
        "faster_rcnn",
        1,
        file="fasterrcnn_resnet50_fpn_coco-258fb6c6",
        size=159.743,
        parameters=41_755_286,
        source="FasterRCNN_ResNet50_FPN_Weights",
        recipe=f"{_RECIPES}/detection#faster-r-cnn-resnet-50-fpn",
        figures={"AP": 0.370},
        options={},
    ),
    _detector(
        "faster_rcnn",
        2,
        file="fasterrcnn_resnet50_fpn_v2_coco-dd69338a",
        size=167.104,
        parameters=43_712_278,
        source="FasterRCNN_ResNet50_FPN_V2_Weights",
        recipe="https://github.com/pytorch/vision/pull/5763",
        figures={"AP": 0.467},
        options=_TWO_STAGES_V2,
    ),
    _detector(
        "mask_rcnn",
        1,
        file="maskrcnn_resnet50_fpn_coco-bf2d0c1e",
        size=169.84,
        parameters=44_401_393,
        source="MaskRCNN_ResNet50_FPN_Weights",
        recipe=f"{_RECIPES}/detection#mask-r-cnn",
        figures={"AP": 0.379, "mask_AP": 0.346},
        options={},
    ),
    _detector(
        "mask_rcnn",
        2,
        file="maskrcnn_resnet50_fpn_v2_coco-73cbd019",
        size=177.219,
        parameters=46_359_409,
        source="MaskRCNN_ResNet50_FPN_V2_Weights",
        recipe="https://github.com/pytorch/vision/pull/5773",
        figures={"AP": 0.474, "mask_AP": 0.418},
        options=_TWO_STAGES_V2,
    ),
)
