"""Progress of a run that is as long as the clock says."""

import keras

from kzoo.training.schedule import CosineSchedule


class ProgressByTheClock(keras.callbacks.ProgbarLogger):
    """Keras's progress line for a run whose number of epochs nobody knows.

    Args:
        schedule: which has the time of the run.
    """

    def __init__(self, schedule: CosineSchedule) -> None:
        super().__init__()
        self._schedule = schedule

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        minutes = self._schedule.minutes
        print(f"Epoch {epoch + 1}, {minutes * self._schedule.progress():.1f} of {minutes:g} minutes")
        self.epochs = 1  # of which Keras says nothing
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # An epoch that the clock cut short is told by the steps that it had.
        self.target = self.progbar.target = min(self.seen, self.target)
        super().on_epoch_end(epoch, logs)
        if self._schedule.progress() >= 1:  # validation took the rest of the time
            self.model.stop_training = True
