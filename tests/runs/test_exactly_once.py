"""Exactly once: what a rerun publishes, what it leaves alone, and what it refuses to write over."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, Schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow.fs import FileSelector
from sklearn.linear_model import LogisticRegression

from lakehouse import checks, pipeline
from lakehouse.config import Job
from lakehouse.connectors import delta
from lakehouse.engines import local
from lakehouse.engines import spark as engine
from lakehouse.errors import Blocked, ConfigError, NotReady, Partial, Unavailable
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.sinks import delta as sink
from lakehouse.sinks.target import Overtaken, StagedFilesMissing
from lakehouse.storage import locate
from tests.conftest import opened, read, score, version, write
from tests.tables import assert_tables_equal

DAY, NEXT = "2026-01-02", "2026-01-03"
IDENTITY = f"scores/score_date={DAY}"
_X = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
MODEL = LogisticRegression().fit(_X, (_X["a"] > 2).astype(int))


def features(day: str, rows: int = 40, start: int = 0, shift: float = 0.0, keyless: int = 0) -> pa.Table:
    """Feature rows of one day; the last `keyless` of them have no key."""
    ids = np.arange(start, start + rows)
    return pa.table({
        "id": pa.array(ids, mask=np.arange(rows) >= rows - keyless), "country": ["DE", "FR"] * (rows // 2),
        "a": ids % 40 * 0.1 + shift, "b": np.cos(ids), "day": pa.array([day] * rows),
    })  # fmt: skip


def change(day: str, rows: pa.Table) -> None:
    """Replace a day's rows of the feature table."""
    write("lake/features", rows, ["day"], mode="overwrite", predicate=f"day = '{day}'")


def files(table: str, day: str | None = None) -> set[str]:
    """The live files of a table, or of one of its slices."""
    inside = [("score_date", "=", day)] if day else None
    return set(opened(table).file_uris(file_pruning_predicate=inside))


def staged(table: str) -> set[Path]:
    """All data files below a table's folder, committed or not."""
    return set(Path(table).rglob("*.parquet"))


def publishes(table: str) -> list[dict[str, Any]]:
    """What the table's publishing commits say of themselves, newest first."""
    said = [{**json.loads(c.get("userMetadata") or "{}"), "version": c["version"]} for c in opened(table).history()]
    return [commit for commit in said if "lakehouse_run" in commit]


def holds(table: str, *parts: pa.Table) -> None:
    """Assert that a scored table has exactly these features' rows with a key, scored as the model itself does."""
    rows, wanted = read(table), pa.concat_tables(parts).filter(pc.field("id").is_valid()).sort_by("id")
    scores = MODEL.predict_proba(wanted.select(["a", "b"]).to_pandas())[:, 1]
    expected = pa.table({"id": wanted["id"], "p": scores})
    if "score_date" in rows.column_names:
        expected = expected.append_column("score_date", wanted["day"].cast(pa.date32()))
    assert_tables_equal(rows.select(expected.column_names), expected, float64=1e-12)


def runs_in(table: str, day: str | None = None) -> set[str]:
    """The runs whose rows live in a table, or in one of its slices."""
    rows = read(table).to_pylist()
    return {r["_run_id"] for r in rows if day is None or str(r["score_date"]) == day}


def unfinished(job: Job) -> int:
    """The job's intents that wait to be carried out."""
    intents = naming.state_of(job).join("intents")
    selector = FileSelector(intents.path, allow_not_found=True, recursive=True)
    return sum(info.path.endswith(".json") for info in intents.filesystem().get_file_info(selector))


def in_the_middle(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, act: Callable[[], Any], late: bool = False
) -> list[Any]:
    """Make the first call of a function do something else too, before it or after; what that returned."""
    original, done = getattr(module, name), []

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(module, name, original)
        if late:
            result = original(*args, **kwargs)
            done.append(act())
            return result
        done.append(act())
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, wrapper)
    return done


def commit_otherwise(monkeypatch: pytest.MonkeyPatch, **otherwise: Any) -> None:
    """Make the next commit with other arguments, as a library that takes them wrongly would."""
    commit = delta.commit

    def once(*args: Any, **kwargs: Any) -> int:
        monkeypatch.setattr(delta, "commit", commit)
        return commit(*args, **{**kwargs, **otherwise})

    monkeypatch.setattr(delta, "commit", once)


@pytest.fixture(autouse=True)
def _one_share(monkeypatch):
    """All of the work in one share, which this process does itself."""
    monkeypatch.setattr(local, "cores", lambda: 1)


@pytest.fixture(scope="module")
def uri(register):
    return register(MODEL, _X)


@pytest.fixture
def daily(make_job, uri):
    def make(day=DAY, uri=uri, where="day = '{date}'", **more):
        sections = {
            "source": {"where": where}, "model": {"method": "predict_proba"}, "keep": ["country"],
            "predictions": {"p": {"class": 1}}, "slice": {"score_date": "{date}"}, **more,
        }  # fmt: skip
        for name in ("source", "model"):
            sections[name] = {"where": where, "method": "predict_proba", **sections[name]}
            sections[name].pop("method" if name == "source" else "where")
        return make_job(uri, date=day, **sections)

    return make


@pytest.fixture
def appending(make_job, uri):
    def make(day=DAY, **more):
        return make_job(
            uri, date=day, source={"where": "day = '{date}'"}, model={"method": "predict_proba", **more},
            predictions={"p": {"class": 1}}, sinks=[{"type": "delta", "table": "lake/scores", "write": "append"}],
        )  # fmt: skip

    return make


