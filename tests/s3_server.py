"""An S3 server on loopback (moto) that can be told to fail: python s3_server.py. It prints its address.

It is Glue and Athena, too (athena_server.py).

PUT /_faults with a JSON list of [pattern, action, times] says what goes wrong: `pattern` is a regular expression on
"METHOD /bucket/key"; `action` is "refuse" (503, nothing done), "deny" (403, nothing done), "hang" (no answer for two minutes), "drop" (the connection ends, nothing done) or
"lost reply" (done, but the connection ends before the answer); GET /_faults gives what is left of the list.

GET /_requests gives what was asked for since it was last asked so: "METHOD /bucket/key", with a list's prefix.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
BUCKET = "lake"


class Handler(WSGIRequestHandler):
    """Connections are kept, and nothing is logged."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_: Any) -> None:
        pass


def faulty(app: App) -> App:
    faults: list[list[Any]] = []
    requests: list[str] = []

    def plain(start: Callable[..., Any], status: str, body: bytes = b"") -> list[bytes]:
        start(status, [("Content-Length", str(len(body)))])
        return [body]

    def hang_up(environ: dict[str, Any]) -> None:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/_faults":
            if method == "PUT":
                faults[:] = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            return plain(start, "200 OK", json.dumps(faults).encode())
        if path == "/_requests":
            asked, requests[:] = list(requests), []
            return plain(start, "200 OK", json.dumps(asked).encode())
        listed = parse_qs(environ.get("QUERY_STRING", "")).get("prefix", [""])[0]
        requests.append(f"LIST {path}/{listed}" if listed else f"{method} {path}")
        fault = next((f for f in faults if f[2] > 0 and re.search(f[0], f"{method} {path}")), None)
        if fault is None:
            return app(environ, start)
        fault[2] -= 1
        if fault[1] == "hang":
            time.sleep(120)
        if fault[1] == "refuse":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return plain(start, "503 Slow Down")
        if fault[1] == "deny":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return plain(
                start, "403 Forbidden", b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            )
        if fault[1] == "lost reply":
            b"".join(app(environ, lambda *_: None))
        hang_up(environ)
        return plain(start, "500 Nobody Reads This")

    return answer


if __name__ == "__main__":
    import athena_server  # beside this file, which is no module of a package here

    athena_server.install()
    logging.getLogger("werkzeug").disabled = True
    server = make_server(
        "127.0.0.1", 0, faulty(DomainDispatcherApplication(create_backend_app)), threaded=True, request_handler=Handler
    )
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()
