"""How the plan's batches reach the worker: the carrier that the plan chose, on the engine that was asked for."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import sources
from lakehouse.checks import Tally
from lakehouse.engines import local
from lakehouse.errors import ConfigError
from lakehouse.models import Predictor
from lakehouse.planning.plan import Plan, Request
from lakehouse.planning.starting import spark_needs
from lakehouse.progress import listen
from lakehouse.schemas import conform
from lakehouse.scoring.staging import StagedFile, Staging, join_batches
from lakehouse.sources import FILES, FRAME, Unit

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.engines.spark import SparkWork

_FEW = 64
"""Batches of a sample by which the local engine tells how long the whole will take, at most."""


@dataclass(frozen=True)
class Carrier:
    """How the plan's batches reach the worker: a few for a look, all for the run.

    `probe` looks, before anything is scored, whether executors elsewhere are fit for it, where Spark is there already.
    `features` and `scores` give columns (all, where none is named) of the pinned input and of the staged rows, as an
    Arrow table or a frame of Spark, for checks that need all rows at once. `predictor` calls the model on the driver
    where Spark applies it, so that it can't be loaded there by itself.
    """

    sample: Callable[[], Iterator[pa.RecordBatch]]
    run: Callable[[Staging], list[dict[str, Any]]]
    probe: Callable[[Staging], None]
    features: Callable[[Sequence[str]], Any]
    scores: Callable[[Sequence[str], Staging, Tally], Any]
    predictor: Predictor | None = None


def choose(plan: Plan, request: Request, stack: ExitStack) -> Carrier:
    """The carrier that the plan chose, on the engine that was asked for. Spark is started when first needed."""
    return _on_local(plan, request) if request.engine == "local" else _on_spark(plan, request, stack)


def _on_local(plan: Plan, request: Request) -> Carrier:
    if plan.model.on_frames:
        raise ConfigError(f"{plan.model.uri} is {plan.model.on_frames}, which only Spark applies: use --engine spark")
    if plan.carrier == FRAME:
        raise ConfigError(f"the local engine can't read {plan.pinned.name}: {plan.reason}; use --engine spark")
    cores = local.cores()

    def run(staging: Staging) -> list[dict[str, Any]]:
        with listen("127.0.0.1", request.watch) as address:
            sample = next(join_batches(islice(_first_batches(plan, 8_192), _FEW), 8_192), None)
            workers = local.workers(cores, plan.pinned.rows, sample, staging, plan.model_folders)
            work = sorted(units_of(plan, workers), key=lambda unit: -unit.size)
            workers = min(workers, len(work))
            request.say("units", {"units": len(work), "tasks": workers, "rows": plan.pinned.rows})
            return local.run(work, workers, replace(staging, progress=address), plan.model_folders)

    def features(columns: Sequence[str]) -> pa.Table:
        return _table(*_all_of(plan, columns))

    def scores(columns: Sequence[str], staging: Staging, tally: Tally) -> pa.Table:
        return _table(*_of_scores(columns, staging, tally))

    return Carrier(lambda: _first_batches(plan, 1_024), run, lambda staging: None, features, scores)


def _on_spark(plan: Plan, request: Request, stack: ExitStack) -> Carrier:
    from lakehouse.engines import spark as engine

    source = sources.of(plan.job.source.type)

    def session() -> SparkSession:
        """Spark with what it needs to read the input itself, or to write to the target; all else is read by units."""
        delta, s3 = spark_needs(plan)
        return stack.enter_context(engine.session(delta=delta, s3=s3))

    if plan.needs_delta and engine.is_given():  # our own session has what is needed
        _require_delta(session(), plan)

    def features(columns: Sequence[str]) -> Any:
        if plan.carrier == FRAME:
            return source.frame(session(), plan.pinned, columns or plan.pinned.schema.names, plan.reason)
        spark, (work, schema) = session(), _all_of(plan, columns)
        return engine.frame_of(spark, balance(work, engine.cores(spark)), schema)

    def scores(columns: Sequence[str], staging: Staging, tally: Tally) -> Any:
        spark, (work, schema) = session(), _of_scores(columns, staging, tally)
        return engine.frame_of(spark, balance(work, engine.cores(spark)), schema)

    def probe(staging: Staging) -> None:
        if engine.is_given() and not engine.one_machine(spark := session()):
            with engine.shipped(spark, plan.model_folders) as archive:
                _require_fit(spark, plan, staging, archive, request)

    if plan.model.on_frames:
        return _applied(session(), plan, request, stack, probe, features, scores)
    if plan.carrier != FRAME:

        def run_units(staging: Staging) -> list[dict[str, Any]]:
            spark = session()
            cores = engine.cores(spark)
            shares = balance(units_of(plan, cores), cores)
            request.say("units", {"units": sum(map(len, shares)), "tasks": len(shares), "rows": plan.pinned.rows})
            with _at_work(spark, plan, staging, request) as (work, staging, archive):
                return engine.run_units(work, shares, staging, archive)

        return Carrier(lambda: _first_batches(plan, 1_024), run_units, probe, features, scores)

    spark = session()
    rows = source.frame(spark, plan.pinned, plan.columns, plan.reason)
    schema = pa.schema([plan.pinned.schema.field(c) for c in plan.columns])

    def run_frame(staging: Staging) -> list[dict[str, Any]]:
        with _at_work(spark, plan, staging, request) as (work, staging, archive):
            return engine.run_frame(work, rows, staging, archive)

    return Carrier(lambda: (conform(b, schema) for b in engine.first_batches(rows)), run_frame, probe, features, scores)


def _applied(
    spark: SparkSession,
    plan: Plan,
    request: Request,
    stack: ExitStack,
    probe: Callable[[Staging], None],
    features: Callable[[Sequence[str]], Any],
    scores: Callable[[Sequence[str], Staging, Tally], Any],
) -> Carrier:
    """The carrier for a model that Spark applies to a DataFrame of the plan's rows; workers get its answers."""
    from lakehouse.engines import spark as engine

    if method := plan.job.model.method:
        raise ConfigError(
            f"model.method: {plan.model.on_frames} has no method {method!r}: leave model.method out; predictions name "
            "what is wanted of its answer, as in {class: 1} or {output: probability}"
        )
    shared = None if engine.one_machine(spark) else plan.sink.root.join(f"run-{plan.run_id}", "_model")
    place = stack.enter_context(engine.readable(plan.model.path, shared))
    wanted = [prediction.output for prediction in (plan.job.predictions or {}).values()]
    asked = tuple(output for output in wanted if isinstance(output, str))
    model = engine.open_applied(spark, plan.model, place, plan.features, asked)
    rows, schema = None, pa.schema([plan.pinned.schema.field(c) for c in plan.columns])
    if plan.carrier == FRAME:
        rows = sources.of(plan.job.source.type).frame(spark, plan.pinned, plan.columns, plan.reason)

    def run(staging: Staging) -> list[dict[str, Any]]:
        cores = engine.cores(spark)
        given = balance(units_of(plan, cores), cores) if rows is None else rows
        if rows is None:
            request.say("units", {"units": sum(map(len, given)), "tasks": len(given), "rows": plan.pinned.rows})
        with _at_work(spark, plan, replace(staging, expected=None), request) as (work, told, archive):
            return engine.run_applied(work, model, given, told, archive) if rows is not None or given else []

    def sample() -> Iterator[pa.RecordBatch]:
        if rows is None:
            return _first_batches(plan, 1_024)
        return (conform(batch, schema) for batch in engine.first_batches(rows))

    def probe_places(staging: Staging) -> None:
        probe(replace(staging, expected=None))  # nothing of the model is asked of executors

    return Carrier(sample, run, probe_places, features, scores, model.predictor)


