"""All transaction ids of a table at once, held against what the library says of each of them."""

from __future__ import annotations

import json
import uuid

import pyarrow as pa
import pytest
from pyarrow.fs import copy_files

from lakehouse.connectors import delta
from lakehouse.connectors.delta import log
from lakehouse.connectors.delta.transactions import transactions
from lakehouse.errors import Unavailable
from lakehouse.storage import locate, names, remove, write_durably
from lakehouse.storage.s3 import S3
from tests.conftest import opened, write


def commit(table: str, *ids: tuple[str, int]) -> None:
    """One more commit of a table with these transaction ids."""
    version = opened(table).version() + 1
    actions = [{"txn": {"appId": name, "version": at}} for name, at in ids]
    said = [{"commitInfo": {"timestamp": 1, "operation": "WRITE"}}, *actions]
    write_durably(
        locate(table).join("_delta_log", f"{version:020d}.json"), "".join(json.dumps(s) + "\n" for s in said).encode()
    )


def assert_as_the_library_says(table: str, *names: str, version: int | None = None) -> None:
    snapshot = delta.open_table(locate(table), version)
    known = {name: opened(table, version).transaction_version(name) for name in names}
    assert snapshot.transaction_ids == {name: at for name, at in known.items() if at is not None}
    assert all(snapshot.transaction(name) == at for name, at in known.items())


@pytest.mark.parametrize("place", ["disk", "bucket", "bucket, too long to be listed"])
def test_ids_before_and_after_a_checkpoint(bucket, workspace, monkeypatch, place):
    if place == "bucket, too long to be listed":
        monkeypatch.setattr(log, "_LONGEST", 0)
        monkeypatch.setattr(S3, "lists_from", False)
    table = "lake/t" if place == "disk" else f"{bucket}/t"
    write(table, pa.table({"a": [1]}))
    commit(table, ("one", 1), ("two", 1))
    assert_as_the_library_says(table, "one", "two")
    opened(table).create_checkpoint()
    commit(table, ("two", 5), ("three", 7))
    assert_as_the_library_says(table, "one", "two", "three", "four")
    assert_as_the_library_says(table, "one", "two", "three", version=0)
    commit(table, ("one", 2))
    opened(table).create_checkpoint()
    assert_as_the_library_says(table, "one", "two", "three")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["several files", "v2"])
def test_ids_in_a_checkpoint_of_spark_s(bucket, workspace, spark, kind):
    location, there = locate("lake/t"), locate(f"{bucket}/t")
    where = f"delta.`{location.hadoop_uri}`"
    policy = ", 'delta.checkpointPolicy' = 'v2'" if kind == "v2" else ""
    spark.sql(f"CREATE TABLE {where} (a INT) USING delta TBLPROPERTIES ('delta.checkpointInterval' = '4'{policy})")
    spark.conf.set("spark.databricks.delta.checkpoint.partSize", "2")
    try:
        for number in range(6):
            rows = spark.range(3).selectExpr("CAST(id AS INT) AS a")
            writer = rows.write.format("delta").options(txnAppId=f"app/{number}", txnVersion=str(number + 1))
            writer.mode("append").save(location.hadoop_uri)
    finally:
        spark.conf.unset("spark.databricks.delta.checkpoint.partSize")
    copy_files(location.path, there.path, destination_filesystem=there.filesystem())
    assert len([name for name in names(location.join("_delta_log/x")) if ".checkpoint." in name]) > 1 or kind == "v2"
    ids = {f"app/{number}": number + 1 for number in range(6)}
    assert [delta.open_table(each).transaction_ids for each in (location, there)] == [ids, ids]


def test_a_log_that_lost_a_commit_is_said(workspace):
    write("lake/t", pa.table({"a": [1]}))
    commit("lake/t", ("one", 1))
    snapshot = delta.open_table(locate("lake/t"))
    remove(locate("lake/t/_delta_log/00000000000000000001.json"))
    with pytest.raises(Unavailable, match=r"lake/t: its log has no 00000000000000000001\.json any more"):
        snapshot.transaction("one")


HINTS = {
    "no JSON": b"{nonsense",
    "empty": b"",
    "a list": b"[1]",
    "no version": b"{}",
    "a text": b'{"version": "x"}',
    "newer than the log": b'{"version": 99, "size": 1}',
    "of one that is gone": b'{"version": 2, "size": 1}',
    "of several files that are not there": b'{"version": 1, "size": 3, "parts": 3}',
    "of a v2 checkpoint that is gone": b'{"version": 1, "size": 1, "v2Checkpoint": {"path": "gone.json"}}',
}


@pytest.mark.parametrize("hint", HINTS.values(), ids=HINTS)
def test_what_the_log_notes_of_its_last_checkpoint_is_not_relied_on(bucket, hint):
    """Ids that are not seen would have messages scored twice."""
    table = locate(f"{bucket}/t")
    write(table.uri, pa.table({"a": [1]}))
    commit(table.uri, ("one", 1))
    opened(table.uri).create_checkpoint()
    commit(table.uri, ("two", 2))
    write_durably(table.join("_delta_log", "_last_checkpoint"), hint)
    assert transactions(table, 2) == {"one": 1, "two": 2}
    assert delta.open_table(table).transaction_ids == {"one": 1, "two": 2}


def test_of_two_v2_checkpoints_of_a_version_the_one_that_is_there_is_read(bucket):
    table = locate(f"{bucket}/t")
    write(table.uri, pa.table({"a": [1]}))
    commit(table.uri, ("one", 1))
    log_folder = table.join("_delta_log")
    there, gone = (f"{1:020d}.checkpoint.{uuid.uuid4()}.json" for _ in range(2))
    said = [{"checkpointMetadata": {"version": 1}}, {"txn": {"appId": "one", "version": 1}}]
    write_durably(log_folder.join(there), "".join(json.dumps(one) + "\n" for one in said).encode())
    hint = {"version": 1, "size": 2, "v2Checkpoint": {"path": gone}}
    write_durably(log_folder.join("_last_checkpoint"), json.dumps(hint).encode())
    for name in (f"{0:020d}.json", f"{1:020d}.json"):
        remove(log_folder.join(name))
    assert transactions(table, 1) == {"one": 1}


def test_what_an_earlier_run_kept_of_a_log_is_made_anew_where_it_is_broken(bucket):
    table, kept = locate(f"{bucket}/t"), locate(f"{bucket}/kept")
    write(table.uri, pa.table({"a": [1]}))
    for number in range(6):
        commit(table.uri, (f"id{number}", 1))
    for broken in (b'{"commits": []}', b'{"commits": null}', b'{"commits": {"x": 1}}', b'{"format": "x"}', b"[]"):
        with delta.logs_read_once(kept):
            delta.open_table(table)
            delta.keep_logs()
        (file,) = names(kept.join("x"))
        write_durably(kept.join(file), broken)
        with delta.logs_read_once(kept):
            assert len(delta.open_table(table).transaction_ids) == 6
