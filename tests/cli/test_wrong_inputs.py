"""What is refused: one clear message, the right exit code, nothing created, and no byte of the model run before."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn
import yaml
from deltalake import DeltaTable
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakehouse.config.reading import deep_merge
from lakehouse.schemas import LINEAGE
from tests.command import Outcome, run, tree
from tests.conftest import read, write

DAY = "2026-01-02"
CONF = "conf/scores.yaml"
GONE: Any = object()  # a key to leave out of the job file
Refused = Callable[..., str]


def features(b: pa.DataType | None = None) -> pa.Table:
    """Forty rows of one day; `b` is double unless said otherwise."""
    n = np.arange(40)
    return pa.table(
        {
            "id": n,
            "country": ["DE", "FR"] * 20,
            "a": n * 0.1,
            "b": pa.array(n % 7).cast(b or pa.float64()),
            "day": [DAY] * 40,
        }
    )


def inputs() -> pd.DataFrame:
    return pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})


def fitted() -> LogisticRegression:
    x = inputs()
    return LogisticRegression().fit(x, (x["a"] > 2).astype(int))


@pytest.fixture(scope="module")
def uri(register: Callable[..., str]) -> str:
    return register(fitted(), inputs(), name="buyers")


@pytest.fixture
def job(workspace: Path, uri: str, tracking_uri: str) -> Callable[..., None]:
    """job(changes) writes the job file, right but for the changes; lake/features and other tables are there."""
    write("lake/features", features())
    write("lake/lacking", features().rename_columns(["id", "country", "a", "bb", "day"]))
    write("lake/wide", features(pa.string()))
    Path("lake/parquet").mkdir()
    pq.write_table(features(), "lake/parquet/part-0.parquet")
    right: dict[str, Any] = {
        "job": "scores",
        "source": {"type": "delta", "table": "lake/features", "where": "day = '{date}'"},
        "model": {"uri": uri, "tracking_uri": tracking_uri, "method": "predict_proba"},
        "keys": ["id"],
        "keep": ["country"],
        "predictions": {"p": {"class": 1}},
        "slice": {"score_date": "{date}"},
        "sinks": [{"type": "delta", "table": "lake/scores"}],
    }
    Path("conf").mkdir()

    def put(changes: Mapping[str, Any] | str = {}) -> None:
        text = (
            changes
            if isinstance(changes, str)
            else yaml.safe_dump(_without(deep_merge(right, changes)), sort_keys=False)
        )
        Path(CONF).write_text(text)

    return put


def _without(node: Any) -> Any:
    return {k: _without(v) for k, v in node.items() if v is not GONE} if isinstance(node, dict) else node


@pytest.fixture
def score(job: Callable[..., None], capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """score(changes, *arguments) runs the job with changes."""

    def go(changes: Mapping[str, Any] | str = {}, *arguments: str, conf: str = CONF, date: str | None = DAY) -> Outcome:
        job(changes)
        dated = ["--date", date] if date else []
        return run(capfd, "score", conf, *dated, "--engine", "local", "--json", *arguments)

    return go


@pytest.fixture
def refused(score: Callable[..., Outcome], job: Callable[..., None], workspace: Path) -> Refused:
    """refused(changes, *arguments, code=2) → the message. Nothing else on stderr, nothing changed on disk."""

    def go(changes: Mapping[str, Any] | str = {}, *arguments: str, code: int = 2, **more: Any) -> str:
        job(changes)
        before = _unless_written(tree(workspace))
        done = score(changes, *arguments, **more)
        message = str(done.json["message"])
        assert (done.code, done.err, done.json["status"]) == (code, f"failed: {message}\n", "failed")
        assert _unless_written(tree(workspace)) == before
        return message

    return go


def _unless_written(found: Mapping[str, Any]) -> dict[str, Any]:
    return {path: what for path, what in found.items() if not path.endswith(CONF)}


def test_the_job_is_right_without_changes(score: Callable[..., Outcome]) -> None:
    done = score()
    assert (done.code, done.err, done.json["status"]) == (0, "", "published")


# --- the job file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kep": ["a"]}, f"{CONF}: kep: unknown key, did you mean 'keep'?"),
        ({"model": {"metod": "predict"}}, f"{CONF}: model.metod: unknown key, did you mean 'method'?"),
        ({"keys": []}, f"{CONF}: keys: name at least one column that identifies a row"),
        ({"keys": GONE}, f"{CONF}: keys: missing, the columns that identify a row"),
        ({"sinks": GONE}, f"{CONF}: sinks: missing, the tables the scores are published to"),
        ({"keys": ["id", "ID"]}, f"{CONF}: keys: 'ID' is already a column of the scored table, by keys ('id')"),
        (
            {"predictions": {"country": {"class": 0}}},
            f"{CONF}: predictions: 'country' is already a column of the scored table, by keep ('country')",
        ),
        (
            {"predictions": {"P": {"class": 0}}},
            f"{CONF}: predictions: 'P' is already a column of the scored table, by predictions ('p')",
        ),
        (
            {"predictions": GONE, "keep": ["country", "b"], "slice": {"B": 1}},
            f"{CONF}: slice: 'B' is already a column of the scored table, by keep ('b')",
        ),
        ("job: scores\nsource: {type: delta\nkeys: [id]\n", f"{CONF}, line 3, column 5: not readable as YAML: "),
        ("job: scores\n\tkeys: [id]\n", f"{CONF}, line 2, column 1: not readable as YAML: "),
        (
            {"source": {"table": "${LAKE_OF_NOWHERE}/features"}},
            f"{CONF}: source.table: environment variable 'LAKE_OF_NOWHERE' is not set",
        ),
        (
            {"predictions": {"p": {"output": -1, "class": GONE}}},
            f"{CONF}: predictions.p: output must be a column number",
        ),
        (
            {"sinks": [{"type": "delta", "table": "lake/one"}, {"type": "delta", "table": "lake/two"}]},
            f"{CONF}: sinks: one Delta table at most, since the staged files become its own; copy it, or give it a job",
        ),
        ({"sinks": [{"type": "delta", "table": "lake/features"}]}, f"{CONF}: sinks.0.table: 'lake/features' is also "),
    ],
)
def test_a_wrong_job_file(refused: Refused, changes: Any, said: str) -> None:
    assert refused(changes).startswith(said)


def test_a_job_file_that_is_not_there_names_the_nearest(refused: Refused) -> None:
    said = f"conf/score.yaml: no such file in {Path('conf').absolute()}, did you mean 'scores.yaml'?"
    assert refused(conf="conf/score.yaml") == said


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ("conf", "conf is a folder: name a job file in it, known: scores.yaml"),
        ("file/scores.yaml", "file/scores.yaml: can't be read: Not a directory"),
        ("conf/a\0.yaml", "conf/a\0.yaml: can't be read: embedded null byte"),
        ("latin.yaml", "latin.yaml: not readable as YAML: unacceptable character #x00e4: invalid continuation byte"),
    ],
)
def test_a_job_file_that_is_none(refused: Refused, workspace: Path, conf: str, said: str) -> None:
    Path("file").write_text("")
    Path("latin.yaml").write_bytes("job: käufer\n".encode("latin-1"))
    assert refused(conf=conf).startswith(said)


# --- files that are in another folder ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        (
            "scores.yaml",
            "scores.yaml: source.table: there is no lake/features in {here}/conf, in which relative paths begin, but in "
            "{here}: did you mean conf/scores.yaml --project-dir ..?",
        ),
        (CONF, f"{CONF}: no such file in {{here}}/conf/conf, but in {{here}}: did you mean --project-dir ..?"),
    ],
)
def test_a_job_that_is_run_in_another_folder_says_in_which_it_would_run(
    job: Callable[..., None], workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    conf: str, said: str,
) -> None:  # fmt: skip
    job()
    monkeypatch.chdir("conf")
    done = run(capfd, "score", conf, "--date", DAY, "--engine", "local")
    assert (done.code, done.err) == (2, f"failed: {said.format(here=workspace)}\n")


def test_relative_paths_begin_in_the_project_dir(
    job: Callable[..., None], workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    job()
    monkeypatch.chdir("conf")
    done = run(capfd, "score", CONF, "--date", DAY, "--engine", "local", "--project-dir", "..")
    assert (done.code, Path("lake/scores").is_dir()) == (0, True)
    monkeypatch.chdir("/")
    status = run(capfd, "status", CONF, "--date", DAY, "--project-dir", str(workspace), "--json")
    assert (status.code, status.json["status"]) == (0, "published")
    assert Path.cwd() == workspace


def test_a_project_dir_that_is_none(capfd: pytest.CaptureFixture[str], workspace: Path) -> None:
    done = run(capfd, "runs", CONF, "--project-dir", "nowhere")
    assert (done.code, done.err) == (2, "failed: --project-dir nowhere: No such file or directory\n")


def test_a_suite_named_relative_to_the_job_file(refused: Refused, job: Callable[..., None], workspace: Path) -> None:
    job()
    Path("conf/suite.yaml").write_text("expectations: []\n")
    said = refused({"checks": {"features": "suite.yaml"}})
    assert said == (
        f"{CONF}: checks.features: there is no suite.yaml in {workspace}, in which relative paths begin, but in "
        f"{workspace}/conf: did you mean conf/suite.yaml?"
    )


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        ("conf/sute.yaml", "checks.features: there is no file conf/sute.yaml in {}; did you mean 'suite.yaml'?"),
        ("conf", "conf is a folder: name a file"),
        ("file/suite.yaml", "checks.features: there is no file file/suite.yaml in {}; there are none"),
    ],
)
def test_a_suite_that_is_not_there(
    refused: Refused, job: Callable[..., None], workspace: Path, suite: str, said: str
) -> None:
    job()
    Path("file").write_text("")
    Path("conf/suite.yaml").write_text("expectations: []\n")
    assert refused({"checks": {"features": suite}}) == said.format(workspace)


@pytest.mark.parametrize("date", ["2026-02-30", "tomorrow", "2026-1-2", "20260102", ""])
def test_a_date_that_is_none(refused: Refused, date: str) -> None:
    assert refused({}, "--date", date, date=None) == f"--date {date!r} is not a date: give YYYY-MM-DD"


def test_no_date_where_one_is_needed_names_the_places(refused: Refused) -> None:
    said = f"{CONF} uses {{date}} at source.where, slice.score_date: give --date YYYY-MM-DD"
    assert refused(date=None) == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "keys"], "override 'keys': give key.key=value"),
        (["--set", "sinks.1.table=lake/x"], "override 'sinks.1.table=lake/x': index 1 is out of range"),
        (["--set", "keys.first=x"], "override 'keys.first=x': index first is out of range"),
        (["--set", "source.version={"], "override 'source.version={', line 1, column 2: not readable as YAML"),
        (["--set", "sorce.version=1"], "override 'sorce.version=1': sorce: unknown key, did you mean 'source'?"),
        (["--engine", "sprak"], "--engine: 'sprak' is none: use spark or local"),
        (["--target", "prod"], "target 'prod' needs conf/lakehouse.yaml, which does not exist"),
    ],
)
def test_a_wrong_option(refused: Refused, arguments: list[str], said: str) -> None:
    assert refused({}, *arguments).startswith(said)


def test_a_target_that_is_not_listed_names_the_nearest(refused: Refused, job: Callable[..., None]) -> None:
    Path("conf/lakehouse.yaml").write_text("targets: {dev: {}, prod: {}}\n")
    assert refused({}, "--target", "prd") == "conf/lakehouse.yaml: targets.prd: unknown target, did you mean 'prod'?"


# --- the input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": {"table": "lake/feature"}}, "source.table: there is no Delta table at lake/feature ("),
        ({"source": {"table": "hdfs://lake/features"}}, "hdfs://lake/features: storage hdfs:// is not supported yet"),
        (
            {"sinks": [{"type": "delta", "table": "hdfs://lake/x"}]},
            "hdfs://lake/x: storage hdfs:// is not supported yet",
        ),
        ({"source": {"version": 9}}, "lake/features has no version 9, the newest is 0"),
        ({"source": {"timestamp": "soon"}}, "source.timestamp: 'soon' is no time: write one in ISO 8601, such as "),
        ({"keys": ["idd"]}, "keys: lake/features has no column 'idd', did you mean 'id'?"),
        ({"keep": ["land"]}, "keep: lake/features has no column 'land', known: a, b, country, day, id"),
        (
            {"source": {"table": "lake/lacking"}},
            "the model's feature 'b' has no column 'b' in lake/lacking, did you mean 'bb'?",
        ),
        (
            {"source": {"table": "lake/wide"}},
            "the model's feature 'b' is double, column 'b' of lake/wide is string: no lossless cast; if its values are meant so, add features: {cast: {b: double}}",
        ),
        ({"features": {"rename": {"bb": "a"}}}, "features.rename: the model has no feature 'bb', did you mean 'b'?"),
        ({"features": {"rename": {"b": "c"}}}, "the model's feature 'b' has no column 'c' in lake/features, "),
        (
            {"slice": {"a": 1}, "keep": []},
            "slice.a: the model reads a column of this name; name the slice otherwise",
        ),
    ],
)
def test_a_wrong_input(refused: Refused, changes: Any, said: str) -> None:
    assert refused(changes).startswith(said)


def test_a_missing_table_names_the_nearest_beside_it(refused: Refused) -> None:
    assert refused({"source": {"table": "lake/feature"}}).endswith("; did you mean 'features'?")


def test_a_folder_that_is_no_delta_table(refused: Refused) -> None:
    assert refused({"source": {"table": "lake/parquet"}}).startswith(
        "source.table: there is no Delta table at lake/parquet ("
    )


def test_a_folder_that_is_no_delta_table_is_not_offered_as_one(refused: Refused) -> None:
    assert "did you mean 'parquet'" not in refused({"source": {"table": "lake/parquet"}})


@pytest.mark.parametrize(
    "where",
    [
        "id = 1; DROP TABLE t",
        "DELETE FROM t",
        "id IN (SELECT id FROM t)",
        "EXISTS (SELECT 1)",
        "id = 1 UNION SELECT 1",
        "rand() < 0.5",
        "day = current_date",
        "day = current_date()",
        "day = to_date(now())",
        "day = date_sub(current_date(), 1)",
        "max(id) > 1",
        "row_number() over (order by id) = 1",
        "uuid() = day",
        "reflect('java.lang.System', 'exit', 1) = 'x'",
        "id = :id",
        "42",
        "id ==",
        "",
    ],
)
def test_an_unsafe_where(refused: Refused, where: str) -> None:
    said = refused({"source": {"where": where}, "slice": {"score_date": DAY}})
    assert "source.where" in said


@pytest.mark.parametrize(
    "where",
    [
        "day > date'today'",
        "day > timestamp'now'",
        "day = getdate()",
        "day > current_time()",
        "id < uniform(0, 10)",
        "day = current_schema()",
        "input_file_block_start() = 0",
    ],
)
def test_a_where_of_the_moment(refused: Refused, where: str) -> None:
    assert "is not safe" in refused({"source": {"where": where}, "slice": {"score_date": DAY}})


MACRO = (
    "is a macro of Airflow, which fills in a task's own arguments and not this file: write {date} here, and "
    "--date {{ ds }} in the task"
)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("day = '{ds}'", f"{{ds}} {MACRO}"),
        ("day = {ds}", f"{{ds}} {MACRO}"),
        ("day = '{{ ds }}'", f"{{{{ ds }}}} {MACRO}"),
        ("day >= '{{ data_interval_start | ds }}'", f"{{{{ data_interval_start | ds }}}} {MACRO}"),
        ("day = '{run_date}'", "{run_date} is not filled in: the run's date is {date}"),
        ("day = '{{date}}'", "{{date}} is not filled in: the run's date is {date}"),
        (
            "day = {date}",
            "{date} without quotes is arithmetic, 2026-01-02 is 2023: a date must be quoted, day = '{date}'",
        ),
    ],
)
def test_a_where_with_a_date_that_is_not_filled_in_or_no_date(refused: Refused, where: str, said: str) -> None:
    assert refused({"source": {"where": where}}) == f"{CONF}: source.where: {said}"


def test_a_date_without_quotes(refused: Refused) -> None:
    said = refused({"source": {"where": "day = 2026-01-02"}})
    assert said.endswith("2026-01-02 without quotes is arithmetic, a date must be quoted: '2026-01-02'")


def test_a_slice_by_a_macro_of_airflow(refused: Refused) -> None:
    said = refused({"slice": {"score_date": "{{ ds }}"}})
    assert said == f"{CONF}: slice.score_date: {{{{ ds }}}} {MACRO}"


def test_braces_that_mean_nothing_are_left_alone(score: Callable[..., Outcome]) -> None:
    done = score({"source": {"where": "day = '{date}' AND country <> '{a: 1}'"}})
    assert done.json["status"] == "published"


def test_a_where_on_an_unknown_column_names_the_nearest(refused: Refused) -> None:
    said = refused({"source": {"where": "contry = 'DE' AND day = '{date}'"}})
    assert said == "source.where: the table has no column 'contry', did you mean 'country'?"


def damaged(table: str) -> Path:
    """The only data file of a new table."""
    write(table, features())
    (file,) = Path(table).glob("*.parquet")
    return file


def test_a_data_file_that_is_gone(refused: Refused, workspace: Path) -> None:
    file = damaged("lake/gone")
    file.unlink()
    said = refused({"source": {"table": "lake/gone"}}, code=5)
    assert said.startswith(f"{file.name} of lake/gone is not there any more (VACUUM?)")


def test_a_data_file_that_is_not_parquet(refused: Refused, workspace: Path) -> None:
    file = damaged("lake/odd")
    file.write_bytes(b"not Parquet")
    assert refused({"source": {"table": "lake/odd"}}).startswith(f"{file.name} of lake/odd can't be read as Parquet: ")


def test_a_log_that_is_no_log(refused: Refused, workspace: Path) -> None:
    damaged("lake/odd")
    Path("lake/odd/_delta_log/00000000000000000000.json").write_text("{not JSON")
    said = refused({"source": {"table": "lake/odd"}})
    assert said.startswith("lake/odd: the Delta table can't be read: ")
    assert "unknown" not in said  # the library's own stack


@pytest.mark.parametrize("table", ["file", "lake/parquet/part-0.parquet"])
def test_a_table_that_is_a_file(refused: Refused, workspace: Path, table: str) -> None:
    Path("file").write_text("")
    assert refused({"source": {"table": table}}) == f"{table} is a file: a Delta table is a folder, name that"


def test_a_table_below_a_file(refused: Refused, workspace: Path) -> None:
    Path("file").write_text("")
    said = f"source.table: there is no Delta table at file/x ({workspace}/file/x); there are none"
    assert refused({"source": {"table": "file/x"}}) == said


# --- predictions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"predictions": {"p": 2}}, 4, "predictions.p: no column 2, the model's output has 2"),
        ({"predictions": {"p": "price"}}, 4, "predictions.p: the model's output has no names, so no 'price'"),
        ({"predictions": {"p": {"class": 2}}}, 2, "predictions.p: the model has no class 2: its classes are [0, 1]"),
        (
            {"predictions": {"p": {"class": "1"}}},
            2,
            "predictions.p: the model has no class '1': its classes are [0, 1]",
        ),
        (
            {"predictions": {"p": {"class": True}}},
            2,
            "predictions.p: the model has no class True: its classes are [0, 1]",
        ),
        (
            {"model": {"method": "predict"}, "predictions": {"p": {"class": 0}}},
            2,
            "predictions.p: class needs the probabilities of all 2 classes, the model gives something else: "
            "set model: {method: predict_proba}",
        ),
        (
            {"model": {"method": "transform"}},
            2,
            f"{CONF}: model.method: must be 'predict', 'predict_proba', 'predict_log_proba' or ",
        ),
    ],
)
def test_a_wrong_prediction(refused: Refused, changes: Any, code: int, said: str) -> None:
    assert refused(changes, code=code).startswith(said)


def test_a_class_without_its_method_says_what_to_do(refused: Refused) -> None:
    said = refused({"model": {"method": "predict"}})
    assert said.endswith("set model: {method: predict_proba}")


def test_a_method_and_a_class_that_the_model_lacks(
    refused: Refused, place: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("models") / "model"
    save(LinearRegression().fit(inputs(), inputs()["a"]), folder, skops_trusted_types=["numpy.dtype"])
    regressor = place(folder)
    said = refused({"model": {"uri": regressor}, "predictions": GONE})
    assert said == "model.method: LinearRegression has no method 'predict_proba'"
    said = refused({"model": {"uri": regressor, "method": "predict"}})
    assert said == "predictions.p: the model has no class 1: it has no classes"


# --- which model ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("models:/buyer@champion", "no model 'buyer', did you mean 'buyers'?"),
        ("models:/buyer/1", "no model 'buyer', did you mean 'buyers'?"),
        ("models:/buyers@champ", "buyers has versions [1] and aliases: champion"),
        ("models:/buyers/7", "buyers has versions [1] and aliases: champion"),
        ("models:/buyers/latest", "buyers has versions [1] and aliases: champion"),
        ("models:/buyers", "buyers has versions [1] and aliases: champion"),
        ("models:/buyers/Production", "buyers has versions [1] and aliases: champion"),
        ("models:/BUYERS@champion", "no model 'BUYERS', did you mean 'buyers'?"),
        ("models:/buyers@Champion", "buyers has versions [1] and aliases: champion"),
        (
            "models:/buyers/1/2",
            "'1/2' is no version's number: use models:/buyers@<alias> or models:/buyers/<n>; "
            "buyers has versions [1] and aliases: champion",
        ),
        ("models:/buyers/\u0663", "buyers has versions [1] and aliases: champion"),
        ("models:/buyers/99999999999999999999", "buyers has versions [1] and aliases: champion"),
        ("models:/", "it names no model: use models:/<name>@<alias> or models:/<name>/<n>; known: buyers"),
        ("models:/@champion", "it names no model: use models:/<name>@<alias> or models:/<name>/<n>; known: buyers"),
        ("model:/buyers@champion", "MLflow knows no addresses that begin with model:, did you mean 'models'?"),
        (
            "runs:/0123456789abcdef0123456789abcdef",
            "must be of the form 'runs:/<run_id>/run-relative/path/to/artifact'; "
            "see model.tracking_uri and model.registry_uri",
        ),
        ("mlflow-artifacts:/1/x", "see model.tracking_uri and model.registry_uri"),
        (
            "http://127.0.0.1:9/x",
            "can't be fetched from http://127.0.0.1:9/x: not enough values to unpack (expected 2, got 1)",
        ),
        ("lake/features", "holds no model, as it has no MLmodel file: name the folder that has one"),
        ("buyers", "no folder here and no URI of MLflow: write models:/buyers@<alias>"),
        ("buyers@champion", "no folder here and no URI of MLflow: write models:/buyers@champion"),
        (" models:/buyers/1", "no folder here and no URI of MLflow: write models:/buyers/1, without blanks"),
        ("/buyers", "'/buyers' is no folder here and no URI of MLflow"),
    ],
)
def test_a_model_that_is_not_there_lists_what_is(refused: Refused, wrong: str, said: str) -> None:
    message = refused({"model": {"uri": wrong}})
    assert message.startswith("model.uri: ")
    assert said in message


@pytest.mark.parametrize("database", ["sqlite:///nowhere.db", "sqlite:////nowhere/at/all.db"])
def test_a_database_that_is_not_there_is_not_created(refused: Refused, database: str) -> None:
    said = refused({"model": {"tracking_uri": database}})
    path = database.removeprefix("sqlite:///")
    remedy = "set model.tracking_uri, MLFLOW_TRACKING_URI or, for init, --tracking-uri"
    assert said == f"MLflow: there is no database {path!r} ({database}); {remedy}"


def test_a_database_named_by_its_path_is_told_how_it_is_written(refused: Refused, workspace: Path) -> None:
    (workspace / "mlruns.db").touch()
    said = refused({"model": {"tracking_uri": "mlruns.db"}})
    assert said.startswith("MLflow: mlruns.db is a file: if it is MLflow's database write sqlite:///mlruns.db; ")
    said = refused({"model": {"tracking_uri": "sqlite:///mlrun.db"}})
    assert ", did you mean 'mlruns.db'?; " in said


@pytest.mark.parametrize("database", ["sqlite://", "sqlite:///"])
def test_a_database_without_a_name_is_none(refused: Refused, database: str) -> None:
    assert f"MLflow: {database} names no database: write" in refused({"model": {"tracking_uri": database}})


def test_a_file_that_is_no_database_is_a_mistake(refused: Refused, workspace: Path) -> None:
    (workspace / "notes.txt").write_text("no database" * 100)
    assert "file is not a database; see model.tr" in refused({"model": {"tracking_uri": "sqlite:///notes.txt"}})


def test_a_version_that_is_not_there_names_the_newest(refused: Refused) -> None:
    assert refused({"source": {"version": 77}}).endswith("lake/features has no version 77, the newest is 0")


def test_a_path_that_delta_would_read_as_another_is_refused(refused: Refused) -> None:
    said = refused({"sinks": [{"type": "delta", "table": "lake/a%20b"}]})
    assert said == "lake/a%20b: Delta's readers take %20 in a path for another character: rename it"


def test_mlflow_as_it_finds_itself_creates_no_database(
    refused: Refused, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    said = refused({"model": {"tracking_uri": GONE}})
    assert said.startswith(f"MLflow: there is no database '{workspace}/mlflow.db' (sqlite:///")


@pytest.mark.long
def test_in_a_process_of_its_own_there_is_one_line_too(job: Callable[..., None], workspace: Path) -> None:
    job({"model": {"uri": "models:/buyers@champ"}})
    command = [sys.executable, "-m", "lakehouse.cli", "score", CONF, "--date", DAY, "--engine", "local"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("failed: model.uri: models:/buyers@champ is not there: ")
    assert not (workspace / "lake" / "scores").exists()


# --- models that are more than data -----------------------------------------------------------------------


class Trap(LogisticRegression):
    """A classifier that writes a file when it is unpickled, then works as it should."""

    def __reduce__(self) -> Any:
        create = "__import__('sklearn.linear_model', fromlist=['x']).LogisticRegression()"
        code = f"(__import__('pathlib').Path({self.file!r}).write_text('ran '), {create})[1]"
        return eval, (code,), {**LogisticRegression.__getstate__(self), "_sklearn_version": sklearn.__version__}


class Custom(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]  # exported lazily
    """A Python model that writes a file when it is loaded."""

    def __init__(self, file: str) -> None:
        self.file = file

    def load_context(self, context: Any) -> None:
        Path(self.file).write_text("ran ")

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return model_input["a"].to_numpy() * 2


@pytest.fixture
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the models below write when they are loaded."""
    return tmp_path_factory.mktemp("ran") / "ran"