@contextmanager
def _at_work(
    spark: SparkSession, plan: Plan, staging: Staging, request: Request
) -> Iterator[tuple[SparkWork, Staging, str]]:
    """Executors that are fit to score: the work on them, what they are told, and the name of their models."""
    from lakehouse.engines import spark as engine

    work = engine.SparkWork(spark)
    with (
        engine.shipped(spark, plan.model_folders) as archive,
        listen(engine.driver_host(spark), request.watch, work.fail) as address,
    ):
        _require_fit(spark, plan, staging, archive, request)
        yield work, replace(staging, progress=address), archive


def _require_delta(spark: SparkSession, plan: Plan) -> None:
    """Raise ConfigError, before anything is scored, where the session lacks what it has to open itself."""
    from lakehouse.connectors.spark import require_delta

    for why, table in plan.needs_delta.items():
        require_delta(spark, table, why)


def _require_fit(spark: SparkSession, plan: Plan, staging: Staging, archive: str, request: Request) -> None:
    """Raise, before anything is scored, where executors don't reach what the driver does (ConfigError), or have another
    environment than the model's or answer otherwise than the driver (ModelRefused).
    """
    from lakehouse.engines import probing
    from lakehouse.engines import spark as engine

    if engine.one_machine(spark):
        return
    read = sources.of(plan.job.source.type).first_file(plan.pinned) if plan.carrier == FILES else None
    shipped = probing.Shipped(staging, archive, request.warn)
    probing.require_fit(spark, plan.run_id, read, staging.roots, shipped)


