"""The command line: exit codes, the JSON object, what people see, and that looking changes nothing."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sklearn
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from sklearn.linear_model import LogisticRegression

from lakehouse import __version__, models, pipeline
from lakehouse.cli import commands
from lakehouse.config import json_schema, load_job
from lakehouse.engines import runtime, scratch
from lakehouse.errors import Unavailable
from lakehouse.runs import ledger
from lakehouse.sinks import delta as sink
from lakehouse.sources import delta as source
from lakehouse.views import planned, steps
from tests.command import Outcome, run, tree
from tests.conftest import read, version, write

DAY, NEXT, EMPTY = "2026-01-02", "2026-01-03", "2026-01-09"
CONF = "conf/scores.yaml"
COMMITTED = Path(__file__).parents[2] / "conf"
KEYS = {
    "run_id", "job", "date", "status", "rows_read", "rows_scored", "rows_quarantined", "model", "input", "sinks",
    "checks", "seconds", "work", "carrier", "engine", "message",
}  # fmt: skip
Run = Callable[..., Outcome]


def features(day: str, rows: int = 40, unkeyed: int = 0) -> pa.Table:
    """Rows of one day, the first `unkeyed` of them without a key."""
    n = np.arange(rows)
    ids = pa.array(n, mask=n < unkeyed)
    country = ["DE", "FR"] * (rows // 2)
    return pa.table({"id": ids, "country": country, "a": n * 0.1, "b": np.cos(n), "day": [day] * rows})


@pytest.fixture(scope="module")
def uri(register: Callable[..., str]) -> str:
    x = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
    return register(LogisticRegression().fit(x, (x["a"] > 2).astype(int)), x, name="purchase")


@pytest.fixture
def lake(make_job: Callable[..., Any], uri: str) -> None:
    """conf/scores.yaml over a good day, a bad one with 3 rows without a key of 40, and no others."""
    write("lake/features", features(DAY), ["day"])
    write("lake/features", features(NEXT, unkeyed=3), ["day"])
    make_job(
        uri, date=DAY, source={"where": "day = '{date}'"}, model={"method": "predict_proba"}, keep=["country"],
        predictions={"p": {"class": 1}}, slice={"score_date": "{date}"}, state="lake/state",
    )  # fmt: skip


@pytest.fixture
def lakehouse(lake: None, capfd: pytest.CaptureFixture[str]) -> Run:
    """lakehouse("score", date, …) runs the command on conf/scores.yaml, score with the local engine."""

    def call(command: str, date: str | None = DAY, *arguments: str) -> Outcome:
        dated = ["--date", date] if date else []
        engine = ["--engine", "local"] if command == "score" else []
        return run(capfd, command, CONF, *dated, *engine, *arguments)

    return call


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """unreachable(kind): the next commit to the table of this kind, sink or quarantine, fails once."""
    publish, failing = sink.publish, []

    def refuse_once(target: Any, *more: Any) -> int:
        if target.kind in failing:
            failing.remove(target.kind)
            raise Unavailable("storage: connection refused")
        return publish(target, *more)

    monkeypatch.setattr(sink, "publish", refuse_once)
    return failing.append


# --- --json and --result ----------------------------------------------------------------------------------


def test_json_of_a_published_run_is_one_object_and_stderr_is_silent(lakehouse: Run) -> None:
    done = lakehouse("score", DAY, "--json")
    told = done.json
    digest = told["model"].pop("digest")
    seconds, work = told.pop("seconds"), told.pop("work")
    assert set(work) == {"reading", "checking", "model", "writing", "core"}
    assert 0 < work["core"] < 60
    assert (done.code, done.err) == (0, "")
    assert (len(told.pop("run_id")), len(digest), set(seconds)) == (36, 64, {"plan", "score", "checks", "publish"})
    assert len(told["model"].pop("signature")) == 64
    assert told == {
        "status": "published", "job": "scores", "date": DAY, "rows_read": 40, "rows_scored": 40, "rows_quarantined": 0,
        "model": {"name": "purchase", "version": "1", "flavor": "sklearn", "library": f"sklearn {sklearn.__version__}",
                  "called": "LogisticRegression.predict_proba on a matrix"}, "input": {"table": "lake/features", "version": 1},
        "sinks": [{"type": "delta", "table": "lake/scores", "version": 1, "kind": "sink"}],
        "checks": {"passed": 1, "failed": 0, "warned": 0}, "carrier": "files", "engine": "local", "message": None,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning:mlflow")
def test_what_a_model_prints_is_not_on_stdout_with_json(make_job: Any, workspace: Path, capfd: Any) -> None:
    class Talks(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            print("said by print")
            os.write(1, b"said by C\n")
            return model_input["b"]

    signature = ModelSignature(Schema([ColSpec("double", "b")]))
    mlflow.pyfunc.save_model("talks", python_model=Talks(), signature=signature, pip_requirements=["x"])
    write("lake/features", features(DAY))
    make_job("talks", model={"trust": ["pickle", "python_function"]})
    done = run(capfd, "score", CONF, "--engine", "local", "--json")
    assert done.json["status"] == "published"
    assert "said by print" in done.err
    assert "said by C" in done.err


@pytest.mark.parametrize(
    ("date", "extra", "code", "status", "said"),
    [
        (NEXT, [], 3, "blocked", "blocked: 3 of 40 rows (7.50%) went to quarantine, 0 are allowed"),
        (EMPTY, [], 6, "not_ready", "not ready: lake/features: 0 rows to score, source.min_rows asks for 1"),
        (DAY, ["--set", "keep=[land]"], 2, "failed", "failed: keep: lake/features has no column 'land'"),
        (None, [], 2, "failed", "failed: conf/scores.yaml uses {date} at source.where, slice.score_date: give --date"),
    ],
)
def test_json_has_the_same_keys_however_a_run_ends(
    lakehouse: Run, date: str | None, extra: list[str], code: int, status: str, said: str
) -> None:
    done = lakehouse("score", date, "--json", *extra)
    assert (done.code, done.json["status"], done.json["date"], done.json["job"]) == (code, status, date, "scores")
    assert set(done.json) == KEYS
    assert done.err.startswith(said)
    assert done.json["message"] in done.err


def test_json_of_a_second_run_is_unchanged(lakehouse: Run) -> None:
    first = lakehouse("score", DAY, "--json").json
    done = lakehouse("score", DAY, "--json")
    assert (done.code, done.json["status"], done.err, set(done.json)) == (0, "unchanged", "", KEYS)
    assert [done.json[k] for k in ("input", "sinks")] == [first[k] for k in ("input", "sinks")]
    assert done.json["model"] == {**first["model"], "library": None, "called": None}  # it was not even loaded


def test_json_of_a_blocked_run_has_its_counts_and_its_quarantine(lakehouse: Run) -> None:
    told = lakehouse("score", NEXT, "--json").json
    assert (told["rows_read"], told["rows_scored"], told["rows_quarantined"]) == (40, 37, 3)
    assert told["checks"] == {"passed": 0, "failed": 1, "warned": 0}
    assert [(s["kind"], s["table"]) for s in told["sinks"]] == [("quarantine", "lake/scores_quarantine")]
    assert version("lake/scores") == -1
    assert read("lake/scores_quarantine").num_rows == 3


@pytest.mark.parametrize(
    ("date", "extra", "status"), [(DAY, [], "published"), (NEXT, [], "blocked"), (EMPTY, [], "not_ready"),
                                  (DAY, ["--set", "kep=1"], "failed")]
)  # fmt: skip
def test_the_result_file_holds_the_same_object_on_success_and_on_failure(
    lakehouse: Run, workspace: Path, date: str, extra: list[str], status: str
) -> None:
    done = lakehouse("score", date, "--json", "--result", "out/result.json", *extra)
    text = (workspace / "out" / "result.json").read_text()
    assert text == done.out
    assert json.loads(text)["status"] == status


def test_the_result_file_of_an_earlier_run_is_gone_before_this_one_scores(
    lakehouse: Run, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a process that is killed would leave it as its own answer."""
    (workspace / "result.json").write_text('{"status": "published"}')
    seen, score = [], pipeline.score
    monkeypatch.setattr(
        pipeline, "score", lambda *given: seen.append((workspace / "result.json").exists()) or score(*given)
    )
    assert lakehouse("score", DAY, "--json", "--result", "result.json").code == 0
    assert (seen, json.loads((workspace / "result.json").read_text())["status"]) == ([False], "published")


