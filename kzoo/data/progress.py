"""How far long work has come, for people who wait for it."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def progress_bar(told: str, total: int) -> Iterator[Callable[[], None]]:
    """A function to call after each picture; a bar is shown where stderr is a terminal.

    Args:
        told: what stands before the bar, taken as it is: brackets are no markup.
        total: the number of pictures.
    """
    console = Console(stderr=True)
    text = TextColumn("{task.description}", markup=False)
    columns = text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.file.isatty()) as progress:
        task = progress.add_task(told, total=total)
        yield lambda: progress.advance(task)
