"""`lakehouse maintain`: fewer files, the same rows; what any run or rollback still needs stays."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.config import load_job
from lakehouse.config.systems.delta import DeltaSink
from lakehouse.connectors import delta
from lakehouse.connectors.delta import retaining
from lakehouse.engines import local
from lakehouse.errors import ConfigError
from lakehouse.operations import maintenance, reconciling, review, sweep
from lakehouse.operations.leftover import OUTDATED, SMALL, STAGED
from lakehouse.operations.rollback import rollback
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.sinks import Compaction, SmallFiles
from lakehouse.sinks.delta import upkeep
from lakehouse.storage import locate
from tests.command import run
from tests.conftest import opened, read, score, write
from tests.operations.conftest import registered
from tests.runs.test_exactly_once import in_the_middle

DAY, OTHER = "2026-01-02", "2026-01-03"


@pytest.fixture(scope="module")
def models(register):
    return registered(register, 1, 2, 3)


@pytest.fixture
def daily(make_job, monkeypatch):
    """A job with a slice a day, whose runs leave many small files."""
    monkeypatch.setattr(local, "cores", lambda: 1)
    monkeypatch.setattr("lakehouse.scoring.files.TARGET_BYTES", 1)
    write("lake/features", pa.table({"id": range(6), "a": [float(i) for i in range(6)]}))

    def make(uri, day=DAY, **sections):
        given = {"slice": {"score_date": "{date}"}, "predictions": {"p": 0}, "model": {"batch_rows": 2}}
        return make_job(uri, date=day, **{**given, **sections})

    return make


def maintained(job, **asked):
    told = maintenance.maintain("conf/job.yaml", lambda day: job, maintenance.Asked("local", bytes=1 << 20, **asked))
    assert (told.code, told.message) == (0, "")
    return told


def done(told):
    return [(one.what, one.files, one.kept) for one in told.found]


def keep_nothing(table="lake/scores"):
    opened(table).alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 days"})


def back(job, to=None):
    return rollback(job, Request("local", ledger.now(), new_run_id()), to)


def test_small_files_become_fewer_and_nothing_else_changes(daily, models):
    job = daily(models[0])
    for day in (DAY, OTHER):
        score(daily(models[0], day))
    before = read("lake/scores").sort_by([("score_date", "ascending"), ("id", "ascending")])
    version = opened("lake/scores").version()
    assert len(opened("lake/scores").file_uris()) == 6
    assert done(maintained(job, dry_run=True)) == [(SMALL, 6, None)]
    large = maintenance.maintain("conf/job.yaml", lambda day: job, maintenance.Asked("local", bytes=1))
    assert (large.found, opened("lake/scores").version()) == ([], version)
    assert opened("lake/scores").version() == version
    assert done(maintained(job)) == [(SMALL, 6, None)]
    assert len(opened("lake/scores").file_uris()) == 2
    after = read("lake/scores").sort_by([("score_date", "ascending"), ("id", "ascending")])
    assert after.equals(before)
    assert done(maintained(job)) == []
    assert [score(daily(models[0], day)).status for day in (DAY, OTHER)] == ["unchanged", "unchanged"]


def test_what_a_run_needs_that_stopped_between_intent_and_commit_stays(daily, models, monkeypatch):
    score(daily(models[0]))
    keep_nothing()
    job = daily(models[1])
    with monkeypatch.context() as patched:
        patched.setattr("lakehouse.runs.publication._commit", stop)
        with pytest.raises(KeyboardInterrupt):
            score(job)
    told = maintained(job)
    assert (SMALL, 3, None) in done(told)
    assert {one.kept for one in told.found if one.run_id} == {"waits to be finished by the next run of its job"}
    staged = {str(path): path.stat().st_size for path in Path("lake/scores").rglob("scored-*.parquet")}
    result = score(job)
    assert (result.status, scores()) == ("published", [2.0 * i for i in range(6)])
    assert {str(path.resolve()) for path in map(Path, staged)} >= set(opened("lake/scores").file_uris())


def stop(*args):
    raise KeyboardInterrupt


def scores(day=DAY):
    rows = [row for row in read("lake/scores").sort_by("id").to_pylist() if str(row["score_date"]) == day]
    return [pytest.approx(row["p"]) for row in rows]


def test_a_run_in_progress_keeps_what_it_has_staged(daily, models, monkeypatch):
    score(daily(models[0]))
    keep_nothing()
    job = daily(models[1])
    told = in_the_middle(monkeypatch, local, "run", lambda: maintained(job), late=True)
    assert (score(job).status, scores()) == ("published", [2.0 * i for i in range(6)])
    assert {str(one.kept)[:14] for one in told[0].found if one.run_id} == {"in progress on"}


def test_a_held_run_is_published_as_it_was_looked_at(daily, models):
    score(daily(models[0]))
    keep_nothing()
    held = score(daily(models[1]), hold=True)
    maintained(daily(models[1]))
    job, waits = review.find(lambda day: daily(models[1], day), held.run_id)
    result = review.publish(job, waits, Request("local", ledger.now(), held.run_id))
    assert (result.status, scores()) == ("published", [2.0 * i for i in range(6)])


def test_a_rollback_works_while_its_files_are_kept_and_is_refused_by_name_afterwards(daily, models):
    first, job = score(daily(models[0])), daily(models[1])
    maintained(job)
    score(job)
    assert done(maintained(job)) == [(SMALL, 3, None)]
    third = back(job)
    assert (third.status, scores()) == ("published", [1.0 * i for i in range(6)])
    back(job)
    keep_nothing()
    ended = f"lake/scores: rolling back to run {third.run_id}, {first.run_id}"
    assert maintained(job, dry_run=True).notes == [f"{ended} would be no longer possible"]
    assert back(job, first.run_id).status == "published"
    back(job)
    assert maintained(job).notes[0].startswith("lake/scores: rolling back to run ")
    with pytest.raises(ConfigError, match=r"files of version \d+ are gone"):
        back(job, first.run_id)
    assert scores() == [2.0 * i for i in range(6)]


def test_a_generation_whose_files_were_merged_while_it_lived_can_be_put_back(daily, models, capfd):
    first, job = score(daily(models[0])), daily(models[1])
    keep_nothing()
    told = maintained(job)
    assert [(one.what, one.files) for one in told.found] == [(SMALL, 3), (OUTDATED, 3)]
    assert told.notes == []
    opened("lake/scores").alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 7 days"})
    score(job)
    past = run(capfd, "verify", "conf/scores.yaml", "--run", first.run_id, "--json")
    assert (past.code, past.json["equal"]) == (0, 6)
    assert (
        run(capfd, "explain", "conf/scores.yaml", "--key", "2", "--run", first.run_id, "--json").json["equal"] is True
    )
    assert back(job).status == "published"
    assert scores() == [1.0 * i for i in range(6)]
    assert back(job).status == "published"


def test_files_that_a_rollback_is_about_to_put_back_stay(daily, models, monkeypatch):
    score(daily(models[0]))
    job = daily(models[1])
    score(job)
    keep_nothing()
    with monkeypatch.context() as patched:
        patched.setattr("lakehouse.runs.publication._commit", stop)
        with pytest.raises(KeyboardInterrupt):
            back(job)
    told = maintained(job)
    assert [(one.files, one.kept is None) for one in told.found if one.what == OUTDATED] == [(3, False), (3, True)]
    score(job, rescore=True)
    assert [r["status"] for r in ledger.runs(naming.state_of(job), "scores")] == ["published"] * 4


def test_an_append_is_still_replaced_by_a_rescore(daily, models):
    sections = {"slice": {}, "sinks": [{"type": "delta", "table": "lake/scores", "write": "append"}]}
    sections |= {"source": {"table": "lake/days", "where": "day = '{date}'"}}
    days = {"id": range(12), "a": [float(i) for i in range(12)], "day": [DAY] * 6 + [OTHER] * 6}
    write("lake/days", pa.table(days), ["day"])
    for day in (DAY, OTHER):
        score(daily(models[0], day, **sections))
    assert done(maintained(daily(models[0], **sections))) == [(SMALL, 6, None)]
    assert len(opened("lake/scores").file_uris()) == 2
    assert score(daily(models[0], OTHER, **sections)).status == "unchanged"
    assert score(daily(models[1], OTHER, **sections), rescore=True).status == "published"
    assert read("lake/scores").sort_by("id")["p"].to_pylist() == pytest.approx([*range(6), *range(12, 24, 2)])


def test_upserts_go_on(daily, models):
    sinks = [{"type": "delta", "table": "lake/scores", "write": "merge"}]
    score(daily(models[0], sinks=sinks))
    score(daily(models[1], sinks=sinks, source={"where": "id < 3"}))
    before = read("lake/scores").sort_by("id")
    told = maintained(daily(models[1], sinks=sinks))
    assert [one.what for one in told.found] == [SMALL]
    assert read("lake/scores").sort_by("id").equals(before)
    score(daily(models[2], sinks=sinks, source={"where": "id > 3"}))
    assert scores() == [0.0, 2.0, 4.0, 3.0, 12.0, 15.0]


def test_a_run_that_publishes_meanwhile_comes_first(daily, models, monkeypatch):
    job = daily(models[0])
    for day in (DAY, OTHER):
        score(daily(models[0], day))
    in_the_middle(monkeypatch, delta, "rewrite", lambda: score(daily(models[1])))
    assert done(maintained(job)) == [(SMALL, 6, None)]
    assert (scores(), scores(OTHER)) == ([2.0 * i for i in range(6)], [1.0 * i for i in range(6)])
    assert len(opened("lake/scores").file_uris()) == 4
    assert done(maintained(job)) == [(SMALL, 3, None)]


def test_readers_of_changes_see_none(daily, models):
    job = daily(models[0])
    score(job)
    opened("lake/scores").alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    version = opened("lake/scores").version()
    maintained(job)
    assert opened("lake/scores").version() == version + 1
    assert opened("lake/scores").load_cdf(starting_version=version + 1).read_all().num_rows == 0


def test_replaced_files_are_kept_as_long_as_the_job_says(daily, models):
    score(daily(models[0]))
    keep_nothing()
    score(daily(models[1]))
    job = daily(models[1], retention={"files": "30 days"})
    told = maintained(job)
    assert [one.what for one in told.found] == [SMALL]
    assert told.notes == ["lake/scores: delta.deletedFileRetentionDuration is 30 days, as retention.files says"]
    assert maintained(job).notes == []


def test_several_jobs_and_the_worst_exit_code(daily, models, capfd):
    score(daily(models[0]))
    Path("conf/other.yaml").write_text("job: other\n")
    found = run(capfd, "maintain", "conf", "--engine", "local", "--json")
    assert [(one["conf"], one["code"]) for one in found.json["jobs"]] == [
        ("conf/other.yaml", 2),
        ("conf/scores.yaml", 0),
    ]
    assert (found.code, found.json["status"]) == (2, "failed")
    shown = run(capfd, "maintain", "conf/scores.yaml", "--engine", "local", "--dry-run")
    assert (shown.code, shown.out) == (0, "conf/scores.yaml  scores\n  nothing to do\n")


def test_files_stay_while_a_rollback_looks_for_its_own(daily, models, monkeypatch):
    score(daily(models[0]))
    job = daily(models[1])
    score(job)
    keep_nothing()
    told = in_the_middle(monkeypatch, ledger, "save_intent", lambda: maintained(job))
    assert (back(job).status, scores()) == ("published", [1.0 * i for i in range(6)])
    found = {(one.what, one.kept is None) for one in told[0].found}
    assert found == {(SMALL, True), (OUTDATED, False), (STAGED, False)}


def test_what_a_maintenance_that_was_stopped_has_written_is_swept_up(daily, models, monkeypatch):
    job = daily(models[0])
    score(job)
    with monkeypatch.context() as patched:
        patched.setattr(delta, "rewrite", stop)
        with pytest.raises(KeyboardInterrupt):
            maintained(job)
    assert len(list(Path("lake/scores").rglob("of-*.parquet"))) == 1
    told = maintained(job)
    assert [(one.what, one.files, one.kept) for one in told.found] == [(SMALL, 3, None), (STAGED, 1, None)]
    assert len(list(Path("lake/scores").rglob("of-*.parquet"))) == 1
    assert scores() == [1.0 * i for i in range(6)]


def test_what_is_merged_is_not_swept_up_before_it_is_committed(daily, models, monkeypatch):
    job = daily(models[0])
    score(job)
    swept = in_the_middle(monkeypatch, delta, "rewrite", lambda: sweep.sweep(job, take_away=True))
    assert done(maintained(job)) == [(SMALL, 3, None)]
    assert [str(one.kept)[:14] for one in swept[0]] == ["in progress on"]
    assert scores() == [1.0 * i for i in range(6)]
    assert list(Path("lake/scores").rglob("_lease.json")) == []


def test_files_that_another_jobs_rollback_is_about_to_put_back_stay(daily, models, monkeypatch):
    """Two jobs of one table, each with a state folder of its own: the lease names the other's."""
    mine = daily(models[0], slice={"part": "a"})
    theirs = daily(models[1], job="other", state="lake/elsewhere", slice={"part": "b"})
    score(mine)
    score(daily(models[0], job="other", state="lake/elsewhere", slice={"part": "b"}))
    score(theirs)
    keep_nothing()
    with monkeypatch.context() as patched:
        patched.setattr("lakehouse.runs.publication._commit", stop)
        with pytest.raises(KeyboardInterrupt):
            back(theirs)
    found = [(one.files, one.kept is None) for one in maintained(mine).found if one.what == OUTDATED]
    assert found == [(3, False), (6, True)]
    assert back(theirs).status == "published"
    rows = [row["p"] for row in read("lake/scores").to_pylist() if row["part"] == "b"]
    assert rows == pytest.approx([1.0 * i for i in range(6)])