@pytest.fixture
def place(tracking_uri: str) -> Callable[[Path], str]:
    """place(folder) registers the model in a folder where it is: what changes there changes the version."""

    def go(folder: Path) -> str:
        client = mlflow.MlflowClient(tracking_uri, registry_uri=tracking_uri)
        name = f"placed{len(client.search_registered_models(max_results=200))}"
        client.create_registered_model(name)
        version = client.create_model_version(name, folder.as_uri())
        return f"models:/{name}/{version.version}"

    return go


@pytest.fixture
def folder(tracking_uri: str, uri: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the good model's folder."""
    client = mlflow.MlflowClient(tracking_uri, registry_uri=tracking_uri)
    stored = client.get_model_version_download_uri("buyers", "1").removeprefix("file://")
    return Path(shutil.copytree(stored, tmp_path_factory.mktemp("models") / "model"))


def save(model: Any, folder: Path, **more: Any) -> None:
    """Save a sklearn model as MLflow does; the signature is that of the good one."""
    signature = infer_signature(inputs(), fitted().predict(inputs()))
    mlflow.sklearn.save_model(model, folder, signature=signature, pip_requirements=["scikit-learn"], **more)


@pytest.fixture
def trap(ran: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, place: Callable[[Path], str]) -> str:
    model = Trap().fit(inputs(), fitted().predict(inputs()))
    model.file = str(ran)
    folder = tmp_path_factory.mktemp("models") / "model"
    save(model, folder, serialization_format="pickle")
    ran.unlink(missing_ok=True)  # saving may try the model out
    return place(folder)


def lines_to_add(message: str) -> list[dict[str, Any]]:
    """The lines of a refusal that can be added to the job file as they are."""
    return [yaml.safe_load(line) for line in message.splitlines() if line.startswith("    model: ")]


def test_a_pickle_does_not_run_and_its_line_lets_it(
    refused: Refused, score: Callable[..., Outcome], trap: str, ran: Path
) -> None:
    said = refused({"model": {"uri": trap}}, code=4)
    assert said.startswith("the model is not safe to load: its file 'model.pkl' is stored as pickle")
    assert not ran.exists()
    accept, exactly = lines_to_add(said)
    assert accept == {"model": {"trust": ["pickle"]}}
    done = score(deep_merge({"model": {"uri": trap}}, accept))
    assert (done.code, done.err, done.json["status"]) == (0, "", "published")
    assert ran.exists()
    assert list(exactly) == ["model"]


def test_exactly_this_content_is_trusted_until_it_changes(
    refused: Refused, score: Callable[..., Outcome], trap: str, ran: Path, tracking_uri: str
) -> None:
    said = refused({"model": {"uri": trap}}, code=4)
    _, exactly = lines_to_add(said)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", exactly["model"]["trust"][0])
    trusting = deep_merge({"model": {"uri": trap}}, exactly)
    assert score(trusting).json["status"] == "published"
    ran.unlink()

    client = mlflow.MlflowClient(tracking_uri, registry_uri=tracking_uri)
    folder = client.get_model_version_download_uri(*trap.removeprefix("models:/").split("/")).removeprefix("file://")
    with (Path(folder) / "requirements.txt").open("a") as requirements:
        requirements.write("# one byte more is another model\n")
    said = refused(trusting, "--rescore", code=4)  # a run that loads none has no need of its bytes
    assert lines_to_add(said)[1] != exactly
    assert not ran.exists()


def test_code_of_its_own(
    refused: Refused, place: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, ran: Path
) -> None:
    source = tmp_path_factory.mktemp("code") / "features_of_mine.py"
    source.write_text(f"open({str(ran)!r}, 'w').write('ran ')\n")
    folder = tmp_path_factory.mktemp("models") / "model"
    save(fitted(), folder, code_paths=[str(source)], skops_trusted_types=["numpy.dtype"])
    path = list(sys.path)
    said = refused({"model": {"uri": place(folder)}}, code=4)
    assert said.startswith("the model is not safe to load: it brings Python code of its own (flavor ")
    assert lines_to_add(said)[0] == {"model": {"trust": ["code"]}}
    assert not ran.exists()
    assert sys.path == path


def test_a_custom_model_does_not_run_and_its_line_lets_it(
    refused: Refused, score: Callable[..., Outcome], place: Callable[[Path], str], ran: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "model"
    signature = infer_signature(inputs(), np.zeros(40))
    mlflow.pyfunc.save_model(folder, python_model=Custom(str(ran)), signature=signature, pip_requirements=["pandas"])
    ran.unlink(missing_ok=True)
    changes = {"model": {"uri": place(folder), "method": GONE}, "predictions": {"p": "*"}}
    said = refused(changes, code=4)
    assert "it is a custom Python model (loader 'mlflow.pyfunc.model')" in said
    assert not ran.exists()
    accept = lines_to_add(said)[0]
    assert accept == {"model": {"trust": ["python_function", "pickle"]}}
    half = {"model": {"trust": ["python_function"]}}
    assert lines_to_add(refused(deep_merge(changes, half), code=4))[0] == accept
    assert not ran.exists()
    done = score(deep_merge(changes, accept))
    assert (done.code, done.json["status"], ran.exists()) == (0, "published", True)
    rows = read("lake/scores")
    np.testing.assert_allclose(rows["p"].to_numpy(), np.arange(40) * 0.1 * 2)


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a model's MLmodel file."""
    parsed = yaml.safe_load((folder / "MLmodel").read_text())
    edit(parsed)
    (folder / "MLmodel").write_text(yaml.safe_dump(parsed))


def test_a_model_without_signature(refused: Refused, folder: Path, place: Callable[[Path], str]) -> None:
    change(folder, lambda mlmodel: mlmodel.pop("signature"))
    said = refused({"model": {"uri": place(folder)}}, code=4)
    assert "has no signature, so its features are not known: log it again with signature=infer_signature(" in said


def _sklearn(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda mlmodel: mlmodel["flavors"]["sklearn"].update(values)


def _function(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda mlmodel: mlmodel["flavors"]["python_function"].update(values)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_function(model_path="inner/model.pkl"), "its file is 'inner/model.pkl', not where MLflow puts it"),
        (_function(model_path="..\\model.pkl"), "not where MLflow puts it, so that it may be read in another way"),
        (_function(model_path=""), "its file is '', not where MLflow puts it"),
        (lambda m: m["flavors"]["sklearn"].pop("serialization_format"), "is stored as pickle, which can run any code"),
        (_sklearn(serialization_format="cloudpickle"), "is stored as cloudpickle, which can run any code"),
        (
            _sklearn(skops_trusted_types=["numpy.dtype", "builtins.eval"]),
            "types that are no plain data (builtins.eval)",
        ),
        (_sklearn(code="code"), "it brings Python code of its own (flavor sklearn, folder 'code')"),
        (lambda m: m["flavors"].pop("sklearn"), "is stored as pickle, which can run any code"),
        (_function(loader_module="inner"), "it is a custom Python model (loader 'inner')"),
        (_function(loader_module=None), "it is a custom Python model (loader None)"),
        (lambda m: m["flavors"].pop("python_function"), "the model has no python_function flavor"),
        (lambda m: m.pop("flavors"), "the model has no python_function flavor"),
    ],
)
def test_a_tampered_description(
    refused: Refused, folder: Path, place: Callable[[Path], str], ran: Path, edit: Any, said: str
) -> None:
    change(folder, edit)
    plant(folder / "inner", ran)
    assert said in refused({"model": {"uri": place(folder)}}, code=4)
    assert not ran.exists()


def plant(inner: Path, ran: Path) -> None:
    """A second model, a pickle that writes a file, in a folder inside another one."""
    model = Trap().fit(inputs(), fitted().predict(inputs()))
    model.file = str(ran)
    inner.mkdir()
    (inner / "model.pkl").write_bytes(pickle.dumps(model))
    function = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "python_version": "3.11"}
    (inner / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": function, "sklearn": {}}}))
    (inner / "__init__.py").write_text(f"open({str(ran)!r}, 'w').write('ran ')\n")


@pytest.mark.parametrize("with_path", [True, False])
def test_a_model_inside_the_model_does_not_run(
    refused: Refused, folder: Path, place: Callable[[Path], str], ran: Path, with_path: bool
) -> None:
    plant(folder / "inner", ran)
    change(folder, _function(data="inner"))
    if not with_path:
        change(folder, lambda mlmodel: mlmodel["flavors"]["python_function"].pop("model_path"))
    refused({"model": {"uri": place(folder)}}, code=4)
    assert not ran.exists()


@pytest.mark.parametrize("content", ["", "- a list", "flavors: [", "flavors: {python_function: 1}"])
def test_a_description_that_is_none(refused: Refused, folder: Path, place: Callable[[Path], str], content: str) -> None:
    (folder / "MLmodel").write_text(content)
    refused({"model": {"uri": place(folder)}}, code=4)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b"\xff\xfe" + file.read_bytes()),
        lambda file: change(file.parent, lambda m: m["signature"].update(inputs="[{")),
        lambda file: change(file.parent, lambda m: m.update(signature="hello")),
        lambda file: change(file.parent, lambda m: m.update(signature=[1])),
        lambda file: change(file.parent, _sklearn(skops_trusted_types=3)),
    ],
)
def test_a_description_that_can_not_be_read(
    refused: Refused, folder: Path, place: Callable[[Path], str], damage: Callable[[Path], object]
) -> None:
    damage(folder / "MLmodel")
    refused({"model": {"uri": place(folder)}}, code=4)


