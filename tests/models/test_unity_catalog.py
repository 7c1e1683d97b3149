"""Names of three levels: in Databricks' Unity Catalog and in its open server, against a stand-in for both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from lakehouse import models
from lakehouse.config import Model
from lakehouse.errors import ConfigError, LakehouseError, Unavailable
from lakehouse.models.loading import digest_of
from lakehouse.storage import locate
from tests.conftest import read, score, write
from tests.models.registry_server import Registry, serving

NAME = "main.risk.churn"
PROFILE = "[work]\nhost = {0}\ntoken = secret\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder."""
    place = tmp_path_factory.mktemp("model") / "7"
    x = pd.DataFrame({"a": np.arange(5.0)})
    mlflow.sklearn.save_model(
        LinearRegression().fit(x, x["a"]), place, signature=infer_signature(x, x["a"]),
        pip_requirements=["scikit-learn"], skops_trusted_types=["numpy.dtype"],
    )  # fmt: skip
    return place


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tracking_uri: str) -> Iterator[Registry]:
    """The stand-in, as the workspace that Databricks' settings and their profile `work` name."""
    MlflowClient(tracking_uri).search_experiments(max_results=1)  # it is there
    with serving() as server:
        server.token = "secret"
        server.aliases = {(NAME, "champion"): "7"}
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("DATABRICKS_HOST", server.address)
        monkeypatch.setenv("DATABRICKS_TOKEN", "secret")
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "databrickscfg"))
        monkeypatch.setenv("MLFLOW_UC_OSS_TOKEN", "secret")
        (tmp_path / "databrickscfg").write_text(PROFILE.format(server.address))
        yield server


@pytest.fixture
def on_s3(catalog: Registry, bucket: str, model: Path) -> Registry:
    """Its version 7 lies on S3, for which the registry gives credentials."""
    for path in (path for path in model.rglob("*") if path.is_file()):
        with (
            locate(f"{bucket}/{path.relative_to(model)}")
            .filesystem()
            .open_output_stream(locate(f"{bucket}/{path.relative_to(model)}").path) as stream
        ):
            stream.write(path.read_bytes())
    catalog.sources = {(NAME, "7"): bucket}
    return catalog


@pytest.mark.quick("databricks-uc")
@pytest.mark.parametrize("registry_uri", ["databricks-uc", "databricks-uc://work"])
def test_databricks_gives_a_version_and_the_credentials_for_its_files(
    on_s3, model, tracking_uri, tmp_path, monkeypatch, registry_uri
):
    if "work" in registry_uri:
        monkeypatch.delenv("DATABRICKS_HOST")
        monkeypatch.delenv("DATABRICKS_TOKEN")
    config = Model(uri=f"models:/{NAME}@champion", tracking_uri=tracking_uri, registry_uri=registry_uri)
    resolved = models.resolve(config)
    on_s3.aliases.clear()  # from here on only the number is asked for
    found = models.fetch(config, resolved, tmp_path)
    assert (found.name, found.version, found.uri) == (NAME, "7", f"models:/{NAME}/7")
    assert found.digest == digest_of(model)
    assert sum(path.endswith("registered-models/alias") for path in on_s3.asked) == 1


def test_a_job_scores_with_it_and_names_all_three_levels(on_s3, make_job):
    write("lake/features", pa.table({"id": [1, 2], "a": [1.0, 2.0]}))
    job = make_job(f"models:/{NAME}@champion", model={"registry_uri": "databricks-uc"})
    result = score(job)
    assert (result.status, result.model["name"], result.model["version"]) == ("published", NAME, "7")
    rows = read("lake/scores")
    assert (set(rows["_model_name"].to_pylist()), set(rows["_model_version"].to_pylist())) == ({NAME}, {"7"})
    assert score(job).status == "unchanged"


@pytest.mark.parametrize("uri", ["models:/main.risk.churn/7"])
def test_the_open_server_gives_a_version_by_its_number(catalog, model, tracking_uri, tmp_path, uri):
    catalog.sources = {(NAME, "7"): model.as_uri()}
    config = Model(uri=uri, tracking_uri=tracking_uri, registry_uri=f"uc:{catalog.address}")
    found = models.fetch(config, models.resolve(config), tmp_path)
    assert (found.name, found.version, found.digest) == (NAME, "7", digest_of(model))


def refusal(config: Model) -> LakehouseError:
    with pytest.raises(LakehouseError) as refused:
        models.resolve(config, models.Patience(3))
    assert "\n" not in str(refused.value)
    return refused.value


def test_the_open_server_has_no_aliases_for_mlflow(catalog, tracking_uri):
    error = refusal(
        Model(uri=f"models:/{NAME}@champion", tracking_uri=tracking_uri, registry_uri=f"uc:{catalog.address}")
    )
    told = f"model.uri: models:/{NAME}@champion: this registry has no aliases: use models:/<name>/<version>"
    assert (type(error), str(error)) == (ConfigError, told)


@pytest.mark.parametrize("registry_uri", ["databricks-uc", "uc:{}"])
@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [(401, ConfigError, "not logged in"), (403, ConfigError, "no permission"), (404, ConfigError, "not (there|found)"),
     (503, Unavailable, "can't be reached|no answer in time")],
)  # fmt: skip
def test_what_a_catalog_refuses_is_told_from_what_may_pass(catalog, tracking_uri, registry_uri, status, kind, told):
    catalog.status = status
    uri = registry_uri.format(catalog.address)
    error = refusal(Model(uri=f"models:/{NAME}/7", tracking_uri=tracking_uri, registry_uri=uri))
    assert (type(error), bool(re.search(told, str(error)))) == (kind, True), error


def test_a_workspaces_own_registry_has_no_names_of_three_levels(catalog, tracking_uri):
    error = refusal(Model(uri=f"models:/{NAME}/7", tracking_uri=tracking_uri, registry_uri="databricks://work"))
    assert str(error).endswith(
        "; names of three levels are in Unity Catalog: set model.registry_uri: databricks-uc://work"
    )


@pytest.mark.parametrize("profile", ["", "://work"])
def test_beside_the_tracking_server_of_databricks_is_its_catalog(catalog, profile):
    catalog.sources = {(NAME, "7"): "s3://nowhere/7"}
    assert models.resolve(Model(uri=f"models:/{NAME}@champion", tracking_uri=f"databricks{profile}")).version == "7"


def test_a_version_that_a_catalog_has_not_is_a_mistake(catalog, tracking_uri):
    catalog.sources = {(NAME, "7"): "file:///nowhere"}
    for registry_uri in ("databricks-uc", f"uc:{catalog.address}"):
        error = refusal(Model(uri=f"models:/{NAME}/8", tracking_uri=tracking_uri, registry_uri=registry_uri))
        assert (type(error), str(error).startswith(f"model.uri: models:/{NAME}/8 is not there: ")) == (
            ConfigError,
            True,
        ), error