def test_files_that_a_rollback_begun_meanwhile_puts_back_stay(daily, models, monkeypatch):
    score(daily(models[0]))
    job = daily(models[1])
    score(job)
    keep_nothing()

    def half():
        with monkeypatch.context() as patched:
            patched.setattr("lakehouse.runs.publication._commit", stop)
            with pytest.raises(KeyboardInterrupt):
                back(job)

    in_the_middle(monkeypatch, sweep, "sweep", half)
    maintained(job)
    assert (back(job).status, scores()) == ("published", [1.0 * i for i in range(6)])


def test_each_of_a_jobs_tables_where_every_date_has_one(daily, models):
    table = [{"type": "delta", "table": "lake/scores_{date}"}]
    for day in (DAY, OTHER):
        score(daily(models[0], day, slice={}, sinks=table))
    load = lambda day: load_job("conf/scores.yaml", date=day, environ={})  # noqa: E731
    told = maintenance.maintain("conf/scores.yaml", load, maintenance.Asked("local", bytes=1 << 20))
    assert [(one.table, one.files) for one in told.found] == [(f"lake/scores_{OTHER}", 3), (f"lake/scores_{DAY}", 3)]
    assert [len(opened(f"lake/scores_{day}").file_uris()) for day in (DAY, OTHER)] == [1, 1]


