"""The command line, a function a command. What is heavy is imported late, within them."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lakehouse.errors import ConfigError, LakehouseError, of_the_machine

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.pipeline import Result
    from lakehouse.storage import Location

app = typer.Typer(
    name="lakehouse",
    help="Batch scoring for the lakehouse: features in, one atomic commit of scored rows out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _enter(folder: str | None) -> str | None:
    if folder is None:
        return None
    try:
        os.chdir(folder)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        typer.echo(f"failed: --project-dir {folder}: {why}", err=True)
        raise typer.Exit(ConfigError.exit_code) from None
    return folder


Conf = Annotated[str, typer.Argument(metavar="CONF", help="the job file, such as conf/games.yaml")]
Date = Annotated[str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="the run's logical date, {date}")]
Target = Annotated[str | None, typer.Option("--target", metavar="NAME", help="overrides of conf/lakehouse.yaml")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key, such as source.version=3")
]
ProjectDir = Annotated[
    str | None,
    typer.Option(
        "--project-dir", metavar="DIR", is_eager=True, callback=_enter,
        help="relative paths begin in this folder; default: the working directory",
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout, everything else on stderr")]


@app.command()
def score(
    conf: Conf,
    date: Date = None,
    engine: Annotated[str, typer.Option(help="spark, or local: the same worker without a JVM")] = "spark",
    target: Target = None,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and touch nothing")] = False,
    as_json: AsJson = False,
    result: Annotated[str | None, typer.Option(metavar="URI", help="write the JSON object to this file too")] = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="score and publish again although nothing changed")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="then read the tables of all sinks, and prove that they hold the same rows")
    ] = False,
    project_dir: ProjectDir = None,
) -> None:
    """Score what a job file names and publish it, once.

    Exit codes: 0 published or unchanged, 2 configuration, 3 blocked by checks, 4 model refused,
    5 outside system unavailable or partial, 6 input not ready, 130 stopped by Ctrl-C, 143 by SIGTERM, 1 a defect.
    """
    from lakehouse import pipeline
    from lakehouse.operations import verification
    from lakehouse.runs import ledger
    from lakehouse.storage import locate
    from lakehouse.views import planned, terminal

    run_id = pipeline.new_run_id()
    job: Job | None = None
    copy: Location | None = None
    outcome: pipeline.Result | None = None
    _heed_terminate()
    try:
        copy = locate(result) if result is not None else None
        _require_engine(engine)
        job = _job(conf, date, target, overrides)
        if verify:
            verification.require_two(job)
        with terminal.progress(sys.stderr, quiet=as_json or dry_run) as (say, watch):
            request = pipeline.Request(engine, ledger.now(), run_id, rescore, dry_run, say, watch)
            outcome = pipeline.score(job, request)
        proved = verification.verified(job) if verify and not dry_run else {}
    except Exception as error:
        _fail(error, _of(error, run_id, conf, date, job, engine, outcome), as_json, copy)
    except KeyboardInterrupt as stop:
        stopped = _stopped(stop, outcome)
        _fail(stopped, _of(stopped, run_id, conf, date, job, engine, outcome), as_json, copy)
    _emit(asdict(outcome), as_json, copy)
    for table, found in proved.items():
        aside = f" (not compared: {', '.join(found.uncompared)})" if found.uncompared else ""
        typer.echo(f"verified: {table}: {found.rows:,} rows, digest {found.total:x}{aside}", err=as_json)
    if not as_json:
        again = _again(conf, date, target, overrides, engine, project_dir)
        plan, width = outcome.plan, planned.terminal_width()
        typer.echo(planned.plan_text(plan, width) if plan else terminal.outcome(job, outcome, again))


@app.command()
def replay(
    conf: Conf,
    run: Annotated[
        str, typer.Option("--run", metavar="RUN", help="the run that set the rows aside, or how its id begins")
    ],
    engine: Annotated[str, typer.Option(help="spark, or local: the same worker without a JVM")] = "spark",
    target: Target = None,
    overrides: Overrides = None,
    current_model: Annotated[
        bool, typer.Option("--current-model", help="with the model that the job names now, not the run's version")
    ] = False,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> None:
    """Score the rows again that a run set aside, after a fix, and add those that pass to its scores, once.

    Exit codes as of score.
    """
    from lakehouse import pipeline
    from lakehouse.operations.replay import replay as again
    from lakehouse.runs import ledger
    from lakehouse.views import terminal

    run_id, date = pipeline.new_run_id(), None
    job: Job | None = None
    _heed_terminate()
    try:
        _require_engine(engine)
        _, record = _recorded(conf, target, overrides, run)
        date = record["date"]
        job = _job(conf, date, target, overrides)
        with terminal.progress(sys.stderr, quiet=as_json) as (say, watch):
            request = pipeline.Request(engine, ledger.now(), run_id, say=say, watch=watch)
            outcome = again(job, record, request, current_model=current_model)
    except Exception as error:
        _fail(error, _of(error, run_id, conf, date, job, engine), as_json, None)
    except KeyboardInterrupt as stop:
        stopped = _stopped(stop)
        _fail(stopped, _of(stopped, run_id, conf, date, job, engine), as_json, None)
    _emit(asdict(outcome), as_json, None)
    if not as_json:
        typer.echo(terminal.outcome(job, outcome, f"lakehouse quarantine {shlex.quote(conf)}     # what is left"))


@app.command()
def quarantine(
    conf: Conf,
    target: Target = None,
    overrides: Overrides = None,
    every: Annotated[
        bool, typer.Option("--all", help="with rows of superseded runs, and of those without a record")
    ] = False,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> None:
    """Count the job's quarantined rows by run and reason."""
    from lakehouse.operations import dated
    from lakehouse.planning import catalog, naming
    from lakehouse.runs import evidence
    from lakehouse.views import terminal

    found: list[dict[str, Any]] = []
    states: list[Location] = []

    def load(day: str) -> Job:
        return _job(conf, day, target, overrides)

    try:
        for job in dated.with_states(load):
            with catalog.placed(job) as at_places:
                states.append(naming.state_of(at_places))
        for job in dated.with_quarantines(load):
            with catalog.placed(job) as at_places:
                found += evidence.quarantined(at_places, every=every, states=states)
    except Exception as error:
        _fail(error, {"status": "failed", "message": _message(error)}, as_json, None)
    typer.echo(json.dumps(found, default=str, indent=1) if as_json else terminal.quarantine_text(found))


