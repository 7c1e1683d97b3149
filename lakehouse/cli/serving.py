"""Commands about answering requests: serve, and parity, which holds a server against what runs have published."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from lakehouse.cli import jobs
from lakehouse.cli.command import Answer
from lakehouse.cli.options import (
    AsJson,
    Conf,
    LogFormat,
    MaxBody,
    MaxRows,
    Overrides,
    ProjectDir,
    Rate,
    Target,
    Timeout,
)
from lakehouse.cli.usage import Never
from lakehouse.errors import Blocked, ConfigError
from lakehouse.views import logs


def serve(
    confs: Annotated[list[str], typer.Argument(metavar="CONF…", help="the job files whose models answer")],
    host: Annotated[str, typer.Option(help="the address to listen at; 0.0.0.0 for all of the machine's")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="processes that answer")] = 2,
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="REF", help="where the API keys are: env:NAME or file:PATH; default: none"),
    ] = None,
    max_body: MaxBody = 16,
    max_rows: MaxRows = 10_000,
    timeout: Timeout = 30.0,
    queue: Annotated[int, typer.Option(metavar="N", min=1, help="requests that may wait in a worker")] = 16,
    rate: Rate = None,
    poll: Annotated[
        float, typer.Option(metavar="S", min=0.5, help="seconds between two looks at alias and table")
    ] = 10.0,
    max_requests: Annotated[
        int, typer.Option("--max-requests", metavar="N", min=1, help="after about so many a worker is replaced")
    ] = 100_000,
    target: Target = None,
    overrides: Overrides = None,
    log_format: LogFormat = "text",
    project_dir: ProjectDir = None,
) -> Answer:
    """Answer requests over HTTP: score rows as the jobs' runs would, look published scores up.

    Ends when it is stopped, with exit code 0. Else: 2 configuration, 4 model refused, 5 an outside system is
    unavailable, 6 the input has no row to try the model on.
    """
    from lakehouse.engines.threads import WITHOUT_THREADS, share_one_heap

    os.environ.update(WITHOUT_THREADS)  # before a library is loaded that would start some
    share_one_heap()
    try:
        from lakehouse.serving import gunicorn_server
    except ModuleNotFoundError as error:
        raise ConfigError(f"serve needs {error.name}, which is not installed: pip install lakehouse[serve]") from error
    from lakehouse.serving.access import read_keys
    from lakehouse.serving.limits import Limits
    from lakehouse.serving.prepared import JobFile

    files = tuple(JobFile(conf, target, tuple(overrides or ())) for conf in confs)
    each = None if rate is None else rate / workers
    limits = Limits(max_body << 20, max_rows, timeout, queue, each)
    settings = gunicorn_server.Settings(host, port, workers, max_requests, poll, log_format == "json")
    gunicorn_server.run(files, limits, lambda: read_keys(keys), settings, partial(_say, settings.in_lines))
    return Answer()


def _say(in_lines: bool, message: str) -> None:
    if in_lines:
        logs.line("started", f"serving {message}", {})
    else:
        typer.echo(f"serving {message}", err=True)


def parity(
    conf: Conf,
    url: Annotated[str, typer.Option("--url", help="the server's address, such as http://127.0.0.1:8000")],
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", min=1, help="so many of the run's rows, by chance"), Never(("every",))
    ] = 1_000,
    every: Annotated[bool, typer.Option("--all", help="all of its rows")] = False,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="the run, or how its id begins; default: the newest one")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", min=0, help="chooses the rows of --rows"), Never(("every",))
    ] = 0,
    keys: Annotated[
        str | None, typer.Option("--keys", metavar="REF", help="where the API key is: env:NAME or file:PATH")
    ] = None,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Score rows of a run's input through a server, and compare with what the run published; the greatest difference.

    Exit codes: as of verify; 2 where the server has another model version than the run.
    """
    from lakehouse.pipeline import Request, new_run_id
    from lakehouse.runs import ledger
    from lakehouse.serving import parity as through_server
    from lakehouse.serving.access import first_key
    from lakehouse.views import receipts

    records = [row for _, row in jobs.records(conf, target, overrides)]
    published = [row for row in records if row["status"] == "published"]
    name = jobs.without_date(conf, target, overrides).job
    record = jobs.choose(published, name, run, jobs.loader(conf, target, overrides))
    job = jobs.load(conf, record["date"], target, overrides)
    request, key = Request("spark", ledger.now(), new_run_id()), first_key(keys) if keys else ""
    found = through_server.parity(job, record, records, request, url, key, None if every else rows, seed)
    return Answer(found.as_json(), lambda: receipts.verified(found), code=0 if found.proved else Blocked.exit_code)
