"""`lakehouse recall`: which live scores stand on a model, an input version or a file of it; and those scored again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.errors import ConfigError
from lakehouse.operations import recall as asking
from lakehouse.operations.backfill import Asked, Shown
from lakehouse.operations.rollback import rollback
from lakehouse.operations.standing import Question
from lakehouse.pipeline import Request, new_run_id
from lakehouse.runs import ledger
from lakehouse.storage import locate
from tests.command import run
from tests.conftest import opened, read, score, write

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]


@pytest.fixture(scope="module")
def x():
    return pd.DataFrame({"a": np.linspace(0, 4, 40)})


def features(days=DAYS, first=1, mode="append", **more):
    """Two rows a day, a file a day."""
    for day in days:
        write(
            "lake/features",
            pa.table({"id": [first, first + 1], "a": [1.0, 2.0], "day": [day] * 2}),
            ["day"],
            mode,
            **more,
        )


def load(day, conf="conf/scores.yaml"):
    return Asked(conf, engine="local").load(day)


def recalled(**question):
    return asking.recall(load, Question(**question))


def told(found):
    return [(one.date, one.rows, one.perhaps, one.run_id) for one in found.standing]


def owners(table="lake/scores"):
    """What a look at all rows says: by run how many live."""
    rows = opened(table).to_pyarrow_table().column("_run_id").to_pylist()
    return {run: rows.count(run) for run in set(rows)}


def test_scores_of_a_model_version_are_listed_and_scored_again(versions, job_of):
    uri = versions(1)
    features()
    runs = [score(job_of(uri, day)) for day in DAYS[:2]]
    versions(2)
    third = score(job_of(uri, DAYS[2]))
    found = recalled(model="1")
    assert told(found) == [(DAYS[0], 2, False, runs[0].run_id), (DAYS[1], 2, False, runs[1].run_id)]
    assert (found.standing[0].slice, found.standing[0].model_version) == (f"score_date={DAYS[0]}", "1")
    assert told(recalled(model=f"{runs[0].model['name']}/1", first=DAYS[1])) == [(DAYS[1], 2, False, runs[1].run_id)]
    assert told(recalled(model=runs[0].model["digest"][:12], last=DAYS[0])) == told(found)[:1]
    assert told(recalled(model="2")) == [(DAYS[2], 2, False, third.run_id)]

    ended = asking.rescore(load, Asked("conf/scores.yaml", engine="local"), found, 1, keep_going=False, shown=Shown())
    assert [(one.date, one.status) for one in ended] == [(day, "published") for day in DAYS[:2]]
    assert told(recalled(model="1")) == []
    assert {row["_model_version"] for row in read("lake/scores").to_pylist()} == {"2"}
    assert third.run_id in owners()  # it was left alone


def test_a_slice_that_was_replaced_since_is_not_live(versions, job_of):
    uri = versions(1)
    features(DAYS[:2])
    score(job_of(uri, DAYS[0]))
    kept = score(job_of(uri, DAYS[1]))
    versions(2)
    job = job_of(uri, DAYS[0])
    score(job)
    assert [one.run_id for one in recalled(model="1").standing] == [kept.run_id]
    rollback(job, Request("local", ledger.now(), new_run_id()))  # and what is put back is live again
    assert [one.date for one in recalled(model="1").standing] == DAYS[:2]
    opened("lake/scores").delete(f"score_date = '{DAYS[1]}'")
    assert [one.date for one in recalled(model="1").standing] == DAYS[:1]


def test_scoring_again_by_the_same_model_or_input_is_refused(versions, job_of):
    uri = versions(1)
    features(DAYS[:1])
    score(job_of(uri))
    asked = Asked("conf/scores.yaml", engine="local")
    for question, said in (
        ({"model": "1"}, "@champion is still .* v1, so that scores would stand on it again"),
        ({"input_version": 0}, "lake/features is still at version 0"),
        ({"input_file": only_file()}, "is still a file of lake/features"),
    ):
        found = recalled(**question)
        assert len(found.standing) == 1
        with pytest.raises(ConfigError, match=said):
            asking.rescore(load, asked, found, 1, keep_going=False, shown=Shown())
    assert opened("lake/scores").version() == 1


def only_file(table="lake/features"):
    (path,) = opened(table).file_uris()
    return Path(path).name


def test_scores_of_an_input_version(versions, job_of):
    uri = versions(1)
    features(DAYS[:2])  # versions 0 and 1
    old = score(job_of(uri, DAYS[0]))
    features(DAYS[2:])
    new = score(job_of(uri, DAYS[2]))
    assert told(recalled(input_version=1)) == [(DAYS[0], 2, False, old.run_id)]
    assert told(recalled(input_version=2)) == [(DAYS[2], 2, False, new.run_id)]
    assert told(recalled(input_version=0)) == []


@pytest.mark.quick("name")
@pytest.mark.parametrize("named", ["name", "path below the table", "whole path"])
def test_scores_of_an_input_file_are_those_whose_run_read_it(versions, job_of, workspace, named):
    """A day's file is part of all later versions, but only runs of that day read it."""
    uri = versions(1)
    features()
    runs = {day: score(job_of(uri, day)) for day in DAYS}
    path = next(p for p in opened("lake/features").file_uris() if f"day={DAYS[1]}" in p).removeprefix("file://")
    given = {"name": Path(path).name, "whole path": path}.get(
        named, str(Path(path).relative_to(workspace / "lake/features"))
    )
    found = recalled(input_file=given)
    assert [one.run_id for one in found.standing] == [runs[DAYS[1]].run_id]
    assert [note for note in found.notes if "was added by version 1 and is still there" in note]
    write(
        "lake/features",
        pa.table({"id": [9], "a": [9.0], "day": [DAYS[1]]}),
        ["day"],
        "overwrite",
        predicate=f"day = '{DAYS[1]}'",
    )
    found = recalled(input_file=given)
    assert [one.run_id for one in found.standing] == [runs[DAYS[1]].run_id]
    assert [note for note in found.notes if "was added by version 1 and was removed by version 3" in note]
    ended = asking.rescore(load, Asked("conf/scores.yaml", engine="local"), found, 1, keep_going=False, shown=Shown())
    assert [(one.date, one.rows_scored) for one in ended] == [(DAYS[1], 1)]
    assert recalled(input_file=given).standing == ()