def test_a_model_file_that_is_damaged(refused: Refused, folder: Path, place: Callable[[Path], str]) -> None:
    (folder / "model.skops").write_bytes(b"no zip file")
    assert refused({"model": {"uri": place(folder)}}, code=4).startswith("the model can't be loaded here: ")


# --- symbolic links ---------------------------------------------------------------------------------------


def test_a_link_out_of_a_registered_model(
    score: Callable[..., Outcome], folder: Path, place: Callable[[Path], str], workspace: Path
) -> None:
    (workspace / "secret").write_text("s3cret")
    (folder / "data.txt").symlink_to(workspace / "secret")
    done = score({"model": {"uri": place(folder)}})
    assert done.code in (2, 4)  # MLflow's refusal or ours
    assert done.err == f"failed: {done.json['message']}\n"
    assert "s3cret" not in done.err
    assert not (workspace / "lake" / "scores").exists()


def test_a_link_that_a_store_hands_on(
    refused: Refused, folder: Path, place: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "data.txt").symlink_to(folder / "MLmodel")
    uri = place(folder)

    def download(artifact_uri: str, dst_path: str, **more: Any) -> str:
        return str(shutil.copytree(folder, Path(dst_path) / "model", symlinks=True))

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    said = refused({"model": {"uri": uri}}, code=4)
    assert said.endswith("the model's folder has symbolic links, which could lead anywhere")


