"""How the plan's batches reach the worker: the carrier that the plan chose, on the engine that was asked for."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse import sources
from lakehouse.audit import Tally
from lakehouse.contract import conform
from lakehouse.engines import local
from lakehouse.errors import ConfigError
from lakehouse.plan import Plan, Request
from lakehouse.progress import listen
from lakehouse.sinks.target import COPIED
from lakehouse.sources import FILES, FRAME, Unit, delta
from lakehouse.staging import Staging

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Carrier:
    """How the plan's batches reach the worker: a few for a look, all for the run.

    `features` and `scores` give columns (all, where none is named) of the pinned input and of the staged rows as a
    frame of the engine, for checks that need all rows at once.
    """

    sample: Callable[[], Iterator[pa.RecordBatch]]
    run: Callable[[Staging], list[dict[str, Any]]]
    features: Callable[[Sequence[str]], Any]
    scores: Callable[[Sequence[str], Staging, Tally], Any]


def choose(plan: Plan, request: Request, stack: ExitStack) -> Carrier:
    """The carrier that the plan chose, on the engine that was asked for. Spark is started when first needed."""
    return _locally(plan, request) if request.engine == "local" else _on_spark(plan, request, stack)


def _locally(plan: Plan, request: Request) -> Carrier:
    if plan.carrier == FRAME:
        raise ConfigError(f"the local engine can't read {plan.pinned.name}: {plan.reason}; use --engine spark")
    cores = local.cores()

    def run(staging: Staging) -> list[dict[str, Any]]:
        with listen("127.0.0.1", request.watch) as address:
            sample = next(_first_batches(plan, 8_192), None)
            workers = local.workers(cores, plan.pinned.rows, sample, staging, plan.model.path)
            work = sorted(units_of(plan, workers), key=lambda unit: -unit.size)
            workers = min(workers, len(work))
            request.say("units", {"units": len(work), "tasks": workers, "rows": plan.pinned.rows})
            return local.run(work, workers, replace(staging, progress=address), plan.model.path)

    return Carrier(lambda: _first_batches(plan, 1_024), run, lambda c: _features(plan, c).to_pandas(), _staged_locally)


def _on_spark(plan: Plan, request: Request, stack: ExitStack) -> Carrier:
    from lakehouse.engines import spark as engine

    copied, whole = any(s.target.how == COPIED for s in plan.sinks), bool(plan.on_features.others)

    def session(on_scores: bool = False) -> SparkSession:
        """Spark with what it needs to read the input itself, to write to the target, or to read staged files."""
        at = plan.pinned.snapshot.location if isinstance(plan.pinned, delta.Pinned) else None
        read = at is not None and (plan.carrier == FRAME or whole)
        s3 = at is not None and read and at.spark_needs_s3(plan.reason)
        s3 = s3 or ((copied or on_scores) and plan.sink.root.spark_needs_s3())
        return stack.enter_context(engine.session(delta=read or copied, s3=s3))

    def features(columns: Sequence[str]) -> Any:
        if isinstance(plan.pinned, delta.Pinned):
            return delta.frame(session(), plan.pinned, columns or plan.pinned.schema.names)
        spark, (work, schema) = session(), _all_of(plan, columns)
        return engine.frame_of(spark, balance(work, engine.cores(spark)), schema)

    def scores(columns: Sequence[str], staging: Staging, tally: Tally) -> Any:
        return engine.staged(session(True), staging.scored_root, [f["path"] for f in tally.scored_files], columns)

    if plan.carrier != FRAME:

        def run_units(staging: Staging) -> list[dict[str, Any]]:
            spark = session(bool(staging.scoring.on_scores.others))
            _require_delta(spark, plan)
            _require_shared(spark, plan)
            cores = engine.cores(spark)
            shares = balance(units_of(plan, cores), cores)
            request.say("units", {"units": sum(map(len, shares)), "tasks": len(shares), "rows": plan.pinned.rows})
            with listen(engine.driver_host(spark), request.watch) as address:
                return engine.run_units(spark, shares, replace(staging, progress=address), plan.model)

        return Carrier(lambda: _first_batches(plan, 1_024), run_units, features, scores)

    assert isinstance(plan.pinned, delta.Pinned)  # no other source is read by Spark
    spark = session()
    _require_delta(spark, plan)
    rows = delta.frame(spark, plan.pinned, plan.columns)
    schema = pa.schema([plan.pinned.schema.field(c) for c in plan.columns])

    def run_frame(staging: Staging) -> list[dict[str, Any]]:
        _require_shared(spark, plan)
        with listen(engine.driver_host(spark), request.watch) as address:
            return engine.run_frame(spark, rows, replace(staging, progress=address), plan.model)

    return Carrier(lambda: (conform(b, schema) for b in engine.first_batches(rows)), run_frame, features, scores)


def _require_delta(spark: SparkSession, plan: Plan) -> None:
    """Raise ConfigError, before anything is scored, where the session lacks what it has to open itself."""
    from lakehouse.engines import equipment

    for why, table in plan.needs_delta.items():
        equipment.require_delta(spark, table, why)


def _require_shared(spark: SparkSession, plan: Plan) -> None:
    """Raise ConfigError, before anything is scored, where executors don't reach what the driver does."""
    from lakehouse.engines import probing

    if probing.one_machine(spark):
        return
    pinned, read = plan.pinned, None
    if isinstance(pinned, delta.Pinned) and plan.carrier == FILES and pinned.files:
        read = pinned.snapshot.location.join(pinned.files[0].relative)
    probing.require_shared(spark, plan.run_id, read, [plan.sink.root, plan.quarantine.root])


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
    """Units of these columns of the input, of all where none is named, and their schema."""
    # A query gave the columns that were asked for, of files there are all.
    columns = columns or (plan.pinned.schema.names if plan.carrier == FILES else plan.columns)
    return units_of(plan, 1, columns), pa.schema([plan.pinned.schema.field(c) for c in columns])


def _features(plan: Plan, columns: Sequence[str]) -> pa.Table:
    work, schema = _all_of(plan, columns)
    return pa.Table.from_batches([batch for unit in work for batch in unit.batches()], schema)


def _staged_locally(columns: Sequence[str], staging: Staging, tally: Tally) -> Any:
    """Staged rows as a pandas frame."""
    root = staging.scored_root
    paths = [f"{root.path}/{file['path']}" for file in tally.scored_files]
    rows = [pq.read_table(path, columns=list(columns) or None, filesystem=root.filesystem(), partitioning=None)
            for path in paths]  # fmt: skip
    return pa.concat_tables(rows).to_pandas()


def _first_batches(plan: Plan, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows` rows, for a look at the input."""
    for unit in units_of(plan, 1, batch_rows=rows):
        yield from unit.batches()
