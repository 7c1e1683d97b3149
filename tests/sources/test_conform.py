"""The files carrier reads a Delta table as Spark does, column for column, or leaves it to Spark, or refuses it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.config.systems.delta import DeltaSource
from lakehouse.connectors import parquet
from lakehouse.errors import ConfigError
from lakehouse.schemas import conform, is_widened_by
from lakehouse.scoring import files
from lakehouse.sources.delta import FILES, FRAME, carrier, frame, pin, units
from lakehouse.storage import locate
from tests.conftest import spark_settings, write
from tests.tables import assert_tables_equal

TABLE = "lake/features"


@pytest.fixture
def sql(spark, workspace):
    """sql(text) runs a statement in which {t} is the table lake/features; the session's settings are put back."""

    def run(text: str, **settings: str) -> None:
        before = {name: spark.conf.get(name, None) for name in settings}
        for name, value in settings.items():
            spark.conf.set(name, value)
        try:
            spark.sql(text.replace("{t}", f"delta.`{Path(TABLE).absolute()}`"))
        finally:
            for name, value in before.items():
                spark.conf.set(name, value) if value is not None else spark.conf.unset(name)

    return run


def by_files(
    columns: Sequence[str] | None = None, where: str | None = None, batch_rows: int = 1000, key: str = "id"
) -> pa.Table:
    """The rows as the files carrier reads them, by key."""
    pinned = pin(DeltaSource(type="delta", table=TABLE, where=where))
    columns = columns or pinned.snapshot.schema.names
    read = list(dict.fromkeys([*columns, *(pinned.where.columns if pinned.where else ())]))
    assert carrier(pinned, read) == (FILES, "Arrow reads this table's files as they are")
    batches = [batch for unit in units(pinned, read, batch_rows, 2) for batch in unit.batches()]
    schema = pa.schema([pinned.snapshot.schema.field(c) for c in read])
    assert all(batch.schema.equals(schema) and 0 < batch.num_rows <= batch_rows for batch in batches)
    return pa.Table.from_batches(batches, schema).sort_by(key).select(columns)


def by_spark(spark: Any, columns: Sequence[str] | None = None, where: str | None = None, key: str = "id") -> pa.Table:
    """The rows as Spark reads them, by key; only nullability is taken from the table's schema."""
    pinned = pin(DeltaSource(type="delta", table=TABLE, where=where))
    columns = columns or pinned.snapshot.schema.names
    rows = frame(spark, pinned, columns).toArrow()
    return rows.cast(pa.schema([pinned.snapshot.schema.field(c) for c in columns])).sort_by(key)


def left_to_spark(columns: Sequence[str]) -> str:
    """Why Spark has to read these columns."""
    chosen, reason = carrier(pin(DeltaSource(type="delta", table=TABLE)), columns)
    assert chosen == FRAME
    return reason


# Types


@pytest.mark.parametrize("stored", ["INT96", "TIMESTAMP_MICROS"])
@pytest.mark.quick("INT96")
def test_timestamps_of_all_years(spark, sql, stored):
    texts = ["0001-01-01 00:00:00", "1582-10-04 23:59:59", "1582-10-10 12:00:00", "1582-10-15 00:00:00",
             "1677-09-21 00:12:43", "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00", "2262-04-11 23:47:17",
             "9999-12-31 23:59:59.999999"]  # fmt: skip
    rows = ", ".join(f"({i}, timestamp'{text}Z')" for i, text in enumerate(texts)) + ", (99, null)"
    sql(
        f"CREATE TABLE {{t}} USING delta AS SELECT * FROM VALUES {rows} AS v(id, at)",
        **{"spark.sql.parquet.outputTimestampType": stored},
    )
    assert by_files()["at"].to_pylist() == [
        dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC) for text in texts
    ] + [None]
    assert_tables_equal(by_files(), by_spark(spark))


