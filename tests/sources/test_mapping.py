"""Tables with column mapping, and partitions by timestamp: the files carrier reads them as Spark does."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.config.systems.delta import DeltaSource
from lakehouse.connectors.mapping import find_columns, rename
from lakehouse.errors import ConfigError
from lakehouse.sources import delta
from lakehouse.sources.delta import FILES, FRAME, PinnedTable, carrier, frame, pin, units
from tests.conftest import score, spark_settings
from tests.tables import assert_tables_equal

TABLE = "lake/features"

Sql = Callable[..., None]


@pytest.fixture
def sql(spark: Any, workspace: Path) -> Sql:
    """sql(texts…) runs statements in which {t} is the table lake/features."""

    def run(*texts: str) -> None:
        for text in texts:
            spark.sql(text.replace("{t}", f"delta.`{workspace / TABLE}`"))

    return run


def pinned(where: str | None = None) -> PinnedTable:
    return pin(DeltaSource(type="delta", table=TABLE, where=where))


def by_files(where: str | None = None, batch_rows: int = 2) -> pa.Table:
    """The rows as the files carrier reads them, by id."""
    read = pinned(where)
    assert carrier(read, read.schema.names) == (FILES, "Arrow reads this table's files as they are")
    batches = [batch for unit in units(read, read.schema.names, batch_rows, 2) for batch in unit.batches()]
    return pa.Table.from_batches(batches, read.schema).sort_by("id")


def assert_as_spark(spark: Any, *wheres: str | None) -> pa.Table:
    """The rows, which are those that Spark reads, with each of these conditions too."""
    for where in (*wheres, None):
        read = pinned(where)
        expected = frame(spark, read, read.schema.names).toArrow().cast(read.schema).sort_by("id")
        assert_tables_equal(by_files(where), expected)
    return expected


# Column mapping

COLUMNS = ("id BIGINT, s STRUCT<a: INT, b: STRING, gone: INT>, p STRING, l ARRAY<STRUCT<x: INT, y: STRING>>, "
           "m MAP<STRING, STRUCT<y: INT, z: ARRAY<STRUCT<w: DATE>>>>, n DOUBLE")  # fmt: skip
ROWS = """(1, named_struct('a', 1, 'b', 'x', 'gone', 7), 'q', array(named_struct('x', 1, 'y', 'a'), null),
             map('k', named_struct('y', 1, 'z', array(named_struct('w', date'2026-01-01')))), 1.5),
          (2, null, 'q', null, null, null),
          (3, named_struct('a', null, 'b', null, 'gone', null), null, array(), map(), 2.5)"""
DELETABLE = "'delta.enableDeletionVectors' = 'true'"


def create(sql: Sql, mode: str, columns: str = COLUMNS, rows: str = ROWS, partition: str = "p") -> None:
    """A table of these rows, a file a partition; mode `upgraded` gets its mapping after they are written."""
    mapped = "" if mode == "upgraded" else f", 'delta.columnMapping.mode' = '{mode}'"
    by = f"PARTITIONED BY ({partition}) " if partition else ""
    sql(
        f"CREATE TABLE {{t}} ({columns}) USING delta {by}TBLPROPERTIES ({DELETABLE}{mapped})",
        f"INSERT INTO {{t}} SELECT /*+ COALESCE(1) */ * FROM VALUES {rows}",
    )
    if mode == "upgraded":
        sql("ALTER TABLE {t} SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')")


@pytest.mark.parametrize("mode", ["upgraded", "name", "id"])
@pytest.mark.long
def test_columns_that_were_renamed_dropped_and_added_again(spark, sql, mode):
    """At every level of nesting, with files from before and after, and rows that are deleted."""
    create(sql, mode)
    renames = {"s.a": "aa", "l.element.x": "xx", "m.value.z.element.w": "ww", "p": "part", "n": "num"}
    sql(*(f"ALTER TABLE {{t}} RENAME COLUMN {old} TO {new}" for old, new in renames.items()))
    rows = assert_as_spark(spark, "num > 2", "part = 'q' AND id > 1", "part IS NULL")
    assert rows.to_pylist()[0] == {
        "id": 1, "s": {"aa": 1, "b": "x", "gone": 7}, "part": "q", "l": [{"xx": 1, "y": "a"}, None],
        "m": [("k", {"y": 1, "z": [{"ww": dt.date(2026, 1, 1)}]})], "num": 1.5}  # fmt: skip
    sql("ALTER TABLE {t} DROP COLUMNS (s.gone, num)", "ALTER TABLE {t} ADD COLUMNS (s.gone INT, num DOUBLE, n DOUBLE)")
    assert by_files()["num"].null_count == 3
    sql(
        "INSERT INTO {t} SELECT /*+ COALESCE(1) */ * FROM (SELECT 10L, named_struct('aa', 9, 'b', 'w', 'gone', 8), "
        "'q', array(named_struct('xx', 5, 'y', 'b')), map('z', named_struct('y', 3, 'z', array(null))), 7.5D, 8.5D "
        "UNION ALL SELECT 11L, null, 'q', null, null, 0.5D, null)",
        "DELETE FROM {t} WHERE id = 1 OR id = 11",
    )
    rows = assert_as_spark(spark, "num > 2", "num IS NULL", "n IS NOT NULL AND part = 'q'", "n < 1.0")
    assert rows["num"].to_pylist() == [None, None, 7.5]
    assert [row and row["gone"] for row in rows["s"].to_pylist()] == [None, None, 8]


@pytest.mark.parametrize("mode", ["upgraded", "name", "id"])
@pytest.mark.long
def test_names_that_change_places(spark, sql, mode):
    create(
        sql, mode, "id BIGINT, a INT, b INT, s STRUCT<a: INT, b: INT>", "(1, 2, 3, named_struct('a', 4, 'b', 5))", ""
    )
    for above in ("", "s."):
        for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
            sql(f"ALTER TABLE {{t}} RENAME COLUMN {above}{old} TO {new}")
    rows = assert_as_spark(spark, "a = 3", "a = 2", "b IN (2, 3)")
    assert rows.to_pylist() == [{"id": 1, "b": 2, "a": 3, "s": {"b": 4, "a": 5}}]
    assert pinned("a = 2").files == ()
    sql(
        "ALTER TABLE {t} DROP COLUMN a",
        "ALTER TABLE {t} ADD COLUMNS (a STRING)",
        "INSERT INTO {t} VALUES (2, 3, null, 'x')",
    )
    assert assert_as_spark(spark, "a = 'x'", "a IS NULL")["a"].to_pylist() == [None, "x"]


def test_an_empty_text_as_partition_of_a_mapped_table_is_left_to_spark(spark, sql):
    """Its folders don't name the partition; Delta's own writers keep null instead."""
    create(sql, "name", "id BIGINT, p STRING", "(1, 'text'), (2, null)")
    log = Path(TABLE, "_delta_log/00000000000000000001.json")
    log.write_text(log.read_text().replace('"text"', '""'))
    log.with_name(f".{log.name}.crc").unlink(missing_ok=True)
    log.with_suffix(".crc").unlink(missing_ok=True)
    assert carrier(pinned(), ["id", "p"]) == (FRAME, "partition column 'p' holds an empty text")
    assert pinned("p = ''").rows == 2
    assert carrier(pinned(), ["id"])[0] == FILES


def noted(stored: str | None, number: int) -> dict[str, str]:
    name = {"delta.columnMapping.physicalName": stored} if stored else {}
    return {**name, "delta.columnMapping.id": str(number)}


WANTED = pa.schema([
    pa.field("a", pa.int64(), metadata=noted("x", 1)),
    pa.field("b", pa.struct([pa.field("a", pa.int64(), metadata=noted("z", 4))]), metadata=noted("y", 2)),
    pa.field("c", pa.int64(), metadata=noted("w", 3)),
])  # fmt: skip


def numbered(name: str, kind: pa.DataType, number: int | None) -> pa.Field:
    return pa.field(name, kind, metadata={"PARQUET:field_id": str(number)} if number is not None else None)


def test_by_number_names_are_of_no_account():
    """A field of the table's name that is another one, at each level, is not taken for it."""
    parts = pa.struct([numbered("a", pa.int64(), 9), numbered("z", pa.int64(), None), numbered("q", pa.int64(), 4)])
    file = pa.schema([numbered("x", pa.int64(), 2), numbered("a", pa.int64(), 7), numbered("y", parts, 2)])
    with pytest.raises(ConfigError, match="fields 'x' and 'y' have one id, 2"):
        find_columns(file, WANTED, "id")
    file = file.set(0, numbered("x", pa.int64(), 8)).append(numbered("anything", pa.int64(), 1))
    batch = pa.RecordBatch.from_pylist([{"x": 1, "a": 2, "y": {"a": 3, "z": 4, "q": 5}, "anything": 6}], file)
    given = rename(batch, find_columns(file, WANTED, "id"))
    assert given.schema.names == ["a", "b"]
    assert (given["a"].to_pylist(), given["b"].field("a").to_pylist()) == ([6], [5])


