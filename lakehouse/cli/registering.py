"""Commands that put a job's tables into other systems' catalogs: register athena."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli import jobs
from lakehouse.cli.command import Answer
from lakehouse.cli.options import AsJson, Conf, Overrides, ProjectDir, Target

if TYPE_CHECKING:
    from lakehouse.integrations.athena import Registered


def athena(
    conf: Conf,
    database: Annotated[str, typer.Option("--database", metavar="NAME", help="the database in Glue, which is there")],
    workgroup: Annotated[
        str, typer.Option("--workgroup", metavar="NAME", help="runs the views' statements")
    ] = "primary",
    output: Annotated[
        str,
        typer.Option("--output", metavar="URI", help="where Athena writes results; default: as the workgroup says"),
    ] = "",
    target: Target = None,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what there is to do, and change nothing")] = False,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Put the job's tables on S3 into AWS Glue, and its views into Athena; again: what changed since.

    Exit codes: 0 done or unchanged, 2 configuration, or something else of that name is there, 5 AWS is unavailable.
    """
    from lakehouse.connectors.athena import open_catalog
    from lakehouse.integrations import athena as integration

    job = jobs.without_date(conf, target, overrides)
    done = integration.register(job, open_catalog(database, workgroup, output), dry_run=dry_run)
    return Answer(asdict(done), lambda: _text(done, dry_run), indent=1)


def _text(done: Registered, dry_run: bool) -> str:
    """A line a table and view."""
    head = f"Glue's database {done.database}" + (", which a run without --dry-run would leave so:" if dry_run else "")
    lines = [f"  {c.action:<9}  {c.kind:<5}  {c.name}" + (f": {c.why}" if c.why else "") for c in done.changes]
    return "\n".join([head, *lines, *(f"note: {note}" for note in done.notes)])
