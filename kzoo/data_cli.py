"""`kzoo data` at the command line: what there is, what is wrong with it, and the same as another kind.

Every command is a function here, as in `kzoo.cli`. What reads pictures is imported inside the commands.
"""

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

import kzoo
from kzoo.checks import check_choice, check_directory
from kzoo.command_line import errors_told
from kzoo.tasks import TASKS

if TYPE_CHECKING:
    from kzoo.data.report import Report

Spec = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SPEC")]


def info(spec: Spec) -> None:
    """Tells what data holds: its splits with their numbers of pictures, its tasks and its classes.

    Nothing but the annotations is read; `kzoo data check` reads everything.

    Args:
        spec: the data: shapes, voc:DIR, coco:DIR, yolo:DIR, csv:FILE, folder:DIR or tfds:NAME.
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


def check(
    spec: Spec,
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK", help_behavior_hint="")] = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None,
) -> None:
    """Reads everything once and reports what there is, and every fault with its file and place.

    Faults are what cannot be learnt from, such as broken pictures and boxes without area, and pictures that
    are there twice, above all in two splits. With a fault the exit status is 1.

    Args:
        spec: the data: shapes, voc:DIR, coco:DIR, yolo:DIR, csv:FILE, folder:DIR or tfds:NAME.
        task: as what it is read: instance_segmentation looks at masks, segmentation at the class of each
            pixel. By default at masks if there are any, else at boxes, else at pixels.
        json: print the report as JSON.
        output: the directory to write distributions.png and gallery.png to.
    """
    if task is not None:
        with errors_told("kzoo data", status=2):
            check_choice("task", task, TASKS)
    if output is not None:
        check_directory(output, "output")  # first, because reading takes long
    from kzoo.data.check import check

    report = check(spec, task)
    print(dumps(report.as_json(), indent=2) if json else report.as_text(), flush=True)
    if output is not None:
        _draw(report, output)
    if report.faults:
        raise SystemExit(1)


def convert(
    spec: Spec,
    to: Annotated[str, tyro.conf.arg(metavar="tfds:NAME")],
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK", help_behavior_hint="")] = None,
    splits: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SPLIT ...", help_behavior_hint="")] = (),
) -> None:
    """Writes data as a TFDS set in sharded TFRecord files, which `tfds.load` reads alone.

    The set lies in DIR/NAME/1.0.0: `tfds.load("NAME", data_dir="DIR")`, or here tfds:NAME,data_dir=DIR.

    Args:
        spec: the data: shapes, voc:DIR, coco:DIR, yolo:DIR, csv:FILE, folder:DIR or tfds:NAME.
        to: tfds: and the name of the set, of small letters, digits and underscores.
        output: the directory of sets to write it to.
        task: what of the data is written. By default objects with masks if there are any, else with boxes,
            else the class of each pixel, or of each picture.
        splits: the splits to write, and what they are in the data if they are not called the same, as in
            train=all[:24] test=all[24:]. By default all but those of which every picture is in others too:
            TFDS takes all and train+val anyway.
    """
    scheme, _, name = to.partition(":")
    if scheme != "tfds" or not name:
        raise ValueError(f"--to {to!r}: expected tfds:NAME, such as tfds:my_set.")
    if task is not None:
        check_choice("task", task, TASKS)
    named = dict(text.split("=", 1) if "=" in text else (text, text) for text in splits)
    if len(named) < len(splits):
        raise ValueError(f"--splits {' '.join(splits)}: a name is there twice; expected each once.")
    check_directory(output, "output")  # first, because importing TensorFlow takes seconds
    print(kzoo.data.convert(spec, name, output, task=task, splits=named or None))


def _draw(report: "Report", output: Path) -> None:
    """The pictures of a report; none where no picture can be read."""
    from kzoo.visualize import distributions, gallery

    if any(len(one.sizes) for one in report.tallies.values()):
        output.mkdir(parents=True, exist_ok=True)
        distributions(report.tallies, report.info.classes, output / "distributions.png")
        gallery(report.splits, report.info.classes, output / "gallery.png")


DESCRIPTION = "Pictures and what is in them: what there is, and what is wrong with it."
COMMANDS = {"info": info, "check": check, "convert": convert}


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