def test_where_the_inputs_log_does_not_reach_back_it_says_so(versions, job_of):
    uri = versions(1)
    features(DAYS[:2])
    first = score(job_of(uri, DAYS[0]))
    path = next(p for p in opened("lake/features").file_uris() if f"day={DAYS[0]}" in p)
    features(DAYS[2:])
    opened("lake/features").create_checkpoint()
    write(
        "lake/features",
        pa.table({"id": [9], "a": [9.0], "day": [DAYS[0]]}),
        ["day"],
        "overwrite",
        predicate=f"day = '{DAYS[0]}'",
    )
    second = score(job_of(uri, DAYS[1]))
    log = Path("lake/features/_delta_log")
    for version in (0, 1, 2):
        (log / f"{version:020d}.json").unlink()
    found = recalled(input_file=Path(path).name)
    assert found.standing == ()
    assert [(one.run_id, one.doubt) for one in found.unknown] == [
        (first.run_id, "the input's log goes back to version 2 only")
    ]
    assert second.run_id not in {one.run_id for one in found.unknown}


def test_a_file_that_the_table_never_had_is_an_error(versions, job_of):
    uri = versions(1)
    features(DAYS[:1])
    score(job_of(uri))
    with pytest.raises(ConfigError, match=r"--input-file: none.parquet never was a file of lake/features"):
        recalled(input_file="none.parquet")


