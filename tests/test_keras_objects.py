import ast
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import kzoo
from kzoo import keras_objects


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model = kzoo.build(
        "retinanet",
        num_classes=2,
        input_shape=(64, 64, 3),
        backbone="compact",
        pyramid_channels=16,
        head_depth=1,
        anchor_sizes=[16, 32],
    )
    model.save(path)
    return path


@pytest.mark.parametrize("first", ["kzoo, keras", "keras, kzoo", "kzoo, tensorflow, keras"])
def test_keras_alone_opens_a_model_of_the_zoo(model_file, first):
    script = f"""
import sys
import {first}
print(*[name for name in sys.modules if name.startswith(("kzoo.l", "kzoo.zoo_model"))], "before")
model = keras.models.load_model({str(model_file)!r})
print(model.zoo_name, model.zoo_options["anchor_sizes"], type(model) is kzoo.ZooModel)
print(*[name for name in sys.modules if name.startswith("kzoo.models.")], "after")
print(any(isinstance(finder, kzoo.keras_objects._Watch) for finder in sys.meta_path))
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    lines = process.stdout.splitlines()
    # Nothing before it is needed, no builder at all, and the watch is over.
    assert lines == ["before", "retinanet (16, 32) True", "after", "False"], process.stderr


def test_every_registered_class_is_in_a_module_that_is_found(monkeypatch):
    """Against the syntax tree: a registration written in another way would be missed."""
    imported = []
    monkeypatch.setattr(keras_objects.importlib, "import_module", imported.append)
    keras_objects._import_registered()
    registering = [
        path
        for path in Path(kzoo.__file__).parent.rglob("*.py")
        if any(
            "register_keras_serializable" in ast.unparse(decorator)
            for node in ast.walk(ast.parse(path.read_bytes()))
            for decorator in getattr(node, "decorator_list", [])
        )
    ]
    root = Path(kzoo.__file__).parent.parent
    expected = {".".join(path.relative_to(root).with_suffix("").parts) for path in registering}
    assert set(imported) == expected
    assert "kzoo.zoo_model" in imported


def test_the_registry_is_keras_own_in_all_else():
    registry = keras.saving.get_custom_objects()
    assert isinstance(registry, keras_objects._Registry)
    assert "kzoo>NoSuchClass" not in registry
    assert keras.saving.get_registered_object("kzoo>NoSuchClass") is None
    assert keras.saving.get_registered_object("kzoo>ZooModel") is kzoo.ZooModel

    @keras.saving.register_keras_serializable("elsewhere")
    class Thing(keras.layers.Layer):
        pass

    try:
        assert keras.saving.get_registered_object("elsewhere>Thing") is Thing
    finally:
        del registry["elsewhere>Thing"]


def test_a_second_announcement_changes_nothing():
    registry, finders = keras.saving.get_custom_objects(), list(sys.meta_path)
    keras_objects.announce()
    assert keras.saving.get_custom_objects() is registry
    assert sys.meta_path == finders
