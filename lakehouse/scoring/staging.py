"""The worker: batches in, staged Parquet files and a manifest out. Runs on executors and in local processes.

Nothing it writes is visible to a reader until the files are committed; every attempt writes files of its own.
"""

from __future__ import annotations

import json
import platform
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa

from lakehouse import models
from lakehouse.checks import profile, rules, timeline, uniqueness
from lakehouse.errors import LakehouseError, Unavailable
from lakehouse.progress import Address, tell, tell_failed
from lakehouse.schemas import COMPARED, COUNTS, FAILED, MANIFEST, QUARANTINED, SCORED, conform
from lakehouse.scoring.comparison import Challenger, Compared, compare, keep_input, timed
from lakehouse.scoring.explanations import Explainer, Explaining, with_predictor
from lakehouse.scoring.files import Files
from lakehouse.scoring.golden import Expected
from lakehouse.scoring.receipts import Leaves, Model, Receipts
from lakehouse.scoring.routing import GATHERED_BYTES, Predictors
from lakehouse.scoring.score import Counters, Predict, Scoring, SuiteCounts, score_rows, start_counters
from lakehouse.storage import Location
from lakehouse.storage.parquet import open_parquet

JOINED_BYTES, FRAME_BYTES = 8 << 20, 64 << 20
"""Small batches are joined up to this size in memory, those of a DataFrame, which are always small, up to the other."""
_MANY = 256
"""Of so many batches each may be so small that it takes up more than what is in it."""
_TELL_EVERY = 0.2  # seconds


class BatchSource(Protocol):
    """A picklable piece of the input."""

    def batches(self) -> Iterator[pa.RecordBatch]: ...


@dataclass(frozen=True)
class SideBySide:
    """The challengers that score the same rows, and the files that their predictions are staged in.

    `constants`: the columns that are the same in every row; `by`: the scored column whose values are also compared each
    by itself.
    """

    challengers: tuple[Challenger, ...]
    schema: pa.Schema
    root: Location
    constants: Mapping[str, Any]
    by: str | None = None


@dataclass(frozen=True)
class Staging:
    """All that a worker has to know, picklable. Schemas are those of the staged files (no slice columns).

    `unique_keys`: whether it is asked if a key occurs twice. `expected`: what a worker on another machine is held
    against. `direct`: the model is called past pandas and MLflow (`models.Predictor.direct`), which gave the sample the
    same answers. `provable`: the models of a run that leaves receipts, none where it leaves none.
    """

    run_id: str
    slice: Mapping[str, str]
    scoring: Scoring
    input_schema: pa.Schema
    scored_schema: pa.Schema
    quarantine_schema: pa.Schema
    scored_root: Location
    quarantine_root: Location
    lineage: Mapping[str, Any]
    digest: str
    method: str | None
    params: tuple[tuple[str, Any], ...]
    batch_rows: int
    progress: Address | None = None
    unique_keys: bool = True
    beside: SideBySide | None = None
    expected: Expected | None = None
    direct: bool = False
    explaining: Explaining | None = None
    provable: tuple[Model, ...] = ()

    @property
    def roots(self) -> list[Location]:
        """The folders that files are staged in."""
        return [self.scored_root, self.quarantine_root, *([self.beside.root] if self.beside is not None else [])]


