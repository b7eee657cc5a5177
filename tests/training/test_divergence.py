import re

import numpy as np
import pytest
from PIL import Image

from kzoo.training import fitting
from kzoo.training.checkpoints import Checkpoints
from kzoo.training.divergence import Diverged

CLASSES = ("cat", "dog", "owl")


def train(model, data, settings):
    with pytest.raises(Diverged) as raised:
        fitting.train(model, data, data.take(1), CLASSES, settings, None, [], 6)
    return raised.value


def saved(settings):
    return Checkpoints(settings.output / "checkpoints").latest()


@pytest.mark.parametrize("together", [1, 2])
def test_the_step_is_told_and_its_batch_kept(tiny, pictures, settings, together):
    options = settings(checkpoint_steps=2)
    model = tiny(steps_per_execution=together)
    data = pictures(nan_at=4)
    error = train(model, data, options)
    assert error.step == 4
    told = {1: "step 5", 2: "steps 5 to 6"}[together]
    assert re.search(
        rf"^{told}: the loss is no number any more \(means of this epoch: [^)]*(distance|loss) nan[^)]*\)\. ",
        str(error),
    )
    assert "--no-resume" in str(error) and "than 0.01 may help" in str(error)
    batches = list(data.as_numpy_iterator())[4 : 4 + together]
    with np.load(options.output / "diverged.npz") as kept:
        for name in ("images", "classes"):
            np.testing.assert_array_equal(kept[name], np.concatenate([batch[name] for batch in batches]))
    assert Image.open(options.output / "diverged.png").width > 4 * 400
    assert saved(options).facts["step"] == 4
    assert all(np.isfinite(array).all() for array in saved(options).arrays.values())


def test_weights_that_are_no_numbers_are_not_saved(tiny, pictures, settings):
    options = settings(checkpoint_steps=1)  # due just then, when the loss of the next step is not known
    error = train(tiny(), pictures(broken_at=3), options)
    assert error.step == 3
    assert re.search(
        r"^step 4: 6 of 6 weights, hidden/kernel among them, are no numbers any more", str(error)
    )
    with np.load(options.output / "diverged.npz") as kept:
        assert 99 in kept["classes"]
    assert saved(options).facts["step"] == 3


def test_nor_are_they_at_the_end(tiny, pictures, settings):
    options = settings(epochs=1)
    error = train(tiny(), pictures(broken_at=5), options)
    assert error.step == 5 and saved(options) is None


def test_where_the_batch_cannot_be_written_the_divergence_is_told(tiny, pictures, settings):
    options = settings()
    (options.output / "diverged.npz").mkdir()
    error = train(tiny(), pictures(nan_at=0), options)
    assert error.step == 0
    assert "The batch is not saved: " in str(error) and "diverged.npz" in str(error)