# Unchanged, or published again


def test_a_second_run_with_the_same_input_stages_and_commits_nothing(daily):
    write("lake/features", features(DAY), ["day"])
    first = score(daily())
    before = version("lake/scores"), files("lake/scores"), staged("lake/scores")
    second = score(daily())
    assert (first.status, second.status) == ("published", "unchanged")
    assert (version("lake/scores"), files("lake/scores"), staged("lake/scores")) == before
    assert second.sinks[0]["version"] == before[0]


@pytest.mark.parametrize("partition_by", [["day"], []], ids=["partitioned", "not partitioned"])
def test_rows_appended_to_another_date_change_nothing_for_this_one(daily, partition_by):
    write("lake/features", features(DAY), partition_by)
    score(daily())
    before = version("lake/scores")
    write("lake/features", features(NEXT, start=100), partition_by)
    assert score(daily()).status == "unchanged"
    assert version("lake/scores") == before


def test_a_changed_feature_row_replaces_the_slice_as_generation_2(daily):
    write("lake/features", features(DAY), ["day"])
    score(daily())
    changed = features(DAY, rows=38, shift=0.5)
    change(DAY, changed)
    result = score(daily())
    newest, table = publishes("lake/scores")[0], DeltaTable("lake/scores")
    assert (result.status, newest["generation"], newest["lakehouse_run"]) == ("published", 2, result.run_id)
    assert table.transaction_version(IDENTITY) == 2
    assert table.transaction_version(f"{IDENTITY}/{newest['fingerprint']}") == 2
    holds("lake/scores", changed)
    assert runs_in("lake/scores") == {result.run_id}


def test_replacing_a_slice_leaves_other_slices_rows_and_files_alone(daily):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    score(daily())
    other = score(daily(NEXT))
    before = files("lake/scores", NEXT)
    changed = features(DAY, shift=0.5)
    change(DAY, changed)
    score(daily())
    assert files("lake/scores", NEXT) == before
    assert runs_in("lake/scores", NEXT) == {other.run_id}
    holds("lake/scores", changed, features(NEXT, start=100))


def test_an_older_date_is_published_after_a_newer_one(daily):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    assert score(daily(NEXT)).status == "published"
    assert score(daily(DAY)).status == "published"
    holds("lake/scores", features(DAY), features(NEXT, start=100))


def test_input_that_returns_to_what_it_was_is_published_a_third_time(daily):
    write("lake/features", features(DAY), ["day"])
    score(daily())
    first = version("lake/features")
    change(DAY, features(DAY, shift=0.5))
    score(daily())
    DeltaTable("lake/features").restore(first)
    assert score(daily()).status == "published"
    assert publishes("lake/scores")[0]["generation"] == 3
    holds("lake/scores", features(DAY))
    assert score(daily()).status == "unchanged"


_BUYS = {"p": {"class": 1}, "buys": {"class": 1, "threshold": 0.5}}
_FIRST = {"p": {"output": 0, "threshold": 0.5}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"predictions": _BUYS}, {"predictions": {**_BUYS, "buys": {"class": 1, "threshold": 0.9}}}),
        ({"keep": ["country", "a"]}, {"keep": ["a", "country"]}),
        ({"predictions": _FIRST, "model": {"method": "predict"}}, {"predictions": _FIRST}),
        ({}, {"features": {"nulls": "quarantine"}}),
        ({}, {"checks": {"quarantine": {"max_fraction": 0.5}}}),
    ],
    ids=["threshold", "keep", "method", "nulls", "max_fraction"],
)
def test_a_setting_that_can_change_a_score_or_a_verdict_publishes_again(daily, before, after):
    write("lake/features", features(DAY), ["day"])
    assert score(daily(**before)).status == "published"
    assert score(daily(**before)).status == "unchanged"
    result = score(daily(**after))
    assert (result.status, runs_in("lake/scores")) == ("published", {result.run_id})


@pytest.mark.parametrize(
    "after",
    [
        {"model": {"batch_rows": 7}},
        {"model": {"trust": ["pickle"]}},
        {"state": "lake/elsewhere"},
        {"source": {"min_rows": 40}},
        {"sinks": [{"type": "delta", "table": "lake/../lake/scores"}]},
    ],
    ids=["batch_rows", "trust", "state", "min_rows", "spelling of the table"],
)
def test_a_setting_that_cannot_change_a_score_leaves_the_table_alone(daily, after):
    write("lake/features", features(DAY), ["day"])
    score(daily())
    before = version("lake/scores")
    assert score(daily(**after)).status == "unchanged"
    assert version("lake/scores") == before


def test_another_kept_column_is_added_in_a_commit_of_its_own(daily):
    write("lake/features", features(DAY), ["day"])
    write("lake/features", features(NEXT, start=100), ["day"])
    score(daily())
    score(daily(NEXT))
    assert score(daily(keep=["country", "a"])).status == "published"
    assert [c["operation"] for c in DeltaTable("lake/scores").history(2)] == ["WRITE", "ADD COLUMN"]
    (added,) = (f for f in DeltaTable("lake/scores").schema().fields if f.name == "a")
    assert added.metadata == {"comment": "Column of lake/features"}
    rows = read("lake/scores").select(["id", "a", "score_date"]).sort_by("id")
    assert rows["a"].to_pylist() == [*features(DAY)["a"].to_pylist(), *[None] * 40]


