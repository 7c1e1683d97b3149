"""What a run found out about its rows, kept beside the ledger: facts as JSON, metrics and profiles as tables, a page.

All of it is derived: failing to write it never fails a run. The facts are there before the run's intent, so that
whoever finishes the run can finish its evidence too.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse import checks, formats, sinks
from lakehouse.checks import Finding, Tally, Verdict, profile
from lakehouse.errors import ConfigError
from lakehouse.planning import naming, quarantine
from lakehouse.planning.plan import Plan
from lakehouse.runs import drift, ledger, tables
from lakehouse.runs.drift import KINDS, DriftResult
from lakehouse.runs.restoring import is_rollback, restored_run
from lakehouse.schemas import REASONS, RUN_ID, TIMESTAMP
from lakehouse.scoring import explanations, files
from lakehouse.scoring.routing import NO_MODEL
from lakehouse.scoring.staging import Staging
from lakehouse.storage import Location, content, display_name, remove, tree, write_durably

if TYPE_CHECKING:
    from lakehouse.config import Job

SAMPLES = 20
_COUNTS = ("rows_read", "rows_scored", "rows_quarantined")
_BINS = "bins.parquet"
TABLES = ("metrics", "profiles", "runs")
"""The tables of the state folder that get a file from each run, in the order in which a run's rows are taken away."""
RUN = pa.schema(
    [
        ("run_id", pa.string()),
        ("job", pa.string()),
        ("date", pa.string()),
        ("identity", pa.string()),
        ("finished_at", TIMESTAMP),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
    ]
)
METRICS = pa.schema(
    [
        *RUN,
        ("subject", pa.string()),  # run, feature, prediction, features (the suite), scores (the suite)
        ("name", pa.string()),  # the rule, or empty
        ("column", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)
PROFILES = pa.schema([*RUN, ("subject", pa.string()), *profile.PROFILES])


@dataclass(frozen=True)
class Facts:
    """A run's facts, fit for JSON (`page.Run` says what each is), and its bins; None where nothing was profiled."""

    facts: Mapping[str, Any]
    bins: pa.Table | None


def gather_facts(
    plan: Plan, staging: Staging, tally: Tally, verdict: Verdict, found: DriftResult,
    compared: Sequence[Mapping[str, Any]] = (),
) -> Facts:  # fmt: skip
    """The facts of a run that its record doesn't have, and its profiles. `compared`: as `comparing.facts` gives it."""
    budget, limit = plan.job.checks.quarantine, plan.job.checks.drift
    bins = {name: profile.bins(seen, found.baselines.get(name)) for name, seen in found.profiles.items()}
    rules = [_rule(f) for f in verdict.findings]
    ruled = {str(column) for rule in rules for column in (rule["column"] or "").split(", ")}
    facts = {
        "model": {"uri": plan.model.uri},
        **({"models": _models(plan, tally)} if plan.model.members else {}),
        "input": {"where": plan.job.source.where},
        "program": {"lakehouse": import_module("lakehouse").__version__, "python": platform.python_version()},
        "reasons": [{"rule": rule, "column": column, "rows": rows} for rule, column, rows in verdict.budget.reasons],
        "samples": _samples(staging, tally),
        "rules": rules,
        "budget": {
            "max_fraction": budget.max_fraction,
            "max_rows": budget.max_rows,
            "quarantined": verdict.budget.used,
            "allowed": verdict.budget.allowed,
        },
        "causes": [{"kind": p.kind, "said": p.message, "remedy": p.remedy} for p in verdict.problems],
        "warnings": [*filter(None, [plan.model.notice]), *verdict.warnings],
        "drift": drift.facts(found, bins, limit, ruled),
        **({"challengers": list(compared)} if compared else {}),
        **({"explained": dict(tally.explained)} if tally.explained is not None else {}),
        **({"explaining": _explaining(staging)} if staging.explaining is not None else {}),
    }
    told = [table.add_column(0, "subject", pa.repeat(KINDS[name], len(table))) for name, table in bins.items()]
    return Facts(facts, pa.concat_tables(told) if told else None)


def _explaining(staging: Staging) -> dict[str, Any]:
    """What explanations were held against, so that they can be made again."""
    assert staging.explaining is not None  # as whoever asks has seen
    return explanations.to_record(staging.explaining, staging.scoring.features)


def _models(plan: Plan, tally: Tally) -> dict[str, Any]:
    """The models of a run where a column says which one a row is for: value, name, version, digest, rows scored."""
    rows = [tally.by_model.get(number, 0) for number in range(len(plan.model.members))]
    listed = [
        [value, one.name, one.version, one.digest, scored]
        for (value, one), scored in zip(plan.model.members.items(), rows, strict=True)
    ]
    missing = sum(rows for (rule, _), rows in tally.reasons.items() if rule == NO_MODEL)
    return {"by": plan.job.model.by, "listed": listed, "missing": missing}


def _samples(staging: Staging, tally: Tally) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    names = [*staging.quarantine_schema.names[: staging.quarantine_schema.get_field_index(REASONS)], REASONS]
    for file in tally.quarantined_files:
        if len(rows) < SAMPLES:
            rows += files.head(staging.quarantine_root, file["path"], names, SAMPLES - len(rows), file["bytes"])
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, str, list)) else str(value)


