"""The Flask application: it hands requests to the handler and writes the access log. The only importer of Flask."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO
from urllib.parse import quote

from flask import Flask
from flask import Response as Reply
from flask import request as asked
from werkzeug.exceptions import HTTPException

from lakehouse.serving import deadlines
from lakehouse.serving.handler import handle
from lakehouse.serving.messages import Request, Response, as_json
from lakehouse.serving.server import Server

_LOGGED = ("job", "route", "rows", "quarantined", "request_id", "client")


def application(server: Callable[[], Server], log: TextIO | None = None) -> Flask:
    """The application. `server`: what it serves with, once there is a request; `log`: default stdout."""
    app = Flask("lakehouse.serving", static_folder=None)

    @app.before_request  # so that all methods and paths, as they were sent, come here: there are no routes
    def answer() -> Reply:
        began = time.perf_counter()
        serving = server()
        try:
            request = _request(serving.limits.body, serving.limits.seconds)
            response = handle(request, serving)
        except (OSError, HTTPException):
            request = Request(asked.method, asked.path)
            response = Response(408, as_json({"error": "the body did not come whole"}))
        _log(request, response, time.perf_counter() - began, log or sys.stdout)
        return Reply(response.body, response.status, dict(response.headers), content_type=response.type)

    return app


def _request(most: int, seconds: float) -> Request:
    """The request that is at hand. Raises OSError where its body does not come whole."""
    environ = asked.environ
    raw = str(environ.get("RAW_URI", ""))  # as it was sent: a key may have a slash in it
    path = raw.partition("?")[0] if raw.startswith("/") else quote(asked.path)
    size = asked.content_length or 0
    body = b""
    if size <= most and (size or "HTTP_TRANSFER_ENCODING" in environ):
        body = asked.stream.read(most + 1)
        if len(body) < size:  # Gunicorn gives what there is: the beginning of a CSV file would be one, too
            raise OSError(f"the body has {len(body)} of {size} bytes")
    deadlines.received(environ.get("gunicorn.socket"), seconds)
    headers = {name.lower(): value for name, value in asked.headers.items()}
    return Request(asked.method, path, asked.args.to_dict(), headers, body, asked.remote_addr or "", size)


def _log(request: Request, response: Response, seconds: float, to: TextIO) -> None:
    """A line of JSON: no body, and no key of a row, which may be somebody's name."""
    facts = response.facts
    said: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": "request",
        "method": request.method[:20],
        "status": response.status,
        "ms": round(seconds * 1_000, 2),
        "bytes_in": max(len(request.body), request.size),
        "bytes_out": len(response.body),
        "remote": request.client,
        **{name: facts[name] for name in _LOGGED if facts.get(name) not in (None, "")},
    }
    with suppress(OSError):  # who reads the log may be gone: requests are answered all the same
        to.write(json.dumps(said, ensure_ascii=False) + "\n")
        to.flush()
