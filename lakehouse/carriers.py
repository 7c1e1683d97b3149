"""How the plan's batches reach the worker: the carrier that the plan chose, on the engine that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from lakehouse.contract import conform
from lakehouse.engines import local
from lakehouse.errors import ConfigError
from lakehouse.plan import Plan, Request
from lakehouse.progress import listen
from lakehouse.sinks.target import COPIED
from lakehouse.sources import delta as source
from lakehouse.staging import Staging
from lakehouse.storage import locate


@dataclass(frozen=True)
class Carrier:
    """How the plan's batches reach the worker: a few for a look, all for the run."""

    sample: Callable[[], Iterator[pa.RecordBatch]]
    run: Callable[[Staging], list[dict[str, Any]]]


def choose(plan: Plan, request: Request, stack: ExitStack) -> Carrier:
    """The carrier that the plan chose, on the engine that was asked for. Spark is started when first needed."""
    if request.engine == "local":
        if plan.carrier == source.FRAME:
            raise ConfigError(f"the local engine can't read {plan.pinned.name}: {plan.reason}; use --engine spark")
        cores = local.cores()

        def run_locally(staging: Staging) -> list[dict[str, Any]]:
            with listen("127.0.0.1", request.watch) as address:
                sample = next(_first_batches(plan, 8_192), None)
                workers = local.workers(cores, plan.pinned.rows, sample, staging, plan.model.path)
                shares = source.balance(units_of(plan, workers), workers)
                request.say("units", {"units": sum(map(len, shares)), "tasks": len(shares), "rows": plan.pinned.rows})
                return local.run(shares, replace(staging, progress=address), plan.model.path)

        return Carrier(lambda: _first_batches(plan, 1_024), run_locally)

    from lakehouse.engines import spark as engine

    copied = plan.sink.how == COPIED
    if plan.carrier == source.FILES:

        def run_files(staging: Staging) -> list[dict[str, Any]]:
            spark = stack.enter_context(
                engine.session(delta=copied, s3=copied and locate(plan.sink.uri).spark_needs_s3())
            )
            cores = engine.cores(spark)
            shares = source.balance(units_of(plan, cores), cores)
            request.say("units", {"units": sum(map(len, shares)), "tasks": len(shares), "rows": plan.pinned.rows})
            with listen(engine.driver_host(spark), request.watch) as address:
                return engine.run_units(spark, shares, replace(staging, progress=address), plan.model)

        return Carrier(lambda: _first_batches(plan, 1_024), run_files)

    reads_s3 = plan.pinned.snapshot.location.spark_needs_s3(plan.reason)
    s3 = reads_s3 or (copied and locate(plan.sink.uri).spark_needs_s3())
    spark = stack.enter_context(engine.session(delta=True, s3=s3))
    rows = source.frame(spark, plan.pinned, plan.columns)
    schema = pa.schema([plan.pinned.snapshot.schema.field(c) for c in plan.columns])

    def run_frame(staging: Staging) -> list[dict[str, Any]]:
        with listen(engine.driver_host(spark), request.watch) as address:
            return engine.run_frame(spark, rows, replace(staging, progress=address), plan.model)

    return Carrier(lambda: (conform(b, schema) for b in engine.first_batches(rows)), run_frame)


def units(plan: Plan) -> int | None:
    """How many units this machine would cut the input into; None where Spark's partitions decide."""
    return len(units_of(plan, local.cores())) if plan.carrier == source.FILES else None


def units_of(plan: Plan, cores: int) -> list[source.FileUnit]:
    return source.units(plan.pinned, plan.columns, plan.job.model.batch_rows, cores)


def _first_batches(plan: Plan, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows` rows, for a look at the input."""
    for unit in source.units(plan.pinned, plan.columns, rows, 1):
        yield from unit.batches()
