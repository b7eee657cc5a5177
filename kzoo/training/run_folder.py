"""The folder of a run: what is in it, whether a run goes on there, and what becomes of an earlier one."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from kzoo.training.checkpoints import Checkpoint, Checkpoints, whole_or_not
from kzoo.training.settings import Settings

FILES = (
    "settings.json",
    "log.csv",
    "best.keras",
    "model.keras",
    "metrics.json",
    "predictions.png",
    "curves.png",
    "confusion.png",
    "diverged.npz",
    "diverged.png",
)
PREVIOUS = "previous"
CHECKPOINTS = "checkpoints"
TENSORBOARD = ("tensorboard", "profile")


def find_checkpoint(settings: Settings, used: Mapping[str, object]) -> Checkpoint | None:
    """What a run goes on from: None if it begins anew.

    It goes on if an earlier one with the same settings was stopped in the same folder before it was exported:
    then it needs its checkpoints no more, and takes them away.

    Args:
        settings: of the run.
        used: what was made of them, and what is known of the data.

    Raises:
        ValueError: an earlier one was stopped there that had other settings, or none of its checkpoints
            can be read.
    """
    check_folder(settings, used)
    return Checkpoints(settings.output / CHECKPOINTS).latest() if settings.resume else None


def check_folder(settings: Settings, used: Mapping[str, object]) -> None:
    """Raises a `ValueError` if a run was stopped in the folder that had other settings; tells which."""
    if not settings.resume or not Checkpoints(settings.output / CHECKPOINTS).paths():
        return
    path = settings.output / "settings.json"
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        now = json.loads(json.dumps(_told(settings, used), default=str))
        different = [
            f"{name}={_short(earlier.get(name))} then, {_short(value)} now"
            for name, value in now.items()
            if name not in Settings.FREE and earlier.get(name) != value
        ]
    except (OSError, ValueError, AttributeError):
        different = ["settings.json cannot be read"]
    if different:
        raise ValueError(
            f"{settings.output}: a run was stopped there that was started otherwise: {'; '.join(different)}. "
            "Give the same to go on, another --output, or --no-resume to begin anew and lose what it learned."
        )


def begin(settings: Settings, used: Mapping[str, object]) -> None:
    """Makes the folder for a run that begins anew; what one left that learned to its end is kept."""
    directory = settings.output
    directory.mkdir(parents=True, exist_ok=True)
    forget_checkpoints(directory)
    for shown in TENSORBOARD:
        shutil.rmtree(directory / shown, ignore_errors=True)
    keeping = directory / f"{PREVIOUS}.partial"  # also there if somebody stopped us while we moved files
    if (directory / "model.keras").exists():
        keeping.mkdir(exist_ok=True)
    for name in FILES:
        path = directory / name
        if not keeping.exists():  # of a run that was stopped: what is in `previous` stays there
            path.unlink(missing_ok=True)
        elif path.exists():
            path.replace(keeping / name)
    if keeping.exists():
        shutil.rmtree(directory / PREVIOUS, ignore_errors=True)
        keeping.replace(directory / PREVIOUS)
    write_json(directory / "settings.json", _told(settings, used))


def forget_checkpoints(directory: Path) -> None:
    """Takes away what a run could go on from."""
    shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)


def cut_log(directory: Path, epochs: int) -> None:
    """Takes away the lines of epochs that are trained again, those behind the first `epochs`."""
    path = directory / "log.csv"
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        with whole_or_not(path) as partial:
            partial.write_text("".join(lines[: epochs + 1]), encoding="utf-8")


def write_json(path: Path, content: Mapping) -> None:
    """Writes it whole or not at all: a reader never finds half a file."""
    with whole_or_not(path) as partial:
        partial.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def _told(settings: Settings, used: Mapping[str, object]) -> dict[str, object]:
    return dataclasses.asdict(settings) | used


def _short(value: object) -> str:
    told = repr(value)
    return told if len(told) <= 60 else f"{told[:57]}..."