def test_the_first_rows_of_a_file_are_shown_with_the_years_they_have(workspace):
    """Spark writes INT96; Arrow reads it as nanoseconds unless told."""
    last = pa.table({"at": pa.array([253_402_300_799_999_999], pa.timestamp("us"))})
    pq.write_table(last, "file.parquet", use_deprecated_int96_timestamps=True)
    assert files.head(locate("."), "file.parquet", ["at"], 1) == last.to_pylist()


@pytest.mark.parametrize("stored", ["INT96", "TIMESTAMP_MICROS"])
@pytest.mark.long
def test_old_days_in_the_calendar_of_spark_2_are_refused(spark, sql, stored):
    """Spark converts them when it reads: Arrow would move them by days."""
    legacy = {"spark.sql.parquet.datetimeRebaseModeInWrite": "LEGACY", "spark.sql.parquet.outputTimestampType": stored,
              "spark.sql.parquet.int96RebaseModeInWrite": "LEGACY"}  # fmt: skip
    values = (
        "{0}L AS id, date'{1}' AS d, timestamp'{1} 00:00:00Z' AS at, array(date'{1}') AS l, map(date'{1}', 'x') AS m, "
        "named_struct('at', timestamp'{1} 00:00:00Z') AS s, timestamp_ntz'1000-01-01' AS ntz"
    )
    sql("CREATE TABLE {t} USING delta AS SELECT " + values.format(1, "1900-01-01"), **legacy)
    assert_tables_equal(by_files(), by_spark(spark))
    sql("INSERT INTO {t} SELECT " + values.format(2, "1000-01-01"), **legacy)
    for name in ("d", "at", "l", "m", "s"):
        with pytest.raises(ConfigError, match=f"column '{name}': .* in the calendar of Spark 2 and holds 1000-01-0"):
            by_files(["id", name])
    assert_tables_equal(by_files(["id", "ntz"]), by_spark(spark, ["id", "ntz"]))
    sql("INSERT OVERWRITE {t} SELECT * FROM {t}")
    assert_tables_equal(by_files(), by_spark(spark))


def test_timestamps_without_zone_and_dates(spark, sql):
    sql(
        "CREATE TABLE {t} USING delta AS SELECT * FROM VALUES "
        "(1, timestamp_ntz'0001-01-01 00:00:00', date'0001-01-01'), "
        "(2, timestamp_ntz'9999-12-31 23:59:59.999999', date'9999-12-31'), "
        "(3, timestamp_ntz'1582-10-10 01:02:03', date'1582-10-10'), (4, null, null) AS v(id, at, day)"
    )
    assert by_files()["at"].type == pa.timestamp("us")
    assert_tables_equal(by_files(), by_spark(spark))


def test_numbers_binary_and_text(spark, sql):
    sql(
        """CREATE TABLE {t} (id BIGINT NOT NULL, b TINYINT, s SMALLINT, i INT, f FLOAT, x DOUBLE, small DECIMAL(5, 2),
             middle DECIMAL(18, 4), large DECIMAL(38, 10), raw BINARY, text STRING, short VARCHAR(3), flag BOOLEAN)
           USING delta"""
    )
    sql(
        """INSERT INTO {t} VALUES
           (1, 127, 32767, 2147483647, float('NaN'), double('-Infinity'), 999.99, 12345678901234.5678,
            1234567890123456789012345678.0123456789, x'00FF', 'Zürich 😀', 'abc', true),
           (9223372036854775807, -128, -32768, -2147483648, 0.1, -0.0, -999.99, -0.0001, -0.0000000001, x'', '', '',
            false),
           (-9223372036854775808, null, null, null, null, null, null, null, null, null, null, null, null)"""
    )
    assert_tables_equal(by_files(), by_spark(spark))


