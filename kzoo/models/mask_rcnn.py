"""Mask R-CNN (He et al. 2017, https://arxiv.org/abs/1703.06870)."""

from collections.abc import Sequence

import keras

from kzoo.checks import check_boolean, check_integer
from kzoo.layers.crops import CropRegions
from kzoo.layers.masks import Masks, PickMaskRegions
from kzoo.layers.region_heads import mask_head
from kzoo.losses.regions import MaskLoss
from kzoo.models.faster_rcnn import two_stages
from kzoo.registry import register
from kzoo.zoo_model import ZooModel


@register("mask_rcnn", task="instance_segmentation", paper="He et al. 2017, https://arxiv.org/abs/1703.06870")
def mask_rcnn(
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
    mask_channels: int = 256,
    mask_roi_size: int = 14,
    paste_masks: bool = False,
    box_loss: str = "smooth_l1",
    box_loss_weight: float = 1.0,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    max_detections: int = 100,
) -> ZooModel:
    """Two-stage detector that also tells the pixels of every object: Faster R-CNN with a mask branch.

    Beside the second stage's box head a small convolutional network draws a mask of every class in each
    region, of which that of its class counts (He et al. 2017, figure 1, and figure 4, right). It learns from
    the positives alone, and answers for the detections. Layers, thresholds and their order are those of
    torchvision's `maskrcnn_resnet50_fpn`.

    Args:
        num_classes: how many classes of objects there are; the background is none.
        input_shape: `(height, width, 3)` of the pictures in pixels, None for any. Height and width are at
            least the stride of the coarsest level, 4 pixels for one anchor size up to 64 for five.
        resize: as for `retinanet`.
        backbone: as for `faster_rcnn`.
        freeze_statistics: as for `faster_rcnn`.
        pyramid_channels: channels of every level of the pyramid, and of the first stage.
        normalization: None as in the paper, or `"batch"`: batch normalisation in pyramid, first stage, mask
            branch and the box head's convolutions, for training from random weights.
        rpn_normalization: as for `faster_rcnn`.
        rpn_depth: as for `faster_rcnn`.
        anchor_sizes: for each level from P2 upwards, the side of its square anchor in pixels, 1 to 5 of them.
        anchor_ratios: height / width of the anchors.
        match_best: as for `faster_rcnn`.
        proposals_train: how many boxes are taken on each level, and proposed in all, while training.
        proposals_test: the same while answering.
        roi: `"align"` or `"spatial_transformer"`, as for `faster_rcnn`.
        roi_size: parts of a crop for the box head along each side.
        roi_samples: proposals of a picture that the second stage learns from; at most a quarter with an
            object, and these have masks.
        head_units: as for `faster_rcnn`.
        head_convolutions: as for `faster_rcnn`.
        mask_channels: of the convolutions of the mask branch.
        mask_roi_size: parts of a crop for a mask along each side; the mask has twice as many.
        paste_masks: whether the answers' masks are given in pixels of the picture.
        box_loss: `"smooth_l1"`, `"l1"` or `"giou"`, as for `faster_rcnn`.
        box_loss_weight: how much the box losses of both stages count in the total.
        score_threshold: detections score more than this, 0 to 1.
        nms_threshold: of two detections of a class with a larger IoU than this the better stays, 0 to 1.
        max_detections: how many detections a picture has at most.

    Returns:
        A model with inputs `images [B, H, W, 3]` (RGB, 0-255) and, to train, `boxes [B, G, 4]` (xyxy in
        pixels), `classes [B, G]` (-1 is padding, -2 a crowd that is ignored) and `masks [B, G, m, m]`: each
        object's mask, 0 or 1, in the middle of m by m equal parts of its box, as `kzoo.data.load` gives them
        (`kzoo.data.masks.within_box` makes one of a mask in pixels). Its losses are those of `faster_rcnn`
        and `mask`. Its answers are those of `faster_rcnn` and `masks`: float32 `[B, N, 28, 28]`,
        probabilities in the same parts of the answer's box; or, pasted, uint8 `[B, N, H, W]`, 1 where the
        object is.

    Raises:
        ValueError: an option has a value that it does not take; the message has the option, the value and
            what would be right.

    Example:
        data = kzoo.data.load("coco:DIR", task="instance_segmentation", image_size=(320, 320), augment=True)
        model = kzoo.build("mask_rcnn", num_classes=len(data.classes), input_shape=(320, 320, 3))
        model.compile(keras.optimizers.AdamW(1e-3))
        model.fit(data)
        masks = model.predict(images)["masks"]
    """
    check_boolean("paste_masks", paste_masks)
    check_integer("mask_channels", mask_channels, least=1)
    check_integer("mask_roi_size", mask_roi_size, least=1)
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
    images, classes = (stages.inputs[name] for name in ("images", "classes"))
    masks = keras.Input((None, None, None), dtype="uint8", name="masks", optional=True)  # [B, G, m, m]

    picks = PickMaskRegions(stages.most_positives, name="mask_regions")(
        stages.regions, stages.detections, stages.boxes, classes
    )
    crops = CropRegions(mask_roi_size, roi, name="crop_mask_regions")(
        stages.crop_pyramid, picks["regions"], picks["pictures"]
    )  # [P, size, size, C]
    logits = mask_head(crops, num_classes=num_classes, channels=mask_channels, normalization=normalization)
    logits = MaskLoss(name="mask")(logits, picks, masks, stages.boxes, classes)
    found = Masks(paste_masks, name="masks_of_detections")(logits, picks, stages.answers, images, classes)

    model = ZooModel(stages.inputs | {"masks": masks}, stages.answers | {"masks": found}, name="mask_rcnn")
    model.least_size = stages.least_size
    return model