def _rule(finding: Finding) -> dict[str, Any]:
    outcome, expectation = finding.outcome, finding.outcome.expectation
    columns = [expectation.kwargs[k] for k in ("column", "column_A", "column_B") if k in expectation.kwargs]
    columns += expectation.kwargs.get("column_list", [])
    return {
        "suite": finding.suite,
        "name": expectation.name,
        "type": expectation.type,
        "column": ", ".join(map(str, columns)) or None,
        "kwargs": {k: _plain(v) for k, v in expectation.kwargs.items() if not k.startswith("column") and v is not None},
        "severity": expectation.severity,
        "expectation": {name: getattr(expectation, name) for name in ("type", "kwargs", "severity", "meta")},
        "success": outcome.success,
        "total": outcome.total,
        "evaluated": outcome.evaluated,
        "unexpected": outcome.unexpected,
        "fraction": outcome.unexpected_fraction,
        "mostly": finding.mostly,
        "observed": _plain(outcome.observed_value),
        "examples": list(outcome.examples),
        "way": finding.way,
        "blocks": finding.blocks,
        "set_aside": finding.sets_rows_aside,
    }


def save_facts(state: Location, run_id: str, found: Facts) -> None:
    """Write down what was gathered, before the run's intent. The bins, of which there may be many, stay no longer than
    until they are in their table."""
    if found.bins is not None:
        sink = pa.BufferOutputStream()
        pq.write_table(found.bins, sink, compression="zstd")
        write_durably(_at(state, run_id, _BINS), sink.getvalue().to_pybytes())
    facts = formats.with_version(formats.FACTS, found.facts)
    write_durably(_at(state, run_id, "json"), json.dumps(facts, default=str).encode())


def kept_facts(state: Location, run_id: str) -> dict[str, Any] | None:
    """What was gathered of a run, without its record; None where it was not kept. Raises as `facts_of` does."""
    place = _at(state, run_id, "json")
    held = content(place)
    return None if held is None else formats.parse(formats.FACTS, held, display_name(place), dict[str, Any])