def test_a_column_less_is_refused_both_schemas_side_by_side_and_the_table_stays(daily):
    write("lake/features", features(DAY), ["day"])
    score(daily())
    before = version("lake/scores")
    with pytest.raises(ConfigError, match=r"another schema(.|\n)*\n  ! country +string +-\n    p +double +double\n"):
        score(daily(keep=[]))
    assert version("lake/scores") == before


def test_a_new_model_version_under_the_alias_is_published_in_every_row(daily, register):
    moving = register(MODEL, _X, name="moving")
    write("lake/features", features(DAY), ["day"])
    score(daily(uri=moving))
    assert set(read("lake/scores")["_model_version"].to_pylist()) == {"1"}
    register(MODEL, _X, name="moving")
    assert score(daily(uri=moving)).status == "published"
    assert read("lake/scores")["_model_version"].to_pylist() == ["2"] * 40
    assert score(daily(uri=moving)).status == "unchanged"


def test_a_whole_table_is_replaced_where_the_job_has_no_slice(daily):
    write("lake/features", features(DAY), ["day"])
    assert score(daily(slice={})).status == "published"
    changed = features(DAY, rows=30, shift=0.5)
    change(DAY, changed)
    result = score(daily(slice={}))
    assert (result.status, publishes("lake/scores")[0]["generation"]) == ("published", 2)
    holds("lake/scores", changed)
    assert score(daily(slice={})).status == "unchanged"
    assert runs_in("lake/scores") == {result.run_id}


def test_a_publish_leaves_the_tables_schema_as_it_is(daily):
    """With what Arrow's schemas don't hold: comments, and in the log NOT NULL."""
    write("lake/features", features(DAY), ["day"])
    score(daily(sinks=[{"type": "delta", "table": "lake/like"}]))
    like = json.loads(DeltaTable("lake/like").schema().to_json())
    for field in like["fields"][:3]:
        field |= {"nullable": False, "metadata": {"comment": f"{field['name']} as a person says"}}
    DeltaTable.create("lake/scores", Schema.from_json(json.dumps(like)), partition_by=["score_date"])
    score(daily())
    score(daily(), rescore=True)
    assert (version("lake/scores"), json.loads(DeltaTable("lake/scores").schema().to_json())) == (2, like)


# What people and other jobs did to the table


@pytest.mark.parametrize("predicate", ["id < 3", None], ids=["some rows", "all rows"])
def test_rows_that_a_person_deleted_are_not_put_back_unasked(daily, predicate):
    write("lake/features", features(DAY), ["day"])
    score(daily())
    DeltaTable("lake/scores").delete(predicate)
    deleted = version("lake/scores")
    with pytest.raises(Blocked, match=rf"commit {deleted} \(DELETE\)(.|\n)*--rescore") as raised:
        score(daily())
    assert (raised.value.exit_code, version("lake/scores")) == (3, deleted)
    assert score(daily(), rescore=True).status == "published"
    holds("lake/scores", features(DAY))
    assert publishes("lake/scores")[0]["generation"] == 2
    assert score(daily()).status == "unchanged"


def test_scores_that_a_person_edited_are_not_taken_for_the_published_ones(daily):
    write("lake/features", features(DAY), ["day"])
    score(daily())
    DeltaTable("lake/scores").update(updates={"p": "0.5"}, predicate="id < 3")
    edited = version("lake/scores")
    with pytest.raises(Blocked, match=rf"commit {edited} \(UPDATE\)(.|\n)*--rescore"):
        score(daily())
    assert score(daily(), rescore=True).status == "published"
    holds("lake/scores", features(DAY))
    assert score(daily()).status == "unchanged"


def test_when_no_row_can_be_scored_all_are_kept_and_nothing_is_published(daily):
    nobody = features(DAY).set_column(0, "id", pa.nulls(40, pa.int64()))
    write("lake/features", nobody, ["day"])
    with pytest.raises(Blocked, match="not one could be scored"):
        score(daily(checks={"quarantine": {"max_fraction": 1.0}}))
    assert (version("lake/scores"), read("lake/scores_quarantine").num_rows) == (-1, 40)


def test_targets_that_share_a_state_folder_keep_their_intents_apart(daily, monkeypatch):
    write("lake/features", features(DAY), ["day"])
    test = daily(state="lake/state")
    production = daily(state="lake/state", sinks=[{"type": "delta", "table": "lake/production"}])
    with monkeypatch.context() as patch:
        patch.setattr(sink, "publish", lambda *_: (_ for _ in ()).throw(Unavailable("down")))
        with pytest.raises(Unavailable):
            score(test)
    score(production)
    assert (version("lake/scores"), unfinished(test)) == (0, 1)
    assert score(test).status == "published"


def test_an_earlier_version_that_a_person_restored_is_not_replaced_unasked(daily):
    write("lake/features", features(DAY), ["day"])
    score(daily())
    first = version("lake/scores")
    changed = features(DAY, shift=0.5)
    change(DAY, changed)
    score(daily())
    DeltaTable("lake/scores").restore(first)
    restored = version("lake/scores")
    with pytest.raises(Blocked, match=rf"commit {restored} \(RESTORE\)(.|\n)*--rescore"):
        score(daily())
    holds("lake/scores", features(DAY))
    result = score(daily(), rescore=True)
    holds("lake/scores", changed)
    assert (publishes("lake/scores")[0]["generation"], runs_in("lake/scores")) == (3, {result.run_id})


