import io
import sys

import pytest

from kzoo.data.progress import progress_bar


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self._terminal = terminal

    def isatty(self):
        return self._terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_for_terminals_and_brackets_are_no_markup(monkeypatch, terminal):
    stream = Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar("voc:m[/x]n[bold]", 3) as advance:
        for _ in range(3):
            advance()
    assert ("voc:m[/x]n[bold]" in stream.getvalue()) is terminal
    assert ("3/3" in stream.getvalue()) is terminal