def test_rows_that_are_lost_on_the_way_are_noticed_and_nothing_is_committed(daily, models, monkeypatch):
    job = daily(models[0])
    score(job)
    version, batches = opened("lake/scores").version(), delta.batches_of
    monkeypatch.setattr(delta, "batches_of", lambda *given: (batch.slice(1) for batch in batches(*given)))
    told = maintenance.maintain("conf/job.yaml", lambda day: job, maintenance.Asked("local", bytes=1 << 20))
    assert (told.code, told.status) == (1, "failed")
    assert "don't have the rows of those before" in told.message
    assert opened("lake/scores").version() == version


def test_a_commit_whose_reply_is_lost_is_found_in_the_log(daily, models, monkeypatch):
    job, rewrite = daily(models[0]), delta.rewrite
    score(job)

    def lost(*given):
        monkeypatch.setattr(delta, "rewrite", rewrite)
        rewrite(*given)
        raise delta.Conflict("no reply")

    monkeypatch.setattr(delta, "rewrite", lost)
    assert done(maintained(job)) == [(SMALL, 3, None)]
    assert (len(opened("lake/scores").file_uris()), scores()) == (1, [1.0 * i for i in range(6)])


def put(part, runs, ids, table="lake/scores", **columns):
    """A file of a table as runs write it, with rows of these runs."""
    rows = {"id": ids, "part": [part] * len(ids), **columns, "_job": ["scores"] * len(ids), "_run_id": runs}
    write(
        table, pa.table({name: pa.array(v, pa.string()) if name == "part" else v for name, v in rows.items()}), ["part"]
    )


