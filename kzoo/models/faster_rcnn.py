"""Faster R-CNN (Ren et al. 2015, https://arxiv.org/abs/1506.01497) on a feature pyramid."""

from collections.abc import Sequence
from typing import NamedTuple

import keras

from kzoo.backbones import features_of
from kzoo.backbones.resnet import IMAGENET_MEAN
from kzoo.checks import (
    check_boolean,
    check_choice,
    check_input_shape,
    check_integer,
    check_normalization,
    check_number,
    check_numbers,
    check_resize,
)
from kzoo.layers.anchors import Anchors
from kzoo.layers.crops import ROI, CropRegions
from kzoo.layers.heads import answers_of_anchors, tower
from kzoo.layers.matching import Match
from kzoo.layers.proposals import Proposals
from kzoo.layers.pyramid import MOST_LEVELS, backbone_levels, feature_pyramid
from kzoo.layers.region_detections import RegionDetections
from kzoo.layers.region_heads import REGION_DELTA_WEIGHTS, box_head
from kzoo.layers.resizing import fit_pictures, in_own_pixels
from kzoo.layers.sampling import REGION_IOU, SampleAnchors, SampleRegions
from kzoo.losses.detection import BoxLoss
from kzoo.losses.regions import ObjectnessLoss, RegionClassificationLoss
from kzoo.registry import register
from kzoo.zoo_model import ZooModel


@register("faster_rcnn", task="detection", paper="Ren et al. 2015, https://arxiv.org/abs/1506.01497")
def faster_rcnn(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    resize: tuple[int, int] | None = None,
    backbone: str = "resnet50",
    freeze_statistics: bool = False,
    pyramid_channels: int = 256,
    normalization: str | None = None,
    rpn_normalization: str | None = "same",
    rpn_depth: int = 1,
    anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    match_best: bool = True,
    proposals_train: int = 2000,
    proposals_test: int = 1000,
    roi: str = "align",
    roi_size: int = 7,
    roi_samples: int = 512,
    head_units: int = 1024,
    head_convolutions: int = 0,
    box_loss: str = "smooth_l1",
    box_loss_weight: float = 1.0,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    max_detections: int = 100,
) -> ZooModel:
    """Two-stage detector: proposes boxes with an object in them, then looks into each.

    The first stage is a small network that moves over a pyramid and says of every anchor whether it has an
    object, and how to make a box of it; the best boxes are proposals. The second stage crops each proposal
    from the pyramid, says what is in it, and makes the box fit (Ren et al. 2015, figure 2). Layers,
    thresholds and their order are those of torchvision's `fasterrcnn_resnet50_fpn`.

    Args:
        num_classes: how many classes of objects there are; the background is none.
        input_shape: `(height, width, 3)` of the pictures in pixels, None for any. Height and width are at
            least the stride of the coarsest level, 4 pixels for one anchor size up to 64 for five.
        resize: as for `retinanet`.
        backbone: `"resnet18"`, `"resnet34"`, `"resnet50"`, `"resnet101"`, or `"compact"`, which is small
            enough to learn on a few cores; or one made elsewhere, as for `retinanet`.
        freeze_statistics: whether the backbone's batch normalisation keeps its statistics, scale and offset,
            for training from published weights in small batches.
        pyramid_channels: channels of every level of the pyramid, and of the first stage.
        normalization: None as in the paper, or `"batch"`: batch normalisation in pyramid, first stage and the
            box head's convolutions, for training from random weights.
        rpn_normalization: of the first stage, where it is another: None or `"batch"`; `"same"` is the same.
        rpn_depth: 3x3 convolutions of the first stage before those that answer, 1 as in the paper.
        anchor_sizes: for each level from P2 upwards, the side of its square anchor in pixels, 1 to 5 of them.
        anchor_ratios: height / width of the anchors.
        match_best: whether the anchors nearest to an object answer, too, when their IoU is below 0.7.
        proposals_train: how many boxes are taken on each level, and proposed in all, while training.
        proposals_test: the same while answering.
        roi: how proposals are cropped. `"align"`: RoI Align, to which they are constants, as in the paper.
            `"spatial_transformer"`: the same crops by a sampler whose affine grid is made of the proposal's
            coordinates (Jaderberg et al. 2015), so that the second stage's losses also teach the first
            stage's boxes: through the crop, and through the box that is refined.
        roi_size: parts of a crop along each side.
        roi_samples: proposals of a picture that the second stage learns from; at most a quarter with an
            object.
        head_units: of the fully connected layers of the second stage, of which there are two.
        head_convolutions: 3x3 convolutions in place of the first of them.
        box_loss: `"smooth_l1"` or `"l1"` of the box deltas, or `"giou"` of the boxes, in both stages.
        box_loss_weight: how much the box losses of both stages count in the total.
        score_threshold: detections score more than this, 0 to 1.
        nms_threshold: of two detections of a class with a larger IoU than this the better stays, 0 to 1.
        max_detections: how many detections a picture has at most.

    Returns:
        A model with inputs `images [B, H, W, 3]` (RGB, 0-255) and, to train, `boxes [B, G, 4]` (xyxy in
        pixels) and `classes [B, G]` (-1 is padding, -2 a crowd that is ignored). Its losses are
        `rpn_objectness`, `rpn_box`, `classification` and `box`. Its answers are a dict of `boxes [B, N, 4]`,
        `scores [B, N]` (best first), `classes [B, N]` and `num_detections [B]`, with N = `max_detections`,
        filled up with zero boxes, zero scores and class -1.

    Raises:
        ValueError: an option has a value that it does not take; the message has the option, the value and
            what would be right.

    Example:
        model = kzoo.build("faster_rcnn", num_classes=3, input_shape=(256, 320, 3), backbone="resnet18")
        model.compile(keras.optimizers.AdamW(1e-3))
        model.fit(kzoo.data.load("voc:DIR", split="train", image_size=(256, 320), batch_size=8, augment=True))
        answers = model.predict(images)
    """
    stages = two_stages(
        num_classes=num_classes,
        input_shape=input_shape,
        resize=resize,
        backbone=backbone,
        freeze_statistics=freeze_statistics,
        pyramid_channels=pyramid_channels,
        normalization=normalization,
        rpn_normalization=rpn_normalization,
        rpn_depth=rpn_depth,
        anchor_sizes=anchor_sizes,
        anchor_ratios=anchor_ratios,
        match_best=match_best,
        proposals_train=proposals_train,
        proposals_test=proposals_test,
        roi=roi,
        roi_size=roi_size,
        roi_samples=roi_samples,
        head_units=head_units,
        head_convolutions=head_convolutions,
        box_loss=box_loss,
        box_loss_weight=box_loss_weight,
        score_threshold=score_threshold,
        nms_threshold=nms_threshold,
        max_detections=max_detections,
    )
    model = ZooModel(stages.inputs, stages.answers, name="faster_rcnn")
    model.least_size = stages.least_size
    return model


