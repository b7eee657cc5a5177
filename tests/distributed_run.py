"""Fits, measures and asks tiny models on one device, on two mirrored ones or on one of two workers.

    python distributed_run.py one | mirrored | worker

The last line is what they showed, as JSON. With `until killed` behind it, it learns without end.
"""

import json
import sys

import tensorflow as tf

from kzoo import command_line, training
from kzoo.workers import described, is_chief, wait_for_all

MODE = sys.argv[1]
if MODE == "mirrored":
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = training.strategy({"one": "none", "mirrored": "mirrored", "worker": "auto"}[MODE])

import keras  # noqa: E402
import numpy as np  # noqa: E402

import kzoo  # noqa: E402
from kzoo.distributed import parted  # noqa: E402
from kzoo.layers.batch_norm import BatchNorm  # noqa: E402
from kzoo.losses.classification import ClassificationLoss  # noqa: E402
from kzoo.zoo_model import ZooModel  # noqa: E402


def model(steps_per_execution=1):
    """A classifier of five shapes, so small that it is traced in no time."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        images = keras.Input((32, 32, 3), name="images")
        classes = keras.Input((), dtype="int32", name="classes", optional=True)
        x = keras.layers.Conv2D(8, 3, strides=2)(keras.layers.Rescaling(1 / 255)(images))
        x = keras.layers.GlobalMaxPooling2D()(keras.layers.ReLU()(BatchNorm()(x)))
        logits = ClassificationLoss(name="classification")(keras.layers.Dense(5)(x), classes)
        made = ZooModel({"images": images, "classes": classes}, {"logits": logits})
        made.compile(keras.optimizers.SGD(0.1, momentum=0.9), steps_per_execution=steps_per_execution)
    return made


def pictures(count, split="train", batch_size=4):
    options = {"task": "classification", "image_size": (32, 32), "batch_size": batch_size, "shuffle": False}
    return kzoo.data.load("shapes:1", split=f"{split}[:{count}]", **options)


def of_others(dataset):
    """The same pictures, of somebody who knows nothing of parts."""
    batches = list(dataset.without_end().take(len(dataset)).as_numpy_iterator())
    kept = {name: np.concatenate([batch[name] for batch in batches]) for name in ("images", "classes")}
    return tf.data.Dataset.from_tensor_slices(kept).batch(4)


def state(trained):
    weights = np.concatenate([weight.ravel() for weight in trained.get_weights()])
    return [int(trained.optimizer.iterations.numpy()), weights[::16].tolist()]


def shown():
    """What `fit`, `evaluate` and `predict` show, in ways that are hard for several replicas."""
    validation = pictures(9, "val")  # a last batch of one picture: a replica has none
    told = {"described": described(strategy), "is_chief": is_chief(strategy)}

    for name, count, at_once in (("uneven", 11, 1), ("empty", 9, 1), ("two at once", 9, 2)):
        learner, train = model(at_once), pictures(count)
        history = learner.fit(train, epochs=2, validation_data=validation, verbose=0).history
        history |= {f"again_{key}": value for key, value in learner.fit(train, verbose=0).history.items()}
        told[name] = history | {"state": state(learner), "next": [train.passes.next]}
    measured = learner.evaluate(validation, verbose=0, return_dict=True)
    told["evaluate"] = {name: [value] for name, value in measured.items()}

    images = np.concatenate([batch["images"] for batch in validation.as_numpy_iterator()])
    if is_chief(strategy):  # it alone, whatever the others do meanwhile
        told["predict"] = learner.predict(images, batch_size=4, verbose=0)["logits"].tolist()
        told["predict_on_batch"] = learner.predict_on_batch(images)["logits"].tolist()
        told["predict_dataset"] = learner.predict(validation, verbose=0)["logits"].tolist()

    learner = model(2)
    endless = pictures(9, batch_size=3).without_end(full=True)
    shown_by_step = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: shown_by_step.append(logs["loss"])
    )
    learner.fit(endless, epochs=2, steps_per_epoch=3, verbose=0, callbacks=[note])
    told["endless"] = {"state": state(learner)}
    told["steps"] = shown_by_step

    learner = model()
    data = of_others(pictures(11))
    told["of others"] = learner.fit(data, epochs=2, verbose=0, validation_data=data).history
    told["of others"]["state"] = state(learner)
    told["parts"] = parts(pictures(11).without_end(1))
    told["refused"] = refused() if MODE != "one" else []
    wait_for_all(strategy)
    return told


def refused():
    """What is said of what several replicas cannot do."""
    learner = model()
    batch = next(iter(pictures(4)))

    def within_scope():
        with strategy.scope():
            learner.predict_on_batch(batch)

    def eagerly():
        learner.compile("sgd", run_eagerly=True)
        learner.fit(pictures(4), verbose=0)

    said = []
    for work in (lambda: learner.train_on_batch(batch), within_scope, eagerly):
        try:
            work()
        except (ValueError, RuntimeError) as error:
            said.append(str(error))
    return said


def parts(dataset):
    """The numbers of the pictures that each replica of this worker is given in four steps."""
    given = parted(dataset, strategy)
    replicas = [[] for _ in range(len(strategy.experimental_local_results(next(iter(given))["image_id"])))]
    for _, batch in zip(range(4), given, strict=False):
        for ids, part in zip(replicas, strategy.experimental_local_results(batch["image_id"]), strict=True):
            ids.append(part.numpy().tolist())
    return replicas


with command_line.errors_told("distributed_run.py"):
    if sys.argv[2:] == ["until", "killed"]:
        started = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: print(epoch, flush=True))
        model().fit(pictures(8), epochs=10**9, verbose=0, callbacks=[started])
    print(json.dumps(shown()))
