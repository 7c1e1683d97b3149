"""Google's and Azure's storage, on stand-ins of both: the same job as on disk, races of commits, what goes wrong."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from lakehouse import storage
from lakehouse.connectors import delta
from lakehouse.engines import local
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.operations.lookup import status
from lakehouse.operations.sweep import sweep
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.storage import locate
from tests import cloud_servers
from tests.conftest import opened, read, score, version, write
from tests.runs.test_exactly_once import unfinished
from tests.tables import assert_tables_equal

pytestmark = pytest.mark.long

DAY = "2026-01-02"
LINEAGE = ["_run_id", "_scored_at"]
DEAD = "00000000-0000-4000-8000-00000000dead"
UNSET = ["STORAGE_EMULATOR_HOST", "AZURITE_BLOB_STORAGE_URL", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY",
         "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_SAS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"]  # fmt: skip


@pytest.fixture(scope="module", params=["google", "microsoft", "microsoft_signed"])
def cloud(request):
    with getattr(cloud_servers, request.param)() as running:
        yield running


@pytest.fixture(autouse=True)
def nobodys(monkeypatch):
    """An environment that names no storage."""
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def lake(cloud, nobodys, monkeypatch):
    """A folder of this test's own in the cloud, in the environment of its owner."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    return f"{cloud.uri}/{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
    return register(LogisticRegression().fit(x, (x["a"] > 2).astype(int)), x)


@pytest.fixture
def daily(make_job, uri, lake, monkeypatch):
    """A job with everything in the cloud but the model."""
    monkeypatch.setattr(local, "cores", lambda: 2)

    def make(lake=lake, **sections):
        return make_job(
            uri, date=DAY, lake=lake, model={"method": "predict_proba"}, predictions={"p": {"class": 1}},
            slice={"score_date": "{date}"}, **sections,
        )  # fmt: skip

    return make


def features(rows: int = 200, keyless: int = 1) -> pa.Table:
    ids = np.arange(rows)
    return pa.table({"id": pa.array(ids, mask=ids < keyless), "a": ids % 40 * 0.1, "b": np.cos(ids)})


def test_a_job_leaves_what_it_leaves_on_disk(daily, lake):
    for place in ("lake", lake):
        write(f"{place}/features", features())
        result = score(daily(place))
        assert (result.status, result.rows_scored, result.rows_quarantined) == ("published", 199, 1)
        assert score(daily(place)).status == "unchanged"
    for table in ("scores", "scores_quarantine"):
        here, there = (read(f"{place}/{table}").drop_columns(LINEAGE) for place in ("lake", lake))
        assert_tables_equal(there, here)
    assert [r["status"] for r in ledger.runs(naming.state_of(daily()), "scores")] == ["published"]
    assert status(daily())[0].status == "published"
    assert unfinished(daily()) == 0
    found = storage.tree(locate(lake))
    assert {name.split("/")[0] for name in found} == {"features", "scores", "scores_quarantine", "scores_state"}
    assert [n.rsplit(".", 1)[1] for n in found if n.startswith("scores/") and "_delta_log" not in n] == ["parquet"]
    write(f"{lake}/features", features(100), mode="overwrite")
    assert (score(daily()).rows_scored, read(f"{lake}/scores").num_rows) == (99, 99)


def test_positions_in_messages_stand_in_a_table_there(make_job, uri, lake, kafka):
    topic = f"games-{uuid.uuid4().hex[:8]}"
    kafka.create(topic, 1)
    scores = make_job(
        uri, lake=lake, model={"method": "predict_proba"}, predictions={"p": {"class": 1}},
        keys=["_topic", "_partition", "_offset"], keep=[], sinks=[{"type": "delta", "table": f"{lake}/scores", "write": "append"}],
        source={"type": "kafka", "table": None, "servers": kafka.servers, "topic": topic, "schema": {"a": "double", "b": "double"}},
    )  # fmt: skip
    for count in (3, 12):  # the second time there is a checkpoint
        for _ in range(count):
            kafka.send(topic, [b'{"a": 0.5, "b": 1.0}'])
            assert score(scores).rows_scored == 1
        assert score(scores).status == "unchanged"
    assert sorted(read(f"{lake}/scores")["_offset"].to_pylist()) == list(range(15))


def test_what_a_dead_run_left_is_swept(daily, lake):
    write(f"{lake}/features", features())
    score(daily())
    left = locate(f"{lake}/scores").join(f"run-{DEAD}", "scored-00000-x.parquet")
    storage.write_durably(left, b"abc")
    assert [(f.run_id, f.files, f.kept) for f in sweep(daily(), take_away=True)] == [(DEAD, 1, None)]
    assert sweep(daily(), take_away=True) == []
    storage.remove(left)  # it is gone already
    assert read(f"{lake}/scores").num_rows == 199


def test_of_two_writers_one_makes_a_version_and_the_other_is_told(lake):
    """Both commit right after the same snapshot, 5 times; who lost looks again and commits alone."""
    table = locate(f"{lake}/scores")
    delta.create_table(table, pa.schema([("id", pa.int64())]), (), {}, "")
    rounds, start = 5, threading.Barrier(2)
    conflicts = []

    def commit(writer: str, number: int) -> int:
        snapshot = delta.open_table(table)
        start.wait(timeout=60)
        while True:
            add = delta.Add(f"run-{writer}/{number}.parquet", 1, '{"numRecords":1}')
            try:
                return delta.commit(
                    snapshot, [add], replace=None, partition={}, transactions={writer: number}, metadata={}
                )  # fmt: skip
            except delta.Conflict:
                conflicts.append(number)
                snapshot = delta.open_table(table)

    with ThreadPoolExecutor(2) as threads:
        for number in range(rounds):
            made = list(threads.map(commit, ("a", "b"), (number, number)))
            assert sorted(made) == [2 * number + 1, 2 * number + 2]
    assert conflicts == list(range(rounds))
    assert version(f"{lake}/scores") == 2 * rounds
    snapshot = delta.open_table(table)
    assert {f.path for f in snapshot.files()} == {f"run-{w}/{n}.parquet" for w in "ab" for n in range(rounds)}
    assert [snapshot.transaction(w) for w in "ab"] == [rounds - 1] * 2


