"""The stand-in for Snowflake does what tests of the project rely on: the real driver talks to it here."""

from __future__ import annotations

import datetime as dt
import pickle
import subprocess
import sys
import time
import uuid
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector.errors import DatabaseError, Error, ProgrammingError

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
    table = pa.concat_tables(pickle.loads(done.stdout))
    ids = range(10000)
    assert table.equals(
        pa.table(
            {
                "ID": pa.array(ids, pa.int64()),
                "N": pa.array([Decimal(i) / 100 for i in ids], pa.decimal128(10, 2)),
                "TS": pa.array([MOMENT if i % 7 else None for i in ids], pa.timestamp("us")),
            }
        )
    )
    assert cursor.fetchall() == list(zip(*table.to_pydict().values(), strict=True))


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


def test_ddl_commits(run, connect):
    run("CREATE TABLE t (i NUMBER(38,0))")
    run("BEGIN")
    run("INSERT INTO t VALUES (1)")
    run("CREATE TABLE u (s VARCHAR(20))")
    run("ROLLBACK")
    assert run("SELECT i FROM t") == connect().cursor().execute("SELECT i FROM t").fetchall() == [(1,)]
    assert run("SELECT * FROM u") == []


def test_what_the_stand_in_cannot_do_fails_at_once(snow, connect):
    cursor = connect(retry_max_attempts=3).cursor()
    with pytest.raises(ProgrammingError, match=r"000002 .*Unhandled exception"):
        cursor.execute("SELECT $1 FROM VALUES (1)")
    assert len(snow.log()) == 1


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
