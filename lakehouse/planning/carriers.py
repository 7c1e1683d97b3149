"""How the plan's batches reach the worker: the carrier that the plan chose, on the engine that was asked for."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import sources
from lakehouse.checks import Tally
from lakehouse.engines import local, pacing
from lakehouse.errors import ConfigError
from lakehouse.models import Predictor
from lakehouse.planning import sampling
from lakehouse.planning.plan import Plan, Request
from lakehouse.planning.starting import begin, is_native, spark_needs
from lakehouse.progress import Watch, listen
from lakehouse.schemas import conform
from lakehouse.scoring import looking
from lakehouse.scoring.staging import BatchSource, StagedFile, Staging, join_batches
from lakehouse.sources import CHUNKS, FILES, FRAME, Unit

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.engines.spark import SparkWork

_TIMED = 8_192
"""Rows of a sample by which the local engine tells how long the whole will take, at most."""
_TURNS = 4
"""Units that a process of the local engine takes, at least, where there are several: who is faster takes more."""
_LEAST_BYTES, _MOST_BYTES = 64 << 20, 1 << 30
"""Input of a task on Spark: less does not pay, more is lost with an executor."""
MANY_TASKS = 4_096
"""Tasks of a DataFrame whose size is not known."""


@dataclass(frozen=True)
class Executors:
    """Executors with so many cores; `ask` has them do work, a task an item, and gives what came of each."""

    cores: int
    ask: Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class Carrier:
    """How the plan's batches reach the worker: a few for a look, all for the run.

    `probe` looks, before anything is scored, whether executors elsewhere are fit for it, where Spark is there already.
    `features` and `scores` give columns (all, where none is named) of the pinned input and of the staged rows, as an
    Arrow table or a frame of Spark, for checks that need all rows at once. `predictor` calls the model on the driver
    where Spark applies it, so that it can't be loaded there by itself. `executors` are there, or started, for what is
    too much for the driver; None where there is no Spark.
    """

    sample: Callable[[], Iterator[pa.RecordBatch]]
    run: Callable[[Staging], list[dict[str, Any]]]
    probe: Callable[[Staging], None]
    features: Callable[[Sequence[str]], Any]
    scores: Callable[[Sequence[str], Staging, Tally], Any]
    predictor: Predictor | None = None
    executors: Callable[[], Executors] | None = None


def choose(plan: Plan, request: Request, stack: ExitStack) -> Carrier:
    """The carrier that the plan chose, on the engine that was asked for. Spark is started when first needed."""
    if request.engine == "local":
        return _on_local(plan, request, stack)

    def executors() -> Executors:
        from lakehouse.engines import spark as engine

        delta, storages = spark_needs(plan)
        spark = stack.enter_context(engine.session(delta=delta, storages=storages))
        return Executors(engine.cores(spark), functools.partial(engine.ask_each, spark))

    return replace(_on_spark(plan, request, stack), executors=executors)


def _on_local(plan: Plan, request: Request, stack: ExitStack) -> Carrier:
    if plan.model.on_frames:
        raise ConfigError(f"{plan.model.uri} is {plan.model.on_frames}, which only Spark applies: use --engine spark")
    if plan.carrier == FRAME:
        raise ConfigError(f"the local engine can't read {plan.pinned.name}: {plan.reason}; use --engine spark")
    begin(plan, request, stack)  # now the rows of a query's result are known, too
    begun = list[int]()

    def sample() -> Iterator[pa.RecordBatch]:
        return sampling.look(_look_units(plan), sampling.fitness(plan), begin=begun.append)

    def run(staging: Staging) -> list[dict[str, Any]]:
        few = sampling.first_few(_look_units(plan)[begun[0] if begun else 0 :])
        work, workers, staging = _share_locally(plan, few, staging)
        request.say("units", {"units": len(work), "tasks": workers, "rows": plan.pinned.rows})
        with listen("127.0.0.1", _at_most(len(work), request.watch)) as address:
            return local.run(work, workers, replace(staging, progress=address), plan.model_folders)

    def features(columns: Sequence[str]) -> pa.Table:
        return _table(*_all_of(plan, columns))

    def scores(columns: Sequence[str], staging: Staging, tally: Tally) -> pa.Table:
        return _table(*_of_scores(columns, staging, tally))

    return Carrier(sample, run, lambda staging: None, features, scores)


def _at_most(units: int, watch: Watch | None) -> Watch | None:
    """`watch`, told of so many units at most: those that several processes read are counted by each of them."""
    return None if watch is None else lambda done, rows: watch(min(done, units), rows)


def _share_locally(plan: Plan, few: Sequence[Unit], staging: Staging) -> tuple[Sequence[BatchSource], int, Staging]:
    """The units, how many processes share them, and what these are told. `few`: units to tell by how long it takes.

    Where there are few units, and scoring them takes long, they are shared by blocks of rows.
    """
    rows, folders = plan.pinned.rows, plan.model_folders
    timed = next(join_batches((batch for unit in few for batch in unit.batches()), _TIMED), None)
    start = local.start_seconds(folders, native=is_native(plan))
    pace = pacing.measure(rows, start, timed, staging, folders) if rows is not None and timed is not None else None
    workers = local.workers(local.cores(), rows, len(plan.columns), pace, staging, start)
    wholes = sorted(units_of(plan, 1, batch_rows=staging.batch_rows), key=lambda unit: -unit.size)
    if divided := local.divide(wholes, workers, rows, pace, staging):
        return divided, workers, replace(staging, batch_rows=divided[0].rows)
    if workers < 2:
        return wholes, min(workers, len(wholes)), staging
    work = sorted(units_of(plan, _TURNS * workers, batch_rows=staging.batch_rows), key=lambda unit: -unit.size)
    return work, min(workers, len(work)), staging


def _on_spark(plan: Plan, request: Request, stack: ExitStack) -> Carrier:
    from lakehouse.engines import spark as engine

    source = sources.of(plan.job.source.type)

    def session() -> SparkSession:
        """Spark with what it needs to read the input itself, or to write to the target; all else is read by units."""
        delta, storages = spark_needs(plan)
        return stack.enter_context(engine.session(delta=delta, storages=storages))

    if plan.needs_delta and engine.is_given():  # our own session has what is needed
        _require_delta(session(), plan)

    def features(columns: Sequence[str]) -> Any:
        if plan.carrier == FRAME:
            return source.frame(session(), plan.pinned, columns or plan.pinned.schema.names, plan.reason)
        cores = engine.cores(spark := session())
        work, schema = _all_of(plan, columns, _TURNS * cores)
        return engine.frame_of(spark, spread(work, cores), schema)

    def scores(columns: Sequence[str], staging: Staging, tally: Tally) -> Any:
        spark, (work, schema) = session(), _of_scores(columns, staging, tally)
        return engine.frame_of(spark, spread(work, engine.cores(spark)), schema)

    def probe(staging: Staging) -> None:
        if engine.is_given() and not engine.one_machine(spark := session()):
            with engine.shipped(spark, plan.model_folders) as archive:
                _require_fit(spark, plan, staging, archive, request)

    if plan.model.on_frames:
        return _applied(session(), plan, request, stack, probe, features, scores)
    if plan.carrier != FRAME:

        def run_units(staging: Staging) -> list[dict[str, Any]]:
            spark = session()
            shares = shares_of(plan, engine.cores(spark), staging.batch_rows)
            request.say("units", {"units": sum(map(len, shares)), "tasks": len(shares), "rows": plan.pinned.rows})
            with _at_work(spark, plan, staging, request) as (work, staging, archive):
                return engine.run_units(work, shares, staging, archive)

        return Carrier(lambda: _sample(session, plan), run_units, probe, features, scores)

    spark = session()
    rows = source.frame(spark, plan.pinned, plan.columns, plan.reason)
    schema = pa.schema([plan.pinned.schema.field(c) for c in plan.columns])

    def run_frame(staging: Staging) -> list[dict[str, Any]]:
        most = most_tasks(engine.cores(spark), plan.pinned.size)
        with _at_work(spark, plan, staging, request) as (work, staging, archive):
            return engine.run_frame(work, rows.coalesce(most), most, staging, archive)

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
        if rows is None:
            given = shares_of(plan, cores, staging.batch_rows)
            most = len(given)
            request.say("units", {"units": sum(map(len, given)), "tasks": most, "rows": plan.pinned.rows})
        else:
            most = most_tasks(cores, plan.pinned.size)
            given = rows.coalesce(most)
        with _at_work(spark, plan, replace(staging, expected=None), request) as (work, told, archive):
            return engine.run_applied(work, model, given, most, told, archive) if rows is not None or given else []

    def sample() -> Iterator[pa.RecordBatch]:
        if rows is None:
            return _sample(lambda: spark, plan)
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


def shares_of(plan: Plan, cores: int, batch_rows: int | None = None) -> list[list[Unit]]:
    """The input as a share a task of Spark's: `tasks_for` so many bytes. `batch_rows`: as of `units_of`."""
    work = units_of(plan, cores, batch_rows=batch_rows)
    tasks = tasks_for(sum(unit.size for unit in work), cores)
    return balance(work if tasks == cores else units_of(plan, tasks, batch_rows=batch_rows), tasks)