def test_the_status_of_a_held_run_is_told_as_its_end_was(lakehouse: Run) -> None:
    held = lakehouse("score", DAY, "--hold")
    said = lakehouse("status", DAY)
    assert (held.code, said.code) == (0, 0)
    assert said.out.count("held until") == 1
    assert said.out.splitlines()[-1] == held.out.splitlines()[-1]
    assert said.out.splitlines()[-1].startswith("next     lakehouse publish conf/scores.yaml --run ")


def test_a_result_that_could_never_be_written_is_told_before_the_run(lakehouse: Run) -> None:
    done = lakehouse("score", DAY, "--json", "--result", "hdfs://bucket/result.json")
    assert (done.code, done.json["status"], version("lake/scores")) == (2, "failed", -1)
    assert done.err.count("\n") == 1
    assert "hdfs://bucket/result.json" in done.err


def test_a_result_that_can_not_be_written_is_refused_before_the_run(lakehouse: Run, workspace: Path) -> None:
    (workspace / "taken").write_text("a file where a folder is needed")
    done = lakehouse("score", DAY, "--json", "--result", "taken/result.json")
    assert (done.code, done.json["status"], version("lake/scores")) == (2, "failed", -1)
    assert "--result taken/result.json can't be written: " in done.err


def test_a_result_that_is_a_link_is_refused_and_stays(lakehouse: Run, workspace: Path) -> None:
    (workspace / "file").write_text("{}")
    (workspace / "link").symlink_to("file")
    done = lakehouse("score", DAY, "--result", "link")
    assert (done.code, version("lake/scores")) == (2, -1)
    assert "--result link can't be written: it is a link, name the file itself" in done.err
    assert ((workspace / "link").is_symlink(), (workspace / "file").read_text()) == (True, "{}")


