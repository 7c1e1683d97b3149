"""An unzipped package as Lambda runs it: AWS's own emulator of its runtime, which starts Lambda's own client for Python.

The emulator (aws-lambda-rie) is built once into the cache, the client (awslambdaric) is installed. The function sees the
package, the client and boto3, as in Lambda's runtime, and nothing else that is installed here.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from tests.cloud_servers import installed, program
from tests.serving.events import http

EMULATOR = "v0.0.0-20261030222936-bef5c4ba774d"
RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py", "boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")  # fmt: skip
"""What Lambda's runtime has of its own."""
SECONDS = 120


@dataclass(frozen=True)
class Function:
    """A function behind the emulator. `log`: what it and the emulator say."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def __call__(self, event: Any) -> Any:
        """What the function answers to an event; an error of its is an assertion here."""
        url = f"http://{self.address}/2015-03-31/functions/function/invocations"
        until = time.monotonic() + SECONDS
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                with urllib.request.urlopen(url, json.dumps(event).encode(), timeout=SECONDS) as reply:
                    said = json.loads(reply.read())
                break
            except HTTPError as error:
                said = json.loads(error.read())
                break
            except URLError:  # nobody listens yet
                time.sleep(0.05)
            assert time.monotonic() < until, self.log.read_text()
        assert not (isinstance(said, dict) and "errorType" in said), said
        return said


def runtime_in(folder: Path) -> Path:
    """What Lambda's runtime has of its own, as links to where it is installed here."""
    folder.mkdir()
    for name in RUNTIME:
        files = metadata.distribution(name).files or ()
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    return folder


def emulator() -> Path:
    """AWS's emulator, built once."""
    module = f"github.com/aws/aws-lambda-runtime-interface-emulator/cmd/aws-lambda-rie@{EMULATOR}"
    return (
        installed(f"aws-lambda-rie-{EMULATOR}", [*program("go"), "install", module], variable="GOBIN")
        / "aws-lambda-rie"
    )


@contextmanager
def running(package: Path, folder: Path, handler: str, environ: Mapping[str, str] | None = None) -> Iterator[Function]:
    """The function of an unzipped package; `folder`: an empty one for what the runtime needs and the log.

    As in Lambda its environment begins with the first event.
    """
    bootstrap = folder / "bootstrap"
    bootstrap.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -B -m awslambdaric "$1"\n')
    bootstrap.chmod(0o755)
    known = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(runtime_in(folder / "runtime")),
        "AWS_LAMBDA_FUNCTION_NAME": "scoring",
        "AWS_REGION": "us-east-2",
        "AWS_DEFAULT_REGION": "us-east-2",
        "LAMBDA_TASK_ROOT": str(package),
        **(environ or {}),
    }
    front, api = free_address(), free_address()
    addresses = ["--runtime-interface-emulator-address", front, "--runtime-api-address", api]
    with open(folder / "log", "wb") as output:
        process = subprocess.Popen(
            [str(emulator()), *addresses, str(bootstrap), handler],
            cwd=package, env=known, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield Function(front, process, folder / "log")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def free_address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


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