def test_nested_columns(spark, sql):
    sql(
        """CREATE TABLE {t} USING delta AS SELECT * FROM VALUES
           (1, named_struct('a', 1, 'at', timestamp'9999-12-31 00:00:00Z', 'in', named_struct('x', array(1.5d, null))),
            array(array('a', null), array()), map('k', array(date'2024-02-01'), '', null),
            array(named_struct('n', 1Y), null)),
           (2, null, null, null, null),
           (3, named_struct('a', null, 'at', null, 'in', null), array(), map(), array())
           AS v(id, s, lists, m, structs)"""
    )
    assert_tables_equal(by_files(), by_spark(spark))
    assert_tables_equal(by_files(["m", "id"]), by_spark(spark, ["m", "id"]))


# Columns


@pytest.mark.long
def test_columns_that_older_files_lack(spark, sql):
    sql(
        "CREATE TABLE {t} USING delta AS "
        "SELECT 1L AS id, 'a' AS s, named_struct('a', 1) AS n, array(named_struct('a', 1)) AS l"
    )
    sql("ALTER TABLE {t} ADD COLUMNS (added DOUBLE, at TIMESTAMP FIRST, n.b STRING, l.element.b STRING AFTER a)")
    sql("ALTER TABLE {t} ADD COLUMNS (n.c INT FIRST)")
    sql(
        "INSERT INTO {t} (id, s, n, l, added, at) VALUES (2, 'b', named_struct('c', 3, 'a', 2, 'b', 'x'), "
        "array(named_struct('a', 2, 'b', 'y')), 0.5, timestamp'2024-02-01 00:00:00Z')"
    )
    assert_tables_equal(by_files(), by_spark(spark))
    for where in ("added IS NULL", "added IS NOT NULL", "added < 1", "added != 1"):
        assert_tables_equal(by_files(["id"], where), by_spark(spark, ["id"], where))
    assert by_files(["added", "id"], "id = 1").to_pylist() == [{"added": None, "id": 1}]


def test_columns_by_name_in_any_order_and_case(spark, sql, workspace):
    path = str(Path(TABLE).absolute())
    sql("CREATE TABLE {t} (id BIGINT, `a.b` STRING, a STRUCT<b: STRING>, `Straße` STRING) USING delta")
    sql("INSERT INTO {t} VALUES (1, 'dotted', named_struct('b', 'nested'), 's')")
    later = spark.sql("SELECT named_struct('B', 'n') AS A, 'd' AS `A.B`, 2L AS ID, 'u' AS `straßE`")
    later.write.format("delta").mode("append").save(path)
    assert_tables_equal(by_files(["a.b", "id", "Straße"]), by_spark(spark, ["a.b", "id", "Straße"]))
    assert_tables_equal(by_files(["a", "id"]), by_spark(spark, ["a", "id"]))
    assert by_files(["a.b", "id"]).to_pylist() == [{"a.b": "dotted", "id": 1}, {"a.b": "d", "id": 2}]


@pytest.mark.long
def test_files_that_spell_columns_in_another_case(spark, sql):
    """CONVERT TO DELTA and foreign writers leave such files; Spark takes no notice of the case, in structs either."""
    Path(TABLE).mkdir(parents=True)
    upper = pa.struct(
        [("AA", pa.list_(pa.struct([("B", pa.int32())]))), ("M", pa.map_(pa.string(), pa.struct([("C", I64)])))]
    )
    rows = [{"AA": [{"B": 1}, None], "M": [("k", {"C": 2})]}, None]
    pq.write_table(pa.table({"ID": [1, 2], "S": pa.array(rows, upper), "P": ["x", "y"]}), f"{TABLE}/1.parquet")
    lower = pa.struct(
        [("aa", pa.list_(pa.struct([("b", pa.int32())]))), ("m", pa.map_(pa.string(), pa.struct([("c", I64)])))]
    )
    rows = [{"aa": [{"b": 3}], "m": [("k", None)]}, {"aa": None, "m": []}]
    pq.write_table(pa.table({"p": ["z", None], "id": [3, 4], "s": pa.array(rows, lower)}), f"{TABLE}/2.parquet")
    sql(f"CONVERT TO DELTA parquet.`{Path(TABLE).absolute()}`")
    [key] = {"id", "ID"} & set(pin(DeltaSource(type="delta", table=TABLE)).snapshot.schema.names)
    assert by_files(key=key).column(key).to_pylist() == [1, 2, 3, 4]
    assert_tables_equal(by_files(key=key), by_spark(spark, key=key))