@pytest.mark.parametrize("registered", [True, False])
def test_a_link_in_a_model_on_this_machine(
    refused: Refused, folder: Path, place: Callable[[Path], str], registered: bool
) -> None:
    leads = folder / "MLmodel" if registered else Path("secret").absolute()
    Path("secret").write_text("s3cret")
    (folder / "data.txt").symlink_to(leads)
    said = refused({"model": {"uri": place(folder) if registered else str(folder)}}, code=4)
    assert said.endswith("the model's folder has symbolic links, which could lead anywhere")


# --- a target that is there already -----------------------------------------------------------------------


def scored(score_date: pa.DataType | None = None) -> pa.Table:
    """An empty table as this job writes it; its slice is a date unless said otherwise."""
    columns = [("id", pa.int64()), ("country", pa.string()), ("p", pa.float64()), *((f.name, f.type) for f in LINEAGE)]
    return pa.schema([*columns, ("score_date", score_date or pa.date32())]).empty_table()


def test_a_target_just_as_the_job_writes_it_is_fine(score: Callable[..., Outcome], workspace: Path) -> None:
    write("lake/scores", scored(), ["score_date"])
    assert score().json["sinks"][0]["version"] == 1


def test_a_target_with_another_schema(refused: Refused) -> None:
    table = scored().set_column(2, "p", pa.array([], pa.float32())).append_column("extra", pa.array([], pa.string()))
    write("lake/scores", table, ["score_date"])
    said = refused()
    assert said.startswith(
        "lake/scores has another schema than this job writes; publish to a new table, or change the job:"
    )
    marked = [line.split()[1:] for line in said.splitlines()[2:] if line.startswith("  !")]
    assert marked == [["p", "float", "double"], ["extra", "string", "-"]]


