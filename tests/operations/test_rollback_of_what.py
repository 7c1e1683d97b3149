"""`lakehouse rollback`: which generation is put back, that it may be repeated, and what it can't put back."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.engines import local
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.operations import maintenance, sweep
from lakehouse.operations import rollback as operation
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import naming
from lakehouse.runs import lease, ledger
from lakehouse.sinks.target import Overtaken
from tests.command import run
from tests.conftest import opened, read, score, write
from tests.operations.conftest import registered
from tests.runs.test_exactly_once import in_the_middle

DAY = "2026-01-02"


@pytest.fixture(scope="module")
def models(register):
    return registered(register, 1, 2, 3, 4)


@pytest.fixture
def daily(make_job, monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 1)
    write("lake/features", pa.table({"id": [1, 2], "a": [1.0, 2.0]}))

    def make(uri, **sections):
        given = {"slice": {"score_date": "{date}"}, "predictions": {"p": 0}, **sections}
        return make_job(uri, date=DAY, **given)

    return make


@pytest.fixture
def twice(daily, models):
    """A day that was scored by two models; the runs."""
    return [score(daily(uri)).run_id for uri in models[:2]]


def back(job, to=None):
    return operation.rollback(job, Request("local", ledger.now(), new_run_id()), to)


def rows(column="p"):
    return [r[column] for r in read("lake/scores").sort_by("_scored_at").to_pylist()]


def times(factor):
    return pytest.approx([factor * 1.0, factor * 2.0])


def waiting(job):
    return ledger.runs_with_intents(naming.state_of(job))


def forget(job, run_id):
    opened(naming.state_of(job).join("runs").path).delete(f"run_id = '{run_id}'")


# Repeated, and at once


def test_said_once_more_it_changes_nothing(daily, models, twice):
    job = daily(models[1])
    done = back(job)
    version = opened("lake/scores").version()
    again = back(job)
    assert (again.status, opened("lake/scores").version(), rows()) == ("unchanged", version, times(1))
    told = f"run {twice[0]} is what is live in score_date={DAY} already: nothing was changed; run {done.run_id} has put it "
    assert again.message == f"{told}back, --run {twice[1]} undoes that"
    assert back(job, twice[1]).status == "published"
    assert (back(job).status, rows()) == ("unchanged", times(2))


@pytest.mark.parametrize("step", ["save_intent", "record", "remove_intent"])
def test_one_that_was_killed_at_any_step_and_is_repeated_is_not_undone(daily, models, twice, monkeypatch, step):
    job = daily(models[1])
    for late in (False, True):
        with monkeypatch.context() as patched:
            in_the_middle(patched, ledger, step, sys.exit, late)
            with pytest.raises(SystemExit):
                back(job, twice[0] if late else None)
        assert back(job, twice[0] if late else None).status in ("published", "unchanged")
        assert (rows(), waiting(job)) == (times(1), set())
        back(job, twice[1])


@pytest.mark.parametrize(
    "point", [(operation, "_standing"), (ledger, "save_intent")], ids=["planned", "about to commit"]
)
def test_of_two_at_once_the_later_one_is_refused(daily, models, twice, monkeypatch, point):
    job = daily(models[1])
    in_the_middle(monkeypatch, *point, lambda: back(job))
    if point[1] == "_standing":
        assert back(job).status == "unchanged"
    else:
        with pytest.raises(Overtaken, match="another run published generation 3"):
            back(job)
    assert (rows(), waiting(job)) == (times(1), set())
    assert score(daily(models[2])).status == "published"


def test_what_another_run_has_published_since_it_began_is_not_rolled_back(daily, models, twice, monkeypatch):
    job = daily(models[1])
    in_the_middle(monkeypatch, operation, "finish_earlier", lambda: score(daily(models[2])), late=True)
    with pytest.raises(Overtaken, match="another run published generation 3"):
        back(job)
    assert (rows(), waiting(job)) == (times(3), set())


def test_what_somebody_has_restored_by_hand_is_not_put_back_again(daily, models, twice):
    job = daily(models[1])
    opened("lake/scores").restore(1)
    version = opened("lake/scores").version()
    assert (back(job).status, back(job, twice[0]).status) == ("unchanged", "unchanged")
    assert (opened("lake/scores").version(), waiting(job)) == (version, set())
    assert back(job, twice[1]).status == "published"
    assert rows() == times(2)
    assert score(daily(models[2])).status == "published"


ONE = {"model": {"batch_rows": 1}}
"""A file a row, once `TARGET_BYTES` is as small."""


def test_what_somebody_has_restored_in_part_is_put_back_whole(daily, models, monkeypatch):
    monkeypatch.setattr("lakehouse.scoring.files.TARGET_BYTES", 1)
    first = score(daily(models[0], **ONE)).run_id
    score(daily(models[1], **ONE))
    opened("lake/scores").restore(1)
    opened("lake/scores").delete("id = 1")
    write("lake/scores", read("lake/scores"), ["score_date"])  # one of its files, and one of somebody's
    done = back(daily(models[1]), first)
    assert (done.status, rows()) == ("published", times(1))
    version = opened("lake/scores").version()
    commit = map(json.loads, Path(f"lake/scores/_delta_log/{version:020d}.json").read_text().splitlines())
    kinds = sorted(kind for action in commit for kind in action if kind in ("add", "remove"))
    assert kinds == ["add", "remove"]  # the third file has stayed where it is
    assert score(daily(models[0], **ONE)).status == "unchanged"


def test_merged_files_hold_the_same_rows(daily, models, monkeypatch):
    monkeypatch.setattr("lakehouse.scoring.files.TARGET_BYTES", 1)
    score(daily(models[0], **ONE))
    score(daily(models[1], **ONE))
    job = daily(models[1], **ONE)
    back(job)
    assert opened("lake/scores").optimize.compact()["numFilesRemoved"] == 2
    assert (back(job).status, rows()) == ("unchanged", times(1))


# Which generation


def test_it_goes_by_generation_whatever_the_clocks_say(daily, models, twice, monkeypatch):
    real = ledger.now
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "now", lambda: real() - timedelta(hours=2))
        score(daily(models[2]))
    score(daily(models[3]))
    back(daily(models[3]))
    assert rows() == times(3)


def test_a_generation_without_a_record_is_not_passed_over(daily, models, twice):
    score(daily(models[2]))
    job = daily(models[2])
    forget(job, twice[1])
    with pytest.raises(ConfigError, match=f"generation 2 of score_date={DAY} has no record .*reconcile"):
        back(job)
    assert (rows(), waiting(job)) == (times(3), set())
    assert back(job, twice[0]).status == "published"


def test_a_run_from_before_the_table_was_made_anew_is_refused(daily, models, twice):
    shutil.rmtree("lake/scores")
    runs = [score(daily(uri)).run_id for uri in models[2:]]
    job = daily(models[3])
    with pytest.raises(ConfigError, match=f"knows nothing of run {twice[1]}: the table was made anew"):
        back(job, twice[1])
    assert f"run {runs[0]} again, instead of run {runs[1]}" in back(job).message
    assert rows() == times(3)


# What can't be put back


def rewritten(change):
    write("lake/scores", change(read("lake/scores")), ["score_date"], mode="overwrite", schema_mode="overwrite")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.rename_columns(["ident" if c == "id" else c for c in t.column_names]), "id is not there any more"),
        (lambda t: t.set_column(1, "p", t["p"].cast(pa.float32())), "p was double and is float"),
        (lambda t: t.set_column(0, "id", t["id"].cast(pa.string())), "id was int64 and is string"),
        (lambda t: t.drop_columns(["_model_name"]), "_model_name is not there any more"),
    ],
    ids=["renamed", "retyped", "retyped key", "dropped"],
)
def test_files_that_the_tables_columns_would_misread_are_refused(daily, models, twice, change, said):
    rewritten(change)
    version, job = opened("lake/scores").version(), daily(models[1])
    with pytest.raises(ConfigError, match=rf"columns are others than at version 1 \({said}\).*score the date again"):
        back(job)
    assert (opened("lake/scores").version(), waiting(job)) == (version, set())


def test_a_column_that_was_added_is_null_in_former_rows(daily, models, twice):
    more = read("lake/scores").slice(0, 0).append_column("extra", pa.array([], pa.int64()))
    write("lake/scores", more, ["score_date"], schema_mode="merge")
    assert back(daily(models[1])).status == "published"
    assert (rows(), rows("extra")) == (times(1), [None, None])


def test_a_version_that_the_log_has_dropped_is_named(daily, models, twice):
    score(daily(models[2]))
    opened("lake/scores").create_checkpoint()
    for file in sorted(Path("lake/scores/_delta_log").glob("*.json"))[:-1]:
        file.unlink()
    job = daily(models[2])
    with pytest.raises(ConfigError, match=r"its log can't give version 2 any more: .*delta.logRetentionDuration"):
        back(job)
    assert (rows(), waiting(job)) == (times(3), set())


# Beside whoever takes files away


@pytest.fixture
def forgotten(daily, models, twice):
    """The first run's file is unknown to the log, which keeps removed files no longer; the job."""
    opened("lake/scores").alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 days"})
    opened("lake/scores").create_checkpoint()
    job = daily(models[1])
    assert [one.files for one in sweep.sweep(job, take_away=False) if one.run_id == twice[0]] == [1]
    return job


