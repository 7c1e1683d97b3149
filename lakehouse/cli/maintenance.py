"""Commands that keep tables in order: rollback, sweep."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from lakehouse.cli import jobs
from lakehouse.cli.command import Answer, Attempt, result_as_json
from lakehouse.cli.options import AsJson, Conf, Date, Engine, Overrides, ProjectDir, Target


def rollback(
    attempt: Attempt,
    conf: Conf,
    date: Date = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="what this run had published; default: the one before")
    ] = None,
    engine: Engine = "spark",
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Put a slice's former scores back: the very files, by one commit that moves no data.

    What was rolled back is not published again by itself: a score with the same input, model and settings is blocked.
    Exit codes as of score.
    """
    from lakehouse import pipeline
    from lakehouse.operations import rollback as back
    from lakehouse.planning.plan import require_known
    from lakehouse.runs import ledger
    from lakehouse.views import terminal

    require_known(engine, "--engine")
    attempt.run_id = pipeline.new_run_id()
    job = attempt.job = jobs.load(conf, date, target, overrides)
    with terminal.progress(sys.stderr, quiet=as_json) as (say, watch):
        request = pipeline.Request(engine, ledger.now(), attempt.run_id, say=say, watch=watch)
        outcome = attempt.outcome = back.rollback(job, request, run)
    command = jobs.command_line(["runs", conf], target=target, overrides=overrides, project_dir=project_dir)
    return Answer(
        result_as_json(outcome), lambda: f"{terminal.outcome(job, outcome, command)}\n{outcome.message or ''}"
    )


def sweep(
    conf: Conf,
    target: Target = None,
    overrides: Overrides = None,
    take_away: Annotated[
        bool, typer.Option("--remove", help="remove or merge what is listed; without it, list")
    ] = False,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """List, or remove, what runs left over: staged files that no table knows, records older than retention says."""
    from lakehouse.operations import dated, sweep
    from lakehouse.operations.leftover import Leftover
    from lakehouse.planning import catalog
    from lakehouse.views import terminal

    every: list[Leftover] = []
    for job in dated.with_tables(jobs.loader(conf, target, overrides)):
        with catalog.resolve_names(job) as at_places:
            every += sweep.sweep(at_places, take_away=take_away)
    found = list({(left.table, left.run_id, left.what): left for left in every}.values())  # dates may share a table
    return Answer([asdict(left) for left in found], lambda: terminal.leftovers(found, take_away))
