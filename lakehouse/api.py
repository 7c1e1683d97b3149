"""What people call in notebooks and scripts: score a job, preview it, read a table of Snowflake as a DataFrame.

Each works in the Spark session that is open, as it is. What the command line says in one line is the message of the
exception here, see lakehouse.errors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
from pydantic import ValidationError

from lakehouse import connectors, pipeline, sources
from lakehouse.config import Job, Source, build, load_job
from lakehouse.engines import scratch
from lakehouse.engines import spark as engine_of_spark
from lakehouse.errors import ConfigError, NotReady
from lakehouse.planning import carriers, catalog, environment, naming, ranges, routes
from lakehouse.planning.plan import Request, make_plan, require_known
from lakehouse.planning.prepare import prepare
from lakehouse.runs import ledger
from lakehouse.runs.results import Result
from lakehouse.schemas import EXPLANATIONS, REASONS, WARNINGS
from lakehouse.scoring.explanations import Explainer
from lakehouse.scoring.reasons import in_words
from lakehouse.scoring.score import score_rows, start_counters
from lakehouse.scoring.staging import open_models

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BATCH_ROWS = 65_536
"""As many rows are handed to Spark at once."""
_SAMPLE = 16
"""Batches on which a preview tries the model, at most."""


def score(
    conf: str | Path,
    *,
    date: str | None = None,
    engine: str = "spark",
    target: str | None = None,
    overrides: Sequence[str] = (),
    rescore: bool = False,
    dry_run: bool = False,
) -> Result:
    """Score what a job file names and publish it, once: what `lakehouse score` does, with the same arguments.

    `date` is YYYY-MM-DD, `overrides` are texts such as `checks.quarantine.max_fraction=0.05`, `engine` is "spark" (the
    open session, else one of its own) or "local". Returns the result as `--json` prints it.
    Raises the kinds of lakehouse.errors: ConfigError, Blocked (its `result` has the counts), ModelRefused, NotReady,
    Unavailable, Partial.
    """
    job = _job(conf, date, target, overrides)
    return pipeline.score(job, _request(engine, rescore=rescore, dry_run=dry_run))


def preview(
    conf: str | Path,
    *,
    date: str | None = None,
    engine: str = "spark",
    target: str | None = None,
    overrides: Sequence[str] = (),
    rows: int = 20,
) -> pd.DataFrame:
    """The first rows of a job's input with their scores, as a frame; nothing is written anywhere but on this disk.

    Columns are the keys, those to keep, the predictions, `_explanations` where the job has them, `_warnings` where
    rules warn, and `_reasons`: empty for a row that is scored, else why it would be set aside, and then it has no
    predictions. Arguments and errors as of `score`.
    """
    if rows < 1:
        raise ConfigError(f"rows: {rows} is none: ask for at least one")
    job, request = _job(conf, date, target, overrides), _request(engine, dry_run=True)
    ranges.require_plain(job, request)
    with catalog.open_job(job, "preview", engine, request.warn) as at_places:
        return _preview(at_places, request, rows)


def _preview(job: Job, request: Request, rows: int) -> pd.DataFrame:
    with scratch.folder() as folder, ExitStack() as stack:
        job, _ = ranges.take(job, naming.state_of(job), request, stack)
        plan = make_plan(job, request, folder)
        plan = environment.isolate(plan, routes.compare_environments(job, plan.model, request.say), request)
        plan = plan.read(request)
        if plan.has_nothing_new:
            raise NotReady(f"{job.source.name}: nothing new has come that could be shown")
        carry = carriers.choose(plan, request, stack)
        sample = list(_enough(carry.sample(), rows))
        tables = prepare(plan, sample, predictor=carry.predictor)
        scoring, left, parts = tables.staging.scoring, rows, list[pd.DataFrame]()
        predict = tables.predict if scoring.route is None else open_models(plan.model_folders, tables.staging)[0]
        explaining = tables.staging.explaining
        explainer = None if explaining is None else Explainer(explaining, scoring, predict)
        for batch in sample:
            few = batch.slice(0, left)
            scored, aside, numbers = score_rows(few, scoring, predict, start_counters(scoring))
            scored = scored if explainer is None else explainer.add_to(scored, few, numbers)
            parts += [_frame(scored), *([_frame(aside)] if aside is not None else [])]
            left -= min(left, batch.num_rows)
    names = [*scoring.keys, *scoring.keep, *(output.name for output in scoring.outputs)]
    together = pd.concat(parts, ignore_index=True)
    shown = [name for name in (*names, EXPLANATIONS, WARNINGS, REASONS) if name in together.columns]
    return together[shown]


def _enough(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Batches with so many rows, and some more for the model to be tried on."""
    seen = 0
    for batch in islice(batches, max(_SAMPLE, rows)):
        yield batch
        seen += batch.num_rows
        if seen >= max(rows, 1_024):
            return


def _frame(batch: pa.RecordBatch) -> pd.DataFrame:
    """Rows as a frame, their reasons as a text each."""
    frame: pd.DataFrame = batch.to_pandas()
    if REASONS not in frame:
        return frame.assign(**{REASONS: ""})
    return frame.assign(**{REASONS: list(map(in_words, batch.column(REASONS).to_pylist()))})


def _job(conf: str | Path, date: str | None, target: str | None, overrides: Sequence[str]) -> Job:
    return load_job(conf, date=date, target=target, overrides=overrides, environ=os.environ)


def _request(engine: str, *, rescore: bool = False, dry_run: bool = False) -> Request:
    require_known(engine, "engine")
    return Request(engine, ledger.now(), pipeline.new_run_id(), rescore, dry_run)


def read_snowflake(
    spark: SparkSession,
    connection: str,
    *,
    table: str | None = None,
    query: str | None = None,
    columns: Sequence[str] = (),
    where: str | None = None,
    timestamp: str | None = None,
) -> DataFrame:
    """A table or query in Snowflake as a Spark DataFrame; columns and condition go into the query.

    The query runs once, now; executors fetch the parts of its result whenever the DataFrame is evaluated, so that all
    evaluations see the same rows, for as long as Snowflake keeps the result (a day). `connection` is a name in
    connections.toml, `columns` are all by default, `where` is a condition in Snowflake's SQL, `timestamp` (ISO 8601)
    reads a table as it was then. Names in upper case become lower case; types are as for a job's source: NUMBER without
    decimals is long, instants are UTC, TIME, VARIANT, ARRAY and OBJECT are text.

    Raises ConfigError for what isn't there or is refused, Unavailable where Snowflake can't be reached.
    """
    try:
        asked = build(
            Source,
            type="snowflake",
            connection=connection,
            table=table,
            query=query,
            columns=tuple(columns),
            where=where,
            timestamp=timestamp,
        )
    except ValidationError as error:
        said = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise ConfigError(f"read_snowflake: {said}") from error
    source = sources.of(asked.type)
    with connectors.reuse_sessions([asked.type], "lakehouse read_snowflake"):
        pinned = source.pin(asked, columns)
        names = pinned.schema.names
        source.carrier(pinned, names)
        pinned = source.read(pinned, names)
    units = source.units(pinned, names, BATCH_ROWS, 1)
    work = carriers.balance(units, 2 * engine_of_spark.cores(spark))
    return engine_of_spark.frame_of(spark, work, pinned.schema)
