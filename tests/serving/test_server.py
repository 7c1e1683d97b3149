"""A real Gunicorn with two workers on loopback: what it serves, that it follows the alias, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.command import run
from tests.conftest import score, write
from tests.serving.conftest import SUITE, Place, features, model
from tests.serving.processes import free_port
from tests.serving.test_handler import GOOD, records

LOGGED = {
    "time", "event", "method", "status", "ms", "bytes_in", "bytes_out", "remote", "job", "route", "rows", "quarantined",
    "request_id",
}  # fmt: skip
KEY = "correct-horse-battery-staple"


@pytest.fixture
def job(tmp_path, register, tracking_uri, request):
    """A job of this test's own, which has published; `promote()` registers another version as the champion."""
    name = f"served_{request.node.name}".replace("[", "_").replace("]", "")
    place = Place(tmp_path, str(tmp_path / "likes.yaml"))
    (tmp_path / "suite.json").write_text(json.dumps(SUITE))
    write(place.table("features"), features())
    uri = register(*model(), name=name)
    score(place.write_job(uri, tracking_uri))
    return place, lambda: register(*model(1), name=name)


@contextmanager
def serving(place, *options, environ=None):
    """The address of a server, once it is ready; ended with it."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "lakehouse.cli",
        "serve",
        place.conf,
        "--port",
        str(port),
        "--poll",
        "0.5",
        *options,
    ]
    log = place.folder / "log"
    with open(log, "w") as errors:
        process = subprocess.Popen(command, stdout=errors, stderr=errors, env={**os.environ, **(environ or {})})
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 240
        while call(f"{address}/ready")[0] != 200:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield address, process, log
    finally:
        process.terminate()
        process.wait(60)


def call(address, body=None, **headers):
    """Status and JSON of an answer; 0 where nobody answers."""
    named = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        with urlopen(Request(address, body, named), timeout=60) as reply:
            return reply.status, _content(reply.read())
    except HTTPError as error:
        with error:
            return error.code, _content(error.read())
    except OSError:
        return 0, None


def _content(body):
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


@pytest.mark.long
def test_a_server_scores_as_the_run_did_and_follows_the_alias_without_failing_a_request(job, capfd):
    place, promote = job
    with serving(place) as (address, process, log):
        shown = run(capfd, "parity", place.conf, "--url", address, "--all")
        assert shown.code == 0, shown.out + shown.err
        assert "EQUAL" in shown.out
        assert (" identical, 0 other" in shown.out) != ("greatest difference: p " in shown.out)
        body, seen = records(features(20)), []

        def ask_until(version):
            until, alike = time.monotonic() + 240, 0
            while time.monotonic() < until:
                status, said = call(f"{address}/v1/likes/score", body)
                seen.append(status)
                alike = alike + 1 if status == 200 and said["lineage"]["_model_version"] == version else 0
                if alike > 100:  # those with the version before have ended, too
                    return True
                time.sleep(0.05)
            return False

        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(ask_until, "2") for _ in range(2)]
            promote()
            assert all(task.result() for task in waiting), log.read_text()
        assert set(seen) == {200}
        refused = run(capfd, "parity", place.conf, "--url", address)
        assert refused.code == 2
        assert "the server has" in refused.err
        text = call(f"{address}/metrics")[1]
        counted = [line for line in text.splitlines() if line.startswith("lakehouse_serving_rows_total")]
        assert any('kind="quarantined"' in line for line in counted)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert "was sent" not in log.read_text()  # no worker has crashed, or was killed
    asked = [line for line in lines if line["route"] == "score"]
    assert {line["status"] for line in asked} == {200}
    assert {name for line in asked for name in line} <= LOGGED


@pytest.mark.long
def test_keys_limits_and_broken_connections(job):
    place, _ = job
    options = ("--keys", "env:SERVE_KEYS", "--max-rows", "10", "--max-body", "1", "--workers", "2")
    with serving(place, *options, environ={"SERVE_KEYS": f"shop={KEY}"}) as (address, _, log):
        until = time.monotonic() + 10
        while "1 API keys" not in log.read_text() and time.monotonic() < until:
            time.sleep(0.1)  # it is said once all workers have begun
        assert "1 API keys" in log.read_text()
        body, key = json.dumps([GOOD]).encode(), {"X_API_Key": KEY}
        assert call(f"{address}/v1/likes/score", body)[0] == 401
        assert call(f"{address}/v1/likes/score", body, **key)[0] == 200
        assert call(f"{address}/v1/likes/score", records(features(11)), **key)[0] == 413
        assert call(f"{address}/v1/likes/score", b"[" + b" " * (2 << 20) + b"]", **key)[0] in (0, 413)
        host, port = address.removeprefix("http://").split(":")
        for sent in (b"POST /v1/likes/score HTTP/1.1\r\nContent-Length: 100\r\n\r\n[", b"\x16\x03\x01\x00", b"GET"):
            with socket.create_connection((host, int(port)), timeout=10) as half:
                half.sendall(sent)
        assert call(f"{address}/v1/likes/score", body, **key)[0] == 200
        assert KEY not in log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.mark.long
def test_a_table_with_a_new_version_is_looked_up_anew(job, tracking_uri):
    place, _ = job
    with serving(place) as (address, _, log):
        assert {call(f"{address}/v1/likes/scores/1")[0] for _ in range(9)} == {
            200
        }  # workers have looked before they answer
        assert call(f"{address}/v1/likes/scores/400")[0] == 404
        more = features(450)
        write(place.table("features"), more.slice(400))
        from lakehouse.config import load_job

        score(load_job(place.conf, date=None, environ=os.environ))
        until = time.monotonic() + 120
        while call(f"{address}/v1/likes/scores/401")[0] != 200 and time.monotonic() < until:
            time.sleep(0.2)
        status, said = call(f"{address}/v1/likes/scores/401")
        assert (status, said["table"]["version"]) == (200, 2), log.read_text()


@pytest.mark.long
def test_a_model_that_is_not_trusted_is_refused_before_anybody_listens(job, register, tracking_uri):
    place, _ = job
    uri = register(*model(), name="pickled", serialization_format="cloudpickle")
    place.write_job(uri, tracking_uri)
    command = [sys.executable, "-m", "lakehouse.cli", "serve", place.conf, "--port", "1024"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 4
    assert "the model is not safe to load" in ended.stderr
    assert "Traceback" not in ended.stderr
