"""Whether executors reach the storage that the driver does: a tiny task a place before those that score."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.engines.spark import driver_host, run_each
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.storage import Location, content, display_name, remove, write_durably

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class ProbedPlace:
    """A file that the driver sees, what it stands for, and where an executor shall write beside it, if at all."""

    file: Location
    of: Location
    beside: Location | None = None


def one_machine(spark: SparkSession) -> bool:
    """Whether driver and executors are one process, so that nobody has to ask."""
    return bool(driver_host(spark)) and re.match(r"local(\[|$)", str(spark.conf.get("spark.master", ""))) is not None


def require_shared(spark: SparkSession, run: str, read: Location | None, roots: Sequence[Location]) -> None:
    """Raise ConfigError where executors can't read the file `read`, or what the driver writes below these roots, or
    can't write there. Leaves nothing behind.
    """
    written = {root: root.join(f"run-{run}", f"_probe-{uuid.uuid4().hex}") for root in roots}
    try:
        for file in written.values():
            write_durably(file, b"by the driver")
        places = [ProbedPlace(file, root, file.beside("-answered")) for root, file in written.items()]
        failing = run_each(spark, _reach, [*([ProbedPlace(read, read)] if read is not None else []), *places])
    finally:
        for file in written.values():
            remove(file)
    if failing:
        where = ", ".join(display_name(place.of) for place in failing)
        what = "read" if all(place.beside is None for place in failing) else "read and write"
        raise ConfigError(
            f"Spark's executors can't {what} what the driver can: {where}. They must reach the tables at the same "
            "paths and with rights of their own: name a storage that all machines share, or give them its credentials"
        )


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
