"""`kzoo data` at the command line: what there is, what is wrong with it, and the same as another kind.

Every command is a function here, as in `kzoo.cli`. What reads pictures is imported inside the commands.
"""

import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

import kzoo
from kzoo.checks import check_choice, check_directory, check_integer
from kzoo.command_line import errors_told
from kzoo.printable import printable
from kzoo.tasks import TASKS

if TYPE_CHECKING:
    from kzoo.data.checking.report import Report

Spec = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SPEC")]
Task = Annotated[str | None, tyro.conf.arg(metavar="TASK", help_behavior_hint="")]
Classes = Annotated[tuple[str, ...], tyro.conf.arg(metavar="CLASS ...", help_behavior_hint="")]
MaxPixels = Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")]


def info(spec: Spec) -> None:
    """Tells what data holds: its splits with their numbers of pictures, its tasks and its classes.

    Nothing but the annotations is read, and nothing downloaded; `kzoo data check` reads everything.

    Args:
        spec: the data: shapes, voc:DIR, coco:DIR, yolo:DIR, csv:FILE, folder:DIR or tfds:NAME.
    """
    there = kzoo.data.info(spec)
    classes = f"{len(there.classes)} classes" if len(there.classes) > 1 else "1 class"
    rows = {
        "splits": [f"{name} ({count:,})" for name, count in there.splits.items()] or ["not known"],
        "tasks": there.tasks,
        classes if there.classes else "classes": there.classes or ["not known"],
    }
    width = max(map(len, rows))
    lines = [f"{name:<{width}}  {', '.join(values)}" for name, values in rows.items()]
    _print("\n".join([there.spec, *lines]))


def check(
    spec: Spec,
    task: Task = None,
    classes: Classes = (),
    max_pixels: MaxPixels = None,
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
        classes: the names of the classes in the order of their numbers; by default those that the data has.
        max_pixels: the most that a picture may have, by default a hundred million.
        json: print the report as JSON.
        output: the directory to write distributions.png and gallery.png to.
    """
    with errors_told("kzoo data", status=2):
        options = _data_options(task, classes, max_pixels)
    if output is not None:
        check_directory(output, "output")  # first, because reading takes long
    from kzoo.data.checking import check

    report = check(spec, **options)
    _print(dumps(report.as_json(), indent=2) if json else report.as_text())
    if output is not None:
        _draw(report, output)
    if report.faults:
        raise SystemExit(1)


def convert(
    spec: Spec,
    to: Annotated[str, tyro.conf.arg(metavar="tfds:NAME")],
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    task: Task = None,
    classes: Classes = (),
    max_pixels: MaxPixels = None,
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
        classes: the names of the classes in the order of their numbers; by default those that the data has.
        max_pixels: the most that a picture may have, by default a hundred million.
        splits: the splits to write, and what they are in the data if they are not called the same, as in
            train=all[:24] test=all[24:]. By default all but those that others make up: TFDS takes
            all and train+val anyway.
    """
    scheme, _, name = to.partition(":")
    named = dict(text.split("=", 1) if "=" in text else (text, text) for text in splits)
    with errors_told("kzoo data", status=2):
        if scheme != "tfds" or not name:
            raise ValueError(f"--to {to!r}: expected tfds:NAME, such as tfds:my_set.")
        if len(named) < len(splits):
            raise ValueError(f"--splits {' '.join(splits)}: a name is there twice; expected each once.")
        options = _data_options(task, classes, max_pixels)
    check_directory(output, "output")  # first, because importing TensorFlow takes seconds
    _print(str(kzoo.data.convert(spec, name, output, splits=named or None, **options)))


def _data_options(task: str | None, classes: Sequence[str], max_pixels: int | None) -> dict:
    """What of the command line says how data is read, refused if it is wrong, and only what was given."""
    from kzoo.data.class_names import check_classes

    options = {}
    if task is not None:
        check_choice("task", task, TASKS)
        options["task"] = task
    if classes:
        options["classes"] = check_classes(classes, "classes")
    if max_pixels is not None:
        check_integer("max_pixels", max_pixels, least=1)
        options["max_pixels"] = max_pixels
    return options


def _print(text: str) -> None:
    print(printable(text, sys.stdout.encoding), flush=True)


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
