"""The stand-in for Snowflake does what tests of the project rely on: the real driver talks to it here."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import pickle
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Context, Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector.constants import FIELD_ID_TO_NAME
from snowflake.connector.errors import DatabaseError, Error, ProgrammingError

pytestmark = pytest.mark.long

EXACT = {"number_to_decimal": True, "force_microsecond_precision": True}
FETCH = f"""
import pickle, sys
batches = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps([batch.to_arrow(**{EXACT}) for batch in batches]))
"""
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 123456)
REPEAT = {"retry_max_attempts": 3}


@pytest.fixture
def database():
    return f"D{uuid.uuid4().hex[:8].upper()}"


@pytest.fixture
def connect(snow, database):
    """connect(**options) → a connection to this test's own database; closed afterwards."""
    opened = []

    def make(**more):
        opened.append(snow.connect(database=database, schema="S", **more))
        return opened[-1]

    yield make
    snow.fail(("", "drop", 0))
    for connection in opened:
        connection.close()


@pytest.fixture
def run(connect):
    """run(SQL) → all rows."""
    cursor = connect().cursor()
    return lambda sql: cursor.execute(sql).fetchall()


def key():
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return made.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_who_has_a_password_or_a_key_comes_in(connect):
    for secret in ({}, {"authenticator": "SNOWFLAKE_JWT", "private_key": key()}):
        assert connect(**secret).cursor().execute("SELECT 1").fetchall() == [(1,)]
    with pytest.raises(DatabaseError, match="Incorrect username or password"):
        connect(password="wrong")


def test_a_login_by_name_has_its_settings_from_a_file(snow, database, monkeypatch, tmp_path):
    path = tmp_path / "key.p8"
    private = serialization.load_der_private_key(key(), None)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private.private_bytes(*pem))
    with_key = {"authenticator": "SNOWFLAKE_JWT", "private_key_file": str(path)}
    # the driver warns of this one's absence before it looks into the file
    explicit = {"enable_server_session_keep_alive_auto_detection": False}
    monkeypatch.setenv("SNOWFLAKE_HOME", str(tmp_path))
    for name, more, schema in (("by password", {}, "S"), ("with-key", with_key, "OTHER")):
        (tmp_path / "connections.toml").write_text(snow.toml(name, database=database, schema=schema, **more))
        (tmp_path / "connections.toml").chmod(0o600)
        with snowflake.connector.connect(connection_name=name, **explicit) as connection:
            rows = connection.cursor().execute("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()").fetchall()
            assert rows == [(database, schema)]
    with pytest.raises(Error, match="Connection 'by password' not found"):
        snowflake.connector.connect(connection_name="by password", **explicit)


def test_values_of_every_type_come_back(run, connect):
    run("CREATE TABLE t (i NUMBER(38,0), n NUMBER(12,2), f DOUBLE, b BOOLEAN, s VARCHAR, x BINARY, d DATE, "
        "t TIME, ts TIMESTAMP_NTZ, tz TIMESTAMP_TZ)")  # fmt: skip
    rows = [
        (2**53 + 1, Decimal("1234567890.12"), 0.1, True, "ä'", b"\0\xff", MOMENT.date(), MOMENT.time(), MOMENT,
         MOMENT.replace(tzinfo=dt.UTC)),
        (None,) * 10,
    ]  # fmt: skip
    run(f"INSERT INTO t SELECT {2**53 + 1}, 1234567890.12, 0.1::DOUBLE, TRUE, 'ä''', TO_BINARY('00FF', 'HEX'), "
        "'2026-01-02', '03:04:05.123456', '2026-01-02 03:04:05.123456', '2026-01-02 03:04:05.123456+00:00'")  # fmt: skip
    run(f"INSERT INTO t VALUES ({', '.join(['NULL'] * 10)})")
    assert run("SELECT * FROM t ORDER BY i") == rows
    table = connect().cursor().execute("SELECT * FROM t ORDER BY i").fetch_arrow_all(force_microsecond_precision=True)
    assert table["TS"].to_pylist() == [MOMENT, None]
    assert str(table.schema.field("TS").type) == "timestamp[us]"


def test_a_statement_is_carried_out_once_where_that_is_asked_for(snow, connect):
    cursor = connect().cursor()
    snow.set(once="RANDOM\\(")
    kept, other = "SELECT RANDOM() AS n", "SELECT UUID_STRING() AS n"
    kept_twice, other_twice = ([cursor.execute(sql).fetchall() for _ in range(2)] for sql in (kept, other))
    assert kept_twice[0] == kept_twice[1]
    assert other_twice[0] != other_twice[1]
    snow.reset()
    assert cursor.execute(kept).fetchall() != kept_twice[0]


@pytest.mark.parametrize("gzip", [True, False])
def test_a_long_result_comes_in_parts_that_another_process_can_fetch(snow, connect, gzip):
    snow.set(chunk_rows=1500, gzip=gzip)
    cursor = connect().cursor()
    cursor.execute(
        "SELECT range AS id, (range / 100)::NUMBER(10, 2) AS n, IFF(range % 7 = 0, NULL, "
        "'2026-01-02 03:04:05.123456'::TIMESTAMP_NTZ) AS ts FROM range(10000) ORDER BY id"
    )
    batches = cursor.get_result_batches()
    assert [batch.rowcount for batch in batches] == [1500] * 6 + [1000]
    assert all((batch.compressed_size < batch.uncompressed_size) is gzip for batch in batches[1:])
    packed = [pickle.dumps(batch) for batch in batches]
    assert all(300 < len(text) < 1000 for text in packed[1:])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FETCH], input=pickle.dumps(batches), stdout=subprocess.PIPE, check=True, timeout=60
    )  # fmt: skip
    tables = pickle.loads(done.stdout)
    assert all(str(table.schema.field("N").type) == "decimal128(38, 2)" for table in tables)
    ids = range(10000)
    columns = {
        "ID": pa.array(ids, pa.int16()),
        "N": pa.array([Decimal(i) / 100 for i in ids], pa.decimal128(38, 2)),
        "TS": pa.array([MOMENT if i % 7 else None for i in ids], pa.timestamp("us")),
    }
    table = pa.concat_tables(tables)
    assert table.equals(pa.table(columns))
    assert cursor.fetchall() == list(zip(*table.to_pydict().values(), strict=True))