def test_a_restore_that_undoes_a_delete_makes_the_slice_unchanged_again(daily):
    write("lake/features", features(DAY), ["day"])
    score(daily())
    good = version("lake/scores")
    DeltaTable("lake/scores").delete("id < 3")
    DeltaTable("lake/scores").restore(good)
    assert score(daily()).status == "unchanged"


def test_a_delete_in_another_slice_is_no_concern_of_this_one(daily):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    score(daily())
    score(daily(NEXT))
    DeltaTable("lake/scores").delete("id >= 100")
    assert score(daily()).status == "unchanged"
    with pytest.raises(Blocked, match="DELETE"):
        score(daily(NEXT))


@pytest.mark.long
def test_the_persons_commit_is_named_however_many_runs_came_after_it(daily):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    score(daily())
    DeltaTable("lake/scores").delete("id < 3")
    deleted = version("lake/scores")
    for _ in range(21):
        score(daily(NEXT), rescore=True)
    with pytest.raises(Blocked, match=rf"commit {deleted} \(DELETE\)"):
        score(daily())


def test_optimize_leaves_a_slice_unchanged(daily, monkeypatch):
    monkeypatch.setattr(
        "lakehouse.scoring.files.TARGET_BYTES", 1
    )  # a file a batch, so that there is something to merge
    write("lake/features", features(DAY), ["day"])
    score(daily(model={"batch_rows": 10}))
    assert len(files("lake/scores")) == 4
    DeltaTable("lake/scores").optimize.compact()
    merged = version("lake/scores")
    assert len(files("lake/scores")) == 1
    assert score(daily()).status == "unchanged"
    assert version("lake/scores") == merged
    DeltaTable("lake/scores").delete("id < 3")
    with pytest.raises(Blocked, match="DELETE"):
        score(daily())


def test_what_was_published_is_known_after_the_log_was_cleaned_up(daily):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    score(daily())
    score(daily(NEXT))
    DeltaTable("lake/scores").create_checkpoint()
    for commit in Path("lake/scores/_delta_log").glob("*.json"):
        if int(commit.stem) < version("lake/scores"):
            commit.unlink()
    assert score(daily()).status == "unchanged"
    change(DAY, features(DAY, shift=0.5))
    assert score(daily()).status == "published"
    assert publishes("lake/scores")[0]["generation"] == 2
    holds("lake/scores", features(DAY, shift=0.5), features(NEXT, start=100))


@pytest.mark.parametrize("rescore", [False, True])
def test_a_slice_that_holds_another_jobs_rows_is_refused(daily, rescore):
    write("lake/features", features(DAY), ["day"])
    score(daily())
    before = version("lake/scores")
    with pytest.raises(Blocked, match=rf"score_date={DAY} holds rows of another job \(scores\)"):
        score(daily(job="other"), rescore=rescore)
    assert version("lake/scores") == before


def test_two_jobs_can_share_a_table_by_slices(daily):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    score(daily())
    other = score(daily(NEXT, job="other"))
    assert (other.status, runs_in("lake/scores", NEXT)) == ("published", {other.run_id})
    holds("lake/scores", features(DAY), features(NEXT, start=100))
    assert (score(daily()).status, score(daily(NEXT, job="other")).status) == ("unchanged", "unchanged")


# Append


def test_append_adds_each_date_once(appending):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    assert score(appending(NEXT)).status == "published"
    assert score(appending(DAY)).status == "published"
    before = version("lake/scores")
    assert (score(appending(DAY)).status, score(appending(NEXT)).status) == ("unchanged", "unchanged")
    assert version("lake/scores") == before
    holds("lake/scores", features(DAY), features(NEXT, start=100))


def test_append_of_changed_input_needs_rescore_and_replaces_that_date_in_one_commit(appending):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    score(appending(DAY))
    mine = files("lake/scores")
    score(appending(NEXT))
    others = files("lake/scores") - mine
    changed = features(DAY, rows=38, shift=0.5)
    change(DAY, changed)
    before = version("lake/scores")
    with pytest.raises(Blocked, match="--rescore"):
        score(appending(DAY))
    assert version("lake/scores") == before
    result = score(appending(DAY), rescore=True)
    assert (result.status, version("lake/scores")) == ("published", before + 1)
    assert others < files("lake/scores")
    assert not mine & files("lake/scores")
    holds("lake/scores", changed, features(NEXT, start=100))
    assert (score(appending(DAY)).status, score(appending(NEXT)).status) == ("unchanged", "unchanged")


def test_rescoring_an_append_is_refused_once_optimize_has_merged_its_files(appending):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    score(appending(DAY))
    score(appending(NEXT))
    DeltaTable("lake/scores").optimize.compact()
    merged = version("lake/scores")
    assert len(files("lake/scores")) == 1
    with pytest.raises(Blocked, match="OPTIMIZE"):
        score(appending(DAY), rescore=True)
    assert version("lake/scores") == merged
    holds("lake/scores", features(DAY), features(NEXT, start=100))


