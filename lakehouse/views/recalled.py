"""What people see of recalled scores: a line a run and slice, those of which it can't be told, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse.operations.standing import Recalled, Standing
from lakehouse.views.terminal import table_text

_NAMES = ["date", "slice", "rows", "model", "input", "run"]


def text(found: Recalled) -> str:
    """The live scores that stand on something, as a table."""
    runs = len({(one.slice, one.run_id) for one in found.standing})
    rows = sum(one.rows for one in found.standing)
    more = ", perhaps more" if any(one.perhaps for one in found.standing) else ""
    lines = [f"{found.what}: no live score stands on it" + (", as far as can be told" if found.unknown else "")]
    if found.standing:
        lines = [f"{found.what}: {rows:,} live scores stand on it{more}, of {runs:,} runs", *_table(found.standing)]
    if found.unknown:
        lines += ["it can't be told of these live scores:", *_table(found.unknown)]
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])


def _table(ones: Sequence[Standing]) -> list[str]:
    doubts = any(one.doubt for one in ones)
    cells = [
        [
            one.date or "",
            one.slice,
            rows_in_words(one),
            f"{one.model_name} v{one.model_version}" if one.model_name else "",
            f"{one.input_table} v{one.input_version}" if one.input_table else "",
            one.run_id,
            *([one.doubt] if doubts else []),
        ]
        for one in ones
    ]
    return table_text([*_NAMES, *(["why"] if doubts else [])], cells)


def rows_in_words(one: Standing) -> str:
    """How many rows, and how sure that is."""
    if one.perhaps:
        return f"{one.rows:,} or more" if one.rows else "perhaps some"
    return f"{one.rows:,}"