def test_names_that_only_case_tells_apart_are_refused(workspace):
    write(TABLE, pa.table({"id": [1]}))
    [file] = pin(DeltaSource(type="delta", table=TABLE)).files
    pq.write_table(pa.table({"Id": [1], "ID": [2]}), Path(TABLE) / file.relative)
    with pytest.raises(ConfigError, match="column 'id' is stored as 'Id' and as 'ID': which one is unclear"):
        by_files()


# Partitions

TEXTS = ["Zürich", "a b", "a/b", "a=b", "%41", "a%2Fb", "it's \"q\"", "c:\\d", "{x}", "#?&+;,", "😀", "null",
         "__HIVE_DEFAULT", " ", ".", "x\ny", "2024-02-01", "01", "true"]  # fmt: skip


@pytest.mark.long
def test_partitions_by_text_with_odd_characters(spark, workspace):
    rows = [(i, t) for i, t in enumerate(TEXTS)] + [(98, None), (99, "")]
    path = str(Path(TABLE).absolute())
    spark.createDataFrame(rows, "id long, p string").coalesce(1).write.format("delta").partitionBy("p").save(path)
    assert_tables_equal(by_files(), by_spark(spark))
    assert by_files(["id"], "p = 'a/b'").to_pylist() == [{"id": 2}]
    assert by_files(["id"], "p IS NULL").to_pylist() == [{"id": 98}, {"id": 99}]


@pytest.mark.long
def test_partitions_of_other_types(spark, sql):
    kinds = {"b": "TINYINT", "s": "SMALLINT", "i": "INT", "l": "BIGINT", "t": "BOOLEAN", "d": "DATE", "x": "DOUBLE",
             "f": "FLOAT", "m": "DECIMAL(20, 3)", "w": "DECIMAL(3, 0)", "r": "BINARY", "v": "VARCHAR(4)"}  # fmt: skip
    columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
    sql(f"CREATE TABLE {{t}} (id BIGINT, {columns}) USING delta PARTITIONED BY ({', '.join(kinds)})")
    sql(
        """INSERT INTO {t} SELECT /*+ COALESCE(1) */ * FROM VALUES
           (1, -128, -32768, -2147483648, -9223372036854775808, true, date'0001-01-01', double('NaN'),
            float('-Infinity'), 12345678901234567.890, -1, x'6162', 'a b'),
           (2, 127, 32767, 2147483647, 9007199254740993, false, date'9999-12-31', -0.0, 0.1, 0, 999, x'61', 'ab'),
           (3, 0, 0, 0, 0, true, date'1582-10-10', double('Infinity'), float('NaN'), -0.001, 0, x'62', 'é'),
           (4, 0, 0, 0, 0, true, date'1970-01-01', 1e-300, -0.0, 0, 0, x'63', ' '),
           (5, null, null, null, null, null, null, null, null, null, null, null, null)"""
    )
    assert_tables_equal(by_files(), by_spark(spark))
    assert_tables_equal(by_files(["v", "id", "b"]), by_spark(spark, ["v", "id", "b"]))


# Deleted rows

DELETABLE = "TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')"


