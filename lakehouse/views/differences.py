"""A held run beside the live scores, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lakehouse.operations.difference import Difference
from lakehouse.views.beside import Row
from lakehouse.views.terminal import table_text

_SEGMENTS = 20


def text(found: Difference, beside: Sequence[Row] = (), last: Sequence[str] = ()) -> str:
    """Rows, predictions, segments and examples; `beside`: what both runs found out; `last`: lines for the end."""
    lines = [
        f"held {found.held:,} rows, live {found.live:,}: {found.added:,} added, {found.gone:,} gone, "
        f"{found.changed:,} changed, {found.same:,} the same"
    ]
    if found.repeated:
        lines.append(f"{found.repeated:,} rows whose key is there more than once are compared with nothing")
    if found.not_compared:
        lines.append(f"lists and structs are not compared: {', '.join(found.not_compared)}")
    if found.predictions and found.changed + found.same:
        lines += ["", *table_text(_NAMES, [_figures(p["name"], p) for p in found.predictions])]
    for prediction in found.predictions:
        lines += _segments(prediction, str(found.by))
    if found.examples:
        lines += ["", "largest changes", *table_text(*_examples(found.examples))]
    if beside:
        lines += ["", *table_text(["checks and drift", "live", "held"], [list(row) for row in beside])]
    if last:
        lines += ["", *last]
    return "\n".join(lines)


_NAMES = ["prediction", "rows", "live mean", "held mean", "shift", "mean change", "largest", "flips"]


def _figures(name: str, of: Mapping[str, Any]) -> list[str]:
    flips, rows = of["flips"], of["rows"]
    numbers = [_number(of[key]) for key in ("own_mean", "their_mean", "shift", "mean_distance", "furthest")]
    return [name, f"{rows:,}", *numbers, "" if flips is None or not rows else f"{flips:,} ({flips / rows:.2%})"]


def _segments(prediction: Mapping[str, Any], by: str) -> list[str]:
    """The segments of which most has changed."""
    parts = sorted(prediction["segments"], key=lambda part: -(abs(part["shift"] or 0) or (part["flips"] or 0)))
    if not parts:
        return []
    more = [f"  and {len(parts) - _SEGMENTS} more segments"] if len(parts) > _SEGMENTS else []
    cells = [_figures(part["segment"], part) for part in parts[:_SEGMENTS]]
    return ["", f"{prediction['name']} by {by}", *table_text([by, *_NAMES[1:]], cells), *more]


def _examples(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    keys, names = list(found[0]["key"]), list(found[0]["held"])
    cells = [
        [
            *(str(row["key"][key]) for key in keys),
            *(f"{_value(row['live'][name])} → {_value(row['held'][name])}" for name in names),
        ]
        for row in found
    ]
    return [*keys, *names], cells


def _value(value: Any) -> str:
    return "null" if value is None else _number(value) if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