def test_a_target_with_another_partitioning(refused: Refused) -> None:
    write("lake/scores", scored(), ["country"])
    said = "lake/scores is partitioned by ['country'], the job's slice is ['score_date']: they must be the same"
    assert refused() == said


def test_a_target_without_partitions(refused: Refused) -> None:
    write("lake/scores", scored())
    assert refused().startswith("lake/scores is partitioned by nothing, the job's slice is ['score_date']")


def test_a_target_with_partitions_for_a_job_without(refused: Refused) -> None:
    write("lake/scores", scored(), ["score_date"])
    said = "lake/scores is partitioned by ['score_date'], the job's slice is the whole table"
    assert refused({"slice": GONE}).startswith(said)


@pytest.mark.parametrize("check", ["p * 2 > 0", "p > 0 OR p < -1", "_model_version = '1'"])
def test_a_target_with_a_check_that_only_spark_evaluates_without_spark(refused: Refused, check: str) -> None:
    write("lake/scores", scored(), ["score_date"])
    DeltaTable("lake/scores").alter.add_constraint({"odd": check})
    assert refused() == (
        f"lake/scores: only Spark can write to this table (CHECK constraint odd ({check}), which only Spark "
        "evaluates): use --engine spark"
    )


def test_a_slice_that_breaks_a_check(refused: Refused) -> None:
    write("lake/scores", scored(), ["score_date"])
    DeltaTable("lake/scores").alter.add_constraint({"later": "score_date > DATE '2030-01-01' AND p >= 0"})
    assert refused().startswith("slice.score_date: 2026-01-02 breaks the CHECK constraint later (score_date > ")


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        (
            {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "1"},
            "(column mapping): use --engine",
        ),
        ({"delta.appendOnly": "true"}, "delta.appendOnly (the job replaces rows); publish to a table without it"),
        ({"delta.universalFormat.enabledFormats": "iceberg"}, "can't be honoured: delta.universalFormat.enabledFor"),
        (
            {"delta.setTransactionRetentionDuration": "interval 30 days"},
            "delta.setTransactionRetentionDuration (the table would forget what was published to it); publish to a",
        ),
    ],
)
def test_a_target_with_rules_in_its_log(
    refused: Refused, workspace: Path, configuration: dict[str, str], said: str
) -> None:
    raw_table(Path("lake/scores"), configuration)
    assert said in refused()


