"""A stand-in for Snowflake on loopback (fakesnow): python snowflake_server.py. It prints its address.

It ends when its standard input does, and runs in an environment of its own (warehouse.py makes it). This layer around
fakesnow's app completes what the driver asks for, cuts results into chunks with URLs, keeps transactions apart as
Snowflake does, writes down every statement, and can be told to fail (snowflake_dialect.py has types and statements):

GET /_log gives the statements in the order of their arrival: {"sql", "session", "outcome"}, the outcome being "ok",
"failed: message", or the fault that happened, and "GET /queries/.../result" where an earlier result was asked for
again; DELETE /_log forgets them and all results.
PUT /_faults with a JSON list of [pattern, action, times] or [pattern, action, times, first] says what goes wrong:
`pattern` is a regular expression, in which case doesn't matter, on the text of a statement or on "METHOD /path"; the
first `first` matches pass; `action` is a status such as "503" (nothing done), "slow 1.5" (done that many seconds later),
"drop" (the connection ends, nothing done), "error" (the statement fails, nothing done) or "lost reply" (done, but the
connection ends before the answer); GET /_faults gives what is left.
PUT /_settings with {"chunk_rows", "gzip", "max_age", "result_age", "lock_timeout", "once"} says how results are cut,
whether the chunks are compressed, after how many seconds their URLs are refused and the results themselves are gone, how
long statements wait for a lock instead of the session's LOCK_TIMEOUT, and which statements (a regular expression) are
carried out once, their answer being kept, as Snowflake keeps results of tables that don't change; {"travel", "retention"}
say for which tables (a regular expression on the name) what they contain is kept from now on whenever something is
committed, for AT(TIMESTAMP => …), and for how many seconds that may be asked for.
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
from dataclasses import dataclass, field
from typing import Any

import duckdb
import fakesnow.server
import pyarrow as pa
import uvicorn
from fakesnow.transforms import stage
from snowflake_dialect import (
    KINDS,
    TRAVEL,
    changed,
    declare,
    kinds_of,
    mend_fakesnow,
    on_stage,
    parsed,
    remember,
    stream,
)
from sqlglot import exp

Json = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Json]]
Send = Callable[[Json], Awaitable[None]]
LOGIN, QUERY = "/session/v1/login-request", "/queries/v1/query-request"
PASSWORD = "tests"
SETTINGS = {"chunk_rows": 1000, "gzip": True, "max_age": 6 * 3600.0, "result_age": 24 * 3600.0, "lock_timeout": None,
            "once": None, "travel": None, "retention": 86400.0}  # fmt: skip
RESULT = re.compile("/queries/([0-9a-f-]+)/result")
COMPLETION = {
    "masterToken": "master", "validityInSeconds": 3600, "masterValidityInSeconds": 14400, "sessionId": 1,
}  # fmt: skip
"""What driver 5 expects in a login's answer beyond fakesnow's."""
DDL = exp.Create | exp.Alter | exp.Drop | exp.Comment | exp.TruncateTable
DML = exp.Insert | exp.Update | exp.Delete | exp.Merge | exp.Copy
READING = exp.Query | exp.Show | exp.Describe | exp.Transaction | None
LOCKED = "Statement '{}' has locked table '{}' in transaction {} and this lock has not yet been released."


@dataclass
class Session:
    """A session: is a transaction open, has it changed anything, can't duckdb go on with it, and which tables does it
    lock, by which statement?"""

    lock_timeout: float
    open: bool = False
    wrote: bool = False
    broken: bool = False
    holds: dict[Any, str] = field(default_factory=dict)
    number: int = field(default_factory=time.time_ns)
    clients: set[Any] = field(default_factory=set)
    """Its client's connections, which the driver closes after 90 s without use; None: one that a fault has ended."""

    def over(self) -> None:
        """The transaction ends."""
        self.open = self.wrote = self.broken = False
        self.holds.clear()


