"""A folder of Parquet files is read as it was pinned, with its partitions as columns, or refused by name."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from lakehouse.config.systems.parquet import ParquetSource
from lakehouse.connectors import parquet as reading
from lakehouse.errors import ConfigError, NotReady, Unavailable
from lakehouse.sources import FILES
from lakehouse.sources import parquet as source
from lakehouse.sources.parquet import pin, units
from lakehouse.sources.parquet.partitions import partitions_of
from lakehouse.sources.parquet.pinning import PinnedFolder
from lakehouse.storage import locate, write_durably
from tests.conftest import read, score, spark_settings, version, write
from tests.tables import assert_tables_equal

TABLE = "lake/exports"
DAY, NEXT = "2026-01-02", "2026-01-03"
LINEAGE = ["_run_id", "_scored_at", "_input_version"]


def put(path: str, rows: pa.Table | Mapping[str, Any], table: str = TABLE, **options: Any) -> None:
    """Write one file below the folder, on a disk or an object storage."""
    file = locate(table).join(path)
    sink = pa.BufferOutputStream()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.table(rows), sink, **options)
    write_durably(file, sink.getvalue().to_pybytes())


def pinned(where: str | None = None, table: str = TABLE) -> PinnedFolder:
    return pin(ParquetSource(type="parquet", table=table, where=where))


def rows(
    where: str | None = None, columns: Sequence[str] | None = None, table: str = TABLE, key: str = "id"
) -> pa.Table:
    """The rows as the carrier reads them, by key."""
    input_ = pinned(where, table)
    columns = columns or input_.schema.names
    wanted = list(dict.fromkeys([*columns, *input_.where_columns]))
    assert source.carrier(input_, wanted)[0] == FILES
    schema = pa.schema([input_.schema.field(c) for c in wanted])
    batches = [batch for unit in units(input_, wanted, 1_000, 2) for batch in unit.batches()]
    assert all(batch.schema.equals(schema) and batch.num_rows for batch in batches)
    return pa.Table.from_batches(batches, schema).sort_by(key).select(columns)


def read_as_pinned(where: str | None, columns: Sequence[str]) -> None:
    input_ = pinned(where)
    source.carrier(input_, columns or input_.schema.names)


def refusal(where: str | None = None, columns: Sequence[str] = ()) -> str:
    with pytest.raises(ConfigError) as found:
        read_as_pinned(where, columns)
    assert "\n" not in str(found.value)
    return str(found.value)


# Partitions


def test_folders_are_columns_of_the_type_that_all_their_values_fit(workspace):
    put("day=2026-01-02/hour=07/zone=a%3Ab%25/mixed=1/x.parquet", {"id": [1]})
    put("day=2026-01-03/hour=__HIVE_DEFAULT_PARTITION__/zone=%C3%A4/mixed=x/x.parquet", {"id": [2]})
    assert_tables_equal(
        rows(),
        pa.table({
            "id": [1, 2], "day": [dt.date(2026, 1, 2), dt.date(2026, 1, 3)], "hour": pa.array([7, None]),
            "zone": ["a:b%", "ä"], "mixed": ["1", "x"],
        }),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "003"], pa.int64()), (["9223372036854775807"], pa.int64()), (["9223372036854775808"], pa.string()),
        (["1", "1.5"], pa.string()), (["2026-02-28"], pa.date32()), (["2026-02-30"], pa.string()),
        (["2026-02-28", "1"], pa.string()), (["__HIVE_DEFAULT_PARTITION__"], pa.string()), (["true"], pa.string()),
        (["٣"], pa.string()),
    ],
)  # fmt: skip
def test_a_partitions_type(values, kind):
    assert partitions_of([f"p={value}/f" for value in values], "t")[0].field("p").type == kind


def test_a_folder_that_names_no_column_is_only_a_folder(workspace):
    put("2026/a.parquet", {"id": [1]})
    put("b.parquet", {"id": [2]})
    assert rows().to_pydict() == {"id": [1, 2]}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("y.parquet", "lie under different partitions: day=2026-01-02/x.parquet under day=, y.parquet under none"),
        ("month=1/y.parquet", "day=2026-01-02/x.parquet under day=, month=1/y.parquet under month="),
        ("day=/y.parquet", "the folder day= names no column, or no value of it"),
        ("=3/y.parquet", "the folder =3 names no column, or no value of it"),
        ("day=1/Day=2/y.parquet", "lies in two folders that name a column 'Day'"),
        ("day=%FF/y.parquet", "%FF is not text in UTF-8"),
    ],
)
def test_folders_that_do_not_go_together_are_refused(workspace, path, said):
    put("day=2026-01-02/x.parquet", {"id": [1]})
    put(path, {"id": [2]})
    assert said in refusal()


def test_a_folders_value_is_taken_where_the_file_has_such_a_column_too(workspace):
    put("day=2026-01-02/x.parquet", {"id": [1], "Day": ["other"]})
    assert rows().to_pydict() == {"id": [1], "day": [dt.date(2026, 1, 2)]}


def test_hidden_files_and_folders_are_left_out(workspace):
    put("x.parquet", {"id": [1]})
    for path in ("_SUCCESS", ".x.parquet.crc", "_temporary/0/y.parquet", ".hidden/y.parquet", "day_$folder$"):
        write_durably(locate(TABLE).join(path), b"no Parquet")
    assert rows().to_pydict() == {"id": [1]}


def test_what_is_no_folder_of_parquet_files_is_said(workspace):
    assert refusal() == f"source.table: there is no folder {TABLE} ({workspace}/{TABLE}); there are none"
    Path("lake/export").mkdir(parents=True)
    assert refusal().endswith("did you mean 'export'?")
    Path(TABLE).mkdir()
    with pytest.raises(NotReady, match="lake/exports has no Parquet file yet"):
        pinned()
    put("x", {"id": [1]})  # as Athena names them
    assert rows().to_pydict() == {"id": [1]}
    write_durably(locate(TABLE).join("y.csv"), b"id\n1\n")
    assert "y.csv of lake/exports can't be read as Parquet" in refusal("id = 1")
    write("lake/delta", pa.table({"id": [1]}))
    for table, said in ((f"{TABLE}/x", "is a file: name the folder"), ("lake/delta", "read it with type: delta")):
        with pytest.raises(ConfigError, match=said):
            pinned(table=table)


# Columns and types


def test_files_that_lack_a_column_or_spell_it_otherwise_or_are_narrower(workspace):
    put("a.parquet", {"id": [1], "a": pa.array([1], pa.int32()), "old": ["x"]})
    put("b.parquet", {"id": [2], "A": pa.array([1 << 40]), "new": [True]})
    put("c.parquet", {"id": [3], "a": pa.nulls(1), "old": pa.array(["y"], pa.large_string())})
    assert_tables_equal(
        rows(), pa.table({"id": [1, 2, 3], "a": [1, 1 << 40, None], "old": ["x", None, "y"], "new": [None, True, None]})
    )


@pytest.mark.parametrize(
    ("one", "other", "types"),
    [
        (pa.array([1]), pa.array([1.5]), "is int64 in a.parquet and double in b.parquet"),
        (pa.array(["x"]), pa.array([1]), "is string in a.parquet and int64 in b.parquet"),
        (pa.array([{"b": 1}]), pa.array([{"b": "x"}]), "is struct<b: int64> in a.parquet and struct<b: string> in b"),
        (pa.array([0], pa.timestamp("us", "UTC")), pa.array([0], pa.timestamp("us")), "is timestamp[us, tz=UTC] in a."),
    ],
)  # fmt: skip
def test_types_that_conflict_are_refused_by_name(workspace, one, other, types):
    put("a.parquet", {"id": [1], "v": one})
    put("b.parquet", {"id": [2], "v": other})
    assert f"column 'v' of lake/exports {types}" in refusal()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1], pa.uint8()), "uint8"), (pa.array([dt.time(1)]), "time64[us]"), (pa.array([{"x": [dt.time(1)]}]), "time64[us]"),
        (pa.array([b"1234"], pa.binary(4)), "fixed_size_binary[4]"), (pa.array([np.float16(1)]), "halffloat"),
    ],
)  # fmt: skip
def test_types_that_are_not_handed_on_are_refused_where_they_are_asked_for(workspace, values, kind):
    put("a.parquet", {"id": [1], "v": values})
    assert f"column 'v' of lake/exports is, or has within it, {kind}, which" in refusal()
    assert source.supported_columns(pinned()) == ["id"]
    assert rows(columns=["id"]).to_pydict() == {"id": [1]}


def test_types_of_files_that_are_not_read_conflict_with_nothing(workspace):
    put("day=2026-01-02/a.parquet", {"id": [1], "v": [1]})
    put("day=2026-01-03/a.parquet", {"id": [2], "v": [1.5]})
    assert rows("day = '2026-01-02' AND v = 1", ["id", "v"]).to_pydict() == {"id": [1], "v": [1]}
    assert rows("day = '2026-01-03'", ["id", "v"]).to_pydict() == {"id": [2], "v": [1.5]}
    assert "'v' of lake/exports is int64 in day=2026-01-02/a.parquet and double in" in refusal("day > '2026-01-01'")


def test_a_field_of_a_struct_prunes_nothing_of_a_column_of_its_name(workspace):
    put("a.parquet", {"id": [1], "a": [{"b": 9}], "a.b": [1]})
    assert rows("`a.b` = 1", ["id"]).to_pydict() == {"id": [1]}


def test_a_column_without_any_value_takes_its_type_from_the_newest_file(workspace):
    put("day=2026-01-02/a.parquet", {"id": [1], "v": pa.nulls(1)})
    assert "column 'v' of lake/exports is null in every row" in refusal()
    put("day=2026-01-03/a.parquet", {"id": [2], "v": ["x"]})
    assert rows("day = '2026-01-02'", ["id", "v"]).to_pydict() == {"id": [1], "v": [None]}


TYPES = pa.table({
    "id": [1, 2], "i": pa.array([-128, None], pa.int8()), "l": [1 << 62, None], "f": pa.array([float("nan"), None], pa.float32()),
    "d": [-0.0, float("inf")], "dec": [Decimal("1.50"), None], "s": ["ä", ""], "b": [b"\0", None], "t": [True, None],
    "day": [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "at": pa.array([dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.UTC), None], pa.timestamp("us", "UTC")),
    "wall": pa.array([dt.datetime(1969, 12, 31, 23, 59, 59), None], pa.timestamp("us")),
    "list": [[1.5, None], None], "row": [{"x": 1, "y": ["a"]}, None],
})  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"version": "1.0"}, {"store_schema": False}, {"use_dictionary": False}])
def test_types_by_pyarrow(workspace, options):
    put("a.parquet", TYPES, **options)
    assert_tables_equal(rows(), TYPES)


def test_files_by_pandas(workspace):
    frame = pd.DataFrame({
        "id": [1, 2], "v": [1.5, None], "at": pd.to_datetime(["2026-01-02 03:04:05.678901", None]),
        "kind": pd.Categorical(["a", "b"]), "text": ["x", None], "day": ["2026-01-02", "2026-01-03"],
    })  # fmt: skip
    frame.to_parquet(TABLE, partition_cols=["day"], index=False)
    assert_tables_equal(
        rows(),
        pa.table({
            "id": [1, 2], "v": [1.5, None],
            "at": pa.array([dt.datetime(2026, 1, 2, 3, 4, 5, 678901), None], pa.timestamp("us")),
            "kind": ["a", "b"], "text": ["x", None], "day": [dt.date(2026, 1, 2), dt.date(2026, 1, 3)],
        }),
    )  # fmt: skip


@pytest.mark.parametrize("stored", ["INT96", "TIMESTAMP_MICROS", "TIMESTAMP_MILLIS"])
def test_files_by_spark(spark, workspace, stored):
    frame = spark.sql("""
        SELECT id, CAST(id AS TINYINT) AS t, CAST(id AS FLOAT) AS f, CAST(id AS DECIMAL(38, 2)) AS dec,
               TIMESTAMP '1677-01-01 00:00:00Z' + make_dt_interval(CAST(id AS INT)) AS at,
               TIMESTAMP_NTZ '2026-01-02 03:04:05' AS wall, DATE '0001-01-01' AS early, X'00FF' AS b,
               map('k', array(TIMESTAMP '2026-01-02 03:04:05Z')) AS m, named_struct('x', id) AS s,
               concat('a/b: ', id) AS zone, CAST(id AS INT) % 2 AS half
        FROM range(4)""")
    with spark_settings(spark, **{"spark.sql.parquet.outputTimestampType": stored}):
        frame.write.partitionBy("zone", "half").parquet(str(workspace / TABLE))
        by_spark = spark.read.parquet(str(workspace / TABLE)).orderBy("id").toArrow()
    expected = by_spark.set_column(by_spark.column_names.index("half"), "half", by_spark["half"].cast(pa.int64()))
    assert_tables_equal(rows(), expected)
    assert_tables_equal(
        rows("zone >= 'a/b: 2' AND id < 3", ["id", "zone"]), expected.slice(2, 1).select(["id", "zone"])
    )


def test_intervals_by_spark_are_refused(spark, workspace):
    spark.sql("SELECT id, make_dt_interval(CAST(id AS INT)) AS v FROM range(2)").write.parquet(str(workspace / TABLE))
    assert "column 'v' of lake/exports is, or has within it, INTERVAL DAY TO SECOND, which" in refusal()


# Where


@pytest.fixture
def days(workspace):
    """Three days of ten rows in two row groups each."""
    for day in (1, 2, 3):
        ids = np.arange(10) + 10 * day
        put(f"day=2026-01-0{day}/x.parquet", {"id": ids, "v": ids * 0.5, "s": [f"s{i}" for i in ids]}, row_group_size=5)


@pytest.mark.parametrize(
    ("where", "ids", "files", "groups"),
    [
        ("day = '2026-01-02'", range(20, 30), 1, 2), ("day >= '2026-01-02' AND id < 22", (20, 21), 2, 1),
        ("day IN ('2026-01-01', '2026-01-03') AND s = 's13'", [13], 2, 1), ("v >= 19.5", [39], 3, 6),
        ("id BETWEEN 14 AND 15", (14, 15), 3, 2), ("s IS NULL", [], 3, 0), ("day > '2027-01-01'", [], 0, 0),
    ],
)  # fmt: skip
def test_where_reads_only_folders_and_row_groups_that_can_hold_its_rows(days, where, ids, files, groups):
    input_ = pinned(where)
    assert rows(where)["id"].to_pylist() == list(ids)
    assert (input_.pieces, sum(len(file.row_groups) for file in input_.files)) == (files, groups)
    assert input_.rows == 5 * groups


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("id % 2 = 0", "only comparisons of columns with fixed values, joined by AND, are evaluated"),
        ("id = 1 OR day = '2026-01-02'", "only comparisons of columns with fixed values, joined by AND"),
        ("dey = '2026-01-02'", "did you mean 'day'?"), ("rand() < 1", "is not safe"),
    ],
)  # fmt: skip
def test_a_where_beyond_comparisons_is_refused(days, where, said):
    assert said in refusal(where)


def test_a_where_may_name_a_column_that_only_older_files_have(days):
    put("day=2026-01-04/x.parquet", {"id": [40]})
    assert rows("s = 's11'", ["id", "s"]).to_pydict() == {"id": [11], "s": ["s11"]}
    assert rows("s IS NULL", ["id"]).to_pydict() == {"id": [40]}


def test_large_files_are_cut_by_row_groups_without_reading_footers_again(days, monkeypatch):
    monkeypatch.setattr(reading, "SPLIT_BYTES", 0)
    with monkeypatch.context() as nobody:
        nobody.setattr(reading, "open_parquet", None)
        assert [unit.row_groups for unit in units(pinned(), ["id"], 10, 4)] == [(0,), (1,)] * 3
        assert [unit.row_groups for unit in units(pinned("id = 25"), ["id"], 10, 4)] == [(1,)]
    assert rows()["id"].to_pylist() == list(range(10, 40))


# Very many files


@pytest.fixture
def many(days, monkeypatch):
    """More files than are looked at, and who reads a footer on the driver."""
    from lakehouse.sources.parquet import footers, pinning

    monkeypatch.setattr(pinning, "MOST", 2)
    monkeypatch.setattr(pinning, "FEW", 2)
    looked_at, read_one = [], footers._read
    monkeypatch.setattr(footers, "_read", lambda root, path: looked_at.append(path) or read_one(root, path))
    return looked_at


def test_of_many_files_a_few_are_looked_at(many):
    input_ = pinned()
    assert sorted(many) == ["day=2026-01-01/x.parquet", "day=2026-01-03/x.parquet"]
    assert (input_.pieces, input_.rows) == (3, None)
    assert rows()["id"].to_pylist() == list(range(10, 40))


def test_the_fingerprint_does_not_depend_on_how_many_files_were_looked_at(many, monkeypatch):
    from lakehouse.sources.parquet import pinning

    few = pinned().fingerprint()
    monkeypatch.setattr(pinning, "MOST", 3)
    assert pinned().fingerprint() == few


def test_of_files_that_were_not_looked_at_those_row_groups_are_read_that_can_hold_rows(many, monkeypatch):
    monkeypatch.setattr(reading, "SPLIT_BYTES", 0)
    input_ = pinned("id BETWEEN 14 AND 15")
    read_, groups_of = [], reading.FileUnit._groups
    monkeypatch.setattr(reading.FileUnit, "_groups", lambda *own: read_.append(groups_of(*own)) or read_[-1])
    assert rows("id BETWEEN 14 AND 15")["id"].to_pylist() == [14, 15]
    assert sum(map(len, read_)) == 2
    parts = [unit.span for unit in units(input_, ["id"], 10, 12)]
    assert len(parts) > 3  # in spans, side by side
    assert None not in parts
    assert rows()["id"].to_pylist() == list(range(10, 40))


def test_a_column_that_the_job_names_is_looked_for_in_all_of_many_files(many):
    put("day=2026-01-02/x.parquet", {"id": [20], "rare": ["x"]})
    found = pin(ParquetSource(type="parquet", table=TABLE), ["id", "RARE"])
    assert len(set(many)) == 3
    assert "rare" in found.schema.names
    assert "rare" not in pinned().schema.names


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"id": [20], "rare": ["x"]}, "x.parquet of lake/exports has a column 'rare', which none of the files has"),
        ({"id": ["twenty"]}, "column 'id' is stored as string, the table declares int64: no lossless cast"),
    ],
)
def test_one_of_many_files_that_is_otherwise_than_those_looked_at_ends_the_run(many, content, said):
    put("day=2026-01-02/x.parquet", content)
    with pytest.raises(ConfigError) as raised:
        rows()
    assert said in str(raised.value)


# Pinned


def test_the_fingerprint_is_of_the_files_that_where_leaves(days):
    before, other = pinned("day = '2026-01-02'"), pinned("day = '2026-01-03'")
    assert before.fingerprint() != other.fingerprint()
    assert before.version == os.stat(f"{TABLE}/day=2026-01-02/x.parquet").st_mtime_ns // 1_000_000
    put("day=2026-01-03/y.parquet", {"id": [99]})
    assert pinned("day = '2026-01-02'") == before
    assert pinned("day = '2026-01-03'").fingerprint() != other.fingerprint()
    os.utime(f"{TABLE}/day=2026-01-02/x.parquet", (1, 1))
    assert pinned("day = '2026-01-02'").fingerprint() != before.fingerprint()
    assert pinned("day = '2026-01-02'").version == 1_000
    assert pinned("day = '2027-01-02'").version is None


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("what", ["changed", "gone", "half"])
def test_a_file_that_is_not_what_was_pinned_ends_the_run(days, when, what):
    [unit] = units(pinned("day = '2026-01-02'"), ["id", "day"], 3, 1)
    path, batches = Path(TABLE, "day=2026-01-02/x.parquet"), unit.batches()
    if when == "meanwhile":
        next(batches)
    content = path.read_bytes()
    path.unlink()
    if what != "gone":
        path.write_bytes(content if what == "changed" else content[:100])
        os.utime(path, (1, 1))
    said = (
        "is not there any more: run again" if what == "gone" else "was written to after this run had looked at it: run"
    )
    with pytest.raises(Unavailable, match=f"day=2026-01-02/x.parquet of lake/exports {said}"):
        list(batches)


# Whole jobs


def features() -> pa.Table:
    ids = np.arange(200)
    return pa.table({
        "id": pa.array(ids, mask=ids == 7), "a": pa.array(ids % 40 * 0.1, mask=ids % 9 == 0), "text": [f"t{i}" for i in ids],
        "day": pa.array([dt.date(2026, 1, 2 + int(i) % 2) for i in ids]),
    })  # fmt: skip


def export(table: str, rows: pa.Table) -> None:
    location = locate(table)
    ds.write_dataset(
        rows, location.path, filesystem=location.filesystem(), format="parquet", partitioning=["day"],
        partitioning_flavor="hive", existing_data_behavior="delete_matching", create_dir=not location.remote,
    )  # fmt: skip


@pytest.fixture
def daily(make_job, imputing):
    """daily(lake, type, scored): a job over the rows of a day."""

    def make(lake, type="parquet", scored="scores", **sections):
        return make_job(
            imputing, date=DAY, keep=["text", "day"], slice={"score_date": "{date}"},
            checks={"quarantine": {"max_fraction": 0.5}},
            source={"type": type, "table": f"{lake}/{type}", "where": "day = '{date}'"},
            sinks=[{"type": "delta", "table": f"{lake}/{scored}"}], **sections,
        )  # fmt: skip

    return make


@pytest.mark.quick("S3-local", "disk-spark")
@pytest.mark.parametrize("engine", ["local", "spark"])
def test_scores_are_those_of_the_same_rows_in_a_delta_table(request, engine, lake, daily):
    if engine == "spark":
        request.getfixturevalue("spark")
    export(f"{lake}/parquet", features())
    write(f"{lake}/delta", features(), ["day"])
    result = score(daily(lake), engine)
    score(daily(lake, "delta", "expected", job="other"), engine)
    assert (result.status, result.rows_read) == ("published", 100)
    scored, expected = read(f"{lake}/scores"), read(f"{lake}/expected")
    assert_tables_equal(scored.drop_columns([*LINEAGE, "_job"]), expected.drop_columns([*LINEAGE, "_job"]))
    assert set(scored["_input_version"].to_pylist()) == {result.input["version"]}


@pytest.mark.quick("disk")
def test_a_job_is_unchanged_until_a_file_of_its_day_changes(lake, daily):
    export(f"{lake}/parquet", features())
    assert [score(daily(lake)).status for _ in range(2)] == ["published", "unchanged"]
    put(f"day={NEXT}/more.parquet", features().slice(0, 1).drop_columns("day"), f"{lake}/parquet")
    assert score(daily(lake)).status == "unchanged"
    put(f"day={DAY}/more.parquet", {"id": [1_000], "a": [0.5], "text": ["more"]}, f"{lake}/parquet")
    result = score(daily(lake))
    assert (result.status, result.rows_read) == ("published", 101)


@pytest.mark.parametrize("engine", ["local", "spark"])
@pytest.mark.quick("disk-local")
def test_a_file_that_changes_between_pin_and_read_publishes_nothing(request, engine, lake, daily):
    if engine == "spark":
        request.getfixturevalue("spark")
    export(f"{lake}/parquet", features())

    def change(event: str, values: Mapping[str, Any]) -> None:
        if event == "units":  # the workers are about to begin
            put(f"day={DAY}/part-0.parquet", {"id": [1], "a": [1.0], "text": ["late"]}, f"{lake}/parquet")

    with pytest.raises(Unavailable, match=r"part-0\.parquet of .* was written to after this run had looked at it: run"):
        score(daily(lake), engine, say=change)
    assert version(f"{lake}/scores") == -1
    result = score(daily(lake), engine)
    assert (result.status, result.rows_read) == ("published", 1)


def test_content_of_the_same_size_in_the_same_second_is_told_apart_on_s3(bucket):
    seen = []
    for value in (1, 2):
        put("x.parquet", {"id": [value]}, bucket)
        seen.append(pinned(table=bucket))
    one, two = (input_.files[0].stamp for input_ in seen)
    assert one != two
    assert one.split()[0] == two.split()[0]
    assert rows(table=bucket).to_pydict() == {"id": [2]}
    [unit] = units(seen[0], ["id"], 10, 1)
    with pytest.raises(Unavailable, match=r"x\.parquet of s3://.* was written to after"):
        list(unit.batches())


def test_an_empty_day_is_not_ready(daily, workspace):
    export("lake/parquet", features().filter(pa.compute.equal(features()["day"], dt.date(2026, 1, 3))))
    with pytest.raises(NotReady):
        score(daily("lake"))


def test_the_input_is_not_the_scored_table(daily):
    with pytest.raises(ConfigError, match=r"sinks.0.table: 'lake/parquet' is also source.table"):
        daily("lake", scored="parquet")
