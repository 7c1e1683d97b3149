"""How often a run asks an object storage and a registry for something, counted on the stand-in for S3."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse import models
from lakehouse.connectors import delta
from lakehouse.connectors.delta import log
from lakehouse.models import registry
from lakehouse.planning import fetching, naming
from lakehouse.runs import ledger
from lakehouse.storage import content, locate, names, write_durably
from lakehouse.storage.s3 import S3
from tests.conftest import opened, read, requests, score, write

DAY = "2026-01-02"


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 2), x)


@pytest.fixture
def daily(make_job, uri):
    def make(lake="lake", day=DAY, **sections):
        return make_job(uri, date=day, lake=lake, slice={"score_date": "{date}"}, **sections)

    return make


def features(rows=200, keyless=1):
    ids = np.arange(rows)
    return pa.table({"id": pa.array(ids, mask=ids < keyless), "a": ids % 40 * 0.1})


def commits_without_data(table: str, count: int) -> None:
    """More commits of a table, as another writer makes them that makes no checkpoints."""
    first = opened(table).version() + 1
    info = {"commitInfo": {"timestamp": 1, "operation": "WRITE", "operationParameters": {}, "engineInfo": "tests"}}
    for version in range(first, first + count):
        write_durably(locate(table).join("_delta_log", f"{version:020d}.json"), json.dumps(info).encode() + b"\n")


def of_table(asked: list[str], table: str) -> list[str]:
    place = f"/{table.removeprefix('s3://')}/"
    return [request for request in asked if place in request]


@pytest.mark.long
def test_each_file_of_a_log_is_asked_for_once_and_a_run_asks_little_else(daily, bucket, s3_server):
    source = f"{bucket}/features"
    write(source, features())
    commits_without_data(source, 99)
    for day in range(1, 13):  # more than there are between two checkpoints
        delta_commit(f"{bucket}/scores", daily(bucket), day)
    assert score(daily(bucket), rescore=True).status == "published"

    requests(s3_server)
    assert score(daily(bucket)).status == "unchanged"
    asked = requests(s3_server)
    log = of_table(asked, source)
    assert {kind for kind, times in Counter(log).items() if times > 1 and kind.endswith(".json")} == set()
    assert len(asked) <= 40
    assert not [request for request in asked if request.startswith(("PUT", "POST", "DELETE"))]

    assert score(daily(bucket), rescore=True).status == "published"
    asked = requests(s3_server)
    log = [request for request in of_table(asked, source) if "_delta_log" in request]
    assert len(log) <= 10
    assert len(asked) <= MOST_OF_A_PUBLISH

    written = [f"{bucket}/{table}" for table in ("scores", "scores_quarantine", *STATE)]
    for table in written:
        commits_without_data(table, 99)
    requests(s3_server)
    assert score(daily(bucket), rescore=True).status == "published"
    times = Counter(request for request in requests(s3_server) if request.endswith(".json") and "_delta_log" in request)
    assert {request for request in times if times[request] > 1} == set()
    assert [since_checkpoint(table) >= 100 for table in [source, *written]] == [True] * 6

    assert score(daily(bucket), rescore=True).status == "published"
    assert len(requests(s3_server)) <= MOST_OF_A_PUBLISH


STATE = [f"scores_state/{table}" for table in ("runs", "metrics", "profiles")]
MOST_OF_A_PUBLISH = 125
"""With quarantine: five commits, each of which takes one request, however long the log is."""


def since_checkpoint(table: str) -> int:
    """Commits of a table since its last checkpoint."""
    listed = names(locate(table).join("_delta_log", "x"))
    last = max([name[:20] for name in listed if ".checkpoint." in name], default="")
    return sum(name.endswith(".json") and name[:20] > last for name in listed)


def delta_commit(table: str, job, day: int) -> None:
    """A commit of some other job; at first the table is made by a run."""
    if delta.open_table(locate(table)) is None:
        assert score(job).status == "published"
    snapshot = delta.open_table(locate(table), in_place=True)
    assert snapshot is not None
    delta.commit(
        snapshot, [], replace=None, partition={"score_date": f"2025-01-{day:02d}"}, blind=True,
        transactions={f"other/{day}": day}, metadata={},
    )  # fmt: skip


def test_tables_made_by_runs_have_a_checkpoint_every_ten_commits(daily, workspace):
    write("lake/features", features())
    for day in range(1, 12):
        delta_commit("lake/scores", daily(), day)
    assert [name for name in names(locate("lake/scores/_delta_log/x")) if "checkpoint.parquet" in name]
    snapshot = delta.open_table(locate("lake/scores"))
    for number in [*range(1, 12), 99]:  # before the checkpoint, after it, and one that isn't there
        app_id = f"other/{number}"
        assert snapshot.transaction(app_id) == opened("lake/scores").transaction_version(app_id)
    assert snapshot.transaction("other/3") == 3


def test_a_snapshot_by_a_copy_of_the_log_is_what_the_library_reads_in_place(bucket):
    table = f"{bucket}/t"
    for number in range(4):
        write(table, features(10 + number, number), mode="append")
        if number == 1:
            opened(table).create_checkpoint()
    for version in (None, 2, 3, 0):  # the last is from before the checkpoint
        copied = delta.open_table(locate(table), version)
        there = delta.open_table(locate(table), version, in_place=True)
        assert (copied.copy is None, there.copy) == (version == 0, None)
        assert (copied.version, copied.schema, copied.configuration) == (
            there.version, there.schema, there.configuration,
        )  # fmt: skip
        assert sorted(copied.files(["a"]), key=str) == sorted(there.files(["a"]), key=str)
        assert copied.history(2) == there.history(2)


def test_of_a_long_log_only_the_end_is_listed(bucket, monkeypatch):
    """From the last checkpoint on, and before a commit from the newest version on."""
    table = locate(f"{bucket}/t")
    for number in range(4):
        write(table.uri, features(10 + number, number), mode="append")
    opened(table.uri).create_checkpoint()
    write(table.uri, features(), mode="append")
    monkeypatch.setattr(log, "_LONGEST", 0)
    listed = []
    plain = S3.listed_from
    monkeypatch.setattr(S3, "listed_from", lambda self, name: listed.append(name) or plain(self, name))
    snapshot = delta.open_table(table)
    assert (snapshot.copy is None, snapshot.version, listed) == (False, 4, [f"{3:020d}"])
    copied = set(names(locate(f"{snapshot.copy.folder}/x")))
    assert copied == {f"{3:020d}.checkpoint.parquet", f"{3:020d}.json", f"{4:020d}.json"}
    assert delta.commit(snapshot, [], replace=None, partition={}, blind=True, transactions={"one": 1}, metadata={}) == 5
    assert listed[1:] == [f"{4:020d}"]
    assert delta.open_table(table).transaction("one") == 1


def test_a_table_that_is_made_anew_is_no_longer_the_one_that_was_copied(bucket):
    table = locate(f"{bucket}/t")
    with delta.logs_read_once(locate(f"{bucket}/kept")):
        write(table.uri, features(10))
        assert delta.open_table(table).schema.names == ["id", "a"]
        table.filesystem().delete_dir(table.path)
        write(table.uri, pa.table({"other": [1, 2, 3]}))
        assert delta.open_table(table).schema.names == ["other"]


def test_a_run_without_changes_fetches_no_model(daily, workspace, monkeypatch):
    write("lake/features", features())
    assert score(daily()).status == "published"
    with monkeypatch.context() as patched:
        patched.setattr(registry, "download", lambda *_: pytest.fail("fetched"))
        assert score(daily()).status == "unchanged"
        plan = score(daily()).model
    assert plan["digest"] == ledger.record_of(naming.state_of(daily()), "scores")["model_digest"]
    fetched = []
    real = registry.download
    monkeypatch.setattr(registry, "download", lambda *given: fetched.append(1) or real(*given))
    assert score(daily(), dry_run=True).status == "planned"  # it is tried, so it has to be here
    write("lake/features", features(160), mode="overwrite")
    assert score(daily()).status == "published"
    assert len(fetched) == 2


def test_what_a_job_trusts_decides_of_a_known_model_too(daily, workspace, tmp_path):
    write("lake/features", features())
    assert score(daily()).status == "published"
    other = daily(model={"trust": ["code"]})
    request = request_of()
    known = [fetching.recall(job, request, naming.state_of(job))[0] for job in (daily(), other)]
    assert [k is not None and k.path for k in known] == ["", False]


def request_of():
    from lakehouse.pipeline import Request, new_run_id

    return Request("local", ledger.now(), new_run_id())


def test_a_version_that_has_other_bytes_than_were_known_is_scored_with_them(daily, workspace):
    write("lake/features", features())
    first = score(daily())
    state = naming.state_of(daily())
    (name,) = names(state.join("models", "x"))
    file = state.join("models", name)
    said = json.loads(content(file))
    assert said["digest"] == first.model["digest"]
    write_durably(file, json.dumps({**said, "digest": "0" * 64}).encode())
    result = score(daily())  # known otherwise than it was published with: so it is fetched, and is the same
    assert (result.status, result.model["digest"]) == ("unchanged", first.model["digest"])
    assert read("lake/scores").num_rows == 199


def test_what_is_known_of_a_model_by_a_newer_program_is_not_taken(daily, workspace):
    write("lake/features", features())
    score(daily())
    state = naming.state_of(daily())
    (name,) = names(state.join("models", "x"))
    said = json.loads(content(state.join("models", name)))
    write_durably(state.join("models", name), json.dumps({**said, "format": 99}).encode())
    assert fetching.recall(daily(), request_of(), state)[0] is None
    assert score(daily()).status == "unchanged"


def in_a_process(job, *words):
    """The result of a run in a process of its own, and the modules that it imported."""
    code = (
        "import json, sys; from lakehouse.cli import main\n"
        "try: main()\n"
        "finally: print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "score", job.path, "--date", DAY, "--engine", "local", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), set(json.loads(done.stderr.splitlines()[-1]))


def test_a_run_without_changes_imports_little(daily, workspace):
    write("lake/features", features())
    job = daily()
    assert score(job).status == "published"
    result, imported = in_a_process(job)
    assert result["status"] == "unchanged"
    heavy = {"mlflow", "pandas", "sklearn", "scipy", "pyspark", "great_expectations", "matplotlib", "skops"}
    assert heavy & imported == set()


@pytest.mark.slow
def test_a_model_whose_files_are_here_is_scored_without_mlflow(daily, workspace):
    write("lake/features", features())
    job = daily()
    first = score(job)
    result, imported = in_a_process(job, "--rescore")
    assert (result["status"], result["model"]) == ("published", first.model)
    assert {"mlflow", "sqlalchemy", "pyspark"} & imported == set()


def test_files_that_are_elsewhere_or_gone_are_left_to_mlflow(uri, tracking_uri, monkeypatch, tmp_path):
    from lakehouse.config import Model
    from lakehouse.models import glance

    config = Model(uri=uri, tracking_uri=tracking_uri)
    fetched = models.fetch(config, models.resolve(config), tmp_path / "by MLflow")
    monkeypatch.delitem(sys.modules, "mlflow")
    seen = glance.look_up(config)
    assert seen.files
    assert models.fetch(config, seen, tmp_path / "from here").digest == fetched.digest
    assert {p.name for p in (tmp_path / "from here" / "fetched").iterdir()} >= {"MLmodel"}
    for place in (
        "s3://bucket/model",
        "mlflow-artifacts:/1/models/m",
        "model",
        str(tmp_path / "gone"),
        f"file://{tmp_path}",
    ):
        assert glance._folder_here(place) == ""


def test_a_look_at_the_registry_says_what_mlflow_says(uri, tracking_uri, monkeypatch):
    from lakehouse.config import Model
    from lakehouse.models import glance

    name = uri.removeprefix("models:/").partition("@")[0]
    for asked in (uri, f"models:/{name}/1"):
        config = Model(uri=asked, tracking_uri=tracking_uri)
        resolved = models.resolve(config)
        with monkeypatch.context() as patched:
            patched.delitem(sys.modules, "mlflow")
            assert glance.look_up(config) == resolved
            assert glance.look_up(config).origin == resolved.origin != ""
    with monkeypatch.context() as patched:
        patched.delitem(sys.modules, "mlflow")
        for asked in (f"models:/{name}@nobody", f"models:/{name}/77", "models:/none@champion", "runs:/1/model"):
            assert glance.look_up(Model(uri=asked, tracking_uri=tracking_uri)) is None
        missing = f"sqlite:///{Path('none.db').absolute()}"
        assert glance.look_up(Model(uri=uri, tracking_uri=missing)) is None
        patched.setenv("MLFLOW_TRACKING_TOKEN", "secret")  # how that is used is MLflow's to know
        assert glance.look_up(Model(uri=uri, tracking_uri=tracking_uri)) is None
