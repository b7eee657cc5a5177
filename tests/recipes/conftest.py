"""What the tests of recipes share: a way to run one, and small data to run it on."""

import importlib.util
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(autouse=True)
def policy_as_before():
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """Runs a recipe as the command line would, in a folder of its own; constants can be others."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments, of_rungs=None, **instead):
        spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # where tyro looks for the docstrings of settings
        spec.loader.exec_module(module)
        if of_rungs is not None:
            instead["RUNGS"] = tuple(filter(of_rungs, module.RUNGS))
        for constant, value in instead.items():
            monkeypatch.setattr(module, constant, value)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        module.command_line.run_recipe(module.main, module.Settings, module.__doc__)
        return module

    return run


@pytest.fixture
def coco(tmp_path):
    """Six pictures of a bright disc or a dark one, as polygons of 24 corners; in one of them none."""
    directory = tmp_path / "discs"
    rng = np.random.default_rng(0)
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    y, x = np.mgrid[:48, :64] + 0.5
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        (directory / split).mkdir(parents=True)
        images, annotations = [], []
        for i in numbers:
            centre = rng.integers(12, [52, 36])
            disc = np.hypot(x - centre[0], y - centre[1]) < 12
            picture = np.full((48, 64, 3), 120, np.uint8)
            if i != 3:
                picture[disc] = (20, 240)[i % 2]
                corners = centre + 12 * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
                annotations.append(
                    {
                        "id": i + 1,
                        "image_id": i,
                        "category_id": 1 + i % 2,
                        "bbox": [*(centre - 12).tolist(), 24, 24],
                        "segmentation": [corners.ravel().tolist()],
                    }
                )
            Image.fromarray(picture).save(directory / split / f"{i}.png")
            images.append({"id": i, "file_name": f"{i}.png"})
        categories = [{"id": 1, "name": "dark"}, {"id": 2, "name": "bright"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (directory / f"instances_{split}.json").write_text(json.dumps(content))
    return directory
