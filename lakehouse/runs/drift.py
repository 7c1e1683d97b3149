"""How far features and predictions are from what they were when all was well: the baseline, kept and compared."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import formats, models
from lakehouse.checks import Tally, profile
from lakehouse.checks.profile import Baseline, ColumnDrift, Profile
from lakehouse.planning.plan import Plan
from lakehouse.storage import Location, content, display_name, write_durably

if TYPE_CHECKING:
    from lakehouse.config import Drift

KINDS = {"features": "feature", "predictions": "prediction"}
SHOWN = 100
"""Columns of which facts and page tell the bins; the figures and the table of profiles are of all."""
FIGURES = ("psi", "js", "ks", "null_fraction")
_BIN = ("label", "lower", "upper", "fraction", "baseline_fraction")


@dataclass(frozen=True)
class DriftResult:
    """How a run's features and predictions stand to their baselines, and where those are from ("" where none)."""

    profiles: Mapping[str, Profile]
    baselines: Mapping[str, Baseline]
    origin: str
    columns: tuple[tuple[str, ColumnDrift], ...]

    def beyond(self, limit: Drift | None) -> list[tuple[str, ColumnDrift]]:
        """The columns whose PSI is above the limit by more than sampling explains."""
        return [(kind, c) for kind, c in self.columns if limit and has_drifted(c, limit)]


def has_drifted(column: ColumnDrift, limit: Drift) -> bool:
    """Whether a column's PSI is above the limit by more than twice what sampling alone gives on average."""
    return column.psi is not None and column.psi - 2 * (column.noise or 0.0) > limit.psi


def compare_with_baseline(plan: Plan, tally: Tally, state: Location, patience: models.Patience) -> DriftResult:
    """Hold the run's profiles against the baseline kept with the model version; there may be none yet."""
    profiles = _profiles(tally)
    text, origin = _baseline(plan, state, patience, keep=True)
    baselines = models.baselines_from_text(text) if text else {}
    columns = [
        (KINDS[name], column)
        for name, seen in profiles.items()
        if name in baselines
        for column in profile.drift(seen, baselines[name])
    ]
    return DriftResult(profiles, baselines, origin, tuple(columns))


def without_baseline(tally: Tally) -> DriftResult:
    """The run's profiles where no baseline is known."""
    return DriftResult(_profiles(tally), {}, "unknown", ())


def _profiles(tally: Tally) -> dict[str, Profile]:
    return {name: profile.merge(dumps) for name, dumps in tally.profiles.items()}


def facts(
    found: DriftResult, bins: Mapping[str, pa.Table], limit: Drift | None, ruled: Collection[str]
) -> dict[str, Any]:
    """What a run's facts say of drift: figures of every column, and bins of those that are worth showing.

    Those are the ones that drifted, the predictions, the columns `ruled` by an expectation, and then those that moved
    most, `SHOWN` in all; `left_out` says how many are not among them. `bins`: as `profile.bins` gives them, by name.
    """
    compared = {(kind, column.column): column for kind, column in found.columns}
    columns: list[dict[str, Any]] = []
    for name, seen in found.profiles.items():
        for column, sketch in seen.columns.items():
            held = compared.get((KINDS[name], column))
            columns.append(
                {
                    "column": column,
                    "kind": KINDS[name],
                    "psi": held.psi if held else None,
                    "js": held.js if held else None,
                    "ks": held.ks if held else None,
                    "null_fraction": sketch.nulls / max(1, sketch.rows),
                    "baseline_null_fraction": held.baseline_null_fraction if held else None,
                    "drifted": bool(held and limit and has_drifted(held, limit)),
                }
            )

    def worth(column: Mapping[str, Any]) -> tuple[bool, bool, bool, float]:
        named = column["kind"] == "feature" and column["column"] in ruled
        return not column["drifted"], column["kind"] == "feature", not named, -(column["psi"] or 0.0)

    shown = sorted(columns, key=worth)[:SHOWN] if len(columns) > SHOWN else columns
    parts = {KINDS[name]: _by_column(table) for name, table in bins.items()}
    return {
        "threshold": limit.psi if limit else None,
        "action": limit.action if limit else None,
        "baseline": found.origin or None,
        "columns": [
            {**column, "bins": _sources_of_baselines(parts[column["kind"]][column["column"]])} for column in shown
        ],
        "left_out": len(columns) - len(shown),
        "drifted": sum(column["drifted"] for column in columns),
        "figures": {name: [column[name] for column in columns] for name in ("column", "kind", *FIGURES)},
    }


def _by_column(bins: pa.Table) -> dict[str, pa.Table]:
    """The bins of each column, which lie together."""
    names = bins["column"].to_pylist()
    starts = [i for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    return {names[a]: bins.slice(a, b - a) for a, b in pairwise([*starts, len(names)])}


def _sources_of_baselines(bins: pa.Table) -> list[dict[str, Any]]:
    """The bins that are worth a bar: those for nulls, NaN and infinities only where there are, or were, any."""
    rows = bins.select([*_BIN, "kind"]).to_pylist()
    worth = (r for r in rows if r["kind"] in ("range", "value") or r["fraction"] or r["baseline_fraction"])
    return [{name: row[name] for name in _BIN} for row in worth]


def describe(found: Sequence[tuple[str, ColumnDrift]], limit: Drift) -> str:
    """Drifted columns in words; empty where there are none."""
    worst = sorted(found, key=lambda pair: -(pair[1].psi or 0))
    named = ", ".join(f"{kind} {c.column} {c.psi:.2f}" for kind, c in worst[:5])
    more = f" and {len(worst) - 5} more" if len(worst) > 5 else ""
    return f"drift: PSI above {limit.psi:g}: {named}{more}" if worst else ""


def _baseline_file(plan: Plan, state: Location) -> Location:
    return state.join("baselines", f"{plan.job.job}-{plan.model.digest[:16]}.json")


def _baseline(plan: Plan, state: Location, patience: models.Patience, *, keep: bool) -> tuple[str, str]:
    """The baseline's text and origin; a copy beside the ledger, made if `keep`, saves asking MLflow each time."""
    held = content(_baseline_file(plan, state))
    if held is not None:
        place = display_name(_baseline_file(plan, state))
        return formats.parse(
            formats.BASELINE, held, place, lambda said: (json.dumps(said["baseline"]), str(said["origin"]))
        )
    found = models.stored_baseline(plan.job.model, plan.model.resolved, plan.job.job, patience)
    if found is None:
        return "", ""
    if keep:
        _save(plan, state, *found)
    return found


def origin(plan: Plan, state: Location, patience: models.Patience) -> str:
    """Where the baseline of the plan's model is from, "" where there is none yet. Writes nothing."""
    return _baseline(plan, state, patience, keep=False)[1]


def _save(plan: Plan, state: Location, text: str, origin: str) -> None:
    said = formats.with_version(formats.BASELINE, {"baseline": json.loads(text), "origin": origin})
    write_durably(_baseline_file(plan, state), json.dumps(said).encode())


def save_first_baseline(plan: Plan, state: Location, found: DriftResult, patience: models.Patience) -> None:
    """Keep the profile of a first published run that has scored rows, beside the ledger and with the model version."""
    if found.origin or not found.profiles:
        return
    if any(not column.rows for seen in found.profiles.values() for column in seen.columns.values()):
        return
    text = models.baselines_as_text({name: profile.baseline_of(seen) for name, seen in found.profiles.items()})
    _save(plan, state, text, f"first published run {plan.run_id}")
    models.store_baseline(plan.job.model, plan.model.resolved, plan.job.job, text, patience)
