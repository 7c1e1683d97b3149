"""Commits that are put into a log on S3: the library's own, as exclusive as where the library makes them itself."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from lakehouse.connectors import delta
from lakehouse.connectors.delta import putting
from lakehouse.storage import content, locate, names, remove, s3
from tests.conftest import opened, requests

SCHEMA = pa.schema([("day", pa.string()), ("a", pa.int64())])


def created(table: str, **properties: str) -> delta.Snapshot:
    delta.create_table(locate(table), SCHEMA, ["day"], {}, "", properties)
    return look(table)


def look(table: str, in_place: bool = False) -> delta.Snapshot:
    found = delta.open_table(locate(table), in_place=in_place)
    assert found is not None
    return found


def add(snapshot: delta.Snapshot, name: str, replace=None, removes=()) -> int:
    added = [delta.Add(f"run-{name}/x.parquet", 10, json.dumps({"numRecords": 1}))]
    return delta.commit(
        snapshot, added, replace=replace, partition={"day": "1"}, removes=removes, transactions={name: 7},
        metadata={"run": name},
    )  # fmt: skip


def log(table: str) -> list[str]:
    return names(locate(table).join("_delta_log", "x"))


def actions(table: str, version: int) -> list[dict]:
    """What a commit says, but for times."""
    text = content(locate(table).join("_delta_log", f"{version:020d}.json"))
    assert text is not None
    found = [json.loads(line) for line in text.splitlines()]
    for action in found:
        for said in action.values():
            for name in ("timestamp", "modificationTime", "deletionTimestamp", "lastUpdated"):
                said.pop(name, None)
    return sorted(found, key=json.dumps)


def test_what_is_put_is_what_the_library_commits_where_the_table_lies(bucket, s3_server):
    said = []
    for table, in_place in ((f"{bucket}/put", False), (f"{bucket}/there", True)):
        created(table)
        assert add(look(table, in_place), "a") == 1
        snapshot = look(table, in_place)
        requests(s3_server)
        assert add(snapshot, "b", replace={"day": "1"}) == 2
        asked = requests(s3_server)
        snapshot = look(table, in_place)
        assert add(snapshot, "c", removes=snapshot.files()) == 3
        said.append([actions(table, version) for version in (1, 2, 3)])
        assert [f.path for f in look(table).files()] == ["run-c/x.parquet"]
        if not in_place:
            assert [request.split()[0] for request in asked] == ["LIST", "PUT"]
    assert said[0] == said[1]


def test_of_writers_at_once_each_has_versions_of_its_own(bucket):
    """Two put their commits, two have the library make them where the table lies."""
    table = f"{bucket}/t"
    created(table)

    def write(writer: int) -> int:
        conflicts = 0
        for number in range(4):
            while True:
                try:
                    add(look(table, in_place=writer % 2 == 0), f"{writer}-{number}")
                    break
                except delta.Conflict:
                    conflicts += 1
        return conflicts

    with ThreadPoolExecutor(4) as pool:
        conflicts = sum(pool.map(write, range(4)))
    assert conflicts > 0
    assert look(table).version == 16
    runs = [json.loads(a["commitInfo"]["userMetadata"])["run"] for v in range(1, 17) for a in actions(table, v) if "commitInfo" in a]  # fmt: skip
    assert sorted(runs) == [f"{writer}-{number}" for writer in range(4) for number in range(4)]
    assert len(look(table).files()) == 16


def test_a_commit_that_another_writer_has_made_stays_and_one_that_the_log_has_dropped_counts(bucket, monkeypatch):
    table = f"{bucket}/t"
    old = created(table)
    add(look(table), "first")
    before = actions(table, 1)
    with pytest.raises(delta.Conflict, match=f"{table}: another writer committed version 1 first"):
        add(old, "second")
    with monkeypatch.context() as patched:  # it comes between the look and the commit
        patched.setattr(putting, "newest", lambda _: 0)
        with pytest.raises(delta.Conflict, match=f"{table}: another writer committed version 1 first"):
            add(old, "second")
    assert actions(table, 1) == before
    add(look(table), "third")
    opened(table).create_checkpoint()
    remove(locate(table).join("_delta_log", f"{1:020d}.json"))
    with pytest.raises(delta.Conflict):
        add(old, "second")
    assert f"{1:020d}.json" not in log(table)


@pytest.mark.parametrize("can_put", [True, False], ids=["put", "without boto3"])
def test_checkpoints_are_made_when_they_are_due(can_put, bucket, monkeypatch, s3_server):
    table = f"{bucket}/t"
    created(table, **{"delta.checkpointInterval": "4"})
    if not can_put:
        monkeypatch.setattr(s3, "_client", lambda *_: None)
    for number in range(5):
        add(look(table), str(number))
    assert [name for name in log(table) if "checkpoint" in name] == ["00000000000000000003.checkpoint.parquet", "_last_checkpoint"]  # fmt: skip
    requests(s3_server)
    read = opened(table)
    asked = [request.rsplit("/", 1)[1] for request in requests(s3_server) if ".json" in request]
    assert set(asked) == {f"{version:020d}.json" for version in (4, 5)}
    assert (read.version(), len(read.file_uris()), read.transaction_version("1")) == (5, 5, 7)
    assert json.loads(content(locate(table).join("_delta_log", "_last_checkpoint")) or b"")["version"] == 3


def test_commits_that_a_log_need_not_keep_go_with_a_checkpoint(bucket):
    table = f"{bucket}/t"
    created(table, **{"delta.checkpointInterval": "4", "delta.logRetentionDuration": "interval 0 seconds"})
    for number in range(3):
        add(look(table), str(number))
    assert f"{0:020d}.json" not in log(table)
    assert len(look(table).files()) == 3