def compacted(table="lake/scores", run="00000000-0000-4000-8000-000000000001"):
    plan = Compaction(1 << 20, lambda: nullcontext(run), ("id",))
    return upkeep.compact(DeltaSink(type="delta", table=table), plan)


def rows_of(table="lake/scores"):
    return sorted((row["id"], row["part"], row["_run_id"]) for row in read(table).to_pylist())


def test_files_with_rows_of_several_runs_are_merged_slice_by_slice(workspace):
    for number, part in enumerate(("a", "b", "a", "c")):
        put(part, ["r1", "r2"], [2 * number, 2 * number + 1])
    before = rows_of()
    assert compacted().files == 2
    assert rows_of() == before
    assert len(opened("lake/scores").file_uris()) == 3


def test_a_lot_is_committed_before_the_next_one_is_merged(workspace, monkeypatch):
    monkeypatch.setattr(upkeep, "_LOT", 1)
    for number, part in enumerate(("a", "b", "a", "b")):
        put(part, ["r1"], [number])
    before, version = rows_of(), opened("lake/scores").version()
    assert compacted().files == 4
    assert (rows_of(), opened("lake/scores").version()) == (before, version + 2)
    assert len(opened("lake/scores").file_uris()) == 2


def test_slices_of_null_are_merged_and_those_that_may_be_of_an_empty_text_are_left(workspace):
    for number in range(2):
        put(None, ["r1"], [number])
        put("x", ["r1"], [number + 2])
    before = rows_of()
    assert compacted().files == 4
    assert rows_of() == before
    assert sorted(uri.rsplit("/", 2)[1] for uri in opened("lake/scores").file_uris()) == [
        "part=__HIVE_DEFAULT_PARTITION__", "part=x",
    ]  # fmt: skip
    for number in range(2):
        put(None, ["r1"], [number], "lake/blank")
        put("", ["r1"], [number + 2], "lake/blank")
    assert compacted("lake/blank") == SmallFiles(0, 0)
    assert delta.open_table(locate("lake/blank")).partition_texts("part") == {None, ""}