def test_a_table_is_created_once(lake):
    table, schema = locate(f"{lake}/scores"), pa.schema([("id", pa.int64())])

    def create(_: int) -> bool:
        try:
            return delta.create_table(table, schema, (), {}, "").version == 0
        except delta.Conflict:
            return False

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(create, range(4))) == [False, False, False, True]
    assert opened(f"{lake}/scores").version() == 0


def test_a_bucket_that_is_not_there_is_named(daily, lake, cloud):
    write(f"{lake}/features", features())
    nowhere = cloud.uri.replace("://lake", "://nowhere")
    with pytest.raises((Unavailable, ConfigError), match=f"{nowhere}/scores.*(?i:not exist|not found)"):
        score(daily(sinks=[{"type": "delta", "table": f"{nowhere}/scores"}]))
    with pytest.raises((Unavailable, ConfigError), match=f"{nowhere}/features"):
        score(daily(source={"table": f"{nowhere}/features"}))


def test_wrong_credentials_are_named(cloud, daily, lake, workspace, monkeypatch):
    if cloud.uri.startswith("gs:"):
        storage.gcs._filesystem.cache_clear()  # a process keeps the credentials that it began with
        monkeypatch.delenv("STORAGE_EMULATOR_HOST")  # it asks for none
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{workspace}/nobody.json")
        said = "nobody.json"
    else:
        other = base64.b64encode(b"another key").decode()
        if "LAKE_SIGNATURE" in cloud.environment:
            monkeypatch.setenv("LAKE_SIGNATURE", cloud_servers.signature(other))
        else:
            monkeypatch.setenv("AZURE_STORAGE_KEY", other)
        said = "[aA]uth"
    with pytest.raises((Unavailable, ConfigError), match=f"{lake}/.*{said}") as refused:
        score(daily())
    assert "sig=" not in str(refused.value).replace("sig=…", "")
    with pytest.raises((Unavailable, ConfigError), match=f"{lake}/state.*{said}"):
        storage.write_durably(locate(f"{lake}/state"), b"{}")
    with pytest.raises((Unavailable, ConfigError), match=f"{lake}/state.*{said}"):
        storage.read_all(locate(f"{lake}/state"), ".json")


def test_a_server_that_is_not_there_is_named(cloud, lake, monkeypatch):
    for name, value in cloud.environment.items():
        if value.startswith("http"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=rf"{lake}: .*(127\.0\.0\.1:9|REDACTED.*refused)"):
        delta.open_table(locate(lake))


def test_settings_travel_with_a_location_and_secrets_do_not(cloud, lake, monkeypatch):
    location = locate(lake)
    there = pickle.dumps(location)
    assert not [secret for secret in (cloud_servers.KEY, "sig=") if secret.encode() in there]
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    assert pickle.loads(there) == location
    assert location.endpoint in cloud.environment.values()
    assert location.join("a").beside("_b").uri == f"{lake}/a_b"


@pytest.mark.slow
@pytest.mark.parametrize("cloud", ["google"], indirect=True)
def test_spark_itself_reads_and_writes(daily, lake):
    """The frame carrier, and a table that only Spark writes rightly, in a session of its own."""
    for rows in (200, 100):
        write(f"{lake}/features", features(rows, 0), mode="overwrite")
        job = daily(source={"where": "abs(id) % 2 = 1"})
        command = [sys.executable, "-m", "lakehouse.cli", "score", job.path, "--date", DAY, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["carrier"], said["rows_scored"]) == ("frame", rows // 2)
        assert read(f"{lake}/scores")["id"].to_pylist() == list(range(1, rows, 2))
        if rows == 200:
            opened(f"{lake}/scores").alter.add_constraint({"odd": "p * 2 >= 0"})
    assert opened(f"{lake}/scores").history(1)[0]["engineInfo"].startswith("Apache-Spark")


@pytest.mark.parametrize("cloud", ["microsoft"], indirect=True)
def test_spark_itself_is_refused_before_it_starts(daily, lake):
    write(f"{lake}/features", features())
    with pytest.raises(
        ConfigError, match=rf"{lake}/features has to be read or written by Spark itself \(where: .*can't use"
    ):
        score(daily(source={"where": "abs(id) = 1"}), "spark")


def test_names_of_the_same_place(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:4443")
    assert locate("gs://b/t/").endpoint == "http://localhost:4443"
    with pytest.raises(ConfigError, match=r"gs://b: name a bucket and a folder in it: gs://bucket/folder"):
        locate("gs://b")
    full = locate("abfss://c@account.dfs.core.windows.net/t")
    assert (full.path, full.account) == ("c/t", "account")
    with pytest.raises(ConfigError, match=r"az://c/t: of which account\? .*AZURE_STORAGE_ACCOUNT"):
        locate("az://c/t")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    assert locate("az://c/t") == locate("abfs://c@account.dfs.core.windows.net/t/") == full
    with pytest.raises(ConfigError, match=r"c@account.dfs.core.chinacloudapi.cn.*not supported yet"):
        locate("abfss://c@account.dfs.core.chinacloudapi.cn/t")
