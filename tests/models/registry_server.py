"""A stand-in on loopback for three model registries, as far as looking a version up and finding its files goes.

MLflow's own REST registry, the one of Databricks' Unity Catalog (`databricks-uc`) and Unity Catalog's open server (`uc:`).
It has what `Registry` says, says it in the dialect in which it is asked, and notes down what it was asked for.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

OF_MLFLOW = "/api/2.0/mlflow/"
OF_DATABRICKS = "/api/2.0/mlflow/unity-catalog/"
OPEN = re.compile(r"/api/2\.1/unity-catalog/models/([^/]+)(?:/versions/(\d+))?")
FILES = "get-download-uri"


@dataclass
class Registry:
    """By (name, version) where files are, by (name, alias) the version; `status`: with what everything is refused."""

    address: str = ""
    sources: dict[tuple[str, str], str] = field(default_factory=dict)
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    created: int = 1000
    token: str = ""
    status: int = 0
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str, given: dict[str, str], token: str) -> tuple[int, dict[str, Any]]:
        """The status and the JSON that answer a request."""
        if path == "/.well-known/databricks-config":
            return 200, {}
        if self.status:
            code = str(self.status) if path.startswith(OF_DATABRICKS) else "NONE"
            return self.status, {"error_code": code, "message": "refused"}
        if self.token and token != f"Bearer {self.token}":
            return 401, {"error_code": "UNAUTHENTICATED", "message": "no such token"}
        if found := OPEN.fullmatch(path):
            return self._of_the_open_server(found[1], found[2])
        what = path.removeprefix(OF_DATABRICKS).removeprefix(OF_MLFLOW)
        name, version = given.get("name", ""), given.get("version", "")
        if what == "registered-models/alias":
            version = self.aliases.get((name, given["alias"]), "")
        if what.endswith("is-databricks-sdk-models-artifact-repository-enabled"):
            return 200, {}
        if what == "registered-models/get" and name in {known for known, _ in self.sources}:
            return 200, {"registered_model": {"name": name}}
        if (name, version) not in self.sources:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"no {what} {name} {version}"}
        if what.endswith("generate-temporary-credentials"):
            keys = {"access_key_id": "tests", "secret_access_key": "tests", "session_token": "tests"}
            return 200, {"credentials": {"aws_temp_credentials": keys}}
        if what.endswith(FILES):
            return 200, {"artifact_uri": self.sources[name, version]}
        source = self.sources[name, version]
        said = {"name": name, "version": version, "source": source, "creation_timestamp": self.created}
        return 200, {"model_version": said}

    def _of_the_open_server(self, name: str, version: str | None) -> tuple[int, dict[str, Any]]:
        catalog, schema, model = name.split(".")
        parts: dict[str, Any] = {"catalog_name": catalog, "schema_name": schema}
        if version is None and name in {known for known, _ in self.sources}:
            return 200, {**parts, "name": model}
        if version is None or (name, version) not in self.sources:
            return 404, {"error_code": "NOT_FOUND", "message": f"no version {version} of {name}"}
        parts["model_name"] = model
        source = self.sources[name, version]
        return 200, {**parts, "version": int(version), "source": source, "storage_location": source, "created_at": 1}


@contextmanager
def serving() -> Iterator[Registry]:
    """A registry without models, and its address."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            given = dict(parse_qsl(asked.query)) | (json.loads(content) if content else {})
            registry.asked.append(asked.path)
            status, answer = registry.answer(asked.path, given, self.headers.get("Authorization", ""))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    registry.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