def test_a_refused_rescore_does_not_stand_in_the_way_of_later_runs(appending):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    score(appending(DAY))
    score(appending(NEXT))
    DeltaTable("lake/scores").optimize.compact()
    with pytest.raises(Blocked, match="OPTIMIZE"):
        score(appending(DAY), rescore=True)
    assert unfinished(appending(DAY)) == 0
    assert score(appending(DAY)).status == "unchanged"


def test_rows_deleted_by_hand_as_the_refusal_says_can_be_appended_again(appending):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    score(appending(DAY))
    score(appending(NEXT))
    DeltaTable("lake/scores").optimize.compact()
    DeltaTable("lake/scores").delete("id < 100")
    with pytest.raises(Blocked, match="DELETE"):
        score(appending(DAY))
    assert score(appending(DAY), rescore=True).status == "published"
    holds("lake/scores", features(DAY), features(NEXT, start=100))


def test_rescoring_an_append_that_a_person_restored_leaves_no_row_twice(appending):
    write("lake/features", features(DAY), ["day"])
    score(appending())
    first = version("lake/scores")
    changed = features(DAY, shift=0.5)
    change(DAY, changed)
    score(appending(), rescore=True)
    DeltaTable("lake/scores").restore(first)
    result = score(appending(), rescore=True)
    assert runs_in("lake/scores") == {result.run_id}
    holds("lake/scores", changed)


# Publishing is compare-and-swap


@pytest.mark.parametrize("there", [False, True], ids=["no table yet", "table there"])
@pytest.mark.parametrize("point", [(checks, "tally"), (checks, "judge"), (ledger, "save_intent"), (delta, "commit")],
                         ids=lambda p: p[1])  # fmt: skip
@pytest.mark.quick("tally-no table yet", "commit-table there")
def test_a_run_that_another_one_overtook_publishes_nothing(daily, monkeypatch, point, there):
    write("lake/features", features(DAY), ["day"])
    if there:
        score(daily())
        change(DAY, features(DAY, shift=0.25))
    changed = features(DAY, shift=0.5)

    def overtake() -> pipeline.Result:
        change(DAY, changed)
        # Another state folder: else this run would first carry out the intent of the one it overtakes.
        return score(daily(state="lake/elsewhere"))

    winner = in_the_middle(monkeypatch, *point, overtake)
    with pytest.raises(Unavailable, match="another run published generation") as raised:
        score(daily())
    assert (type(raised.value), raised.value.exit_code) == (Overtaken, 5)
    assert winner[0].status == "published"
    assert runs_in("lake/scores") == {winner[0].run_id}
    holds("lake/scores", changed)
    assert [c["generation"] for c in publishes("lake/scores")] == ([2, 1] if there else [1])
    assert (unfinished(daily()), score(daily()).status) == (0, "unchanged")


@pytest.mark.parametrize("point", [(ledger, "save_intent"), (delta, "commit")], ids=lambda p: p[1])
def test_a_run_that_another_one_finishes_for_it_is_published_once(daily, monkeypatch, point):
    write("lake/features", features(DAY, keyless=4), ["day"])
    job = daily(checks={"quarantine": {"max_fraction": 0.2}})
    helper = in_the_middle(monkeypatch, *point, lambda: score(job), late=point[1] == "save_intent")
    result = score(job)
    assert (result.status, helper[0].run_id) == ("published", result.run_id)
    assert [c["lakehouse_run"] for c in publishes("lake/scores")] == [result.run_id]
    holds("lake/scores", features(DAY, keyless=4))
    assert read("lake/scores_quarantine").num_rows == 4
    assert [r["run_id"] for r in ledger.runs(naming.state_of(job), "scores")] == [result.run_id]


def test_two_first_runs_create_the_table_once(daily, monkeypatch):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    other = in_the_middle(monkeypatch, delta, "create_table", lambda: score(daily(NEXT)))
    assert (score(daily()).status, other[0].status) == ("published", "published")
    holds("lake/scores", features(DAY), features(NEXT, start=100))
    created = [c["version"] for c in DeltaTable("lake/scores").history() if c["operation"] == "CREATE TABLE"]
    assert created == [0]


def test_a_commit_to_another_slice_meanwhile_is_survived(daily, monkeypatch):
    write("lake/features", pa.concat_tables([features(DAY), features(NEXT, start=100)]), ["day"])
    score(daily())
    changed = features(DAY, shift=0.5)
    change(DAY, changed)
    other = in_the_middle(monkeypatch, delta, "commit", lambda: score(daily(NEXT)))
    result = score(daily())
    assert (result.status, other[0].status) == ("published", "published")
    assert [c["lakehouse_run"] for c in publishes("lake/scores")][:2] == [result.run_id, other[0].run_id]
    holds("lake/scores", changed, features(NEXT, start=100))


def test_rows_that_another_job_published_meanwhile_are_not_written_over(daily, monkeypatch):
    write("lake/features", features(DAY), ["day"])
    other = in_the_middle(monkeypatch, delta, "commit", lambda: score(daily(job="other", state="lake/elsewhere")))
    with pytest.raises(Blocked, match=r"another job \(other\)"):
        score(daily())
    assert runs_in("lake/scores") == {other[0].run_id}
    assert unfinished(daily()) == 0


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [Path.unlink, _truncate], ids=["missing", "truncated"])
@pytest.mark.parametrize("table", ["lake/scores", "lake/scores_quarantine"])
def test_a_staged_file_that_is_not_whole_is_never_published(daily, monkeypatch, harm, table):
    write("lake/features", features(DAY, keyless=4), ["day"])
    job = daily(checks={"quarantine": {"max_fraction": 0.2}})
    in_the_middle(monkeypatch, ledger, "save_intent", lambda: [harm(f) for f in staged(table)], late=True)
    with pytest.raises(Unavailable, match="1 staged files are missing or have another size") as raised:
        score(job)
    assert (type(raised.value), raised.value.exit_code, publishes("lake/scores")) == (StagedFilesMissing, 5, [])
    assert (read("lake/scores").num_rows, unfinished(job)) == (0, 0)
    assert score(job).status == "published"
    holds("lake/scores", features(DAY, keyless=4))


