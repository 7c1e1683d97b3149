"""`lakehouse demo --snowflake`: the demo's job from and to Snowflake, on a stand-in that ends with the demo."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import lakehouse
from lakehouse.config import load_job
from lakehouse.config.systems.delta import DeltaSource
from lakehouse.config.systems.snowflake import SnowflakeSource
from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import Session
from lakehouse.connectors.snowflake.types import declare_column
from lakehouse.demo.commands import LAKE, entry, step, submit
from lakehouse.demo.run import DATE, prepare
from lakehouse.engines import runtime
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.sources import delta
from lakehouse.views.terminal import table_text

CONF = Path("conf/games_snowflake.yaml")
CHECKOUT = Path(lakehouse.__file__).parents[1]
HOME = LAKE / "snowflake"
"""Where the stand-in's connections.toml is written."""
WHAT_IT_IS = """\
   This is not Snowflake. It is a stand-in on this machine (fakesnow, on DuckDB) that the tests use, too: the job,
   the connector and the SQL are those of a real account; speed, rights, cost and what DuckDB does otherwise are not."""
SCORES = "SELECT player_id, country, purchase_probability, _model_version, _run_id FROM {} ORDER BY player_id LIMIT 3"
LEDGER = "SELECT run_id, slice, generation, row_count, model_name, model_version FROM {}_RUNS WHERE run_id <> ''"
REASONS = """SELECT player_id, reason.value:rule::VARCHAR AS rule, reason.value:column::VARCHAR AS "COLUMN",
       reason.value:observed::VARCHAR AS observed
FROM {}_QUARANTINE, LATERAL FLATTEN(input => _reasons) AS reason ORDER BY player_id LIMIT 3"""


def run(rows: int) -> None:
    """Run the demo in the working directory, with all its data under `lake/`.

    Raises ConfigError outside a source checkout, Unavailable where the stand-in doesn't start, and what the job raises.
    """
    if not (CHECKOUT / "tests/warehouse.py").exists():
        raise ConfigError(
            "--snowflake: the stand-in for Snowflake is among the project's tests, which only a source checkout has: "
            f"run it there, after `make setup`; on a real account it's lakehouse score {CONF}"
        )
    os.environ["JAVA_HOME"] = str(runtime.ensure_java())
    prepare(rows, CONF)
    job = load_job(CONF, date=DATE, environ=os.environ)
    assert isinstance(job.source, SnowflakeSource)  # as the job file says
    connection, source, scores = str(job.source.connection), str(job.source.table), job.sinks[0].table
    step(f"3  a stand-in for Snowflake, its connection {connection!r} in {HOME}/connections.toml\n{WHAT_IT_IS}")
    with stand_in(HOME, connection) as address, snowflake.reuse_sessions("lakehouse demo"):
        with snowflake.session(connection) as session:
            load(session, source, features := _features())
        print(f"   {address}: {len(features):,} rows of {LAKE}/features/games are in its table {source}")
        step(f"4  the job, its two tables then proved equal: spark-submit {entry()} {CONF} --date {DATE} --verify")
        submit(str(CONF), DATE, "--verify")
        step("5  the same again: nothing changed, so nothing is done")
        submit(str(CONF), DATE)
        step("6  what the stand-in holds now: scores, the ledger of what was published, why rows were set aside")
        with snowflake.session(connection) as session:
            for sql in (SCORES, LEDGER, REASONS):
                _show(session, sql.format(scores))
    step("next, on an account of your own")
    print(f"""\
  In ~/.snowflake/connections.toml a connection [{connection}]: account, user, authenticator = "SNOWFLAKE_JWT",
  private_key_file, role, warehouse, and the database and schema in which the table {source} is. Then
  lakehouse score {CONF} --date {DATE} --dry-run     # the plan; writes nothing
  lakehouse score {CONF} --date {DATE} --verify
  lakehouse sql snowflake {CONF}                     # views over scores, history, quarantine and runs""")


@contextmanager
def stand_in(home: Path, connection: str) -> Iterator[str]:
    """The stand-in's address while it runs; commands find it by SNOWFLAKE_HOME. Raises Unavailable."""
    home.mkdir(parents=True, exist_ok=True)
    home = home.resolve()
    command = [sys.executable, "-m", "tests.warehouse", str(home), "--connection", connection]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        if not address:
            raise Unavailable(
                f"{shlex.join(command)} doesn't start, for the reason above: `make setup` installs what the tests "
                "need, and the stand-in's own environment is fetched once, from PyPI"
            )
        os.environ["SNOWFLAKE_HOME"] = str(home)
        try:
            yield address
        finally:
            server.stdin.close()


def _features() -> pa.Table:
    """The demo's features, all dates."""
    pinned = delta.pin(DeltaSource(type="delta", table=str(LAKE / "features/games")))
    units = delta.units(pinned, pinned.schema.names, 1 << 16, 1)
    return pa.Table.from_batches([batch for unit in units for batch in unit.batches()])


def load(session: Session, name: str, rows: pa.Table) -> None:
    """Rows as a new table in Snowflake, by way of a stage."""
    columns = ", ".join(map(declare_column, rows.schema))
    table = session.table(name)
    stage = table.beside("_FILES")
    session.run(f"CREATE TABLE {table.sql} ({columns})")
    session.run(f"CREATE STAGE {stage.sql}")
    content = io.BytesIO()
    pq.write_table(rows, content)
    content.seek(0)
    session.put(f"PUT 'file:///rows.parquet' @{stage.sql} AUTO_COMPRESS = FALSE SOURCE_COMPRESSION = NONE", content)
    session.run(
        f"COPY INTO {table.sql} FROM @{stage.sql} FILES = ('rows.parquet') "
        "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE) MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE"
    )


def _show(session: Session, sql: str) -> None:
    """A statement, and its rows as a table."""
    names = [column.name for column in session.describe(sql)]
    cells = [["" if value is None else str(value) for value in row] for row in session.run(sql)]
    indented = sql.replace("\n", "\n  ")
    print(f"\n  {indented};\n")
    print("\n".join(f"  {line}" for line in table_text(names, cells)))
