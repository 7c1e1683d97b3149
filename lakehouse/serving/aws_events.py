"""Requests as AWS hands them to a function, and answers as it takes them: API Gateway, load balancers, function URLs.

`REST` and `HTTP` are API Gateway's payload formats 1.0 and 2.0; function URLs have that of 2.0.
"""

from __future__ import annotations

import base64
import binascii
import http
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from lakehouse.serving.messages import Refusal, Request, Response, as_json

Event = Mapping[str, Any]
MOST_BYTES = 6_291_556
"""What Lambda lets a function answer at once, as JSON."""
_BALANCED_BYTES = 1 << 20
"""What a load balancer takes of it as a body."""


@dataclass(frozen=True)
class Form:
    """A kind of events over HTTP. `balanced`: it comes from a load balancer; `several`: headers are lists of values."""

    name: str
    balanced: bool = False
    several: bool = False


def form_of(event: Any) -> Form | None:
    """The kind of an event; None for one that is no request over HTTP."""
    context = event.get("requestContext") if isinstance(event, Mapping) else None
    if not isinstance(context, Mapping):
        return None
    if event.get("version") == "2.0":
        return Form("HTTP")
    if "elb" in context:
        return Form("ELB", balanced=True, several="multiValueHeaders" in event)
    return Form("REST") if "httpMethod" in event else None


def request_of(event: Event, form: Form, name: str, most: int) -> Request:
    """The request of an event. `name`: its id, unless the client gives one; `most`: bytes that a body may have.

    Raises Refusal for a body that can't be read.
    """
    headers = {"x-request-id": name, **_headers(event)}
    context = event["requestContext"]
    if form.balanced:
        client = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    else:
        client = str((context.get("identity") or context.get("http") or {}).get("sourceIp") or "")
    method = event.get("httpMethod") or (context.get("http") or {}).get("method") or ""
    request = Request(str(method), _path(event, form), _query(event, form), headers, client=client)
    body, size = _body(event, most)
    return Request(request.method, request.path, request.query, headers, body, client, size)


def _headers(event: Event) -> dict[str, str]:
    """By names in lower case; of several values with commas between."""
    many = event.get("multiValueHeaders")
    if many:
        return {name.lower(): ",".join(values) for name, values in many.items()}
    return {name.lower(): str(value) for name, value in (event.get("headers") or {}).items()}


def _path(event: Event, form: Form) -> str:
    """The path below where the function is mounted: what a `{proxy+}` stands for, else all of it without the stage."""
    mounted = (event.get("pathParameters") or {}).get("proxy")
    if mounted:
        return f"/{mounted}"
    path = str(event.get("rawPath") or event.get("path") or "/")
    stage = event["requestContext"].get("stage")
    if form.name == "HTTP" and stage and path.startswith(f"/{stage}/"):
        return path.removeprefix(f"/{stage}")
    return path


def _query(event: Event, form: Form) -> dict[str, str]:
    """The first value of each parameter, without those by which AWS itself is shown who asks (a signed URL)."""
    return {name: value for name, value in _given(event, form).items() if not name.lower().startswith("x-amz-")}


def _given(event: Event, form: Form) -> dict[str, str]:
    if form.name == "HTTP":
        return _first(parse_qsl(str(event.get("rawQueryString") or ""), keep_blank_values=True))
    many = event.get("multiValueQueryStringParameters")
    given = many or {name: [value] for name, value in (event.get("queryStringParameters") or {}).items()}
    pairs = [(name, str(value)) for name, values in given.items() for value in values]
    # A load balancer hands them on as they came, API Gateway decoded.
    return _first([(unquote_plus(n), unquote_plus(v)) for n, v in pairs] if form.balanced else pairs)


def _first(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _body(event: Event, most: int) -> tuple[bytes, int]:
    """The body, and what it is said to have; of one that is too large no more than that."""
    text = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        body = text.encode(errors="replace")
        return (body, len(body)) if len(body) <= most else (b"", len(body))
    size = len(text) * 3 // 4
    if size > most + 2:
        return b"", size
    try:
        body = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, f"the body is said to be base64, and is not: {error}") from error
    return body, len(body)


def result_of(response: Response, form: Form, method: str) -> dict[str, Any]:
    """A response as the kind of event wants it; 413 in its place where AWS would take no answer of that size."""
    is_text = response.type.startswith(("text/", "application/json"))
    body = "" if method == "HEAD" else response.body.decode() if is_text else base64.b64encode(response.body).decode()
    most = _BALANCED_BYTES if form.balanced else MOST_BYTES
    if _size(body, most) > most:
        said = f"the answer has more than the {most:,} bytes that AWS lets through: send fewer rows"
        response = Response(413, as_json({"error": said}), headers=response.headers)
        is_text, body = True, response.body.decode()
    headers = {"Content-Type": response.type, **response.headers}
    result: dict[str, Any] = {"statusCode": response.status, "body": body, "isBase64Encoded": not is_text}
    if form.several:
        result["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
    else:
        result["headers"] = headers
    if form.balanced:
        result["statusDescription"] = f"{response.status} {http.HTTPStatus(response.status).phrase}"
    return result


def _size(body: str, most: int) -> int:
    """The bytes of a body within Lambda's JSON, in which each quote takes two; looked at only where it may matter."""
    return len(json.dumps(body)) + 4_096 if len(body) > most // 8 else len(body)
