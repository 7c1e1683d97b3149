"""Commands that run a job: score, and replay of what a run set aside."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli import jobs, outputs
from lakehouse.cli.command import Answer, Attempt, Lines, result_as_json
from lakehouse.cli.options import AsJson, Conf, Date, Engine, LogFormat, Overrides, ProjectDir, Target, day
from lakehouse.cli.stopping import stopping_between
from lakehouse.cli.usage import Never, Only
from lakehouse.errors import ConfigError, LakehouseError

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.storage import Location


def score(
    attempt: Attempt,
    conf: Conf,
    date: Date = None,
    engine: Engine = "spark",
    target: Target = None,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and touch nothing")] = False,
    as_json: AsJson = False,
    result: Annotated[str | None, typer.Option(metavar="URI", help="write the JSON object to this file too")] = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="score and publish again although nothing changed")
    ] = False,
    hold: Annotated[
        bool,
        typer.Option("--hold", help="score and check, and publish only what `lakehouse publish` then names"),
        Never(("dry_run",)),
    ] = False,
    hold_days: Annotated[
        int | None, typer.Option("--hold-days", metavar="N", min=1, help="it can be published for so long; default: 7")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="then read the Delta table and the ones in Snowflake, and prove that they hold the same rows",
        ),
        Never(("dry_run", "hold")),
    ] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="where messages are read: score what comes in, run after run, until SIGTERM, after which the run at "
            "hand is finished",
        ),
        Never(("dry_run", "rescore", "hold", "verify")),
    ] = False,
    every: Annotated[
        float,
        typer.Option("--every", metavar="SECONDS", min=0.1, help="with --follow: the pause between two runs"),
        Only("follow"),
    ] = 10.0,
    log_format: LogFormat = "text",
    project_dir: ProjectDir = None,
) -> Answer:
    """Score what a job file names and publish it, once.

    Exit codes: 0 published, held or unchanged, 2 configuration, 3 blocked by checks, 4 model refused,
    5 outside system unavailable or partial, 6 input not ready, 130 stopped by Ctrl-C, 143 by SIGTERM, 1 a defect.
    """
    from lakehouse import pipeline
    from lakehouse.operations import verification
    from lakehouse.planning.plan import require_known
    from lakehouse.runs import ledger
    from lakehouse.storage import locate
    from lakehouse.views import planned, terminal

    attempt.run_id = pipeline.new_run_id()
    if result is not None:
        place = locate(result)
        _clear(place)
        attempt.copy = place
    require_known(engine, "--engine")
    job = attempt.job = jobs.load(conf, date, target, overrides)
    if verify:
        verification.require_two(job)
    if hold_days is not None and not hold and job.publish.hold is None:
        raise ConfigError("--hold-days plays a part only together with --hold, or with publish.hold in the job file")
    if follow:
        return _follow(attempt, job, engine, every, as_json=as_json, in_lines=log_format == "json")
    about = attempt.about() if log_format == "json" else None
    with terminal.progress(sys.stderr, quiet=as_json or dry_run, about=about) as (say, watch):
        request = pipeline.Request(
            engine, ledger.now(), attempt.run_id, rescore, dry_run, say, watch, hold=hold, hold_days=hold_days
        )
        outcome = attempt.outcome = pipeline.score(job, request)
    proved = verification.digests_of_sinks(job) if verify and outcome.status in ("published", "unchanged") else {}

    def text() -> str:
        if outcome.plan:
            return planned.plan_text(outcome.plan, planned.terminal_width())
        command = jobs.next_command(
            job, outcome, date=date, target=target, overrides=overrides, engine=engine, project_dir=project_dir
        )
        return terminal.outcome(job, outcome, command)

    notes = []
    for table, found in proved.items():
        aside = f" (not compared: {', '.join(found.uncompared)})" if found.uncompared else ""
        notes.append(f"verified: {table}: {found.rows:,} rows, digest {found.total:x}{aside}")
    if hold and outcome.status == "unchanged":
        notes.append("nothing is held, since nothing has changed: --rescore scores again, to hold that")
    return Answer(result_as_json(outcome), text, notes)


def _clear(copy: Location) -> None:
    """Take an earlier result away, or a process that is killed would leave it as its own answer.

    Raises ConfigError where none can be written. What is wrong with a storage elsewhere may pass, and stops no run.
    """
    from lakehouse.storage import display_name, remove

    if not copy.remote:
        place = Path(display_name(copy))
        outputs.require("--result", place)
        if place.is_symlink():  # such as /dev/stdout: it would be taken away, not what it leads to
            raise ConfigError(f"--result {place} can't be written: it is a link, name the file itself")
    with suppress(LakehouseError, OSError):  # it is said when the result is written
        remove(copy)


def _follow(attempt: Attempt, job: Job, engine: str, every: float, *, as_json: bool, in_lines: bool) -> Answer:
    """Score what comes in until SIGTERM; each published run is told of as it ends."""
    from lakehouse import pipeline
    from lakehouse.operations import following
    from lakehouse.runs import ledger
    from lakehouse.views import terminal

    published = 0

    def told(result: pipeline.Result) -> None:
        nonlocal published
        if result.status != "published":
            return
        published += 1
        attempt.outcome = result
        if attempt.lines is not None:
            attempt.lines.emit(result_as_json(result))
        if not as_json:
            typer.echo(
                f"{result.status.upper()}  read {result.rows_read:,} = scored {result.rows_scored:,} + quarantined "
                f"{result.rows_quarantined:,}  run {result.run_id}"
            )

    with stopping_between() as goes_on, ExitStack() as stack:

        def ask() -> pipeline.Request:
            stack.close()
            attempt.run_id, attempt.outcome = pipeline.new_run_id(), None
            about = attempt.about() if in_lines else None
            say, watch = stack.enter_context(terminal.progress(sys.stderr, quiet=as_json, about=about))
            return pipeline.Request(engine, ledger.now(), attempt.run_id, say=say, watch=watch)

        last = following.follow(job, engine, ask, lambda: goes_on(every), told)
    ended = {"job": job.job, "status": "stopped", "published_runs": published, "last": last.run_id if last else None}
    return Answer(ended, lambda: f"stopped after {published:,} published {'run' if published == 1 else 'runs'}")


def backfill(
    lines: Lines,
    conf: Conf,
    first: Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", callback=day, help="the first date")],
    last: Annotated[
        str,
        typer.Option(
            "--to", metavar="YYYY-MM-DD", callback=day, help="the last date, which is scored too; also yesterday"
        ),
    ],
    every: Annotated[str, typer.Option("--every", help="day, week or month: the dates between them")] = "day",
    parallel: Annotated[int, typer.Option("--parallel", metavar="N", min=1, help="so many dates at a time")] = 1,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="go on with the other dates where one fails")
    ] = False,
    engine: Engine = "spark",
    target: Target = None,
    overrides: Overrides = None,
    rescore: Annotated[bool, typer.Option("--rescore", help="score again what is unchanged")] = False,
    as_of: Annotated[
        bool, typer.Option("--as-of", help="with the model and the input as they were at the end of each date, by UTC")
    ] = False,
    hours_after: Annotated[
        int,
        typer.Option("--hours-after", metavar="N", min=0, help="with --as-of: so many hours after the date's end"),
        Only("as_of"),
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="print an object a date on stdout as it ends, and one of all at the end")
    ] = False,
    log_format: LogFormat = "text",
    project_dir: ProjectDir = None,
) -> Answer:
    """Score every date from one to another, each once; dates that are scored already are found unchanged.

    Run it again to go on where it was stopped. With --as-of a date of which model or input are not known any more is
    refused (2), one that isn't over is not ready (6). Exit code: the worst of all dates, as of score.
    """
    from lakehouse.operations import backfill, checking
    from lakehouse.operations import days as calendar
    from lakehouse.planning.plan import require_known
    from lakehouse.views import dates

    require_known(engine, "--engine")
    asked = backfill.Asked(conf, target, tuple(overrides or ()), engine, rescore, as_of, hours_after)
    days = calendar.dates(first, last, every)

    def about(day: str, run_id: str) -> dict[str, Any]:
        return Attempt(conf, day, engine, run_id, asked.load(day)).about()

    with dates.progress(sys.stderr, days, quiet=as_json, about=about if log_format == "json" else None) as shown:

        def end(outcome: backfill.Outcome) -> None:
            shown.end(outcome)
            lines.emit(asdict(outcome))

        told = backfill.Shown(shown.begin, end)
        found = backfill.backfill(asked, days, parallel, keep_going=keep_going, shown=told)
    code = checking.worst([one.code for one in found])
    content = {"status": "failed" if code else "ok", "code": code, "dates": dates.counts(found)}
    return Answer(content, lambda: dates.summary(found), code=code)


def promote(
    conf: Conf,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="the version, compared as a challenger, such as 7")],
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Move the model's alias to a challenger's version, if the last comparison passes the job's promotion rules.

    Exit codes: 0 the alias is at that version, 2 configuration or usage, such as a version that was not compared,
    3 a rule stands against it, or somebody moved the alias since, 5 MLflow unavailable, or another promote is at work.
    """
    from lakehouse.operations import promotion

    found = jobs.records(conf, target, overrides)
    job = found[0][0] if found else jobs.without_date(conf, target, overrides)
    done = promotion.promote(job, version, found)
    moved = f"version {done.before} → {done.version}, as compared by run {done.run_id}"
    said = moved if done.status == "promoted" else f"at version {done.version} already"
    return Answer(asdict(done), lambda: f"{done.name}@{done.alias}: {said}")


