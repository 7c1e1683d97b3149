"""A stand-in for Snowflake on loopback (fakesnow): python snowflake_server.py. It prints its address.

It ends when its standard input does, and runs in an environment of its own (warehouse.py makes it). This layer around fakesnow's app completes what the
driver asks for, cuts results into chunks with URLs, writes down every statement, and can be told to fail:

GET /_log gives the statements in the order of their arrival: {"sql", "session", "outcome"}, the outcome being "ok",
"failed: message", or the fault that happened; DELETE /_log forgets them.
PUT /_faults with a JSON list of [pattern, action, times] or [pattern, action, times, first] says what goes wrong:
`pattern` is a regular expression, in which case doesn't matter, on the text of a statement or on "METHOD /path"; the
first `first` matches pass; `action` is a status such as "503" (nothing done), "slow 1.5" (done that many seconds later),
"drop" (the connection ends, nothing done), "error" (the statement fails, nothing done) or "lost reply" (done, but the
connection ends before the answer); GET /_faults gives what is left.
PUT /_settings with {"chunk_rows", "gzip", "max_age"} says how results are cut, whether the chunks are compressed, and
after how many seconds their URLs are refused.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import duckdb
import fakesnow.arrow
import fakesnow.copy_into
import fakesnow.info_schema
import fakesnow.rowtype
import fakesnow.server
import fakesnow.transforms
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
import uvicorn
from fakesnow.transforms import stage
from snowflake.connector.errors import ProgrammingError
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

Json = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Json]]
Send = Callable[[Json], Awaitable[None]]
LOGIN, QUERY = "/session/v1/login-request", "/queries/v1/query-request"
PASSWORD = "tests"
SETTINGS = {"chunk_rows": 1000, "gzip": True, "max_age": 6 * 3600.0}
Kind = exp.DataType.Type
DECLARED: dict[str, dict[str, dict[str, dict[str, exp.DataType]]]] = {}
"""The types of columns as CREATE and ALTER said, by database, schema and table: duckdb has fewer types."""
KINDS: ContextVar[list[tuple[str, exp.DataType | None]]] = ContextVar("KINDS")
"""A result's columns as Snowflake has them, name and type, where known; none where not."""