DECLARED = """
    "N" NUMBER(38,0) NOT NULL, "N2" NUMBER(12,2), "N37" NUMBER(38,37), "F" FLOAT, "B" BOOLEAN, "V20" VARCHAR(20),
    "V" VARCHAR, "X" BINARY, "D" DATE, "TI" TIME, "NTZ" TIMESTAMP_NTZ(6), "NTZ3" TIMESTAMP_NTZ(3),
    "NTZ9" TIMESTAMP_NTZ, "LTZ" TIMESTAMP_LTZ(6), "LTZ9" TIMESTAMP_LTZ, "TZ" TIMESTAMP_TZ, "VA" VARIANT,
    "AR" ARRAY, "OB" OBJECT, "select ""x\""" INT
"""
DESCRIBED = {
    "N": ("FIXED", 38, 0), "N2": ("FIXED", 12, 2), "N37": ("FIXED", 38, 37), "F": ("REAL", None, None),
    "B": ("BOOLEAN", None, None), "V20": ("TEXT", None, None), "V": ("TEXT", None, None),
    "X": ("BINARY", None, None), "D": ("DATE", None, None), "TI": ("TIME", 0, 9), "NTZ": ("TIMESTAMP_NTZ", 0, 6),
    "NTZ3": ("TIMESTAMP_NTZ", 0, 3), "NTZ9": ("TIMESTAMP_NTZ", 0, 9), "LTZ": ("TIMESTAMP_LTZ", 0, 6),
    "LTZ9": ("TIMESTAMP_LTZ", 0, 9), "TZ": ("TIMESTAMP_TZ", 0, 9), "VA": ("VARIANT", None, None),
    "AR": ("ARRAY", None, None), "OB": ("OBJECT", None, None), 'select "x"': ("FIXED", 38, 0),
}  # fmt: skip
"""What describe() says about these columns: type, precision and scale."""


def described(columns):
    return {c.name: (FIELD_ID_TO_NAME[c.type_code], c.precision, c.scale) for c in columns}


def test_a_query_is_described_with_its_declared_types_and_not_carried_out(snow, run, connect):
    run(f'CREATE TABLE "T" ({DECLARED})')
    cursor = connect().cursor()
    everything = cursor.describe('SELECT * FROM "S"."T"')
    assert described(everything) == DESCRIBED
    assert [c.name for c in everything if not c.is_nullable] == ["N"]
    assert {c.name: c.internal_size for c in everything if c.internal_size} == {"V20": 20, "V": 2**24, "X": 2**23}
    run('CREATE VIEW v AS SELECT "LTZ" AS "moment", "N2" AS "n" FROM t WHERE "N" > 1')
    run('ALTER TABLE "T" ADD COLUMN "NEW" TIMESTAMP_LTZ(3) COMMENT \'since today\', "NEWER" ARRAY')
    for sql in (
        'SELECT * FROM v WHERE "moment" IS NULL',
        'WITH a AS (SELECT * FROM t) SELECT "LTZ" AS "moment", n2 AS "n" FROM a',
    ):
        assert described(cursor.describe(sql)) == {"moment": DESCRIBED["LTZ"], "n": DESCRIBED["N2"]}
    sql = 'SELECT "NEW", "NEWER" AS "newer", ltz::DATE AS d, \'1\'::NUMBER(5,1) AS n, ob AS "NEW2" FROM t'
    assert described(cursor.describe(sql)) == {
        "NEW": ("TIMESTAMP_LTZ", 0, 3), "newer": DESCRIBED["AR"], "D": DESCRIBED["D"], "N": ("FIXED", 5, 1),
        "NEW2": DESCRIBED["OB"],
    }  # fmt: skip
    assert cursor.describe('INSERT INTO "T" ("N") VALUES (1)')[0].name == "number of rows inserted"
    assert run('SELECT * FROM "T"') == []
    run('CREATE OR REPLACE TABLE t ("LTZ" VARCHAR)')
    assert described(cursor.describe("SELECT * FROM t")) == {"LTZ": DESCRIBED["V"]}


def test_what_is_missing_is_missing_for_describe_too(connect):
    cursor = connect().cursor()
    for ask in (cursor.describe, cursor.execute):
        with pytest.raises(ProgrammingError, match="NOPE") as caught:
            ask('SELECT * FROM "S"."NOPE"')
        assert (caught.value.errno, caught.value.sqlstate) == (2003, "42S02")


FIRST, LAST = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999)
NINES = int("9" * 38)


def test_arrow_has_every_value_of_every_type(snow, run, connect):
    snow.set(chunk_rows=1)
    run(f'CREATE TABLE "T" ({DECLARED})')
    tiny = "0." + "0" * 36 + "1"
    texts = [
        f"SELECT {NINES}, -9999999999.99, 9.{'9' * 37}, '-0.0'::FLOAT, TRUE, 'ä', '\U0001f600\\n''\"', TO_BINARY('00FF', 'HEX'), "
        "'0001-01-01', '23:59:59.999999', '0001-01-01', '0001-01-01', '0001-01-01', '0001-01-01', '0001-01-01 00:00:00+00:00', "
        "'0001-01-01 00:00:00+00:00', PARSE_JSON('{\"a\": [1, null]}'), ARRAY_CONSTRUCT(1, 'b'), OBJECT_CONSTRUCT('k', 1), -1",
        f"SELECT {-NINES}, 0.01, -{tiny}, 'NaN'::FLOAT, FALSE, '', '', TO_BINARY('', 'HEX'), "
        "'9999-12-31', '00:00:00', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999', "
        "'9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999', "
        "'9999-12-31 23:59:59.999999+00:00', PARSE_JSON('1'), ARRAY_CONSTRUCT(), OBJECT_CONSTRUCT(), 2",
        f"SELECT 3{', NULL' * 19}",
        "SELECT 4, 1, 2, '-inf'::FLOAT, NULL, NULL, NULL, NULL, '1969-12-31', NULL, '1969-12-31 23:59:59.9', '1969-12-31 23:59:59.9', "
        "'1969-12-31 23:59:59.9', '1969-12-31 23:59:59.9', NULL, '2026-01-02 03:04:05.5 +02:00'::TIMESTAMP_TZ, NULL, NULL, NULL, 3",
    ]
    for text in texts:
        run(f'INSERT INTO "T" {text}')
    batches = connect(timezone="UTC").cursor().execute('SELECT * FROM "T"').get_result_batches()
    tables = [batch.to_arrow(**EXACT) for batch in batches]
    utc = {"tzinfo": dt.UTC}
    early = dt.datetime(1969, 12, 31, 23, 59, 59, 900000)
    day, last_day = FIRST.date(), LAST.date()
    expected = [
        [NINES, Decimal("-9999999999.99"), Decimal("9." + "9" * 37), -0.0, True, "ä", "\U0001f600\n'\"", b"\0\xff", day,
         dt.time(23, 59, 59, 999999), FIRST, FIRST, FIRST, *[FIRST.replace(**utc)] * 3, {"a": [1, None]}, [1, "b"], {"k": 1}, -1],
        [-NINES, Decimal("0.01"), -Decimal(tiny), "nan", False, "", "", b"", last_day, dt.time(0), LAST,
         LAST.replace(microsecond=999000), LAST, *[LAST.replace(**utc)] * 3, 1, [], {}, 2],
        [3, *[None] * 19],
        [4, 1, 2, float("-inf"), None, None, None, None, dt.date(1969, 12, 31), None, early, early, early,
         early.replace(**utc), None, dt.datetime(2026, 1, 2, 1, 4, 5, 500000, dt.UTC), None, None, None, 3],
    ]  # fmt: skip
    for table, row in zip(tables, expected, strict=True):
        (got,) = (list(each.values()) for each in table.to_pylist())
        got[16:19] = [text and json.loads(text) for text in got[16:19]]
        got[3] = "nan" if got[3] is not None and math.isnan(got[3]) else got[3]
        assert got == row
    assert math.copysign(1, tables[0]["F"][0].as_py()) == -1
    types = [dict(zip(table.schema.names, map(str, table.schema.types), strict=True)) for table in tables]
    # a NUMBER's type in Arrow is that of its values in the chunk
    assert [t["N"] for t in types] == ["decimal128(38, 0)", "decimal128(38, 0)", "int8", "int8"]
    assert [t["N37"] for t in types] == ["decimal128(38, 37)"] * 4
    others = {name: t for name, t in types[0].items() if not name.startswith("N") or name.startswith("NTZ")}
    assert others == {
        "F": "double", "B": "bool", "V20": "string", "V": "string", "X": "binary", "D": "date32[day]", "TI": "time64[us]",
        "NTZ": "timestamp[us]", "NTZ3": "timestamp[ms]", "NTZ9": "timestamp[us]", "LTZ": "timestamp[us, tz=UTC]",
        "LTZ9": "timestamp[us, tz=UTC]", "TZ": "timestamp[us, tz=UTC]", "VA": "string", "AR": "string",
        "OB": "string", 'select "x"': "int8",
    }  # fmt: skip


