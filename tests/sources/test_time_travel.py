"""`source.version` and `source.timestamp` of a Delta table."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from lakehouse.config.systems.delta import DeltaSource
from lakehouse.errors import ConfigError
from lakehouse.sources import delta
from tests.conftest import write

WRITTEN = [datetime(2026, 1, day, 12, tzinfo=UTC) for day in (1, 2, 3)]


@pytest.fixture
def table(workspace):
    """A table whose versions 0 to 2 were written at noon of the first three days of 2026."""
    for version, moment in enumerate(WRITTEN):
        write("lake/features", pa.table({"a": [version]}), mode="overwrite")
        at = moment.timestamp()
        os.utime(f"lake/features/_delta_log/{version:020d}.json", (at, at))
    return "lake/features"


@pytest.mark.parametrize(
    ("timestamp", "version"),
    [
        ("2026-01-01T12:00:00Z", 0),  # that moment's own commit is in it
        ("2026-01-02T11:59:59.999999Z", 0),
        ("2026-01-02T12:00:00", 1),  # of UTC
        ("2026-01-02T13:30:00+02:00", 0),
        ("2026-01-02", 0),
        ("2030-01-01", 2),
    ],
)
def test_a_timestamp_is_the_newest_version_of_its_time(table, timestamp, version):
    pinned = delta.pin(DeltaSource(type="delta", table=table, timestamp=timestamp))
    assert pinned.version == version


def test_a_timestamp_before_the_first_version_is_refused(table):
    source = DeltaSource(type="delta", table=table, timestamp="2026-01-01T11:59:59Z")
    with pytest.raises(ConfigError, match=r"source\.timestamp: .*its first version is of 2026-01-01 12:00:00 UTC"):
        delta.pin(source)


def test_a_timestamp_that_is_none_is_refused(table):
    with pytest.raises(ConfigError, match=r"source\.timestamp: 'yesterday' is no time: write one in ISO 8601"):
        delta.pin(DeltaSource(type="delta", table=table, timestamp="yesterday"))


def test_a_timestamp_of_no_table_says_that_there_is_none(table):
    with pytest.raises(ConfigError, match="there is no Delta table at lake/featurs"):
        delta.pin(DeltaSource(type="delta", table="lake/featurs", timestamp="2026-01-02"))