def facts_of(state: Location, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The run's facts together with its record, as `page.render` takes them; None where they were not kept.

    Raises ConfigError for facts of a newer format, and broken ones.
    """
    facts = kept_facts(state, record["run_id"])
    return None if facts is None else _with_record(facts, record)


def _with_record(facts: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "run_id",
        "job",
        "date",
        "status",
        "message",
        "rows_read",
        "rows_scored",
        "rows_quarantined",
        "carrier",
        "engine",
        "sinks",
        "seconds",
    )
    said = {name: record[name] for name in names} | {"work": record.get("work") or {}}
    said |= {n: record[n].isoformat() if record[n] else None for n in ("started_at", "finished_at")}
    named = ledger.model_of(record)
    read = {"table": record["input_table"], "version": record["input_version"]}
    return {**facts, **said, "model": facts["model"] | named, "input": facts["input"] | read}


def _on_page(state: Location, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page of a run shows; of a rollback that is what was found out of the rows that it put back."""
    former = restored_run(record)
    if former is None:
        return facts_of(state, record)
    facts = kept_facts(state, former)
    return None if facts is None else _with_record({**facts, "restored": former}, record)


def finish(state: Location, record: Mapping[str, Any]) -> None:
    """Write the run's page, metrics and profiles, each once; of a rollback, which has no rows of its own, the page."""
    facts = _on_page(state, record)
    if facts is None:
        return
    write_durably(_at(state, record["run_id"], "html"), _drawn(facts))
    if is_rollback(record):
        return
    run = {name: record.get(name) for name in RUN.names}
    _append(state, "metrics", _figures(run, facts), formats.METRICS)
    _append(state, "profiles", _profiles(state, run, facts), formats.PROFILES)
    remove(_at(state, record["run_id"], _BINS))


def _drawn(facts: Mapping[str, Any]) -> bytes:
    from lakehouse.views import page

    return page.render(facts).encode()


def _figures(run: Mapping[str, Any], facts: Mapping[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{**run, **row} for row in _metrics(facts)], METRICS)


def _append(state: Location, name: str, rows: pa.Table, kind: formats.Format) -> None:
    """Append the rows of one run to a table of the state folder, once."""
    if rows.num_rows:
        batch, run = rows.combine_chunks().to_batches()[0], rows.column("run_id")[0].as_py()
        tables.append(state.join(name), batch, f"{name}/{run}", name.capitalize(), kind)


def add_metrics(state: Location, record: Mapping[str, Any], reasons: Sequence[Mapping[str, Any]]) -> None:
    """Write the run's metrics again, once: by its facts where they were kept, else what record and `reasons` tell."""
    counts = {name: record[name] for name in _COUNTS}
    kept = kept_facts(state, record["run_id"]) or {"reasons": reasons, "rules": [], "drift": {"columns": []}}
    run = {name: record.get(name) for name in RUN.names}
    _append(state, "metrics", _figures(run, {**kept, **counts}), formats.METRICS)


def runs_with_metrics(state: Location, job: str) -> set[str]:
    """The job's runs of which metrics are there."""
    return {
        str(row["run_id"])
        for row in tables.rows(state.join("metrics"), ["run_id", "job"], formats.METRICS, {"job": job})
    }


def reasons_by_run(job: Job, runs: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """By run how many rows it set aside for each rule and column, by the quarantine itself."""
    found: dict[str, list[dict[str, Any]]] = {}
    for (run, rule, column), (rows, _) in _count(job, runs).items():
        found.setdefault(run, []).append({"rule": rule, "column": column, "rows": rows})
    return found


def _profiles(state: Location, run: Mapping[str, Any], facts: Mapping[str, Any]) -> pa.Table:
    """The run's bins as its table of profiles has them; before they had a file they were among the facts."""
    held = content(_at(state, run["run_id"], _BINS))
    if held is None:
        older = facts.get("bins", {})
        bins = [{**run, "subject": KINDS[name], **row} for name, rows in older.items() for row in rows]
        return pa.Table.from_pylist(bins, PROFILES)
    table = pq.read_table(pa.BufferReader(held))
    same = [pa.repeat(pa.scalar(run[f.name], f.type), len(table)) for f in RUN]
    return pa.table([*same, *table.columns], schema=PROFILES)


def _metrics(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The run's figures in long form: one row a number."""
    found = [
        {"subject": "run", "name": "", "column": "", "metric": name, "value": float(facts[name])}
        for name in _COUNTS
        if facts[name] is not None
    ]
    for reason in facts["reasons"]:
        found.append(
            {
                "subject": "run",
                "name": reason["rule"],
                "column": reason["column"],
                "metric": "quarantined",
                "value": float(reason["rows"]),
            }
        )
    for rule in facts["rules"]:
        figures = {
            "success": rule["success"],
            "evaluated": rule["evaluated"],
            "unexpected": rule["unexpected"],
            "observed": rule["observed"],
        }
        for metric, value in figures.items():
            if isinstance(value, (bool, int, float)):
                found.append(
                    {
                        "subject": rule["suite"],
                        "name": rule["name"],
                        "column": rule["column"] or "",
                        "metric": metric,
                        "value": float(value),
                    }
                )
    columns, figures = facts["drift"]["columns"], facts["drift"].get("figures")
    if figures is not None:  # before there were any, all columns were told whole
        columns = [dict(zip(figures, row, strict=True)) for row in zip(*figures.values(), strict=True)]
    for column in columns:
        for metric in drift.FIGURES:
            if column[metric] is not None:
                found.append(
                    {
                        "subject": column["kind"],
                        "name": "",
                        "column": column["column"],
                        "metric": metric,
                        "value": column[metric],
                    }
                )
    return found


def page(job: Job, run: str | None) -> tuple[str, bytes]:
    """A run's id and page, by default those of the job's newest run.

    Raises ConfigError where there is no such run, or no page of it.
    """
    state = naming.state_of(job)
    record = ledger.record_of(state, job.job, run)
    held = page_of(state, record["run_id"])
    if held is None and (facts := _on_page(state, record)) is not None:  # it could not be written then
        held = _drawn(facts)
    if held is None:
        raise _no_page(record)
    return str(record["run_id"]), held


def native_pages(job: Job, run: str | None) -> tuple[str, dict[str, tuple[Any, str]]]:
    """A run's id, and by suite Great Expectations' own result (fit for JSON) and page. Raises as `page` does."""
    state = naming.state_of(job)
    record = ledger.record_of(state, job.job, run)
    facts = facts_of(state, record)
    if facts is None:
        raise _no_page(record)
    found = {}
    for suite in checks.SUITES:
        if any(rule["suite"] == suite for rule in facts["rules"]):
            result = checks.validation_result(suite, facts["rules"], facts)
            found[suite] = (result.to_json_dict(), checks.render_page(result))
    return str(record["run_id"]), found


def _no_page(record: Mapping[str, Any]) -> ConfigError:
    what = "left no page (it is from before there were any, or could not be written)"
    return ConfigError(f"run {record['run_id']} {what}")


def quarantine_counts(job: Job, *, every: bool, states: Sequence[Location] = ()) -> list[dict[str, Any]]:
    """The job's quarantined rows in all its tables, counted by run, rule and column, the newest run first.

    `example` is what one of them had there. A run is superseded by a later published one of the same job and slice. One
    without a record is "unfinished" while its intent waits, else "unrecorded": it died, and like one that "failed"
    (overtaken) it has no rows that are live. Rows of all these but the unfinished are left out unless `every`.
    `states`: where the runs are on record, if not in the job's own state folder alone.
    """
    places = states or [naming.state_of(job)]
    recorded = [ledger.runs(state, job.job) for state in places]
    records = {r["run_id"]: r for r in sorted(chain(*recorded), key=lambda r: r["finished_at"], reverse=True)}
    gone = set().union(*map(ledger.superseded_runs, recorded))  # in each by itself: tables of two states are two
    waiting = set().union(*map(ledger.runs_with_intents, places))
    shown = (records.keys() - gone) | waiting
    found = []
    for (run, rule, column), (rows, example) in _count(job, None if every else shown).items():
        record = records.get(run, {"date": None, "status": "unfinished" if run in waiting else "unrecorded"})
        superseded = True if run in gone else None if record["status"] in ("unrecorded", "failed") else False
        if every or superseded is False:
            found.append(
                {
                    "run_id": run,
                    "date": record["date"],
                    "status": record["status"],
                    "superseded": superseded,
                    "rule": rule,
                    "column": column,
                    "rows": rows,
                    "example": example,
                }
            )
    order = {run: number for number, run in enumerate(records)}
    return sorted(found, key=lambda row: (order.get(row["run_id"], len(order)), -row["rows"], row["rule"]))


def _count(job: Job, runs: Collection[str] | None) -> dict[tuple[str, str, str], tuple[int, str | None]]:
    """How many rows were set aside by each run for each rule and column, by the runs asked for at least.

    Each with what one of them had there: of all of them the first in the order of texts, so that it stays the same.
    """
    found: dict[tuple[str, str, str], tuple[int, str | None]] = {}
    for table in quarantine.tables(job):
        for rows in sinks.of(table.type).set_aside(table, job.job, runs):
            reasons = rows.column(REASONS)
            why, owner = pc.list_flatten(reasons), rows.column(RUN_ID).take(pc.list_parent_indices(reasons))
            parts = [owner, *(pc.struct_field(why, name) for name in ("rule", "column", "observed"))]
            counted = pa.table(parts, names=["run", "rule", "column", "observed"]).group_by(["run", "rule", "column"])
            for row in counted.aggregate([([], "count_all"), ("observed", "min")]).to_pylist():
                key = row["run"], row["rule"], row["column"]
                before, example = found.get(key, (0, None))
                examples = [text for text in (example, row["observed_min"]) if text is not None]
                found[key] = before + row["count_all"], min(examples, default=None)
    return found


def page_of(state: Location, run_id: str) -> bytes | None:
    """The page of a run, None where there is none."""
    return content(_at(state, run_id, "html"))


def report_files(state: Location, runs: Collection[str]) -> dict[str, dict[str, int]]:
    """By run its files of facts and page, as paths below the state folder, with their bytes."""
    there = tree(state.join("reports")) if runs else {}
    names = {run: [f"{run}.{suffix}" for suffix in ("json", "html", _BINS)] for run in runs}
    return {run: {f"reports/{name}": there[name] for name in of if name in there} for run, of in names.items()}


def _at(state: Location, run_id: str, suffix: str) -> Location:
    return state.join("reports", f"{run_id}.{suffix}")
