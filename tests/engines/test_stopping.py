"""What a worker does when something fails: what may pass is tried again, what is final stops the others."""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.engines import local
from lakehouse.engines import spark as engine
from lakehouse.engines import turns as turns_of
from lakehouse.engines.spark import running
from lakehouse.errors import ModelRefused, Unavailable
from lakehouse.progress import listen, tell, tell_failed
from lakehouse.schemas import FAILED
from lakehouse.scoring import files, staging
from tests.conftest import score, write


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"]), x)


@pytest.fixture
def job(make_job, uri, monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 1)
    write("lake/features", pa.table({"id": range(100), "a": np.linspace(0, 4, 100)}))
    return make_job(uri, predictions={"p": 0}, model={"batch_rows": 10})


ROW = staging.failure_row(0, ModelRefused("no such column"))


def settled(heard: list[object], count: int) -> list[object]:
    for _ in range(100):
        if len(heard) >= count:
            break
        time.sleep(0.05)
    return heard


@pytest.mark.parametrize("noise", [b"[1]", b"1", b"null", b"{}", b"\xff", b'{"token": 1}', b'"x"'])
def test_datagrams_of_others_are_ignored(noise):
    heard: list[object] = []
    with listen("127.0.0.1", lambda *totals: heard.append(totals), heard.append) as address:
        token = address.token.encode()
        for message in (noise, b'{"token": "%s", "worker": [], "units": null, "rows": "x"}' % token):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(message, (address.host, address.port))
        tell(address, "0-x", 1, 10)
        tell_failed(address, ROW)
        assert settled(heard, 2) == [(1, 10), ROW]


@pytest.mark.parametrize(
    ("error", "ends"), [(Unavailable("503"), None), (OSError("reset"), None), (ModelRefused("no"), "ModelRefused")]
)
def test_what_may_pass_is_raised_and_the_rest_returned_and_files_are_closed(job, monkeypatch, error, ends):
    score_rows, calls, seen = staging.score_rows, [], []

    def broken(*args):
        calls.append(None)
        if len(calls) == 3:
            raise error
        return score_rows(*args)

    def stage(*args):
        try:
            rows = original(*args)
            seen.append(rows[0]["detail"] if rows[0]["kind"] == FAILED else "")
            return rows
        except Exception as raised:
            seen.append(raised)
            raise
        finally:
            opened = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
            seen.append([name for name in opened if "lake/scores/run-" in name])

    original = staging.stage
    monkeypatch.setattr(files, "GROUP_ROWS", 1)  # a row group a batch: the file is open when it happens
    monkeypatch.setattr(staging, "score_rows", broken)
    monkeypatch.setattr(staging, "stage", stage)
    with pytest.raises((Unavailable, ModelRefused)):
        score(job)
    assert (ends in seen[0] if ends else seen[0] is error, seen[1]) == (True, [])
    assert len(list(Path("lake/scores").rglob("*.parquet"))) == 1


def test_sparks_other_tasks_stop_once_one_has_failed_for_good(spark, tmp_path):
    work = engine.SparkWork(spark)
    with listen("127.0.0.1", None, work.fail) as address:

        def task(ids):
            for number in (number for batch in ids for number in batch.column(0).to_pylist()):
                if number == 0:
                    tell_failed(address, ROW)
                (tmp_path / f"{number} begun").touch()
                time.sleep(60)
                (tmp_path / f"{number} done").touch()
                yield staging.manifest_batch([])

        frame = spark.range(0, 2, 1, 2).mapInArrow(task, running.MANIFEST_DDL)
        assert work.collect(frame) == [ROW]
    assert [path.name for path in tmp_path.iterdir() if "done" in path.name] == []


def test_what_did_not_pass_in_a_task_on_spark_is_told_as_it_was(spark, tmp_path):
    def task(ids):
        Path(tmp_path, str(time.time_ns())).touch()
        raise Unavailable("s3://lake/x: the storage can't be used: 503")
        yield ids

    with pytest.raises(Unavailable, match=r"^s3://lake/x: the storage can't be used: 503$"):
        engine.SparkWork(spark).collect(spark.range(0, 1, 1, 1).mapInArrow(task, running.MANIFEST_DDL))
    assert len(list(tmp_path.iterdir())) > 1  # tried again


@pytest.mark.long
def test_what_ends_a_task_of_the_probe_is_told_as_of_any_other(spark, tmp_path):
    with pytest.raises(Unavailable, match="a file can't be read or written: FileNotFoundError"):
        engine.run_each(spark, os.listdir, [str(tmp_path / "gone")])


@dataclass
class Flag:
    value: bool = False


@dataclass(frozen=True)
class Long:
    """A unit of many batches."""

    def batches(self):
        yield from (pa.record_batch({"n": [n]}) for n in range(1000))


def test_a_process_leaves_its_unit_once_another_one_has_failed():
    turns = turns_of.Turns(None, Flag(), Flag(), Flag())
    done: Future[list[dict[str, object]]] = Future()
    done.set_result([ROW])
    batches = turns_of.UntilTurnsEnd(Long(), turns.lost).batches()
    assert next(batches)["n"].to_pylist() == [0]
    turns.stop(done)
    assert (list(batches), turns.over.value) == ([], True)


def test_a_process_that_found_nothing_left_stops_no_other():
    turns = turns_of.Turns(None, Flag(), Flag(), Flag())
    done: Future[list[dict[str, object]]] = Future()
    done.set_result([])
    turns.stop(done)
    assert (len(list(turns_of.UntilTurnsEnd(Long(), turns.lost).batches())), turns.over.value) == (1000, True)
