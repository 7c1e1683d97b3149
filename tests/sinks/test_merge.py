"""`write: merge`: an upsert on the keys, exactly once, beside Spark's own MERGE."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from lakehouse.connectors import delta
from lakehouse.engines import local, memory
from lakehouse.errors import Blocked, ConfigError, Partial
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.schemas import RUN_ID
from lakehouse.sinks.delta import merge
from tests.conftest import read, score, spark_settings, turns, version, write
from tests.runs.test_exactly_once import in_the_middle, publishes, runs_in, unfinished
from tests.tables import assert_tables_equal

DAY, NEXT = "2026-01-02", "2026-01-03"


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 10), x)  # ten times as much


@pytest.fixture
def upsert(make_job, uri, monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 1)

    def make(day=None, keys=("id",), **sections):
        sections = {"predictions": {"p": 0}, **sections}
        return make_job(uri, date=day, keys=list(keys), sinks=[{"type": "delta", "table": "lake/scores", "write": "merge"}],
                        **sections)  # fmt: skip

    return make


def features(ids, a) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64()), "a": pa.array(a, pa.float64())})


def give(ids, a) -> None:
    write("lake/features", features(ids, a), mode="overwrite")


def scores() -> dict[int, float]:
    rows = read("lake/scores")
    return dict(zip(rows["id"].to_pylist(), np.round(rows["p"].to_numpy(), 9).tolist(), strict=True))


def test_rows_are_updated_inserted_and_left_as_they_are(upsert):
    give([1, 2, 3], [0.1, 0.2, 0.3])
    first = score(upsert())
    before = read("lake/scores")
    give([3, 4], [1.3, 1.4])
    second = score(upsert())
    assert scores() == {1: 1.0, 2: 2.0, 3: 13.0, 4: 14.0}
    rows = read("lake/scores")
    assert rows[RUN_ID].to_pylist() == [first.run_id] * 2 + [second.run_id] * 2
    assert_tables_equal(rows.slice(0, 2), before.slice(0, 2))
    assert score(upsert()).status == "unchanged"
    assert [p["generation"] for p in publishes("lake/scores")] == [2, 1]


def test_files_without_a_staged_key_are_not_touched(upsert):
    give([1, 2], [0.1, 0.2])
    score(upsert())
    give([5, 6], [0.5, 0.6])
    score(upsert())
    there = set(DeltaTable("lake/scores").file_uris())
    give([6, 7], [1.6, 1.7])
    score(upsert())
    now = set(DeltaTable("lake/scores").file_uris())
    assert len(there - now) == 1  # that of 5 and 6
    give([3], [0.3])  # within the bounds of no file
    score(upsert())
    assert now < set(DeltaTable("lake/scores").file_uris())
    assert scores() == {1: 1.0, 2: 2.0, 3: 3.0, 5: 5.0, 6: 16.0, 7: 17.0}


def test_a_slice_is_merged_by_itself(upsert):
    rows = pa.table({"id": [1, 2, 1, 2], "a": [0.1, 0.2, 0.3, 0.4], "day": [DAY, DAY, NEXT, NEXT]})
    write("lake/features", rows, ["day"])
    sliced = {"source": {"where": "day = '{date}'"}, "slice": {"score_date": "{date}"}}
    score(upsert(DAY, **sliced))
    score(upsert(NEXT, **sliced))
    write("lake/features", pa.table({"id": [2, 3], "a": [2.2, 2.3], "day": [NEXT, NEXT]}), ["day"], mode="overwrite",
          predicate=f"day = '{NEXT}'")  # fmt: skip
    score(upsert(NEXT, **sliced))
    rows = read("lake/scores").sort_by([("score_date", "ascending"), ("id", "ascending")])
    assert np.round(rows["p"].to_numpy(), 9).tolist() == [1.0, 2.0, 3.0, 22.0, 23.0]


def test_keys_that_occur_twice_in_a_run_are_refused_with_examples(upsert):
    give([1, 2, 2, 3, 3, 3], [0.1] * 6)
    with pytest.raises(Blocked, match=r"2 keys occur more than once in this run, such as id=2 ×2; id=3 ×3") as raised:
        score(upsert())
    assert (raised.value.result.status, version("lake/scores")) == ("blocked", -1)
    assert [r["status"] for r in ledger.runs(naming.state_of(upsert()), "scores")] == ["blocked"]


def test_several_keys_match_as_one(upsert):
    rows = pa.table({"id": [1, 1, 2], "region": ["a", "b", "a"], "a": [0.1, 0.2, 0.3]})
    write("lake/features", rows)
    score(upsert(keys=["id", "region"]))
    write("lake/features", pa.table({"id": [1, 2], "region": ["b", "b"], "a": [1.2, 1.3]}), mode="overwrite")
    score(upsert(keys=["id", "region"]))
    rows = read("lake/scores").sort_by([("id", "ascending"), ("region", "ascending")])
    found = zip(rows["id"].to_pylist(), rows["region"].to_pylist(), np.round(rows["p"].to_numpy(), 9), strict=True)
    assert list(found) == [(1, "a", 1.0), (1, "b", 12.0), (2, "a", 3.0), (2, "b", 13.0)]


@pytest.mark.long
def test_a_key_in_the_last_millisecond_of_a_file_that_spark_wrote_is_found(upsert, spark, workspace):
    """Spark cuts the upper bound of a timestamp to milliseconds."""
    moment = pa.array([1_767_312_000_000_500], pa.timestamp("us", tz="UTC"))
    write("lake/features", pa.table({"at": moment, "a": [0.1]}))
    score(upsert(keys=["at"]))
    spark.sql(f"OPTIMIZE delta.`{workspace}/lake/scores`")
    spark.sql(f"REORG TABLE delta.`{workspace}/lake/scores` APPLY (PURGE)")
    spark.sql(f"UPDATE delta.`{workspace}/lake/scores` SET p = 9")
    write("lake/features", pa.table({"at": moment, "a": [0.2]}), mode="overwrite")
    score(upsert(keys=["at"]))
    assert np.round(read("lake/scores")["p"].to_numpy(), 9).tolist() == [2.0]


def test_a_timestamp_that_spark_wrote_stays_as_it_was(upsert, spark, workspace):
    """As INT96, whose years Arrow's nanoseconds don't hold."""
    last = pa.array([253_402_300_799_999_999] * 2, pa.timestamp("us", tz="UTC"))
    write("lake/features", features([1, 2], [0.1, 0.2]).append_column("at", last))
    score(upsert(keep=["at"]))
    with spark_settings(spark, **{"spark.sql.parquet.outputTimestampType": "INT96"}):
        spark.sql(f"UPDATE delta.`{workspace}/lake/scores` SET p = 9")
    write("lake/features", features([2], [1.2]).append_column("at", last[:1]), mode="overwrite")
    score(upsert(keep=["at"]))
    assert scores() == {1: 9.0, 2: 12.0}
    assert read("lake/scores")["at"].equals(pa.chunked_array([last]))


def test_another_writers_rows_that_come_between_are_kept(upsert, monkeypatch):
    give([1, 2], [0.1, 0.2])
    score(upsert())
    give([2, 3], [1.2, 1.3])

    def meanwhile() -> None:  # the live file is written anew by somebody else
        DeltaTable("lake/scores").update(predicate="id = 1", updates={"p": "99.0"})

    in_the_middle(monkeypatch, delta, "commit", meanwhile)
    assert score(upsert()).status == "published"
    assert scores() == {1: 99.0, 2: 12.0, 3: 13.0}


def test_a_person_who_changed_merged_rows_is_named(upsert):
    give([1, 2], [0.1, 0.2])
    score(upsert())
    DeltaTable("lake/scores").delete("id = 2")
    with pytest.raises(Blocked, match=r"commit 2 \(DELETE\): 1 rows live, 2 were published"):
        score(upsert())
    score(upsert(), rescore=True)
    assert scores() == {1: 1.0, 2: 2.0}


def test_rows_of_another_job_are_not_changed(upsert):
    give([1, 2], [0.1, 0.2])
    score(upsert())
    with pytest.raises(
        Blocked, match=r"the whole table holds rows of another job \(scores\), which this run would change"
    ):
        score(upsert(job="other"))


def test_a_merge_that_was_stopped_is_made_once(upsert, monkeypatch):
    give([1, 2], [0.1, 0.2])
    score(upsert())
    give([2, 3], [1.2, 1.3])

    def broken(*_, **__):
        raise delta.Conflict("busy")

    with monkeypatch.context() as patched:
        patched.setattr(delta, "ATTEMPTS", 2)
        patched.setattr(delta, "commit", broken)
        with pytest.raises((Partial, Exception), match="goes on from here"):
            score(upsert())
    assert unfinished(upsert()) == 1
    result = score(upsert())
    assert (result.status, unfinished(upsert()), scores()) == ("published", 0, {1: 1.0, 2: 12.0, 3: 13.0})
    assert result.run_id in runs_in("lake/scores")


@pytest.mark.seeds
def test_staged_keys_are_made_a_set_once_for_many_files(upsert, monkeypatch):
    for part in range(6):
        write("lake/features", features([10 * part, 10 * part + 9], [part / 10] * 2), mode="overwrite")
        score(upsert())
    calls, without = [], merge._without
    monkeypatch.setattr(merge, "_without", lambda keys, staged: calls.append(len(keys)) or without(keys, staged))
    give([9, 20, 55, 59], [3.0, 3.1, 3.2, 3.3])  # within the bounds of every file, in three of them
    files = set(DeltaTable("lake/scores").file_uris())
    score(upsert())
    assert calls == [12]
    assert len(files - set(DeltaTable("lake/scores").file_uris())) == 3
    assert scores() == {
        **{10 * part: float(part) for part in range(6)},
        **{10 * part + 9: float(part) for part in range(6)},
        9: 30.0,
        20: 31.0,
        55: 32.0,
        59: 33.0,
    }


@pytest.mark.parametrize("fewest", [1, 2, 5])
def test_each_file_keeps_its_own_rows_whatever_files_are_looked_at_together(upsert, monkeypatch, fewest):
    monkeypatch.setattr(merge, "_FEWEST", fewest)
    for start in (0, 1, 2):
        give([*range(start, 12, 3)], [i / 10 for i in range(start, 12, 3)])
        score(upsert())
    give([0, 3, 6, 9, 4], [1.0] * 5)  # one file wholly, one in part, one not at all
    score(upsert())
    assert scores() == {i: 10.0 if i in (0, 3, 6, 9, 4) else float(i) for i in range(12)}


def test_a_merge_that_memory_does_not_hold_is_refused_before_anything_is_committed(upsert, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1_000)
    give(range(10), [0.1] * 10)
    assert score(upsert()).status == "published"  # into an empty table, where no key is looked up
    give(range(5, 15), [0.2] * 10)
    there = version("lake/scores")
    message = (
        "to merge 10 rows, .* bytes of keys each, takes about .* GB of memory in this process, which has 0.0 GB left"
    )
    with pytest.raises(ConfigError, match=message):
        score(upsert())
    assert (version("lake/scores"), unfinished(upsert())) == (there, 0)
    monkeypatch.setattr(memory, "available", lambda: None)
    assert score(upsert()).status == "published"
    assert scores() == {i: 1.0 if i < 5 else 2.0 for i in range(15)}


@pytest.mark.long
@pytest.mark.parametrize("engine", ["local", "spark"])
def test_sparks_own_merge_gives_the_same_table(upsert, spark, workspace, monkeypatch, engine):
    """Random upserts one after the other, by us and by MERGE INTO; on Spark by its executors."""
    monkeypatch.setattr(merge, "FEW", 0)
    path = f"{workspace}/lake/scores"

    @settings(max_examples=turns(1, 5), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.dictionaries(st.integers(0, 30), st.floats(-5, 5), min_size=1), min_size=2, max_size=3))
    def check(upserts: list[dict[int, float]]) -> None:
        import shutil

        shutil.rmtree(workspace / "lake", ignore_errors=True)
        expected = f"{workspace}/lake/expected"
        spark.sql(f"CREATE TABLE delta.`{expected}` (id BIGINT, a DOUBLE) USING delta")
        for rows in upserts:
            give(list(rows), list(rows.values()))
            score(upsert(), engine, rescore=True)
            spark.createDataFrame(list(rows.items()), "id long, a double").createOrReplaceTempView("batch")
            spark.sql(f"MERGE INTO delta.`{expected}` t USING batch s ON t.id = s.id "
                      "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *")  # fmt: skip
        ours = spark.sql(f"SELECT id, p FROM delta.`{path}` ORDER BY id").toArrow()
        theirs = spark.sql(f"SELECT id, a * 10 AS p FROM delta.`{expected}` ORDER BY id").toArrow()
        assert ours["id"].equals(theirs["id"])
        assert np.allclose(ours["p"].to_numpy(), theirs["p"].to_numpy(), rtol=1e-9, atol=1e-9)
        assert pc.count_distinct(ours["id"]).as_py() == ours.num_rows

    check()