def replay(
    attempt: Attempt,
    conf: Conf,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="required: the run that set the rows aside, or how its id begins"),
    ] = None,
    engine: Engine = "spark",
    target: Target = None,
    overrides: Overrides = None,
    current_model: Annotated[
        bool, typer.Option("--current-model", help="with the model that the job names now, not the run's version")
    ] = False,
    as_json: AsJson = False,
    log_format: LogFormat = "text",
    project_dir: ProjectDir = None,
) -> Answer:
    """Score the rows again that a run set aside, after a fix, and add those that pass to its scores, once.

    Exit codes as of score.
    """
    from lakehouse import pipeline
    from lakehouse.operations.replay import replay as again
    from lakehouse.planning.plan import require_known
    from lakehouse.runs import ledger
    from lakehouse.views import terminal

    attempt.run_id = pipeline.new_run_id()
    require_known(engine, "--engine")
    if run is None:
        listing = jobs.command_line(["runs", conf], target=target, overrides=overrides, project_dir=project_dir)
        raise ConfigError(f"--run is missing: name the run that set the rows aside; see `{listing}`")
    _, record = jobs.record_of(conf, target, overrides, run)
    attempt.date = record["date"]
    job = attempt.job = jobs.load(conf, attempt.date, target, overrides)
    about = attempt.about() if log_format == "json" else None
    with terminal.progress(sys.stderr, quiet=as_json, about=about) as (say, watch):
        request = pipeline.Request(engine, ledger.now(), attempt.run_id, say=say, watch=watch)
        outcome = attempt.outcome = again(job, record, request, current_model=current_model)
    left = f"lakehouse quarantine {shlex.quote(conf)}     # what is left"
    return Answer(result_as_json(outcome), lambda: terminal.outcome(job, outcome, left))
