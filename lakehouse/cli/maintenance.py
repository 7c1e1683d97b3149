"""Commands that keep tables in order: rollback, recall, sweep, maintain, reconcile."""

from __future__ import annotations

import functools
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from lakehouse.cli import jobs
from lakehouse.cli.command import Answer, Attempt, result_as_json
from lakehouse.cli.options import AsJson, Conf, Date, Engine, Overrides, ProjectDir, Target, day
from lakehouse.cli.usage import Only


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

    Said again it changes nothing (UNCHANGED), and names the run whose --run puts back what it took away. What was
    rolled back is not published again by itself: a score with the same input, model and settings is blocked. Exit codes
    as of score.
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


def recall(
    conf: Conf,
    model: Annotated[
        str | None, typer.Option("--model", metavar="V", help="a version, such as 3 or churn/3, or a model's digest")
    ] = None,
    input_version: Annotated[
        int | None, typer.Option("--input-version", metavar="N", min=0, help="a version of the input table")
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("--input-file", metavar="F", help="a file of the input table: its path, or its name")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM-DD", callback=day, help="only of this date, and later ones")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="YYYY-MM-DD", callback=day, help="only of this date, and earlier ones")
    ] = None,
    rescore: Annotated[bool, typer.Option("--rescore", help="score these slices again, by one session")] = False,
    parallel: Annotated[
        int, typer.Option("--parallel", metavar="N", min=1, help="with --rescore: so many at a time"), Only("rescore")
    ] = 1,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="with --rescore: go on with the others where one fails"),
        Only("rescore"),
    ] = False,
    engine: Engine = "spark",
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """List the live scores that stand on a model version, an input version or a file of the input, by slice and run.

    Nothing that grows with rows is read. Exit code 0, also where there are none; with --rescore as of backfill.
    """
    from lakehouse.operations import backfill, checking, standing
    from lakehouse.operations import recall as asking
    from lakehouse.planning.plan import require_known
    from lakehouse.views import dates, recalled

    require_known(engine, "--engine")
    load = jobs.loader(conf, target, overrides)
    question = standing.Question(model, input_version, input_file, first, last)
    found = asking.recall(load, question)
    content: dict[str, Any] = asdict(found)
    if not rescore:
        return Answer(content, lambda: recalled.text(found))
    if not as_json:
        typer.echo(recalled.text(found))
    asked = backfill.Asked(conf, target, tuple(overrides or ()), engine)
    with dates.progress(sys.stderr, [one or "" for one in found.dates], quiet=as_json) as shown:
        told = backfill.Shown(shown.begin, shown.end)
        outcomes = asking.rescore(load, asked, found, parallel, keep_going=keep_going, shown=told)
    code = checking.worst([one.code for one in outcomes])
    left = asking.recall(load, question) if outcomes else found
    content |= {"rescored": [asdict(one) for one in outcomes], "code": code, "left": [asdict(o) for o in left.standing]}

    def text() -> str:
        if not outcomes:
            return "nothing is scored again"
        still = f"\nstill standing on it:\n{recalled.text(left)}" if left.standing else "\nno live score stands on it"
        return dates.summary(outcomes) + still

    return Answer(content, text, code=code)


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


def maintain(
    conf: Annotated[list[str], typer.Argument(metavar="CONF...", help="job files, or folders of them")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what there is to do")] = False,
    file_mb: Annotated[
        int, typer.Option("--file-mb", metavar="N", min=1, help="merge small files to about so many MB each")
    ] = 128,
    engine: Engine = "spark",
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Merge the small files of a job's tables, take away replaced files that nothing needs, and what runs left over.

    No row changes. The exit code is the worst of all jobs, as of score.
    """
    from lakehouse.operations import checking, maintenance
    from lakehouse.planning.plan import require_known
    from lakehouse.views import terminal

    require_known(engine, "--engine")
    every = list[maintenance.Maintained]()
    asked = maintenance.Asked(engine, dry_run, file_mb << 20, functools.partial(typer.echo, err=True))
    for file in checking.files(conf):
        every.append(maintenance.maintain(file, jobs.loader(file, target, overrides), asked))
        if not as_json:
            typer.echo(terminal.maintained(every[-1], dry_run))
    code = checking.worst([one.code for one in every])
    status = "failed" if code else "planned" if dry_run else "maintained"
    return Answer({"status": status, "code": code, "jobs": [one.as_json() for one in every]}, code=code)


def reconcile(
    conf: Conf,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be added")] = False,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Add records and metrics of published runs that are missing, from what the job's tables themselves remember.

    Nothing that is there changes. Exit code 0, also where nothing is missing.
    """
    from lakehouse.operations import reconciling
    from lakehouse.views import terminal

    done = reconciling.reconcile(jobs.loader(conf, target, overrides), dry_run=dry_run)
    content = {"status": "planned" if dry_run else "reconciled", **asdict(done)}
    return Answer(content, lambda: terminal.reconciled(done, dry_run))
