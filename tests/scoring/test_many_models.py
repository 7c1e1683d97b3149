"""A model a value of a column: every row has the answer of its own model, and rows without one are set aside."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakehouse import api, models
from lakehouse.config import Job
from lakehouse.errors import Blocked, ConfigError, ModelRefused
from lakehouse.models import holding
from lakehouse.operations import checking
from lakehouse.operations.replay import replay
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import routes
from lakehouse.planning.naming import state_of
from lakehouse.runs import evidence, ledger
from lakehouse.scoring import looking, routing
from lakehouse.scoring.routing import named_values
from lakehouse.scoring.staging import StagedFile
from lakehouse.storage import locate
from lakehouse.views import page, planned, terminal
from tests.command import run
from tests.conftest import read, score, version, write

X = pd.DataFrame({"a": np.linspace(-3, 3, 60), "b": np.cos(np.arange(60))})
SEGMENTS = ("north", "south", "wést", "4")


class Picky(LinearRegression):
    """Raises on rows whose a is beyond 2."""

    def predict(self, frame: Any) -> Any:
        if (frame["a"] > 2).any():
            raise ValueError("a is beyond me")
        return super().predict(frame)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.file),)


def fitted(number: int) -> LinearRegression:
    return LinearRegression().fit(X, X["a"] * number + X["b"] ** 2)


@pytest.fixture(scope="module")
def family(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """family(prefix, {value: model}, **save_model arguments) → URI with {segment}; registered as new versions."""
    home = tmp_path_factory.mktemp("models")
    client = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def make(prefix: str, members: Mapping[str, Any], **saving: Any) -> str:
        for value, model in members.items():
            name, folder = f"{prefix}_{value}", home / f"{prefix}_{value}-{new_run_id()}"
            mlflow.sklearn.save_model(
                model, folder, **{
                    "signature": infer_signature(X, fitted(1).predict(X)),
                    "pip_requirements": ["scikit-learn"], "skops_trusted_types": ["numpy.dtype"], **saving,
                },
            )  # fmt: skip
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            made = client.create_model_version(name, str(folder))
            client.set_registered_model_alias(name, "champion", made.version)
        return f"models:/{prefix}_{{segment}}@champion"

    return make


@pytest.fixture(scope="module")
def churn(family: Callable[..., str]) -> str:
    return family("churn", {value: fitted(number) for number, value in enumerate(SEGMENTS)})


def features(rows: int = 400, segments: Any = SEGMENTS) -> pa.Table:
    rng, ids = np.random.default_rng(1), np.arange(rows)
    chosen = [segments[i] for i in rng.integers(0, len(segments), rows)]
    return pa.table({"id": ids, "segment": chosen, "a": rng.normal(size=rows), "b": rng.normal(size=rows)})


@pytest.fixture
def by(make_job: Callable[..., Job]) -> Callable[..., Job]:
    def make(uri: str, model: Mapping[str, Any] | None = None, **more: Any) -> Job:
        return make_job(uri, model={"by": "segment", **(model or {})}, **{"predictions": {"p": "*"}, **more})

    return make


def native(rows: pa.Table, tracking_uri: str, prefix: str = "churn") -> np.ndarray:
    """What mlflow.pyfunc answers for each row by the model of its segment."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        frame = rows.to_pandas()
        answers = np.full(len(frame), np.nan)
        for value, part in frame.groupby("segment"):
            model = mlflow.pyfunc.load_model(f"models:/{prefix}_{value}@champion")
            answers[part.index] = model.predict(part[["a", "b"]])
        return answers
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("engine", ["local", "spark"])
def test_each_row_has_its_own_models_answer_and_version(engine, by, churn, tracking_uri, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    rows = features()
    write("lake/features", rows)
    result = score(by(churn), engine)
    assert (result.status, result.rows_scored, result.model["count"]) == ("published", 400, 4)
    scored = read("lake/scores")
    np.testing.assert_allclose(scored["p"].to_numpy(), native(rows, tracking_uri), rtol=1e-12)
    assert scored["_model_name"].to_pylist() == [f"churn_{value}" for value in rows["segment"].to_pylist()]
    assert set(scored["_model_version"].to_pylist()) == {"1"}


@pytest.mark.parametrize(("gathered", "a_call"), [(7, 3), (64, 65536), (1 << 20, 10)])
def test_rows_stay_in_their_order_however_many_are_gathered(gathered, a_call, by, churn, tracking_uri, monkeypatch):
    monkeypatch.setattr(routing.Route, "gathered_rows", gathered)
    rows = features(301)
    write("lake/features", rows)
    assert score(by(churn, {"batch_rows": a_call})).rows_scored == 301
    (file,) = Path("lake/scores").rglob("scored-*.parquet")
    scored = pa.parquet.read_table(file)
    assert scored["id"].to_pylist() == list(range(301))
    np.testing.assert_allclose(scored["p"].to_numpy(), native(rows, tracking_uri), rtol=1e-12)


def test_the_frame_carrier_routes_as_well(spark, by, churn, tracking_uri):
    rows = features(50)
    write("lake/features", rows)
    job = by(churn, source={"where": "id % 2 = 0"})
    result = score(job, "spark")
    assert (result.carrier, result.rows_scored) == ("frame", 25)
    np.testing.assert_allclose(read("lake/scores")["p"].to_numpy(), native(rows, tracking_uri)[::2], rtol=1e-12)


def test_null_values_and_values_without_a_model_are_set_aside_with_a_reason(by, churn):
    rows = features(200).to_pandas()
    strange = [None, "west", "../north", "north@champion", "a/b", "NORTH", ""]
    rows.loc[: len(strange) - 1, "segment"] = strange
    write("lake/features", pa.Table.from_pandas(rows, preserve_index=False))
    result = score(by(churn, checks={"quarantine": {"max_fraction": 0.05}}))
    assert (result.status, result.rows_scored, result.rows_quarantined) == ("published", 193, 7)
    aside = read("lake/scores_quarantine")
    reasons = [reason for row in aside["_reasons"].to_pylist() for reason in row]
    assert reasons == [{"rule": "no_model", "column": "segment", "observed": value} for value in strange]
    assert aside["_model_version"].to_pylist() == [None] * 7
    assert aside["segment"].to_pylist() == strange


def test_more_rows_without_a_model_than_the_budget_allows_block_the_run(by, churn):
    write("lake/features", features(100, ("north", "east")))
    with pytest.raises(Blocked, match=r"no_model"):
        score(by(churn))
    assert version("lake/scores") == -1


@pytest.mark.parametrize("where", [None, "id >= 0"])
def test_missing_models_refuse_the_run_where_the_job_says_so(where, by, churn, monkeypatch):
    write("lake/features", features(100, ("north", "east", "süd", None)))
    job = by(churn, {"missing": "refuse"}, source={"where": where} if where else {})
    with pytest.raises(ModelRefused, match=r"no model for segment 'east', 'süd', null .*missing: quarantine"):
        score(job)
    assert not Path("lake/scores").exists()  # before the first task
    monkeypatch.setattr("lakehouse.planning.routes.FILES", "none")  # as where one column can't be read by itself
    with pytest.raises(ModelRefused, match=r"no model for segment"):
        score(job)
    assert version("lake/scores") == -1


@pytest.mark.parametrize("missing", ["quarantine", "refuse"])
def test_a_column_none_of_whose_values_has_a_model_is_refused_before_a_run(missing, by, churn):
    write("lake/features", features(100, ("east", "süd", None)))
    job = by(churn, {"missing": missing}, checks={"quarantine": {"max_fraction": 1.0}})
    said = r"none of the 3 values of segment has a model: 'east', 'süd', null; .* has some for '4' \(churn_4 v1\), "
    with pytest.raises(ModelRefused, match=said):
        score(job, dry_run=True)
    checked = checking.check("scores.yaml", lambda: job, "local")
    assert (checked.code, checked.steps["predictions"]) == (4, "failed")


def test_check_warns_of_values_without_a_model_and_where_it_could_not_look(by, churn, monkeypatch):
    write("lake/features", features(100))
    job = by(churn)
    assert [w for w in checking.check("scores.yaml", lambda: job, "local").warnings if "model.by" in w] == []
    write("lake/features", features(100, (*SEGMENTS, "east", "süd")))
    checked = checking.check("scores.yaml", lambda: job, "local")
    said = "model.by: a run sets rows aside (no_model): there is no model for segment 'east', 'süd'"
    assert (checked.code, said in checked.warnings) == (0, True)
    monkeypatch.setattr("lakehouse.planning.routes.FILES", "none")  # as where one column can't be read by itself
    checked = checking.check("scores.yaml", lambda: job, "local")
    assert checked.code == 0
    assert any("the values of segment were not looked at" in warning for warning in checked.warnings)


def test_an_integer_column_says_which_model_too(by, family, tracking_uri):
    uri = family("store", {"7": fitted(7), "12": fitted(12), "007": fitted(3)})
    rows = features(100, (7, 12))
    write("lake/features", rows)
    assert score(by(uri)).rows_scored == 100
    np.testing.assert_allclose(read("lake/scores")["p"].to_numpy(), native(rows, tracking_uri, "store"), rtol=1e-12)


def test_the_column_may_be_a_key_a_kept_one_or_a_feature(by, family, tracking_uri):
    uri = family("area", {"1": fitted(1), "2": fitted(2)})
    rows = features(60, (1, 2))
    write("lake/features", rows)
    assert score(by(uri, keys=["id", "segment"])).rows_scored == 60
    assert read("lake/scores")["segment"].to_pylist() == rows["segment"].to_pylist()


def test_other_columns_say_no_model(by, churn):
    write("lake/features", features(20).append_column("kind", pa.array([0.5] * 20)))
    with pytest.raises(ConfigError, match="'kind' of lake/features is double: it must be text or integer"):
        score(by(churn.replace("segment", "kind"), {"by": "kind"}))
    with pytest.raises(ConfigError, match="no column 'segmnt', did you mean 'segment'"):
        score(by(churn.replace("segment", "segmnt"), {"by": "segmnt"}))


def test_an_unchanged_run_costs_nothing_and_a_moved_alias_scores_again(by, family):
    uri = family("moved", {"north": fitted(1), "south": fitted(2)})
    rows = features(40, ("north", "south"))
    write("lake/features", rows)
    job = by(uri)
    assert score(job).status == "published"
    assert score(job).status == "unchanged"
    family("moved", {"south": fitted(5)})
    result = score(job)
    assert result.status == "published"
    versions = dict(zip(rows["segment"].to_pylist(), read("lake/scores")["_model_version"].to_pylist(), strict=True))
    assert versions == {"north": "1", "south": "2"}
    (newest, oldest) = ledger.runs(state_of(job), job.job)
    assert newest["model_digest"] != oldest["model_digest"]
    assert newest["model_signature"] == oldest["model_signature"]
    facts = evidence.facts_of(state_of(job), newest)
    assert facts is not None
    counts = rows.to_pandas()["segment"].value_counts()
    assert [[one[0], one[1], one[2], one[4]] for one in facts["models"]["listed"]] == [
        ["north", "moved_north", "1", counts["north"]], ["south", "moved_south", "2", counts["south"]],
    ]  # fmt: skip


def test_rows_on_which_one_model_raises_are_set_aside_and_no_others(by, family):
    uri = family("picky", {"north": Picky().fit(X, X["a"]), "south": fitted(1)}, serialization_format="cloudpickle")
    rows = features(400, ("north", "south"))
    write("lake/features", rows)
    job = by(uri, {"trust": ["pickle"]}, checks={"quarantine": {"max_fraction": 0.2}})
    result = score(job)
    frame = rows.to_pandas()
    bad = frame[(frame["segment"] == "north") & (frame["a"] > 2)]
    assert 0 < len(bad) == result.rows_quarantined
    aside = read("lake/scores_quarantine")
    assert aside["id"].to_pylist() == bad["id"].tolist()
    assert aside["_model_name"].to_pylist() == ["picky_north"] * len(bad)
    assert {reason["rule"] for row in aside["_reasons"].to_pylist() for reason in row} == {"model_raised"}
    good = frame.drop(bad.index)
    scored = read("lake/scores")
    assert scored["id"].to_pylist() == good["id"].tolist()
    expected = np.where(good["segment"] == "north", good["a"], fitted(1).predict(good[["a", "b"]]))
    np.testing.assert_allclose(scored["p"].to_numpy(), expected, rtol=1e-9, atol=1e-12)


def test_a_model_that_fails_everywhere_costs_its_own_rows_only(by, family):
    class Broken(LinearRegression):
        def predict(self, frame: Any) -> Any:
            raise ValueError("never")

    uri = family(
        "broken", {"alpha": Broken().fit(X, X["a"]), "beta": fitted(1)}, serialization_format="cloudpickle",
        signature=infer_signature(X, fitted(1).predict(X)),
    )  # fmt: skip
    write("lake/features", features(200, ("alpha", "beta", "beta", "beta")))
    result = score(by(uri, {"trust": ["pickle"]}, checks={"quarantine": {"max_fraction": 0.5}}))
    scored = read("lake/scores")
    assert result.rows_scored + result.rows_quarantined == 200
    assert set(scored["_model_name"].to_pylist()) == {"broken_beta"}


def test_one_hostile_model_among_many_is_refused_before_any_is_loaded(by, family, tmp_path):
    canary = tmp_path / "canary"
    sound = {f"s{i}": fitted(i) for i in range(3)}
    uri = family("mixed", sound)
    hostile = fitted(9)
    hostile.extra = Canary(str(canary))
    family("mixed", {"x": hostile}, serialization_format="cloudpickle")
    write("lake/features", features(20, tuple(sound)))
    canary.unlink(missing_ok=True)  # whoever logs a model loads it
    with pytest.raises(ModelRefused, match=r"1 of 4 models are refused: mixed_x v1: .*\n.*trust: \[pickle\]"):
        score(by(uri))
    assert not canary.exists()
    assert version("lake/scores") == -1


def test_models_must_take_and_give_the_same(by, family):
    uri = family("alike", {"north": fitted(1)})
    family("alike", {"south": fitted(1)}, signature=infer_signature(X[["b", "a"]], X["a"]))
    family("alike", {"west": fitted(1)}, signature=infer_signature(X, X["a"].astype(str)))
    write("lake/features", features(20, ("north",)))
    with pytest.raises(ModelRefused, match=r"alike_south v1 \(and 1 more\) has other inputs.* than alike_north v1"):
        score(by(uri))


def test_classes_must_be_the_same_where_predictions_are_taken_by_class(by, family):
    yes = pd.Series(np.arange(60) % 2)
    uri = family(
        "classed", {"a": LogisticRegression().fit(X, yes), "b": LogisticRegression().fit(X, yes + 1)},
        signature=infer_signature(X, yes),
    )  # fmt: skip
    write("lake/features", features(40, ("a", "b")))
    with pytest.raises(ModelRefused, match=r"classed_. v1 has the classes \[.*others of .* have"):
        score(by(uri, {"method": "predict_proba"}, predictions={"p": {"class": 1}}))


@pytest.mark.parametrize(
    ("method", "by_pyfunc", "predictions"),
    [
        ("predict_proba", "predict", {"p": {"output": 1}}),
        ("decision_function", "predict", {"p": "*"}),
        (None, "predict_proba", {"p": {"output": 1}}),
    ],
)
def test_classes_must_be_in_one_order_where_predictions_are_taken_by_place(method, by_pyfunc, predictions, by, family):
    labels = np.where(np.arange(60) % 2 == 0, "no", "yes")
    pair = {"a": LogisticRegression().fit(X, labels), "b": LogisticRegression().fit(X, labels)}
    pair["b"].classes_ = pair["b"].classes_[::-1].copy()
    answer = pair["a"].predict_proba(X)
    uri = family(
        f"placed_{method}", pair, pyfunc_predict_fn=by_pyfunc,
        signature=infer_signature(X, answer if by_pyfunc == "predict_proba" else labels),
    )  # fmt: skip
    write("lake/features", features(40, ("a", "b")))
    with pytest.raises(ModelRefused, match=r"has the classes \['(no|yes)', .*in one order"):
        score(by(uri, {"method": method} if method else {}, predictions=predictions))


def test_labels_need_no_same_classes(by, family):
    labels = np.arange(60) % 2
    uri = family(
        "labelled", {"a": LogisticRegression().fit(X, labels), "b": LogisticRegression().fit(X, labels + 1)},
        signature=infer_signature(X, labels),
    )  # fmt: skip
    write("lake/features", features(40, ("a", "b")))
    assert score(by(uri)).rows_scored == 40


def test_no_model_at_all_is_said(by, churn):
    write("lake/features", features(20))
    with pytest.raises(ConfigError, match=r"no model in the registry fits models:/nobody_\{segment\}@champion"):
        score(by("models:/nobody_{segment}@champion"))


def test_models_whose_value_is_none_are_named_once(by, family):
    uri = family("odd", dict.fromkeys(("north", "a..b", "c@d", ""), fitted(1)))
    write("lake/features", features(20, ("north",)))
    checked = checking.check("scores.yaml", lambda: by(uri), "local")
    [said] = [warning for warning in checked.warnings if "left out" in warning]
    assert (checked.code, said.startswith("model.uri: registered models are left out")) == (0, True)
    assert all(f"'odd_{value}'" in said for value in ("a..b", "c@d", ""))
    assert score(by(uri)).model["count"] == 1
    family("strange", dict.fromkeys(("a..b", "c..d"), fitted(1)))
    with pytest.raises(
        ConfigError, match=r"no model in the registry fits .*models are left out that fit .*'strange_c..d'"
    ):
        score(by("models:/strange_{segment}@champion"))


def test_one_models_aliases_may_be_the_values(by, register, tracking_uri):
    register(fitted(1), X, name="by_alias", alias="north")
    register(fitted(2), X, name="by_alias", alias="south")
    write("lake/features", features(40, ("north", "south")))
    assert score(by("models:/by_alias@{segment}")).rows_scored == 40
    scored = read("lake/scores")
    assert set(scored["_model_name"].to_pylist()) == {"by_alias"}
    assert set(scored["_model_version"].to_pylist()) == {"1", "2"}


def test_versions_by_number_are_those_that_are_there(by, family):
    uri = family("numbered", {"north": fitted(1), "south": fitted(2)})
    family("numbered", {"south": fitted(3)})
    write("lake/features", features(40, ("north", "south")))
    job = by(uri.replace("@champion", "/2"), checks={"quarantine": {"max_fraction": 1.0}})
    assert score(job).rows_scored > 0
    assert set(read("lake/scores")["_model_name"].to_pylist()) == {"numbered_south"}


def test_a_replay_uses_the_versions_of_the_run_unless_told_otherwise(by, family):
    uri = family("again", {"north": fitted(1)})
    write("lake/features", features(100, ("north",) * 9 + ("east",)))
    job = by(uri, checks={"quarantine": {"max_fraction": 0.5}})
    first = score(job)
    family("again", {"north": fitted(4), "east": fitted(2)})
    record = ledger.record_of(state_of(job), job.job)
    again = Request("local", ledger.now(), new_run_id())
    with pytest.raises(Exception, match=r"(?s)no_model|nothing"):
        replay(job, record, again)
    done = replay(job, record, Request("local", ledger.now(), new_run_id()), current_model=True)
    assert (done.status, done.rows_scored) == ("published", first.rows_quarantined)
    scored = read("lake/scores").to_pandas()
    assert set(zip(scored["_model_name"], scored["_model_version"], strict=True)) == {
        ("again_north", "1"), ("again_east", "1"),
    }  # fmt: skip


def test_few_are_kept_in_memory_and_all_rows_are_scored(by, churn, tracking_uri, monkeypatch):
    monkeypatch.setattr(holding, "MOST", 2)
    monkeypatch.setattr(routing.Route, "gathered_rows", 50)
    holding._kept.clear()
    rows = features(300)
    write("lake/features", rows)
    assert score(by(churn)).rows_scored == 300
    assert len(holding._kept) == 2
    np.testing.assert_allclose(read("lake/scores")["p"].to_numpy(), native(rows, tracking_uri), rtol=1e-12)


def test_large_models_are_kept_by_their_size(by, churn, monkeypatch):
    monkeypatch.setattr(holding, "MOST_BYTES", 1)
    holding._kept.clear()
    write("lake/features", features(40))
    assert score(by(churn)).rows_scored == 40
    assert len(holding._kept) == 1


def test_changed_bytes_on_the_way_are_refused(tmp_path, churn, tracking_uri, by):
    config = by(churn).model
    (home := tmp_path / "fetched").mkdir()
    fetched = models.fetch(config, models.resolve(config), home)
    holding._kept.clear()
    member = fetched.members["south"]
    with open(Path(member.path) / "requirements.txt", "a") as file:
        file.write("\n")
    with pytest.raises(ModelRefused, match="bytes changed on the way"):
        models.held(member.path, member.digest, None, ())


def test_dry_runs_pages_and_previews_say_how_many_models_there_are(by, churn):
    write("lake/features", features(100, (*SEGMENTS, "east")))
    job = by(churn, checks={"quarantine": {"max_fraction": 0.5}})
    plan = score(job, dry_run=True).plan
    assert plan is not None
    text = planned.plan_text(plan)
    assert "4 models churn_{segment}" in text
    assert "1 of 5 values of segment have no model: 'east'" in text
    shown = api.preview("conf/scores.yaml", engine="local", rows=10)
    assert len(shown) == 10
    assert score(job).status == "published"
    record = ledger.record_of(state_of(job), job.job)
    assert "4 models churn_{segment}" in terminal.runs_text([record])
    html = page.render(evidence.facts_of(state_of(job), record))
    assert "4 models by segment" in html
    assert "churn_south" in html


def test_of_a_large_input_executors_look_for_values_without_a_model(by, churn, spark, monkeypatch):
    monkeypatch.setattr(routes, "_LOOK_BYTES", 0)
    monkeypatch.setattr(looking, "find_values", lambda *_: pytest.fail("the driver reads the column"))
    write("lake/features", features(100, (*SEGMENTS, "east")))
    plan = score(by(churn), "spark", dry_run=True).plan
    assert plan is not None
    assert "1 of 5 values of segment have no model: 'east'" in planned.plan_text(plan)


def test_values_without_a_model_are_told_up_to_a_number(workspace, monkeypatch):
    monkeypatch.setattr(looking, "MOST_VALUES", 3)
    units = [StagedFile(locate("."), f"{i}.parquet", 1, pa.schema([("v", pa.int64())])) for i in range(3)]
    for i in range(3):
        pq.write_table(pa.table({"v": [i, i + 1, None]}), f"{i}.parquet")
    assert looking.find_values(units[:2], "v", {"1"}) == looking.Values({"1"}, {"0", "2", None})
    said = [looking.values_in(([unit], "v", frozenset({"1"}))) for unit in units]
    found = looking.values_of(json.loads(json.dumps(said)))
    assert found == looking.Values({"1"}, {"0", "2", "3"}, more=True)
    assert named_values(["a", "b", "c", "d"], more=True) == "'a', 'b', 'c' and at least 1 more"


@pytest.mark.parametrize(
    ("uri", "model", "said"),
    [
        ("models:/churn_{segment}@champion", {"by": ""}, "{segment} is not filled in.*model.by: segment"),
        ("models:/churn@champion", {}, "must have {segment} in it, once"),
        (
            "models:/churn_{segment}@champion", {"by": "segmnt"},
            "model.by: 'segmnt' is not what is in braces.*would be 'segment', or write {segmnt} instead of {segment} in",
        ),
        ("models:/{region}_{segment}@a", {"by": "segmnt"}, "would be 'segment', or write {segmnt} instead of {segment}"),
        ("models:/churn_{region}@champion", {}, "would be 'region', or write {segment} instead of {region}"),
        ("models:/churn_{segment}_{other}@champion", {}, "nothing else in braces"),
        ("models:/{segment}_{segment}@champion", {}, "once"),
        ("lake/models/{segment}", {}, "it must be models:/"),
        ("models:/churn_{segment}", {}, "it must be models:/"),
        ("models:/churn_{segment}@champion", {"challengers": ["models:/a@b"]}, "model.challengers: does not go together"),
        ("models:/churn_{segment}@champion", {"offline": "allowed"}, "model.offline: does not go together"),
        ("models:/churn@champion", {"by": "", "missing": "refuse"}, "no model can be missing without model.by"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(uri, model, said, make_job):
    model = {"by": "segment", **model}
    with pytest.raises(ConfigError, match=said):
        make_job(uri, model={key: value for key, value in model.items() if value})


def test_promote_is_for_jobs_of_one_model(by, make_job, capfd):
    by("models:/churn_{segment}@champion")
    done = run(capfd, "promote", "conf/scores.yaml", "2")
    assert (done.code, "model.by: promote is for jobs of one model" in done.err) == (2, True)
    with pytest.raises(ConfigError, match=r"promotion: does not go together with model\.by: lakehouse promote"):
        by("models:/churn_{segment}@champion", promotion={"max_flips": 0.1})
