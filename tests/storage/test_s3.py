"""The whole job on S3: features, scores, quarantine, state and model there; faults of the storage, and lost replies."""

from __future__ import annotations

import json
import subprocess
import sys

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow.fs import FileSelector
from sklearn.linear_model import LogisticRegression

from lakehouse import storage
from lakehouse.engines import local
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.operations.lookup import status
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.storage import locate
from tests.conftest import read, score, version, write
from tests.runs.test_exactly_once import publishes, unfinished
from tests.tables import assert_tables_equal

DAY = "2026-01-02"
LINEAGE = ["_run_id", "_scored_at"]


def features(rows: int = 200, keyless: int = 1) -> pa.Table:
    ids = np.arange(rows)
    return pa.table({"id": pa.array(ids, mask=ids < keyless), "a": ids % 40 * 0.1, "b": np.cos(ids)})


@pytest.fixture(scope="module")
def uri(register, s3_server, tracking_uri):
    """A model whose files are on S3."""
    x = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", s3_server)
        client = mlflow.MlflowClient(tracking_uri)
        there = client.get_experiment_by_name("on S3")
        home = there.experiment_id if there else client.create_experiment("on S3", "s3://lake/artifacts")
        return register(LogisticRegression().fit(x, (x["a"] > 2).astype(int)), x, experiment_id=home)


@pytest.fixture
def daily(make_job, uri, bucket):
    """A job with everything on S3, the model too."""

    def make(lake=bucket, **sections):
        return make_job(
            uri, date=DAY, lake=lake, model={"method": "predict_proba"}, predictions={"p": {"class": 1}},
            slice={"score_date": "{date}"}, **sections,
        )  # fmt: skip

    return make


def names(folder: str) -> list[str]:
    """All files below a folder, relative to it."""
    location = locate(folder)
    listed = location.filesystem().get_file_info(FileSelector(location.path, recursive=True, allow_not_found=True))
    return [info.path.removeprefix(location.path + "/") for info in listed if info.is_file]


def test_a_bucket_that_is_not_there_is_said_before_anything_is_scored(daily, bucket):
    write(f"{bucket}/features", features())
    for engine_asked in ({}, {"dry_run": True}):
        with pytest.raises((ConfigError, Unavailable), match=r"s3://nowhere/scores: .*\bbucket\b") as found:
            score(daily(sinks=[{"type": "delta", "table": "s3://nowhere/scores"}]), **engine_asked)
        assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("table", "key"),
    [("scores", "sinks.0.table"), ("scores_quarantine", "checks.quarantine.table"), ("scores_state", "state")],
)
@pytest.mark.quick("scores-sinks.0.table")
def test_a_folder_that_may_not_be_written_to_is_said_before_anything_is_scored(daily, bucket, s3, table, key):
    write(f"{bucket}/features", features())
    before = names(bucket)
    for asked in ({}, {"dry_run": True}):
        s3((f"PUT /{bucket.removeprefix('s3://')}/{table}/", "deny", 99))
        with pytest.raises(ConfigError, match=rf"^{key}: nothing can be written to {bucket}/{table}: .*ACCESS_DENIED"):
            score(daily(), **asked)
    assert names(bucket) == before


def test_that_a_run_looked_whether_it_can_write_leaves_nothing_behind(daily, bucket):
    write(f"{bucket}/features", features())
    before = names(bucket)
    assert score(daily(), dry_run=True).status == "planned"
    assert names(bucket) == before


