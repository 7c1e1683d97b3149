"""Commands for the first day: demo, init, and what editors (schema) and spark-submit (jars) are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli import jobs, outputs
from lakehouse.cli.command import Answer
from lakehouse.cli.options import ProjectDir
from lakehouse.cli.outputs import Writes
from lakehouse.errors import ConfigError


def demo(
    csv: Annotated[Path | None, typer.Option(help="score your own CSV file instead of the demo's games")] = None,
    label: Annotated[str | None, typer.Option(help="the CSV's column to predict")] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="rows a date of the demo's games")] = 100_000,
    compare: Annotated[
        bool, typer.Option("--compare", help="run the plain spark_udf script beside it, as the first time")
    ] = False,
    on_snowflake: Annotated[
        bool, typer.Option("--snowflake", help="from and to Snowflake: on a stand-in for it, in a source checkout only")
    ] = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Make tables, train and register a model, score it by spark-submit, and show what comes out."""
    from lakehouse.demo import run, snowflake

    if on_snowflake and (csv or label):
        raise ConfigError("--snowflake shows the demo's games: leave out --csv and --label")
    if on_snowflake:
        snowflake.run(rows)
    else:
        run.run(csv, label, rows, compare)
    return Answer()


def init(
    model: Annotated[str, typer.Argument(help="the model: models:/name@alias")],
    table: Annotated[str, typer.Argument(help="the Delta table with the model's features")],
    out: Annotated[Path | None, typer.Option(help="the job file to write; default conf/<model>.yaml"), Writes()] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's tracking URI; default: as MLflow finds it")] = None,
    project_dir: ProjectDir = None,
) -> Answer:
    """Write a job file from a model and a table, with what was found in the model's signature.

    For a job that reads messages conf/README.md has a file to begin with.
    """
    from lakehouse.cli import draft

    written = draft.write(model, table, out, tracking_uri)
    dated = ["--date", "YYYY-MM-DD"] if "{date}" in written.read_text() else []
    command = jobs.command_line(["score", str(written), *dated, "--dry-run"], project_dir=project_dir)
    return Answer(text=lambda: f"wrote {written}; look it through, then: {command}")


def schema(
    out: Annotated[Path | None, typer.Option(help="write it to this file instead"), Writes()] = None,
    project_dir: ProjectDir = None,
) -> Answer:
    """Print the JSON Schema of the job file, for editors."""
    from lakehouse.config import json_schema

    text = json.dumps(json_schema(), indent=2)
    if out is None:
        return Answer(text=lambda: text)
    outputs.write(out, text + "\n")
    return Answer()


def jars(
    s3: Annotated[bool, typer.Option("--s3", help="with those that let Spark itself read from S3 (650 MB)")] = False,
    gs: Annotated[bool, typer.Option("--gs", help="likewise from Google Cloud Storage")] = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Print the Delta jars for spark-submit's --jars, fetched once and kept."""
    from lakehouse.engines import runtime
    from lakehouse.storage.gcs import Gcs
    from lakehouse.storage.s3 import S3

    asked = [kind for kind, wanted in ((S3, s3), (Gcs, gs)) if wanted]
    found = [*runtime.jars(), *runtime.storage_jars(asked)]
    return Answer(text=lambda: ",".join(str(jar) for jar in found))
