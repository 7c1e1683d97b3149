"""A server on loopback that fails as a registry or an artifact store may: each way by its name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERROR = "<Error><Code>{0}</Code><Message>told {0}</Message></Error>"


@contextmanager
def failing(way: str | int) -> Iterator[str]:
    """The address of a server: "hangs" takes requests and never answers, "drips" sends its answer byte by byte.

    A number is the status of all its answers; what follows it after a blank is the code of an error of S3. Every answer
    asks to be tried again in an hour.
    """
    status, _, code = str(way).partition(" ")
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if way == "hangs":
                over.wait()
                return
            body = ERROR.format(code).encode() if code else b"no"
            self.send_response(200 if way == "drips" else int(status))
            self.send_header("Content-Length", "1000000" if way == "drips" else str(len(body)))
            self.send_header("Retry-After", "3600")
            self.end_headers()
            if way != "drips":
                self.wfile.write(body)
            while way == "drips" and not over.wait(0.05):
                self.wfile.write(b" ")
                self.wfile.flush()

        do_POST = do_PUT = do_GET

        def do_HEAD(self) -> None:
            self.send_response(int(status))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # whoever asked has gone
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