def test_a_file_without_numbers_is_refused_where_the_table_goes_by_them():
    """Spark refuses it too."""
    with pytest.raises(ConfigError, match="knows its columns by Parquet field ids, and the file has none"):
        find_columns(pa.schema([("x", pa.int64())]), WANTED, "id")


def test_by_name_numbers_are_of_no_account():
    parts = pa.struct([numbered("a", pa.int64(), 4), numbered("z", pa.int64(), 5)])
    file = pa.schema([numbered("c", pa.int64(), 3), numbered("y", parts, 1), numbered("a", pa.int64(), 1)])
    batch = pa.RecordBatch.from_pylist([{"c": 1, "y": {"a": 2, "z": 3}, "a": 4}], file)
    given = rename(batch, find_columns(file, WANTED, "name"))
    assert given.schema.names == ["b"]
    assert given["b"].field("a").to_pylist() == [3]
    none = rename(batch, find_columns(pa.schema([("c", pa.int64())]), WANTED, "name"))
    assert (none.num_rows, none.schema.names) == (1, [])


# Runs


@pytest.fixture
def daily(make_job, imputing):
    """daily(**sections) → the job over lake/features, which has the features a and b."""
    return lambda **sections: make_job(imputing, predictions={"p": 0}, keep=["s"], **sections)


