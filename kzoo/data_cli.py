"""`kzoo data` at the command line: what there is, what is wrong with it, and the same as another kind.

Every command is a function here, as in `kzoo.cli`. What reads pictures is imported inside the commands.
"""

from collections.abc import Sequence
from typing import Annotated

import tyro

import kzoo.data
from kzoo.checks import check_choice
from kzoo.command_line import errors_told

Spec = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SPEC")]


def info(spec: Spec) -> None:
    """Tells what data holds: its splits with their numbers of pictures, its tasks and its classes.

    Nothing but the annotations is read; `kzoo data check` reads everything.

    Args:
        spec: the data, such as shapes, voc:DIR, coco:DIR or folder:DIR.
    """
    there = kzoo.data.info(spec)
    rows = {
        "splits": [f"{name} ({count:,})" for name, count in there.splits.items()],
        "tasks": there.tasks,
        f"{len(there.classes)} classes" if len(there.classes) != 1 else "1 class": there.classes,
    }
    width = max(map(len, rows))
    print(there.spec)
    for name, values in rows.items():
        print(f"{name:<{width}}  {', '.join(values)}")


DESCRIPTION = "Pictures and what is in them: what there is, and what is wrong with it."
COMMANDS = {"info": info}


def data() -> None:
    """Tells about data and finds its faults: `kzoo data --help` has the commands."""


def main(arguments: Sequence[str]) -> None:
    """Runs `kzoo data` with these arguments.

    Raises:
        SystemExit: with 2 if the command line is wrong, with 1 if the work fails on what it was given or
            finds faults.
    """
    arguments = list(arguments) or ["--help"]
    if not arguments[0].startswith("-"):
        with errors_told("kzoo data", status=2):
            check_choice("command", arguments[0], COMMANDS)
    with errors_told("kzoo data"):
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="kzoo data", description=DESCRIPTION, args=arguments
        )
