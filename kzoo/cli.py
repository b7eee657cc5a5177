"""`kzoo` at the command line.

Every command is a function here: its arguments are those of the command line, its docstring is the help. What
needs TensorFlow is imported inside the commands, so that the others answer at once.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

import kzoo
from kzoo.choices import check_choice


def list_(task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None) -> None:
    """Lists the models.

    Args:
        task: only models for this task: classification, box_regression, detection, segmentation or
            instance_segmentation.
    """
    entries = [kzoo.info(name) for name in kzoo.list_models(task)]
    rows = [("name", "task", "summary"), *((entry.name, entry.task, entry.summary) for entry in entries)]
    names, tasks, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, of_task, summary in rows:
        print(f"{name:<{names}}  {of_task:<{tasks}}  {summary}")


def info(name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]) -> None:
    """Tells about a model: task, paper, and the options with their defaults.

    Args:
        name: one of those that `kzoo list` shows.
    """
    print(kzoo.info(name))


DESCRIPTION = "Models that train, predict and serve as one graph."
COMMANDS = {"list": list_, "info": info}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `kzoo` with these arguments, by default those of the command line.

    Raises:
        SystemExit: with 2 if the command line is wrong, with 1 if the work fails on what it was given.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    command = arguments[0]
    try:
        if not command.startswith("-"):
            check_choice("command", command, COMMANDS)
    except ValueError as error:
        _fail(error, 2)
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="kzoo", description=DESCRIPTION, args=arguments)
    except ValueError as error:
        # All that `list` and `info` can be given wrong is a name, and that is the command line's fault.
        _fail(error, 2 if command in ("list", "info") else 1)


def _fail(error: ValueError, status: int) -> None:
    print(f"kzoo: {error}", file=sys.stderr)
    raise SystemExit(status)
