"""How long a run will take, as earlier runs of the job tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

LOOKED_AT = 5
"""So many of the newest runs are looked at."""


def forecast(records: Sequence[Mapping[str, Any]], rows: int | None, engine: str) -> str:
    """In words about how long a run over so many rows takes; nothing where no earlier run tells.

    `records`: the job's runs, newest first, of which those count that scored rows on this engine. What does not grow
    with rows (planning, checks, publishing) is taken as it was.
    """
    known = [r for r in records if r["engine"] == engine and r["rows_read"] and (r["seconds"] or {}).get("score")]
    known = known[:LOOKED_AT]
    if not known or rows is None:
        return ""
    rate = median(r["rows_read"] / r["seconds"]["score"] for r in known)
    rest = median(sum(r["seconds"].values()) - r["seconds"]["score"] for r in known)
    runs = "the last run" if len(known) == 1 else f"the last {len(known)} runs"
    return f"about {rows / rate + rest:,.0f} s, as {runs} on the {engine} engine took ({rate:,.0f} rows/s in the pass)"
