"""RetinaNet (Lin et al. 2017, https://arxiv.org/abs/1708.02002)."""

from collections.abc import Sequence

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
from kzoo.layers.anchors import OCTAVE_SCALES, Anchors
from kzoo.layers.detections import Detections
from kzoo.layers.heads import GROUPS, dense_head, prior_bias
from kzoo.layers.matching import Match
from kzoo.layers.pyramid import MOST_LEVELS, backbone_levels, feature_pyramid
from kzoo.layers.resizing import fit_pictures, in_own_pixels
from kzoo.losses.detection import BoxLoss, FocalLoss
from kzoo.registry import register
from kzoo.zoo_model import ZooModel


@register("retinanet", task="detection", paper="Lin et al. 2017, https://arxiv.org/abs/1708.02002")
def retinanet(
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    resize: tuple[int, int] | None = None,
    backbone: str = "resnet50",
    freeze_statistics: bool = False,
    pyramid_channels: int = 256,
    head_depth: int = 4,
    normalization: str | None = None,
    head_normalization: str | None = "same",
    coarser_from: str = "pyramid",
    anchor_sizes: Sequence[float] = (32, 64, 128, 256, 512),
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    match_best: bool = True,
    focal_alpha: float | None = 0.25,
    focal_gamma: float = 2.0,
    box_loss: str = "smooth_l1",
    box_loss_weight: float = 1.0,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    max_detections: int = 100,
) -> ZooModel:
    """One-stage detector: a class and a box from every anchor, learned with focal loss.

    As in the paper, a residual network (section 4, "Feature Pyramid Network Backbone") feeds a pyramid of up
    to five levels, over which two small convolutional heads move: one tells the classes of every anchor, the
    other how to make a box of it. An anchor answers for the object that it overlaps with an IoU of 0.5 or
    more; below 0.4 it is background, and between the two it is left aside (section 4, "Anchors"). The heads
    start from a prior probability of 0.01 (section 4.1, "Initialization").

    Args:
        num_classes: how many classes of objects there are; the background is none.
        input_shape: `(height, width, 3)` of the pictures in pixels, None for any. Height and width are at
            least the stride of the coarsest level, 8 pixels for one anchor size up to 128 for five.
        resize: shorter and longest side that pictures are resized to within the model, as torchvision's
            detectors do it: (800, 1333). Boxes are told in the pictures' own pixels all the same.
        backbone: `"resnet18"`, `"resnet34"`, `"resnet50"`, `"resnet101"`, or `"compact"`, which is small
            enough to learn on a few cores; or one of Keras's, `"keras.applications.EfficientNetB0"`, or of
            keras-cv's, `"keras_cv.csp_darknet_tiny"`.
        freeze_statistics: whether the backbone's batch normalisation keeps its statistics, scale and offset,
            for training from published weights in small batches.
        pyramid_channels: channels of every level of the pyramid and of the heads.
        head_depth: 3x3 convolutions in each head before the one that answers, 0 or more.
        normalization: None as in the paper, or `"batch"`: batch normalisation in pyramid and heads, for
            training from random weights.
        head_normalization: of the heads, where it is another than the pyramid's: None, `"batch"` or
            `"group"`; `"same"` is the same.
        coarser_from: what P6 is made of, and P7 of it: `"pyramid"`, P5, or `"backbone"`, C5 as in the paper.
        anchor_sizes: for each level from P3 upwards, the side of its smallest square anchor in pixels, 1 to 5
            of them. Each stands for three sizes an octave: times 1, 2^(1/3), 2^(2/3).
        anchor_ratios: height / width of the anchors.
        match_best: whether the anchors nearest to an object answer, too, when their IoU is below 0.5.
        focal_alpha: weight of the objects against the background, 0 to 1 (equation 5); None weighs all alike.
        focal_gamma: how much less easy anchors count (equation 5); 0 is the alpha-balanced cross-entropy, and
            without `focal_alpha` the plain one.
        box_loss: `"smooth_l1"` or `"l1"` of the box deltas, or `"giou"` of the boxes.
        box_loss_weight: how much the box loss counts in the total.
        score_threshold: detections score more than this, 0 to 1.
        nms_threshold: of two detections of a class with a larger IoU than this the better stays, 0 to 1.
        max_detections: how many detections a picture has at most.

    Returns:
        A model with inputs `images [B, H, W, 3]` (RGB, 0-255) and, to train, `boxes [B, G, 4]` (xyxy in
        pixels) and `classes [B, G]` (-1 is padding, -2 a crowd that is ignored). Its losses are
        `classification` and `box`. Its answers are a dict of `boxes [B, N, 4]`, `scores [B, N]` (best first),
        `classes [B, N]` and `num_detections [B]`, with N = `max_detections`, filled up with zero boxes, zero
        scores and class -1.

    Raises:
        ValueError: an option has a value that it does not take; the message has the option, the value and
            what would be right.

    Example:
        model = kzoo.build("retinanet", num_classes=3, input_shape=(256, 320, 3), backbone="resnet18")
        model.compile(keras.optimizers.AdamW(1e-3))
        model.fit(kzoo.data.load("voc:DIR", split="train", image_size=(256, 320), batch_size=8, augment=True))
        answers = model.predict(images)
    """
    check_integer("num_classes", num_classes, least=1)
    check_integer("pyramid_channels", pyramid_channels, least=1)
    check_integer("head_depth", head_depth, least=0)
    check_integer("max_detections", max_detections, least=1)
    if focal_alpha is not None:
        check_number("focal_alpha", focal_alpha, least=0, most=1)
    check_number("focal_gamma", focal_gamma, least=0)
    check_number("box_loss_weight", box_loss_weight, least=0)
    check_boolean("freeze_statistics", freeze_statistics)
    check_boolean("match_best", match_best)
    check_number("score_threshold", score_threshold, least=0, most=1)
    check_number("nms_threshold", nms_threshold, least=0, most=1)
    check_numbers("anchor_sizes", anchor_sizes, most=MOST_LEVELS)
    check_numbers("anchor_ratios", anchor_ratios)
    check_normalization(normalization)
    if head_normalization == "same":
        head_normalization = normalization
    else:
        check_normalization(head_normalization, "head_normalization", ("same", "batch", "group"))
    if head_normalization == "group" and pyramid_channels % GROUPS:
        raise ValueError(
            f"pyramid_channels={pyramid_channels}: a multiple of {GROUPS} is expected with "
            'head_normalization="group".'
        )
    check_choice("coarser_from", coarser_from, ("pyramid", "backbone"))
    levels = range(3, 3 + len(anchor_sizes))
    coarsest_stride = 2 ** levels[-1]
    check_resize(resize)
    check_input_shape(input_shape, stride=1 if resize else coarsest_stride)

    images = keras.Input(input_shape, name="images")  # [B, H, W, 3]
    boxes = keras.Input((None, 4), name="boxes", optional=True)  # [B, G, 4]
    classes = keras.Input((None,), dtype="int32", name="classes", optional=True)  # [B, G]

    resized, filled, boxes_seen = fit_pictures(images, boxes, resize, IMAGENET_MEAN)
    features = features_of(filled, backbone, freeze_statistics, backbone_levels(levels))
    pyramid = feature_pyramid(features, levels, pyramid_channels, normalization, coarser_from)
    anchor_layer = Anchors(
        [[int(size * scale) for scale in OCTAVE_SCALES] for size in anchor_sizes], anchor_ratios
    )
    anchors = anchor_layer(pyramid)

    head = dict(per_position=anchor_layer.per_position, depth=head_depth, normalization=head_normalization)
    logits = dense_head(
        pyramid, outputs=num_classes, bias_initializer=prior_bias(), name="class_head", **head
    )
    deltas = dense_head(pyramid, outputs=4, name="box_head", **head)

    matches = Match(positive_iou=0.5, negative_iou=0.4, match_best=match_best, name="match")(
        anchors, boxes_seen, classes
    )
    logits = FocalLoss(focal_alpha, focal_gamma, name="classification")(logits, matches, classes)
    deltas = BoxLoss(box_loss, weight=box_loss_weight, name="box")(deltas, anchors, matches, boxes_seen)

    answers = Detections(score_threshold, nms_threshold, max_detections)(
        logits, deltas, anchors, resized, classes
    )
    answers = in_own_pixels(answers, resized, images)
    model = ZooModel({"images": images, "boxes": boxes, "classes": classes}, answers, name="retinanet")
    model.least_size = 1 if resize else coarsest_stride
    return model