def test_decimals_of_every_scale(connect):
    cursor = connect().cursor()
    for scale in (0, 1, 9, 17, 18, 19, 36, 37):
        for text in ("1", "-" + "9" * 38, "12345678901234567890"):
            value = Decimal(text).scaleb(-scale, Context(prec=38))
            cursor.execute(f"SELECT '{value:f}'::NUMBER(38,{scale}) AS n")
            (batch,) = cursor.get_result_batches()
            assert batch.to_arrow(**EXACT)["N"].to_pylist() == [value]


def test_a_result_without_rows_has_no_batches(connect):
    cursor = connect().cursor().execute("SELECT 1 AS a, 'x' AS b WHERE FALSE")
    assert cursor.get_result_batches() == []
    assert cursor.fetch_arrow_all(force_return_table=True).schema == pa.schema({"A": pa.int64(), "B": pa.string()})


def test_urls_of_a_result_end(snow, connect):
    snow.set(max_age=0)
    batches = connect().cursor().execute("SELECT range FROM range(2000)").get_result_batches()
    assert batches[0].to_arrow().num_rows == 1000  # came with the answer
    with pytest.raises(Error, match="Failed to fetch chunk data"):
        batches[1].to_arrow()


def put(run, tmp_path, name, ids):
    stamps = [MOMENT + dt.timedelta(microseconds=i) for i in ids]
    quarters = pa.array([Decimal(i) / 4 for i in ids], pa.decimal128(10, 2))
    table = pa.table({"TS": pa.array(stamps, pa.timestamp("us")), "N": quarters, "ID": ids})
    pq.write_table(table, tmp_path / name)
    ((*_, status, _message),) = run(f"PUT file://{tmp_path / name} @st/run AUTO_COMPRESS = FALSE OVERWRITE = TRUE")
    assert status == "UPLOADED"
    return list(zip(table["ID"].to_pylist(), table["N"].to_pylist(), table["TS"].to_pylist(), strict=True))


def test_exactly_the_files_named_are_loaded(run, tmp_path):
    run("CREATE TABLE t (id NUMBER(38,0), n NUMBER(10,2), ts TIMESTAMP_NTZ)")
    run("CREATE STAGE st")
    a, b, c = (put(run, tmp_path, f"{name}.parquet", ids) for name, ids in (("a", [1, 2]), ("b", [3]), ("c", [4])))
    copy = (
        "COPY INTO t FROM @st/run FILES = ({}) FILE_FORMAT = (TYPE = PARQUET) MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE"
    )
    loaded = run(copy.format("'a.parquet', 'b.parquet'"))
    assert [row[:4] for row in loaded] == [("st/run/a.parquet", "LOADED", 2, 2), ("st/run/b.parquet", "LOADED", 1, 1)]
    assert run("SELECT * FROM t ORDER BY id") == [*a, *b]
    # loaded before, unless forced
    assert run(copy.format("'a.parquet'") + " FORCE = FALSE")[0][1] == "LOAD_SKIPPED"
    run(copy.format("'c.parquet', 'b.parquet'") + " FORCE = TRUE PURGE = FALSE")
    assert run("SELECT * FROM t ORDER BY id") == [*a, *b, *b, *c]
    assert [row[0] for row in run("LIST @st")] == [f"st/run/{name}.parquet" for name in "abc"]
    assert run("REMOVE @st/run/b.parquet") == [("st/run/b.parquet", "removed")]
    assert len(run("REMOVE @st/run")) == 2
    assert run("LIST @st") == run("REMOVE @st") == []
    with pytest.raises(ProgrammingError, match=r"st/run/no.parquet' was not found"):
        run(copy.format("'no.parquet'"))


def test_a_transaction_is_all_or_nothing_and_its_own(run, connect):
    other = connect().cursor()
    run("CREATE TABLE t (i NUMBER(38,0))")
    run("INSERT INTO t VALUES (1)")
    for end, left in (("ROLLBACK", [(1,)]), ("COMMIT", [(2,), (3,)])):
        run("BEGIN")
        run("DELETE FROM t")
        run("INSERT INTO t VALUES (2)")
        run("MERGE INTO t USING (SELECT 3 AS i) AS n ON t.i = n.i WHEN NOT MATCHED THEN INSERT (i) VALUES (n.i)")
        assert other.execute("SELECT i FROM t").fetchall() == [(1,)]
        run(end)
        assert other.execute("SELECT i FROM t ORDER BY i").fetchall() == left


