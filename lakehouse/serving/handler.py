"""A request in, a response out: no server, no thread and no file of its own. Every front calls `handle`."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from lakehouse.errors import ConfigError, Unavailable, nearest
from lakehouse.schemas import WARNINGS
from lakehouse.serving import answers, bodies, page, scoring
from lakehouse.serving.access import require_key
from lakehouse.serving.messages import ARROW, SHOWN, Refusal, Request, Response, as_json
from lakehouse.serving.server import LOG, Served, Server

_REQUEST_ID = re.compile(r"[\w.-]{8,64}")
_SCORE = re.compile(r"/v1/([^/]+)/score")
_LAYOUTS = ("records", "columns")
_LOOKUP = re.compile(r"/v1/([^/]+)/scores/([^/]+)")


def handle(request: Request, server: Server) -> Response:
    """Answer a request; whatever happens there is an answer, and a defect's says no more than an id.

    200 with `scores` and `quarantined`, where at least one row is scored; 422 with `quarantined` where none is.
    """
    began = time.perf_counter()
    asked = request.headers.get("x-request-id", "")
    name = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
    facts: dict[str, Any] = {"request_id": name, "route": "other"}
    try:
        response = _route(request, server, name, facts)
    except Refusal as error:
        response = _refused(error.status, error.message, name, error.headers)
    except Unavailable as error:
        LOG.warning("%s: %s", name, error)
        response = _refused(503, "an outside system can't be reached: try again", name, {"Retry-After": "5"})
    except Exception:
        LOG.exception("request %s failed", name)
        response = _refused(500, f"a defect; the log has it under the id {name}", name, {})
    facts["seconds"] = time.perf_counter() - began
    headers = {"X-Request-Id": name, **response.headers}
    server.metrics.count(facts, response.status)
    return replace(response, headers=headers, facts={**facts, **response.facts})


def _refused(status: int, message: str, name: str, headers: Mapping[str, str]) -> Response:
    return Response(status, as_json({"error": message, "request_id": name}), headers=headers)


def _route(request: Request, server: Server, name: str, facts: dict[str, Any]) -> Response:
    if open_to_all := _OPEN.get(request.path):
        facts["route"] = request.path
        _require_method(request, "GET")
        return open_to_all(server)
    facts["client"] = require_key(server.keys, request.headers)
    server.rates.require(facts["client"] or request.client)
    if guarded := _GUARDED.get(request.path):
        facts["route"] = request.path
        _require_method(request, "GET")
        return guarded(server)
    if found := _SCORE.fullmatch(request.path):
        facts |= {"route": "score", "job": unquote(found[1])}
        job = _job(server, facts)
        _require_method(request, "POST")
        _require_known(request, "layout")
        return _score(request, job, server, name, facts)
    if found := _LOOKUP.fullmatch(request.path):
        facts |= {"route": "scores", "job": unquote(found[1])}
        job = _job(server, facts)
        _require_method(request, "GET")
        _require_known(request, "date")
        return _look_up(request, job, unquote(found[2]), name)
    path = request.path[:200]
    raise Refusal(
        404, f"there is nothing at {path}: {nearest(path, _paths(server))}; /openapi.json lists what there is"
    )


def _paths(server: Server) -> list[str]:
    ours = [f"/v1/{name}/{what}" for name in server.jobs for what in ("score", "scores/KEY")]
    return [*_OPEN, *_GUARDED, *ours]


def _require_method(request: Request, method: str) -> None:
    if request.method not in (method, "HEAD" if method == "GET" else method):
        raise Refusal(405, f"{request.method[:20]} is not for this path: {method}", Allow=method)


def _require_known(request: Request, *names: str) -> None:
    """Refuse a parameter that would be left out of account; its value is not repeated, which may be a secret."""
    for name in request.query:
        if name not in names:
            raise Refusal(400, f"unknown parameter {name[:SHOWN]!r}: {nearest(name[:SHOWN], names)}")


def _layout(request: Request) -> str:
    given = request.query.get("layout", _LAYOUTS[0])
    if given not in _LAYOUTS:
        raise Refusal(400, f"layout {given[:SHOWN]!r}: {nearest(given[:SHOWN], _LAYOUTS)}")
    return given


def _job(server: Server, facts: dict[str, Any]) -> Served:
    name = facts["job"]
    if name not in server.jobs:
        facts["job"] = ""
        raise Refusal(404, f"no job {name[:100]!r} is served here; {nearest(name, server.jobs)}")
    return server.jobs[name]


def _score(request: Request, job: Served, server: Server, name: str, facts: dict[str, Any]) -> Response:
    """The rows of the body, scored as a run would."""
    accepted = answers.chosen(request.headers.get("accept", ""))
    columnar = _layout(request) == "columns"
    if max(len(request.body), request.size) > server.limits.body:
        raise Refusal(413, f"the body has more than {server.limits.body:,} bytes: send it in parts")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "the body is encoded: send it as it is")
    batch = bodies.read(request.body, request.headers.get("content-type", ""), job.reader)
    found = server.gate.run(lambda: scoring.score(job.open, batch, name, server.clock()))
    facts |= {"rows": batch.num_rows, "quarantined": len(found.rows_aside)}
    status = 200 if len(found.rows) else 422
    if accepted == ARROW:
        return Response(status, answers.in_arrow(found), ARROW)
    return Response(status, answers.in_json(job.open, found, name, columnar=columnar))


def _look_up(request: Request, job: Served, key: str, name: str) -> Response:
    """The score that is published under a key."""
    if job.published is None:
        raise Refusal(404, "published scores are not looked up here: ask a server of the job, or read its table")
    try:
        found = job.published.find(key, request.query.get("date"))
    except ConfigError as error:  # such as a file that VACUUM has taken
        LOG.warning("%s: %s", name, error)
        raise Refusal(503, "the table is being changed: try again", Retry_After="2") from error
    row = found.row
    shown = {n: answers.values(c)[0] for n, c in zip(row.schema.names, row.columns, strict=True)}
    lineage = answers.lineage_of(row)
    score = {n: v for n, v in shown.items() if n not in lineage or n == WARNINGS}
    said = {
        "job": job.open.prepared.job,
        "request_id": name,
        "lineage": {n: v for n, v in lineage.items() if n != WARNINGS},
        "score": score,
        "slice": {n: answers.plain(v) for n, v in found.slice.items()},
        "table": {"name": found.table, "version": found.version},
        "published_at": answers.plain(found.published_at),
        "looked_at": answers.plain(found.looked_at),
    }
    return Response(200, as_json(said))


def _health(server: Server) -> Response:
    return Response(200, as_json({"status": "alive"}))


def _ready(server: Server) -> Response:
    """200 while scores can be asked for, published ones too; what is worth knowing of each job beside it."""
    jobs, looked = {}, True
    for name, job in server.jobs.items():
        model = {part: job.open.prepared.model[part] for part in ("name", "version", "digest")}
        jobs[name] = {"model": model, **({} if job.published is None else {"published": job.published.state()})}
        looked = looked and (job.published is None or job.published.looked)
    status = "busy" if server.gate.full else "ready" if looked else "starting"
    return Response(200 if status == "ready" else 503, as_json({"status": status, "jobs": jobs}))


def _metrics(server: Server) -> Response:
    text, kind = server.metrics.expose()
    return Response(200, text, kind)


def _openapi(server: Server) -> Response:
    return Response(200, server.openapi)


def _page(server: Server) -> Response:
    return Response(200, page.html(json.loads(server.openapi)), "text/html; charset=utf-8", page.HEADERS)


_OPEN: Mapping[str, Callable[[Server], Response]] = {"/health": _health, "/ready": _ready, "/": _page}
"""What needs no key: nothing in it is anybody's data."""
_GUARDED: Mapping[str, Callable[[Server], Response]] = {"/metrics": _metrics, "/openapi.json": _openapi}
