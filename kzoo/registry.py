"""The builders by name: `register`, `build`, `list_models`, `info`.

A model is one file in `kzoo/models/` with a builder under `@register(...)`. What `list_models` and `info`
tell is read from the source of these files, so that it costs no import of TensorFlow; `build` imports the one
file that it needs. Builders that are registered elsewhere, in a notebook or another package, are known as
soon as their code has run.
"""

import ast
import importlib
import inspect
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from kzoo import models
from kzoo.checks import check_boolean, check_choice
from kzoo.entry import REQUIRED, Entry
from kzoo.tasks import TASKS

if TYPE_CHECKING:
    from kzoo.zoo_model import ZooModel

FREEZABLE: Final = ("backbone", *(f"backbone_at_{n}" for n in range(1, 6)), "batch_norm")
"""What `build(freeze=...)` takes."""

_Builder = TypeVar("_Builder", bound=Callable[..., "ZooModel"])

_registered: dict[str, tuple[Entry, Callable[..., "ZooModel"]]] = {}


def register(name: str, *, task: str, paper: str) -> Callable[[_Builder], _Builder]:
    """Makes a builder known to the zoo under a name.

    ```python
    @register("retinanet", task="detection", paper="Lin et al. 2017, https://arxiv.org/abs/1708.02002")
    def retinanet(*, num_classes: int, backbone: str = "resnet50") -> ZooModel:
        "One-stage detector: dense anchors on a feature pyramid, trained with the focal loss."
    ```

    In `kzoo/models/` the arguments and the options' defaults are literals, because they are read from the
    source. A builder that is defined again in the same place (a notebook's cell, a reloaded module) replaces
    itself.

    Args:
        name: what `kzoo.build` will take.
        task: one of `TASKS`.
        paper: authors, year and address.

    Returns:
        A decorator that returns the builder as it is.

    Raises:
        ValueError: the task is unknown, the name is taken by another builder, or the builder has parameters
            other than keyword-only options.
    """

    def decorate(builder: _Builder) -> _Builder:
        entry = _entry(
            name=name,
            task=task,
            paper=paper,
            docstring=inspect.getdoc(builder),
            parameters=inspect.signature(builder).parameters.values(),
            module=builder.__module__,
            function=builder.__qualname__,
        )
        _check_free(entry)
        _registered[name] = entry, builder
        return builder

    return decorate


def build(
    name: str,
    /,
    *,
    weights: "str | Path | None" = None,
    include: Sequence[str] = (),
    skip: Sequence[str] = (),
    freeze: str | Sequence[str] | None = None,
    **options: object,
) -> "ZooModel":
    """Builds a model of the zoo.

    ```python
    model = kzoo.build("retinanet", num_classes=3, input_shape=(256, 320, 3))
    detector = kzoo.build("mask_rcnn", weights="coco")
    ```

    With weights of a whole model, options that are not given are those that the weights are for: the number
    of classes, the architecture, and for a detector, unless there is an `input_shape`, the size that pictures
    are resized to. With another `num_classes` the last layers begin anew; `model.fitted` tells which.

    Args:
        name: one of `list_models()`.
        weights: what the model begins with. None is random; `"imagenet"` is the backbone's, or the whole
            classifier's; `"coco"` is the whole detector's; `"coco:v1"` is one version of them. Or the path of
            a `.keras`, a `.weights.h5`, or a `.pth` of torchvision's. `info(name)` tells what is published.
        include: of the layers only those whose name one of these patterns fits take weights: `"backbone_*"`.
        skip: and not those whose name one of these patterns fits.
        freeze: what does not learn: None, `"backbone"`, `"backbone_at_n"` (its layers up to a stride of 2^n,
            n from 1 to 5), `"batch_norm"` (statistics, scale and offset of all batch normalisation), or
            several of these. Of a frozen model that was saved, `weights=` takes the weights alone.
        **options: the builder's options; `info(name)` tells them and their defaults.

    Returns:
        The model. It remembers how it was built: `zoo_name`, and `zoo_options` with the defaults filled in.
        With weights, `fitted` tells what became of them.

    Raises:
        ValueError: the name or an option is unknown, a required option is missing, the builder refuses a
            value, there are no such weights, they cannot be fetched or do not fit, or Keras is set to keep
            weights in half precision.
    """
    entry = info(name)
    # Checked before the import, which takes seconds: a slip of the pen is told at once.
    for option in options:
        check_choice(f"{name}: option", option, entry.options)
    several = isinstance(freeze, Sequence) and not isinstance(freeze, str)
    frozen = [] if freeze is None else freeze if several else [freeze]
    for what in frozen:
        check_choice("freeze", what, FREEZABLE)
    plan = None
    if weights is not None:
        from kzoo.weights.plan import check_related, plan_for

        plan = plan_for(name, weights, options, entry.options)
        if not include:
            check_related(plan, name)
        options = plan.options
        if plan.warning:
            warnings.warn(plan.warning, stacklevel=2)
    elif include or skip:
        raise ValueError("include= and skip= choose from weights=, and there are none.")
    required = [option for option, default in entry.options.items() if default is REQUIRED]
    if missing := [f"{option}=..." for option in required if option not in options]:
        raise ValueError(f'{name}: needs {", ".join(missing)}: build("{name}", {", ".join(missing)}).')
    if name not in _registered:
        importlib.import_module(entry.module)
    _, builder = _registered[name]
    from kzoo.zoo_model import check_precision

    check_precision()
    model = builder(**options)
    model.zoo_name = name
    model.zoo_options = entry.options | options
    if plan:
        from kzoo.weights.load import load_planned

        model.fitted = load_planned(model, plan, include, skip)
    for what in frozen:
        from kzoo.freezing import freeze_layers

        freeze_layers(model, what)
    return model