def test_what_a_sink_creates(run):
    table = '"S"."T"'
    columns = """("ID" NUMBER(19,0) NOT NULL COMMENT 'the player''s', "X" FLOAT COMMENT '')"""
    for _ in range(2):
        run(f"CREATE TABLE IF NOT EXISTS {table} {columns} COMMENT = 'scores'")
        run('CREATE STAGE IF NOT EXISTS "S"."T_STAGE"')
    run(f"INSERT INTO {table} VALUES (1, 2)")
    run(f"""ALTER TABLE {table} ADD COLUMN "Y" FLOAT COMMENT 'since today', "Z" ARRAY""")
    assert run(f"SELECT * FROM {table}") == [(1, 2.0, None, None)]
    with pytest.raises(ProgrammingError, match="already exists") as caught:
        run(f"CREATE TRANSIENT TABLE {table} {columns}")
    assert (caught.value.errno, caught.value.sqlstate) == (2002, "42710")
    run(f"CREATE OR REPLACE TRANSIENT TABLE {table} {columns}")
    assert run(f"SELECT * FROM {table}") == []
    for _ in range(2):
        run(f"DROP TABLE IF EXISTS {table}")
    with pytest.raises(ProgrammingError, match="does not exist or not authorized"):
        run(f"DROP TABLE {table}")
    for schema in ("NO", "NO.S"):
        with pytest.raises(ProgrammingError, match=f"002003 .02000.*\nSchema '{schema}' does not exist or not auth"):
            run(f"SELECT * FROM {schema}.t")


def test_sessions_upload_at_once_each_into_its_folder(snow, run, connect, database, tmp_path):
    run("CREATE STAGE st")

    def upload(name):
        files = tmp_path / name
        files.mkdir()
        for file in "abc":
            (files / f"{file}.parquet").write_text(f"{name} {file}")
        cursor = connect().cursor()
        cursor.execute(f'PUT \'file://{files}/*.parquet\' @"{database}"."S"."ST"/{name}/ AUTO_COMPRESS = FALSE')
        return sorted((row[1], row[6]) for row in cursor.fetchall())

    names = [f"run-{uuid.uuid4()}" for _ in range(3)]
    with ThreadPoolExecutor() as threads:
        assert list(threads.map(upload, names)) == [[(f"{file}.parquet", "UPLOADED") for file in "abc"]] * 3
    there = {row[0]: row[1] for row in run(f'LIST @"{database}"."S"."ST"')}
    assert there == {f"st/{name}/{file}.parquet": len(f"{name} {file}") for name in names for file in "abc"}
    assert len([sql for sql, _ in snow.statements() if sql.startswith("PUT")]) == 3
    place = f'@"{database}"."S"."ST"/{names[0]}/'
    assert [row[0] for row in run(f"LIST {place}")] == [f"st/{names[0]}/{file}.parquet" for file in "abc"]
    assert {row[1] for row in run(f"REMOVE '{place}'")} == {"removed"}
    assert run(f"LIST {place}") == []
    assert len(run("LIST @st")) == 6
    for command in ("LIST", "REMOVE"):
        with pytest.raises(ProgrammingError, match="does not exist or not authorized"):
            run(f"{command} @no/{names[0]}/")


MATCHED = (
    "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE) "
    "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT"
)


def test_parquet_of_every_type_is_loaded(run, connect, database, tmp_path):
    early, late = FIRST.replace(tzinfo=dt.UTC), LAST.replace(tzinfo=dt.UTC)
    nines = Decimal("9" * 38)
    reason = pa.struct({"rule": pa.string(), "bound": pa.float64(), "of": pa.list_(pa.string())})
    columns = {
        "I8": ("NUMBER(3,0)", pa.int8(), [-128, 127]), "I16": ("NUMBER(5,0)", pa.int16(), [-(2**15), 2**15 - 1]),
        "I32": ("NUMBER(10,0)", pa.int32(), [-(2**31), 2**31 - 1]),
        "I64": ("NUMBER(19,0)", pa.int64(), [-(2**63), 2**63 - 1]),
        "F32": ("FLOAT", pa.float32(), [1.5, float("-inf")]), "F64": ("FLOAT", pa.float64(), [-0.0, float("inf")]),
        "B": ("BOOLEAN", pa.bool_(), [True, False]), "V": ("VARCHAR", pa.string(), ["ä\U0001f600\n'\"\\", ""]),
        "X": ("BINARY", pa.binary(), [b"\0\xff", b""]), "D": ("DATE", pa.date32(), [FIRST.date(), LAST.date()]),
        "NTZ": ("TIMESTAMP_NTZ(6)", pa.timestamp("us"), [FIRST, LAST]),
        "LTZ": ("TIMESTAMP_LTZ(6)", pa.timestamp("us", "UTC"), [early, late]),
        "N": ("NUMBER(38,0)", pa.decimal128(38, 0), [nines, nines.copy_negate()]),
        "N37": ("NUMBER(38,37)", pa.decimal128(38, 37), [Decimal("9." + "9" * 37), Decimal("-9." + "9" * 37)]),
        "N2": ("NUMBER(12,2)", pa.decimal128(12, 2), [Decimal("1.25"), Decimal("-0.01")]),
        "L": ("ARRAY", pa.list_(pa.string()), [["a", None, "ä"], []]),
        "LS": ("ARRAY", pa.list_(reason), [[{"rule": "a b", "bound": 1.5, "of": ["x"]}], []]),
        "ST": ("OBJECT", reason, [{"rule": "a", "bound": None, "of": None}, {"rule": None, "bound": 0.5, "of": []}]),
        "M": ("OBJECT", pa.map_(pa.string(), pa.int64()), [[("k", 1)], []]),
        "VA": ("VARIANT", pa.list_(pa.int64()), [[1], [2, None]]),
        'select "x"': ("NUMBER(19,0)", pa.int64(), [1, 2]),
    }  # fmt: skip
    table = pa.table({name: pa.array([*values, None], kind) for name, (_, kind, values) in columns.items()})
    for name, rows in (("a", table.slice(0, 2)), ("b", table.slice(2))):
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    created = ", ".join('"' + name.replace('"', '""') + f'" {kind}' for name, (kind, _, _) in columns.items())
    run(f'CREATE TRANSIENT TABLE "T_LOAD" ({created}, "LATER" FLOAT)')
    run("CREATE STAGE st")
    run(f'PUT \'file://{tmp_path}/*.parquet\' @"{database}"."S"."ST"/run-1/ AUTO_COMPRESS = FALSE')
    run("BEGIN")
    files = "FILES = ('a.parquet', 'b.parquet')"
    loaded = run(f'COPY INTO "{database}"."S"."T_LOAD" FROM @"{database}"."S"."ST"/run-1/ {files} {MATCHED}')
    assert [row[:4] for row in loaded] == [
        ("st/run-1/a.parquet", "LOADED", 2, 2), ("st/run-1/b.parquet", "LOADED", 1, 1),
    ]  # fmt: skip
    other = connect().cursor()
    assert other.execute('SELECT * FROM "T_LOAD"').fetchall() == []
    run("COMMIT")
    other.execute('SELECT * EXCLUDE "LATER" FROM "T_LOAD" ORDER BY "I8"')
    (batch,) = other.get_result_batches()
    got = batch.to_arrow(**EXACT).cast(
        pa.schema([(n, pa.string() if k in ("ARRAY", "OBJECT", "VARIANT") else t) for n, (k, t, _) in columns.items()])
    )
    expected = table.to_pydict()
    expected["M"] = [{"k": 1}, {}, None]
    for name, (kind, _, _) in columns.items():
        semi = kind in ("ARRAY", "OBJECT", "VARIANT")
        assert [v and json.loads(v) if semi else v for v in got[name].to_pylist()] == expected[name], name
    assert math.copysign(1, got["F64"][0].as_py()) == -1