def test_the_log_goes_on_telling_of_keys_in_wide_tables(workspace):
    wide = {f"c{number}": [0.5] for number in range(40)}
    for number in range(2):
        rows = {**wide, "id": [number], "_job": ["scores"], "_run_id": ["r1"]}
        write("lake/scores", pa.table(rows), configuration={"delta.dataSkippingNumIndexedCols": "-1"})
    assert compacted().files == 2
    [file] = delta.open_table(locate("lake/scores")).files(["id", "_job", "_run_id"])
    assert {name: found[:2] for name, found in file.bounds.items()} == {
        "id": (0, 1), "_job": ("scores", "scores"), "_run_id": ("r1", "r1"),
    }  # fmt: skip


def test_a_table_with_what_nobody_can_honour_is_left_as_it_is(workspace):
    for number in range(2):
        put("a", ["r1"], [number])
    opened("lake/scores").alter.set_table_properties({"delta.setTransactionRetentionDuration": "interval 1 days"})
    version = opened("lake/scores").version()
    found = compacted()
    assert (found.files, "delta.setTransactionRetentionDuration" in str(found.kept)) == (2, True)
    assert opened("lake/scores").version() == version


def test_replaced_files_are_never_kept_for_less_than_the_table_says(workspace):
    for number in range(2):
        write("lake/scores", pa.table({"id": [number]}), mode="overwrite")
    removed = lambda kept_for=None: retaining.removed_files(delta.open_table(locate("lake/scores")), kept_for)  # noqa: E731
    assert [removed(), removed(timedelta(0))] == [{}, {}]  # a week, where it says nothing
    keep_nothing()
    assert [len(removed()), len(removed(timedelta(days=30)))] == [1, 0]


def test_the_quarantine_and_the_comparisons_too(daily, models):
    sections = {
        "checks": {"quarantine": {"max_fraction": 0.9}},
        "model": {"batch_rows": 2, "challengers": [{"uri": models[1], "name": "rival"}]},
    }  # fmt: skip
    write("lake/features", pa.table({"id": pa.array([None] * 6, pa.int64()), "a": [1.0] * 6}))
    job = daily(models[0], **sections)
    score(job)
    found = {one.table: one.files for one in maintained(job).found if one.what == SMALL}
    assert found == {"lake/scores": 3, "lake/scores_challengers": 3, "lake/scores_quarantine": 3}
    assert score(job).status == "unchanged"