@pytest.mark.quick("first_batches")
@pytest.mark.parametrize("function", ["first_batches", "run_frame"])
def test_input_files_that_spark_does_not_find_any_more_are_named(daily, spark, monkeypatch, function):
    write("lake/features", features(DAY), ["day"])
    in_the_middle(monkeypatch, engine, function, lambda: [f.unlink() for f in staged("lake/features")])
    with pytest.raises(
        Unavailable, match=r"can't be read or written: \[FAILED_READ_FILE.* file:/.*/lake/features/day="
    ) as e:
        score(daily(where="day = '{date}' OR id < 0"), "spark")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("why", ["overtaken", "gone"])
def test_a_run_that_cannot_be_published_any_more_leaves_nothing_in_quarantine(daily, monkeypatch, why):
    write("lake/features", features(DAY, keyless=4), ["day"])
    section = {"quarantine": {"max_fraction": 0.2}}
    if why == "overtaken":
        in_the_middle(monkeypatch, checks, "judge", lambda: score(daily(checks=section, state="lake/elsewhere")))
    else:
        in_the_middle(
            monkeypatch, ledger, "save_intent", lambda: [f.unlink() for f in staged("lake/scores")], late=True
        )
    with pytest.raises(Unavailable):
        score(daily(checks=section))
    score(daily(checks=section))
    assert set(read("lake/scores_quarantine")["_run_id"].to_pylist()) == runs_in("lake/scores")
    assert read("lake/scores_quarantine").num_rows == 4


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (lambda table: table.alter.add_constraint({"high": "p > 0.5"}), r"p > 0\.5"),
        (lambda table: table.alter.set_table_properties({"delta.appendOnly": "true"}), "delta.appendOnly"),
    ],
    ids=["constraint", "appendOnly"],
)
def test_a_rule_that_the_table_got_meanwhile_is_not_broken(daily, monkeypatch, rule, named):
    write("lake/features", features(DAY), ["day"])
    in_the_middle(monkeypatch, ledger, "save_intent", lambda: rule(DeltaTable("lake/scores")), late=True)
    with pytest.raises(Overtaken, match=rf"rules changed since the run was planned.*{named}"):
        score(daily())
    assert (publishes("lake/scores"), unfinished(daily())) == ([], 0)


@pytest.mark.parametrize(
    "otherwise",
    [{"replace": {"score_date": NEXT}}, {"partition": {}}],
    ids=["another slice replaced", "outside the slice"],
)
def test_a_slice_that_does_not_hold_what_was_committed_is_told(daily, monkeypatch, otherwise):
    """The library takes files that lie outside of what they replace without a word."""
    write("lake/features", features(DAY), ["day"])
    score(daily())
    change(DAY, features(DAY, shift=0.5))
    commit_otherwise(monkeypatch, **otherwise)
    with pytest.raises(RuntimeError, match="lake/scores version 2 does not hold exactly what was committed"):
        score(daily())


def test_rows_that_an_append_did_not_take_away_are_told(appending, monkeypatch):
    write("lake/features", features(DAY), ["day"])
    score(appending())
    commit_otherwise(monkeypatch, removes=())
    with pytest.raises(RuntimeError, match="lake/scores version 2 does not hold exactly what was committed"):
        score(appending(), rescore=True)


def test_files_that_live_already_are_not_committed_again(daily):
    """Spark would read none of them; here the log was rewritten by hand, without its transaction ids."""
    write("lake/features", features(DAY), ["day"])
    runs = Path("lake/scores_state/runs")
    runs.parent.mkdir(parents=True)
    runs.write_text("in the way")
    score(daily())
    runs.unlink()
    commit = Path("lake/scores/_delta_log/00000000000000000001.json")
    kept = [line for line in commit.read_text().splitlines() if not line.startswith('{"txn"')]
    commit.write_text("\n".join(kept))
    warned = []
    assert score(daily(), say=lambda event, values: warned.append(str(values.get("message")))).status == "published"
    assert any("is live already, although the log has no commit of this run" in text for text in warned)
    assert unfinished(daily()) == 0
    holds("lake/scores", features(DAY))