@pytest.mark.parametrize("name", ["lower", "my table", "a-b", 'a"b'])
def test_names_may_have_other_characters_and_columns_match_by_case(run, tmp_path, name):
    pq.write_table(pa.table({"id": [1], 'select "x"': [1.5], "FROM": ["a"]}), tmp_path / "a.parquet")
    quoted = name.replace('"', '""')
    for table in (quoted, f"{quoted}_LOAD"):
        run(f'CREATE TABLE "S"."{table}" ("id" NUMBER(19,0), "select ""x""" FLOAT, "from" VARCHAR)')
    place = f'@"S"."{quoted}_STAGE"'
    run(f'CREATE STAGE "S"."{quoted}_STAGE"')
    run(f"PUT 'file://{tmp_path}/a.parquet' '{place}/run-1/' AUTO_COMPRESS = FALSE")
    copy = f'COPY INTO "S"."{quoted}_LOAD" FROM {place}/run-1/ FILES = (\'a.parquet\') FORCE = TRUE {MATCHED}'
    run(copy)
    run(copy.replace("CASE_INSENSITIVE", "CASE_SENSITIVE"))
    rows = [(1, 1.5, "a"), (1, 1.5, None)]
    assert run(f'SELECT * FROM "S"."{quoted}_LOAD" ORDER BY "from"') == rows
    run(f'DELETE FROM "S"."{quoted}_LOAD" WHERE "from" IS NULL')
    for _ in range(2):
        run(f'MERGE INTO "S"."{quoted}" AS t USING "S"."{quoted}_LOAD" AS n ON t."id" = n."id" WHEN MATCHED THEN '
            'UPDATE SET t."select ""x""" = n."select ""x""", "from" = n."from" WHEN NOT MATCHED THEN '
            'INSERT ("id", "select ""x""", "from") VALUES (n."id", n."select ""x""", n."from")')  # fmt: skip
    assert run(f'SELECT * FROM "S"."{quoted}"') == rows[:1]
    assert len(run(f"REMOVE {place}/run-1/")) == 1


def test_a_publication_is_one_transaction(run, connect):
    other = connect().cursor()
    run('CREATE TABLE t ("ID" NUMBER(19,0) NOT NULL, "SCORE" NUMBER(5,2), "DAY" DATE)')
    run('CREATE TABLE t_load ("ID" NUMBER(19,0), "SCORE" NUMBER(5,2))')
    run("CREATE TABLE ledger (fence NUMBER(38,0))")
    run("INSERT INTO ledger VALUES (0)")
    run("INSERT INTO t VALUES (1, 1, '2026-01-01'), (1, 1, '2026-01-02'), (7, 7, '2026-01-02')")
    before = run("SELECT * FROM t ORDER BY 3, 1")
    publish = [
        "BEGIN",
        "UPDATE ledger SET fence = fence + 1 WHERE fence = 0",
        "DELETE FROM t_load",
        "INSERT INTO t_load VALUES (1, 5.5), (2, NULL)",
        "DELETE FROM t WHERE \"DAY\" = '2026-01-02'::DATE",
        'INSERT INTO t ("ID", "SCORE", "DAY") SELECT "ID", "SCORE", \'2026-01-02\'::DATE FROM t_load',
        'MERGE INTO t USING t_load AS n ON t."ID" = n."ID" AND t."DAY" = \'2026-01-01\'::DATE '
        'WHEN MATCHED THEN UPDATE SET "SCORE" = n."SCORE" '
        'WHEN NOT MATCHED THEN INSERT ("ID", "SCORE", "DAY") VALUES (n."ID", n."SCORE", \'2026-01-01\'::DATE)',
    ]
    day, next_day, score = dt.date(2026, 1, 1), dt.date(2026, 1, 2), Decimal("5.5")
    after = [(1, score, day), (2, None, day), (1, score, next_day), (2, None, next_day)]
    for end in ("ROLLBACK", "close", "COMMIT"):
        cursor = connect().cursor()
        counts = [cursor.execute(sql).fetchall()[0][0] for sql in publish]
        assert counts[1:] == [1, 0, 2, 2, 2, 1]
        assert cursor.execute("SELECT * FROM t ORDER BY 3, 1").fetchall() == after
        for reader in (other.execute, run):
            rows = reader("SELECT * FROM t ORDER BY 3, 1")
            assert list(rows) == before
        assert run("SELECT fence FROM ledger") == [(0,)]
        cursor.connection.close() if end == "close" else cursor.execute(end)
    assert run("SELECT * FROM t ORDER BY 3, 1") == after
    assert run("SELECT fence FROM ledger") == [(1,)]


def test_a_row_is_merged_into_once_only(run):
    run('CREATE TABLE "T" ("ID" NUMBER(19,0), "N" FLOAT)')
    run('CREATE TABLE "T_LOAD" ("ID" NUMBER(19,0), "N" FLOAT)')
    run('INSERT INTO "T" VALUES (1, 0)')
    merge = (
        'MERGE INTO "S"."T" AS t USING (SELECT * FROM "S"."T_LOAD") AS n ON t."ID" = n."ID" '
        'WHEN MATCHED THEN UPDATE SET t."N" = n."N" WHEN NOT MATCHED THEN INSERT ("ID", "N") VALUES (n."ID", n."N")'
    )
    run('INSERT INTO "T_LOAD" VALUES (1, 1), (2, 2), (2, 3)')
    assert run(merge) == [(2, 1)]  # equal keys that aren't there yet are all inserted
    with pytest.raises(ProgrammingError, match=r"100090 \(42P18\): Duplicate row detected"):
        run(merge)
    assert run('SELECT * FROM "T" ORDER BY 1, 2') == [(1, 1.0), (2, 2.0), (2, 3.0)]


