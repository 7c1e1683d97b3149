"""A run's manifest, summed up over its workers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse import errors
from lakehouse.checks import rules, timeline
from lakehouse.checks.rules import RowCount
from lakehouse.schemas import COMPARED, COUNTS, FAILED, QUARANTINED, SCORED

SUITES = ("features", "scores")


@dataclass(frozen=True)
class Tally:
    """A run's manifest, summed: its files by kind, its rows, why rows were set aside, and what
    was counted of each suite (None: nothing); `profiles` are the workers' dumps by name, `keys` what each says of its
    keys; `compared` what each saw of the challengers. `work`: the seconds of all workers together by what they went to
    (reading, checking, model, writing), and those of their processors (core). `hopeless`: a worker read no further,
    since the model failed on more rows than the run may set aside.
    `by_model`: rows scored by each of many models; `explained`: rows that were explained, those of which the model told
    nothing, and seconds; `tasks`: when each task was at work (`timeline`); `leaves`: the sidecars of the rows' leaves,
    where the run leaves receipts."""

    scored_files: tuple[Mapping[str, Any], ...]
    quarantined_files: tuple[Mapping[str, Any], ...]
    read: int
    scored: int
    quarantined: int
    reasons: Mapping[tuple[str, str], int]
    checks: Mapping[str, Mapping[str, Any] | None]
    profiles: Mapping[str, Sequence[Mapping[str, Any]]]
    hopeless: bool = False
    keys: Sequence[Mapping[str, Any]] = ()
    compared_files: tuple[Mapping[str, Any], ...] = ()
    compared: Sequence[Mapping[str, Any]] = ()
    work: Mapping[str, float] = field(default_factory=dict)
    by_model: Mapping[int, int] = field(default_factory=dict)
    explained: Mapping[str, Any] | None = None
    tasks: Sequence[Mapping[str, Any]] = ()
    leaves: Sequence[str] = ()


def tally(manifest: Sequence[Mapping[str, Any]]) -> Tally:
    """Sum the manifest's rows up. Raises the error that a worker reported, and RuntimeError if a row is missing."""
    for row in manifest:
        if row["kind"] == FAILED:
            failure = json.loads(row["detail"])
            raise getattr(errors, failure["kind"], errors.LakehouseError)(failure["message"])
    details = [json.loads(row["detail"]) for row in manifest if row["kind"] == COUNTS]
    reasons: Counter[tuple[str, str]] = Counter()
    for detail in details:
        reasons.update({(rule, column): count for rule, column, count in detail["reasons"]})
    files = {kind: tuple(row for row in manifest if row["kind"] == kind) for kind in (SCORED, QUARANTINED, COMPARED)}
    read, scored, quarantined = (sum(d[k] for d in details) for k in ("read", "scored", "quarantined"))
    in_files = tuple(sum(row["rows"] for row in files[kind]) for kind in (SCORED, QUARANTINED))
    if read != scored + quarantined or in_files != (scored, quarantined):
        raise RuntimeError(
            f"rows are missing: read {read}, scored {scored}, quarantined {quarantined}, in files {in_files}"
        )
    checks = {suite: _merge([d["checks"][suite] for d in details if suite in d["checks"]]) for suite in SUITES}
    profiles: dict[str, list[Mapping[str, Any]]] = {}
    for detail in details:
        for name, dump in detail["profiles"].items():
            profiles.setdefault(name, []).append(dump)
    return Tally(
        files[SCORED],
        files[QUARANTINED],
        read,
        scored,
        quarantined,
        dict(reasons),
        checks,
        profiles,
        any(d["hopeless"] for d in details),
        [d["keys"] for d in details if d["keys"]],
        files[COMPARED],
        [d["beside"] for d in details if "beside" in d],
        _sums([d["work"] for d in details]),
        _by_model(details),
        _explained([d["explained"] for d in details if "explained" in d]),
        timeline.bounded(one for d in details for one in d["tasks"]),
        [path for d in details for path in d.get("leaves", ())],
    )


WORK = ("reading", "checking", "model", "writing", "explaining", "receipts", "core")
"""What the seconds of workers go to; the last is the processors' time for it all."""


def _sums(work: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The seconds of several workers together."""
    known = [name for name in WORK if any(name in one for one in work)]
    return {name: round(sum(one.get(name, 0.0) for one in work), 3) for name in known}


def _explained(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Rows that workers explained, those that the model told nothing of, and seconds; None where none was to."""
    return {name: sum(part[name] for part in parts) for name in ("rows", "failed", "seconds")} if parts else None


def _by_model(details: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """How many rows each of many models has scored, by its number."""
    rows: Counter[int] = Counter()
    for detail in details:
        rows.update(dict(detail.get("by_model", ())))
    return dict(rows)


def _merge(dumps: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What several workers counted of one suite, as one."""
    if not dumps:
        return None
    counts = [RowCount() for _ in dumps[0]["rows"]]
    for dump in dumps:
        for count, more in zip(counts, dump["rows"], strict=True):
            count.merge(RowCount.from_dict(more))
    return {
        "rows": counts,
        "tables": rules.merge([dump["tables"] for dump in dumps]),
    }