@pytest.mark.quick("local")
@pytest.mark.parametrize("engine", ["local", "spark"])
def test_a_job_on_s3_leaves_what_it_leaves_on_disk(engine, daily, bucket, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    for lake in ("lake", bucket):
        write(f"{lake}/features", features())
        result = score(daily(lake), engine)
        assert (result.status, result.rows_scored, result.rows_quarantined) == ("published", 199, 1)
        assert score(daily(lake), engine).status == "unchanged"
    for table in ("scores", "scores_quarantine"):
        here, there = (read(f"{lake}/{table}").drop_columns(LINEAGE) for lake in ("lake", bucket))
        assert_tables_equal(there, here)
    assert [r["status"] for r in ledger.runs(naming.state_of(daily()), "scores")] == ["published"]
    assert names("s3://lake/artifacts")
    assert status(daily())[0].status == "published"
    assert {name.split("/")[0] for name in names(bucket)} == {
        "features", "scores", "scores_quarantine", "scores_state",
    }  # fmt: skip


def test_settings_that_are_not_secret_travel_with_a_location_and_secrets_do_not(bucket, s3_server):
    location = locate(bucket)
    assert (location.endpoint, location.region) == (s3_server, "us-east-1")
    assert location.delta_options()["conditional_put"] == "etag"
    assert "tests" not in repr((location, location.delta_options(), location.hadoop_options()))


def test_s3a_and_s3_are_the_same_place(bucket):
    assert locate(bucket.replace("s3:", "s3a:") + "/") == locate(bucket)
    with pytest.raises(ConfigError, match=r"s3://lake: name a bucket and a folder in it: s3://bucket/folder"):
        locate("s3://lake")
    with pytest.raises(ConfigError, match=r"ftp://b/t: storage ftp:// is not supported yet"):
        locate("ftp://b/t")


@pytest.mark.parametrize("place", ["disk", "S3"])
def test_a_file_that_is_taken_away_while_a_folder_is_read_is_left_out(place, request, workspace, monkeypatch):
    folder = locate("state" if place == "disk" else request.getfixturevalue("bucket"))
    for name in ("a.json", "b.json"):
        storage.write_durably(folder.join(name), b"{}")
    listed = storage.files._list(folder)
    storage.remove(folder.join("a.json"))
    monkeypatch.setattr(storage.files, "_list", lambda *_: listed)
    assert storage.read_all(folder, ".json") == {"b.json": b"{}"}


def test_a_large_file_goes_up_in_parts(daily, bucket, monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 1)
    write(f"{bucket}/features", features(600_000, 0))
    assert score(daily()).rows_scored == 600_000
    assert read(f"{bucket}/scores").num_rows == 600_000
    (name,) = (n for n in names(f"{bucket}/scores") if n.endswith(".parquet"))
    assert locate(f"{bucket}/scores/{name}").filesystem().get_file_info(
        locate(f"{bucket}/scores/{name}").path
    ).size > 6 << 20  # more than a part  # fmt: skip


@pytest.mark.parametrize(
    "faults",
    [
        [("PUT .*/scores/", "refuse", 3)],
        [("GET .*/features/", "drop", 2)],
        [("PUT .*/scores/_delta_log/", "refuse", 2)],
        [("(GET|PUT|POST|HEAD) ", "refuse", 4)],
        [("PUT .*/scores/run-", "drop", 1)],
    ],
    ids=str,
)
@pytest.mark.quick(
    "[('GET .*/features/', 'drop', 2)]",
    "[('PUT .*/scores/_delta_log/', 'refuse', 2)]",
    "[('PUT .*/scores/run-', 'drop', 1)]",
)
@pytest.mark.quick("[('PUT .*/scores/_delta_log/', 'refuse', 2)]")
def test_what_the_storage_refuses_is_tried_again(faults, daily, bucket, s3):
    write(f"{bucket}/features", features())
    s3(*faults)
    assert score(daily()).status == "published"
    assert s3() == []  # all of them happened
    assert (version(f"{bucket}/scores"), read(f"{bucket}/scores").num_rows) == (1, 199)


@pytest.mark.parametrize("table", ["scores", "scores_quarantine", "scores_state/runs"])
@pytest.mark.quick("scores")
def test_a_commit_whose_reply_is_lost_is_made_once(table, daily, bucket, s3):
    write(f"{bucket}/features", features())
    score(daily())
    write(f"{bucket}/features", features(100), mode="overwrite")
    s3((f"PUT .*/{table}/_delta_log/", "lost reply", 1))
    result = score(daily())
    assert s3() == []
    assert (result.status, result.rows_scored) == ("published", 99)
    assert [p["generation"] for p in publishes(f"{bucket}/scores")] == [2, 1]
    assert len(publishes(f"{bucket}/scores_quarantine")) == 2
    records = ledger.runs(naming.state_of(daily()), "scores")
    assert ([r["generation"] for r in records], unfinished(daily())) == ([2, 1], 0)
    assert score(daily()).status == "unchanged"


@pytest.mark.long
def test_a_created_table_whose_reply_is_lost_is_there(daily, bucket, s3):
    write(f"{bucket}/features", features())
    s3((r"PUT .*/scores/_delta_log/0+\.json", "lost reply", 1))
    assert score(daily()).status == "published"
    assert (s3(), read(f"{bucket}/scores").num_rows) == ([], 199)


@pytest.mark.long
def test_an_intent_whose_reply_is_lost_is_carried_out(daily, bucket, s3):
    write(f"{bucket}/features", features())
    s3(("PUT .*/intents/", "lost reply", 1))
    assert score(daily()).status == "published"
    assert (s3(), unfinished(daily())) == ([], 0)


def test_storage_that_stays_away_is_named_and_nothing_is_half_done(daily, bucket, s3):
    write(f"{bucket}/features", features())
    s3(("PUT .*/scores/_delta_log/", "refuse", 1000))
    with pytest.raises(Unavailable, match=rf"{bucket}/scores.*503"):
        score(daily())
    s3(("", "refuse", 0))
    assert score(daily()).status == "published"
    assert read(f"{bucket}/scores").num_rows == 199


@pytest.mark.long
def test_storage_that_is_away_while_the_ledger_is_read_is_named(daily, bucket, s3):
    write(f"{bucket}/features", features())
    score(daily())
    s3(("GET .*/scores_state/runs/.*parquet", "refuse", 1000))
    with pytest.raises(Unavailable, match=rf"{bucket}/scores_state/runs/.*: the storage can't be used: .*503"):
        ledger.runs(naming.state_of(daily()), "scores")


@pytest.mark.long
def test_a_model_on_s3_without_boto3_says_what_to_install(daily, bucket):
    write(f"{bucket}/features", features())
    without = "import sys; sys.modules['boto3'] = None; from lakehouse.cli import main; main()"
    command = [sys.executable, "-c", without, "score", daily().path, "--date", DAY, "--engine", "local"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "lies at s3://lake/artifacts" in done.stderr
    assert done.stderr.endswith("MLflow needs boto3: pip install 'lakehouse[s3]'\n")


def test_a_bucket_that_is_not_there_is_named(make_job, daily, bucket):
    write(f"{bucket}/features", features())
    with pytest.raises(Unavailable, match="s3://nowhere/scores"):
        score(daily(sinks=[{"type": "delta", "table": "s3://nowhere/scores"}]))


@pytest.mark.long
@pytest.mark.slow
def test_spark_itself_reads_from_s3(daily, bucket, workspace):
    """The frame carrier with hadoop-aws, in a session of its own."""
    write(f"{bucket}/features", features())
    job = daily(source={"where": "id % 2 = 1"})
    command = [sys.executable, "-m", "lakehouse.cli", "score", job.path, "--date", DAY, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["carrier"], said["rows_scored"]) == ("frame", 100)
    assert read(f"{bucket}/scores")["id"].to_pylist() == list(range(1, 200, 2))