def test_a_row_that_does_not_fit_fails_its_statement(run):
    run('CREATE TABLE t ("ID" NUMBER(5,0) NOT NULL, "N" NUMBER(5,2))')
    run('CREATE TABLE t_load ("ID" NUMBER(38,0), "N" NUMBER(38,0))')
    run("INSERT INTO t_load VALUES (1, 1), (NULL, 2), (3, 1000), (100000, 4)")
    for where, number, message in (
        ("1, 2", 100072, "NULL result in a non-nullable column"), ("1, 1000", 100039, "Numeric value '1000' is out of range"),
        ("1, 4", 100039, "Numeric value '100000' is out of range"),
    ):  # fmt: skip
        with pytest.raises(Error, match=message) as caught:
            run(f'INSERT INTO t SELECT "ID", "N" FROM t_load WHERE "N" IN ({where})')
        assert caught.value.errno == number
    with pytest.raises(ProgrammingError, match=r"100038 .*Numeric value 'x' is not recognized"):
        run("INSERT INTO t VALUES ('x', 1)")
    with pytest.raises(ProgrammingError, match=r"000904 .*\ninvalid identifier 'NO'"):
        run("INSERT INTO t SELECT no, 1 FROM t_load")
    assert run("SELECT * FROM t") == []
    run("BEGIN")
    for sql in ("SELECT * FROM no", "INSERT INTO t VALUES (NULL, 1)"):
        with pytest.raises(Error):
            run(sql)
    run("INSERT INTO t VALUES (1, 1)")
    with pytest.raises(Error):
        run("INSERT INTO t VALUES (NULL, 1)")
    for sql in ("COMMIT", "CREATE TABLE u (i INT)"):  # not so in Snowflake
        with pytest.raises(ProgrammingError, match="please ROLLBACK"):
            run(sql)
    run("ROLLBACK")
    assert run("SELECT * FROM t") == []


def test_a_transaction_sees_what_others_commit_before_it_changes_anything(run, connect):
    other = connect().cursor()
    run("CREATE TABLE t (i NUMBER(38,0))")
    other.execute("BEGIN")
    assert other.execute("SELECT i FROM t").fetchall() == []
    run("INSERT INTO t VALUES (1)")
    other.execute("UPDATE t SET i = i + 1")
    assert other.execute("SELECT i FROM t").fetchall() == [(2,)]
    other.execute("BEGIN")  # nothing happens: there is a transaction
    other.execute("ROLLBACK")
    assert run("SELECT i FROM t") == [(1,)]


MERGE = "MERGE INTO t USING (SELECT 1 AS i) AS n ON t.i = n.i WHEN MATCHED THEN UPDATE SET n = 9"


@pytest.mark.parametrize(
    ("sql", "begin"),
    [("UPDATE t SET n = n + 1", True), ("UPDATE t SET n = n + 1", False), ('DELETE FROM "T"', True), (MERGE, False),
     ("INSERT OVERWRITE INTO t SELECT 5, 5", True)],
)  # fmt: skip
def test_a_change_waits_for_another_transaction_that_changed_the_table(snow, run, connect, sql, begin):
    waiting, cursor = connect().cursor(), connect().cursor()
    run("CREATE TABLE t (i NUMBER(38,0), n NUMBER(38,0))")
    run("CREATE TABLE u (i NUMBER(38,0), n NUMBER(38,0))")
    run("INSERT INTO t VALUES (1, 0)")
    run("BEGIN")
    run("UPDATE t SET n = 10")
    if begin:
        waiting.execute("BEGIN")
        assert waiting.execute("SELECT n FROM t").fetchall() == [(0,)]
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(waiting.execute, sql)
        cursor.execute("INSERT INTO t VALUES (2, 0)")  # these wait for nobody
        cursor.execute("UPDATE u SET n = 10")
        assert cursor.execute("SELECT n FROM t ORDER BY i").fetchall() == [(0,), (0,)]
        with pytest.raises(TimeoutError):
            asked.result(timeout=0.2)
        run("COMMIT")
        asked.result(timeout=5)
    after = {"UPDATE": [(11,), (1,)], "DELETE": [], "MERGE ": [(9,), (0,)], "INSERT": [(5,)]}[sql[:6]]
    assert waiting.execute("SELECT n FROM t ORDER BY i").fetchall() == after
    waiting.execute("COMMIT")
    assert run("SELECT n FROM t ORDER BY i") == after


def test_who_waits_too_long_for_a_lock_fails(snow, run, connect):
    run("CREATE TABLE t (i NUMBER(38,0))")
    run("INSERT INTO t VALUES (1)")
    run("BEGIN")
    run("UPDATE t SET i = i + 1")
    patient = connect(session_parameters={"LOCK_TIMEOUT": 1}).cursor()
    hasty = connect().cursor()
    hasty.execute("ALTER SESSION SET LOCK_TIMEOUT = 0")
    told = connect().cursor()
    for cursor, setting, least in ((patient, None, 1), (hasty, None, 0), (told, 0.2, 0.2)):
        snow.set(lock_timeout=setting)
        cursor.execute("BEGIN")
        start = time.monotonic()
        with pytest.raises(
            ProgrammingError, match=r"Statement '.*' has locked table 'T' in transaction .* not yet been rel"
        ) as caught:
            cursor.execute("UPDATE t SET i = i + 10")
        assert (caught.value.errno, caught.value.sqlstate) == (625, "57014")
        assert least <= time.monotonic() - start < least + 0.8
        assert cursor.execute("SELECT i FROM t").fetchall() == [(1,)]  # the transaction goes on
    run("COMMIT")
    assert hasty.execute("UPDATE t SET i = i + 10").fetchall() == [(1, 0)]


def test_a_transaction_whose_view_is_too_old_for_a_change_fails_as_if_locked(run, connect):
    other = connect().cursor()
    run("CREATE TABLE t (i NUMBER(38,0))")
    run("INSERT INTO t VALUES (1)")
    other.execute("BEGIN")
    other.execute("INSERT INTO t VALUES (2)")
    run("UPDATE t SET i = i + 1")
    with pytest.raises(ProgrammingError, match="has locked table") as caught:
        other.execute("UPDATE t SET i = i + 1")
    assert (caught.value.errno, caught.value.sqlstate) == (625, "57014")


HOLD = """
import json, os, sys, time, snowflake.connector
cursor = snowflake.connector.connect(**json.loads(sys.argv[1])).cursor()
cursor.execute("BEGIN")
cursor.execute("UPDATE t SET i = i + 10")
print("held", flush=True)
time.sleep(60)
"""


def test_locks_end_with_the_session_that_holds_them(snow, run, connect, database):
    run("CREATE TABLE t (i NUMBER(38,0))")
    run("INSERT INTO t VALUES (0)")
    closed = connect()
    closed.cursor().execute("BEGIN")
    closed.cursor().execute("UPDATE t SET i = i + 10")
    closed.close()
    run("UPDATE t SET i = i + 1")
    options = json.dumps(snow.options(database=database, schema="S"))
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLD, options], stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout.readline() == "held\n"
        snow.set(lock_timeout=0)
        with pytest.raises(ProgrammingError, match="has locked table"):
            run("UPDATE t SET i = i + 1")
        snow.set(lock_timeout=10)
        killed.kill()
        run("UPDATE t SET i = i + 1")
    assert run("SELECT i FROM t") == [(2,)]


