"""Commands that make scores again: explain for one, verify for a run."""

from __future__ import annotations

from typing import Annotated

import typer

from lakehouse.cli import jobs
from lakehouse.cli.command import Answer
from lakehouse.cli.options import AsJson, Conf, Date, Overrides, ProjectDir, Target


def explain(
    conf: Conf,
    key: Annotated[
        str, typer.Option("--key", metavar="K[,K2]", help="the row's key; of several columns in the order of `keys`")
    ],
    date: Date = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="a past run, or how its id begins; default: what is live")
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="with what each feature contributed, and by which method")] = False,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Explain one score, live or of a past run, or why a row has none; and make it again.

    Exit codes: 0 it comes out equal, 3 it differs, 2 no such row, or its input or model is gone, 4 its model can't be
    used here, 5 an outside system is unavailable.
    """
    from lakehouse.operations.receipts import explaining
    from lakehouse.pipeline import Request, new_run_id
    from lakehouse.runs import ledger
    from lakehouse.views import receipts

    records = [row for _, row in jobs.records(conf, target, overrides)]
    record = jobs.record_of(conf, target, overrides, run)[1] if run else None
    day = record["date"] if record else date or next((row["date"] for row in records), None)
    job = jobs.load(conf, day, target, overrides)
    request = Request("spark", ledger.now(), new_run_id())
    told = explaining.explain(job, key, records, request, record, why=why)
    return Answer(told.as_json(), lambda: receipts.explanation(told), code=told.code)