def test_deletion_vectors(spark, sql, monkeypatch):
    """Three files with several row groups each: some rows deleted, every row, the first; one file untouched."""
    sql(f"CREATE TABLE {{t}} (id BIGINT, p INT, text STRING) USING delta PARTITIONED BY (p) {DELETABLE}")
    sql(
        "INSERT INTO {t} SELECT /*+ REPARTITION(1) */ id, int(id div 1000), sha2(string(id), 512) FROM range(4000)",
        **{"parquet.block.size": "20000"},
    )
    sql("DELETE FROM {t} WHERE id IN (0, 1, 999, 500) OR id BETWEEN 300 AND 420 OR p = 1 OR id = 2000")
    sql("DELETE FROM {t} WHERE id = 2 OR id = 2001")
    pinned = pin(DeltaSource(type="delta", table=TABLE))
    assert sum(f.live_mask is not None for f in pinned.files) == 2
    assert pinned.rows == 2872
    wheres = [None, "id < 600 AND id > 250 AND p < 3"]
    expected = {where: by_spark(spark, where=where) for where in wheres}
    for where in wheres:
        assert_tables_equal(by_files(where=where, batch_rows=77), expected[where])
    monkeypatch.setattr(parquet, "SPLIT_BYTES", 0)
    assert len(units(pinned, ["id"], 100, 2)) > len(pinned.files)
    for where in wheres:
        assert_tables_equal(by_files(where=where, batch_rows=77), expected[where])


@pytest.mark.long
def test_deletion_vectors_in_partitions_with_odd_characters(spark, sql):
    sql(f"CREATE TABLE {{t}} (id BIGINT, p STRING) USING delta PARTITIONED BY (p) {DELETABLE}")
    rows = ", ".join(
        f"({i * 10 + j}, '{p}')" for i, p in enumerate(["a b", "a%20b", "a/b", "ü", "%", "+"]) for j in range(3)
    )
    sql(f"INSERT INTO {{t}} SELECT /*+ COALESCE(1) */ * FROM VALUES {rows}")
    sql("DELETE FROM {t} WHERE id % 10 = 1")
    assert all(f.live_mask is not None for f in pin(DeltaSource(type="delta", table=TABLE)).files)
    assert_tables_equal(by_files(), by_spark(spark))


@pytest.mark.long
def test_a_table_in_a_folder_with_odd_characters(spark, sql, workspace, monkeypatch):
    odd = workspace / "my lake ü+#"
    odd.mkdir()
    monkeypatch.chdir(odd)
    sql(f"CREATE TABLE {{t}} (id BIGINT, p STRING) USING delta PARTITIONED BY (p) {DELETABLE}")
    sql("INSERT INTO {t} SELECT /*+ COALESCE(1) */ * FROM VALUES (1, 'a'), (2, 'a'), (3, 'b c'), (4, 'b c')")
    sql("DELETE FROM {t} WHERE id IN (1, 4)")
    assert by_files().to_pylist() == [{"id": 2, "p": "a"}, {"id": 3, "p": "b c"}]
    assert_tables_equal(by_files(), by_spark(spark))


# What is left to Spark


@pytest.mark.long
def test_char_columns_are_left_to_spark_where_they_are_read(spark, sql):
    sql("CREATE TABLE {t} (id BIGINT, code CHAR(4), name VARCHAR(4)) USING delta")
    sql("INSERT INTO {t} VALUES (1, 'ab', 'ab')")
    assert left_to_spark(["id", "code"]) == "column 'code' is char(4), padded by Spark only"
    assert by_spark(spark).to_pylist() == [{"id": 1, "code": "ab  ", "name": "ab"}]
    assert_tables_equal(by_files(["id", "name"]), by_spark(spark, ["id", "name"]))


@pytest.mark.parametrize("kind", ["ARRAY<CHAR(4)>", "STRUCT<a: VARCHAR(4), b: CHAR(4)>", "MAP<CHAR(4), VARCHAR(4)>"])
@pytest.mark.long
def test_nested_char_is_left_to_spark(spark, sql, kind):
    values = {"A": "array('ab')", "S": "named_struct('a', 'ab', 'b', 'ab')", "M": "map('ab', 'ab')"}
    sql(f"CREATE TABLE {{t}} (id BIGINT, x {kind}, v ARRAY<VARCHAR(4)>) USING delta")
    sql(f"INSERT INTO {{t}} VALUES (1, {values[kind[0]]}, array('ab'))")
    declared = kind.lower().replace(": ", ":").replace(", ", ",")
    assert left_to_spark(["id", "x"]) == f"column 'x' is {declared}, padded by Spark only"
    assert "'ab  '" in str(by_spark(spark)["x"].to_pylist())
    assert_tables_equal(by_files(["id", "v"]), by_spark(spark, ["id", "v"]))


