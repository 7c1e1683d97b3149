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
from lakehouse.storage import Location, content, remove, shown, write_durably

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Place:
    """A file that the driver sees, and where an executor shall write beside it, if at all."""

    file: Location
    beside: Location | None = None


def one_machine(spark: SparkSession) -> bool:
    """Whether driver and executors are one process, so that nobody has to ask."""
    return bool(driver_host(spark)) and re.match(r"local(\[|$)", str(spark.conf.get("spark.master", ""))) is not None


def require_shared(spark: SparkSession, run: str, read: Location | None, roots: Sequence[Location]) -> None:
    """Raise ConfigError where executors can't read the file `read`, or what the driver writes below these roots, or
    can't write there. Leaves nothing behind.
    """
    written = [root.join(f"run-{run}", f"_probe-{uuid.uuid4().hex}") for root in dict.fromkeys(roots)]
    try:
        for file in written:
            write_durably(file, b"by the driver")
        places = [Place(file, file.beside("-answered")) for file in written]
        failing = run_each(spark, _reach, [*([Place(read)] if read is not None else []), *places])
    finally:
        for file in written:
            remove(file)
    if failing:
        where = ", ".join(shown(place.file if place.beside is None else _root(place.file)) for place in failing)
        what = "read" if all(place.beside is None for place in failing) else "read and write"
        raise ConfigError(
            f"Spark's executors can't {what} what the driver can: {where}. They must reach the tables at the same "
            "paths and with rights of their own: name a storage that all machines share, or give them its credentials"
        )


def _root(probe: Location) -> Location:
    """The table's folder of a file in a run's folder."""
    cut = len(probe.path) - len(probe.path.rsplit("/", 2)[0])
    return type(probe)(**{**vars(probe), "path": probe.path[:-cut], "uri": probe.uri[:-cut]})


def _reach(place: Place) -> bool:
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