@pytest.mark.parametrize("place", ["lake/scores", "lake/managed"])
@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ("catalogManaged", "a catalog manages the table's commits (catalogManaged), which is not supported yet"),
        ("fromTheFuture", "'fromTheFuture' is not supported"),
    ],
)
def test_a_table_with_a_feature_that_changes_what_its_log_means(
    refused: Refused, workspace: Path, place: str, feature: str, said: str
) -> None:
    raw_table(Path(place), {}, feature)
    message = refused({} if place == "lake/scores" else {"source": {"table": place}})
    assert message.startswith(f"{place}: ")
    assert said in message


def raw_table(root: Path, configuration: dict[str, str], feature: str | None = None) -> None:
    """An empty table with one column id beside its partition, its log written by hand."""
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in (("id", "long"), ("score_date", "date"))
    ]
    for number, field in enumerate(fields, 1):
        if "delta.columnMapping.mode" in configuration:
            field["metadata"] = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"c{number}"}
    metadata = {
        "id": "0f3a5b9e-0000-4000-8000-000000000000", "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}), "partitionColumns": ["score_date"],
        "configuration": configuration, "createdTime": 1,
    }  # fmt: skip
    log = root / "_delta_log"
    log.mkdir(parents=True)
    protocol: dict[str, Any] = {"minReaderVersion": 2, "minWriterVersion": 5}
    if feature:
        protocol = {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": [feature],
            "writerFeatures": [feature],
        }
    lines = [{"protocol": protocol}, {"metaData": metadata}]
    (log / "00000000000000000000.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_slice_value_that_is_not_of_the_columns_type(refused: Refused) -> None:
    write("lake/scores", scored(pa.int64()), ["score_date"])
    assert refused() == "slice.score_date: '2026-01-02' is not a value of the column's type, int64"


def test_a_target_that_is_a_file(refused: Refused) -> None:
    Path("lake/scores").write_text("not a folder")
    assert refused() == "lake/scores is a file: a Delta table is a folder, name that"


@pytest.fixture
def nowhere(score: Callable[..., Outcome], job: Callable[..., None], workspace: Path) -> Refused:
    """nowhere(changes) → the message of the run and of its dry run, which leave nothing behind."""

    def go(changes: Mapping[str, Any]) -> str:
        job(changes)
        Path("file").write_text("")
        before = _unless_written(tree(workspace))
        run, dry = score(changes), score(changes, "--dry-run")
        assert _unless_written(tree(workspace)) == before
        assert (run.code, run.json["message"]) == (dry.code, dry.json["message"])
        assert run.err == f"failed: {run.json['message']}\n"
        assert run.code == 2
        return str(run.json["message"])

    return go


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"sinks": [{"type": "delta", "table": "file/scores"}]},
            "sinks.0.table: nothing can be written to file/scores",
        ),
        (
            {"checks": {"quarantine": {"table": "file/aside"}}},
            "checks.quarantine.table: nothing can be written to file/aside",
        ),
        ({"state": "file/state"}, "state: nothing can be written to file/state"),
        ({"state": "file"}, "state: nothing can be written to file"),
    ],
)
def test_a_place_below_a_file(nowhere: Refused, workspace: Path, changes: Any, said: str) -> None:
    assert nowhere(changes) == f"{said}: {workspace}/file is no folder"


