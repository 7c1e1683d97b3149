"""What two runs of a slice found out about their rows, beside each other: the live one and one that is held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lakehouse.views.page import wording

Row = tuple[str, str, str]
"""What it is about, of the live run, of the held one."""
_COLUMNS = 10
NONE = "–"


def rows(live: Mapping[str, Any] | None, held: Mapping[str, Any]) -> list[Row]:
    """Counts of rows, the rules that found something in either run, and the columns that drifted most in either.

    `live`, `held`: facts of runs, as a page takes them (`page.Run`); None where no run's facts of the slice were kept.
    """
    return [*_counts(live or {}, held), *_rules(live or {}, held), *_drift(live or {}, held)]


def _counts(live: Mapping[str, Any], held: Mapping[str, Any]) -> Iterator[Row]:
    for name in ("rows_read", "rows_scored", "rows_quarantined"):
        yield name.replace("_", " "), _count(live.get(name)), _count(held.get(name))


def _count(value: Any) -> str:
    return NONE if value is None else wording.count(value)


def _rules(live: Mapping[str, Any], held: Mapping[str, Any]) -> Iterator[Row]:
    ours, theirs = ({(r["suite"], r["name"]): r for r in side.get("rules", ())} for side in (live, held))
    for key in dict.fromkeys([*theirs, *ours]):
        found = [side[key] for side in (ours, theirs) if key in side]
        if any(rule.get("unexpected") or rule.get("success") is False for rule in found):
            yield f"rule {key[1]}", _rule(ours.get(key)), _rule(theirs.get(key))


def _rule(rule: Mapping[str, Any] | None) -> str:
    if rule is None:
        return NONE
    state, rows = wording.state(rule), rule.get("unexpected")
    return state if rows is None else f"{state}, {wording.counted(rows, 'row')}"


def _drift(live: Mapping[str, Any], held: Mapping[str, Any]) -> Iterator[Row]:
    ours, theirs = ({c["column"]: c for c in side.get("drift", {}).get("columns", ())} for side in (live, held))
    most = {
        name: max(wording.number(side.get(name, {}).get("psi")) for side in (ours, theirs)) for name in [*theirs, *ours]
    }
    for name in sorted((name for name, psi in most.items() if psi), key=lambda name: -most[name])[:_COLUMNS]:
        yield f"psi of {name}", _psi(ours.get(name)), _psi(theirs.get(name))


def _psi(column: Mapping[str, Any] | None) -> str:
    if column is None or column.get("psi") is None:
        return NONE
    return wording.decimal(column["psi"]) + (", drifted" if column.get("drifted") else "")