@pytest.mark.parametrize("question", [{}, {"model": "1", "input_version": 3}, {"input_version": 0, "input_file": "f"}])
def test_exactly_one_thing_is_asked_for(question):
    with pytest.raises(ConfigError, match="give exactly one of --model, --input-version and --input-file"):
        Question(**question)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"model": "7"}, r"--model 7: no run of scores used it.*; those used: \S+/1 \(sha256:"),
        ({"model": "chrun/1"}, r"--model chrun/1: no run of scores used it, and its registry has no such version"),
        ({"model": "deadbeef"}, r"--model deadbeef: no run of scores had a model whose digest begins like that"),
        ({"input_version": 9}, r"--input-version 9: no run has read it \(.*\); the newest that were read: 0"),
        ({"input_version": -1}, r"--input-version -1: no run has read it \(versions begin with 0\)"),
        ({"input_file": "none.parquet", "first": "2030-01-01"}, r"none.parquet never was a file of lake/features"),
    ],
    ids=["version", "name", "digest", "input version", "negative", "file"],
)
def test_what_no_run_had_and_nobody_knows_is_a_slip_and_no_all_clear(versions, job_of, question, said):
    uri = versions(1)
    features(DAYS[:1])
    score(job_of(uri))
    with pytest.raises(ConfigError, match=said):
        recalled(**question)
    versions(2)
    write("lake/features", pa.table({"id": [9], "a": [9.0], "day": [DAYS[1]]}), ["day"])
    for there in ({"model": "2"}, {"input_version": 1}):  # nobody used it, but it is there
        assert recalled(**there).standing == ()


@pytest.mark.parametrize(
    ("dates", "said"),
    [
        ({"first": "2026-02-30"}, "--from: '2026-02-30' is not a date: give YYYY-MM-DD"),
        ({"last": "20260101"}, "--to: '20260101' is not a date"),
        ({"first": DAYS[1], "last": DAYS[0]}, f"--to {DAYS[0]} lies before --from {DAYS[1]}"),
    ],
)
def test_dates_that_are_none_or_the_wrong_way_round_are_refused(dates, said):
    with pytest.raises(ConfigError, match=said):
        Question(model="1", **dates)


def test_a_run_without_a_record_is_not_left_out_by_a_date(versions, job_of):
    uri = versions(1)
    features(DAYS[:1])
    result = score(job_of(uri))
    shutil.rmtree(f"{locate('lake/scores').path}_state/runs")
    found = recalled(model="1", first=DAYS[0])
    doubt = "it is not on record, so that its date isn't known"
    assert ([(one.run_id, one.doubt) for one in found.unknown], found.standing) == ([(result.run_id, doubt)], ())
    assert found.notes[0].startswith("1 run with live rows has no record")
    assert "`lakehouse reconcile`" in found.notes[0]


def test_what_is_no_model_is_refused(versions, job_of):
    uri = versions(1)
    features(DAYS[:1])
    score(job_of(uri))
    with pytest.raises(ConfigError, match="--model 'champion': give a version's number, such as 3 or churn/3"):
        recalled(model="champion")


def test_a_number_that_is_a_version_of_two_models_is_not_guessed_at(register, x, job_of):
    features(DAYS[:2])
    one, other = (register(LinearRegression().fit(x, x["a"] * times), x, name=f"recalled{times}") for times in (1, 2))
    score(job_of(one, DAYS[0]))
    score(job_of(other, DAYS[1]))
    with pytest.raises(ConfigError, match="--model 1: that may be recalled1/1 or recalled2/1: name one of them"):
        recalled(model="1")
    assert [one.date for one in recalled(model="models:/recalled2/1").standing] == [DAYS[1]]