def test_a_session_whose_connection_a_fault_ended_keeps_its_locks(snow, run, connect):
    run("CREATE TABLE t (i NUMBER(38,0))")
    cursor = connect().cursor()
    cursor.execute("BEGIN")
    cursor.execute("UPDATE t SET i = 1")
    snow.fail(("SELECT 42", "drop", 1))
    with pytest.raises(Error):
        cursor.execute("SELECT 42")
    snow.set(lock_timeout=0.1)
    with pytest.raises(ProgrammingError, match="has locked table"):
        run("UPDATE t SET i = 2")
    cursor.execute("COMMIT")
    run("UPDATE t SET i = 2")


def test_ddl_commits(run, connect):
    run("CREATE TABLE t (i NUMBER(38,0))")
    run("BEGIN")
    run("INSERT INTO t VALUES (1)")
    run("CREATE TABLE u (s VARCHAR(20))")
    run("ROLLBACK")
    assert run("SELECT i FROM t") == connect().cursor().execute("SELECT i FROM t").fetchall() == [(1,)]
    assert run("SELECT * FROM u") == []
    run("BEGIN")
    run("TRUNCATE TABLE t")
    run("ROLLBACK")
    assert run("SELECT i FROM t") == []


def test_a_table_tells_when_it_changed(run, connect, database):
    run("CREATE TABLE t (i NUMBER(38,0))")
    ask = f'SELECT SYSTEM$LAST_CHANGE_COMMIT_TIME(\'"{database}"."S"."T"\') AS n'

    def change():
        ((number,),) = connect().cursor().execute(ask).fetchall()
        return number

    seen = [change()]
    for sql in ("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)", "UPDATE t SET i = 2", "DELETE FROM t"):
        run("BEGIN")
        run(sql)
        assert change() == seen[-1]
        run("COMMIT")
        assert run("SELECT SYSTEM$LAST_CHANGE_COMMIT_TIME('t')") == [(change(),)]
        seen.append(change())
    assert sorted(set(seen)) == seen
    run("DELETE FROM t")
    assert change() == seen[-1]
    assert connect().cursor().describe(ask)[0][:2] == ("N", 0)
    with pytest.raises(ProgrammingError, match="Object 'NO' does not exist"):
        run("SELECT SYSTEM$LAST_CHANGE_COMMIT_TIME('no')")


def test_time_travel_is_accepted_and_the_clock_read(run, connect, database):
    run("CREATE TABLE t (ts TIMESTAMP_LTZ(6))")
    run("INSERT INTO t VALUES ('2026-01-02 03:04:05+00:00')")
    sql = f'SELECT x.ts AS "Ts" FROM "{database}"."S"."T" AT(TIMESTAMP => \'2026-01-01 00:00:00 +00:00\'::TIMESTAMP_TZ) AS x'
    assert described(connect().cursor().describe(sql)) == {"Ts": DESCRIBED["LTZ"]}
    assert run(f"{sql} WHERE ts IS NOT NULL") == [(MOMENT.replace(microsecond=0, tzinfo=dt.UTC),)]
    ((millis,),) = run("SELECT DATE_PART(EPOCH_MILLISECOND, CURRENT_TIMESTAMP())")
    assert abs(millis - time.time() * 1000) < 5000
    assert run("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()") == [(database, "S")]


def test_rows_are_counted_summed_and_grouped_exactly(run):
    run("CREATE TABLE t (a VARCHAR, b NUMBER(12,2), _job VARCHAR, _run_id VARCHAR)")
    rows = [("ä", "1.50"), ("x", None), ("x", "12345678.25")]
    for a, b in rows:
        run(f"INSERT INTO t SELECT '{a}', {b or 'NULL'}, 'scores', '{a}'")
    sums = sum(int(hashlib.md5(f"{a}|{b or ''}".encode()).hexdigest()[16:], 16) for a, b in rows)
    sql = "SELECT COUNT(*), SUM(MD5_NUMBER_LOWER64(\"A\" || '|' || COALESCE(TO_VARCHAR(\"B\"), ''))), SUM(b) FROM t"
    assert run(sql) == [(3, sums, Decimal("12345679.75"))]
    assert run("SELECT MD5_NUMBER_LOWER64('Snowflake')") == [(9203306159527282910,)]  # the documentation's example
    assert sorted(run("SELECT _JOB, _RUN_ID, COUNT(*) FROM t GROUP BY 1, 2")) == [
        ("scores", "x", 2),
        ("scores", "ä", 1),
    ]


def test_a_view_has_the_latest_row_of_each_key(run):
    run("CREATE TABLE t (id NUMBER(38,0), day DATE, score FLOAT)")
    run("INSERT INTO t VALUES (1, '2026-01-01', 1), (1, '2026-01-02', 2), (2, '2026-01-01', 3)")
    for _ in range(2):
        run('CREATE OR REPLACE VIEW "S"."V" COMMENT = \'the latest\' AS SELECT * FROM "S"."T" '
            "QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY day DESC) = 1")  # fmt: skip
    run("INSERT INTO t VALUES (2, '2026-01-03', 4)")
    assert run("SELECT * FROM v ORDER BY id") == [(1, dt.date(2026, 1, 2), 2.0), (2, dt.date(2026, 1, 3), 4.0)]


def test_arrays_are_flattened(run):
    run("CREATE TABLE t (id NUMBER(38,0), _reasons ARRAY)")
    run("""INSERT INTO t SELECT 1, PARSE_JSON('[{"rule": "a b", "of": [1]}, {"rule": "c"}]')""")
    run("INSERT INTO t SELECT 2, NULL UNION ALL SELECT 3, ARRAY_CONSTRUCT()")
    rules = "SELECT id, f.value:rule::VARCHAR FROM t, LATERAL FLATTEN(input => t._REASONS) f ORDER BY f.index"
    assert run(rules) == [(1, "a b"), (1, "c")]
    with pytest.raises(ProgrammingError, match="FLATTEN with OUTER => TRUE not implemented"):
        run("SELECT f.value FROM t, LATERAL FLATTEN(input => t._REASONS, OUTER => TRUE) f")


def test_copies_of_a_table_have_its_types(run, connect):
    run(f"CREATE TABLE t ({DECLARED})")
    for name, how in (("a", "LIKE t"), ("b", "CLONE t"), ("c", "AS SELECT * FROM t")):
        run(f"CREATE TABLE {name} {how}")
        assert described(connect().cursor().describe(f"SELECT * FROM {name}")) == DESCRIBED
        run(f'ALTER TABLE {name} ADD COLUMN IF NOT EXISTS "LTZ" ARRAY, "M" ARRAY')
        assert described(connect().cursor().describe(f"SELECT * FROM {name}"))["LTZ"] == DESCRIBED["LTZ"]
    run("COMMENT ON TABLE a IS 'a copy'")


