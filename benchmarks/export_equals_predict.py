"""Whether an exported model answers as the Keras model that it was made from, on real pictures.

    python benchmarks/export_equals_predict.py --model runs/NAME/model.keras
        --export saved_models/NAME/1 --data voc:DIR --image-size 256 320

The export is loaded by `tf.saved_model.load` alone. Prints the largest difference of each answer.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tyro

import kzoo


@dataclass(frozen=True)
class Settings:
    """Whether an exported model answers as the Keras model that it was made from."""

    model: Path
    """The .keras file."""
    export: Path
    """A version folder of the export."""
    data: str
    image_size: tuple[int, int]
    split: str = "test"


def main(settings: Settings) -> None:
    """Compares them on every picture of the split."""
    model = keras.models.load_model(settings.model)
    served = tf.saved_model.load(settings.export).signatures["serving_default"]
    data = kzoo.data.load(settings.data, split=settings.split, image_size=settings.image_size)
    differences: dict[str, float] = {}
    found = 0
    for batch in data:
        expected = model.predict_on_batch(batch["images"])
        answers = served(images=tf.cast(batch["images"], tf.float32))
        found += int(expected["num_detections"].sum())
        for name, values in expected.items():
            difference = float(np.abs(answers[name].numpy() - values).max())
            differences[name] = max(differences.get(name, 0.0), difference)
    print(json.dumps({"pictures": data.num_pictures, "detections": found, "largest difference": differences}))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