@dataclass(frozen=True)
class StagedFile:
    """Columns of a staged file as a unit, for checks that need all rows at once."""

    root: Location
    path: str
    size: int
    schema: pa.Schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows, in batches."""
        with open_parquet(self.root, self.path) as file:
            for batch in file.iter_batches(columns=self.schema.names, use_threads=False):
                yield conform(batch, self.schema)


def folder_of(run_id: str, slice_texts: Mapping[str, str]) -> str:
    """Where a run's files lie below their table's root, spelled as the filesystem does.

    The log holds the slice's values, but Polars takes them from the path, where no other `name=value` may stand.
    """
    values = (f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in slice_texts.items())
    return "/".join([f"run-{run_id}", *values])


def open_models(folders: models.Folders, staging: Staging) -> tuple[Predict, tuple[Predict, ...]]:
    """What calls the run's model, and its challengers. Raises ModelRefused where the model can't be loaded here."""
    if (route := staging.scoring.route) is not None:
        return Predictors(folders, route, staging.method, staging.params, staging.digest, direct=staging.direct), ()
    own = models.load(folders[staging.digest], staging.digest, staging.method, staging.params)
    predict = own.way(direct=staging.direct)
    return (
        predict if staging.explaining is None else with_predictor(predict, own),
        open_challengers(folders, staging),
    )


def open_challengers(folders: models.Folders, staging: Staging) -> tuple[Predict, ...]:
    """What calls each challenger. One that can't be loaded here raises ModelRefused whenever it is called."""
    others = staging.beside.challengers if staging.beside is not None else ()
    return tuple(_open_challenger(folders[c.digest], c) for c in others)


def _open_challenger(folder: str | models.IsolatedFolder, challenger: Challenger) -> Predict:
    try:
        return models.load(folder, challenger.digest, challenger.method, challenger.params).predict
    except LakehouseError as error:
        refusal = error

    def refuse(given: Any) -> Any:
        raise refusal

    return refuse


