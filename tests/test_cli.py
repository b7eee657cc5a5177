import pytest

import kzoo
from kzoo import registry
from kzoo.cli import main


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """One more model, for as long as the test runs."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    @kzoo.register("toy", task="box_regression", paper="Nobody 2020")
    def toy(*, num_classes: int, depth: int = 3):
        """A toy for the tests."""


def run(capsys, *arguments):
    """The exit status, and what went to stdout and to stderr."""
    try:
        main(arguments)
        status = 0
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_list(capsys):
    status, out, err = run(capsys, "list")
    assert (status, err) == (0, "")
    rows = out.splitlines()
    assert rows[0].split() == ["name", "task", "summary"]
    assert [row.split()[0] for row in rows[1:]] == kzoo.list_models()
    [row] = [row for row in rows if row.startswith("toy")]
    assert row.split(maxsplit=2) == ["toy", "box_regression", "A toy for the tests."]
    assert row.index("box_regression") == rows[0].index("task")
    assert row.index("A toy") == rows[0].index("summary")


def test_list_of_a_task(capsys):
    status, out, _ = run(capsys, "list", "--task", "box_regression")
    assert status == 0
    assert [row.split()[0] for row in out.splitlines()[1:]] == kzoo.list_models("box_regression")


def test_info(capsys):
    assert run(capsys, "info", "toy") == (0, f"{kzoo.info('toy')}\n", "")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help(capsys, arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", ["kzoo"])
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    assert "usage: kzoo" in out
    assert "Lists the models." in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lisst",), 'kzoo: command="lisst": unknown. Nearest: "list". Known: "list", "info"'),
        (("info", "tpy"), 'kzoo: model="tpy": unknown. Nearest: "toy"'),
        (("list", "--task", "detect"), 'kzoo: task="detect": unknown. Nearest: "detection"'),
    ],
)
def test_wrong_name_is_one_line_and_exit_2(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [("info",), ("list", "--tsk", "detection"), ("info", "toy", "more")])
def test_wrong_command_line_is_exit_2(capsys, arguments):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert f"kzoo {arguments[0]}" in err or "kzoo --help" in err
