"""Splits that are nothing but others together, such as "all", and VOC's "trainval"."""

import re
from collections.abc import Mapping

from kzoo.data.sources.folder import SPLITS


def find_unions(pictures: Mapping[str, frozenset[str]]) -> dict[str, list[str]]:
    """The splits that others make up, and which these are.

    Only a split whose name says so is one of them: "all", or a name that is those of its parts together, as
    "trainval" or "trainval2017". Where val and test make up train, pictures are learnt that are measured on.

    Args:
        pictures: the names of those of each split.
    """
    unions: dict[str, list[str]] = {}
    for name in sorted(pictures, key=lambda name: (name == "all", len(pictures[name]))):
        others = [other for other, those in pictures.items() if other != name and those <= pictures[name]]
        parts = [other for other in others if pictures[other] and other not in unions]
        if name != "all":
            parts = _named_in(name, parts)
        if parts and frozenset().union(*(pictures[part] for part in parts)) == pictures[name]:
            unions[name] = parts
    return unions


def _named_in(name: str, others: list[str]) -> list[str]:
    """Those of which the name is made up; none where something is left of it."""
    left, parts = _letters(name), []
    for other in sorted(others, key=len, reverse=True):
        if name not in SPLITS and _letters(other) and _letters(other) in left:
            left = left.replace(_letters(other), "", 1)
            parts.append(other)
    return sorted(parts) if len(parts) > 1 and not left else []


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]", "", name.lower())
