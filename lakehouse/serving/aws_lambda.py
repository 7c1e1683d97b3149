"""What Lambda calls: requests over HTTP, direct invocations, and batches of messages, each answered by the handler.

Whatever happens there is an answer: an exception would show its traceback to whoever invokes the function.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lakehouse.serving import access_log, aws_batches, aws_events
from lakehouse.serving.handler import handle
from lakehouse.serving.messages import JSON, Refusal, Request, Response, as_json
from lakehouse.serving.packaged import Package, open_package
from lakehouse.serving.server import LOG, Server

Handler = Callable[[Any, Any], Any]


def handler_for(folder: str | Path) -> Handler:
    """The function that Lambda calls, for the package in this folder, whose model is loaded now.

    Raises what `open_package` and `aws_batches.sender` raise: Lambda tells whoever calls the function.
    """
    package = open_package(Path(folder))
    return handler_of(package, aws_batches.sender(package.answers, package.job))


def handler_of(package: Package, send: aws_batches.Send | None) -> Handler:
    """The function for a package that is open. `send`: sends the answers to messages on."""

    def handler(event: Any, context: Any) -> Any:
        if package.is_stuck():
            LOG.error("a model has not answered in time, and still goes on: this environment ends, and is replaced")
            sys.stderr.flush()
            os._exit(1)
        name = str(getattr(context, "aws_request_id", "") or "")
        source = aws_batches.source_of(event)
        if source is not None:
            return aws_batches.answer(event["Records"], source, package, send, _answer)
        form = aws_events.form_of(event)
        return _over_http(event, form, name, package) if form else _invoked(event, name, package)

    return handler


def _over_http(event: Mapping[str, Any], form: aws_events.Form, name: str, package: Package) -> dict[str, Any]:
    try:
        request = aws_events.request_of(event, form, name, package.server.limits.body)
    except Refusal as error:
        request = Request(str(event.get("httpMethod", "")), "")
        response = Response(error.status, as_json({"error": error.message, "request_id": name}))
        access_log.write(request, response, 0.0, sys.stdout)
    else:
        response = _answer(request, package.server)
    return aws_events.result_of(response, form, request.method)


def _invoked(event: Any, name: str, package: Package) -> dict[str, Any]:
    """A direct invocation: the event is the body, the answer is that over HTTP, with its status in it.

    AWS decides who may invoke a function: it takes no API key.
    """
    headers = {"content-type": JSON, "x-request-id": name}
    body = json.dumps(event).encode()
    response = _answer(Request("POST", package.path, {}, headers, body, "invoked", len(body)), package.inside)
    if len(response.body) > aws_events.MOST_BYTES:
        said = f"the answer has more than the {aws_events.MOST_BYTES:,} bytes that AWS lets through: send fewer rows"
        return {"status": 413, "error": said, "request_id": name}
    return {"status": response.status, **json.loads(response.body)}


def _answer(request: Request, server: Server) -> Response:
    """The handler's response, with its line in the access log."""
    began = time.perf_counter()
    response = handle(request, server)
    access_log.write(request, response, time.perf_counter() - began, sys.stdout)
    return response
