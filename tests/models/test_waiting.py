"""MLflow or an artifact store that is down or slow: said soon, in one line, whatever else a run still asks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LinearRegression

from lakehouse import models
from lakehouse.config import Model
from lakehouse.errors import ConfigError, LakehouseError, Unavailable
from lakehouse.models import Patience, patience
from lakehouse.storage import locate
from tests.conftest import score, write
from tests.models.failing_server import failing

STORED = "models:/stored/1"


def refusal(config: Model, folder: Path | None = None, waits: Patience | None = None) -> LakehouseError:
    """The one line that a run says for a model that it can't have."""
    waits = waits or Patience()

    def fetch() -> models.FetchedModel:
        return models.fetch(config, models.resolve(config, waits), folder or Path("nowhere"), waits)

    with pytest.raises(LakehouseError) as refused:
        fetch()
    assert "\n" not in str(refused.value)
    return refused.value


@pytest.mark.parametrize("way", ["hangs", "drips"])
def test_a_registry_that_does_not_answer_is_waited_for_no_longer_than_patience_lasts(way):
    with failing(way) as address:
        waits = Patience(0.5)
        first = refusal(Model(uri="models:/m@champion", tracking_uri=address), waits=waits)
        again = refusal(Model(uri="models:/m/3", tracking_uri=address), waits=waits)
    assert type(first) is type(again) is Unavailable
    told = r"MLflow at http://127\.0\.0\.1:\d+: no answer in time: nothing came in \d s; .* set MLFLOW_HTTP_REQUEST_TIMEOUT"
    assert re.match(told, str(first))
    assert "is not asked again" in str(again)


