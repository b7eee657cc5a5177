"""The optimizer that the recipes train with."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from kzoo import replicas
from kzoo.backbones import is_of_backbone
from kzoo.checks import check_number


def adamw(
    learning_rate: float,
    weight_decay: float = 0.02,
    backbone_rate: float = 1.0,
    averages: float = 0.0,
    accumulate: int = 1,
) -> keras.optimizers.Optimizer:
    """AdamW (Loshchilov and Hutter 2019): no decay of biases and normalisation, wild gradients tamed.

    Args:
        learning_rate: the highest that a schedule will set.
        weight_decay: share of a weight that goes at each step, times the learning rate.
        backbone_rate: the backbone's learning rate as a share of the others', 0 to 1: what was learned from
            many pictures is to change less than what begins anew.
        averages: what the averages of weights keep of themselves at each step, 0 to below 1; `fit` ends with
            the averages in the weights' place. 0 is none (Polyak and Juditsky 1992).
        accumulate: steps whose gradients are averaged before weights change.

    Returns:
        The optimizer, whose gradients are scaled down to a global norm of 10 where they exceed it.

    Raises:
        ValueError: `backbone_rate` is out of its range; or, when training begins, nothing that learns is of a
            backbone and it is not 1.
    """
    check_number("backbone_rate", backbone_rate, least=0, most=1)
    return AdamW(
        learning_rate,
        weight_decay=weight_decay,
        backbone_rate=backbone_rate,
        global_clipnorm=10.0,
        use_ema=averages > 0,
        ema_momentum=averages or 0.99,  # Keras's own, of no effect then
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )


@keras.saving.register_keras_serializable("kzoo")
class AdamW(keras.optimizers.AdamW):
    """Keras's AdamW with a learning rate of its own for a model's backbone.

    What a weight decays by is scaled alike. To scale gradients instead would change nothing: Adam's step does
    not depend on their scale. Biases and normalisation do not decay, also after saving and loading, which
    Keras's own optimizer forgets. On several replicas gradients are clipped once they are summed up.

    Args:
        *args: as for `keras.optimizers.AdamW`.
        backbone_rate: the backbone's learning rate as a share of the others'.
        **kwargs: as for `keras.optimizers.AdamW`.
    """

    def __init__(self, *args, backbone_rate: float = 1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.backbone_rate = backbone_rate
        self.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])

    def build(self, variables: Sequence[keras.Variable]) -> None:
        # Here, where they still have paths: a step is given TensorFlow's variables.
        of_backbone = [is_of_backbone(variable.path.partition("/")[0]) for variable in variables]
        if self.backbone_rate != 1 and not any(of_backbone):
            raise ValueError(
                f"backbone_rate={self.backbone_rate}: no variable that learns is of a backbone. 1.0 is "
                "expected for a model that has none, or whose backbone is frozen."
            )
        super().build(variables)
        self._rates = tuple(self.backbone_rate if of else 1.0 for of in of_backbone)

    def update_step(self, gradient, variable, learning_rate) -> None:
        rate = keras.ops.cast(learning_rate, variable.dtype)
        rate *= self._rates[self._get_variable_index(variable)]
        if self._use_weight_decay(variable):
            self.assign_sub(variable, variable * self.weight_decay * rate)
        super().update_step(gradient, variable, rate)

    def _backend_apply_gradients(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable]
    ) -> None:
        # Keras clips what each replica has, and sums that up: another step than that of the whole batch.
        context = replicas.together()
        summed = grads if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, list(grads))
        super()._backend_apply_gradients(summed, trainable_variables)

    def _all_reduce_sum_gradients(
        self, grads_and_vars: Sequence[tuple[tf.Tensor, tf.Variable]]
    ) -> Sequence[tuple[tf.Tensor, tf.Variable]]:
        """The gradients as they are: they were summed up before they were clipped."""
        return grads_and_vars

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Nothing: each step lets its variable decay, by the rate of that variable."""

    def get_config(self) -> dict:
        return super().get_config() | {"backbone_rate": self.backbone_rate}


@keras.saving.register_keras_serializable("kzoo")
class LossScale(keras.optimizers.LossScaleOptimizer):
    """Keras's scaling of the loss, for float16, by a factor that suits the gradients of all replicas.

    Where they overflow in any of them the step is left out in all: left to itself each would decide by its
    own, and wait for those that do not come. Arguments are those of `keras.optimizers.LossScaleOptimizer`.
    """

    def check_finite(self, grads: Sequence[tf.Tensor | None]) -> tf.Tensor:
        """Whether the gradients of all replicas are numbers."""
        finite = tf.cast(super().check_finite(grads), tf.float32)
        return replicas.sum_over_replicas(finite) > replicas.count() - 0.5