def test_a_result_is_there_for_a_day_with_new_urls_each_time(snow, run, connect):
    snow.set(chunk_rows=4, max_age=0)
    cursor = connect().cursor()
    cursor.execute("SELECT range AS id, IFF(range > 2, NULL, 'x') AS \"Text\" FROM range(10)")
    name, first = cursor.sfqid, cursor.get_result_batches()
    cursor.connection.close()
    with pytest.raises(Error, match="Failed to fetch chunk data"):
        first[1].to_arrow()
    snow.set(chunk_rows=4)
    other = connect().cursor()
    for ask in (other.query_result, other.get_results_from_sfqid):
        ask(name)
        again = other.get_result_batches()
        table = pa.concat_tables([batch.to_arrow(**EXACT) for batch in again])
        assert table.equals(pa.table({"ID": pa.array(range(10), pa.int8()), "Text": ["x"] * 3 + [None] * 7}))
        assert other.fetchall() == list(zip(*table.to_pydict().values(), strict=True))
    url = f"GET /queries/{name}/result"
    assert snow.statements()[1:] == [(url, "ok"), (url, "ok")]
    snow.fail((f"^{url}", "error", 1))
    with pytest.raises(Error, match="SQL execution internal error"):
        other.query_result(name)
    snow.set(result_age=0)
    for unknown in (name, str(uuid.uuid4())):
        with pytest.raises(ProgrammingError, match=f"000709 .*{unknown} not found"):
            other.query_result(unknown)
    assert [outcome.split(":")[0] for _, outcome in snow.statements()[3:]] == ["error", "failed", "failed"]


def test_what_the_stand_in_cannot_do_fails_at_once(snow, connect):
    cursor = connect(retry_max_attempts=3).cursor()
    with pytest.raises(ProgrammingError, match=r"000002 .*fakesnow"):
        cursor.execute("SELECT $1 FROM VALUES (1)")
    with pytest.raises(ProgrammingError, match=r"002140 .*\nUnknown function no_such"):
        cursor.execute("SELECT no_such(1)")
    assert len(snow.log()) == 2


def test_settings_of_a_session_are_taken(snow, run):
    asked = ["ALTER SESSION SET QUERY_TAG = 'a run'", "ALTER SESSION UNSET QUERY_TAG"]
    for sql in asked:
        run(sql)
    assert snow.statements() == [(sql, "ok") for sql in asked]


def test_the_log_has_every_statement_in_order(snow, run, connect):
    run("BEGIN")
    with pytest.raises(ProgrammingError):
        run("SELECT * FROM nothing")
    with pytest.raises(ProgrammingError, match="SWAP"):
        run("ALTER TABLE a SWAP WITH b")
    run("ROLLBACK")
    connect().cursor().execute("SELECT 1")
    assert [(sql, outcome.split(":")[0]) for sql, outcome in snow.statements()] == [
        ("BEGIN", "ok"), ("SELECT * FROM nothing", "failed"), ("ALTER TABLE a SWAP WITH b", "failed"),
        ("ROLLBACK", "ok"), ("SELECT 1", "ok"),
    ]  # fmt: skip
    sessions = [entry["session"] for entry in snow.log()]
    assert len(set(sessions[:4])) == 1
    assert sessions[4] != sessions[0]


@pytest.mark.parametrize("action", ["503", "drop", "error", "lost reply"])
def test_a_statement_that_shall_fail_fails_and_the_next_does_not(snow, run, action):
    run("CREATE TABLE t (i NUMBER(38,0))")
    snow.fail(("^insert", action, 1, 1))
    run("INSERT INTO t VALUES (1)")
    with pytest.raises(Error, match="SQL execution internal error" if action == "error" else None):
        run("INSERT INTO t VALUES (2)")
    assert snow.fail() == []
    run("INSERT INTO t VALUES (3)")
    assert run("SELECT i FROM t ORDER BY i") == [(1,), *([(2,)] if action == "lost reply" else []), (3,)]
    assert [outcome for sql, outcome in snow.statements() if sql.startswith("INSERT")] == ["ok", action, "ok"]


@pytest.mark.parametrize(("action", "outcome"), [("503", "ok"), ("drop", "ok"), ("lost reply", "repeated")])
def test_a_driver_that_repeats_a_statement_has_it_carried_out_once(snow, connect, action, outcome):
    cursor = connect(**REPEAT).cursor()
    cursor.execute("CREATE TABLE t (i NUMBER(38,0))")
    cursor.execute("BEGIN")
    cursor.execute("INSERT INTO t VALUES (1)")
    snow.fail(("^COMMIT", action, 1))
    cursor.execute("COMMIT")
    assert snow.statements()[-2:] == [("COMMIT", action), ("COMMIT", outcome)]
    assert connect().cursor().execute("SELECT i FROM t").fetchall() == [(1,)]


def test_a_commit_whose_reply_is_lost_is_there(snow, run, connect):
    run("CREATE TABLE t (i NUMBER(38,0))")
    run("BEGIN")
    run("INSERT INTO t VALUES (1)")
    snow.fail(("^COMMIT", "lost reply", 1))
    with pytest.raises(Error):
        run("COMMIT")
    assert connect().cursor().execute("SELECT i FROM t").fetchall() == [(1,)]


def test_a_statement_repeated_while_it_runs_is_carried_out_once(snow, connect):
    cursor = connect(retry_max_attempts=2, retry_timeout=1).cursor()
    cursor.execute("CREATE TABLE t (i NUMBER(38,0))")
    snow.fail(("^INSERT", "slow 1.5", 1))
    cursor.execute("INSERT INTO t VALUES (1)")
    time.sleep(1)
    assert sorted(outcome for sql, outcome in snow.statements() if sql.startswith("INSERT")) == ["ok", "repeated"]
    assert cursor.execute("SELECT i FROM t").fetchall() == [(1,)]


def test_slow_is_slow(snow, run):
    snow.fail(("SELECT 1", "slow 0.4", 1))
    times = []
    for _ in range(2):
        start = time.monotonic()
        run("SELECT 1")
        times.append(time.monotonic() - start)
    assert times[1] < 0.4 <= times[0] < 2


def test_login_upload_and_download_can_fail_too(snow, run, connect, tmp_path):
    run("CREATE STAGE st")
    snow.fail(("^POST /session/v1/login", "503", 1), ("^PUT /fs_bucket/", "503", 1), ("^GET /chunks/", "403", 1))
    with pytest.raises(Error):
        connect()
    with pytest.raises(Error):
        put(run, tmp_path, "a.parquet", [1])
    batches = connect().cursor().execute("SELECT range FROM range(2000)").get_result_batches()
    with pytest.raises(Error):
        batches[1].to_arrow()
    assert snow.fail() == []