class Stages(NamedTuple):
    """The two stages of a detector, for what is built on them.

    Attributes:
        inputs: `images [B, H, W, 3]`, and optionally `boxes [B, G, 4]` and `classes [B, G]`.
        boxes: of the inputs, in pixels of the pictures as the stages see them.
        crop_pyramid: the levels that regions are cropped from, a dict from level to `[B, H_l, W_l, C]`.
        regions: what the second stage looks at, `[B, R, 4]`.
        most_positives: so many of the first regions of a picture can be positives.
        detections: what is found, in the same pixels.
        answers: the same in the inputs' own pixels.
        least_size: the least height and width of pictures.
    """

    inputs: dict[str, keras.KerasTensor]
    boxes: keras.KerasTensor
    crop_pyramid: dict[int, keras.KerasTensor]
    regions: keras.KerasTensor
    most_positives: int
    detections: dict[str, keras.KerasTensor]
    answers: dict[str, keras.KerasTensor]
    least_size: int


def two_stages(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    resize: tuple[int, int] | None,
    backbone: str,
    freeze_statistics: bool,
    pyramid_channels: int,
    normalization: str | None,
    rpn_normalization: str | None,
    rpn_depth: int,
    anchor_sizes: Sequence[float],
    anchor_ratios: Sequence[float],
    match_best: bool,
    proposals_train: int,
    proposals_test: int,
    roi: str,
    roi_size: int,
    roi_samples: int,
    head_units: int,
    head_convolutions: int,
    box_loss: str,
    box_loss_weight: float,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
) -> Stages:
    """Both stages, from pictures to detections; the options are those of `faster_rcnn`."""
    check_integer("num_classes", num_classes, least=1)
    check_integer("pyramid_channels", pyramid_channels, least=1)
    check_integer("proposals_train", proposals_train, least=1)
    check_integer("proposals_test", proposals_test, least=1)
    check_integer("roi_size", roi_size, least=1)
    check_integer("roi_samples", roi_samples, least=4)  # of which a quarter can be positive
    check_integer("head_units", head_units, least=1)
    check_integer("max_detections", max_detections, least=1)
    check_number("box_loss_weight", box_loss_weight, least=0)
    check_boolean("freeze_statistics", freeze_statistics)
    check_boolean("match_best", match_best)
    check_number("score_threshold", score_threshold, least=0, most=1)
    check_number("nms_threshold", nms_threshold, least=0, most=1)
    check_numbers("anchor_sizes", anchor_sizes, most=MOST_LEVELS)
    check_numbers("anchor_ratios", anchor_ratios)
    check_integer("head_convolutions", head_convolutions, least=0)
    check_integer("rpn_depth", rpn_depth, least=0)
    check_normalization(normalization)
    check_normalization(rpn_normalization, "rpn_normalization", ("same", "batch"))
    if rpn_normalization == "same":
        rpn_normalization = normalization
    check_choice("roi", roi, ROI)
    levels = range(2, 2 + len(anchor_sizes))
    check_resize(resize)
    least_size = 1 if resize else 2 ** levels[-1]
    check_input_shape(input_shape, stride=least_size)

    images = keras.Input(input_shape, name="images")  # [B, H, W, 3]
    boxes = keras.Input((None, 4), name="boxes", optional=True)  # [B, G, 4]
    classes = keras.Input((None,), dtype="int32", name="classes", optional=True)  # [B, G]

    resized, filled, boxes_seen = fit_pictures(images, boxes, resize, IMAGENET_MEAN)
    features = features_of(filled, backbone, freeze_statistics, backbone_levels(levels))
    pyramid = feature_pyramid(features, levels, pyramid_channels, normalization, coarser="pool")

    # The first stage: which anchors have an object?
    anchor_layer = Anchors([[size] for size in anchor_sizes], anchor_ratios)
    anchors = anchor_layer(pyramid)
    seen = tower(pyramid, depth=rpn_depth, normalization=rpn_normalization, name="rpn")
    head = dict(per_position=anchor_layer.per_position, size=1)
    objectness = answers_of_anchors(seen, outputs=1, name="rpn_objectness_head", **head)  # [B, A, 1]
    anchor_deltas = answers_of_anchors(seen, outputs=4, name="rpn_box_head", **head)  # [B, A, 4]

    matches = Match(positive_iou=0.7, negative_iou=0.3, match_best=match_best, name="match_anchors")(
        anchors, boxes_seen, classes
    )
    matches = SampleAnchors(count=256, positive_share=0.5, name="sample_anchors")(matches)
    objectness = ObjectnessLoss(name="rpn_objectness")(objectness, matches, classes)
    anchor_deltas = BoxLoss(box_loss, per="sample", weight=box_loss_weight, name="rpn_box")(
        anchor_deltas, anchors, matches, boxes_seen
    )
    proposals = Proposals(proposals_train, proposals_test, fixed=roi == "align", name="proposals")(
        objectness, anchor_deltas, anchors, resized, classes
    )  # [B, K, 4]

    # The second stage: what is in the proposals?
    sample_layer = SampleRegions(roi_samples, positive_share=0.25, name="regions")
    regions = sample_layer(proposals, boxes_seen, classes)  # [B, R, 4]
    crop_pyramid = {level: pyramid[level] for level in backbone_levels(levels)}
    crops = CropRegions(roi_size, roi, name="crop_regions")(crop_pyramid, regions)
    logits, deltas = box_head(
        crops,
        num_classes=num_classes,
        units=head_units,
        convolutions=head_convolutions,
        normalization=normalization,
    )

    matches = Match(REGION_IOU, REGION_IOU, match_best=False, name="match_regions")(
        regions, boxes_seen, classes
    )
    logits = RegionClassificationLoss(name="classification")(logits, matches, classes)
    deltas = BoxLoss(
        box_loss, per="sample", delta_weights=REGION_DELTA_WEIGHTS, weight=box_loss_weight, name="box"
    )(deltas, regions, matches, boxes_seen, classes)
    detections = RegionDetections(score_threshold, nms_threshold, max_detections, name="detections")(
        logits, deltas, regions, resized, classes
    )
    inputs = {"images": images, "boxes": boxes, "classes": classes}
    return Stages(
        inputs,
        boxes_seen,
        crop_pyramid,
        regions,
        sample_layer.most_positives,
        detections,
        in_own_pixels(detections, resized, images),
        least_size,
    )
