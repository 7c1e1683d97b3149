"""What many workers counted, as what one would have said: their counters added up, of neighbours, in their order. Pure.

Merging groups of neighbours, and then what came of these, gives what merging all in a row gives: counts, extremes, bins
and examples are the same, floats (sums, means, seconds) but for their rounding. Beyond the limits at which a worker,
too, cuts what it holds (distinct texts of a profile, segments of a comparison) the same values may be counted in full
that another order would have counted among the others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lakehouse.checks import profile, rules, timeline, uniqueness
from lakehouse.checks.profile import Profile
from lakehouse.checks.rules import RowCount
from lakehouse.schemas import COUNTS
from lakehouse.scoring.comparison import Compared


@dataclass
class Merged:
    """Counters of workers so far. `numbers` are those that are added; `tables`: dumps of whole-table counters."""

    task: int
    rows: int = 0
    numbers: dict[str, Any] = field(default_factory=dict)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_model: Counter[int] = field(default_factory=Counter)
    profiles: dict[str, Profile] = field(default_factory=dict)
    row_counts: dict[str, list[RowCount]] = field(default_factory=dict)
    tables: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    keys: list[Mapping[str, Any]] = field(default_factory=list)
    beside: dict[str, Compared] | None = None
    tasks: list[Mapping[str, Any]] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in what the next worker, or several that were merged before, counted. `row`: of kind COUNTS."""
        said = json.loads(row["detail"])
        self.rows += row["rows"]
        self.reasons.update({(rule, column): count for rule, column, count in said.pop("reasons")})
        self.by_model.update(dict(said.pop("by_model", ())))
        for name, dump in said.pop("profiles").items():
            profile.take_in(self.profiles.setdefault(name, Profile({}, {})), dump)
        for suite, counted in said.pop("checks").items():
            counts = self.row_counts.setdefault(suite, [RowCount() for _ in counted["rows"]])
            for count, more in zip(counts, counted["rows"], strict=True):
                count.merge(RowCount.from_dict(more))
            self.tables.setdefault(suite, []).append(counted["tables"])
        if keys := said.pop("keys"):
            self.keys.append(keys)
        self.leaves += said.pop("leaves", ())
        if (beside := said.pop("beside", None)) is not None:
            self.beside = {} if self.beside is None else self.beside
            for label, compared in beside.items():
                self.beside.setdefault(label, Compared()).merge(Compared.from_dict(compared))
        self.tasks += said.pop("tasks")
        for name, number in said.items():
            self.numbers[name] = _add(self.numbers.get(name), number, name)

    def to_row(self) -> dict[str, Any]:
        """All of it as one manifest row, as a worker's own."""
        detail = {
            **self.numbers,
            "reasons": [[rule, column, count] for (rule, column), count in sorted(self.reasons.items())],
            **({"by_model": sorted(self.by_model.items())} if self.by_model else {}),
            "profiles": {name: profile.dump(seen) for name, seen in self.profiles.items()},
            "checks": {
                suite: {"rows": [count.to_dict() for count in counts], "tables": rules.add_up(self.tables[suite])}
                for suite, counts in self.row_counts.items()
            },
            "keys": uniqueness.merge(self.keys),
            **({"leaves": self.leaves} if self.leaves else {}),
            **({"beside": {label: seen.to_dict() for label, seen in self.beside.items()}} if self.beside else {}),
            "tasks": timeline.bounded(self.tasks),
        }
        text = json.dumps(detail)
        return {"task": self.task, "kind": COUNTS, "path": None, "rows": self.rows, "bytes": 0, "detail": text}


def _add(before: Any, more: Any, name: str) -> Any:
    """The sum of two numbers, whether one of two flags is set; of mappings of such, part by part."""
    if isinstance(more, dict):
        return {**(before or {}), **{part: _add((before or {}).get(part), n, name) for part, n in more.items()}}
    if not isinstance(more, int | float):
        raise TypeError(f"it isn't known how what workers say of {name!r} is merged: {more!r}")
    if before is None:
        return more
    return before or more if isinstance(more, bool) else before + more


def merge_counts(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[dict[str, Any]]:
    """Manifest rows in the order of their tasks, with one COUNTS row for those of each `size` tasks, the rest as is."""
    merged: Merged | None = None
    for row in rows:
        if row["kind"] != COUNTS:
            yield dict(row)
            continue
        if merged is not None and merged.task // size != row["task"] // size:
            yield merged.to_row()
            merged = None
        merged = Merged(row["task"]) if merged is None else merged
        merged.add(row)
    if merged is not None:
        yield merged.to_row()