def list_models(task: str | None = None, pretrained: bool = False) -> list[str]:
    """The names of the models, sorted.

    Args:
        task: only models for this task, one of `TASKS`.
        pretrained: only models that answer as soon as they are built, because there are published weights of
            the whole of them. Others may have a backbone with such weights; `info(name).checkpoints` tells.

    Raises:
        ValueError: the task is unknown, or `pretrained` is neither True nor False.
    """
    if task is not None:
        check_choice("task", task, TASKS)
    check_boolean("pretrained", pretrained)
    names = sorted(entry.name for entry in _entries().values() if task in (None, entry.task))
    if pretrained:
        from kzoo.weights.published import checkpoints

        names = [name for name in names if checkpoints(name)]
    return names


def info(name: str) -> Entry:
    """What the zoo knows about a model; `print` shows it well.

    Args:
        name: one of `list_models()`.

    Raises:
        ValueError: the name is unknown.
    """
    entries = _entries()
    check_choice("model", name, sorted(entries))
    return entries[name]


def read_entries(path: Path, module: str) -> list[Entry]:
    """Reads what a file of builders registers, without running it.

    Args:
        path: the Python file.
        module: the name by which Python imports it.

    Raises:
        ValueError: a registration cannot be read or is not right; the message says where.
    """
    entries = []
    for node in ast.parse(path.read_bytes(), filename=str(path)).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).split(".")[-1] == "register":
                try:
                    entries.append(_read_entry(decorator, node, module))
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{path}:{decorator.lineno}: {error}") from error
    return entries


def _entries() -> dict[str, Entry]:
    """All models: those in the files of `kzoo.models`, and those registered by code that has run."""
    entries: dict[str, Entry] = {}
    for folder in models.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            for entry in read_entries(path, f"{models.__name__}.{path.stem}"):
                if entry.name in entries:
                    raise ValueError(_taken(entry, entries[entry.name]))
                entries[entry.name] = entry
    return entries | {name: entry for name, (entry, _) in _registered.items()}


def _check_free(entry: Entry) -> None:
    """Raises a `ValueError` if the entry's name belongs to a builder in another place."""
    known = _entries().get(entry.name)
    if known is None:
        return
    same_place = (known.module, known.function) == (entry.module, entry.function)
    if not same_place or "<locals>" in entry.function:
        raise ValueError(_taken(entry, known))


def _taken(entry: Entry, known: Entry) -> str:
    return (
        f'model="{entry.name}": {entry.module}.{entry.function} cannot have this name, '
        f"{known.module}.{known.function} has it."
    )


def _entry(
    *,
    name: str,
    task: str,
    paper: str,
    docstring: str | None,
    parameters: Collection[inspect.Parameter],
    module: str,
    function: str,
) -> Entry:
    """The checked record of a builder, read or run."""
    check_choice("task", task, TASKS)
    for parameter in parameters:
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise ValueError(
                f"{function}: parameter {str(parameter).split(':')[0]!r} is {parameter.kind.description}. "
                f"A builder takes keyword-only options: def {function}(*, ...)."
            )
    return Entry(
        name=name,
        task=task,
        paper=paper,
        summary=docstring.strip().splitlines()[0] if docstring else "",
        options={parameter.name: parameter.default for parameter in parameters},
        module=module,
        function=function,
    )


def _read_entry(decorator: ast.Call, function: ast.FunctionDef, module: str) -> Entry:
    """The record that `decorator` would make of `function`."""
    positional = [_literal(argument) for argument in decorator.args]
    named = {str(keyword.arg): _literal(keyword.value) for keyword in decorator.keywords}
    given = inspect.signature(register).bind(*positional, **named).arguments
    return _entry(
        **given,
        docstring=ast.get_docstring(function),
        parameters=_read_parameters(function.args),
        module=module,
        function=function.name,
    )


def _read_parameters(arguments: ast.arguments) -> list[inspect.Parameter]:
    kinds = inspect.Parameter
    parameters = [kinds(argument.arg, kinds.POSITIONAL_ONLY) for argument in arguments.posonlyargs]
    parameters += [kinds(argument.arg, kinds.POSITIONAL_OR_KEYWORD) for argument in arguments.args]
    if arguments.vararg:
        parameters.append(kinds(arguments.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        value = REQUIRED if default is None else _literal(default)
        parameters.append(kinds(argument.arg, kinds.KEYWORD_ONLY, default=value))
    if arguments.kwarg:
        parameters.append(kinds(arguments.kwarg.arg, kinds.VAR_KEYWORD))
    return parameters


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(
            f"{ast.unparse(node)} is no literal. It is read from the source, not run."
        ) from error
