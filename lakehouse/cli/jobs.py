"""The job that a command line names: loaded, with the records of its runs, and as a command line again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.runs.results import Result


def load(conf: str, date: str | None, target: str | None, overrides: list[str] | None) -> Job:
    """Read the job file. Raises ConfigError."""
    from lakehouse.config import load_job

    return load_job(conf, date=date, target=target, overrides=overrides or (), environ=os.environ)


def loader(conf: str, target: str | None, overrides: list[str] | None) -> Callable[[str], Job]:
    """What fills the job file in with a date."""
    return lambda day: load(conf, day, target, overrides)


def without_date(conf: str, target: str | None, overrides: list[str] | None) -> Job:
    """The job where its date plays no part, as in where its tables are: any will do to fill the file in."""
    return load(conf, "2000-01-01", target, overrides)


def records(conf: str, target: str | None, overrides: list[str] | None) -> list[tuple[Job, dict[str, Any]]]:
    """The records of the job's runs of all dates, the newest first, each with the job as its date fills it in."""
    from lakehouse.operations import lookup

    return lookup.recorded(loader(conf, target, overrides))


def record_of(
    conf: str, target: str | None, overrides: list[str] | None, run: str | None
) -> tuple[Job, dict[str, Any]]:
    """The job and the record of the run of this id, or of the beginning of it; of the newest where none is named.

    Raises ConfigError where there is no such run, or more than one.
    """
    found = records(conf, target, overrides)
    name = found[0][0].job if found else without_date(conf, target, overrides).job
    record = choose([row for _, row in found], name, run, loader(conf, target, overrides))
    return next(job for job, row in found if row is record), record


def choose(
    rows: list[dict[str, Any]], name: str, run: str | None, load: Callable[[str], Job], date: str | None = None
) -> dict[str, Any]:
    """The record of a run, as `ledger.choose_record`; where there is none it is said if the ledger has lost some."""
    from lakehouse.errors import ConfigError
    from lakehouse.runs import ledger

    try:
        return ledger.choose_record(rows, name, run, date)
    except ConfigError as error:
        if hint := lost_records(load):
            raise ConfigError(f"{error}\n{hint}") from error
        raise


def lost_records(load: Callable[[str], Job]) -> str:
    """What to do where runs have published of which the ledger has no record; empty where it has all, or can't tell."""
    from lakehouse.errors import LakehouseError
    from lakehouse.operations import reconciling

    try:
        lost = reconciling.lacking(load)
    except LakehouseError:
        return ""
    runs = "1 run that has no record" if len(lost) == 1 else f"{len(lost):,} runs that have no record"
    return f"the scored table remembers {runs}: `lakehouse reconcile` makes them again" if lost else ""


def command_line(
    words: list[str],
    *,
    date: str | None = None,
    target: str | None = None,
    overrides: list[str] | None = None,
    engine: str | None = None,
    project_dir: str | None = None,
) -> str:
    """`lakehouse` with these words and options, ready to be pasted into a shell."""
    options = [*(["--date", date] if date else []), *(["--target", target] if target else [])]
    options += [word for override in overrides or () for word in ("--set", override)]
    options += ["--engine", "local"] if engine == "local" else []
    options += ["--project-dir", project_dir] if project_dir else []
    return shlex.join(["lakehouse", *words, *options])


def next_command(job: Job, result: Result, *, date: str | None = None, **options: Any) -> str:
    """What may be typed after a run, and what that would do. `options`: as of `command_line`."""
    if result.status == "held":
        return f"{command_line(['publish', job.path, '--run', result.run_id], **options)}     # or discard it"
    again = command_line(["score", job.path], date=date, **options)
    if job.source.IN_RANGES:
        return f"{again}     # again: what came since; with --follow it goes on by itself"
    return f"{again}     # again: UNCHANGED, same input, model and settings"
