"""The loss functions of detection, element by element, in float32."""

import tensorflow as tf

from kzoo.layers import boxes as box


def focal_loss(
    logits: tf.Tensor, targets: tf.Tensor, alpha: float | None = 0.25, gamma: float = 2.0
) -> tf.Tensor:
    """Focal loss of independent yes-or-no answers (Lin et al. 2017, equation 5).

    -alpha_t (1 - p_t)^gamma log(p_t), where p_t is the probability of the right answer. With gamma = 0 it is
    the alpha-balanced cross-entropy (equation 3).

    Args:
        logits: `[...]`.
        targets: `[...]`, 0 or 1.
        alpha: the weight of the ones; the zeros weigh 1 - alpha. None: both weigh 1 (equations 1 and 4).
        gamma: how much less the easy answers count, at least 0.

    Returns:
        float32 `[...]`.
    """
    logits, targets = tf.cast(logits, tf.float32), tf.cast(targets, tf.float32)
    # -log(p_t) = softplus(wrong), 1 - p_t = sigmoid(wrong): exact where 1 - p_t would cancel.
    wrong = logits * (1.0 - 2.0 * targets)
    loss = tf.nn.softplus(wrong)
    if alpha is not None:
        loss *= targets * (2.0 * alpha - 1.0) + (1.0 - alpha)
    if gamma == 0:
        return loss
    # (1 - p_t)^gamma by its logarithm: the gradient is finite where 1 - p_t underflows.
    return loss * tf.exp(-gamma * tf.nn.softplus(-wrong))


def smooth_l1(errors: tf.Tensor, beta: float = 1.0 / 9.0) -> tf.Tensor:
    """Smooth L1 loss (Girshick 2015, equation 3), quadratic below `beta` and linear above; beta = 0 is L1."""
    magnitude = tf.abs(errors)
    if beta == 0:
        return magnitude
    return tf.where(magnitude < beta, 0.5 * tf.square(errors) / beta, magnitude - 0.5 * beta)


def giou_loss(boxes: tf.Tensor, true_boxes: tf.Tensor) -> tf.Tensor:
    """One less the generalised IoU (Rezatofighi et al. 2019) of `[..., 4]` with `[..., 4]`: 0 to 2."""
    return 1.0 - box.generalized_iou(boxes, true_boxes)