@pytest.mark.parametrize("partitioned", ["", "PARTITIONED BY (code)"])
def test_conditions_on_char_leave_no_file_out(spark, sql, partitioned):
    sql(f"CREATE TABLE {{t}} (id BIGINT, code CHAR(4)) USING delta {partitioned}")
    sql("INSERT INTO {t} VALUES (1, 'ab')")
    where = "code = 'ab  '"
    assert by_spark(spark, where=where).to_pylist() == [{"id": 1, "code": "ab  "}]
    assert pin(DeltaSource(type="delta", table=TABLE, where=where)).rows == 1


def test_partitions_by_timestamp_are_left_to_spark(workspace):
    write(TABLE, pa.table({"id": [1], "at": pa.array([1], pa.timestamp("us", "UTC"))}), ["at"])
    assert left_to_spark(["id", "at"]) == "partition column 'at' holds timestamps without a zone"
    assert by_files(["id"]).to_pylist() == [{"id": 1}]


def test_partitions_by_timestamp_that_has_no_zone(spark, workspace):
    write(TABLE, pa.table({"id": [1, 2], "at": pa.array([1, None], pa.timestamp("us"))}), ["at"])
    assert_tables_equal(by_files(), by_spark(spark))


def test_empty_text_as_partition_is_left_to_spark(spark, workspace):
    """deltalake writes it, and reads it as null, as the protocol says; Spark reads the text."""
    write(TABLE, pa.table({"id": [1, 2], "p": ["", "a"]}), ["p"])
    assert left_to_spark(["id", "p"]) == "partition column 'p' holds an empty text"
    for where, ids in (("p = ''", [1]), ("p != 'a'", [1]), ("p IS NULL", []), ("p IS NOT NULL", [1, 2])):
        assert by_spark(spark, ["id"], where)["id"].to_pylist() == ids
        assert pin(DeltaSource(type="delta", table=TABLE, where=where)).rows >= len(ids)
    assert by_files(["id"]).to_pylist() == [{"id": 1}, {"id": 2}]


@pytest.mark.long
def test_widened_types_are_left_to_spark(spark, sql):
    sql("CREATE TABLE {t} (id BIGINT, n INT) USING delta TBLPROPERTIES ('delta.enableTypeWidening' = 'true')")
    sql("INSERT INTO {t} VALUES (1, 1)")
    sql("ALTER TABLE {t} CHANGE COLUMN n TYPE BIGINT")
    assert left_to_spark(["id", "n"]).startswith("table features typeWidening")
    assert by_spark(spark).to_pylist() == [{"id": 1, "n": 1}]


@pytest.mark.long
def test_shallow_clones_are_left_to_spark(spark, sql, workspace):
    write("lake/original", pa.table({"id": [1, 2]}))
    sql(f"CREATE TABLE {{t}} SHALLOW CLONE delta.`{Path('lake/original').absolute()}`")
    assert left_to_spark(["id"]) == "files outside the table's folder (a shallow clone)"
    assert by_spark(spark).to_pylist() == [{"id": 1}, {"id": 2}]