@pytest.mark.long
@pytest.mark.parametrize("lake", ["S3"], indirect=True)
def test_in_an_object_storage(daily, models, lake):
    write(f"{lake}/features", pa.table({"id": range(6), "a": [float(i) for i in range(6)]}))
    first = score(daily(models[0], lake=lake))
    job = daily(models[1], lake=lake)
    score(job)
    keep_nothing(f"{lake}/scores")
    before = read(f"{lake}/scores").sort_by("id")
    told = maintained(job)
    assert done(told) == [(SMALL, 3, None), (OUTDATED, 6, None)]
    assert told.notes == [f"{lake}/scores: rolling back to run {first.run_id} is no longer possible"]
    assert read(f"{lake}/scores").sort_by("id").equals(before)
    assert (score(job).status, len(opened(f"{lake}/scores").file_uris())) == ("unchanged", 1)
    opened(naming.state_of(job).join("runs").uri).delete(f"run_id = '{first.run_id}'")
    done_again = reconciling.reconcile(lambda day: daily(models[1], day, lake=lake), dry_run=False)
    assert [one["run_id"] for one in done_again.records] == [first.run_id]


@pytest.fixture
def mapped(spark, daily, models, workspace):
    """The job of a table that only Spark writes, which has done so in three files."""
    place = f"{workspace}/lake/scores"
    score(daily(models[0]))
    spark.sql(f"ALTER TABLE delta.`{place}` SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')")
    score(daily(models[1]), "spark")
    rows = spark.read.format("delta").load(place).repartition(3)
    rows.write.format("delta").mode("overwrite").option("dataChange", "false").save(place)
    return daily(models[1])


@pytest.mark.long
@pytest.mark.slow
def test_a_table_that_only_spark_writes_is_left_to_it(mapped, spark, workspace):
    place = f"{workspace}/lake/scores"
    live = opened(place).file_uris()
    [small] = [one for one in maintained(mapped).found if one.what == SMALL]
    assert (small.files, str(small.kept).startswith("only Spark can merge them (table feature columnMapping")) == (
        len(live),
        True,
    )
    told = maintenance.maintain("conf/job.yaml", lambda day: mapped, maintenance.Asked("spark"))
    assert (told.code, done(told)) == (0, [(SMALL, len(live), None)])
    assert (opened(place).history(1)[0]["operation"], len(opened(place).file_uris())) == ("OPTIMIZE", 1)
    spark.sql(
        f"ALTER TABLE delta.`{place}` SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 days')"
    )
    assert OUTDATED in [one.what for one in maintained(mapped).found]
    found = spark.read.format("delta").load(place).orderBy("id").collect()
    assert [row["p"] for row in found] == [pytest.approx(2.0 * i) for i in range(6)]
    assert score(mapped, "spark").status == "unchanged"


@pytest.mark.long
@pytest.mark.slow
def test_a_file_of_which_single_rows_are_deleted_stays(daily, models, spark, workspace):
    place = f"{workspace}/lake/scores"
    score(daily(models[0]))
    spark.sql(f"ALTER TABLE delta.`{place}` SET TBLPROPERTIES (delta.enableDeletionVectors = true)")
    spark.sql(f"DELETE FROM delta.`{place}` WHERE id = 1")
    assert done(maintained(daily(models[0]))) == [(SMALL, 2, None)]
    assert [row["id"] for row in spark.read.format("delta").load(place).orderBy("id").collect()] == [0, 2, 3, 4, 5]
    assert len(opened("lake/scores").file_uris()) == 2


@pytest.mark.long
@pytest.mark.slow
def test_spark_reads_the_same_rows(daily, models, spark, workspace):
    place = f"{workspace}/lake/scores"
    for uri in models[:2]:
        score(daily(uri))
    before = spark.read.format("delta").load(place).orderBy("id").collect()
    version = opened("lake/scores").version()
    spark.sql(f"ALTER TABLE delta.`{place}` SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    assert [one.what for one in maintained(daily(models[1])).found] == [SMALL]
    assert spark.read.format("delta").load(place).orderBy("id").collect() == before
    feed = (
        spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", version + 1).load(place)
    )
    assert feed.count() == 0
    assert spark.sql(f"DESCRIBE DETAIL delta.`{place}`").first()["numFiles"] == 1
    keep_nothing()
    assert [one.what for one in maintained(daily(models[1])).found] == [OUTDATED]
    assert spark.read.format("delta").load(place).orderBy("id").collect() == before
