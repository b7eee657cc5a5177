"""What carries a loss into the graph."""

import keras
import tensorflow as tf

from kzoo.replicas import mean_over_replicas


class MeanLoss(keras.metrics.Mean):
    """The mean of a loss over pictures, where each replica's loss stands for as many pictures as any other's.

    What a replica has of a loss is its part of the global batch's sum, over the mean of what the replicas
    divide by: the mean over the replicas, not over their pictures, is the loss of the global batch.
    """

    def update_state(self, loss: tf.Tensor, sample_weight: tf.Tensor) -> None:
        """Takes the loss of a replica in which there are `sample_weight` pictures."""
        super().update_state(loss, sample_weight=mean_over_replicas(tf.cast(sample_weight, tf.float32)))


class LossLayer(keras.layers.Layer):
    """A layer that adds its loss to the model's, and shows it under the layer's name.

    Subclasses compute in float32 whatever the precision policy, call `add_named_loss` where there are
    targets, and return their first input as it came. Their loss is a sum over what this replica has, divided
    by the `kzoo.replicas.mean_over_replicas` of a number: Keras takes the replicas' mean, which then is what
    one device would make of the global batch.

    Args:
        weight: how much the loss counts in the total.
    """

    def __init__(self, weight: float = 1.0, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.weight = weight
        self.tracker = MeanLoss(name=self.name)

    def add_named_loss(self, loss: tf.Tensor, batch_size: tf.Tensor) -> None:
        """Adds a scalar loss, the mean over pictures or what stands for it; this replica has `batch_size`."""
        loss = self.weight * loss
        self.add_loss(loss)
        # Weighted as Keras weights the total, so that the named losses sum to it.
        self.tracker.update_state(loss, sample_weight=batch_size)

    @property
    def _losses(self) -> list[tf.Tensor]:
        """Keras's list of what was added by `add_loss`, one for each replica.

        The replicas of a `MirroredStrategy` are threads that take turns in the same layers wherever they wait
        for each other. From one list a replica would take the losses of others as well: the total shown was
        too large by half (Keras 3.15).
        """
        return self._losses_of_replicas.setdefault(_replica(), [])

    @_losses.setter
    def _losses(self, losses: list[tf.Tensor]) -> None:
        self.__dict__["_losses_of_replicas"] = {_replica(): losses}

    def get_config(self):
        return super().get_config() | {"weight": self.weight}


def _replica() -> int | None:
    """The number of the replica whose turn it is, None outside of all."""
    context = tf.distribute.get_replica_context()
    number = None if context is None else tf.get_static_value(context.replica_id_in_sync_group)
    return None if number is None else int(number)
