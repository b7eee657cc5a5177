"""What makes `keras.models.load_model` know kzoo's classes, although `import kzoo` imports none of them.

Keras finds a class of ours by its registered name, "kzoo>FocalLoss", and only once its module is imported,
for that is when it is registered. These modules need TensorFlow, which takes seconds. So a dict takes the
place of Keras' dict of registered classes that imports them when a name of ours is first looked up. This is
before any of them is needed, but never in the middle of an import, be it of TensorFlow, of Keras or of one of
these modules.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

PACKAGE = Path(__file__).parent
REGISTRY = (
    "keras.src.saving.object_registration"  # Keras 3.15; should it move, tests/test_keras_objects.py fails
)


def announce() -> None:
    """Makes kzoo's classes known to Keras: now if it is imported already, else as soon as it is."""
    if not _replace_registry():
        sys.meta_path.insert(0, _Watch())


class _Watch:
    """Sees every import without taking part, and so the one after that of Keras' registry."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.startswith("keras") and _replace_registry():
            # A new list: the import that asks is going through the old one.
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]
        return None


class _Registry(dict):
    """Registered classes by name. Keras asks `name in registry` before it takes one."""

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name) and isinstance(name, str) and name.startswith("kzoo>"):
            _import_registered()
        return super().__contains__(name)


def _replace_registry() -> bool:
    """Whether Keras has its registry by now, and it is ours."""
    keras_registration = sys.modules.get(REGISTRY)
    registered = getattr(keras_registration, "GLOBAL_CUSTOM_OBJECTS", None)
    if registered is None:
        return False
    if not isinstance(registered, _Registry):
        keras_registration.GLOBAL_CUSTOM_OBJECTS = _Registry(registered)
    return True


def _import_registered() -> None:
    """Imports the modules that register classes, wherever in the package they are."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if '\n@keras.saving.register_keras_serializable("kzoo")' in path.read_text(encoding="utf-8"):
            module = path.relative_to(PACKAGE.parent).with_suffix("")
            importlib.import_module(".".join(module.parts))