NARROWER = {
    "l": (pa.int64(), [1, None], pa.array([-(2**31), None], pa.int32())),
    "i": (pa.int32(), [1, None], pa.array([-128, None], pa.int8())),
    "x": (pa.float64(), [1.0, None], pa.array([0.1, float("nan")], pa.float32())),
    "whole": (pa.float64(), [1.0, None], pa.array([2**31 - 1, None], pa.int32())),
    "d": (pa.decimal128(38, 10), [None, None], pa.array([Decimal("-9.99"), None], pa.decimal128(5, 2))),
    "ntz": (pa.timestamp("us"), [1, None], pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31)])),
    "at": (pa.timestamp("us", "UTC"), [1, None], pa.array([-(2**45), None], pa.timestamp("ms", "UTC"))),
    "list": (pa.list_(pa.int64()), [[1], None], pa.array([[2, None], None], pa.list_(pa.int16()))),
    "structs": (pa.list_(pa.struct([("a", pa.int64()), ("b", pa.string())])), [[], None],
                pa.array([[{"a": 1}, None], []], pa.list_(pa.struct([("a", pa.int32())])))),
    "map": (pa.map_(pa.string(), pa.struct([("a", pa.int64()), ("b", pa.string())])), [[], None],
            pa.array([[("k", {"b": "x"})], None], pa.map_(pa.string(), pa.struct([("b", pa.string())])))),
}  # fmt: skip
"""Column → its declared type, values of a file of that type, and the array in a file of an older one."""


@pytest.mark.parametrize("setting", ["spark.sql.files.ignoreMissingFiles", "spark.sql.files.ignoreCorruptFiles"])
def test_a_session_that_leaves_out_files_it_cannot_read_is_refused(spark, workspace, setting):
    write(TABLE, pa.table({"id": [1]}))
    said = f"lake/features has to be read by Spark itself, .* set {setting} to false"
    with spark_settings(spark, **{setting: "true"}), pytest.raises(ConfigError, match=said):
        by_spark(spark)


def test_a_version_that_spark_does_not_go_back_to_is_refused(spark, workspace):
    write(TABLE, pa.table({"id": [1]}), configuration={"delta.deletedFileRetentionDuration": "interval 0 seconds"})
    write(TABLE, pa.table({"id": [2]}), mode="overwrite")
    pinned = pin(DeltaSource(type="delta", table=TABLE, version=0))
    with pytest.raises(
        ConfigError, match=r"lake/features at version 0 has to be read by Spark itself, .* a newer version"
    ):
        frame(spark, pinned, ["id"])


def test_files_of_narrower_types(spark, workspace):
    """Without type widening nobody notes it in the log: an older writer's int file under a bigint column."""
    for ids in ([1, 2], [3, 4]):
        declared = {name: pa.array(values, kind) for name, (kind, values, _) in NARROWER.items()}
        write(TABLE, pa.table({"id": ids, **declared}))
    older = pin(DeltaSource(type="delta", table=TABLE)).files[1]
    stored = {name: array for name, (_, _, array) in NARROWER.items()}
    pq.write_table(pa.table({"id": [5, 6], **stored}), Path(TABLE) / older.relative)
    assert by_files()["l"].null_count == 2
    assert_tables_equal(by_files(), by_spark(spark))


# Casts

