"""Packages as they are deployed: made by the command, unzipped into a clean folder, run by the clouds' own clients."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from lakehouse.serving.messages import ARROW
from tests.command import run
from tests.serving import events, lambda_runtime
from tests.serving.conftest import features
from tests.serving.test_aws_lambda import BODY, IDS, KEY, POISON, without_moment
from tests.serving.test_handler import records, stream
from tests.serving.test_server import call

HERE = ("--glibc", "2.41")
"""These packages run on this machine, whatever Lambda's own runtime for its Python has."""
ENTRY = "lambda_function.lambda_handler"


def made(kind, place, folder, *options):
    """The package that the command makes, unzipped, and what it says of it."""
    out = folder / f"{kind}.zip"
    command = [
        sys.executable,
        "-m",
        "lakehouse.cli",
        "package",
        kind,
        place.conf,
        "--out",
        str(out),
        "--json",
        *options,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    with zipfile.ZipFile(out) as archive:
        archive.extractall(folder / kind)
    return folder / kind, json.loads(ended.stdout)


@pytest.fixture(scope="module")
def unzipped(place, tmp_path_factory):
    """The job packaged for Lambda, with API keys, and what the command says of it."""
    return made("lambda", place, tmp_path_factory.mktemp("lambda"), *HERE, "--keys", "env:SERVE_KEYS")


def over_http(body, **headers):
    named = {"content-type": "application/json", "x-api-key": KEY, **headers}
    encoded = isinstance(body, bytes)
    return events.http(base64.b64encode(body).decode() if encoded else body, headers=named, isBase64Encoded=encoded)


@pytest.mark.long
def test_a_package_for_lambda_holds_what_serving_needs_and_its_size_is_told(unzipped):
    task, said = unzipped
    names = {part["name"] for part in said["parts"]}
    assert {"numpy", "pyarrow", "scikit-learn", "skops", "the model", "lakehouse"} <= names
    assert not {"pandas", "mlflow", "mlflow-skinny", "pyspark", "deltalake", "pydantic"} & {*names, *os.listdir(task)}
    assert said["unzipped"] == sum(file.stat().st_size for file in task.rglob("*") if file.is_file()) <= said["limit"]
    assert (said["python"], said["architecture"]) == ("{}.{}".format(*sys.version_info), "x86_64")
    about = json.loads((task / "package.json").read_text())
    assert about["model"]["digest"] == said["model"]["digest"]
    assert str(Path.home()) not in (task / "package.json").read_text()
    assert (task / "job.yaml").read_text().startswith("job: likes")


@pytest.mark.long
def test_what_is_imported_is_not_looked_through_for_garbage(unzipped):
    probe = "import lambda_function, gc; print(gc.isenabled(), gc.get_freeze_count() > 50_000, gc.get_stats()[2]['collections'])"
    command = [sys.executable, "-S", "-c", probe]
    ended = subprocess.run(
        command, cwd=unzipped[0], env={"SERVE_KEYS": KEY}, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["True", "True", "0"]


@pytest.mark.long
def test_lambdas_own_client_runs_it_and_it_answers_as_the_server_does(unzipped, tmp_path, ask):
    task, _ = unzipped
    body = records(features(200))
    with lambda_runtime.running(task, tmp_path, ENTRY, {"SERVE_KEYS": f"shop={KEY}"}) as function:
        answers = [
            function(over_http(body.decode())),
            function(events.rest(body.decode(), multiValueHeaders={"X-Api-Key": [KEY]})),
        ]
        in_arrow = function(over_http(stream(features(20)), **{"content-type": ARROW, "accept": ARROW}))
        refused = function(events.http(body.decode()))
        invoked = function(json.loads(body))
    expected = without_moment(ask(body).body)
    for result in answers:
        assert result["statusCode"] == 200
        assert without_moment(result["body"]) == expected
    assert base64.b64decode(in_arrow["body"])[:4] == b"\xff\xff\xff\xff"
    assert (refused["statusCode"], invoked.pop("status")) == (401, 200)
    assert without_moment(json.dumps(invoked)) == expected
    log = function.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines] == [200, 200, 200, 401, 200]
    assert KEY not in log


@pytest.mark.long
def test_what_a_run_has_published_is_made_again_through_lambda(unzipped, place, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("SERVE_KEYS", f"shop={KEY}")
    with (
        lambda_runtime.running(unzipped[0], tmp_path, ENTRY, {"SERVE_KEYS": f"shop={KEY}"}) as function,
        lambda_runtime.gateway(function) as address,
    ):
        require_parity(capfd, place, address)


def require_parity(capfd, place, address):
    shown = run(capfd, "parity", place.conf, "--url", address, "--all", "--keys", "env:SERVE_KEYS")
    assert shown.code == 0, shown.out + shown.err
    assert "EQUAL" in shown.out
    assert (" identical, 0 other" in shown.out) != ("greatest difference: p " in shown.out)


@pytest.mark.long
def test_a_batch_is_answered_in_part_and_its_scores_are_sent_on(place, tmp_path):
    """The queue for answers is a stand-in's, and named by the function's environment."""
    task, _ = made("lambda", place, tmp_path, *HERE, "--answers", "env:ANSWERS")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        known = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        client = boto3.client("sqs", "us-east-2", endpoint_url=address, **known)
        url = client.create_queue(QueueName="answers")["QueueUrl"]
        environ = {"ANSWERS": f"sqs:{url}", "AWS_ENDPOINT_URL": address}
        environ |= {name.upper(): value for name, value in known.items()}
        with lambda_runtime.running(task, tmp_path, ENTRY, environ) as function:
            result = function(events.queue(dict(zip(IDS[:2], [BODY, POISON], strict=True))))
        [message] = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    finally:
        server.stop()
    assert result == {"batchItemFailures": [{"itemIdentifier": IDS[1]}]}
    assert json.loads(message["Body"])["rows"] == {"read": 2, "scored": 1, "quarantined": 1}
    assert POISON not in function.log.read_text()


@pytest.mark.long
def test_a_model_that_was_changed_in_the_package_is_not_loaded(unzipped, tmp_path):
    task = tmp_path / "task"
    shutil.copytree(unzipped[0], task)
    [changed] = task.glob("models/*/MLmodel")
    changed.write_text(changed.read_text() + "\n")
    known = {"SERVE_KEYS": f"shop={KEY}"}
    with (
        lambda_runtime.running(task, tmp_path, ENTRY, known) as function,
        pytest.raises(AssertionError, match="bytes changed on the way"),
    ):
        function(json.loads(BODY))


@pytest.mark.long
def test_keys_that_are_not_there_are_said_at_the_start(unzipped, tmp_path):
    with (
        lambda_runtime.running(unzipped[0], tmp_path, ENTRY) as function,
        pytest.raises(AssertionError, match="the environment variable SERVE_KEYS is not set"),
    ):
        function(json.loads(BODY))


@pytest.fixture(scope="module")
def function(place, tmp_path_factory):
    """The job packaged for Google's functions, which install the libraries that are listed, and unzipped."""
    options = ("--keys", "env:SERVE_KEYS", "--answers", "pubsub:projects/p/topics/answers", "--max-rows", "500")
    return made("function", place, tmp_path_factory.mktemp("function"), *options)[0]


@contextmanager
def framework(folder, target, log, environ):
    """The address of Google's functions framework, which serves the package's function of this name."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "functions_framework", "--target", target, "--source", str(folder / "main.py"),
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    with open(log, "w") as output:
        known = {**os.environ, "SERVE_KEYS": f"shop={KEY}", "PYTHONUNBUFFERED": "1", **environ}
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env=known)
    try:
        until = time.monotonic() + 120
        while call(f"http://127.0.0.1:{port}/health")[0] == 0:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.long
def test_the_functions_framework_answers_as_the_server_does(function, tmp_path, ask):
    body, key = records(features(200)), {"X_API_Key": KEY}
    assert "functions-framework" in (function / "requirements.txt").read_text()
    assert not (function / "numpy").exists()
    log = tmp_path / "log"
    with framework(function, "http", log, {}) as address:
        status, said = call(f"{address}/v1/likes/score", body, **key)
        assert status == 200
        assert without_moment(json.dumps(said)) == without_moment(ask(body).body)
        assert call(f"{address}/v1/likes/score", body)[0] == 401
        assert call(f"{address}/v1/likes/score", records(features(501)), **key)[0] == 413
        assert call(f"{address}/v1/likes/score?layout=columns", body, **key)[1]["scores"].keys() >= {"id", "p"}
        assert call(f"{address}/v1/likes/scores/1", **key)[0] == 404
        assert call(f"{address}/health")[1] == {"status": "alive"}
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"time"')]
    assert {"shop"} == {line["client"] for line in lines if line["status"] == 200 and line.get("route") == "score"}
    assert KEY not in log.read_text()


@pytest.mark.long
def test_what_a_run_has_published_is_made_again_through_googles_function(function, place, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("SERVE_KEYS", f"shop={KEY}")
    with framework(function, "http", tmp_path / "log", {}) as address:
        require_parity(capfd, place, address)


@contextmanager
def topics():
    """A stand-in for Pub/Sub on loopback, and the messages that were published to it, by topic."""
    published = []

    class Api(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            published.extend((self.path, message) for message in said["messages"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"messageIds": ["1"]}')

    server = HTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", published
    finally:
        server.shutdown()
        server.server_close()


def message_of(body, name):
    """A message of Pub/Sub as Eventarc delivers it: a CloudEvent in binary mode."""
    message = {"data": base64.b64encode(body).decode(), "messageId": name, "publishTime": "2026-01-02T03:04:05Z"}
    headers = {
        "ce_id": name,
        "ce_source": "//pubsub.googleapis.com/projects/p/topics/rows",
        "ce_specversion": "1.0",
        "ce_type": "google.cloud.pubsub.topic.v1.messagePublished",
    }
    return json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode(), headers


@pytest.mark.long
def test_an_event_is_scored_and_its_answer_published_and_one_that_cant_be_comes_again(function, tmp_path, ask):
    log = tmp_path / "log"
    with (
        topics() as (pubsub, published),
        framework(function, "event", log, {"PUBSUB_EMULATOR_HOST": pubsub}) as address,
    ):
        body, headers = message_of(BODY.encode(), "4567890123456789")
        assert call(address, body, **headers)[0] == 200
        body, headers = message_of(POISON.encode(), "4567890123456790")
        status, said = call(address, body, **headers)
        rows = {**headers, "ce_type": "com.example.rows", "ce_id": "rows-0001"}
        assert call(address, BODY.encode(), **rows)[0] == 200
    assert status == 500
    assert "Traceback" not in said
    assert [path for path, _ in published] == ["/v1/projects/p/topics/answers:publish"] * 2
    first, second = (base64.b64decode(message["data"]) for _, message in published)
    assert without_moment(first) == without_moment(second) == without_moment(ask(BODY.encode()).body)
    assert [message["attributes"]["request_id"] for _, message in published] == ["4567890123456789", "rows-0001"]
    assert "event 4567890123456790 is not scored, status 400" in log.read_text()