def test_a_sink_that_stays_busy_is_partial_and_the_next_run_finishes_it_without_scoring(daily, monkeypatch):
    write("lake/features", features(DAY, keyless=4), ["day"])
    job = daily(checks={"quarantine": {"max_fraction": 0.2}})
    commit = delta.commit

    def busy(snapshot: delta.Snapshot, *args: Any, **kwargs: Any) -> int:
        if snapshot.location == locate("lake/scores"):
            raise delta.Conflict("busy")
        return commit(snapshot, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(delta, "commit", busy)
        patched.setattr(delta, "ATTEMPTS", 2)
        with pytest.raises(Partial, match="goes on from here") as raised:
            score(job)
    assert (raised.value.exit_code, publishes("lake/scores"), unfinished(job)) == (5, [], 1)
    monkeypatch.setattr(local, "run", None)
    assert score(job).status == "published"
    holds("lake/scores", features(DAY, keyless=4))
    assert (read("lake/scores_quarantine").num_rows, unfinished(job)) == (4, 0)


def test_an_unfinished_run_whose_table_was_removed_does_not_stand_in_the_way(daily, monkeypatch):
    write("lake/features", features(DAY), ["day"])
    job = daily(state="state")
    with monkeypatch.context() as patched:
        patched.setattr(sink, "publish", lambda *_: (_ for _ in ()).throw(OSError("unplugged")))
        with pytest.raises(Unavailable, match="unplugged"):
            score(job)
    Path("lake/scores").rename("lake/kept")
    assert score(job).status == "published"
    holds("lake/scores", features(DAY))


# What a commit says


def test_a_publishing_commit_names_run_model_digest_input_and_fingerprint(daily, uri):
    write("lake/features", features(DAY), ["day"])
    write("lake/features", features(NEXT, start=100), ["day"])
    result = score(daily())
    said = publishes("lake/scores")[0]
    fingerprint = said.pop("fingerprint")
    assert len(fingerprint) == len(said.pop("model_signature")) == 64
    assert said == {
        "lakehouse_run": result.run_id, "job": "scores", "slice": {"score_date": DAY}, "generation": 1, "rows": 40,
        "model": uri.removeprefix("models:/").split("@")[0], "model_version": "1",
        "model_digest": result.model["digest"], "input": "lake/features", "input_version": 1, "version": 1,
    }  # fmt: skip
    table = DeltaTable("lake/scores")
    told = {name: table.transaction_version(f"{IDENTITY}{name}") for name in ("", f"/{fingerprint}", "/rows/1")}
    assert told == {"": 1, f"/{fingerprint}": 1, "/rows/1": 40}
    assert set(read("lake/scores")["_input_version"].to_pylist()) == {1}


# Budget and readiness


def test_over_budget_nothing_is_published_and_quarantine_says_why(daily):
    write("lake/features", features(DAY, keyless=2), ["day"])
    with pytest.raises(Blocked, match="2 of 40 rows") as raised:
        score(daily())
    result = raised.value.result
    assert (raised.value.exit_code, result.status) == (3, "blocked")
    assert (result.rows_read, result.rows_scored, result.rows_quarantined) == (40, 38, 2)
    assert version("lake/scores") == -1
    aside = read("lake/scores_quarantine")
    inputs = features(DAY, keyless=2).slice(38).select(["id", "country", "a", "b"])
    assert aside.sort_by("a").select(["id", "country", "a", "b"]).to_pylist() == inputs.sort_by("a").to_pylist()
    assert aside["_reasons"].to_pylist() == [[{"rule": "key_not_null", "column": "id", "observed": None}]] * 2
    assert set(aside["_run_id"].to_pylist()) == {result.run_id}


def test_over_budget_the_last_good_scores_stay_live(daily):
    write("lake/features", features(DAY), ["day"])
    good = score(daily())
    before = version("lake/scores")
    change(DAY, features(DAY, shift=0.5, keyless=2))
    with pytest.raises(Blocked):
        score(daily())
    assert (version("lake/scores"), runs_in("lake/scores")) == (before, {good.run_id})
    holds("lake/scores", features(DAY))


def test_mended_data_is_published_and_the_blocked_runs_quarantine_stays(daily):
    write("lake/features", features(DAY, keyless=2), ["day"])
    with pytest.raises(Blocked) as raised:
        score(daily())
    mended = features(DAY)
    change(DAY, mended)
    assert score(daily()).status == "published"
    holds("lake/scores", mended)
    assert read("lake/scores_quarantine")["_run_id"].to_pylist() == [raised.value.result.run_id] * 2


@pytest.mark.parametrize(
    ("budget", "rows", "keyless", "allowed"),
    [
        ({}, 100, 1, True),
        ({}, 100, 2, False),
        ({"max_fraction": 0.0}, 100, 0, True),
        ({"max_fraction": 0.0}, 100, 1, False),
        ({"max_fraction": 0.29}, 100, 29, True),  # 0.29 * 100 is 28.999… in binary
        ({"max_fraction": 0.29}, 100, 30, False),
        ({"max_fraction": 0.5, "max_rows": 2}, 100, 2, True),
        ({"max_fraction": 0.5, "max_rows": 2}, 100, 3, False),
    ],
)
def test_the_budget_is_met_to_the_very_row(daily, budget, rows, keyless, allowed):
    write("lake/features", features(DAY, rows=rows, keyless=keyless), ["day"])
    job = daily(checks={"quarantine": budget})
    if allowed:
        assert score(job).rows_quarantined == keyless
    else:
        with pytest.raises(Blocked, match="are allowed"):
            score(job)
    assert version("lake/scores") == (1 if allowed else -1)


def test_bad_rows_that_come_first_are_judged_by_the_budget_like_any_others(daily):
    rows = features(DAY, rows=100, keyless=70)
    write("lake/features", rows.take(pa.array(range(99, -1, -1))), ["day"])
    assert score(daily(checks={"quarantine": {"max_fraction": 0.7}})).rows_quarantined == 70
    holds("lake/scores", rows)


@pytest.mark.parametrize("where", ["day = '{date}'", "day = '{date}' AND a >= 2.95"], ids=["by the log", "by reading"])
def test_too_few_rows_are_not_ready_and_nothing_is_created(daily, where):
    write("lake/features", features(DAY), ["day"])
    needed = 41 if "AND" not in where else 11
    with pytest.raises(NotReady, match=f"min_rows asks for {needed}") as raised:
        score(daily(where=where, source={"min_rows": needed}))
    assert raised.value.exit_code == 6
    assert (version("lake/scores"), version("lake/scores_quarantine")) == (-1, -1)
    assert not Path("lake/scores_state").exists()


def test_too_few_rows_leave_the_last_good_scores_live(daily):
    write("lake/features", features(DAY), ["day"])
    score(daily(source={"min_rows": 20}))
    before = version("lake/scores")
    change(DAY, features(DAY, rows=10))
    with pytest.raises(NotReady):
        score(daily(source={"min_rows": 20}))
    assert version("lake/scores") == before
    holds("lake/scores", features(DAY))


# The ledger


def test_the_ledger_lists_published_and_blocked_runs_with_their_figures(daily):
    write("lake/features", features(DAY, keyless=2), ["day"])
    with pytest.raises(Blocked) as raised:
        score(daily())
    change(DAY, features(DAY))
    published = score(daily())
    assert score(daily()).status == "unchanged"
    names = ("run_id", "status", "date", "generation", "rows_read", "rows_scored", "rows_quarantined", "input_version")
    recorded = [tuple(r[n] for n in names) for r in ledger.runs(naming.state_of(daily()), "scores")]
    assert recorded == [
        (published.run_id, "published", DAY, 1, 40, 40, 0, 1),
        (raised.value.result.run_id, "blocked", DAY, 1, 40, 38, 2, 0),
    ]
    newest = ledger.runs(naming.state_of(daily()), "scores", DAY)[0]
    assert newest["sinks"] == [{"type": "delta", "table": "lake/scores", "version": 1, "kind": "sink"}]
    assert ledger.runs(naming.state_of(daily()), "scores", NEXT) == []


def test_a_ledger_that_cannot_be_written_only_warns_and_the_next_run_writes_it(daily):
    write("lake/features", features(DAY), ["day"])
    runs, said = Path("lake/scores_state/runs"), []
    runs.parent.mkdir(parents=True)
    runs.write_text("in the way")
    result = score(daily(), say=lambda event, values: said.append((event, dict(values))))
    assert result.status == "published"
    assert ["could not be recorded" in values["message"] for event, values in said if event == "warning"] == [True]
    before = version("lake/scores")
    runs.unlink()
    again = score(daily())
    assert (again.run_id, version("lake/scores"), unfinished(daily())) == (result.run_id, before, 0)
    assert [r["run_id"] for r in ledger.runs(naming.state_of(daily()), "scores")] == [result.run_id]
    assert score(daily()).status == "unchanged"


# Nothing is lost


@pytest.fixture(scope="module")
def counting(register):
    """A model that requires an integer, which can't be null."""
    x = pd.DataFrame({"n": np.arange(20), "a": np.linspace(0, 4, 20)})
    return register(LogisticRegression().fit(x, x["n"] > 9), x)


_ROW = st.tuples(st.booleans(), st.none() | st.integers(-5, 30), st.floats(-5, 5, width=32))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(_ROW, max_size=40), percent=st.integers(0, 100), batch_rows=st.integers(1, 50))
def test_every_row_read_is_scored_or_in_quarantine(make_job, counting, rows, percent, batch_rows):
    # The working directory outlives an example, so each has tables of its own.
    name = f"lake/{pipeline.new_run_id()}"
    ids = [i if keyed else None for i, (keyed, _, _) in enumerate(rows)]
    table = pa.table({
        "id": pa.array(ids, pa.int64()), "n": pa.array([n for _, n, _ in rows], pa.int64()),
        "a": pa.array([a for _, _, a in rows], pa.float64()), "row": pa.array(range(len(rows)), pa.int64()),
    })  # fmt: skip
    write(f"{name}_features", table)
    job = make_job(
        counting, source={"table": f"{name}_features"}, sinks=[{"type": "delta", "table": name}], keep=["row"],
        model={"method": "predict", "batch_rows": batch_rows},
        checks={"quarantine": {"max_fraction": percent / 100}},
    )  # fmt: skip
    good = [i for i, (keyed, n, _) in enumerate(rows) if keyed and n is not None]
    bad = sorted(set(range(len(rows))) - set(good))
    if not rows:
        with pytest.raises(NotReady):
            score(job)
        return
    if not good:  # no row to try the model on
        with pytest.raises(Blocked):
            score(job)
        assert version(name) == -1
        return
    try:
        result = score(job)
    except Blocked as blocked:
        result = blocked.result
    allowed = len(bad) <= Fraction(percent, 100) * len(rows)
    assert result.status == ("published" if allowed else "blocked")
    assert (result.rows_read, result.rows_scored, result.rows_quarantined) == (len(rows), len(good), len(bad))
    if allowed:
        assert sorted(read(name)["row"].to_pylist()) == good
    else:
        assert version(name) == -1
    aside = read(f"{name}_quarantine") if bad else table.slice(0, 0)
    assert sorted(aside["row"].to_pylist()) == bad