def test_a_run_waits_for_fifteen_seconds_in_all_unless_mlflow_is_told_to_wait_longer(monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    assert Patience().left == 15
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    assert Patience().left == 60


def test_each_look_up_takes_from_what_is_left_and_only_what_failed_ends_it():
    waits = Patience(5)
    patience.wait_for(lambda: time.sleep(0.2), waits, "somebody")
    assert 4 < waits.left < 4.81
    waits.renew()
    assert waits.left == 5
    waits.left = 0
    waits.renew()
    assert waits.left == 0


def test_what_still_writes_is_waited_for(tmp_path):
    def drip() -> str:
        for number in range(8):
            (tmp_path / str(number)).write_text("more")
            time.sleep(0.1)
        return "all"

    waits = Patience(0.5)
    assert patience.wait_for(drip, waits, "a store", tmp_path) == "all"
    assert 0 < waits.left < 0.5


def test_what_is_raised_there_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        patience.wait_for(lambda: 1 / 0, Patience(5), "somebody")


def test_a_busy_server_is_not_waited_for_as_long_as_it_says(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with failing(503) as address:
        error = refusal(Model(uri="models:/m@champion", tracking_uri=address))
    assert (type(error), str(error).count("too many 503 error responses")) == (Unavailable, 1)


def test_a_name_that_is_not_known_may_be_known_later(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    error = refusal(Model(uri="models:/m@champion", tracking_uri="http://mlflow.invalid"))
    assert (type(error), "http://mlflow.invalid/api/" in str(error)) == (Unavailable, True)


@pytest.fixture(scope="module")
def on_s3(tracking_uri: str) -> str:
    """MLflow, in which one version lies on S3."""
    client = MlflowClient(tracking_uri)
    client.create_registered_model("stored")
    client.create_model_version("stored", "s3://lake/models/stored")
    return tracking_uri


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The environment of somebody whose artifacts are on S3."""
    from mlflow.store.artifact import s3_artifact_repo

    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3_artifact_repo._cached_get_s3_client.cache_clear()
    yield monkeypatch
    s3_artifact_repo._cached_get_s3_client.cache_clear()


def test_an_artifact_store_that_hangs_while_the_registry_is_fine_is_named(on_s3, keys, tmp_path):
    with failing("hangs") as address:
        keys.setenv("AWS_ENDPOINT_URL", address)
        error = refusal(Model(uri=STORED, tracking_uri=on_s3), tmp_path, Patience(0.6))
    told = f"model.uri: {STORED} at s3://lake/models/stored: no answer in time: nothing more came in"
    assert (type(error), str(error).startswith(told)) == (Unavailable, True), error


@pytest.mark.parametrize(
    ("says", "kind", "told"),
    [
        ("403 InvalidAccessKeyId", ConfigError, "not logged in: .* set AWS's own settings"),
        ("403 SignatureDoesNotMatch", ConfigError, "not logged in: .* set AWS's own settings"),
        ("400 ExpiredToken", ConfigError, "not logged in: .* set AWS's own settings"),
        ("403 AccessDenied", ConfigError, "no permission: "),
        ("404 NoSuchBucket", ConfigError, "not found: "),
        ("503 SlowDown", Unavailable, "can't be reached: .* see AWS's own settings"),
    ],
)
def test_what_s3_refuses_is_told_from_what_may_pass(on_s3, keys, tmp_path, says, kind, told):
    with failing(says) as address:
        keys.setenv("AWS_ENDPOINT_URL", address)
        error = refusal(Model(uri=STORED, tracking_uri=on_s3), tmp_path)
    assert (type(error), bool(re.match(f"model.uri: {STORED}:? {told}", str(error)))) == (kind, True), error


def test_files_of_a_version_that_are_not_there_are_named(on_s3, keys, s3, tmp_path):
    error = refusal(Model(uri=STORED, tracking_uri=on_s3), tmp_path)
    told = f"model.uri: {STORED}: not found: File stored: An error occurred (404)"
    assert (type(error), str(error).startswith(told)) == (ConfigError, True), error


@pytest.mark.parametrize(
    ("way", "kind", "told"),
    [
        ("hangs", Unavailable, "no answer in time: nothing more came"),
        ("drips", Unavailable, "no answer in time: nothing more came"),
        (401, ConfigError, "not logged in: .* set MLFLOW_TRACKING_TOKEN"),
        (403, ConfigError, "no permission: "),
        (404, ConfigError, "not found: "),
        (503, Unavailable, "can't be reached: .*too many 503 error responses; if it is up"),
    ],
)
def test_a_proxy_of_artifacts_is_told_apart_likewise(on_s3, tmp_path, monkeypatch, way, kind, told):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with failing(way) as address:
        uri = f"{address}/api/2.0/mlflow-artifacts/artifacts/1/model"
        error = refusal(Model(uri=uri, tracking_uri=on_s3), tmp_path, Patience(0.6))
    assert (type(error), bool(re.search(told, str(error)))) == (kind, True), error


@pytest.fixture
def job(make_job, tmp_path):
    """A job of a model in a folder, whose MLflow may be anywhere: nothing but the run's own figures goes there."""
    x = pd.DataFrame({"a": np.arange(5.0)})
    mlflow.sklearn.save_model(
        LinearRegression().fit(x, x["a"]), tmp_path / "kept", skops_trusted_types=["numpy.dtype"],
        signature=mlflow.models.infer_signature(x, x["a"]), pip_requirements=["scikit-learn"],
    )  # fmt: skip
    write("lake/features", pa.table({"id": [1, 2], "a": [1.0, 2.0]}))

    def make(tracking_uri: str):
        return make_job(str(tmp_path / "kept"), model={"tracking_uri": tracking_uri}, tracking={"experiment": "runs"})

    return make


def test_figures_that_nobody_takes_delay_a_published_run_by_no_more(job):
    said = []
    with failing("hangs") as address:
        result = score(
            job(address), patience=Patience(0.5), say=lambda _, values: said.append(values.get("message", ""))
        )
    assert result.status == "published"
    (told,) = [text for text in said if "MLflow did not take its figures" in text]
    assert "no answer in time" in told


@pytest.mark.long
def test_a_process_does_not_wait_for_what_was_left_behind(on_s3, make_job, keys, s3, bucket):
    """The threads in which S3's client waits for a file would keep it for minutes."""
    storage = locate(f"{bucket}/MLmodel")
    with storage.filesystem().open_output_stream(storage.path) as stream:
        stream.write(b"flavors: {}")
    s3((".*MLmodel", "hang", 100))
    write("lake/features", pa.table({"id": [1], "a": [1.0]}))
    made = make_job(bucket, model={"tracking_uri": on_s3})
    program = (
        "from lakehouse.models import patience; patience.SECONDS = 3\n"
        f"import sys; sys.argv = ['lakehouse', 'score', {made.path!r}, '--engine', 'local']\n"
        "from lakehouse.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ, timeout=60, capture_output=True, text=True, check=False
    )
    assert (done.returncode, f"{bucket}: no answer in time" in done.stderr) == (5, True), done.stderr
