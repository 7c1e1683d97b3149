"""Commands that make scores again, explain for one, verify for a run; and those that prove one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli import jobs, outputs
from lakehouse.cli.command import Answer
from lakehouse.cli.options import AsJson, Conf, Date, Overrides, ProjectDir, Target
from lakehouse.cli.outputs import Writes
from lakehouse.cli.usage import Never
from lakehouse.errors import Blocked, ConfigError

if TYPE_CHECKING:
    from lakehouse.config import Job


Key = Annotated[
    str, typer.Option("--key", metavar="K[,K2]", help="the row's key; of several columns in the order of `keys`")
]
PastRun = Annotated[
    str | None, typer.Option("--run", metavar="RUN", help="a past run, or how its id begins; default: what is live")
]


def _of_row(
    conf: str, date: str | None, run: str | None, target: str | None, overrides: list[str] | None
) -> tuple[Job, list[dict[str, Any]], dict[str, Any] | None]:
    """The job of the day that a row is looked for in, the records of all its runs, and that of `run`."""
    records = [row for _, row in jobs.records(conf, target, overrides)]
    record = jobs.record_of(conf, target, overrides, run)[1] if run else None
    if record and date and record["date"] != date:
        raise ConfigError(
            f"--date {date}: run {record['run_id']} is of {record['date'] or 'no date'}; leave --date out"
        )
    day = record["date"] if record else date or next((row["date"] for row in records), None)
    return jobs.load(conf, day, target, overrides), records, record


def explain(
    conf: Conf,
    key: Key,
    date: Date = None,
    run: PastRun = None,
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

    job, records, record = _of_row(conf, date, run, target, overrides)
    request = Request("spark", ledger.now(), new_run_id())
    told = explaining.explain(job, key, records, request, record, why=why)
    return Answer(told.as_json(), lambda: receipts.explanation(told), code=told.code)


def verify(
    conf: Conf,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="the run, or how its id begins; default: the newest one")
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=1, help="so many of its rows, by chance"), Never(("every",))
    ] = 1_000,
    every: Annotated[bool, typer.Option("--all", help="all of its rows")] = False,
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", min=0, help="chooses the rows of --sample"), Never(("every",))
    ] = 0,
    date: Date = None,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Make scores of a run again, and compare them with those in the table: equal, other, missing, too many.

    Exit codes: 0 all that were looked at are equal, 3 some are not, 2 no such run, or its input or model is gone, 4 its
    model can't be used here, 5 an outside system is unavailable.
    """
    from lakehouse.operations.receipts import verifying
    from lakehouse.pipeline import Request, new_run_id
    from lakehouse.runs import ledger
    from lakehouse.views import receipts

    records = [row for _, row in jobs.records(conf, target, overrides)]
    name = jobs.without_date(conf, target, overrides).job
    record = jobs.choose(records, name, run, jobs.loader(conf, target, overrides), date)
    job = jobs.load(conf, record["date"], target, overrides)
    request = Request("spark", ledger.now(), new_run_id())
    found = verifying.verify(job, record, records, request, None if every else sample, seed)
    return Answer(found.as_json(), lambda: receipts.verified(found), code=0 if found.proved else Blocked.exit_code)


def prove(
    conf: Conf,
    key: Key,
    date: Date = None,
    run: PastRun = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="where the proof goes; default: proof.json"), Writes()
    ] = Path("proof.json"),
    with_features: Annotated[
        bool, typer.Option("--with-features", help="with the features' values, read from the run's input again")
    ] = False,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Write a proof of one score, which `lakehouse check-proof` checks without the lake.

    Exit codes: 0 the proof is written, 3 the row is not what its run has signed, 2 no such row or no receipt of its
    run, 5 an outside system is unavailable.
    """
    from lakehouse.operations.receipts import proofs, proving
    from lakehouse.pipeline import Request, new_run_id
    from lakehouse.runs import ledger
    from lakehouse.views import proofs as view

    job, records, record = _of_row(conf, date, run, target, overrides)
    proof = proving.prove(
        job, key, records, Request("spark", ledger.now(), new_run_id()), record, features=with_features
    )
    outputs.write(out, proof.content)
    return Answer(proofs.check(proof).as_json(), lambda: view.made(proof, str(out)))


def check_proof(
    file: Annotated[str, typer.Argument(metavar="FILE", help="what `lakehouse prove` wrote")],
    public_key: Annotated[
        str | None,
        typer.Option(
            "--public-key", metavar="PEM", help="the file of the public key that you trust to be the signer's"
        ),
    ] = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Check a proof of a score; needs neither the lake nor a network.

    Exit codes: 0 it holds, 3 something in it doesn't fit, 2 a file isn't there or no key.
    """
    from lakehouse.operations.receipts import proofs
    from lakehouse.runs import signing
    from lakehouse.views import proofs as view

    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    trusted = None if public_key is None else signing.public_key_in(public_key)
    found = proofs.check_file(content, file, trusted)
    return Answer(found.as_json(), lambda: view.checked(found), code=Blocked.exit_code if found.wrong else 0)
