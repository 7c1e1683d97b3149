"""The command that says whether jobs could be run here: check."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from lakehouse.cli import jobs
from lakehouse.cli.command import Answer
from lakehouse.cli.options import AsJson, Date, Engine, Overrides, ProjectDir, Target


def check(
    conf: Annotated[list[str], typer.Argument(metavar="CONF...", help="job files, or folders of them")],
    date: Date = None,
    engine: Engine = "spark",
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Say whether jobs could be run here: versions that the model was logged with, trust, columns, suites, tables.

    Scores and writes nothing. The exit code is the worst of all jobs, as of score.
    """
    from lakehouse.operations import checking
    from lakehouse.planning.plan import require_known
    from lakehouse.views import checked

    require_known(engine, "--engine")
    every = list[checking.Checked]()
    for file in checking.files(conf):
        load = functools.partial(jobs.load, file, date, target, overrides)
        found = checking.check(file, load, engine, functools.partial(typer.echo, err=True))
        checking.warn_of_shared(found, every)
        every.append(found)
        if not as_json:
            typer.echo(checked.checked_text(every[-1]) + "\n")
    code = checking.worst([one.code for one in every])
    content = {"status": "failed" if code else "ok", "code": code, "jobs": [one.as_json() for one in every]}
    return Answer(content, lambda: checked.summary(every), code=code)
