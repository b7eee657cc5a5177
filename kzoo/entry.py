"""What the zoo knows about a model without building it."""

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kzoo.weights.published import Checkpoint

REQUIRED: Final = inspect.Parameter.empty
"""Stands in `Entry.options` where an option has no default."""


@dataclass(frozen=True)
class Entry:
    """What the zoo knows about a model without building it.

    Args:
        name: what `kzoo.build` takes.
        task: one of `TASKS`.
        paper: authors, year and address.
        summary: first line of the builder's docstring.
        options: the builder's options in its order, each with its default or `REQUIRED`.
        module: where the builder lives, as Python imports it.
        function: the builder's name there.
    """

    name: str
    task: str
    paper: str
    summary: str
    options: dict[str, object]
    module: str
    function: str

    @property
    def checkpoints(self) -> "tuple[Checkpoint, ...]":
        """The published weights that the model can begin with; each is what a `weights=` means.

        First those of the whole model. Behind them, of a model that has a backbone, those of whole
        classifiers, of which it takes the backbone: their `model` is `"classifier"`. What Keras and keras-cv
        publish for backbones of their own, which `weights="imagenet"` takes too, is not among them.
        """
        from kzoo.weights.published import checkpoints

        of_backbones = self.name != "classifier" and "backbone" in self.options
        return (*checkpoints(self.name), *(checkpoints("classifier") if of_backbones else ()))

    def __str__(self) -> str:
        width = max(map(len, self.options), default=0)
        options = [
            f"  {option:<{width}}  {'(required)' if default is REQUIRED else repr(default)}"
            for option, default in self.options.items()
        ]
        return "\n".join(
            [
                f"{self.name}: {self.summary}",
                "",
                f"task     {self.task}",
                f"paper    {self.paper}",
                f"builder  {self.module}.{self.function}",
                "",
                "options" if options else "no options",
                *options,
                *self._weights_told(),
            ]
        )

    def _weights_told(self) -> list[str]:
        """The published weights in lines, and what is known of all of them once."""
        if not self.checkpoints:
            return []
        from kzoo.weights.published import ORIGIN, find

        lines = []
        whole = [one for one in self.checkpoints if one.model == self.name]
        of_backbones = [one for one in self.checkpoints if one.model != self.name]
        for title, those in (("weights", whole), ("weights of the backbone", of_backbones)):
            lines += ["", title] if those else []
            for one in those:
                data = one.name.partition(":")[0]
                default = find(self.name, one.backbone, data) is one
                lines.append(f"  {one}{', the default' if default else ''}")
                lines += [f"    {told}" for told in (one.url, f"{one.source}, trained as in {one.recipe}")]
        for title, told in (("licence of weights", "licence"), ("terms of their data", "data_terms")):
            texts = dict.fromkeys(getattr(one, told) for one in self.checkpoints)
            lines += ["", title, *(f"  {text}" for text in texts)]
        measured = dict.fromkeys(one.evaluated_on for one in self.checkpoints)
        return [*lines, "", "origin", f"  {ORIGIN}; their figures are of {', '.join(measured)}"]