FEATURES = "id BIGINT, a DOUBLE, b DOUBLE, s STRUCT<x: INT>, other INT"
SCORABLE = "(1, 0.5, 1.5, named_struct('x', 1), 0), (2, null, 2.5, null, 0), (3, 1.5, 3.5, named_struct('x', 3), 0)"


def scores(columns: str = "id, p, s") -> list[dict[str, Any]]:
    table = pin(DeltaSource(type="delta", table="lake/scores"))
    read = columns.split(", ")
    batches = [batch for unit in units(table, read, 1000, 1) for batch in unit.batches()]
    return sorted(pa.Table.from_batches(batches).to_pylist(), key=lambda row: row["id"])


def test_a_mapped_table_is_scored_without_spark_as_spark_reads_it(spark, sql, daily):
    create(sql, "name", FEATURES, SCORABLE, "")
    sql("ALTER TABLE {t} RENAME COLUMN a TO old", "ALTER TABLE {t} RENAME COLUMN other TO a",
        "ALTER TABLE {t} RENAME COLUMN s.x TO y", "ALTER TABLE {t} RENAME COLUMN a TO other",
        "ALTER TABLE {t} RENAME COLUMN old TO a", "DELETE FROM {t} WHERE id = 3")  # fmt: skip
    done = score(daily(source={"where": "id < 10"}), "local")
    assert (done.status, done.carrier, done.rows_scored) == ("published", FILES, 2)
    by_worker = scores()
    done = score(daily(source={"where": "id + 0 < 10"}), "spark")
    assert (done.status, done.carrier, done.rows_scored) == ("published", FRAME, 2)
    assert scores() == by_worker
    assert [row["s"] for row in by_worker] == [{"y": 1}, None]


def test_a_run_is_unchanged_as_long_as_its_columns_are_the_same_ones(sql, daily, monkeypatch):
    """Of a table with column mapping they may be others in the same files."""
    create(sql, "name", FEATURES, SCORABLE, "")
    with monkeypatch.context() as before:  # as it was published by earlier versions
        before.setattr(delta, "_mapped", lambda snapshot, columns: [])
        assert score(daily()).status == "published"
    assert score(daily()).status == "unchanged"
    sql("INSERT INTO {t} VALUES (4, 0.1, 0.2, null, 0)")
    assert score(daily()).status == "published"
    sql("ALTER TABLE {t} RENAME COLUMN other TO another", "ALTER TABLE {t} ADD COLUMNS (more INT)", "OPTIMIZE {t}")
    assert len(pinned().files) == 1
    assert score(daily()).status == "unchanged"
    sql("ALTER TABLE {t} DROP COLUMN s", "ALTER TABLE {t} ADD COLUMNS (s STRUCT<x: INT>)")
    assert score(daily()).status == "published"
    assert [row["s"] for row in scores()] == [None] * 4
    assert score(daily()).status == "unchanged"


# Partitions by timestamp

