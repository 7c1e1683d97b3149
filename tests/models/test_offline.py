"""Versions that are kept for when the registry does not answer: when they are taken, and when they never are."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from lakehouse import models
from lakehouse.config import Model
from lakehouse.errors import ConfigError, LakehouseError, Unavailable
from lakehouse.models import cache
from lakehouse.models.loading import digest_of
from lakehouse.planning import naming
from lakehouse.runs import evidence, ledger
from tests.command import run
from tests.conftest import score, write
from tests.models.registry_server import FILES, Registry, serving

CHAMPION = "models:/m@champion"
DAY = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model folders, the versions of m: 1 to 8."""
    folder = tmp_path_factory.mktemp("stored")
    x = pd.DataFrame({"a": np.arange(5.0)})
    mlflow.sklearn.save_model(
        LinearRegression().fit(x, x["a"]), folder / "1", signature=infer_signature(x, x["a"]),
        pip_requirements=["scikit-learn"], skops_trusted_types=["numpy.dtype"],
    )  # fmt: skip
    for number in range(2, 9):
        shutil.copytree(folder / "1", folder / str(number))
        (folder / str(number) / "note").write_text(str(number))
    return folder


@pytest.fixture
def registry(stored: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    """A registry of m, whose champion is version 7."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(tmp_path / "cache"))
    with serving() as server:
        server.sources = {("m", str(number)): (stored / str(number)).as_uri() for number in range(1, 9)}
        server.aliases = {("m", "champion"): "7"}
        yield server


@pytest.fixture
def obtain(registry: Registry, tmp_path: Path) -> Callable[..., models.FetchedModel]:
    """obtain(uri=…, **model settings) → the model, as a run gets it; `obtain.said` has its warnings."""
    count = iter(range(1000))

    def get(uri: str = CHAMPION, **settings: Any) -> models.FetchedModel:
        config = Model(**{"uri": uri, "tracking_uri": registry.address, "offline": "allowed", **settings})
        folder = tmp_path / f"run{next(count)}"
        folder.mkdir()
        return models.obtain(config, folder, models.Patience(), tmp_path / "kept", DAY, get.said.append)  # type: ignore[attr-defined]  # a list of its own

    get.said = []  # type: ignore[attr-defined]
    return get


def test_a_version_that_was_used_is_used_while_the_registry_is_down_and_that_is_said(obtain, registry):
    before = obtain()
    registry.status = 503
    again = obtain()
    assert (again.name, again.version, again.digest) == ("m", "7", before.digest)
    assert again.notice.startswith("registry not reached; models:/m@champion was version 7 on 2026-01-02 03:04 UTC")
    assert (before.notice, obtain.said) == ("", [])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_a_registry_refuses_is_never_replaced(obtain, registry, status):
    obtain()
    registry.status = status
    with pytest.raises(ConfigError, match=r"not logged in|no permission|not there"):
        obtain()


def test_nothing_is_kept_or_taken_unless_the_job_allows_it(obtain, registry, tmp_path):
    obtain(offline="refused")
    assert not (tmp_path / "kept").exists()
    obtain()
    registry.status = 503
    with pytest.raises(Unavailable):
        obtain(offline="refused")


@pytest.mark.parametrize(
    "other", [{"uri": "models:/m@challenger"}, {"uri": "models:/m/7"}, {"tracking_uri": "http://127.0.0.1:9"}]
)
def test_only_the_very_uri_at_the_very_registry_is_known(obtain, registry, other):
    obtain()
    registry.status = 503
    with pytest.raises(Unavailable, match=r"model\.offline: no version of models:/m.* is kept in .*kept"):
        obtain(**other)


def test_a_registry_that_answers_decides_though_its_store_does_not(obtain, registry):
    """The alias has moved on: the version before would be a wrong one."""
    obtain()
    registry.aliases["m", "champion"] = "8"
    registry.sources["m", "8"] = "http://127.0.0.1:9/api/2.0/mlflow-artifacts/artifacts/8"
    with pytest.raises(Unavailable, match=r"models:/m/8"):
        obtain()


def test_a_version_that_is_kept_is_not_downloaded_again(obtain, registry):
    first = obtain()
    registry.asked.clear()
    second = obtain()
    assert (second.digest, second.notice) == (first.digest, "")
    assert not any(FILES in path for path in registry.asked)


def test_a_version_that_was_registered_anew_is_another(obtain, registry, stored):
    first = obtain()
    registry.created, registry.sources["m", "7"] = 2000, registry.sources["m", "6"]
    assert obtain().digest == digest_of(stored / "6") != first.digest
    registry.status = 503
    assert obtain().digest == digest_of(stored / "6")


def damage(kept: Path) -> None:
    (note,) = kept.glob("m-*/*/note")
    note.write_text("others")


def test_bytes_that_have_changed_are_fetched_again(obtain, registry, tmp_path):
    first = obtain()
    damage(tmp_path / "kept")
    assert obtain().digest == first.digest
    registry.status = 503
    assert obtain().digest == first.digest


def test_bytes_that_have_changed_are_not_used(obtain, registry, tmp_path):
    obtain()
    damage(tmp_path / "kept")
    registry.status = 503
    with pytest.raises(Unavailable, match=r"what was kept of models:/m/7 in .* is gone or has other bytes"):
        obtain()


def test_no_more_than_the_last_versions_are_kept(obtain, registry, tmp_path):
    for number in range(1, 9):
        registry.aliases["m", "champion"] = str(number)
        obtain()
    obtain("models:/m/4")
    (home,) = (tmp_path / "kept").iterdir()
    assert len([path for path in home.iterdir() if path.is_dir()]) == cache.VERSIONS
    versions = sorted(json.loads(path.read_text())["version"] for path in home.glob("version-*.json"))
    assert versions == ["4", "5", "6", "7", "8"]
    registry.status = 503
    assert (obtain().version, obtain("models:/m/4").version) == ("8", "4")


def test_two_models_are_kept_apart(obtain, registry):
    registry.sources["n", "1"] = registry.sources["m", "1"]
    obtain("models:/n/1")
    for number in range(1, 9):
        obtain(f"models:/m/{number}")
    registry.status = 503
    assert obtain("models:/n/1").name == "n"


def test_many_may_keep_the_same_at_once(obtain, registry):
    failed = []

    def run(number: int) -> None:
        try:
            for turn in range(4):
                obtain(f"models:/m/{(number + turn) % 8 + 1}")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failed, obtain.said) == ([], [])


def test_a_place_that_takes_nothing_costs_a_warning_only(obtain, tmp_path):
    (tmp_path / "file").write_text("")
    assert obtain(cache=str(tmp_path / "file")).version == "7"
    (said,) = obtain.said
    assert said.startswith(f"model.offline: models:/m/7 can't be kept in {tmp_path}/file: ")


def test_a_newer_programs_record_is_refused_by_name(obtain, registry, tmp_path):
    obtain()
    for path in (tmp_path / "kept").glob("m-*/*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    registry.status = 503
    with pytest.raises(ConfigError, match="holds a kept model of format 99, written by a newer lakehouse"):
        obtain()


def test_what_is_no_record_is_none(obtain, registry, tmp_path):
    obtain()
    for path in (tmp_path / "kept").glob("m-*/*.json"):
        path.write_text("[]")
    assert obtain().version == "7"


def test_a_run_without_its_registry_says_so_wherever_it_is_looked_at(registry, make_job):
    write("lake/features", pa.table({"id": [1, 2], "a": [1.0, 2.0]}))
    job = make_job(CHAMPION, model={"tracking_uri": registry.address, "offline": "allowed"})
    assert score(job).message is None
    write("lake/features", pa.table({"id": [3], "a": [3.0]}))
    registry.status = 503
    said: list[str] = []
    result = score(job, say=lambda _, values: said.append(values.get("message", "")))
    told = "registry not reached; models:/m@champion was version 7 on 20"
    record = ledger.runs(naming.state_of(job), "scores")[0]
    assert (result.status, result.model["version"], record["run_id"]) == ("published", "7", result.run_id)
    assert any(text.startswith(told) for text in said)
    assert result.message.startswith(told)
    assert record["message"].startswith(told)
    assert told in evidence.page(job, result.run_id)[1].decode()
    assert (Path(os.environ["LAKEHOUSE_CACHE"]) / "models").is_dir()
    again = score(job)
    assert (again.status, again.message.startswith(told)) == ("unchanged", True)


def test_check_takes_what_is_kept_as_a_run_does(registry, make_job, capfd):
    write("lake/features", pa.table({"id": [1, 2], "a": [1.0, 2.0]}))
    make_job(CHAMPION, model={"tracking_uri": registry.address, "offline": "allowed"})
    assert run(capfd, "check", "conf/scores.yaml", "--engine", "local").code == 0
    registry.status = 503
    done = run(capfd, "check", "conf/scores.yaml", "--engine", "local", "--json")
    [checked] = done.json["jobs"]
    assert (done.code, checked["steps"]["model"]["found"][:4]) == (0, "m v7")
    assert any(
        said.startswith("registry not reached; models:/m@champion was version 7") for said in checked["warnings"]
    )


def test_a_cache_is_a_folder_and_has_a_use(make_job, registry):
    with pytest.raises(LakehouseError, match=r"model\.cache: 's3://b/c' must be a folder on this machine"):
        make_job(CHAMPION, model={"offline": "allowed", "cache": "s3://b/c"})
    with pytest.raises(LakehouseError, match=r"model\.cache: nothing is kept there without model\.offline: allowed"):
        make_job(CHAMPION, model={"cache": "kept"})