class Layer:
    """What stands between the driver and fakesnow."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        self.settings: Json = dict(SETTINGS)
        self.faults: list[list[Any]] = []
        self.log: list[Json] = []
        self.chunks: dict[str, tuple[float, bytes]] = {}
        self.answers: dict[str, asyncio.Task[tuple[int, bytes, str]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the server starts and ends
            return await self.app(scope, receive, send)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding") == b"gzip" and not scope["path"].startswith("/fs_bucket"):
            body = gzip.decompress(body)
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"content-encoding"]
        if scope["path"].startswith("/_"):
            return await answer(send, 200, self.control(scope["method"], scope["path"], body))
        # uvicorn's own object behind `receive` has the connection; nothing in ASGI ends one without an answer
        hang_up = receive.__self__.transport.abort  # type: ignore[attr-defined]
        await self.with_faults(scope, body, send, hang_up)

    def control(self, method: str, path: str, body: bytes) -> bytes:
        if path == "/_log" and method == "DELETE":
            self.log.clear()
        elif path == "/_faults" and method == "PUT":
            self.faults = [[*fault, 0][:4] for fault in json.loads(body)]
        elif path == "/_settings" and method == "PUT":
            self.settings = {**SETTINGS, **json.loads(body)}
        left = {"/_log": self.log, "/_faults": [f for f in self.faults if f[2] > 0], "/_settings": self.settings}
        return json.dumps(left[path]).encode()

    def fault(self, *texts: str) -> str:
        """The action of the first fault that is due, used up by one."""
        due = ""
        for fault in self.faults:
            if fault[2] > 0 and not due and any(re.search(fault[0], text, re.IGNORECASE) for text in texts):
                if fault[3] > 0:
                    fault[3] -= 1
                else:
                    fault[2] -= 1
                    due = fault[1]
        return due

    async def with_faults(self, scope: Scope, body: bytes, send: Send, hang_up: Callable[[], None]) -> None:
        texts = [f"{scope['method']} {scope['path']}"]
        entry: Json = {}
        if scope["path"] == QUERY:
            token = dict(scope["headers"]).get(b"authorization", b"").decode()
            # a session's name in the log, without its token
            entry = {"sql": json.loads(body)["sqlText"], "session": str(uuid.uuid5(uuid.NAMESPACE_OID, token))[:8]}
            entry["outcome"] = "running"
            self.log.append(entry)
            texts.append(entry["sql"])
        action = self.fault(*texts)
        entry["outcome"] = action
        if action == "drop":
            return hang_up()
        if action.isdigit():
            return await answer(send, int(action), b"")
        if action == "error":
            message = "SQL execution internal error"
            return await answer(send, 200, failure("000603", "XX000", message))
        if action.startswith("slow"):
            await asyncio.sleep(float(action.split()[1]))
        status, content, encoding = await self.handled(scope, body, entry)
        if action == "lost reply":
            entry["outcome"] = action
            return hang_up()
        await answer(send, status, content, encoding)

    async def handled(self, scope: Scope, body: bytes, entry: Json) -> tuple[int, bytes, str]:
        path = scope["path"]
        if path.startswith("/chunks/"):
            made, content = self.chunks.get(path.split("/")[2], (0.0, b""))
            if time.time() - made > self.settings["max_age"]:
                return 403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", ""
            return 200, content, "gzip" if content[:2] == b"\x1f\x8b" else ""
        if path == LOGIN and (refused := refusal(json.loads(body)["data"])):
            return 200, refused, ""
        if path.startswith("/telemetry"):  # the driver's reports, which fakesnow refuses and the driver then warns of
            return 200, b'{"success": true, "data": "Log Received"}', ""
        if path != QUERY:
            status, content = await self.inner(scope, body)
            return status, completed(content) if path == LOGIN else content, ""
        # As Snowflake does: the driver repeats a request whose answer it didn't get, and it's carried out once.
        request = re.search(r"request_?id=([^&]+)", scope["query_string"].decode(), re.IGNORECASE)
        name = request[1] if request else uuid.uuid4().hex
        if name in self.answers:
            entry["outcome"] = "repeated"
        else:
            self.answers[name] = asyncio.create_task(self.carried_out(scope, body, entry))
        return await self.answers[name]

    async def carried_out(self, scope: Scope, body: bytes, entry: Json) -> tuple[int, bytes, str]:
        """The answer to a statement."""
        headers = dict(scope["headers"])
        statement = parsed(entry["sql"])
        if session := fakesnow.server.sessions.get(headers.get(b"authorization", b"").decode()[17:-1]):
            body = json.dumps({**json.loads(body), "sqlText": mended(session, entry["sql"])}).encode()
            KINDS.set(kinds_of(session, statement))
        status, content = await self.inner(scope, body)
        reply = {"success": False, **json.loads(content)}
        if not reply["success"]:  # fakesnow's messages begin with what the driver puts before them
            reply["message"] = re.sub(r"^\d{6} \(\w{5}\): ", "", reply["message"])
            content = json.dumps(reply).encode()
        if session and reply["success"]:
            declare(session, statement)
        if status == 500 and reply["code"] == "261000":
            # a bug or a gap of fakesnow's: to the driver a statement that failed, for it would repeat after a 500
            status, content = 200, failure("000002", "0A000", reply["message"])
        elif reply["success"]:
            address = f"http://{headers[b'host'].decode()}"
            content = json.dumps({**reply, "data": self.cut(staged(reply["data"]), address)}).encode()
        entry["outcome"] = "ok" if reply["success"] else f"failed: {reply['message']}"
        return status, content, ""

    def cut(self, data: Json, address: str) -> Json:
        """The first rows stay in the answer; each further part gets a URL."""
        rows = self.settings["chunk_rows"]
        if not data.get("rowsetBase64"):
            return data
        table = pa.ipc.open_stream(base64.b64decode(data["rowsetBase64"])).read_all()
        chunks = []
        for start in range(rows, table.num_rows, rows):
            part = table.slice(start, rows)
            plain = stream(part)
            content = gzip.compress(plain, 1) if self.settings["gzip"] else plain
            name = uuid.uuid4().hex
            self.chunks[name] = time.time(), content
            chunks.append(
                {"url": f"{address}/chunks/{name}", "rowCount": part.num_rows,
                 "uncompressedSize": len(plain), "compressedSize": len(content)}
            )  # fmt: skip
        data["parameters"] = [{"name": "TIMEZONE", "value": "UTC"}]
        first = base64.b64encode(stream(table.slice(0, rows))).decode()
        return {**data, "rowsetBase64": first, "returned": data["total"], "chunks": chunks, "chunkHeaders": {}}

    async def inner(self, scope: Scope, body: bytes) -> tuple[int, bytes]:
        """fakesnow's own answer."""
        parts: list[Json] = []

        async def give() -> Json:
            return {"type": "http.request", "body": body, "more_body": False}

        async def take(message: Json) -> None:
            parts.append(message)

        try:
            await self.app(scope, give, take)
        except Exception as error:
            return 500, json.dumps({"code": "261000", "message": repr(error)}).encode()
        return parts[0]["status"], b"".join(part.get("body", b"") for part in parts[1:])