def spread(work: Sequence[Unit], cores: int) -> list[list[Unit]]:
    """Units that are cut already as a share a task of Spark's, as `shares_of` does for the input."""
    return balance(work, tasks_for(sum(unit.size for unit in work), cores))


def tasks_for(size: int, cores: int) -> int:
    """How many tasks on Spark are worth it for an input of `size` bytes: max(3 × cores, size / 1 GB).

    So a lost executor costs a third of what its cores do at most, and no task is long. But a task costs some 50 to
    100 ms by itself: where less than 64 MB would be left for each there are fewer, down to one a core.
    """
    return max(cores, min(3 * cores, size // _LEAST_BYTES), -(-size // _MOST_BYTES))


def most_tasks(cores: int, size: int | None) -> int:
    """How many tasks the partitions of a DataFrame are joined into at most: about 1 GB each, but some for each core.

    `size`: bytes of the input, None where that isn't known. Each task writes a file of its own, and counts for itself.
    """
    return max(3 * cores, -(-size // _MOST_BYTES) if size is not None else MANY_TASKS)


def balance(work: Sequence[Unit], tasks: int) -> list[list[Unit]]:
    """Share units out to at most `tasks` lists of about the same number of bytes, largest first."""
    shares: list[list[Unit]] = [[] for _ in range(min(tasks, len(work)))]
    heap = [(0, i) for i in range(len(shares))]
    for unit in sorted(work, key=lambda u: -u.size):
        load, i = heapq.heappop(heap)
        shares[i].append(unit)
        heapq.heappush(heap, (load + unit.size, i))
    return shares


def _all_of(plan: Plan, columns: Sequence[str], tasks: int = 1) -> tuple[Sequence[Unit], pa.Schema]:
    """Units for so many tasks of these columns of the input (all where none is named), and of `where`; their schema."""
    # A query gave the columns that were asked for, of files there are all.
    whole = sources.of(plan.job.source.type).supported_columns(plan.pinned) if plan.carrier != CHUNKS else plan.columns
    names = tuple(dict.fromkeys([*(columns or whole), *plan.pinned.where_columns]))
    return units_of(plan, tasks, names), pa.schema([plan.pinned.schema.field(c) for c in names])


def _of_scores(columns: Sequence[str], staging: Staging, tally: Tally) -> tuple[Sequence[Unit], pa.Schema]:
    """Units of these columns of the staged rows, of all where none is named, and their schema."""
    schema = pa.schema([staging.scored_schema.field(c) for c in columns or staging.scored_schema.names])
    return [StagedFile(staging.scored_root, f["path"], f["bytes"], schema) for f in tally.scored_files], schema


def _table(work: Sequence[Unit], schema: pa.Schema) -> pa.Table:
    """All rows of units."""
    return pa.Table.from_batches([batch for unit in work for batch in unit.batches()], schema)


def _look_units(plan: Plan) -> Sequence[Unit]:
    """The input as units to be looked at from the front."""
    most = min(max(plan.job.model.batch_rows, looking.ROWS), sampling.READ_ROWS)
    return sampling.fine_at_front(units_of(plan, 1, batch_rows=most))


def _sample(session: Callable[[], SparkSession], plan: Plan) -> Iterator[pa.RecordBatch]:
    """A few rows for a look at the input: by the driver, else by executors, for which Spark is started."""
    from lakehouse.engines import spark as engine

    fit = sampling.fitness(plan)

    def further(work: Sequence[Unit]) -> Iterator[pa.RecordBatch]:
        spark = session()
        return sampling.ask_others(work, fit, engine.cores(spark), balance, functools.partial(engine.ask_each, spark))

    return sampling.look(_look_units(plan), fit, further)
