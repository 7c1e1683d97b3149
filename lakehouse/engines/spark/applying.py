"""Models that Spark itself applies: between two Python stages, whose rows it turns from features into answers.

The first stage makes of each batch of the input the rows that the model may see, in its features' types, and after them
one row more, whose features the model is known to answer and which carries the batch itself. Spark applies the model.
The second stage gives the batch the answers of its rows, by their numbers, and scores it as any other: a row without an
answer is one that the model left out. Rows keep their order on that way, unless the model moves them.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import models
from lakehouse.engines.spark import applied
from lakehouse.engines.spark.running import MANIFEST_DDL, SparkWork, collected
from lakehouse.engines.spark.shipping import ship_plan
from lakehouse.models import ANSWER, FrameInput, FrameModel, Part, Predictor
from lakehouse.schemas import Feature
from lakehouse.scoring.staging import BatchSource, Staging
from lakehouse.storage import Location, remove, remove_empty, write_durably

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@contextmanager
def readable(folder: str, shared: Location | None) -> Iterator[str]:
    """Where Spark reads a model: its folder here, or while the block runs a copy in `shared`, which executors reach."""
    if shared is None:
        yield f"file://{Path(folder).absolute()}"
        return
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    copies = {shared.join(path.relative_to(folder).as_posix()): path for path in files}
    try:
        for copy, path in copies.items():
            write_durably(copy, path.read_bytes())
        yield shared.hadoop_uri if shared.remote else f"file://{shared.path}"
    finally:
        for copy in copies:
            remove(copy)
        remove_empty(shared)


@dataclass
class Applied:
    """A model that Spark applies, opened. `answered`: the features of a row that it has answered, None before."""

    spark: SparkSession
    model: FrameModel
    features: tuple[Feature, ...]
    answered: pa.RecordBatch | None = None
    left_out: Mapping[bytes, Mapping[Part, pa.Array] | None] | None = None

    @property
    def predictor(self) -> Predictor:
        """What calls it on the driver with a few rows, an Arrow batch of features."""
        model = self.model
        return Predictor(
            self.predict, model.classes, model.without_classes, model.called, model.library,
            on_frames=True, probabilities=self._probabilities,
        )  # fmt: skip

    def predict(self, rows: pa.RecordBatch) -> Mapping[Part, pa.Array]:
        """All that the model answers to these rows. Raises `RowLeftOut` where it leaves one of them out.

        Then its answers to the others are kept, since whoever looks for that row asks for ever smaller parts of these.
        """
        names = [pickle.dumps(row) for row in rows.to_pylist()]
        if self.left_out is None or any(name not in self.left_out for name in names):
            self.left_out = self._ask(rows, names)
            if None not in self.left_out.values():
                answer, self.left_out = self.left_out, None
                return self._joined(rows, [answer[name] for name in names])
        return self._joined(rows, [self.left_out[name] for name in names])

    def _joined(self, rows: pa.RecordBatch, found: list[Mapping[Part, pa.Array] | None]) -> Mapping[Part, pa.Array]:
        answers = [answer for answer in found if answer is not None]
        if len(answers) < len(found):
            raise applied.RowLeftOut(self.model.dropped)
        self.answered = rows.slice(0, 1)
        return {part: pa.concat_arrays([answer[part] for answer in answers]) for part in self.model.parts}

    def _ask(self, rows: pa.RecordBatch, names: Sequence[bytes]) -> dict[bytes, Mapping[Part, pa.Array] | None]:
        numbered = pa.Table.from_batches([rows]).append_column(
            applied.ROW, pa.array(np.arange(len(rows), dtype=np.int32))
        )
        with collected(self.model.called):
            frame = self.spark.createDataFrame(numbered)
            table = self.model.apply(frame, [applied.ROW], self.model.parts).toArrow().combine_chunks()
        found: dict[bytes, Mapping[Part, pa.Array] | None] = dict.fromkeys(names)
        for place, row in enumerate(table[applied.ROW].to_pylist()):
            parts = {
                part: table[f"{ANSWER}{number}"].slice(place, 1).combine_chunks()
                for number, part in enumerate(self.model.parts)
            }
            found[names[row]] = {part: _one(array) for part, array in parts.items()}
        return found

    def _probabilities(self, answer: Any) -> Any:
        if self.model.probabilities is None:
            return None
        return np.array(answer[self.model.probabilities].to_pylist(), np.float64)


def _one(array: Any) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def open_applied(spark: SparkSession, model: models.FetchedModel, place: str, features: tuple[Feature, ...],
                 asked: tuple[str, ...]) -> Applied:  # fmt: skip
    """Open a model that Spark applies. Raises ModelRefused where it can't be."""
    schema = pa.schema([(str(f.name), f.type) for f in features])
    given = FrameInput(schema, applied.CARRIED, asked, model.output_names)
    return Applied(spark, models.open_on_frames(spark, model, place, given), features)


def run_applied(
    work: SparkWork,
    model: Applied,
    given: Sequence[Sequence[BatchSource]] | DataFrame,
    most: int,
    staging: Staging,
    archive: str,
) -> list[dict[str, Any]]:
    """Run the worker over units, shared out for tasks, or over a DataFrame, of at most so many; all manifest rows.

    Raises ModelRefused where the model raises in a task, which Spark does not tell the row of.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    parts = tuple(dict.fromkeys(output.part for output in staging.scoring.outputs))
    columns = [f"{ANSWER}{number}" for number in range(len(parts))]
    told = replace(staging.scoring, carried=(applied.ANSWERED, *columns))
    rows = model.answered
    handed = applied.Handed(parts, model.model.dropped, None if rows is None else rows.to_pylist()[0])
    given_to_model = pa.schema([(str(f.name), f.type) for f in model.features])
    schema = from_arrow_schema(pa.schema([*given_to_model, *applied.CARRIED]), prefer_timestamp_ntz=True)
    shares = None if hasattr(given, "columns") else [list(share) for share in given]
    with ship_plan(work.spark, replace(staging, scoring=told), shares or []) as plan:
        if shares is not None:
            numbers = work.spark.range(0, len(shares), 1, len(shares))
            made = numbers.mapInArrow(functools.partial(applied.rows_of_units, plan, handed), schema)
        else:
            named = given.toDF(*(f"c{n}" for n in range(len(given.columns))))  # type: ignore[union-attr]
            made = named.mapInArrow(functools.partial(applied.rows_of_frame, plan, handed), schema)
        kept = [applied.ROW, applied.OF, applied.BATCH]
        answers = model.model.apply(made, kept, parts)
        if rows is None:  # nothing is known that the model answers: all that it is given for are batches
            answers = _unanswered(made, answers, kept)
        elif model.model.moves_rows:
            answers = answers.repartition(applied.OF).sortWithinPartitions(applied.OF, applied.ROW)
            most = int(work.spark.conf.get("spark.sql.shuffle.partitions", None) or most)
        staged = answers.mapInArrow(functools.partial(applied.stage_answered, plan, archive, handed), MANIFEST_DDL)
        with collected(model.model.called):
            return work.collect(staged, most)


def _unanswered(made: DataFrame, answers: DataFrame, kept: Sequence[str]) -> DataFrame:
    from pyspark.sql import functions as F

    nothing = [F.lit(None).cast(f.dataType).alias(f.name) for f in answers.schema if f.name not in kept]
    return made.where(f"{applied.BATCH} is not null").select(*kept, *nothing)