class _Work:
    """What a worker spends its time on: reading, the model and writing; all else is checking."""

    def __init__(self) -> None:
        self.began, self.started, self.cpu = time.time(), time.perf_counter(), time.process_time()
        self.reading, self.writing, self.model = 0.0, 0.0, [0.0]

    def reads(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches, with the time that the next one takes."""
        waiting = iter(batches)
        while True:
            began = time.perf_counter()
            batch = next(waiting, None)
            self.reading += time.perf_counter() - began
            if batch is None:
                return
            yield batch
            del batch  # it may be large, and the next is read while nobody else holds it

    @contextmanager
    def writes(self) -> Iterator[None]:
        """Count the block's time as writing."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.writing += time.perf_counter() - began

    def to_dict(self, explaining: float, receipts: float) -> dict[str, float]:
        """Seconds by what they went to, and those of the processor in all."""
        known = {"reading": self.reading, "model": self.model[0], "writing": self.writing}
        known |= {"explaining": explaining} if explaining else {}
        known |= {"receipts": receipts} if receipts else {}
        rest = time.perf_counter() - self.started - sum(known.values())
        seconds = {**known, "checking": max(rest, 0.0), "core": time.process_time() - self.cpu}
        return {name: round(value, 4) for name, value in seconds.items()}


class _Comparing:
    """The challengers of a run at work: what is staged of them and what was seen so far."""

    def __init__(self, task: int, staging: Staging, folder: str, predict: Predict, predicts: Sequence[Predict]) -> None:
        beside = staging.beside
        assert beside is not None
        self.by, self.kept = beside.by, keep_input(staging.scoring, predict, beside.challengers)
        self.models = [(c, p, Compared()) for c, p in zip(beside.challengers, predicts, strict=True)]
        self.files = Files(COMPARED, task, beside.root, beside.schema, folder, beside.constants, staging.scoring.keys)

    def add(self, batch: pa.RecordBatch, rows: Any, good: pa.RecordBatch) -> None:
        self.files.write(compare(batch, rows, good, self.by, self.models, self.kept))

    def to_dict(self) -> dict[str, Any]:
        return {challenger.label: seen.to_dict() for challenger, _, seen in self.models}


def stage(
    task: int,
    batches: Iterable[pa.RecordBatch],
    staging: Staging,
    predict: Predict,
    on_batch: Callable[[int], None],
    challengers: Sequence[Predict] = (),
) -> list[dict[str, Any]]:
    """Score conformed batches and stage what comes out; the manifest rows of this worker.

    `challengers`: what calls those of `staging.beside`, in their order. `on_batch` is called with the rows read so far.
    Where the model fails on more rows than the run may set aside, the rest is not read. What would fail again, such as
    a model that can't be used, ends as one FAILED row instead of an exception, so that no engine tries it again; what
    may pass is raised.
    """
    counters = start_counters(staging.scoring, staging.input_schema)
    folder = folder_of(staging.run_id, staging.slice)
    same, named = staging.lineage, staging.scoring.keys
    scored = Files(SCORED, task, staging.scored_root, staging.scored_schema, folder, same, named)
    aside = (staging.quarantine_root, staging.quarantine_schema, folder, same, named)
    quarantined = Files(QUARANTINED, task, *aside, most=0)  # of keys and lineage alone
    keys = uniqueness.watch_keys(staging, task, folder)
    beside = _Comparing(task, staging, folder, predict, challengers) if staging.beside is not None else None
    work = _Work()
    explainer = None if staging.explaining is None else Explainer(staging.explaining, staging.scoring, predict)
    receipts = _receipts(task, staging, folder) if staging.provable else None
    predict = timed(predict, work.model) if staging.scoring.route is None else predict
    predict = beside.kept.keeping(predict) if beside is not None and beside.kept is not None else predict
    try:
        for batch in work.reads(batches):
            good, bad, rows = score_rows(batch, staging.scoring, predict, counters)
            told = explainer.add_to(good, batch, rows) if explainer is not None else good
            told = receipts.add_to(told, batch, rows) if receipts is not None else told
            with work.writes():
                scored.write(told)
                if bad is not None:
                    quarantined.write(bad)
            if beside is not None:
                beside.add(batch, rows, good)
            if keys is not None:
                keys.add(good)
            on_batch(counters.read)
            if counters.hopeless:
                break
        leaves = receipts.close() if receipts is not None else []
        with work.writes():
            scored.close()
            quarantined.close()
            if beside is not None:
                beside.files.close()
    except Unavailable:
        raise
    except LakehouseError as error:
        return [failure_row(task, error)]
    finally:
        scored.abandon()
        quarantined.abandon()
        if beside is not None:
            beside.files.abandon()
    detail = _counted(counters) | {"keys": keys and keys.close()}
    if beside is not None:
        detail["beside"] = beside.to_dict()
    if explainer is not None:
        detail["explained"] = explainer.to_dict()
    if receipts is not None:
        detail["leaves"] = leaves
    spent = work.to_dict(*(one.seconds if one is not None else 0.0 for one in (explainer, receipts)))
    at_work = timeline.entry(task, work.began, time.time(), platform.node(), counters.read, spent)
    text = json.dumps({**detail, "work": spent, "tasks": [at_work]})
    counts = {"task": task, "kind": COUNTS, "path": None, "rows": counters.read, "bytes": 0, "detail": text}
    return [*scored.done, *quarantined.done, *(beside.files.done if beside is not None else ()), counts]


def _counted(counters: Counters) -> dict[str, Any]:
    """What a worker counted, as its manifest tells it."""
    suites = (("features", counters.features), ("scores", counters.scores))
    return {
        "read": counters.read,
        "scored": counters.scored,
        "quarantined": counters.quarantined,
        "reasons": [[rule, column, count] for (rule, column), count in sorted(counters.reasons.items())],
        "isolation_calls": counters.isolation_calls,
        "hopeless": counters.hopeless,
        **({"by_model": sorted(counters.by_model.items())} if counters.by_model else {}),
        "profiles": {name: profile.dump(sketches) for name, sketches in counters.profiles.items()},
        "checks": {suite: _dump(checked) for suite, checked in suites if checked},
    }


def _receipts(task: int, staging: Staging, folder: str) -> Receipts:
    leaves = Leaves(staging.scored_root, folder, f"leaves-{task:05d}")
    return Receipts(staging.provable, staging.scoring, staging.scored_schema, leaves)


def _dump(checked: SuiteCounts) -> dict[str, Any]:
    return {"rows": [count.to_dict() for count in checked.rows], "tables": rules.dump(checked.tables)}


def stage_units(
    task: int,
    units: Iterable[BatchSource],
    staging: Staging,
    predict: Predict,
    challengers: Sequence[Predict] = (),
    joined_bytes: int | None = None,
) -> list[dict[str, Any]]:
    """Stage the batches of several units one after the other, small ones joined, telling the driver how far it is."""
    worker, told, done, read = f"{task}-{uuid.uuid4().hex[:8]}", [0.0], [0], [0]

    def batches() -> Iterator[pa.RecordBatch]:
        for unit in units:
            for batch in unit.batches():
                read[0] += batch.num_rows
                yield batch
            done[0] += 1
            on_batch()

    def on_batch(_: int = 0) -> None:
        now = time.monotonic()
        if now - told[0] > _TELL_EVERY:
            told[0] = now
            tell(staging.progress, worker, done[0], read[0])

    route = staging.scoring.route
    rows, size = (staging.batch_rows, joined_bytes) if route is None else (route.gathered_rows, GATHERED_BYTES)
    manifest = stage(task, join_batches(batches(), rows, size), staging, predict, on_batch, challengers)
    for row in manifest:
        if row["kind"] == FAILED:
            tell_failed(staging.progress, row)
    tell(staging.progress, worker, done[0], sum(m["rows"] for m in manifest if m["kind"] == COUNTS))
    return manifest


def join_batches(
    batches: Iterable[pa.RecordBatch], most: int, most_bytes: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of batches of one schema in their order, in batches of at most `most` rows: joined or split.

    A call of the model costs about the same for ten rows as for a thousand. What is joined stays below `most_bytes`
    (default: JOINED_BYTES), and a batch of more than half of either is handed on before the next is asked for.
    """
    most_bytes = JOINED_BYTES if most_bytes is None else most_bytes
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in _split(batches, most):
        if waiting and (rows + batch.num_rows > most or size + batch.nbytes > most_bytes):
            yield _one(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        if len(waiting) == _MANY:
            waiting = [_one(waiting)]
        rows, size = rows + batch.num_rows, size + batch.nbytes
        del batch
        if 2 * rows > most or 2 * size > most_bytes:
            whole = _one(waiting)
            waiting, rows, size = [], 0, 0
            yield whole
            del whole
    if waiting:
        yield _one(waiting)


def _split(batches: Iterable[pa.RecordBatch], most: int) -> Iterator[pa.RecordBatch]:
    """Those of more than `most` rows in as few pieces as that takes, of about the same length."""
    for batch in batches:
        rows = batch.num_rows
        each = -(-rows // -(-rows // most)) if rows else 1
        yield from (batch.slice(at, each) for at in range(0, max(rows, 1), each))


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.concat_batches(batches) if len(batches) > 1 else batches[0]


def stage_frame(
    task: int,
    batches: Iterable[pa.RecordBatch],
    staging: Staging,
    predict: Predict,
    challengers: Sequence[Predict] = (),
) -> list[dict[str, Any]]:
    """Stage the batches of a Spark partition, which come in Spark's own Arrow types."""

    @dataclass(frozen=True)
    class Partition:
        def batches(self) -> Iterator[pa.RecordBatch]:
            return (conform(batch, staging.input_schema) for batch in batches if batch.num_rows)

    return stage_units(task, [Partition()], staging, predict, challengers, FRAME_BYTES)


def failure_row(task: int, error: LakehouseError) -> dict[str, Any]:
    """A manifest row that tells the driver of an error that trying again would not mend."""
    detail = json.dumps({"kind": type(error).__name__, "message": str(error)})
    return {"task": task, "kind": FAILED, "path": None, "rows": 0, "bytes": 0, "detail": detail}


def manifest_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Manifest rows as one Arrow batch."""
    return pa.RecordBatch.from_pylist(rows, schema=MANIFEST)