def test_a_result_that_can_not_be_written_any_more_leaves_a_published_run_published(
    lakehouse: Run, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = pipeline.score

    def then_blocked(*given: Any) -> Any:
        (workspace / "out").write_text("a file where a folder is needed")
        return score(*given)

    monkeypatch.setattr(pipeline, "score", then_blocked)
    done = lakehouse("score", DAY, "--json", "--result", "out/result.json")
    assert (done.code, done.json["status"], version("lake/scores")) == (0, "published", 1)
    assert done.err.startswith("warning: --result out/result.json can't be written: ")


def test_a_defect_keeps_its_traceback_and_exits_1(lakehouse: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "pin", lambda *given: 1 // 0)
    done = lakehouse("score", DAY, "--json", "--result", "result.json")
    assert (done.code, done.json["status"], set(done.json)) == (1, "failed", KEYS)
    assert done.json["message"] == "ZeroDivisionError: integer division or modulo by zero"
    assert done.err.startswith("Traceback (most recent call last):")
    assert done.err.endswith("ZeroDivisionError: integer division or modulo by zero\n")
    assert json.loads(Path("result.json").read_text()) == done.json


# --- a dry run --------------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_plan_and_touches_nothing(
    lakehouse: Run, workspace: Path, tracking_uri: str, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    registry = Path(tracking_uri.removeprefix("sqlite:///")).parent
    before = tree(workspace, registry)
    done = lakehouse("score", DAY, "--dry-run")
    assert (done.code, done.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert lines["input"] == "lake/features v1, 1 file, at most 40 rows"
    assert lines["columns"] == "id, country, a, b, day"
    assert lines["carrier"] == "files: Arrow reads this table's files as they are"
    assert lines["model"].startswith("purchase v1 sha256:")
    assert (lines["slice"], lines["generation"]) == (f"score_date={DAY}", "1")
    assert lines["publish"] == f"lake/scores: create the table, then replace score_date={DAY}"
    assert tree(workspace, registry) == before
    assert list(tree(scratch)) == []


def test_the_plan_of_a_dry_run_is_in_the_json_too(lakehouse: Run) -> None:
    lakehouse("score", DAY)
    told = lakehouse("score", DAY, "--dry-run", "--json").json
    plan = told["plan"]
    assert (told["status"], set(told)) == ("planned", KEYS | {"plan"})
    assert (plan["publish"], plan["table_version"], plan["units"]) == ("nothing: unchanged", 1, 1)


def test_a_dry_run_does_not_finish_an_earlier_run(lakehouse: Run, unreachable: Any, workspace: Path) -> None:
    unreachable("sink")
    lakehouse("score")
    before = tree(workspace)
    assert lakehouse("score", DAY, "--dry-run").code == 0
    assert tree(workspace) == before


# --- status and runs --------------------------------------------------------------------------------------


def test_status_before_any_run(lakehouse: Run) -> None:
    done = lakehouse("status")
    assert (done.code, done.out, done.err) == (6, f"NOT_READY  score_date={DAY}\nno run of this job and date yet\n", "")
    told = lakehouse("status", DAY, "--json")
    assert (told.code, told.json["status"], set(told.json)) == (6, "not_ready", KEYS)


def test_status_of_a_date_without_a_run_names_dates_that_have_one(lakehouse: Run) -> None:
    lakehouse("score", DAY)
    told = lakehouse("status", NEXT, "--json")
    assert (told.code, told.json["message"]) == (6, f"no run of this job and date yet; of other dates there are: {DAY}")
    told = lakehouse("verify", NEXT)
    assert (told.code, told.out) == (2, "")
    assert f"--date {NEXT}: scores has no run of this date on record; its newest runs:\n  " in told.err
    assert f"{DAY} published" in told.err


def test_a_held_run_has_ended_when_it_was_held(lakehouse: Run) -> None:
    lakehouse("score", DAY, "--hold", "--hold-days", "3")
    (held,) = json.loads(lakehouse("runs", None, "--json").out)
    begun, ended, until = (datetime.fromisoformat(held[name]) for name in ("started_at", "finished_at", "held_until"))
    assert begun <= ended <= datetime.now(UTC)
    assert until == begun + timedelta(days=3)


def test_hold_of_what_is_unchanged_says_that_nothing_is_held(lakehouse: Run) -> None:
    lakehouse("score", DAY)
    said = "nothing is held, since nothing has changed: --rescore scores again, to hold that"
    assert said in lakehouse("score", DAY, "--hold").out.splitlines()
    assert said not in lakehouse("score", DAY).out.splitlines()


def test_days_of_a_hold_without_one_are_refused(lakehouse: Run) -> None:
    refused = lakehouse("score", DAY, "--hold-days", "3")
    assert (refused.code, version("lake/scores")) == (2, -1)
    assert "--hold-days plays a part only together with --hold, or with publish.hold in the job file" in refused.err


def test_status_is_what_the_newest_run_said(lakehouse: Run) -> None:
    scored = lakehouse("score", DAY, "--json")
    told = lakehouse("status", DAY, "--json")
    assert (told.code, told.json, told.err) == (0, scored.json, "")
    assert lakehouse("status").out.splitlines()[1].startswith(f"PUBLISHED  lake/scores v1  score_date={DAY}")


def test_status_after_a_blocked_run(lakehouse: Run) -> None:
    lakehouse("score", NEXT)
    done = lakehouse("status", NEXT)
    assert done.code == 3
    assert "BLOCKED" in done.out
    assert "3 of 40 rows (7.50%) went to quarantine" in done.out
    assert lakehouse("status", NEXT, "--json").json["status"] == "blocked"
    assert lakehouse("status", DAY).code == 6  # of another date


def test_status_after_an_interrupted_run_until_the_next_one_finishes_it(lakehouse: Run, unreachable: Any) -> None:
    unreachable("sink")
    stopped = lakehouse("score", DAY, "--json")
    assert (stopped.code, stopped.json["status"], set(stopped.json)) == (5, "failed", KEYS)
    assert stopped.err == (
        "failed: storage: connection refused; the next run of this job and slice goes on from here\n"
    )
    told = lakehouse("status", DAY, "--json")
    assert (told.code, told.json["status"], told.json["sinks"]) == (5, "partial", [])
    assert told.json["message"] == "stopped half way: the next run finishes it"
    assert lakehouse("status").code == 5

    finished = lakehouse("score", DAY, "--json")
    assert (finished.code, finished.json["status"], finished.json["rows_scored"]) == (0, "published", 40)
    assert finished.json["run_id"] == told.json["run_id"]
    assert finished.err == f"finished run {told.json['run_id']} (published), which had stopped half way\n"
    assert lakehouse("status").code == 0


def test_a_run_with_some_of_its_commits_made_is_partial(lakehouse: Run, unreachable: Any) -> None:
    unreachable("sink")
    stopped = lakehouse("score", NEXT, "--json", "--set", "checks.quarantine.max_fraction=0.5")
    assert (stopped.code, stopped.json["status"], set(stopped.json)) == (5, "partial", KEYS)
    assert stopped.err.startswith("partial: storage: connection refused")
    assert (read("lake/scores_quarantine").num_rows, read("lake/scores").num_rows) == (3, 0)


def test_runs_lists_the_newest_first(lakehouse: Run) -> None:
    assert lakehouse("runs", None).out == "no runs yet\n"
    lakehouse("score", DAY)
    lakehouse("score", NEXT)
    lakehouse("score", DAY)  # unchanged: no run of its own
    header, *rows = (line.split() for line in lakehouse("runs", None).out.splitlines())
    assert header[:7] == ["started", "(UTC)", "date", "status", "read", "scored", "quarantined"]
    assert [row[2:7] for row in rows] == [[NEXT, "blocked", "40", "37", "3"], [DAY, "published", "40", "40", "0"]]
    assert lakehouse("runs", None, "--limit", "1").out.splitlines()[1].split()[2] == NEXT
    listed = json.loads(lakehouse("runs", None, "--json").out)
    assert [(r["date"], r["status"], r["rows_scored"]) for r in listed] == [
        (NEXT, "blocked", 37),
        (DAY, "published", 40),
    ]


def test_replay_without_a_run_says_where_they_are_listed(lakehouse: Run) -> None:
    done = lakehouse("replay", None, "--set", "keep=[]")
    listing = f"lakehouse runs {CONF} --set 'keep=[]'"
    assert (done.code, done.out) == (2, "")
    assert done.err == f"failed: --run is missing: name the run that set the rows aside; see `{listing}`\n"


def test_a_run_that_is_not_on_record_is_answered_with_the_newest_ones(
    lakehouse: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakehouse("score", DAY)
    (first,) = json.loads(lakehouse("runs", None, "--json").out)
    ids = [f"{number:x}" * 36 for number in range(12)]
    rows = [{**first, "run_id": name, "status": "blocked", "date": None if name[0] == "b" else NEXT} for name in ids]
    assert lakehouse("replay", None, "--run", "1234").err == (
        f"failed: --run: scores has no run '1234' on record; its newest runs:\n  {first['run_id']}  {DAY} published\n"
    )
    monkeypatch.setattr(ledger, "runs", lambda *_: rows[::-1])
    assert lakehouse("replay", None, "--run", "1234").err.splitlines() == [
        "failed: --run: scores has no run '1234' on record; its newest runs:",
        f"  {ids[11]}   blocked",
        *(f"  {name}  {NEXT} blocked" for name in ids[10:1:-1]),
        "the scored table remembers 1 run that has no record: `lakehouse reconcile` makes them again",  # the real one
    ]


def test_sql_says_that_the_dialect_comes_first(lake: None, capfd: pytest.CaptureFixture[str]) -> None:
    done = run(capfd, "sql", CONF, "duckdb")
    assert (done.code, done.err) == (2, f"failed: the dialect comes first: lakehouse sql duckdb {CONF}\n")


def test_verify_says_what_it_compares(capfd: pytest.CaptureFixture[str]) -> None:
    shown = " ".join(run(capfd, "score", "--help").out.replace("│", " ").split())
    assert "then read the Delta table and the ones in Snowflake, and prove that they hold the same rows" in shown


def test_a_csv_file_that_is_not_there_is_answered_with_the_nearest(
    capfd: pytest.CaptureFixture[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "ensure_java", lambda: "")
    monkeypatch.setenv("JAVA_HOME", "")  # which the demo sets
    Path("my.csv").touch()
    for given, folder in (("mine.csv", workspace), ("nowhere/my.csv", workspace / "nowhere")):
        done = run(capfd, "demo", "--csv", given, "--label", "y")
        hint = "did you mean 'my.csv'?" if given == "mine.csv" else "there are none"
        assert (done.code, done.out) == (2, "")
        assert done.err == f"failed: --csv: there is no file {given} in {folder}; {hint}\n"


# --- what people see --------------------------------------------------------------------------------------


def test_the_end_of_a_run_for_people(lakehouse: Run) -> None:
    done = lakehouse("score")
    counts, headline, names, *rows, again = done.out.splitlines()
    assert counts.split("  ")[0] == "read 40 = scored 40 + quarantined 0"
    assert counts.endswith("files carrier, local engine")
    assert headline.startswith(f"PUBLISHED  lake/scores v1  score_date={DAY}  ")
    assert " s  purchase v1 sha256:" in headline
    assert names.split() == ["id", "p", "country", "_model_version"]
    assert [row.split()[:3:2] for row in rows] == [["0", "DE"], ["1", "FR"], ["2", "DE"]]
    assert again.startswith(f"next     lakehouse score {CONF} --date {DAY} --engine local  ")


def test_the_next_command_is_the_same_job(lakehouse: Run, workspace: Path) -> None:
    shared = {"targets": {"dev": {"sinks": [{"type": "delta", "table": "lake/dev"}]}}}
    (workspace / "conf" / "lakehouse.yaml").write_text(yaml.safe_dump(shared))
    done = lakehouse("score", DAY, "--target", "dev", "--set", "predictions={q: {class: 1}}")
    command = done.out.splitlines()[-1].removeprefix("next").split("#")[0].strip()
    assert command == (
        f"lakehouse score {CONF} --date {DAY} --target dev --set 'predictions={{q: {{class: 1}}}}' --engine local"
    )


def test_the_next_command_names_the_folder_that_its_paths_begin_in(
    lakehouse: Run, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = workspace / "else where"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    command = lakehouse("score", DAY, "--project-dir", "..").out.splitlines()[-1].split("#")[0].split()
    assert command == f"next lakehouse score {CONF} --date {DAY} --engine local --project-dir ..".split()


def test_a_run_with_quarantine_for_people(lakehouse: Run) -> None:
    done = lakehouse("score", NEXT, "--set", "checks.quarantine.max_fraction=0.5")
    assert done.out.startswith("read 40 = scored 37 + quarantined 3 ")


def test_an_unchanged_run_shows_what_is_there_and_commits_nothing(lakehouse: Run, workspace: Path) -> None:
    lakehouse("score")
    before = tree(workspace / "lake")
    done = lakehouse("score")
    assert done.out.splitlines()[0].startswith(f"UNCHANGED  lake/scores v1  score_date={DAY}")
    assert done.out.splitlines()[2].split()[:3:2] == ["0", "DE"]
    assert tree(workspace / "lake") == before


def test_an_unchanged_run_is_shown_when_its_table_got_a_column_since(lakehouse: Run) -> None:
    from deltalake import DeltaTable, Field

    lakehouse("score")
    DeltaTable("lake/scores").alter.add_columns([Field("note", "string")])
    done = lakehouse("score")
    assert (done.code, done.err.count("Traceback")) == (0, 0)
    assert done.out.startswith("UNCHANGED")


def test_the_sample_is_of_the_rows_that_this_run_appended(make_job: Any, uri: str, capfd: Any) -> None:
    write("lake/features", features(DAY), ["day"])
    write("lake/features", features(NEXT).set_column(0, "id", pa.array(range(100, 140))), ["day"])
    sinks = [{"type": "delta", "table": "lake/scores", "write": "append"}]
    make_job(uri, date=DAY, source={"where": "day = '{date}'"}, predictions={"label": "*"}, sinks=sinks)
    for day, first in ((DAY, "0"), (NEXT, "100")):
        done = run(capfd, "score", CONF, "--date", day, "--engine", "local")
        assert done.out.splitlines()[3].split()[0] == first


def test_a_blocked_run_says_why_on_stderr_and_nothing_on_stdout(lakehouse: Run) -> None:
    done = lakehouse("score", NEXT)
    assert (done.code, done.out) == (3, "")
    counted = "3 of 40 rows (7.50%) went to quarantine, 0 are allowed (max_fraction 0.01): key_not_null id ×3"
    assert f"blocked: {counted}\n" in done.err
    assert "    id=None: key_not_null id\n" in done.err
    assert "Nothing was published. The rows are in lake/scores_quarantine." in done.err
    lakehouse("score", DAY)
    told = lakehouse("score", NEXT, "--rescore").err
    assert "Nothing was published; the last good scores stay. The rows are in lake/scores_quarantine." in told


def test_progress_is_plain_lines_where_stderr_is_no_terminal(lakehouse: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_EVERY", 0.0)
    lines = lakehouse("score").err.splitlines()
    why = "Arrow reads this table's files as they are"
    assert lines[0] == f"reading lake/features v1 with purchase v1; files carrier: {why}"
    assert lines[1] == "scoring 1 unit in 1 task, at most 40 rows"
    assert lines[-1].startswith("read 40 rows, 1 of 1 units, ")
    assert "\x1b" not in "".join(lines)


def test_progress_is_a_bar_on_a_terminal(lake: None) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lakehouse.cli", "score", CONF, "--date", DAY, "--engine", "local"]
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    environ.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environ) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b"")).decode()
        out = process.communicate()[0].decode()
    os.close(ours)
    assert (process.returncode, out.splitlines()[0].split("  ")[0]) == (0, "read 40 = scored 40 + quarantined 0")
    assert "reading lake/features v1 with purchase v1" in shown
    assert "\x1b[?25l" in shown  # the cursor is hidden while the bar moves
    assert "scoring 1 units" in shown
    assert "━" in shown
    assert "Traceback" not in shown


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 65536)
    except OSError:  # Linux's way to say that the other side is closed
        return b""


# --- schema and init --------------------------------------------------------------------------------------


def test_the_schema_is_the_committed_one(capfd: pytest.CaptureFixture[str], workspace: Path) -> None:
    done = run(capfd, "schema")
    assert (done.code, done.err) == (0, "")
    assert done.out == (COMMITTED / "job.schema.json").read_text()
    assert run(capfd, "schema", "--out", "job.schema.json").out == ""
    assert (workspace / "job.schema.json").read_text() == done.out


def test_the_committed_job_has_the_structure_of_the_schema() -> None:
    job, schema = yaml.safe_load((COMMITTED / "games.yaml").read_text()), json_schema()
    assert set(schema["required"]) <= set(job) <= set(schema["properties"])
    import jsonschema

    jsonschema.Draft202012Validator(schema).validate(job)
    with pytest.raises(jsonschema.ValidationError, match="sorce"):
        jsonschema.Draft202012Validator(schema).validate({**job, "sorce": 1})


@pytest.fixture
def dated(workspace: Path) -> None:
    """A table by event_date whose column A is the model's feature a."""
    rows = features(DAY).rename_columns(["player_id", "country", "A", "b", "event_date"])
    write("lake/games", rows, ["event_date"])


def test_init_writes_a_job_that_scores(dated: None, uri: str, tracking_uri: str, capfd: Any) -> None:
    done = run(capfd, "init", uri, "lake/games", "--tracking-uri", tracking_uri)
    assert (done.code, done.err) == (0, "")
    command = "lakehouse score conf/purchase.yaml --date YYYY-MM-DD --dry-run"
    assert done.out == f"wrote conf/purchase.yaml; look it through, then: {command}\n"
    job = load_job("conf/purchase.yaml", date=DAY, environ={})
    assert (job.keys, job.features.rename, dict(job.slice)) == (("player_id",), {"a": "A"}, {"score_date": DAY})
    assert job.source.where == f"event_date = '{DAY}'"
    scored = run(capfd, "score", "conf/purchase.yaml", "--date", DAY, "--engine", "local", "--json")
    assert (scored.code, scored.json["status"], scored.json["rows_scored"]) == (0, "published", 40)
    assert read("lake/purchase_scores").column_names[:2] == ["player_id", "probability"]


def test_init_fetches_the_model_into_the_folder_that_goes_with_the_process(
    dated: None, uri: str, tracking_uri: str, workspace: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, seen = models.fetch, []

    def watched(config: Any, resolved: Any, folder: Path) -> Any:
        seen.append(folder)
        return fetch(config, resolved, folder)

    monkeypatch.setattr(models, "fetch", watched)
    monkeypatch.chdir(workspace / "lake")
    done = run(capfd, "init", uri, "lake/games", "--tracking-uri", tracking_uri, "--project-dir", "..")
    assert ([folder.parent for folder in seen], seen[0].exists()) == ([scratch.process_folder()], False)
    assert done.out.endswith(" --dry-run --project-dir ..\n")


def test_init_overwrites_nothing(dated: None, uri: str, tracking_uri: str, workspace: Path, capfd: Any) -> None:
    (workspace / "mine.yaml").write_text("job: mine\n")
    before = tree(workspace)
    done = run(capfd, "init", uri, "lake/games", "--out", "mine.yaml", "--tracking-uri", tracking_uri)
    assert (done.code, done.out) == (2, "")
    assert done.err == "failed: mine.yaml is there already: name another file with --out\n"
    assert tree(workspace) == before


def test_init_gives_each_job_a_name_and_a_table_of_its_own(
    dated: None, uri: str, tracking_uri: str, workspace: Path, capfd: Any
) -> None:
    """The same model on another table: both jobs would else take each other's scores for their own."""
    (workspace / "conf").mkdir()
    (workspace / "conf/lakehouse.yaml").write_text(f"defaults: {{model: {{tracking_uri: '{tracking_uri}'}}}}\n")
    assert run(capfd, "init", uri, "lake/games").code == 0
    assert run(capfd, "init", uri, "lake/games", "--out", "conf/others.yaml").code == 0
    first, second = (load_job(f"conf/{name}.yaml", date=DAY, environ={}) for name in ("purchase", "others"))
    assert ((first.job, first.sinks[0].table), (second.job, second.sinks[0].table)) == (
        ("purchase", "lake/purchase_scores"),
        ("others", "lake/others_scores"),
    )
    assert first.model.tracking_uri == tracking_uri
    (workspace / "conf/others.yaml").rename(workspace / "conf/renamed.yaml")
    done = run(capfd, "init", uri, "lake/games", "--out", "conf/others.yaml")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("failed: conf/renamed.yaml is the job 'others' already: name another file with --out")


@pytest.mark.parametrize("empty", [("", "lake/features"), ("models:/m/1", ""), ("m", "t", "--tracking-uri", "")])
def test_init_with_nothing_says_what_it_is_called_with(capfd: Any, workspace: Path, empty: tuple[str, ...]) -> None:
    done = run(capfd, "init", *empty)
    assert (done.code, done.err.endswith("the command is lakehouse init models:/<name>@<alias> <table>\n")) == (2, True)


@pytest.mark.parametrize("name", ["churn_{segment}@champion", "churn@{segment}"])
def test_init_of_many_models_says_how_to_begin_with_one(capfd: Any, workspace: Path, name: str) -> None:
    done = run(capfd, "init", f"models:/{name}", "lake/features")
    assert done.code == 2
    assert "init one of these models by its whole name" in done.err
    assert done.err.endswith("then put {segment} into model.uri and add model.by: segment\n")


@pytest.mark.usefixtures("dated")
def test_init_names_the_nearest_table_and_model(uri: str, tracking_uri: str, workspace: Path, capfd: Any) -> None:
    before = tree(workspace)
    table = run(capfd, "init", uri, "lake/game", "--tracking-uri", tracking_uri)
    unknown = run(capfd, "init", "models:/purchse@champion", "lake/games", "--tracking-uri", tracking_uri)
    assert (table.code, table.err) == (2, "failed: there is no Delta table at lake/game; did you mean 'games'?\n")
    assert (unknown.code, unknown.err.endswith("no model 'purchse', did you mean 'purchase'?\n")) == (2, True)
    assert tree(workspace) == before


# --- starting up ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["--help"], ["score", "--help"], ["schema"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    heavy = ["mlflow", "pyspark", "pandas", "pyarrow", "numpy", "deltalake", "sklearn"]
    code = (
        "import sys\nfrom lakehouse.cli import main\n"
        f"try:\n    main({command})\nfinally:\n    print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert done.stdout


def test_help_shows_the_commands_in_groups(capfd: pytest.CaptureFixture[str]) -> None:
    shown = run(capfd, "--help").out
    groups = ("Run a job", "Look at runs and tables", "Keep tables in order", "Get started")
    assert sorted(groups, key=shown.index) == list(groups)
    assert shown.index("Run a job") < shown.index("│ replay ") < shown.index("Look at runs") < shown.index("│ sql ")


def test_the_version_names_the_packages_that_decide_most_and_imports_none_of_them() -> None:
    names = ["pyspark", "delta-spark", "deltalake", "mlflow"]
    code = (
        "import sys\nfrom lakehouse.cli import main\n"
        f"try:\n    main(['--version'])\nfinally:\n    assert not {{*sys.modules}} & {{*{names}, 'delta'}}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    versions = [f"{name} {metadata.version(name)}" for name in names]
    assert (done.stdout.splitlines(), done.stderr) == ([f"lakehouse {__version__}", *versions], "")


@pytest.mark.parametrize(("words", "word", "offered"), [("lakehouse re", 1, "replay\nreport\nrecall\nreconcile\nregister"),
                                                      ("lakehouse score x.yaml --resc", 3, "--rescore")])  # fmt: skip
def test_the_shell_completes_commands_and_options(words: str, word: int, offered: str) -> None:
    environ = {**os.environ, "_LAKEHOUSE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(word)}
    command = [sys.executable, "-c", "from lakehouse.cli import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True)
    assert done.stdout.strip() == offered


LOOKS: dict[str, list[str]] = {"init": ["models:/x@y", "lake/none"], "sql": ["duckdb", CONF], "schema": [], "jars": [],
                               "replay": [CONF, "--run", "1"], "backfill": [CONF, "--from", "2026-01-01", "--to", "2026-01-01"],
                               "promote": [CONF, "2"], "prove": [CONF, "--key", "1"], "check-proof": ["proof.json"],
                               "compare": [CONF, "--with", "lake/other"], "parity": [CONF, "--url", "http://[::1]:1"],
                               "explain": [CONF, "--key", "1"], "package": ["lambda", CONF],
                               "diff": [CONF, "--run", "1"], "publish": [CONF, "--run", "1"], "discard": [CONF, "--run", "1"]}  # fmt: skip


COMMANDS = [function.__name__.replace("_", "-") for group in commands.GROUPS.values() for function in group]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_forgets_how_a_stop_and_a_wrong_folder_are_told(
    command: str, capfd: pytest.CaptureFixture[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [command, *LOOKS.get(command, [] if command == "demo" else [CONF])]
    done = run(capfd, *words, "--project-dir", "nowhere")
    assert (done.code, done.out, done.err) == (2, "", "failed: --project-dir nowhere: No such file or directory\n")

    def stop(folder: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(os, "chdir", stop)
    done = run(capfd, *words, "--project-dir", "nowhere")
    assert (done.code, done.out, done.err) == (143, "", "failed: stopped\n")


def test_an_unknown_option_is_a_usage_error(capfd: pytest.CaptureFixture[str], workspace: Path) -> None:
    done = run(capfd, "score", "conf/none.yaml", "--dat", DAY)
    assert (done.code, done.out) == (2, "")
    assert "--date" in done.err


# --- a dry run's plan -------------------------------------------------------------------------------------

PLAN = {
    "run_id": "1", "input": {"table": "lake/features", "version": 3}, "files": 2, "rows_at_most": 40_000,
    "model": {"name": "m", "version": "1", "digest": "0" * 64}, "carrier": "files", "reason": "Arrow reads them",
    "columns": [f"c{i}" for i in range(3_000)], "units": 2, "slice": {}, "generation": 1, "fingerprint": "f" * 64,
    "table": "lake/scores", "table_version": None, "publish": "create the table, then replace the whole table",
}  # fmt: skip


def test_a_plan_names_challengers_as_it_does_the_model() -> None:
    rival = {"label": "next", "name": "m", "version": "2", "digest": "c79e" * 16}
    lines = planned.plan_text({**PLAN, "challengers": [rival, {**rival, "version": "3", "label": "last"}]}).splitlines()
    assert [line for line in lines if line.startswith(("model", "challenger"))] == [
        "model        m v1 sha256:0000000000000000…",
        "challenger   m v2 sha256:c79ec79ec79ec79e…, called next",
        "challenger   m v3 sha256:c79ec79ec79ec79e…, called last",
    ]
    assert "{" not in "".join(lines)


def test_a_plan_shows_entries_that_it_has_no_place_for() -> None:
    more = {
        "converts": ["age: int64 to double", "day: date to datetime"],
        "adds_columns": [],
        "budget": {"max_rows": 5},
    }
    lines = planned.plan_text({**PLAN, **more}).splitlines()
    assert [line.rstrip() for line in lines[5:9]] == [
        "converts     age: int64 to double",
        "             day: date to datetime",
        "budget       max_rows: 5",
        "slice        the whole table",
    ]


def test_a_plan_of_thousands_of_columns_shows_a_few() -> None:
    (line,) = (line for line in planned.plan_text(PLAN).splitlines() if line.startswith("columns"))
    assert line.endswith("c10, c11, … (3,000 in all)")


def test_a_plan_is_broken_into_the_terminals_lines_and_only_there() -> None:
    long = {**PLAN, "needs_delta": ["lake/features has to be read by Spark itself (" + "a reason, " * 20 + ")"]}
    assert max(map(len, planned.plan_text(long).splitlines())) > 200
    lines = planned.plan_text(long, 80).splitlines()
    assert max(map(len, lines)) <= 80
    at = next(number for number, line in enumerate(lines) if line.startswith("needs delta"))
    assert lines[at + 1][:13].isspace()
    assert lines[at + 1][13] != " "
