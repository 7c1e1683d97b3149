"""Commands that keep tables in order: sweep."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lakehouse.cli import jobs
from lakehouse.cli.command import Answer
from lakehouse.cli.options import AsJson, Conf, Overrides, ProjectDir, Target


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
    for job in dated.with_tables(lambda day: jobs.load(conf, day, target, overrides)):
        with catalog.resolve_names(job) as at_places:
            every += sweep.sweep(at_places, take_away=take_away)
    found = list({(left.table, left.run_id, left.what): left for left in every}.values())  # dates may share a table
    return Answer([asdict(left) for left in found], lambda: terminal.leftovers(found, take_away))
