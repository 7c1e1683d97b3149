"""The access log: a line of JSON a request, with no body and no key of a row, which may be somebody's name."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from lakehouse.serving.messages import Request, Response

_LOGGED = ("job", "route", "rows", "quarantined", "request_id", "client")


def write(request: Request, response: Response, seconds: float, to: TextIO) -> None:
    """Write a request's line. Who reads the log may be gone: requests are answered all the same."""
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
    with suppress(OSError):
        to.write(json.dumps(said, ensure_ascii=False) + "\n")
        to.flush()
