"""Whether executors are fit to score, before they do: they reach the driver's storage, and are like the driver."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import models
from lakehouse.engines import likeness
from lakehouse.engines.spark import ask_each, cores, ship_plan
from lakehouse.engines.spark.tasks import plan_of
from lakehouse.errors import ConfigError, LakehouseError, ModelRefused
from lakehouse.scoring.golden import Expected
from lakehouse.scoring.staging import Staging
from lakehouse.storage import Location, content, display_name, remove, write_durably

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_MOST_TASKS = 1_024
_SHOWN = 3
"""Executors whose versions are shown."""


@dataclass(frozen=True)
class ProbedPlace:
    """A file that the driver sees, what it stands for, and where an executor shall write beside it, if at all."""

    file: Location
    of: Location
    beside: Location | None = None


@dataclass(frozen=True)
class Probe:
    """What one task looks at: a place, and its own environment by the plan and the model that were shipped."""

    place: ProbedPlace | None
    worker: tuple[str, str] | None


@dataclass(frozen=True)
class Shipped:
    """A model that executors have under the name `archive`; `warn` is told of what the job lets pass."""

    staging: Staging
    archive: str
    warn: Callable[[str], None]


def require_fit(
    spark: SparkSession, run: str, read: Location | None, roots: Sequence[Location], shipped: Shipped | None = None
) -> None:
    """Ask all executors at once, a task a core. Leaves nothing behind.

    Raises ConfigError where they can't read the file `read`, or what the driver writes below these roots, or can't
    write there; ModelRefused where their environment is another than the model's, or they answer its golden rows
    otherwise than the driver, unless the job lets that pass.
    """
    written = {root: root.join(f"run-{run}", f"_probe-{uuid.uuid4().hex}") for root in roots}
    try:
        for file in written.values():
            write_durably(file, b"by the driver")
        places = [ProbedPlace(file, root, file.beside("-answered")) for root, file in written.items()]
        places = [*([ProbedPlace(read, read)] if read is not None else []), *places]
        tasks = max(min(cores(spark), _MOST_TASKS), len(places))
        with ship_plan(spark, shipped.staging, []) if shipped else nullcontext("") as plan:
            worker = (plan, shipped.archive) if shipped else None
            probes = [Probe(places[n] if n < len(places) else None, worker) for n in range(tasks)]
            found = ask_each(spark, _answer, probes)
    finally:
        for file in written.values():
            remove(file)
    _require_reached([place for place, answer in zip(places, found, strict=False) if not answer["reached"]])
    if shipped is not None and shipped.staging.expected is not None:
        _require_alike(shipped.staging.expected, [answer["worker"] for answer in found], shipped.warn)


def _require_reached(failing: Sequence[ProbedPlace]) -> None:
    if failing:
        where = ", ".join(display_name(place.of) for place in failing)
        what = "read" if all(place.beside is None for place in failing) else "read and write"
        raise ConfigError(
            f"Spark's executors can't {what} what the driver can: {where}. They must reach the tables at the same "
            "paths and with rights of their own: name a storage that all machines share, or give them its credentials"
        )


def _require_alike(expected: Expected, workers: Sequence[dict[str, Any]], warn: Callable[[str], None]) -> None:
    several = {json.dumps([w["host"], w["versions"]]): w for w in workers}
    other = {d.package: d for w in several.values() for d in likeness.decisive(expected, w["versions"])}
    if other:
        differing = [w for w in several.values() if likeness.decisive(expected, w["versions"])]
        columns = {f"executor {w['host']}": w["versions"] for w in differing[:_SHOWN]}
        here = models.environment_here(expected.environment.packages)
        said = models.environment_refusal(list(other.values()), {"driver": here, **columns})
        if expected.strict:
            raise ModelRefused(said)
        warn(f"environment of executors: {models.environment_summary(list(other.values()))}")
    answers = [(w["host"], w["answers"]) for w in workers if w["answers"]]
    if answers and expected.strict:
        raise ModelRefused(likeness.other_answers_refusal(answers))
    if answers:
        warn(f"environment: the model answers its golden rows differently on executors: {answers[0][1]}")


def _answer(probe: Probe) -> dict[str, Any]:
    """On an executor: whether it reaches the place, and what it is like."""
    worker: dict[str, Any] = {}
    if probe.worker is not None:
        staging, folders = plan_of(*probe.worker)
        worker = likeness.look(folders, staging) if staging.expected is not None else {}
    return {"reached": probe.place is None or _reach(probe.place), "worker": worker}


def _reach(place: ProbedPlace) -> bool:
    """On an executor: whether it sees the driver's file, and can write beside it."""
    try:
        if place.beside is None:
            with place.file.filesystem().open_input_stream(place.file.path) as stream:
                return bool(stream.read(1))
        if content(place.file) is None:
            return False
        write_durably(place.beside, b"by an executor")
        remove(place.beside)
    except (LakehouseError, OSError, pa.ArrowException):
        return False
    return True
