"""The one kind of model in the zoo: a functional graph whose targets are optional inputs."""

import keras
import numpy as np
import tensorflow as tf

_OWN = ("zoo_name", "zoo_options", "least_size")  # what a saved model tells beyond Keras's own config


@keras.saving.register_keras_serializable("kzoo")
class ZooModel(keras.Model):
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
    Options that are sequences are tuples. `least_size` is the least height and width of pictures, in pixels.

    Training on several workers (`MultiWorkerMirroredStrategy`) is not supported yet. Keras's own `fit` fails
    there in two methods of its TensorFlow trainer, `_maybe_symbolic_build` and `_make_function`; what takes
    their place belongs in this class.
    """

    zoo_name: str | None = None
    zoo_options: dict | None = None
    least_size: int = 1

    def __setattr__(self, name, value):
        if name == "zoo_options":
            # Past Keras, which would put containers of its own in the place of these.
            object.__setattr__(self, name, _plain(value))
        else:
            super().__setattr__(name, value)

    def __call__(self, inputs, *args, **kwargs):
        """Completes the dict of inputs: bare pictures are `images`, a target that is not there is None."""
        if not isinstance(inputs, dict):
            inputs = {"images": inputs}
        self._check_size(inputs.get("images"))
        return super().__call__({name: inputs.get(name) for name in self._inputs_struct}, *args, **kwargs)

    def fit(self, x=None, *args, **kwargs):
        """Trains as `keras.Model.fit` does, once data and model are seen to speak of the same classes.

        Raises:
            ValueError: a dataset of `kzoo.data.load` has another number of classes than the model.
        """
        for argument, dataset in (("x", x), ("validation_data", kwargs.get("validation_data"))):
            self.check_classes(argument, dataset)
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # the dataset's own matter; Keras would only warn of it
        return super().fit(x, *args, **kwargs)

    def predict_step(self, data):
        """Answers for pictures, also where a dataset has their targets, which would stand for training."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return super().predict_step(({"images": x["images"]} if isinstance(x, dict) else x,))

    def evaluate(self, x=None, *args, **kwargs):
        """Evaluates as `keras.Model.evaluate` does; raises as `fit` does."""
        self.check_classes("x", x)
        return super().evaluate(x, *args, **kwargs)

    def _check_size(self, images) -> None:
        sides = tuple(getattr(images, "shape", ()))[1:3]
        if any(side is not None and side < self.least_size for side in sides):
            raise ValueError(
                f"images: pictures of {sides[0]} by {sides[1]} pixels are too small for this model; the "
                f"least is {self.least_size} by {self.least_size}, the stride of its coarsest level."
            )

    @property
    def num_classes(self) -> int | None:
        """How many classes the model was built for, None where it was not built by the zoo."""
        return (self.zoo_options or {}).get("num_classes")

    def check_classes(self, argument: str, dataset: object) -> None:
        """Raises a `ValueError` that names the argument if data has other classes than the model.

        Looked at are datasets of `kzoo.data.load`, which know their classes, and dicts of arrays.
        """
        if isinstance(dataset, dict) and "classes" in dataset and self.num_classes is not None:
            highest = int(np.max(dataset["classes"], initial=-1))
            if highest >= self.num_classes:
                raise ValueError(
                    f"{argument}: class {highest} is in it, but the model was built with "
                    f"num_classes={self.num_classes}: 0 to {self.num_classes - 1}, and -1 for padding."
                )
        classes = _classes_of(dataset)
        if classes is not None and self.num_classes not in (None, len(classes)):
            raise ValueError(
                f"{argument}: the data has {len(classes)} classes ({', '.join(classes)}), but the model was "
                f"built with num_classes={self.num_classes}. Build it with num_classes={len(classes)}, or "
                "give the data's loader the classes to use."
            )

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


def _classes_of(dataset) -> tuple[str, ...] | None:
    """The classes of a dataset of `kzoo.data.load`, also after `repeat` or `take`, but not `map`."""
    while dataset is not None and not hasattr(dataset, "classes") and "Map" not in type(dataset).__name__:
        dataset = getattr(dataset, "_input_dataset", None)
    return getattr(dataset, "classes", None)


def _plain(value):
    """Options as they are whether or not they went through JSON, which knows no tuples."""
    if isinstance(value, dict):
        return {name: _plain(option) for name, option in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(part) for part in value)
    return value
