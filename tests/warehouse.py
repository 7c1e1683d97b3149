"""Runs the stand-in for Snowflake (snowflake_server.py) in an environment of its own, and talks to it.

`python -m tests.warehouse FOLDER` writes a connections.toml for it to FOLDER, prints its address, and ends when its own
standard input does.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import snowflake.connector

import lakehouse.connectors.snowflake
from lakehouse.demo.snowflake import load
from tests.cloud_servers import installed

FAKESNOW = "0.12.1"
REQUIREMENTS = [
    f"fakesnow[server]=={FAKESNOW}",
    "snowflake-connector-python==4.8.1",  # fakesnow imports modules that 5 no longer has: hence the environment
    "duckdb==2.0.0", "pyarrow==25.0.1", "sqlglot==30.22.0", "starlette==1.10.0", "uvicorn==0.54.0",
]  # fmt: skip
SERVER = Path(__file__).with_name("snowflake_server.py")
USER = PASSWORD = "tests"
NAME = "tests"
"""The connection's name in the connections.toml of the stand-in."""


@dataclass(frozen=True)
class Warehouse:
    """A running server."""

    address: str

    def options(self, **more: Any) -> dict[str, Any]:
        """What the driver's connect() needs, a password unless a key is given; nothing is repeated unless asked."""
        host, port = self.address.removeprefix("http://").split(":")
        secret = {} if {"private_key", "private_key_file"} & more.keys() else {"password": PASSWORD}
        return {
            "protocol": "http", "host": host, "port": int(port), "account": "tests", "user": USER, **secret,
            "retry_max_attempts": 1, "retry_backoff_base_ms": 10, "put_get_max_attempts": 1,
            "enable_server_session_keep_alive_auto_detection": False,  # unset, the driver warns
            **more,
        }  # fmt: skip

    def connect(self, **more: Any) -> snowflake.connector.SnowflakeConnection:
        return snowflake.connector.connect(**self.options(**more))

    def toml(self, name: str, **more: Any) -> str:
        """The text of a connections.toml with one connection; `more` as for options.

        The driver reads the file in the folder SNOWFLAKE_HOME at each connect(), if only its owner may write it. Its
        5.2 doesn't look into SNOWFLAKE_CONNECTIONS.
        """
        settings = self.options(**more).items()
        return "\n".join([f"[{json.dumps(name)}]", *(f"{key} = {json.dumps(value)}" for key, value in settings), ""])

    def home(self, folder: Path, name: str = NAME, **more: Any) -> Path:
        """A folder with a connections.toml, for SNOWFLAKE_HOME."""
        file = folder / "connections.toml"
        file.touch(0o600)
        told = "# A stand-in for Snowflake on this machine, which ends with what has started it."
        file.write_text("\n".join([told, self.toml(name, warehouse="WH", **more)]))
        return folder

    def fail(self, *faults: tuple[Any, ...]) -> list[Any]:
        """Makes faults happen, (pattern, action, times[, first]) each; without any, those that did not."""
        return self._ask("PUT" if faults else "GET", "_faults", faults or None)

    def set(self, **settings: Any) -> None:
        self._ask("PUT", "_settings", settings)

    def log(self) -> list[dict[str, str]]:
        """Every statement received since the last reset, in order: sql, session, outcome."""
        return self._ask("GET", "_log")

    def statements(self) -> list[tuple[str, str]]:
        """The log as pairs of a statement and its outcome."""
        return [(entry["sql"], entry["outcome"]) for entry in self.log()]

    def reset(self) -> None:
        """No faults, no log, settings as at the start; tables stay."""
        self.fail(("", "drop", 0))
        self.set()
        self._ask("DELETE", "_log")

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.address}/{path}", body, method=method)) as reply:
            return json.load(reply)


@dataclass(frozen=True)
class Account:
    """A schema in Snowflake that is a test's own. `stand_in`: the server, None where it is a real account."""

    name: str
    database: str
    schema: str
    session: Any
    stand_in: Warehouse | None

    @property
    def server(self) -> Warehouse:
        """The stand-in's log and faults, which a real account doesn't have."""
        if self.stand_in is None:
            pytest.skip("only on the stand-in: it looks into the server's log, or makes it fail")
        return self.stand_in

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """A statement's rows."""
        return self.session.execute(sql).fetchall()

    def load(self, name: str, rows: pa.Table) -> str:
        """A new table with these rows; its full name."""
        with lakehouse.connectors.snowflake.session(self.name) as session:
            load(session, self.table(name), rows)
        return self.table(name)

    def table(self, name: str) -> str:
        """A table's full name."""
        return f"{self.database}.{self.schema}.{name}"


@contextmanager
def schema(name: str, server: Warehouse | None) -> Iterator[Account]:
    """A schema for a test: the connection's own on the stand-in, a new one in a real account."""
    options = {"connection_name": name, "enable_server_session_keep_alive_auto_detection": False}
    with snowflake.connector.connect(**options) as connection:
        cursor = connection.cursor()
        if server is None:
            cursor.execute(f"CREATE SCHEMA T{uuid.uuid4().hex.upper()}")
        database, here = cursor.execute("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()").fetchone()
        yield Account(name, database, here, cursor, server)
        if server is None:
            cursor.execute(f"DROP SCHEMA {here}")


def environment() -> Path:
    """The Python of the server's environment, made once; fails the test where it can't be made."""
    python = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    inside = str(Path("{}", *python))
    if uv := shutil.which("uv"):
        commands = [
            [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, "{}"],
            [uv, "pip", "install", "--quiet", "--python", inside, *REQUIREMENTS],
        ]
    elif importlib.util.find_spec("ensurepip"):
        pip = [inside, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        commands = [[sys.executable, "-m", "venv", "{}"], [*pip, *REQUIREMENTS]]
    else:
        commands = [
            [sys.executable, "-c", "raise SystemExit('install uv, or ensurepip for this Python (python3-venv)')"]
        ]
    return installed(f"fakesnow-{FAKESNOW}", *commands).joinpath(*python)


@contextmanager
def running() -> Iterator[Warehouse]:
    """The server, until the end of the block or of this process."""
    # -E: the project isn't on the server's path, whatever PYTHONPATH is
    command = [str(environment()), "-E", "-s", "-B", "-W", "ignore", str(SERVER)]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        if not address:
            server.wait()
            errors.seek(0)
            place = environment().parent.parent
            pytest.fail(f"{SERVER.name} doesn't start; remove {place} to have it made anew: {errors.read()[-2000:]}")
        try:
            yield Warehouse(address)
        finally:
            server.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.warehouse")
    parser.add_argument("folder", type=Path, help="where connections.toml is written: SNOWFLAKE_HOME for who uses it")
    parser.add_argument("--connection", default=NAME, help="the connection's name there")
    parser.add_argument("--database", default="DEMO")
    parser.add_argument("--chunk-rows", type=int, default=10_000, help="rows in each part of a result")
    arguments = parser.parse_args()
    try:
        with running() as server:
            server.set(chunk_rows=arguments.chunk_rows)
            server.home(arguments.folder, arguments.connection, database=arguments.database, schema="PUBLIC")
            print(server.address, flush=True)
            sys.stdin.read()
    except pytest.fail.Exception as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