I8, I16, I32, I64 = pa.int8(), pa.int16(), pa.int32(), pa.int64()
F32, F64, US, UTC_US = pa.float32(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")
DAY = dt.date(2024, 2, 1)


@pytest.mark.parametrize(
    ("stored", "declared"),
    [
        (pa.array([-128, None], I8), pa.array([-128, None], I64)),
        (pa.array([2**31 - 1], I32), pa.array([2**31 - 1], I64)),
        (pa.array([2**31 - 1], I32), pa.array([2.0**31 - 1], F64)),
        (pa.array([-(2**15)], I16), pa.array([-(2.0**15)], F32)),
        (pa.array([0.1, float("nan")], F32), pa.array([0.10000000149011612, float("nan")], F64)),
        (pa.array([Decimal("9.99")], pa.decimal128(3, 2)), pa.array([Decimal("9.990")], pa.decimal128(4, 3))),
        (pa.array([DAY], pa.date32()), pa.array([19754 * 86_400_000_000], US)),
        (pa.array([1], pa.timestamp("ms")), pa.array([1000], UTC_US)),
        (pa.array([1000], pa.timestamp("ns", "Europe/Zurich")), pa.array([1], UTC_US)),
        (pa.array([1], UTC_US), pa.array([1], US)),
        (pa.array(["a"], pa.large_string()), pa.array(["a"])),
        (pa.array(["a"], pa.string_view()), pa.array(["a"])),
        (pa.array([b"a"], pa.large_binary()), pa.array([b"a"], pa.binary())),
        (pa.array(["a", None, "a"]).dictionary_encode(), pa.array(["a", None, "a"])),
        (pa.array([[1], None], pa.list_(I32)), pa.array([[1], None], pa.list_(I64))),
        (pa.array([[1]], pa.large_list(I64)), pa.array([[1]], pa.list_(I64))),
        (pa.nulls(2), pa.nulls(2, pa.string())),
    ],
)
def test_lossless_casts(stored, declared):
    schema = pa.schema([("absent", pa.string()), ("x", declared.type)])
    batch = pa.record_batch({"unused": stored, "x": stored})
    expected = pa.table([pa.nulls(len(stored), pa.string()), declared], schema=schema)
    assert_tables_equal(pa.Table.from_batches([conform(batch, schema)], schema), expected)


@pytest.mark.parametrize(
    ("stored", "declared"),
    [
        (I64, I32), (I64, F64), (I32, F32), (F64, F32), (F64, I64), (pa.string(), I64), (I64, pa.string()),
        (pa.bool_(), I32), (I32, pa.bool_()), (pa.string(), pa.binary()), (pa.binary(), pa.string()),
        (pa.string(), pa.date32()), (UTC_US, pa.date32()), (pa.date32(), UTC_US), (I64, UTC_US),
        (pa.decimal128(5, 3), pa.decimal128(5, 2)), (pa.decimal128(5, 2), pa.decimal128(4, 2)),
        (pa.decimal128(5, 2), F64), (I32, pa.decimal128(12, 2)), (pa.list_(I64), pa.list_(I32)),
        (pa.list_(F64), pa.list_(I64)), (pa.struct([("a", I64)]), pa.struct([("a", I32)])),
        (pa.struct([("a", I64)]), I64), (pa.map_(I64, I64), pa.map_(I64, I32)),
        (pa.list_(pa.string()), pa.list_(I64)), (pa.list_(UTC_US), pa.list_(pa.date32())),
    ],
)  # fmt: skip
def test_lossy_casts_are_refused_whatever_the_values(stored, declared):
    batch = pa.record_batch({"x": pa.nulls(1, stored)})
    with pytest.raises(ConfigError) as refused:
        conform(batch, pa.schema([("x", declared)]))
    assert str(refused.value) == f"column 'x' is stored as {stored}, the table declares {declared}: no lossless cast"
    assert not is_widened_by(stored, declared)


def test_a_file_of_another_type_is_refused(workspace):
    """Delta never checks the files: a foreign writer's may hold other types than the log declares."""
    write(TABLE, pa.table({"id": pa.array([1, 2], I32)}))
    [file] = pin(DeltaSource(type="delta", table=TABLE)).files
    pq.write_table(pa.table({"id": pa.array([1, 2**40], I64)}), Path(TABLE) / file.relative)
    with pytest.raises(
        ConfigError, match=r"column 'id' is stored as int64, the table declares int32: no lossless cast"
    ):
        by_files()


def test_a_value_that_the_declared_type_cannot_hold_is_refused(workspace):
    write(TABLE, pa.table({"id": [1], "at": pa.array([1], UTC_US)}))
    [file] = pin(DeltaSource(type="delta", table=TABLE)).files
    pq.write_table(
        pa.table({"id": [1], "at": pa.array([1001], pa.timestamp("ns", "UTC"))}), Path(TABLE) / file.relative
    )
    with pytest.raises(ConfigError, match=r"column 'at' is stored as timestamp\[ns, tz=UTC\].*not every value fits"):
        by_files()