async def answer(send: Send, status: int, body: bytes, encoding: str = "") -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
    if encoding:
        headers.append((b"content-encoding", encoding.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def failure(code: str, state: str, message: str) -> bytes:
    data = {"errorCode": code, "sqlState": state}
    return json.dumps({"data": data, "code": code, "message": message, "success": False}).encode()


def stream(table: pa.Table) -> bytes:
    """Rows as Snowflake sends them: NUMBERs in the narrowest integers that hold these rows, so chunks may differ."""
    columns, fields = [], []
    for column, field in zip(table.combine_chunks().columns, table.schema, strict=True):
        if field.metadata[b"logicalType"] == b"FIXED":
            array = column.combine_chunks()
            digits = pa.Array.from_buffers(pa.decimal128(38), len(array), array.buffers(), offset=array.offset)
            least, most = (value or 0 for value in pc.min_max(digits).as_py().values())
            for bits, narrow in ((7, pa.int8()), (15, pa.int16()), (31, pa.int32()), (63, pa.int64())):
                if -(2**bits) <= least and most < 2**bits:
                    column = digits.cast(narrow)
                    break
        columns.append(column)
        fields.append(field.with_type(column.type))
    return fakesnow.arrow.to_ipc(pa.Table.from_arrays(columns, schema=pa.schema(fields))).to_pybytes()


def as_sent(table: pa.Table, columns: list[Json]) -> pa.Table:
    """duckdb's rows with Snowflake's types; see `stream` for what becomes of NUMBERs."""
    arrays = [sent(array.combine_chunks(), column) for array, column in zip(table.columns, columns, strict=True)]
    fields = [
        pa.field(
            column["name"], array.type, column["nullable"],
            {"logicalType": column["type"].upper(), "precision": str(column["precision"] or 38),
             "scale": str(column["scale"] or 0), "charLength": str(column["length"] or 0), "byteLength": "16"},
        )
        for array, column in zip(arrays, columns, strict=True)
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def sent(array: pa.Array, column: Json) -> pa.Array:
    """One column, see `as_sent`."""
    kind, scale = column["type"], column["scale"]
    if kind == "fixed":
        return array.cast(pa.decimal128(column["precision"], scale))
    if kind == "real":
        return array.cast(pa.float64())
    if kind in ("boolean", "date", "binary"):
        return array
    if kind == "time":
        micros = array.cast(pa.time64("us")).cast(pa.int64())
        return pc.divide(micros, 10 ** (6 - scale)) if scale < 6 else pc.multiply(micros, 10 ** (scale - 6))
    if not kind.startswith("timestamp"):
        return array.cast(pa.string())
    moments = array.cast(pa.timestamp("us", array.type.tz)).cast(pa.int64()).cast(pa.timestamp("us"))
    if kind != "timestamp_tz" and scale <= 6:
        unit = 10 ** (6 - scale)
        return pc.divide(pc.floor_temporal(moments, unit, "microsecond").cast(pa.int64()), unit)
    whole = pc.floor_temporal(moments, unit="second")
    parts = {
        "epoch": pc.divide(whole.cast(pa.int64()), 10**6),
        "fraction": pc.multiply(pc.subtract(moments, whole).cast(pa.int64()), 1000).cast(pa.int32()),
        **({"timezone": pa.repeat(pa.scalar(1440, pa.int32()), len(array))} if kind == "timestamp_tz" else {}),
    }
    # NULL is the struct's own: the driver doesn't look at its members
    filled = [part.fill_null(0) for part in parts.values()]
    return pa.StructArray.from_arrays(filled, list(parts), mask=array.is_null())


def columns_of(described: list[tuple[Any, ...]]) -> list[Json]:
    """Snowflake's description of a result from duckdb's and from the types declared."""
    columns = fakesnow.rowtype.describe_as_rowtype(described)
    kinds = KINDS.get() if len(KINDS.get()) == len(columns) else [("", None)] * len(columns)
    for column, (_, _, null, *_), (name, kind) in zip(columns, described, kinds, strict=True):
        column["nullable"] = null == "YES"
        if name.upper() == column["name"].upper():  # duckdb tells `A AS "a"` as A
            column["name"] = name
        sizes = [int(size.name) for size in kind.expressions if isinstance(size, exp.DataTypeParam)] if kind else []
        if kind and column["type"] == "timestamp_tz" and kind.this == Kind.TIMESTAMPLTZ:
            column["type"] = "timestamp_ltz"
        if kind and column["type"] == "variant" and kind.this in (Kind.ARRAY, Kind.OBJECT):
            column["type"] = kind.this.value.lower()
        if column["type"].startswith("time"):
            column["scale"] = sizes[0] if sizes else 9
        elif column["type"] in ("text", "binary") and sizes:
            column["length"] = sizes[0]
            column["byteLength"] = sizes[0] if column["type"] == "binary" else min(4 * sizes[0], 2**24)
    return columns


def parsed(sql: str) -> exp.Expression | None:
    with suppress(SqlglotError):
        return sqlglot.parse_one(sql, read="snowflake")
    return None


def kinds_of(session: Any, query: exp.Expression | None) -> list[tuple[str, exp.DataType | None]]:
    """The columns of a query as Snowflake has them; none where that can't be told."""
    if not isinstance(query, exp.Query):
        return []
    schema = MappingSchema(DECLARED, dialect="snowflake", normalize=False)
    with suppress(SqlglotError):
        named = qualify(
            query.copy(), dialect="snowflake", schema=schema, catalog=session.database, db=session.schema,
            validate_qualify_columns=False, quote_identifiers=False,
        )  # fmt: skip
        columns = annotate_types(named, schema=schema, dialect="snowflake").selects
        return [(column.alias_or_name, column.type) for column in columns]
    return []


def declare(session: Any, statement: exp.Expression | None) -> None:
    """Remembers the types of the columns that a statement has made."""
    if not isinstance(statement, exp.Create | exp.Alter | exp.Drop) or statement.kind not in ("TABLE", "VIEW"):
        return
    table = statement.find(exp.Table)
    parts = [table.args.get(part) for part in ("catalog", "db", "this")]
    folded = [part and (part.name if part.quoted else part.name.upper()) for part in parts]
    database, schema, name = folded[0] or session.database, folded[1] or session.schema, folded[2]
    tables = DECLARED.setdefault(database, {}).setdefault(schema, {})
    columns = {
        column.name if column.this.quoted else column.name.upper(): column.kind
        for column in statement.find_all(exp.ColumnDef)
    }
    if isinstance(statement, exp.Drop):
        tables.pop(name, None)
    elif isinstance(statement, exp.Alter):
        tables[name] = {**tables.get(name, {}), **columns}
    elif isinstance(statement.expression, exp.Query) and not columns:
        tables[name] = dict(kinds_of(session, statement.expression))
    elif statement.args.get("replace") or name not in tables:
        tables[name] = columns


def refusal(login: Json) -> bytes | None:
    """What Snowflake says to a wrong password or to a key pair's token of somebody else or out of date."""
    if login.get("AUTHENTICATOR") == "SNOWFLAKE_JWT":
        claims = json.loads(base64.urlsafe_b64decode(login["TOKEN"].split(".")[1] + "=="))
        account_and_user = claims["sub"].split(".")
        right = account_and_user[-1] == login["LOGIN_NAME"].upper() and "SHA256:" in claims["iss"]
        return None if right and claims["exp"] > time.time() else failure("390144", "08001", "JWT token is invalid.")
    if login.get("PASSWORD") != PASSWORD:
        return failure("390100", "08001", "Incorrect username or password was specified.")
    return None


def completed(content: bytes) -> bytes:
    """A login's answer with what driver 5 expects in it beyond fakesnow's."""
    reply = json.loads(content)
    if reply["success"]:
        reply["data"] |= {"masterToken": uuid.uuid4().hex, "validityInSeconds": 3600,
                          "masterValidityInSeconds": 14400, "sessionId": uuid.uuid4().int % 10**15}  # fmt: skip
    return json.dumps(reply).encode()


def staged(data: Json) -> Json:
    """The answer to PUT: the driver wants a region, and without overwriting asks for signed headers."""
    if "stageInfo" not in data:
        return data
    return {**data, "overwrite": True, "stageInfo": {"region": "US-CENTRAL1", **data["stageInfo"]}}


def mended(session: Any, sql: str) -> str:
    """What fakesnow shall carry out instead of a statement."""
    if re.match(r"\s*(CREATE|ALTER|DROP|UNDROP|COMMENT)\b(?!\s+SESSION)", sql, re.IGNORECASE):
        with suppress(duckdb.TransactionException):  # there is none
            session._duck_conn.commit()  # as Snowflake does before such a statement
    if found := re.fullmatch(r"\s*(?:REMOVE|RM)\s+@([^\s/]+)(?:/(\S*))?\s*;?\s*", sql, re.IGNORECASE):
        database, schema, name = stage.parts_from_var(found[1], session.database, session.schema)
        root = Path(stage.internal_dir(f"{database}.{schema}.{name}"))
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        gone = [path for path in files if str(path.relative_to(root)).startswith(found[2] or "")]
        rows = [f"SELECT '{stage.internal_file_name(str(path))}' AS \"name\", 'removed' AS \"result\"" for path in gone]
        for path in gone:
            path.unlink()
        return " UNION ALL ".join(rows) or "SELECT '' AS \"name\", '' AS \"result\" WHERE FALSE"
    return sql


def mend_fakesnow() -> None:
    """Replaces what fakesnow 0.12.1 does wrong and these tests need."""
    source_urls, params = fakesnow.copy_into._source_urls, fakesnow.copy_into._params
    comment_sql = fakesnow.info_schema.insert_table_comment_sql

    def files_in(source: str, files: list[str]) -> list[str]:
        """FILES= of internal stages, which fakesnow refuses because they are folders, not URLs."""
        if not stage.is_internal(source):
            return source_urls(source, files)
        paths = [f"{source.rstrip('/')}/{name}" for name in files]
        for path in paths:
            if not Path(path).is_file():
                name = stage.internal_file_name(path)
                raise ProgrammingError(msg=f"Remote file '{name}' was not found.", errno=91016, sqlstate="22000")
        return paths

    def told(expression: exp.Copy, *more: Any, **named: Any) -> Any:
        """FORCE = FALSE and PURGE = FALSE, which fakesnow takes for TRUE."""
        given = expression.args.get("params") or []
        kept = [p for p in given if not (p.this.name.upper() in ("FORCE", "PURGE") and says_false(p.expression))]
        expression.set("params", kept)
        return params(expression, *more, **named)

    def comment(catalog: str, schema: str, table: str, text: str) -> str:
        """No empty comment is written: that is in another database, where a transaction can't write too."""
        return comment_sql(catalog, schema, table, text) if text else "SELECT 1"

    # settings that change nothing here, such as QUERY_TAG, are refused otherwise
    fakesnow.server.shared_fs.nop_regexes = [r"\s*ALTER\s+SESSION\s+(UN)?SET\s+(?!AUTOCOMMIT)"]
    # an integer has 38 digits, as in Snowflake, not 64 bits
    fakesnow.transforms.integer_precision = whole_numbers
    fakesnow.server.describe_as_rowtype = columns_of
    fakesnow.server.to_sf = as_sent
    fakesnow.copy_into._source_urls = files_in
    fakesnow.copy_into._params = told
    fakesnow.info_schema.insert_table_comment_sql = comment


def whole_numbers(expression: exp.Expression) -> exp.Expression:
    if isinstance(expression, exp.DataType) and (
        expression.this in (Kind.INT, Kind.BIGINT, Kind.SMALLINT, Kind.TINYINT)
        or (expression.this == Kind.DECIMAL and not expression.expressions)
    ):
        return exp.DataType.build("DECIMAL(38, 0)")
    return expression


def says_false(value: exp.Expression | None) -> bool:
    return value is not None and value.sql().upper() == "FALSE"


if __name__ == "__main__":
    mend_fakesnow()
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    options: Json = {"log_config": None, "http": "h11", "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(Layer(fakesnow.server.app), **options))
    threading.Thread(target=lambda: setattr(server, "should_exit", not sys.stdin.read()), daemon=True).start()
    try:
        server.run(sockets=[listening])
    finally:
        shutil.rmtree(stage.LOCAL_BUCKET_PATH, ignore_errors=True)
