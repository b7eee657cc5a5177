import keras
import numpy as np
import pytest

from kzoo.training import CosineSchedule, Settings, adamw, fitting

STEPS, KEPT = 3, 0.75


class Noting(keras.callbacks.Callback):
    """Notes what learns: as it is at each step, and as it is watched at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.watched, self.began, self.ended = [], 0, 0

    def weights(self):
        return [variable.numpy() for variable in self.model.trainable_variables]

    def on_train_begin(self, logs=None):
        self.began += 1

    def on_train_end(self, logs=None):
        self.ended += 1

    def on_epoch_end(self, epoch, logs=None):
        self.watched.append((self.weights(), logs["val_loss"]))


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "scaled"])
def trained(request, tiny, pictures, tmp_path_factory):
    """A model after two epochs, what was watched meanwhile, and the weights after each step."""
    folder = tmp_path_factory.mktemp("averages")
    optimizer = adamw(0.05, averages=KEPT)
    model = tiny(keras.optimizers.LossScaleOptimizer(optimizer) if request.param else optimizer)
    steps, noting, data = [], Noting(), pictures(STEPS)
    after_each = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(noting.weights()),
        on_train_begin=lambda logs: noting.set_model(model),
    )
    settings = Settings(
        data="shapes", output=folder, export=folder, epochs=2, batch_size=4, learning_rate=0.05
    )
    fit = model.fit
    model.fit = lambda *given, callbacks, **others: fit(*given, callbacks=[*callbacks, after_each], **others)
    fitting.train(model, data, data.take(1), (), settings, None, [noting], STEPS)
    return model, noting, steps, data


def averaged(steps):
    average = [np.float64(value) for value in steps[0]]
    for step in steps[1:]:
        average = [KEPT * before + (1 - KEPT) * value for before, value in zip(average, step, strict=True)]
    return average


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_what_is_watched_is_the_averages(trained):
    _, noting, steps, _ = trained
    assert (noting.began, noting.ended, len(steps)) == (1, 1, 2 * STEPS)
    assert_close(noting.watched[0][0], averaged(steps[:STEPS]))
    assert_close(noting.watched[1][0], averaged(steps))
    assert not np.allclose(noting.watched[1][0][0], steps[-1][0], rtol=1e-3)


def test_the_run_ends_with_them(trained):
    model, noting, *_ = trained
    for found, expected in zip(model.trainable_variables, noting.watched[1][0], strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


def test_the_losses_of_the_validation_are_theirs(trained):
    model, noting, _, data = trained
    losses = model.evaluate(data.take(1), verbose=0, return_dict=True)
    assert losses["loss"] == pytest.approx(noting.watched[1][1], rel=1e-6)


def test_watching_does_not_touch_what_is_trained(trained, tiny, pictures):
    _, _, steps, data = trained
    model = tiny(adamw(0.05, averages=KEPT))
    after = []
    noting = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: after.append(
            [variable.numpy() for variable in model.trainable_variables]
        )
    )
    schedule = CosineSchedule(0.05 * np.sqrt(4 / 8), steps=2 * STEPS)
    model.fit(data.repeat(), epochs=1, steps_per_epoch=2 * STEPS, callbacks=[schedule, noting], verbose=0)
    for found, expected in zip(after, steps, strict=True):
        assert_close(found, expected)
