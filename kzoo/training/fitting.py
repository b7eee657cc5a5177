"""Trains a model from where a run stands, and leaves it so that it could go on from any step."""

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from kzoo.training.averages import with_averages
from kzoo.training.board import Trace
from kzoo.training.checkpoints import Checkpoint, Checkpoints
from kzoo.training.diverged_batch import keep
from kzoo.training.divergence import Diverged, Divergence
from kzoo.training.interrupts import Requests
from kzoo.training.model_state import restore
from kzoo.training.pace import Pace
from kzoo.training.position import Position
from kzoo.training.progress import Progress
from kzoo.training.run_folder import CHECKPOINTS
from kzoo.training.saving import Saving
from kzoo.training.settings import Settings
from kzoo.workers import is_chief


def train(
    model: keras.Model,
    batches: tf.data.Dataset,
    validation: tf.data.Dataset,
    classes: Sequence[str],
    settings: Settings,
    saved: Checkpoint | None,
    watching: Sequence[keras.callbacks.Callback],
    steps_per_epoch: int,
) -> Position:
    """Trains to the end of a run.

    Args:
        model: compiled.
        batches: to learn from.
        validation: batches to watch the losses by.
        classes: the names of the classes.
        settings: of the run.
        saved: what to go on from; None is the beginning.
        watching: what is done at the end of each epoch, with averaged weights where there are such.
        steps_per_epoch: batches in an epoch.

    Returns:
        Where the run stands.

    Raises:
        Diverged: the loss, or a weight, is no number any more.
        Stopped: somebody asked to stop; all is saved.
        OSError: a checkpoint could not be written.
        ValueError: the checkpoint is that of another model.
    """
    steps_per_epoch = math.ceil(steps_per_epoch / model.steps_per_execution) * model.steps_per_execution
    position, requests = Position(steps_per_epoch, saved), Requests()
    trained = saved is not None and saved.facts["trained"]
    if saved:
        _go_on(model, saved, settings, steps_per_epoch)
    schedule = settings.make_schedule(steps_per_epoch)
    schedule.begin_at(position.step, position.seconds)
    checkpoints = Checkpoints(settings.output / CHECKPOINTS)
    divergence = Divergence(position)
    saving = Saving(
        checkpoints,
        position,
        divergence,
        requests,
        settings.checkpoint_minutes,
        settings.checkpoint_steps,
    )
    chief = is_chief(model.distribute_strategy)
    epochs = settings.epochs if settings.minutes is None else None
    pace = Pace(position, settings.batch_size)
    telling = [Progress(position, pace, schedule, epochs)] if chief else []
    if chief and settings.profile:
        telling.append(Trace(settings.output / "profile"))
    with requests.listening(), _looked_into(model, batches, classes, settings):
        model.fit(
            pace.measured(full_batches(batches, settings.batch_size, position.step)),
            initial_epoch=position.epochs,
            epochs=position.epochs if trained else epochs or sys.maxsize,
            steps_per_epoch=steps_per_epoch,
            validation_data=validation,
            callbacks=[
                position,
                schedule,
                pace,
                divergence,
                *with_averages(model, watching),
                *telling,
                keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: schedule.stop_if_over()),
                saving,
            ],
            verbose=0,
        )
        if not trained:
            saving.finish()
    if chief:
        checkpoints.prune(1)
    return position


def full_batches(batches: tf.data.Dataset, size: int, start: int) -> tf.data.Dataset:
    """Batches without end, from one of them on: across the seam of two passes, too, so that none is small.

    Each picture counts alike then.

    Args:
        batches: of `kzoo.data.load`, or others that are the same in each pass.
        size: of each batch.
        start: the first one.
    """
    if hasattr(batches, "passes") and batches.passes.batches.size == size:
        return batches.without_end(start, full=True)
    return batches.repeat().rebatch(size, drop_remainder=True).skip(start)


def _go_on(model: keras.Model, saved: Checkpoint, settings: Settings, steps_per_epoch: int) -> None:
    try:
        restore(model, saved.arrays)
    except ValueError as error:
        raise ValueError(f"{saved.path}: {error} --no-resume begins anew.") from None
    of = "" if settings.minutes is not None else f" of {settings.epochs * steps_per_epoch:,}"
    if not is_chief(model.distribute_strategy):
        return
    if saved.facts["trained"]:
        print(f"Trained already, as saved in {saved.path}; --no-resume begins anew.")
    else:
        print(f"Going on from step {saved.facts['step']:,}{of}, saved in {saved.path}.")


@contextlib.contextmanager
def _looked_into(
    model: keras.Model, batches: tf.data.Dataset, classes: Sequence[str], settings: Settings
) -> Iterator[None]:
    """Saves the batch at which a loss was no number any more, for a look, and says what to do."""
    try:
        yield
    except Diverged as error:
        if not is_chief(model.distribute_strategy):
            raise
        batch = full_batches(batches, settings.batch_size, error.step).take(model.steps_per_execution)
        kept = keep(batch, settings.output, classes)
        raise Diverged(
            f"{error}. {kept} What was saved before is in {settings.output / CHECKPOINTS}. A lower "
            f"--learning-rate than {settings.learning_rate:g} may help, with --no-resume, and a look at the "
            "batch.",
            error.step,
        ) from None
