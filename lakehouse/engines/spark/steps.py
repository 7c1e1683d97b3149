"""Work on executors in steps, between which rows go from task to task: what comes to the driver is the last one's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.engines.spark import tasks
from lakehouse.engines.spark.running import collect
from lakehouse.engines.spark.shipping import ship, ship_package

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Step:
    """What `tasks` tasks do with rows: all with one value of `by` come to one of them, in the order of `order`.

    `work` is a function of a module of this package; it gets what was shipped and Arrow batches, and gives batches of
    `schema`. The first step of all has no `by`: its batches are the numbers of its tasks, one each.
    """

    work: Callable[[Any, Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
    schema: pa.Schema
    tasks: int
    by: str = ""
    order: tuple[str, ...] = ()


def run_steps(spark: SparkSession, what: object, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The rows of the last step. `what` is shipped to all of them; it is picklable. Raises what `run_units` does."""
    from pyspark.sql.pandas.types import from_arrow_schema

    ship_package(spark)
    with ship(spark, what) as name:
        frame: Any = spark.range(0, steps[0].tasks, 1, steps[0].tasks)
        for step in steps:
            if step.by:
                frame = frame.repartition(step.tasks, step.by).sortWithinPartitions(*step.order)
            schema = from_arrow_schema(step.schema, prefer_timestamp_ntz=True)
            frame = frame.mapInArrow(functools.partial(tasks.step, name, step.work), schema)
        return collect(frame)
