"""Commands that look at runs and tables and change neither: status, runs, report, quarantine, compare, sql."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli import jobs, outputs
from lakehouse.cli.command import Answer, Attempt, result_as_json
from lakehouse.cli.options import AsJson, Conf, Date, Overrides, ProjectDir, Target
from lakehouse.cli.outputs import Writes
from lakehouse.cli.usage import Never
from lakehouse.errors import ConfigError

if TYPE_CHECKING:
    from lakehouse.storage import Location


def status(
    attempt: Attempt,
    conf: Conf,
    date: Date = None,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Say how the newest run of this job and date ended, of any date where none is named: object and codes of score."""
    from lakehouse.operations import lookup
    from lakehouse.planning import catalog, ranges
    from lakehouse.views import terminal

    day = attempt.date = date or next((row["date"] for _, row in jobs.records(conf, target, overrides)), None)
    job = attempt.job = jobs.load(conf, day, target, overrides)
    ranges.require_use_of_date(job, date)
    with catalog.resolve_names(job) as at_places:
        outcome, code = lookup.status(at_places)

    def text() -> str:
        command = jobs.next_command(
            job, outcome, date=day, target=target, overrides=overrides, engine=outcome.engine, project_dir=project_dir
        )
        said = terminal.outcome(job, outcome, command)
        return f"{said}\n{outcome.message}" if outcome.message and outcome.status != "held" else said

    return Answer(result_as_json(outcome), text, code=code)


def runs(
    conf: Conf,
    target: Target = None,
    overrides: Overrides = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="so many at most")] = 20,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """List the job's runs, held ones first, the newest before others: when, what, versions, rows, seconds, verdict."""
    from lakehouse.operations import dated, lookup, review
    from lakehouse.views import terminal

    load = jobs.loader(conf, target, overrides)
    states = dated.with_states(load)
    waiting = [one.record for _, one in review.held_runs(load, states)]
    rows = [*waiting, *(row for _, row in lookup.recorded(load, states))][:limit]
    notes = [hint] if not rows and (hint := jobs.lost_records(load)) else []
    return Answer(rows, lambda: terminal.runs_text(rows), notes, indent=1)


def report(
    conf: Conf,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="default: the job's newest run")] = None,
    target: Target = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="write the page to this file, and open nothing"), Writes()
    ] = None,
    gx: Annotated[
        Path | None,
        typer.Option("--gx", help="write Great Expectations' own results and pages, a suite each, to this folder"),
        Writes(folder=True),
        Never(("out",)),
    ] = None,
    project_dir: ProjectDir = None,
) -> Answer:
    """Open the page about a run: verdict, rows, rules, drift, versions and timings."""
    import tempfile
    import webbrowser

    from lakehouse.planning import catalog
    from lakehouse.runs import evidence

    job, record = jobs.record_of(conf, target, overrides, run)
    with catalog.resolve_names(job) as at_places:
        if gx is not None:
            return _write_native(gx, *evidence.native_pages(at_places, record["run_id"]))
        run_id, page = evidence.page(at_places, record["run_id"])
    path = out or Path(tempfile.gettempdir(), f"lakehouse-{run_id}.html")
    outputs.write(path, page)
    if out is None and sys.stdout.isatty():
        webbrowser.open(path.resolve().as_uri())
    return Answer(text=lambda: f"{path}: the page of run {run_id}")


def _write_native(folder: Path, run_id: str, pages: Mapping[str, tuple[Any, str]]) -> Answer:
    for suite, (result, page) in pages.items():
        outputs.write(folder / f"{suite}.json", json.dumps(result, indent=1))
        outputs.write(folder / f"{suite}.html", page)
    suites = ", ".join(pages) or "it had no suites"
    return Answer(text=lambda: f"{folder}: Great Expectations' results of run {run_id}: {suites}")


def quarantine(
    conf: Conf,
    target: Target = None,
    overrides: Overrides = None,
    every: Annotated[
        bool, typer.Option("--all", help="with rows of superseded runs, and of those without a record")
    ] = False,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Count the job's quarantined rows by run and reason."""
    from lakehouse.operations import dated
    from lakehouse.planning import catalog, naming
    from lakehouse.runs import evidence
    from lakehouse.views import terminal

    found: list[dict[str, Any]] = []
    states: list[Location] = []

    load = jobs.loader(conf, target, overrides)
    for job in dated.with_states(load):
        with catalog.resolve_names(job) as at_places:
            states.append(naming.state_of(at_places))
    for job in dated.with_quarantines(load):
        with catalog.resolve_names(job) as at_places:
            found += evidence.quarantine_counts(at_places, every=every, states=states)
    return Answer(found, lambda: terminal.quarantine_text(found), indent=1)


def compare(
    conf: Conf,
    other: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="TABLE",
            help="a Delta table, a folder of Parquet files, or a table as SYSTEM://CONNECTION/TABLE",
        ),
    ],
    on: Annotated[
        list[str] | None,
        typer.Option("--on", metavar="OURS=THEIRS", help="a prediction and its column there; default: same names"),
    ] = None,
    keys: Annotated[
        list[str] | None, typer.Option("--keys", metavar="OURS=THEIRS", help="a key and its column there, likewise")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="which rows there; default: the slice's, if there are such columns, else all"),
    ] = None,
    date: Date = None,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Compare the live scores with another table: keys, differences by size, decisions, and why they differ."""
    from lakehouse.operations import comparison, counterpart
    from lakehouse.views import comparisons

    asked = counterpart.Asked(other, _pairs("--on", on), _pairs("--keys", keys), where)
    found = comparison.compare(jobs.load(conf, date, target, overrides), asked)
    return Answer(found.as_json(), lambda: comparisons.text(found))


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """Ours by theirs, of options that say so, several separated by commas."""
    found: dict[str, str] = {}
    for pair in (pair for text in given or () for pair in text.split(",")):
        ours, _, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and theirs):
            raise ConfigError(f"{option} {pair}: write our column = the other table's, such as {option} id=customer_id")
        found[ours] = theirs
    return found


def sql(
    dialect: Annotated[str, typer.Argument(metavar="DIALECT", help="athena, duckdb, snowflake or spark")],
    conf: Conf,
    target: Target = None,
    overrides: Overrides = None,
    project_dir: ProjectDir = None,
) -> Answer:
    """Print SQL: how to read the job's tables there, and views: current scores, history, changes, runs, quarantine."""
    from lakehouse.views import sql
    from lakehouse.views.sql import dialects

    if conf in dialects.names() and dialect not in dialects.names():
        swapped = jobs.command_line(["sql", conf, dialect], target=target, overrides=overrides, project_dir=project_dir)
        raise ConfigError(f"the dialect comes first: {swapped}")
    text = sql.written(jobs.without_date(conf, target, overrides), dialect)
    return Answer(text=lambda: text.removesuffix("\n"))
