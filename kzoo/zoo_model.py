"""The one kind of model in the zoo: a functional graph whose targets are optional inputs."""

import keras
import tensorflow as tf


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
    Options that are sequences are tuples.
    """

    zoo_name: str | None = None
    zoo_options: dict | None = None

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
        return super().__call__({name: inputs.get(name) for name in self._inputs_struct}, *args, **kwargs)

    def fit(self, x=None, *args, **kwargs):
        """Trains as `keras.Model.fit` does, once data and model are seen to speak of the same classes.

        Raises:
            ValueError: a dataset of `kzoo.data.load` has another number of classes than the model.
        """
        for argument, dataset in (("x", x), ("validation_data", kwargs.get("validation_data"))):
            self._check_classes(argument, dataset)
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # the dataset's own matter; Keras would only warn of it
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        """Evaluates as `keras.Model.evaluate` does; raises as `fit` does."""
        self._check_classes("x", x)
        return super().evaluate(x, *args, **kwargs)

    def _check_classes(self, argument: str, dataset) -> None:
        classes = getattr(dataset, "classes", None)  # datasets of kzoo.data.load know theirs
        expected = (self.zoo_options or {}).get("num_classes")
        if classes is not None and expected is not None and len(classes) != expected:
            raise ValueError(
                f"{argument}: the data has {len(classes)} classes ({', '.join(classes)}), but the model was "
                f"built with num_classes={expected}. Build it with num_classes={len(classes)}, or give the "
                "data's loader the classes to use."
            )

    def get_config(self):
        return super().get_config() | {"zoo_name": self.zoo_name, "zoo_options": self.zoo_options}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        name, options = config.pop("zoo_name", None), config.pop("zoo_options", None)
        model = super().from_config(config, custom_objects=custom_objects)
        model.zoo_name, model.zoo_options = name, options
        return model


def _plain(value):
    """Options as they are whether or not they went through JSON, which knows no tuples."""
    if isinstance(value, dict):
        return {name: _plain(option) for name, option in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(part) for part in value)
    return value
