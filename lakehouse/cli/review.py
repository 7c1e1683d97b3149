"""Commands for runs that are held: diff, publish, discard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli import jobs, outputs
from lakehouse.cli.command import Answer, Attempt, result_as_json
from lakehouse.cli.options import AsJson, Conf, Engine, LogFormat, Overrides, ProjectDir, Target
from lakehouse.cli.outputs import Writes

Run = Annotated[str, typer.Option("--run", metavar="RUN", help="the held run, or how its id begins")]


def diff(
    conf: Conf,
    run: Run,
    by: Annotated[
        str | None, typer.Option("--by", metavar="COLUMN", help="figures for each of its values, too")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="write it as a page to this file, too"), Writes()] = None,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Compare a held run with the live scores: rows, decisions that flip, means that move; checks and drift of both."""
    from lakehouse.operations import difference, review
    from lakehouse.views import beside, differences, page

    job, waits = review.find(jobs.loader(conf, target, overrides), run)
    found = difference.difference(job, waits, by)
    live, held = review.facts_of(job, waits)
    told = beside.rows(live, held) if held else []
    content = {
        **found.as_json(),
        "checks": waits.record["checks"],
        "beside": [{"what": what, "live": one, "held": other} for what, one, other in told],
        "held_because": waits.why,
        "until": waits.until.isoformat(),
    }
    last = [f"held because of {waits.why}"] + ([f"{out}: the page of it"] if out else [])
    if out:
        outputs.write(out, page.render({**(held or {"status": "held"}), "live": content}))
    return Answer(content, lambda: differences.text(found, told, last))


def publish(
    attempt: Attempt,
    conf: Conf,
    run: Run,
    engine: Engine = "spark",
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    log_format: LogFormat = "text",
    project_dir: ProjectDir = None,
) -> Answer:
    """Commit a held run: the very files that were held, unless another run has published the slice since.

    Exit codes as of score.
    """
    from lakehouse.operations import review
    from lakehouse.pipeline import Request
    from lakehouse.planning.plan import require_known
    from lakehouse.runs import ledger
    from lakehouse.views import terminal

    require_known(engine, "--engine")
    load = jobs.loader(conf, target, overrides)
    job, waits = review.find(load, run)
    attempt.job, attempt.date, attempt.run_id = job, waits.record["date"], waits.intent.run_id
    about = attempt.about() if log_format == "json" else None
    with terminal.progress(sys.stderr, quiet=as_json, about=about) as (say, watch):
        request = Request(engine, ledger.now(), waits.intent.run_id, say=say, watch=watch)
        outcome = attempt.outcome = review.publish(job, waits, request)
    command = jobs.command_line(["runs", conf], target=target, overrides=overrides, project_dir=project_dir)
    return Answer(result_as_json(outcome), lambda: terminal.outcome(job, outcome, command))


def discard(
    conf: Conf,
    run: Run,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Give a held run up: its staged files go, the last good scores stay."""
    from lakehouse.operations import review
    from lakehouse.pipeline import Request
    from lakehouse.runs import ledger
    from lakehouse.views import terminal

    job, waits = review.find(jobs.loader(conf, target, overrides), run)
    with terminal.progress(sys.stderr, quiet=as_json) as (say, watch):
        review.discard(job, waits, Request("local", ledger.now(), waits.intent.run_id, say=say, watch=watch))
    content = {"status": "discarded", "run_id": waits.intent.run_id}
    return Answer(content, lambda: f"DISCARDED  run {waits.intent.run_id}; nothing of it was published")
