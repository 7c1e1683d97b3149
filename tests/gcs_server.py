"""Google Cloud Storage on loopback (fake-gcs-server): python gcs_server.py EXECUTABLE. It prints its address and ends with its standard input.

deltalake speaks Google's XML API, of which fake-gcs-server knows next to nothing; so its requests are put into the JSON
API here, preconditions with them. Everything else, and who wins a race, is fake-gcs-server's own.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request

_OWN = ("storage/", "upload/", "download/", "resumable/", "batch/", "_internal/", "b/")
_HOP = {"connection", "transfer-encoding", "keep-alive", "host", "content-length"}
_kept = threading.local()


class Handler(WSGIRequestHandler):
    """Connections are kept, and nothing is logged."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_: Any) -> None:
        pass


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(port: int, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
    """One request to fake-gcs-server, over this thread's connection."""
    if not hasattr(_kept, "connection"):
        _kept.connection = http.client.HTTPConnection("127.0.0.1", port)
    sent = {k: v for k, v in headers.items() if k.lower() not in _HOP} | {"Content-Length": str(len(body))}
    _kept.connection.request(method, target, body, sent)
    reply = _kept.connection.getresponse()
    return Reply(reply.status, dict(reply.getheaders()), reply.read())


def translated(port: int, request: Request) -> Reply:
    """The answer to a request of the XML API."""
    bucket, _, name = request.path.lstrip("/").partition("/")
    there = f"b/{quote(bucket, safe='')}/o"
    headers = {k: v for k, v in request.headers.items() if k.lower() in ("range", "content-type", "authorization")}
    if request.method == "GET" and not name:
        return listed(port, bucket, request.args)
    if request.method in ("GET", "HEAD"):
        return ask(port, request.method, f"/download/storage/v1/{there}/{quote(name, safe='')}", headers)
    if request.method == "DELETE":
        return ask(port, "DELETE", f"/storage/v1/{there}/{quote(name, safe='')}", headers)
    if request.method == "PUT" and not request.args and "x-goog-copy-source" not in request.headers:
        query = {"uploadType": "media", "name": name}
        if condition := request.headers.get("x-goog-if-generation-match"):
            query["ifGenerationMatch"] = condition
        done = ask(port, "POST", f"/upload/storage/v1/{there}?{urlencode(query)}", headers, request.get_data())
        if done.status != 200:
            return done
        made = json.loads(done.body)
        return Reply(200, {"ETag": f'"{made["etag"]}"', "x-goog-generation": made["generation"]}, b"")
    return Reply(501, {}, f"{request.method} {request.full_path}".encode())


def listed(port: int, bucket: str, args: Mapping[str, str]) -> Reply:
    asked = {"prefix": "prefix", "delimiter": "delimiter", "start-after": "startOffset", "max-keys": "maxResults",
             "continuation-token": "pageToken"}  # fmt: skip
    query = urlencode({new: args[old] for old, new in asked.items() if old in args})
    reply = ask(port, "GET", f"/storage/v1/b/{quote(bucket, safe='')}/o?{query}", {})
    if reply.status != 200:
        return reply
    found = json.loads(reply.body)
    contents = [
        f"<Contents><Key>{escape(o['name'])}</Key><Size>{o['size']}</Size><LastModified>{o['updated']}</LastModified>"
        f'<ETag>"{escape(o["etag"])}"</ETag></Contents>'
        for o in found.get("items", [])
        if o["name"] != args.get("start-after")  # which the JSON API counts in
    ]
    prefixes = [f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in found.get("prefixes", [])]
    token = found.get("nextPageToken")
    more = f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else ""
    body = f"<ListBucketResult>{''.join(contents + prefixes)}{more}</ListBucketResult>"
    return Reply(200, {"Content-Type": "application/xml"}, body.encode())


def app(port: int) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        if request.path.lstrip("/").startswith(_OWN):
            raw = environ["REQUEST_URI"]  # names with an encoded / stay as they are
            reply = ask(port, request.method, raw, dict(request.headers), request.get_data())
        else:
            reply = translated(port, request)
        length = reply.headers.get("Content-Length") if request.method == "HEAD" else None
        headers = [(k, v) for k, v in reply.headers.items() if k.lower() not in _HOP]
        start(f"{reply.status} .", [*headers, ("Content-Length", length or str(len(reply.body)))])
        return [reply.body]

    return answer


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    logging.getLogger("werkzeug").disabled = True
    behind = free_port()
    server = make_server("127.0.0.1", 0, app(behind), threaded=True, request_handler=Handler)
    address = f"http://127.0.0.1:{server.port}"
    command = [sys.argv[1], "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(behind)]
    with subprocess.Popen([*command, "-external-url", address, "-log-level", "error"]) as fake:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", behind)):
                break
            time.sleep(0.05)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(address, flush=True)
        sys.stdin.read()  # until whoever started this closes it, or is gone
        fake.terminate()
