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
from pathlib import Path
from typing import Any

import duckdb
import fakesnow.arrow
import fakesnow.copy_into
import fakesnow.info_schema
import fakesnow.server
import pyarrow as pa
import uvicorn
from fakesnow.transforms import stage
from snowflake.connector.errors import ProgrammingError
from sqlglot import exp

Json = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Json]]
Send = Callable[[Json], Awaitable[None]]
LOGIN, QUERY = "/session/v1/login-request", "/queries/v1/query-request"
PASSWORD = "tests"
SETTINGS = {"chunk_rows": 1000, "gzip": True, "max_age": 6 * 3600.0}


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
        if session := fakesnow.server.sessions.get(headers.get(b"authorization", b"").decode()[17:-1]):
            body = json.dumps({**json.loads(body), "sqlText": mended(session, entry["sql"])}).encode()
        status, content = await self.inner(scope, body)
        reply = json.loads(content)
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
        if data.get("queryResultFormat") != "arrow" or data["total"] <= rows:
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
        first = base64.b64encode(stream(table.slice(0, rows))).decode()
        return {**data, "rowsetBase64": first, "returned": data["total"], "chunks": chunks, "chunkHeaders": {}}

    async def inner(self, scope: Scope, body: bytes) -> tuple[int, bytes]:
        """fakesnow's own answer."""
        parts: list[Json] = []

        async def give() -> Json:
            return {"type": "http.request", "body": body, "more_body": False}

        async def take(message: Json) -> None:
            parts.append(message)

        await self.app(scope, give, take)
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
    return fakesnow.arrow.to_ipc(table.combine_chunks()).to_pybytes()


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
    timestamp_to_struct = fakesnow.arrow.timestamp_to_sf_struct
    source_urls, params = fakesnow.copy_into._source_urls, fakesnow.copy_into._params
    comment_sql = fakesnow.info_schema.insert_table_comment_sql

    def timestamps(column: Any) -> pa.Array:
        """NULL stays NULL: fakesnow's struct has none, its members do."""
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        filled = timestamp_to_struct(column.fill_null(pa.scalar(0, column.type)) if column.null_count else column)
        return pa.StructArray.from_arrays(filled.flatten(), fields=list(filled.type), mask=column.is_null())

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
    fakesnow.arrow.timestamp_to_sf_struct = timestamps
    fakesnow.copy_into._source_urls = files_in
    fakesnow.copy_into._params = told
    fakesnow.info_schema.insert_table_comment_sql = comment


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
