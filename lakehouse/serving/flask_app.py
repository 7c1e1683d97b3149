"""The Flask application: it hands requests to the handler. The only importer of Flask."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Container
from typing import TextIO
from urllib.parse import quote

from flask import Flask
from flask import Response as Reply
from flask import request as asked
from werkzeug.exceptions import HTTPException

from lakehouse.serving import access_log, deadlines
from lakehouse.serving.handler import handle
from lakehouse.serving.messages import Request, Response, as_json
from lakehouse.serving.server import Server


def application(server: Callable[[], Server], log: TextIO | None = None) -> Flask:
    """The application. `server`: what it serves with, once there is a request; `log`: default stdout."""
    app = Flask("lakehouse.serving", static_folder=None)

    @app.before_request  # so that all methods and paths, as they were sent, come here: there are no routes
    def answer() -> Reply:
        return reply(server(), log)

    return app


def reply(serving: Server, log: TextIO | None = None, others: Container[str] = ()) -> Reply:
    """The answer to Flask's request that is at hand, which it also writes to the access log.

    `others`: parameters that are for somebody before us.
    """
    began = time.perf_counter()
    try:
        request = _request(serving.limits.body, serving.limits.seconds, others)
        response = handle(request, serving)
    except (OSError, HTTPException):
        request = Request(asked.method, asked.path)
        response = Response(408, as_json({"error": "the body did not come whole"}))
    access_log.write(request, response, time.perf_counter() - began, log or sys.stdout)
    return Reply(response.body, response.status, dict(response.headers), content_type=response.type)


def _request(most: int, seconds: float, others: Container[str]) -> Request:
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
    query = {name: value for name, value in asked.args.items() if name not in others}
    return Request(asked.method, path, query, headers, body, asked.remote_addr or "", size)