def test_several_runs_live_in_a_slice_that_is_appended_to(versions, job_of):
    uri = versions(1)
    features()
    append = {"slice": {}, "sinks": [{"type": "delta", "table": "lake/scores", "write": "append"}]}
    first = score(job_of(uri, DAYS[0], **append))
    versions(2)
    score(job_of(uri, DAYS[1], **append))
    found = recalled(model="1")
    assert told(found) == [(DAYS[0], 2, False, first.run_id)]
    assert found.standing[0].slice == "the whole table"
    ended = asking.rescore(load, Asked("conf/scores.yaml", engine="local"), found, 1, keep_going=False, shown=Shown())
    assert [one.status for one in ended] == ["published"]
    assert recalled(model="1").standing == ()
    assert sorted(owners().values()) == [2, 2]


def test_after_a_merge_what_the_log_does_not_tell_is_perhaps_there(versions, job_of):
    """Rows of two runs in one file: a look at the rows would tell, and none is taken."""
    uri = versions(1)
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [1.0, 2.0, 3.0], "day": [DAYS[0]] * 3}))
    merge = {"sinks": [{"type": "delta", "table": "lake/scores", "write": "merge"}]}
    old = score(job_of(uri, **merge))
    versions(2)
    write("lake/features", pa.table({"id": [1], "a": [5.0], "day": [DAYS[0]]}), mode="overwrite")
    new = score(job_of(uri, **merge))
    assert owners() == {old.run_id: 2, new.run_id: 1}
    assert told(recalled(model="1")) == [(DAYS[0], 2, False, old.run_id)]  # each has files of its own
    opened("lake/scores").optimize.compact()
    for file in Path("lake/scores").rglob("*.parquet"):
        file.unlink()  # no row is looked at
    for version, run_id in (("1", old.run_id), ("2", new.run_id)):
        found = recalled(model=version)
        assert told(found) == [(DAYS[0], 0, True, run_id)]
        assert any("rows of several runs stand in one file" in note for note in found.notes)


@pytest.mark.parametrize("cut", [32, None])
def test_of_files_that_spark_wrote_the_log_tells_less_and_transaction_ids_tell_the_run(versions, job_of, cut):
    uri = versions(1)
    features(DAYS[:2])
    runs = [score(job_of(uri, day)) for day in DAYS[:2]]
    log_of_spark(cut)
    assert (
        told(recalled(model="1")) == [(day, 2, False, run.run_id) for day, run in zip(DAYS, runs, strict=False)]
        or cut is None
    )
    assert [one.run_id for one in recalled(model="1").standing] == [run.run_id for run in runs]


def log_of_spark(cut):
    """Have the log tell what Spark would: texts cut to so many characters, or nothing of the columns at all."""
    for commit in Path("lake/scores/_delta_log").glob("*.json"):
        lines = [json.loads(line) for line in commit.read_text().splitlines()]
        for add in (line["add"] for line in lines if "add" in line):
            stats = json.loads(add["stats"])
            for bound, end in (("minValues", ""), ("maxValues", "\U0010ffff")):
                found = stats[bound]
                for name in [n for n, v in found.items() if isinstance(v, str)]:
                    if cut is None:
                        del found[name]
                    elif len(found[name]) > cut:
                        found[name] = found[name][:cut] + end
            add["stats"] = json.dumps(stats, ensure_ascii=False)
        commit.write_text("\n".join(map(json.dumps, lines)))


def test_a_run_that_is_not_on_record_is_told_by_its_commit(versions, job_of):
    uri = versions(1)
    features(DAYS[:1])
    result = score(job_of(uri))
    shutil.rmtree(
        "lake/scores_state" if Path("lake/scores_state").exists() else locate("lake/scores").beside("_state").path
    )
    found = recalled(model="1")
    assert told(found) == [(None, 2, False, result.run_id)]
    assert recalled(input_version=0).standing[0].model_version == "1"