def test_a_sweep_keeps_what_a_rollback_in_progress_puts_back(forgotten, twice, monkeypatch):
    swept = in_the_middle(monkeypatch, operation, "_rollback", lambda: sweep.sweep(forgotten, take_away=True))
    assert back(forgotten).status == "published"
    assert [one.kept.partition(" is ")[2] for one in swept[0] if one.run_id == twice[0]] == [
        "about to put former files back"
    ]
    assert rows() == times(1)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", [(sweep, "_agree"), (maintenance, "_needed")], ids=["sweep", "maintain"])
def test_a_rollback_that_begins_while_files_go_is_refused(forgotten, monkeypatch, at, late):
    def tried():
        with pytest.raises(
            Unavailable, match=r"files are being taken away .in progress on .*roll back when that has ended"
        ):
            back(forgotten)

    in_the_middle(monkeypatch, *at, tried, late)
    if at[0] is sweep:
        sweep.sweep(forgotten, take_away=True)
    else:
        place = naming.state_of(forgotten)
        maintenance._take_away(forgotten.sinks[0], ["none.parquet"], place, maintenance.Asked("local"))
    assert (rows(), lease.sweeps(sweep.locate("lake/scores"))) == (times(2), [])
    assert list(Path("lake/scores").glob("run-sweep*")) == []


# Told


def test_runs_and_quarantine_tell_whose_scores_are_live_again(daily, models, capfd):
    loose = {"checks": {"quarantine": {"max_fraction": 0.5}}}
    write("lake/features", pa.table({"id": [1, 2, None], "a": [1.0, 2.0, 3.0]}), mode="overwrite")
    first = score(daily(models[0], **loose)).run_id
    write("lake/features", pa.table({"id": [1, 2], "a": [1.0, 2.0]}), mode="overwrite")
    score(daily(models[1], **loose))
    none = run(capfd, "quarantine", "conf/scores.yaml")
    assert "no rows are in quarantine" in none.out
    back(daily(models[1], **loose))
    assert first in run(capfd, "quarantine", "conf/scores.yaml").out
    assert f"published, {first[:8]} again" in run(capfd, "runs", "conf/scores.yaml").out
    again = run(capfd, "rollback", "conf/scores.yaml", "--date", DAY, "--engine", "local")
    assert (again.code, again.out.startswith("UNCHANGED")) == (0, True)
    assert f"run {first} is what is live in score_date={DAY} already" in again.out
