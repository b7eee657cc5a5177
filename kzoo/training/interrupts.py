"""Signals that ask a run to stop: it ends its step, saves, and only then stops."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop and did, once it had saved.

    Args:
        told: what to say.
        signal: which signal asked.
    """

    def __init__(self, told: str, signal: int) -> None:
        super().__init__(told)
        self.signal = signal


class Requests:
    """Whether somebody asked to stop, by Ctrl-C, or by SIGTERM as schedulers of clusters do.

    Attributes:
        signal: the signal that asked; None if none did.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Notes signals meanwhile, but those that are ignored. A second one does what it does elsewhere."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python hands signals to the main thread alone
            return
        before = {one: signal.getsignal(one) for one in STOPPING}
        # A shell lets what it starts in the background ignore Ctrl-C, which is meant for others.
        before = {one: handler for one, handler in before.items() if handler is not signal.SIG_IGN}

        def restore() -> None:
            for one, handler in before.items():
                signal.signal(one, handler if handler is not None else signal.SIG_DFL)

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number
            restore()
            name = signal.Signals(number).name
            told = f"\n{name}: stops once this step or validation is done and saved; another stops at once\n"
            # Not by `print`: it may be at work already, and fails where Ctrl-C ended a reader, too.
            with contextlib.suppress(OSError):
                os.write(2, told.encode())

        try:
            for one in before:
                signal.signal(one, note)
            yield
        finally:
            restore()