class Layer:
    """What stands between the driver and fakesnow."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        self.settings: Json = dict(SETTINGS)
        self.sessions: dict[str, Session] = {}
        self.turn = asyncio.Lock()
        self.faults: list[list[Any]] = []
        self.log: list[Json] = []
        self.chunks: dict[str, tuple[float, bytes]] = {}
        self.results: dict[str, tuple[float, Json]] = {}
        self.answers: dict[str, asyncio.Task[tuple[int, bytes, str]]] = {}
        self.made: dict[tuple[str, bool], bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the server starts and ends
            return await self.app(scope, receive, send)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        scope["path"] = scope["path"].replace("//", "/")  # the driver asks for /monitoring/queries//...
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding") == b"gzip" and not scope["path"].startswith("/fs_bucket"):
            body = gzip.decompress(body)
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"content-encoding"]
        if scope["path"].startswith("/_"):
            return await answer(send, 200, self.control(scope["method"], scope["path"], body))
        # uvicorn's own object behind `receive` has the connection; nothing in ASGI ends one without an answer
        client = receive.__self__.transport  # type: ignore[attr-defined]
        clients = session.clients if (session := self.sessions.get(token_of(headers))) else set()
        clients.add(client)

        def hang_up() -> None:
            clients.add(None)
            client.abort()

        await self.with_faults(scope, body, send, hang_up)

    def control(self, method: str, path: str, body: bytes) -> bytes:
        if path == "/_log" and method == "DELETE":
            for memory in (self.log, self.chunks, self.results, self.answers, self.made):
                memory.clear()
        elif path == "/_faults" and method == "PUT":
            self.faults = [[*fault, 0][:4] for fault in json.loads(body)]
        elif path == "/_settings" and method == "PUT":
            self.settings = {**SETTINGS, **json.loads(body)}
            TRAVEL.update(tables=self.settings["travel"], retention=self.settings["retention"])
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
        fetching = RESULT.fullmatch(scope["path"])
        if scope["path"] == QUERY or fetching:
            # a session's name in the log, without its token
            name = str(uuid.uuid5(uuid.NAMESPACE_OID, token_of(dict(scope["headers"]))))[:8]
            sql = texts[0] if fetching else json.loads(body)["sqlText"]
            entry = {"sql": sql, "session": name, "outcome": "running"}
            if not re.match("PUT 'file://[^/']*'", entry["sql"]):  # the driver's own wish for the URL of one file
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
        if path.startswith("/fs_bucket/") and "*" in path:
            return 400, b"", ""  # upon which the driver asks for a URL of each file of its own
        address = f"http://{dict(scope['headers'])[b'host'].decode()}"
        if fetching := RESULT.fullmatch(path):
            made, data = self.results.get(fetching[1], (0.0, {}))
            if time.time() - made > self.settings["result_age"]:
                message = f"Statement {fetching[1]} not found"
                entry["outcome"] = f"failed: {message}"
                return 200, failure("000709", "02000", message), ""
            entry["outcome"] = "ok"
            return 200, json.dumps({"success": True, "data": self.cut(data, address)}).encode(), ""
        if path == LOGIN and (refused := refusal(json.loads(body)["data"])):
            return 200, refused, ""
        if path.startswith("/telemetry"):  # the driver's reports, which fakesnow refuses and the driver then warns of
            return 200, b'{"success": true, "data": "Log Received"}', ""
        if path == LOGIN:
            async with self.turn:
                status, content = await self.inner(scope, body)
            reply = json.loads(content)
            if reply["success"]:
                asked = json.loads(body)["data"]["SESSION_PARAMETERS"]
                self.sessions[reply["data"]["token"]] = Session(float(asked.get("LOCK_TIMEOUT", 43200)))
                reply["data"] |= COMPLETION
            return status, json.dumps(reply).encode(), ""
        if path == "/session" and "delete=true" in scope["query_string"].decode():
            async with self.turn:
                self.end(token_of(dict(scope["headers"])))
            return 200, b'{"success": true, "data": null}', ""
        if path != QUERY:
            return *await self.inner(scope, body), ""
        # As Snowflake does: the driver repeats a request whose answer it didn't get, and it's carried out once.
        request = re.search(r"request_?id=([^&]+)", scope["query_string"].decode(), re.IGNORECASE)
        name = request[1] if request else uuid.uuid4().hex
        if name in self.answers:
            entry["outcome"] = "repeated"
        else:
            self.answers[name] = asyncio.create_task(self.carried_out(scope, body, entry, address))
        return await self.answers[name]

    async def carried_out(self, scope: Scope, body: bytes, entry: Json, address: str) -> tuple[int, bytes, str]:
        """The answer to a statement."""
        told = json.loads(body)
        asked = entry["sql"], bool(told.get("describeOnly"))
        if asked in self.made:
            entry["outcome"] = "ok"
            return 200, self.made[asked], ""
        try:
            status, content = await self.in_turn(token_of(dict(scope["headers"])), scope, told)
        except Exception as error:
            status, content = 500, json.dumps({"code": "261000", "message": repr(error)}).encode()
        reply = {"success": False, **json.loads(content)}
        if reply["success"]:
            data = staged(reply["data"])
            self.results[data.get("queryId", "")] = time.time(), data
            content = json.dumps({**reply, "data": self.cut(data, address)}).encode()
            if self.settings["once"] and re.search(self.settings["once"], entry["sql"], re.IGNORECASE):
                self.made[asked] = content
        elif status == 500 and reply["code"] == "261000":
            # a bug or a gap of fakesnow's: to the driver a statement that failed, for it would repeat after a 500
            status, content = 200, failure("000002", "0A000", reply["message"])
        else:  # fakesnow's messages begin with what the driver puts before them
            reply["message"] = re.sub(r"^\d{6} \(\w{5}\): ", "", reply["message"])
            content = json.dumps(reply).encode()
        entry["outcome"] = "ok" if reply["success"] else f"failed: {reply['message']}"
        return status, content, ""

    async def in_turn(self, token: str, scope: Scope, request: Json) -> tuple[int, bytes]:
        """fakesnow's answer to a statement; one statement is carried out at a time, whole or not at all.

        One that changes rows waits until no other transaction has changed rows of the same table.
        """
        start, query = time.monotonic(), parsed(request["sqlText"])
        statement = None if request.get("describeOnly") else query
        while True:
            async with self.turn:
                connection, session = fakesnow.server.sessions.get(token), self.sessions.get(token)
                if connection is None or session is None:
                    return await self.inner(scope, json.dumps(request).encode())
                table = changed(connection, statement)
                holder = self.holder_of(table, session)
                if holder is None:
                    KINDS.set(kinds_of(connection, query))
                    return await self.carry_out(scope, request, session, connection, statement)
            limit = self.settings["lock_timeout"]
            if time.monotonic() - start >= (session.lock_timeout if limit is None else limit):
                return 200, failure("000625", "57014", LOCKED.format(holder.holds[table], table[-1], holder.number))
            await asyncio.sleep(0.02)

    def holder_of(self, table: Any, asking: Session) -> Session | None:
        """Another session whose transaction has changed rows of a table; that of a client that is gone is ended."""
        for token, session in list(self.sessions.items()):
            if table in session.holds and session is not asking:
                if not all(client is not None and client.is_closing() for client in session.clients):
                    return session
                self.end(token)
        return None

    async def carry_out(
        self, scope: Scope, request: Json, session: Session, connection: Any, statement: exp.Expression | None
    ) -> tuple[int, bytes]:
        """See `in_turn`; no `statement`: it's only described."""
        duck, sql = connection._duck_conn, on_stage(connection, request["sqlText"])
        if (
            isinstance(statement, exp.Commit | DDL) and session.broken
        ):  # in duckdb this would succeed, without any effect
            return 200, failure("000002", "0A000", "the stand-in can't COMMIT after a failure: please ROLLBACK")
        if isinstance(statement, DDL) and statement.args.get("kind") != "SESSION":
            with suppress(duckdb.TransactionException):  # there is none
                duck.commit()  # as Snowflake does before such a statement
            session.over()
        if isinstance(statement, exp.Transaction) and session.open:
            sql = "SELECT 'Statement executed successfully.' AS \"status\""
        alone = isinstance(statement, DML) and not session.open and connection._autocommit
        if session.open and not session.wrote and not isinstance(statement, exp.Commit | exp.Rollback):
            # Snowflake's transactions see at each statement what others have committed; duckdb's do
            # until their first, so it's begun anew as long as there is nothing in it
            duck.rollback()
            duck.begin()
        elif alone:
            duck.begin()  # fakesnow makes several statements of some
        if not alone and (table := changed(connection, statement)):
            session.holds.setdefault(table, str(uuid.uuid4()))
        status, content = await self.inner(scope, json.dumps({**request, "sqlText": sql}).encode())
        done = json.loads(content).get("success", False)
        if alone:
            duck.commit() if done else duck.rollback()
        if done:
            declare(connection, statement)
            if alone or isinstance(statement, exp.Commit | DDL):
                remember(connection)
            if setting := re.match(r"\s*ALTER\s+SESSION\s+SET\s+LOCK_TIMEOUT\s*=\s*(\d+)", sql, re.IGNORECASE):
                session.lock_timeout = float(setting[1])
            if isinstance(statement, exp.Commit | exp.Rollback):
                session.over()
            session.open |= isinstance(statement, exp.Transaction)
            session.wrote |= session.open and not isinstance(statement, READING)
        session.broken |= session.wrote and not done
        return status, content

    def end(self, token: str) -> None:
        """Ends a session, and its transaction without its changes."""
        self.sessions.pop(token, None)
        if connection := fakesnow.server.sessions.pop(token, None):
            with suppress(duckdb.TransactionException):  # there is none
                connection._duck_conn.rollback()
            connection.close()

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
        first = base64.b64encode(stream(table.slice(0, rows))).decode()
        return {**data, "rowsetBase64": first, "returned": data["total"], "chunks": chunks, "chunkHeaders": {},
                "parameters": [{"name": "TIMEZONE", "value": "UTC"}]}  # fmt: skip

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


def token_of(headers: dict[bytes, bytes]) -> str:
    """The session's token in `Snowflake Token="..."`."""
    return headers.get(b"authorization", b"").decode()[17:-1]


def staged(data: Json) -> Json:
    """The answer to PUT: the driver wants a region, and without overwriting asks for signed headers."""
    if "stageInfo" not in data:
        return data
    return {**data, "overwrite": True, "stageInfo": {"region": "US-CENTRAL1", **data["stageInfo"]}}


if __name__ == "__main__":
    mend_fakesnow()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer's body waits 40 ms
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    # whose connections are closed is gone, so none is closed for being idle
    options: Json = {"log_config": None, "http": "h11", "timeout_graceful_shutdown": 1, "timeout_keep_alive": 86400}
    server = uvicorn.Server(uvicorn.Config(Layer(fakesnow.server.app), **options))
    threading.Thread(target=lambda: setattr(server, "should_exit", not sys.stdin.read()), daemon=True).start()
    try:
        server.run(sockets=[listening])
    finally:
        shutil.rmtree(stage.LOCAL_BUCKET_PATH, ignore_errors=True)