def test_many_models_in_one_run(register, x, job_of):
    for part, times in (("n", 1), ("s", 2)):
        register(LinearRegression().fit(x, x["a"] * times), x, name=f"recalledpart_{part}")
    rows = {"id": [1, 2, 3], "a": [1.0, 2.0, 3.0], "part": ["n", "n", "s"], "day": [DAYS[0]] * 3}
    write("lake/features", pa.table(rows))
    job = job_of("models:/recalledpart_{part}@champion", model={"by": "part"})
    result = score(job)
    assert told(recalled(model="recalledpart_n/1")) == [(DAYS[0], 2, False, result.run_id)]
    assert told(recalled(model="recalledpart_s/1")) == [(DAYS[0], 1, False, result.run_id)]
    with pytest.raises(ConfigError, match="may be recalledpart_n/1 or recalledpart_s/1"):
        recalled(model="1")


@pytest.mark.long
@pytest.mark.quick("replace")
@pytest.mark.parametrize("write_mode", ["replace", "merge"])
def test_a_table_in_snowflake_is_asked_by_its_ledger(versions, job_of, account, write_mode):
    uri = versions(1)
    features(DAYS[:2])
    sink = {"type": "snowflake", "connection": account.name, "table": account.table("scores"), "write": write_mode}
    sections = {"sinks": [sink], "state": "state"}
    runs = [score(job_of(uri, day, **sections)) for day in DAYS[:2]]
    versions(2)
    again = score(job_of(uri, DAYS[0], **sections))
    if write_mode == "replace":
        assert told(recalled(model="1")) == [(DAYS[1], 2, False, runs[1].run_id)]
        assert told(recalled(model="2")) == [(DAYS[0], 2, False, again.run_id)]
    else:  # a look at the rows would tell that the first run has none left
        assert told(recalled(model="1")) == [(day, 0, True, one.run_id) for day, one in zip(DAYS, runs, strict=False)]
    shutil.rmtree("state")
    assert {(one.run_id, one.model_version) for one in recalled(input_version=1).standing} == (
        {(runs[1].run_id, "1"), (again.run_id, "2")} | ({(runs[0].run_id, "1")} if write_mode == "merge" else set())
    )


def test_parquet_has_no_such_history(versions, job_of):
    uri = versions(1)
    Path("lake/files").mkdir(parents=True)
    pq.write_table(pa.table({"id": [1], "a": [1.0]}), "lake/files/one.parquet")
    score(job_of(uri, source={"type": "parquet", "table": "lake/files"}))
    with pytest.raises(ConfigError, match="lake/files: a folder of Parquet files has no log"):
        recalled(input_file="one.parquet")
    assert len(recalled(model="1").standing) == 1


def test_the_command(versions, job_of, capfd):
    uri = versions(1)
    features(DAYS[:2])
    for day in DAYS[:2]:
        score(job_of(uri, day))
    words = ("recall", "conf/scores.yaml", "--model", "1")
    none = run(capfd, "recall", "conf/scores.yaml", "--model", "2")
    assert (none.code, "--model 2: no run of scores used it" in none.err) == (2, True)
    refused = run(capfd, *words, "--rescore", "--engine", "local")
    assert refused.code == 2
    assert "is still" in refused.err
    versions(2)
    none = run(capfd, "recall", "conf/scores.yaml", "--model", "2")
    assert (none.code, none.out) == (0, "model 2: no live score stands on it\n")
    found = run(capfd, *words, "--json")
    assert [(one["date"], one["rows"]) for one in found.json["standing"]] == [(day, 2) for day in DAYS[:2]]
    done = run(capfd, *words, "--from", DAYS[1], "--rescore", "--engine", "local", "--json")
    assert [(one["date"], one["status"]) for one in done.json["rescored"]] == [(DAYS[1], "published")]
    assert (done.code, done.json["left"]) == (0, [])
    people = run(capfd, *words, "--rescore", "--engine", "local")
    assert "2 live scores stand on it, of 1 runs" in people.out
    assert "1 date: 1 published\nno live score stands on it" in people.out
