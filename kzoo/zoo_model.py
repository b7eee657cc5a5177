"""The one kind of model in the zoo: a functional graph whose targets are optional inputs."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from kzoo import replicas
from kzoo.batches import check_data, check_pictures
from kzoo.data.faults import as_data_errors
from kzoo.distributed import Replicated, Steps, parted
from kzoo.global_batch import GlobalBatch
from kzoo.options import plain
from kzoo.workers import as_worker_lost

if TYPE_CHECKING:
    from kzoo.weights.fit import Fitted

_OWN = ("zoo_name", "zoo_options", "least_size")  # what a saved model tells beyond Keras's own config


@keras.saving.register_keras_serializable("kzoo")
class ZooModel(Replicated, GlobalBatch):
    """A functional model that is trained and asked through the same graph.

    Made like any functional model, `ZooModel(inputs, outputs)`, where the inputs are a dict of `images` and
    of targets, the latter with `keras.Input(..., optional=True)`. Loss layers in the graph add their loss
    where there are targets, so `compile` takes an optimizer and no loss, `fit` a dataset of dicts, and
    `predict` pictures alone:

        model = kzoo.build("retinanet", num_classes=3, input_shape=(256, 320, 3))
        model.compile(keras.optimizers.AdamW(1e-3))
        model.fit(dataset)               # of {"images", "boxes", "classes"}; other keys are left aside
        model.predict(images)["boxes"]

    `zoo_name` and `zoo_options` tell what `kzoo.build` was called with, also after saving and loading.
    Options that are sequences are tuples. `fitted` tells, where a model began with weights, what became of
    them; it is not saved. `least_size` is the least height and width of pictures, in pixels.

    Built and compiled under `strategy.scope()` of `kzoo.training.strategy` it learns on several devices or
    workers. Of several workers all run `fit` and `evaluate`, together; `predict` answers on its own worker.
    """

    zoo_name: str | None = None
    zoo_options: dict | None = None
    fitted: "Fitted | None" = None
    least_size: int = 1

    def __setattr__(self, name, value):
        if name == "zoo_options":
            # Past Keras, which would put containers of its own in the place of these.
            object.__setattr__(self, name, plain(value))
        else:
            super().__setattr__(name, value)

    def __call__(self, inputs, *args, **kwargs):
        """Completes the dict of inputs: bare pictures are `images`, a target that is not there is None."""
        if not isinstance(inputs, dict):
            inputs = {"images": inputs}
        shape = getattr(inputs.get("images"), "shape", None)
        if shape is not None and getattr(shape, "rank", 4) is not None:
            # Of several replicas one may have none of the pictures.
            shape = (None, *shape[1:]) if replicas.together() else tuple(shape)
            check_pictures(self, "images", shape)
        return super().__call__({name: inputs.get(name) for name in self._inputs_struct}, *args, **kwargs)

    def fit(self, x=None, *args, **kwargs):
        """Trains as `keras.Model.fit` does, once data and model are seen to fit each other.

        Raises:
            ValueError: a target is missing, pictures have another shape than the model takes, or a dataset of
                `kzoo.data.load` has another number of classes.
            DataError: a file that a dataset of `kzoo.data.load` reads broke meanwhile. Names the file.
            WorkerLost: another worker is gone.
        """
        for argument, data in (("x", x), ("validation_data", kwargs.get("validation_data"))):
            check_data(self, argument, data, targets=True)
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # the dataset's own matter; Keras would only warn of it
        if hasattr(kwargs.get("validation_data"), "passes"):
            validation = self._to_measure(kwargs["validation_data"], kwargs, "validation_steps")
            kwargs["validation_data"] = validation
        x = self._to_learn_from(x, kwargs)
        with as_data_errors(), as_worker_lost(self.distribute_strategy):
            return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        """Evaluates as `keras.Model.evaluate` does; raises as `fit` does."""
        check_data(self, "x", x, targets=True)
        if hasattr(x, "passes"):
            x = self._to_measure(x, kwargs, "steps")
        _call_back(kwargs, Steps(test_steps=kwargs.get("steps")), self)
        with as_data_errors(), as_worker_lost(self.distribute_strategy):
            return super().evaluate(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Answers for pictures, or for those of a dataset, whose targets are left aside.

        Raises:
            ValueError: pictures have another shape than the model takes.
            DataError: as in `fit`.
        """
        check_data(self, "x", x, targets=False)
        with as_data_errors():
            return super().predict(_pictures(x), *args, **kwargs)

    def predict_on_batch(self, x):
        """Answers for one batch of pictures; raises as `predict` does."""
        check_data(self, "x", x, targets=False)
        return super().predict_on_batch(_pictures(x))

    def predict_step(self, data):
        """Answers for pictures alone: with their targets the model would not decode what it finds."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return super().predict_step((_pictures(x),))

    def _to_learn_from(self, dataset, options):
        """A dataset of `kzoo.data.load` as one sequence of all epochs, and `fit`'s options for it.

        Under a strategy Keras reads ahead in iterations that it does not train on; those would move the
        epochs. With `steps_per_epoch` it takes more or less of an iteration than there is.
        """
        passes, steps = getattr(dataset, "passes", None), options.get("steps_per_epoch")
        if passes is not None and passes.next == 0:  # nothing was learned from it yet, here at least
            passes.go_to(options.get("initial_epoch", 0) * (steps or len(dataset)))
        if passes is not None and (self._distribute_strategy is not None or steps is not None):
            steps = options["steps_per_epoch"] = len(dataset) if steps is None else steps
            dataset = dataset.without_end(passes.next)
        else:
            passes = None
        _call_back(options, Steps(steps, options.get("validation_steps"), passes), self)
        return parted(dataset, self.distribute_strategy)

    def _to_measure(self, dataset, options, steps):
        """An epoch of a dataset of `kzoo.data.load` that moves nothing: what learns goes on where it was."""
        unending = dataset.without_end(dataset.passes.next)
        parts = parted(unending, self.distribute_strategy)
        if parts is unending:
            return unending.take(len(dataset))
        if options.get(steps) is None:
            options[steps] = len(dataset)
        return parts

    @property
    def num_classes(self) -> int | None:
        """How many classes the model was built for, None where it was not built by the zoo."""
        return (self.zoo_options or {}).get("num_classes")

    def get_config(self):
        return super().get_config() | {name: getattr(self, name) for name in _OWN}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        own = {name: config[name] for name in _OWN if name in config}
        config = {name: value for name, value in config.items() if name not in _OWN}
        model = super().from_config(config, custom_objects=custom_objects)
        for name, value in own.items():
            setattr(model, name, value)
        return model


def check_precision() -> None:
    """Raises a `ValueError` if Keras is set to keep weights in half precision, too coarse for statistics."""
    policy = keras.config.dtype_policy().name
    if policy in ("float16", "bfloat16"):
        raise ValueError(
            f'keras.config.set_dtype_policy("{policy}"): weights in half precision cannot learn; expected '
            f'"mixed_{policy}", which computes in it, or "float32".'
        )


def _call_back(options, steps, model):
    """Adds what counts steps to the callbacks among the options of `fit` or `evaluate`."""
    callbacks = options.get("callbacks") or []
    if not isinstance(callbacks, keras.callbacks.CallbackList):
        options["callbacks"] = [*(callbacks if isinstance(callbacks, list | tuple) else [callbacks]), steps]
    elif not any(isinstance(callback, Steps) for callback in callbacks.callbacks):  # `fit` hands over its own
        steps.set_model(model)
        callbacks.append(steps)


def _pictures(x):
    return {"images": x["images"]} if isinstance(x, dict) else x
