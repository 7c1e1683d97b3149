"""Lambda's own client for Python (awslambdaric) at work on an unzipped package, against its Runtime API on loopback.

The process sees the package, the client and boto3, as in Lambda's runtime, and nothing else that is installed here.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.serving.events import http

API = "/2018-06-01/runtime"
RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py", "boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")  # fmt: skip
"""What Lambda's runtime has of its own."""
SECONDS = 120


class Invocation:
    """An event on its way to the function, and what came back of it."""

    def __init__(self, number: int, event: Any) -> None:
        self.name, self.event = f"8476a536-e9f4-11e8-9739-2dfe598c{number:04}", event
        self.done = threading.Event()
        self.result: Any = None
        self.error: Any = None


class Function:
    """A function that waits for events. `began`: seconds from its start until it asked for the first one."""

    def __init__(self, process: subprocess.Popen[bytes], waiting: queue.Queue[Invocation], log: Path) -> None:
        self.process, self.log, self._waiting = process, log, waiting
        self._number = 0
        self.began = 0.0

    def __call__(self, event: Any) -> Any:
        """What the function answers to an event; an error of its is an assertion here."""
        self._number += 1
        asked = Invocation(self._number, event)
        self._waiting.put(asked)
        until = time.monotonic() + SECONDS
        while not asked.done.wait(0.05):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
        assert asked.error is None, asked.error
        return asked.result


def runtime_in(folder: Path) -> Path:
    """What Lambda's runtime has of its own, as links to where it is installed here."""
    folder.mkdir()
    for name in RUNTIME:
        files = metadata.distribution(name).files or ()
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    return folder


@contextmanager
def gateway(function: Function) -> Iterator[str]:
    """The address of an HTTP API before a function, as API Gateway is: requests become events, results answers."""

    class Front(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            encoded = base64.b64encode(body).decode()
            result = function(http(encoded, self.path, headers=headers, isBase64Encoded=True))
            said = result["body"]
            answer = base64.b64decode(said) if result["isBase64Encoded"] else said.encode()
            self.send_response(result["statusCode"])
            for name, value in {**result["headers"], "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

    server = HTTPServer(("127.0.0.1", 0), Front)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def running(package: Path, folder: Path, handler: str, environ: Mapping[str, str] | None = None) -> Iterator[Function]:
    """The function of an unzipped package; `folder`: an empty one for what the runtime needs and the log."""
    waiting: queue.Queue[Invocation] = queue.Queue()
    at_work: dict[str, Invocation] = {}
    asked = threading.Event()
    failed: list[Any] = []

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            assert self.path == f"{API}/invocation/next"
            asked.set()
            one = waiting.get()
            at_work[one.name] = one
            headers = {
                "Lambda-Runtime-Aws-Request-Id": one.name,
                "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1_000) + 30_000),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-2:123456789012:function:scoring",
                "Content-Type": "application/json",
            }
            self._send(200, json.dumps(one.event).encode(), headers)

        def do_POST(self) -> None:
            body = self._body()
            parts = self.path.removeprefix(f"{API}/").split("/")
            if parts[0] == "init":
                failed.append(json.loads(body))
            else:
                one = at_work.pop(parts[1])
                setattr(one, "result" if parts[2] == "response" else "error", json.loads(body))
                one.done.set()
            self._send(202, b'{"status":"OK"}', {})

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole

        def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(runtime_in(folder / "runtime")),
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": "scoring",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "2048",
        "AWS_REGION": "us-east-2",
        "AWS_DEFAULT_REGION": "us-east-2",
        "LAMBDA_TASK_ROOT": str(package),
    }
    log = folder / "log"
    began = time.monotonic()
    with open(log, "wb") as output:
        command = [sys.executable, "-S", "-B", "-m", "awslambdaric", handler]
        process = subprocess.Popen(command, cwd=package, env={**known, **(environ or {})}, stdout=output, stderr=output)
    function = Function(process, waiting, log)
    try:
        while not asked.wait(0.02):
            assert not failed, failed
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - began < SECONDS, log.read_text()
        function.began = time.monotonic() - began
        yield function
    finally:
        process.terminate()
        process.wait(20)
        server.shutdown()
        server.server_close()
