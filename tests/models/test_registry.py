"""Models in a registry, a store or a folder: what is asked, and what its errors mean for a run."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from lakehouse import models
from lakehouse.config import Model
from lakehouse.errors import ConfigError, LakehouseError, Unavailable
from lakehouse.models.connection import translate_error


@contextmanager
def answering(status: int) -> Iterator[str]:
    """An MLflow server that answers everything with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"no")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(uri: str, tracking_uri: str) -> LakehouseError:
    with pytest.raises(LakehouseError) as refused:
        models.resolve(Model(uri=uri, tracking_uri=tracking_uri))
    assert "\n" not in str(refused.value)
    return refused.value


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, ConfigError, "MLflow: not logged in"),
        (403, ConfigError, "MLflow: no permission"),
        (404, ConfigError, "MLflow: not found"),
        (501, Unavailable, "MLflow can't be reached"),
    ],
)
def test_what_a_server_refuses_is_told_from_what_may_pass(status, kind, said):
    with answering(status) as address:
        error = refusal("models:/m@champion", address)
    assert (type(error), str(error).startswith(said)) == (kind, True), error


def test_a_password_in_an_address_is_not_told(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = str(refusal("models:/m@prod", "http://bob:s3cret@127.0.0.1:9"))
    assert ("s3cret" in said, "bob" in said, "http://127.0.0.1:9/api/" in said) == (False, False, True)


def test_a_server_that_is_not_there_may_come_back(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert isinstance(refusal("models:/m@champion", "http://127.0.0.1:9"), Unavailable)


@pytest.mark.parametrize("address", ["htp://127.0.0.1", "sqlit:///mlflow.db", "127.0.0.1:5000"])
def test_an_address_that_is_none_is_a_mistake(workspace, address):
    assert isinstance(refusal("models:/m@champion", address), ConfigError)


@pytest.mark.parametrize("address", ["databricks", "databricks://nobody"])
def test_databricks_without_a_login_is_a_mistake(tmp_path, monkeypatch, address):
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_CONFIG_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    error = refusal("models:/m@champion", address)
    assert isinstance(error, ConfigError)
    assert str(error).endswith("; set Databricks' own settings, such as DATABRICKS_HOST and DATABRICKS_TOKEN")
    assert len(str(error)) < 300


def test_the_open_catalog_is_a_registry_only():
    error = refusal("models:/a.b.c/1", "uc:http://127.0.0.1:9")
    assert isinstance(error, ConfigError)
    assert str(error).endswith("see model.tracking_uri and model.registry_uri")


def test_mlflows_file_store_is_told_in_one_line(workspace, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    assert isinstance(refusal("models:/m@champion", "mlruns"), ConfigError)


class NoCredentialsError(Exception):
    pass


class ClientError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"An error occurred ({status})")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


NoCredentialsError.__module__ = ClientError.__module__ = "botocore.exceptions"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (NoCredentialsError("Unable to locate credentials"), ConfigError, "m: not logged in"),
        (ClientError(403), ConfigError, "m: no permission"),
        (ClientError(404), ConfigError, "m: not found"),
        (ClientError(503), Unavailable, "m can't be reached"),
        (TimeoutError("timed out"), Unavailable, "m: no answer in time"),
        (FileNotFoundError("gone"), ConfigError, "m: not found"),
        (NotADirectoryError("a file"), ConfigError, "m: a file"),
        (ImportError("No module", name="boto3"), ConfigError, "m: MLflow needs boto3 for it"),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_what_a_store_says_is_told_apart(error, kind, said):
    ours = translate_error(error, "m")
    assert (type(ours), str(ours).startswith(said)) == (kind, True), ours


def test_a_defect_of_our_own_is_not_a_stores():
    assert translate_error(KeyError("x"), "m") is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = pd.DataFrame({"a": np.arange(5.0)})
    mlflow.sklearn.save_model(
        LinearRegression().fit(x, x["a"]), tmp_path / "kept", signature=infer_signature(x, x["a"]),
        pip_requirements=["scikit-learn"], skops_trusted_types=["numpy.dtype"],
    )  # fmt: skip
    return tmp_path / "kept"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_needs_no_registry(folder, workspace, form):
    config = Model(uri=form.format(folder), tracking_uri="sqlite:///nowhere.db")
    resolved = models.resolve(config)
    found = models.fetch(config, resolved, workspace)
    assert (found.name, found.version, found.flavors) == ("kept", "none", ("python_function", "sklearn"))
    assert models.stored_baseline(config, resolved, "job") is None
    assert not Path("nowhere.db").exists()


def test_a_file_of_the_model_is_not_its_folder(folder, tmp_path):
    config = Model(uri=str(folder / "MLmodel"))
    with pytest.raises(ConfigError, match=r"MLmodel is a file: name the model's folder, the one with MLmodel"):
        models.fetch(config, models.resolve(config), tmp_path)


def test_mlflows_settings_are_left_as_they_were(register, tracking_uri, workspace):
    x = pd.DataFrame({"a": np.arange(5.0)})
    uri = register(LinearRegression().fit(x, x["a"]), x)
    before = dict(os.environ)
    config = Model(uri=uri, tracking_uri=tracking_uri)
    models.fetch(config, models.resolve(config), workspace)
    assert dict(os.environ) == before


def test_a_server_that_is_not_up_is_said_in_a_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        error = refusal("models:/m@champion", address)
    said, end = (
        f"MLflow can't be reached: API request to {address}/api/",
        ": [Errno 111] Connection refused; if it is up,",
    )
    assert (type(error), str(error).startswith(said), end in str(error)) == (Unavailable, True, True), error