def units(plan: Plan) -> int | None:
    """How many units this machine would cut the input into; None where Spark's partitions decide."""
    return len(units_of(plan, local.cores())) if plan.carrier != FRAME else None


def units_of(plan: Plan, tasks: int, columns: Sequence[str] = (), batch_rows: int | None = None) -> Sequence[Unit]:
    """The input as units for so many tasks; by default of the plan's columns, in batches as the model takes them."""
    source = sources.of(plan.job.source.type)
    return source.units(plan.pinned, columns or plan.columns, batch_rows or plan.job.model.batch_rows, tasks)


def balance(work: Sequence[Unit], tasks: int) -> list[list[Unit]]:
    """Share units out to at most `tasks` lists of about the same number of bytes, largest first."""
    shares: list[list[Unit]] = [[] for _ in range(min(tasks, len(work)))]
    heap = [(0, i) for i in range(len(shares))]
    for unit in sorted(work, key=lambda u: -u.size):
        load, i = heapq.heappop(heap)
        shares[i].append(unit)
        heapq.heappush(heap, (load + unit.size, i))
    return shares


def _all_of(plan: Plan, columns: Sequence[str]) -> tuple[Sequence[Unit], pa.Schema]:
    """Units of these columns of the input (of all where none is named) and of those of `where`; their schema."""
    # A query gave the columns that were asked for, of files there are all.
    whole = sources.of(plan.job.source.type).supported_columns(plan.pinned) if plan.carrier == FILES else plan.columns
    names = tuple(dict.fromkeys([*(columns or whole), *plan.pinned.where_columns]))
    return units_of(plan, 1, names), pa.schema([plan.pinned.schema.field(c) for c in names])


def _of_scores(columns: Sequence[str], staging: Staging, tally: Tally) -> tuple[Sequence[Unit], pa.Schema]:
    """Units of these columns of the staged rows, of all where none is named, and their schema."""
    schema = pa.schema([staging.scored_schema.field(c) for c in columns or staging.scored_schema.names])
    return [StagedFile(staging.scored_root, f["path"], f["bytes"], schema) for f in tally.scored_files], schema


def _table(work: Sequence[Unit], schema: pa.Schema) -> pa.Table:
    """All rows of units."""
    return pa.Table.from_batches([batch for unit in work for batch in unit.batches()], schema)


def _first_batches(plan: Plan, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows` rows, for a look at the input."""
    for unit in units_of(plan, 1, batch_rows=rows):
        yield from unit.batches()