def test_a_place_in_which_nobody_may_make_a_folder(nowhere: Refused) -> None:
    said = nowhere({"sinks": [{"type": "delta", "table": "/proc/lake/scores"}]})
    assert said == "sinks.0.table: nothing can be written to /proc/lake/scores: /proc: No such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_folder_that_may_not_be_written_to(nowhere: Refused, workspace: Path) -> None:
    Path("lake/locked").mkdir(mode=0o555)
    said = nowhere({"sinks": [{"type": "delta", "table": "lake/locked/scores"}]})
    assert (
        said
        == f"sinks.0.table: nothing can be written to lake/locked/scores: {workspace}/lake/locked: Permission denied"
    )


@pytest.mark.parametrize(
    ("table", "others"),
    [("lake", "features, lacking, parquet, …"), (".", "conf, lake, file"), ("lake/parquet", "part-0.parquet")],
)
def test_a_folder_with_other_things_in_it_is_no_target(nowhere: Refused, table: str, others: str) -> None:
    said = nowhere({"sinks": [{"type": "delta", "table": table}], "state": "state"})
    assert said == f"sinks.0.table: {table} is no table and holds other things ({others}): name a new folder"


# --- columns by other names, which is right ---------------------------------------------------------------


def test_features_are_read_by_other_names(score: Callable[..., Outcome], workspace: Path) -> None:
    table = features().rename_columns(["id", "country", "A", "Cosine", "day"])
    write("lake/spelt", table)
    changes = {"source": {"table": "lake/spelt"}, "features": {"match": "case_insensitive", "rename": {"b": "cosine"}}}
    assert score(changes).json["status"] == "published"
    frame = table.to_pandas().rename(columns={"A": "a", "Cosine": "b"})
    expected = fitted().predict_proba(frame[["a", "b"]])[:, 1]
    np.testing.assert_allclose(read("lake/scores")["p"].to_numpy(), expected, rtol=1e-12)


def test_names_are_compared_exactly_unless_asked(refused: Refused, workspace: Path) -> None:
    write("lake/spelt", features().rename_columns(["id", "country", "A", "b", "day"]))
    said = refused({"source": {"table": "lake/spelt"}})
    assert said.startswith("the model's feature 'a' has no column 'a' in lake/spelt, ")
