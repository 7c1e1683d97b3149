"""The command that answers requests: serve."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from lakehouse.cli.command import Answer
from lakehouse.cli.options import LogFormat, Overrides, ProjectDir, Target
from lakehouse.errors import ConfigError


def serve(
    confs: Annotated[list[str], typer.Argument(metavar="CONF…", help="the job files whose models answer")],
    host: Annotated[str, typer.Option(help="the address to listen at; 0.0.0.0 for all of the machine's")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="processes that answer")] = 2,
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="REF", help="where the API keys are: env:NAME or file:PATH; default: none"),
    ] = None,
    max_body: Annotated[int, typer.Option(metavar="MB", min=1, help="the largest body")] = 16,
    max_rows: Annotated[int, typer.Option(metavar="N", min=1, help="the most rows of a request")] = 10_000,
    timeout: Annotated[float, typer.Option(metavar="S", min=0.1, help="seconds a request may take")] = 30.0,
    queue: Annotated[int, typer.Option(metavar="N", min=1, help="requests that may wait in a worker")] = 16,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.01, help="requests a second of a client; default: any number")
    ] = None,
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
    from lakehouse.engines.threads import WITHOUT_THREADS

    os.environ.update(WITHOUT_THREADS)  # before a library is loaded that would start some
    try:
        from lakehouse.serving import gunicorn_server
    except ModuleNotFoundError as error:
        raise ConfigError(f"serve needs {error.name}, which is not installed: pip install lakehouse[serve]") from error
    from lakehouse.serving.access import read_keys
    from lakehouse.serving.limits import Limits
    from lakehouse.serving.preparing import JobFile

    files = tuple(JobFile(conf, target, tuple(overrides or ())) for conf in confs)
    each = None if rate is None else rate / workers
    limits = Limits(max_body << 20, max_rows, timeout, queue, each)
    settings = gunicorn_server.Settings(host, port, workers, max_requests, poll, log_format == "json")
    gunicorn_server.run(files, limits, lambda: read_keys(keys), settings, _say)
    return Answer()


def _say(message: str) -> None:
    typer.echo(f"serving {message}", err=True)
