"""A recipe that is asked to stop ends with a status of its own, and the same command goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kzoo.training.position import Position

RECIPES = Path(__file__).parents[2] / "recipes"

ASKED_AT_STEP_3 = """
import os, runpy, signal, sys
from kzoo.training.position import Position

original = Position.on_train_batch_begin

def begin(self, batch, logs=None):
    original(self, batch, logs)
    if self.step == 3:
        os.kill(os.getpid(), signal.SIGTERM)

Position.on_train_batch_begin = begin
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_recipe_that_is_stopped_goes_on_and_comes_to_its_end(recipe, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name, brightness in (("dark", 40), ("light", 200)):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                picture = rng.integers(brightness - 20, brightness + 20, (16, 16, 3)).astype(np.uint8)
                Image.fromarray(picture).save(folder / f"{number}.png")
    small = "--image-size 16 16 --backbone cnn --batch-size 2 --pictures-per-epoch 4 --epochs 3"
    places = "--data folder:data --output run --export served"
    command = [*small.split(), *places.split(), "--precision", "float32"]

    program = [sys.executable, "-c", ASKED_AT_STEP_3, str(RECIPES / "classifier_folder.py"), *command]
    python_path = os.pathsep.join([str(RECIPES.parent), os.environ.get("PYTHONPATH", "")])
    first = subprocess.run(
        program, env=os.environ | {"PYTHONPATH": python_path}, capture_output=True, text=True, check=False
    )
    assert first.returncode == 128 + signal.SIGTERM == 143
    *_, asked, _, stopped = first.stderr.splitlines()
    assert asked == "SIGTERM: stops once this step or validation is done and saved; another stops at once"
    expected = "stopped at step 3, which is saved in run/checkpoints; the same command goes on from there"
    assert stopped == f"classifier_folder.py: {expected}"

    original = Position.on_train_batch_begin

    def begin(self, batch, logs=None):
        original(self, batch, logs)
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as status:
        patch.setattr(Position, "on_train_batch_begin", begin)
        recipe("classifier_folder", *command)
    assert status.value.code == 128 + signal.SIGINT == 130
    assert "Going on from step 3 of 6, saved in run/checkpoints/step-00000003.npz." in capsys.readouterr().out

    recipe("classifier_folder", *command)
    assert "12 pictures seen" in capsys.readouterr().out
    assert len((tmp_path / "run/log.csv").read_text().splitlines()) == 4
    assert not (tmp_path / "run/checkpoints").exists()
