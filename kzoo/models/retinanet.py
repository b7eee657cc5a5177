"""RetinaNet (Lin et al. 2017, https://arxiv.org/abs/1708.02002)."""

from collections.abc import Sequence

import keras

from kzoo.backbones import features_of
from kzoo.layers.anchors import OCTAVE_SCALES, Anchors
from kzoo.layers.detections import Detections
from kzoo.layers.heads import dense_head, prior_bias
from kzoo.layers.matching import Match
from kzoo.layers.pyramid import feature_pyramid
from kzoo.losses.detection import BoxLoss, FocalLoss
from kzoo.registry import register
from kzoo.zoo_model import ZooModel


@register("retinanet", task="detection", paper="Lin et al. 2017, https://arxiv.org/abs/1708.02002")
def retinanet(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    backbone: str = "resnet50",
    freeze_statistics: bool = False,
    pyramid_channels: int = 256,
    head_depth: int = 4,
    normalization: str | None = None,
    anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    match_best: bool = True,
    focal_alpha: float = 0.25,
    focal_gamma: float = 2.0,
    box_loss: str = "smooth_l1",
    box_loss_weight: float = 1.0,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    max_detections: int = 100,
) -> ZooModel:
    """One-stage detector: a class and a box from every anchor, learned with focal loss.
    """
    images = keras.Input(input_shape, name="images")  # [B, H, W, 3]
    boxes = keras.Input((None, 4), name="boxes", optional=True)  # [B, G, 4]
    classes = keras.Input((None,), dtype="int32", name="classes", optional=True)  # [B, G]

    features = features_of(images, backbone, frozen=freeze_statistics)
    pyramid = feature_pyramid(features, len(anchor_sizes), pyramid_channels, normalization)
    anchor_layer = Anchors([[size * scale for scale in OCTAVE_SCALES] for size in anchor_sizes], anchor_ratios)
    anchors = anchor_layer(pyramid)

    head = dict(per_position=anchor_layer.per_position, depth=head_depth, normalization=normalization)
    logits = dense_head(pyramid, outputs=num_classes, bias_initializer=prior_bias(), name="class_head", **head)
    deltas = dense_head(pyramid, outputs=4, name="box_head", **head)

    matches = Match(positive_iou=0.5, negative_iou=0.4, match_best=match_best)(anchors, boxes, classes)
    logits = FocalLoss(focal_alpha, focal_gamma, name="classification")(logits, matches, classes)
    deltas = BoxLoss(box_loss, weight=box_loss_weight, name="box")(deltas, anchors, matches, boxes)

    answers = Detections(score_threshold, nms_threshold, max_detections)(logits, deltas, anchors, images, classes)
    return ZooModel({"images": images, "boxes": boxes, "classes": classes}, answers, name="retinanet")
