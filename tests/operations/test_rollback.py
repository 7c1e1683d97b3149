"""`lakehouse rollback`: the former scores are back by one commit, and what was rolled back stays away."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.errors import Blocked, ConfigError
from lakehouse.operations.rollback import rollback
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import naming
from lakehouse.runs import ledger
from tests.command import run
from tests.conftest import opened, read, score, write
from tests.operations.conftest import registered

DAY, OTHER = "2026-01-02", "2026-01-03"


@pytest.fixture(scope="module")
def models(register):
    return registered(register, 1, 2, 3)


@pytest.fixture
def daily(make_job, lake):
    def make(uri, day=DAY, **sections):
        return make_job(
            uri, date=day, lake=lake, slice={"score_date": "{date}"}, **{"predictions": {"p": 0}, **sections}
        )

    write(f"{lake}/features", pa.table({"id": [1, 2], "a": [1.0, 2.0]}))
    return make


def back(job, to=None):
    return rollback(job, Request("local", ledger.now(), new_run_id()), to)


def rows(job, day=DAY):
    table = job.sinks[0].table
    return [r["p"] for r in read(table).to_pylist() if str(r["score_date"]) == day]


@pytest.mark.quick("disk")
def test_the_former_scores_are_back_and_what_was_rolled_back_stays_away(daily, models):
    first = score(daily(models[0]))
    score(daily(models[0], OTHER))
    second = score(daily(models[1]))
    job = daily(models[1])
    assert rows(job) == pytest.approx([2.0, 4.0])
    before = {str(p) for p in Path().rglob("*.parquet")}
    result = back(job)
    assert (result.status, result.rows_scored) == ("published", 2)
    assert f"run {first.run_id} again, instead of run {second.run_id}" in str(result.message)
    assert rows(job) == pytest.approx([1.0, 2.0])
    assert rows(job, OTHER) == pytest.approx([1.0, 2.0])
    assert {p for p in {str(p) for p in Path().rglob("*.parquet")} - before if "_state" not in p} == set()

    with pytest.raises(Blocked, match=r"was rolled back by a person .*--rescore"):
        score(daily(models[1]))
    assert score(daily(models[0])).status == "unchanged"
    assert score(daily(models[2])).status == "published"
    assert rows(job) == pytest.approx([3.0, 6.0])
    runs = [r for r in ledger.runs(naming.state_of(job), "scores") if r["date"] == DAY]
    statuses = [(r["generation"], r["status"]) for r in runs]
    assert statuses == [(4, "published"), (3, "published"), (2, "published"), (1, "published")]
    back_then, before = runs[1], runs[2]
    assert (back_then["run_id"], back_then["alias"], before["alias"]) == (result.run_id, None, "champion")
    assert before["finished_at"] <= back_then["started_at"] <= back_then["finished_at"]


@pytest.mark.quick("disk")
def test_it_can_itself_be_rolled_back_and_asked_for_again(daily, models):
    score(daily(models[0]))
    score(daily(models[1]))
    job = daily(models[1])
    back(job)
    back(job)
    assert rows(job) == pytest.approx([2.0, 4.0])
    assert score(daily(models[1])).status == "unchanged"
    with pytest.raises(Blocked, match="rolled back by a person"):
        score(daily(models[0]))
    assert score(daily(models[0]), rescore=True).status == "published"
    assert rows(job) == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_one_that_was_cut_off_is_finished_by_the_next_and_not_undone(daily, models, monkeypatch):
    first = score(daily(models[0]))
    score(daily(models[1]))
    job = daily(models[1])
    for to, expected in ((None, [1.0, 2.0]), (None, [2.0, 4.0]), (first.run_id, [1.0, 2.0])):
        with monkeypatch.context() as patched:
            patched.setattr("lakehouse.operations.rollback.carry_out", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                back(job, to)
        assert back(job, to and to[:8]).status == "published"
        assert rows(job) == pytest.approx(expected)


@pytest.mark.quick("disk")
def test_any_run_on_record_can_be_put_back(daily, models):
    first = score(daily(models[0]))
    for uri in models[1:]:
        score(daily(uri))
    job = daily(models[2])
    state = naming.state_of(job)
    blocked = {**ledger.runs(state, "scores")[1], "run_id": new_run_id(), "status": "blocked", "sinks": []}
    ledger.record(state, {**blocked, "finished_at": ledger.now()})
    assert (back(job).status, rows(job)) == ("published", pytest.approx([2.0, 4.0]))
    with pytest.raises(ConfigError, match="has no run"):
        back(job, blocked["run_id"])
    assert back(job, first.run_id[:8]).status == "published"
    assert rows(job) == pytest.approx([1.0, 2.0])
    with pytest.raises(ConfigError, match="is what is live"):
        back(job, ledger.runs(naming.state_of(job), "scores")[0]["run_id"])


@pytest.mark.quick("disk")
def test_without_an_earlier_generation_there_is_nothing_to_put_back(daily, models):
    job = daily(models[0])
    with pytest.raises(ConfigError, match="has no earlier generation on record"):
        back(job)
    score(job)
    with pytest.raises(ConfigError, match="has no earlier generation on record"):
        back(job)


@pytest.mark.quick("disk")
def test_files_that_vacuum_took_are_named(daily, models, lake):
    score(daily(models[0]))
    score(daily(models[1]))
    job = daily(models[1])
    opened(f"{lake}/scores").vacuum(0, dry_run=False, enforce_retention_duration=False)
    version = opened(f"{lake}/scores").version()
    with pytest.raises(ConfigError, match=r"1 of 1 files of version 1 are gone, such as .*VACUUM"):
        back(job)
    assert opened(f"{lake}/scores").version() == version
    assert rows(job) == pytest.approx([2.0, 4.0])


@pytest.mark.quick("disk")
def test_only_slices_that_are_replaced(daily, models):
    job = daily(models[0], sinks=[{"type": "delta", "table": "lake/scores", "write": "merge"}])
    with pytest.raises(ConfigError, match="only a slice that is replaced can be rolled back, not write: merge"):
        back(job)


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_a_table_that_only_spark_writes_is_named(daily, models):
    score(daily(models[0]))
    score(daily(models[1]))
    opened("lake/scores").alter.add_constraint({"odd": "p * 2 >= 0"})
    version = opened("lake/scores").version()
    with pytest.raises(
        ConfigError, match=r"only Spark can write to this table \(CHECK constraint odd .* which moves data"
    ):
        back(daily(models[1]))
    assert opened("lake/scores").version() == version


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_its_page_is_of_the_run_that_it_put_back(daily, models, capfd):
    first = score(daily(models[0]))
    second = score(daily(models[1]))
    done = back(daily(models[1]))
    assert run(capfd, "report", "conf/scores.yaml", "--out", "page.html").code == 0
    page = Path("page.html").read_text()
    for text in ("ROLLED BACK", done.run_id, f"run {first.run_id} again, instead of run {second.run_id}",
                 f"2 rows for {DAY} are live in lake/scores", f"What follows is of run {first.run_id}."):  # fmt: skip
        assert text in page
    Path(f"lake/scores_state/reports/{done.run_id}.html").unlink()  # as of one from before it had a page
    assert run(capfd, "report", "conf/scores.yaml", "--out", "again.html").code == 0
    assert Path("again.html").read_text() == page
    Path(f"lake/scores_state/reports/{first.run_id}.json").unlink()
    none = run(capfd, "report", "conf/scores.yaml", "--out", "none.html")
    assert (none.code, f"run {done.run_id} left no page" in none.err) == (2, True)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_rows_that_were_deleted_one_by_one_are_not_put_back(daily, models, spark, workspace):
    place = f"{workspace}/lake/scores"
    score(daily(models[0]))
    spark.sql(f"ALTER TABLE delta.`{place}` SET TBLPROPERTIES (delta.enableDeletionVectors = true)")
    first = score(daily(models[0]), rescore=True)
    spark.sql(f"DELETE FROM delta.`{place}` WHERE id = 1")
    ours = ledger.record_of(naming.state_of(daily(models[0])), "scores", first.run_id)
    ours["sinks"][-1]["version"] += 1  # the version in which a person had deleted
    opened("lake/scores_state/runs").delete(f"run_id = '{first.run_id}'")
    ledger.record(naming.state_of(daily(models[0])), ours)
    score(daily(models[1]), rescore=True)
    with pytest.raises(ConfigError, match="rows of these files were deleted one by one: score again"):
        back(daily(models[1]))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_readers_of_the_change_feed_see_what_changed(daily, models, spark, workspace):
    score(daily(models[0]))
    job = daily(models[1])
    spark.sql(f"ALTER TABLE delta.`{workspace}/lake/scores` SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    score(job)
    back(job)
    newest = opened("lake/scores").version()
    feed = spark.read.option("readChangeFeed", "true").option("startingVersion", newest)
    found = feed.format("delta").load(f"{workspace}/lake/scores").orderBy("p").collect()
    changes = sorted((r["_change_type"], round(r["p"], 6)) for r in found)
    assert changes == [("delete", 2.0), ("delete", 4.0), ("insert", 1.0), ("insert", 2.0)]


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_the_command(daily, models, capfd):
    score(daily(models[0]))
    score(daily(models[1]))
    done = run(capfd, "rollback", "conf/scores.yaml", "--date", DAY, "--engine", "local", "--json")
    assert (done.code, done.json["status"]) == (0, "published")
    again = run(capfd, "score", "conf/scores.yaml", "--date", DAY, "--engine", "local")
    assert again.code == 3
    assert "was rolled back by a person (generation 3). Use --rescore" in again.err
