"""What a check of data found: figures and findings, as JSON and as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kzoo.data.checking.tally import Tally, examples, figures, total
from kzoo.data.faults import KINDS
from kzoo.data.sources import Info, Split

# What is worth knowing but no fault, and how many things of that kind are called.
NOTICES = {
    "turned": "pictures that EXIF turns",
    "empty": "pictures without an object",
    "unlisted": "folders with pictures that no split lists",
    "tiny": "tiny boxes",
    "rare_class": "classes of few examples",
    "absent_class": "classes that a split does not have",
    "empty_split": "splits without pictures",
}

_NOTICES_TOLD = 5  # of each kind
_CLASSES_TOLD = 30
_ROWS = {
    "width": "width",
    "height": "height",
    "objects_per_picture": "objects a picture",
    "box_width": "box width",
    "box_height": "box height",
    "box_aspect": "box width / height",
}


class Finding(NamedTuple):
    """A fault or a notice, and where it is."""

    kind: str  # of KINDS or NOTICES
    split: str
    picture: str  # its name, "" where it is about more than one
    told: str  # "place: what is there; expected what would be right"


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Attributes:
        info: of the source.
        task: as which the data was read.
        splits: as they were opened, but for those that others make up.
        tallies: of the pictures of each that could be read.
        unions: the splits that others make up, and which these are.
        faults: what is wrong.
        notices: what is worth knowing.
    """

    info: Info
    task: str
    splits: Mapping[str, Split]
    tallies: Mapping[str, Tally]
    unions: Mapping[str, Sequence[str]]
    faults: Sequence[Finding]
    notices: Sequence[Finding]

    def as_json(self) -> dict:
        """The report as what `json.dumps` takes."""
        return {
            "spec": self.info.spec,
            "task": self.task,
            "tasks": list(self.info.tasks),
            "classes": list(self.info.classes),
            "splits": self._figures(),
            "all": figures(total(self.tallies.values()), self.info.classes) if self.tallies else None,
            "unions": {name: list(parts) for name, parts in self.unions.items()},
            "faults": [finding._asdict() for finding in self.faults],
            "notices": [finding._asdict() for finding in self.notices],
        }

    def as_text(self) -> str:
        """The report as it is printed: a table, then the notices, and every fault."""
        others = [task for task in self.info.tasks if task != self.task]
        lines = [f"{self.info.spec}, read for {self.task.replace('_', ' ')}"]
        if others:
            lines.append(f"With --task it can be read for {', '.join(others)} too.")
        for name, parts in self.unions.items():
            lines.append(f"The split {name} is made up of {', '.join(parts)}.")
        if self.tallies:
            lines += ["", *self._table()]
        lines += self._listed("notice", self.notices, NOTICES, most=_NOTICES_TOLD)
        lines += self._listed("fault", self.faults, KINDS)
        if not self.faults:
            lines += ["", "No faults."]
        return "\n".join(lines)

    def _figures(self) -> dict[str, dict]:
        return {name: figures(one, self.info.classes) for name, one in self.tallies.items()}

    def _table(self) -> list[str]:
        """A column for each split and one for all of them, under their names."""
        columns = self._figures()
        every = total(self.tallies.values())
        if len(columns) > 1:
            columns["in all"] = figures(every, self.info.classes)
        rows = [["", *columns]]
        for name in ("pictures", "objects", "crowds"):
            if any(one.get(name) for one in columns.values()) or name == "pictures":
                rows.append([name, *(f"{one[name]:,}" for one in columns.values())])
        counts = examples(every, len(self.info.classes)).tolist()
        common = sorted(range(len(counts)), key=lambda label: -counts[label])[:_CLASSES_TOLD]
        for name in (self.info.classes[label] for label in sorted(common)):
            rows.append([f"  {name}", *(_class_told(one, name) for one in columns.values())])
        if len(counts) > len(common):
            rows.append([f"  ... and {len(counts) - len(common)} classes more", *[""] * len(columns)])
        if "pixels" in columns[next(iter(columns))]:
            rows.append(["  ignored", *(f"{one['ignored_pixels']:.1%}" for one in columns.values())])
        behind = len(rows)
        for key, name in _ROWS.items():
            if any(one.get(key) for one in columns.values()):
                rows.append([name, *(_spread_told(one[key], key) for one in columns.values())])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([f"{row[0]:<{widths[0]}}", *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        shares = ["Of each class: the share of the pixels, and how many pictures have it."]
        head = "Least · median · greatest, lengths in pixels:"
        return [*lines[:behind], *(shares if every.pixels is not None else ()), "", head, *lines[behind:]]

    def _listed(
        self, noun: str, findings: Sequence[Finding], kinds: Mapping[str, str], most: int | None = None
    ) -> list[str]:
        """Findings under the names of their kinds."""
        lines = []
        if findings:
            lines += ["", f"{len(findings):,} {noun}{'s' if len(findings) > 1 else ''}"]
        count = Counter(finding.kind for finding in findings)
        for kind, name in kinds.items():
            if count[kind]:
                there = [finding for finding in findings if finding.kind == kind]
                lines += ["", f"{name}: {count[kind]:,}", *(f"  {_place(one)}" for one in there[:most])]
                if len(there) > len(there[:most]):
                    lines.append(f"  ... and {len(there) - len(there[:most]):,} more, which --json has")
        return lines


def _place(finding: Finding) -> str:
    return f"[{finding.split}] {finding.told}" if finding.split else finding.told


def _class_told(column: dict, name: str) -> str:
    count = column["classes"][name]
    return f"{column['pixels'][name]:.1%} ({count:,})" if "pixels" in column else f"{count:,}"


def _spread_told(spread: dict[str, float] | None, name: str) -> str:
    if spread is None:
        return "-"
    digits = 2 if name == "box_aspect" else 1
    texts = [f"{value:.{digits}f}".removesuffix(".0") for value in spread.values()]
    return texts[0] if len(set(texts)) == 1 else " · ".join(texts)