MOMENTS = ["2026-01-01 00:00:00", "2026-07-01 12:34:56.789012", "0001-01-02 03:04:05.5"]


def moments() -> str:
    """A row for each moment, on the wall clock of the session, as an instant and without a zone; one of nulls."""
    rows = [f"({i}, timestamp'{at}', timestamp_ntz'{at}')" for i, at in enumerate(MOMENTS)]
    return ", ".join([*rows, f"({len(rows)}, null, null)"])


LOGGED = [("2026-07-01T16:34:56.789012Z", "0001-01-01 00:00:00.5"), (None, "9999-12-31 23:59:59.999999"),
          ("0001-01-02T08:00:07.000000Z", None)]  # fmt: skip
"""As Delta 4.4 logs them, in a session in New York."""


def test_partitions_by_timestamp_as_delta_logs_them(workspace):
    """The values are those that Spark 4.2 reads."""
    kinds = {"id": "long", "at": "timestamp", "ntz": "timestamp_ntz"}
    fields = [{"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in kinds.items()]
    features = {"readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"]}
    actions: list[dict[str, Any]] = [
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}},
        {"metaData": {"id": "0", "format": {"provider": "parquet", "options": {}}, "configuration": {},
                      "schemaString": json.dumps({"type": "struct", "fields": fields}),
                      "partitionColumns": ["at", "ntz"]}},
    ]  # fmt: skip
    log = Path(TABLE, "_delta_log/00000000000000000000.json")
    log.parent.mkdir(parents=True)
    for i, (at, ntz) in enumerate(LOGGED):
        pq.write_table(pa.table({"id": [i]}), Path(TABLE, f"{i}.parquet"))
        size = Path(TABLE, f"{i}.parquet").stat().st_size
        values = {"at": at, "ntz": ntz}
        actions.append({"add": {"path": f"{i}.parquet", "partitionValues": values, "size": size,
                                "modificationTime": 1, "dataChange": True}})  # fmt: skip
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))
    assert by_files().to_pylist() == [
        {
            "id": 0,
            "at": dt.datetime(2026, 7, 1, 16, 34, 56, 789012, dt.UTC),
            "ntz": dt.datetime(1, 1, 1, 0, 0, 0, 500000),
        },
        {"id": 1, "at": None, "ntz": dt.datetime(9999, 12, 31, 23, 59, 59, 999999)},
        {"id": 2, "at": dt.datetime(1, 1, 2, 8, 0, 7, 0, dt.UTC), "ntz": None},
    ]
    log.write_text(log.read_text().replace("0001-01-02T08:00:07.000000Z", "0001-01-02 03:04:05"))
    assert carrier(pinned(), ["id", "at"]) == (FRAME, "partition column 'at' holds timestamps without a zone")
    assert carrier(pinned(), ["id", "ntz"])[0] == FILES


@pytest.mark.long
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kathmandu"])
def test_partitions_by_timestamp(spark, sql, zone):
    """Delta writes instants in UTC, whatever the zone of the session that writes; and so for that which reads."""
    with spark_settings(spark, **{"spark.sql.session.timeZone": zone}):
        create(sql, "upgraded", "id BIGINT, at TIMESTAMP, ntz TIMESTAMP_NTZ", moments(), "at, ntz")
        assert_as_spark(spark)
    sql("ALTER TABLE {t} RENAME COLUMN at TO seen")
    rows = assert_as_spark(spark, "seen IS NULL", "ntz IS NOT NULL AND id > 2")
    assert [str(at) for at in rows["ntz"].to_pylist()[:2]] == MOMENTS[:2]


@pytest.mark.long
def test_partitions_by_timestamp_whose_zone_is_nowhere_are_left_to_spark(spark, sql):
    """Until 3.2 Delta wrote the wall clock of the writer's session, and reads it as that of the reader's."""
    create(sql, "upgraded", "id BIGINT, at TIMESTAMP, ntz TIMESTAMP_NTZ", moments(), "at, ntz")
    older = {"spark.databricks.delta.write.utcTimestampPartitionValues": "false"}
    assert carrier(pinned(), ["id", "at"])[0] == FILES
    with spark_settings(spark, **older, **{"spark.sql.session.timeZone": "America/New_York"}):
        sql("INSERT INTO {t} VALUES (100, timestamp'2026-01-01 00:00:00', null)")
    assert carrier(pinned(), ["id", "at"]) == (FRAME, "partition column 'at' holds timestamps without a zone")
    assert carrier(pinned(), ["id", "ntz"])[0] == FILES