@app.command("report")
def show_report(
    conf: Conf,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="default: the job's newest run")] = None,
    target: Target = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", help="write the page to this file, and open nothing")] = None,
    gx: Annotated[
        Path | None,
        typer.Option("--gx", help="write Great Expectations' own results and pages, a suite each, to this folder"),
    ] = None,
    project_dir: ProjectDir = None,
) -> None:
    """Open the page about a run: verdict, rows, rules, drift, versions and timings."""
    import tempfile
    import webbrowser

    from lakehouse.planning import catalog
    from lakehouse.runs import evidence

    try:
        job, record = _recorded(conf, target, overrides, run)
        with catalog.placed(job) as at_places:
            if gx is not None:
                _write_native(gx, *evidence.native_pages(at_places, record["run_id"]))
                return
            run_id, page = evidence.page(at_places, record["run_id"])
        path = out or Path(tempfile.gettempdir(), f"lakehouse-{run_id}.html")
        path.write_bytes(page)
    except Exception as error:
        _fail(error, {"status": "failed", "message": _message(error)}, False, None)
    typer.echo(f"{path}: the page of run {run_id}")
    if out is None and sys.stdout.isatty():
        webbrowser.open(path.resolve().as_uri())


def _write_native(folder: Path, run_id: str, pages: Mapping[str, tuple[Any, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for suite, (result, page) in pages.items():
        (folder / f"{suite}.json").write_text(json.dumps(result, indent=1))
        (folder / f"{suite}.html").write_text(page)
    typer.echo(f"{folder}: Great Expectations' results of run {run_id}: {', '.join(pages) or 'it had no suites'}")


@app.command()
def status(
    conf: Conf,
    date: Date = None,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> None:
    """Say how the newest run of this job and date ended, of any date where none is named: object and codes of score."""
    from lakehouse.operations import lookup
    from lakehouse.planning import catalog
    from lakehouse.views import terminal

    try:
        date = date or next((row["date"] for _, row in _records(conf, target, overrides)), None)
        job = _job(conf, date, target, overrides)
        with catalog.placed(job) as at_places:
            outcome, code = lookup.status(at_places)
    except Exception as error:
        _fail(error, _of(error, "", conf, date, None, None), as_json, None)
    _emit(asdict(outcome), as_json, None)
    if not as_json:
        typer.echo(terminal.outcome(job, outcome, _again(conf, date, target, overrides, outcome.engine, project_dir)))
        if outcome.message:
            typer.echo(outcome.message)
    raise typer.Exit(code)


@app.command()
def runs(
    conf: Conf,
    target: Target = None,
    overrides: Overrides = None,
    limit: int = 20,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> None:
    """List the job's runs, newest first: when, what, versions, rows, rate, seconds a stage, verdict."""
    from lakehouse.views import terminal

    try:
        rows = [row for _, row in _records(conf, target, overrides)][:limit]
    except Exception as error:
        _fail(error, {"status": "failed", "message": _message(error)}, as_json, None)
    typer.echo(json.dumps(rows, default=str, indent=1) if as_json else terminal.runs_text(rows))


@app.command()
def sql(
    dialect: Annotated[str, typer.Argument(metavar="DIALECT", help="athena, duckdb, snowflake or spark")],
    conf: Conf,
    target: Target = None,
    overrides: Overrides = None,
    project_dir: ProjectDir = None,
) -> None:
    """Print SQL: how to read the job's tables there, and views: current scores, history, changes, runs, quarantine."""
    from lakehouse.views import sql

    try:
        text = sql.written(_undated(conf, target, overrides), dialect)
    except Exception as error:
        _fail(error, {"status": "failed", "message": _message(error)}, False, None)
    typer.echo(text, nl=False)


@app.command()
def demo(
    csv: Annotated[Path | None, typer.Option(help="score your own CSV file instead of the demo's games")] = None,
    label: Annotated[str | None, typer.Option(help="the CSV's column to predict")] = None,
    rows: Annotated[int, typer.Option(help="rows a date of the demo's games")] = 100_000,
    compare: Annotated[
        bool, typer.Option("--compare", help="run the plain spark_udf script beside it, as the first time")
    ] = False,
    on_snowflake: Annotated[
        bool, typer.Option("--snowflake", help="from and to Snowflake: on a stand-in for it, in a source checkout only")
    ] = False,
    project_dir: ProjectDir = None,
) -> None:
    """Make tables, train and register a model, score it by spark-submit, and show what comes out."""
    from lakehouse.demo import run, snowflake

    try:
        if on_snowflake and (csv or label):
            raise ConfigError("--snowflake shows the demo's games: leave out --csv and --label")
        if on_snowflake:
            snowflake.run(rows)
        else:
            run.run(csv, label, rows, compare)
    except Exception as error:
        _fail(error, {"status": "failed", "message": _message(error)}, False, None)


@app.command()
def init(
    model: Annotated[str, typer.Argument(help="the model: models:/name@alias")],
    table: Annotated[str, typer.Argument(help="the Delta table with its features")],
    out: Annotated[Path | None, typer.Option(help="the job file to write; default conf/<model>.yaml")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's tracking URI; default: as MLflow finds it")] = None,
    project_dir: ProjectDir = None,
) -> None:
    """Write a job file from a model and a table, with what was found in the model's signature."""
    from lakehouse.cli import draft

    try:
        written = draft.write(model, table, out, tracking_uri)
    except Exception as error:
        _fail(error, {"status": "failed", "message": _message(error)}, False, None)
    dated = " --date YYYY-MM-DD" if "{date}" in written.read_text() else ""
    command = f"{shlex.join(['lakehouse', 'score', str(written)])}{dated} --dry-run"
    typer.echo(
        f"wrote {written}; look it through, then: {' '.join([command, *map(shlex.quote, _within(project_dir))])}"
    )


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="write it to this file instead")] = None,
    project_dir: ProjectDir = None,
) -> None:
    """Print the JSON Schema of the job file, for editors."""
    from lakehouse.config import json_schema

    text = json.dumps(json_schema(), indent=2)
    try:
        if out is not None:
            out.write_text(text + "\n")
    except OSError as error:
        _fail(error, {"status": "failed", "message": _message(error)}, False, None)
    if out is None:
        typer.echo(text)


@app.command()
def sweep(
    conf: Conf,
    target: Target = None,
    overrides: Overrides = None,
    take_away: Annotated[bool, typer.Option("--remove", help="remove what is listed; without it, only list")] = False,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> None:
    """List, or remove, staged files that no table knows, of runs that are finished or dead."""
    from lakehouse.operations import dated, sweep
    from lakehouse.planning import catalog
    from lakehouse.views import terminal

    found: list[sweep.Leftover] = []
    try:
        for job in dated.with_tables(lambda day: _job(conf, day, target, overrides)):
            with catalog.placed(job) as at_places:
                found += sweep.sweep(at_places, take_away=take_away)
        found = list({(left.table, left.run_id): left for left in found}.values())  # dates may share a table
    except Exception as error:
        _fail(error, {"status": "failed", "message": _message(error)}, as_json, None)
    typer.echo(json.dumps([asdict(f) for f in found]) if as_json else terminal.leftovers(found, take_away))


@app.command()
def jars(
    s3: Annotated[bool, typer.Option("--s3", help="with those that let Spark itself read from S3 (650 MB)")] = False,
    project_dir: ProjectDir = None,
) -> None:
    """Print the Delta jars for spark-submit's --jars, fetched once and kept."""
    from lakehouse.engines import runtime

    try:
        found = [*runtime.jars(), *(runtime.jars([runtime.s3_coordinate()]) if s3 else ())]
        typer.echo(",".join(str(jar) for jar in found))
    except Exception as error:
        _fail(error, {"status": "failed", "message": _message(error)}, False, None)


_JAVA_STACK = re.compile(r"^\s*(?:at [\w.$/<>]+\([^)]*\)|\.\.\. \d+ more)\n", re.MULTILINE)


def _job(conf: str, date: str | None, target: str | None, overrides: list[str] | None) -> Job:
    from lakehouse.config import load_job

    return load_job(conf, date=date, target=target, overrides=overrides or (), environ=os.environ)


def _undated(conf: str, target: str | None, overrides: list[str] | None) -> Job:
    """The job where its date plays no part, as in where its tables are: any will do to fill the file in."""
    return _job(conf, "2000-01-01", target, overrides)


def _records(conf: str, target: str | None, overrides: list[str] | None) -> list[tuple[Job, dict[str, Any]]]:
    """The records of the job's runs of all dates, the newest first, each with the job as its date fills it in."""
    from lakehouse.operations import dated
    from lakehouse.planning import catalog, naming
    from lakehouse.runs import ledger

    found = []
    for job in dated.with_states(lambda day: _job(conf, day, target, overrides)):
        with catalog.placed(job) as at_places:
            found += [(job, row) for row in ledger.runs(naming.state_of(at_places), job.job)]
    return sorted(found, key=lambda pair: pair[1]["finished_at"], reverse=True)


def _recorded(
    conf: str, target: str | None, overrides: list[str] | None, run: str | None
) -> tuple[Job, dict[str, Any]]:
    """The job and the record of the run of this id, or of the beginning of it; of the newest where none is named."""
    from lakehouse.runs import ledger

    found = _records(conf, target, overrides)
    name = found[0][0].job if found else _undated(conf, target, overrides).job
    record = ledger.chosen([row for _, row in found], name, run)
    return next(job for job, row in found if row is record), record


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as somebody who stops a service sends it."""


class _Stopped(LakehouseError):
    """A run that was stopped from outside (exit 130 after Ctrl-C, 143 after SIGTERM); `result` where it stands."""

    exit_code = 128 + signal.SIGINT

    def __init__(self, message: str, result: object | None = None) -> None:
        super().__init__(message)
        self.result = result


class _StoppedByTerm(_Stopped):
    exit_code = 128 + signal.SIGTERM


def _heed_terminate() -> None:
    """Let SIGTERM end a run as Ctrl-C does, with what the run has left told."""

    def stop(*_: object) -> NoReturn:
        raise _Terminated

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def _stopped(stop: KeyboardInterrupt, outcome: Result | None = None) -> _Stopped:
    """The stop as an error; what it says and the result come from where the run stood, else from its `outcome`."""
    kind = _StoppedByTerm if isinstance(stop, _Terminated) else _Stopped
    ended = "nothing of this run was published" if outcome is None else f"the run was {outcome.status} before"
    said, *results = stop.args or (ended,)
    return kind(f"stopped: {said}", *results)


def _require_engine(engine: str) -> None:
    if engine not in ("spark", "local"):
        raise ConfigError(f"--engine: {engine!r} is none: use spark or local")


def _again(
    conf: str, date: str | None, target: str | None, overrides: list[str] | None, engine: str | None,
    project_dir: str | None,
) -> str:  # fmt: skip
    """The command that runs the same job once more, ready to be pasted into a shell, and what it would say."""
    words = ["lakehouse", "score", conf, *(["--date", date] if date else []), *(["--target", target] if target else [])]
    words += [word for override in overrides or () for word in ("--set", override)]
    words += ["--engine", "local"] if engine == "local" else []
    command = shlex.join([*words, *_within(project_dir)])
    return f"{command}     # again: UNCHANGED, same input, model and settings"


def _within(project_dir: str | None) -> list[str]:
    return ["--project-dir", project_dir] if project_dir else []


def _of(
    error: Exception,
    run_id: str,
    conf: str,
    date: str | None,
    job: Job | None,
    engine: str | None,
    outcome: Result | None = None,
) -> dict[str, Any]:
    """The result object of a run that ended with an error: the run's own where there is one, its `outcome` before it.

    An earlier run, which this one was about to finish, is none of its own.
    """
    from lakehouse.pipeline import Result

    found = outcome or getattr(error, "result", None)
    status = error.status if isinstance(error, LakehouseError) else "failed"
    name = job.job if job else Path(conf).stem
    own = found if isinstance(found, Result) and (found is outcome or found.run_id == run_id) else None
    base = own or Result(status, run_id, name, date, engine=engine)
    return asdict(replace(base, message=_message(error)))


def _message(error: Exception) -> str:
    ours = _ours(error)
    return str(ours) if ours is not None else f"{type(error).__name__}: {error}"


def _ours(error: Exception) -> LakehouseError | None:
    """The error as one that a person can put right; None for a defect."""
    return error if isinstance(error, LakehouseError) else of_the_machine(error)


def _fail(error: Exception, content: dict[str, Any], as_json: bool, copy: Location | None) -> NoReturn:
    """Report an error and leave with its exit code; a defect with its traceback, all with theirs by LAKEHOUSE_DEBUG."""
    from lakehouse.engines.quiet import debugging

    ours, debug = _ours(error), debugging()
    if ours is None or debug:
        text = "".join(traceback.format_exception(error))
        typer.echo(text if debug else _JAVA_STACK.sub("", text), err=True, nl=False)
    if ours is not None:
        typer.echo(f"{content['status'].replace('_', ' ')}: {ours}", err=True)
    _emit(content, as_json, copy)
    raise typer.Exit(ours.exit_code if ours is not None else 1) from None


def _emit(content: dict[str, Any], as_json: bool, copy: Location | None) -> None:
    """Print the object where it is asked for, and write it to `copy`; a run stands even where that fails."""
    text = json.dumps({k: v for k, v in content.items() if k != "plan" or v is not None}, default=str)
    if as_json:
        typer.echo(text)
    if copy is None:
        return
    from lakehouse.storage import shown, write_durably

    try:
        write_durably(copy, text.encode() + b"\n")
    except (LakehouseError, OSError) as error:
        typer.echo(f"warning: --result {shown(copy)} can't be written: {error}", err=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the process ends with the command's exit code."""
    app(args=arguments, prog_name="lakehouse")
