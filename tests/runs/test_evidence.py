"""What a run leaves beside its tables: profiles held against a baseline, metrics to chart, a page to read."""

from __future__ import annotations

import json
import math
import shutil
import uuid
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse import cli, models
from lakehouse.errors import Blocked, ConfigError
from lakehouse.operations.rollback import rollback
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import naming
from lakehouse.runs import drift, evidence, ledger
from tests.conftest import read, score, version, write

NORMAL = np.random.default_rng(1).normal(2, 1, 4_000)


@pytest.fixture
def in_a_run(register, tracking_uri):
    """Register a model from within an MLflow run, as a training does; its URI and the run's id."""

    def make(a: np.ndarray, log: bool = False) -> tuple[str, str]:
        x = pd.DataFrame({"a": a})
        mlflow.set_tracking_uri(tracking_uri)
        name = mlflow.create_experiment(uuid.uuid4().hex)
        with mlflow.start_run(experiment_id=name) as run:
            uri = register(LinearRegression().fit(x, x["a"] * 10), x, experiment_id=name)
            mlflow.set_tracking_uri(tracking_uri)
            if log:
                models.log_baseline(x)
        return uri, run.info.run_id

    return make


@pytest.fixture
def uri(in_a_run):
    return in_a_run(np.linspace(0, 4, 40))[0]  # a version of its own: baselines are kept with it


def give(a: np.ndarray) -> None:
    write("lake/features", pa.table({"id": np.arange(len(a)), "a": a}), mode="overwrite")


@pytest.fixture
def daily(make_job, uri):
    def make(action: str | None = "warn", **sections):
        checks = {"drift": {"psi": 0.2, "action": action}} if action else {}
        return make_job(uri, predictions={"p": 0}, checks=checks, **sections)

    return make


def test_a_day_that_drifted_is_published_with_a_warning_or_blocked(daily):
    give(NORMAL)
    assert score(daily()).checks == {"passed": 1, "failed": 0, "warned": 0}
    give(NORMAL + np.random.default_rng(2).normal(0, 0.01, 4_000))
    assert score(daily()).checks["warned"] == 0
    give(NORMAL + 1)
    at, said = version("lake/scores"), []
    with pytest.raises(Blocked) as blocked:
        score(daily("block"))
    assert str(blocked.value).startswith("drift: PSI above 0.2: ")
    assert "feature a 0." in str(blocked.value) or "feature a 1." in str(blocked.value)
    assert "prediction p" in str(blocked.value)
    assert version("lake/scores") == at
    result = score(daily(), say=lambda event, values: said.append(values.get("message", "")))
    assert (result.status, result.checks["warned"]) == ("published", 1)
    assert any("drift: PSI above 0.2" in text for text in said)


def test_what_sampling_explains_is_no_drift(daily):
    rng = np.random.default_rng(3)
    give(rng.normal(2, 1, 60))
    score(daily("block"))
    give(rng.normal(2, 1, 60))
    assert score(daily("block")).status == "published"


def test_the_first_published_run_is_the_baseline_and_is_kept_with_the_model_version(daily, uri, tracking_uri):
    give(NORMAL)
    score(daily())
    client = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    run = client.get_model_version_by_alias(*uri.removeprefix("models:/").split("@")).run_id
    assert [f.path for f in client.list_artifacts(run, "lakehouse")] == ["lakehouse/baseline-scores.json"]
    give(NORMAL + 1)
    # Another state folder knows nothing of the first run, the model version does.
    with pytest.raises(Blocked, match="drift: PSI above"):
        score(daily("block", state="lake/elsewhere"))
    state = naming.state_of(daily(state="lake/elsewhere"))
    facts = evidence.facts_of(state, ledger.runs(state, "scores")[0])
    assert facts["drift"]["baseline"] == "the first published run"


def test_a_profile_of_the_training_comes_first(make_job, in_a_run):
    uri, _ = in_a_run(NORMAL + 5, log=True)
    give(NORMAL)
    with pytest.raises(Blocked, match="feature a"):
        score(make_job(uri, predictions={"p": 0}, checks={"drift": {"action": "block"}}))


def test_a_baseline_that_can_not_be_read_stops_only_a_job_that_drift_blocks(daily, monkeypatch):
    give(NORMAL)

    def down(*_):
        raise OSError("no route")

    monkeypatch.setattr(models, "stored_baseline", down)
    said: list[str] = []
    assert score(daily(), say=lambda event, values: said.append(values.get("message", ""))).status == "published"
    assert any("drift is not known, the baseline can't be read: no route" in text for text in said)
    with pytest.raises(OSError, match="no route"):
        score(daily("block"))


def test_a_dry_run_keeps_no_baseline_and_tells_of_one_that_can_not_be_read(make_job, in_a_run):
    job = make_job(in_a_run(NORMAL, log=True)[0], predictions={"p": 0}, checks={"drift": {"action": "warn"}})
    give(NORMAL)
    assert score(job, dry_run=True).plan["checks"][-1].endswith("baseline: training")
    assert not Path("lake/scores_state").exists()
    score(job)
    (kept,) = Path("lake/scores_state/baselines").iterdir()
    kept.write_text("{")
    write("lake/features", pa.table({"id": [1], "a": [1.0]}))
    assert "baseline: can't be read: " in score(job, dry_run=True).plan["checks"][-1]


def test_metrics_and_profiles_are_tables_from_which_psi_can_be_computed_again(daily):
    give(NORMAL)
    score(daily())
    give(NORMAL + 1)
    second = score(daily())
    metrics, profiles = read("lake/scores_state/metrics"), read("lake/scores_state/profiles")
    told = {
        (row["subject"], row["column"], row["metric"]): row["value"]
        for row in metrics.filter(pc.equal(metrics["run_id"], second.run_id)).to_pylist()
    }
    assert told["run", "", "rows_scored"] == 4_000.0
    for kind, column in (("feature", "a"), ("prediction", "p")):
        mine = profiles.filter(pc.equal(profiles["run_id"], second.run_id))
        bins = [row for row in mine.to_pylist() if (row["subject"], row["column"]) == (kind, column)]
        pairs = [(max(row["fraction"], 1e-4), max(row["baseline_fraction"], 1e-4)) for row in bins
                 if row["fraction"] or row["baseline_fraction"]]  # fmt: skip
        again = math.fsum((p - q) * math.log(p / q) for p, q in pairs)
        assert again == pytest.approx(told[kind, column, "psi"], rel=1e-9)
        assert again > 0.2


def test_the_page_of_a_wide_run_leaves_columns_out_that_metrics_and_profiles_have(daily, monkeypatch):
    monkeypatch.setattr(drift, "SHOWN", 1)
    give(NORMAL)
    score(daily())
    give(NORMAL + 1)
    run = score(daily()).run_id
    state = naming.state_of(daily())
    facts = evidence.facts_of(state, ledger.record_of(state, "scores", run))
    assert [c["column"] for c in facts["drift"]["columns"]] == ["p"]
    assert "2 of 2 columns drifted" in evidence.page_of(state, run).decode()
    assert "1 columns that moved less are left out" in evidence.page_of(state, run).decode()
    for table in ("metrics", "profiles"):
        rows = read(f"lake/scores_state/{table}")
        mine = rows.filter(pc.equal(rows["run_id"], run))
        assert {"a", "p"} <= set(mine["column"].to_pylist())
    assert not list(Path("lake/scores_state/reports").glob("*.bins.parquet"))


def test_facts_of_an_older_form_still_make_metrics_and_profiles(daily):
    give(NORMAL)
    run = score(daily()).run_id
    state = naming.state_of(daily())
    kept, record = Path(f"lake/scores_state/reports/{run}.json"), ledger.record_of(state, "scores", run)
    facts = json.loads(kept.read_text())
    for name in ("figures", "left_out", "drifted"):
        del facts["drift"][name]
    profiles = read("lake/scores_state/profiles")
    rows = profiles.drop_columns([*evidence.RUN.names, "subject"])
    subjects = {"features": "feature", "predictions": "prediction"}
    facts["bins"] = {n: rows.filter(pc.equal(profiles["subject"], s)).to_pylist() for n, s in subjects.items()}
    kept.write_text(json.dumps(facts))
    metrics = read("lake/scores_state/metrics")
    for table in ("metrics", "profiles"):
        shutil.rmtree(f"lake/scores_state/{table}")
    evidence.finish(state, record)
    order = [("subject", "ascending"), ("column", "ascending"), ("metric", "ascending")]
    assert read("lake/scores_state/metrics").sort_by(order).equals(metrics.sort_by(order))
    order = [("subject", "ascending"), ("column", "ascending"), ("bin", "ascending")]
    assert read("lake/scores_state/profiles").sort_by(order).equals(profiles.sort_by(order))


def test_each_run_has_a_page_that_is_opened_by_name(daily, tmp_path, capsys):
    give(NORMAL)
    first = score(daily())
    give(NORMAL + 1)
    with pytest.raises(Blocked) as blocked:
        score(daily("block"))
    job = daily()
    assert "BLOCKED" in evidence.page(job, None)[1].decode()
    assert "PUBLISHED" in evidence.page(job, first.run_id)[1].decode()
    with pytest.raises(ConfigError, match="has no run 'x' on record"):
        evidence.page(job, "x")
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", "conf/scores.yaml", "--run", blocked.value.result.run_id, "--out", "page.html"])
    assert ended.value.code == 0
    assert blocked.value.result.run_id in Path("page.html").read_text()


def test_a_run_that_is_finished_by_the_next_one_has_its_page_too(daily, monkeypatch):
    from lakehouse.runs import publication

    give(NORMAL)
    with monkeypatch.context() as patched:
        patched.setattr(publication.ledger, "record", lambda *_: 1 / 0)
        assert score(daily()).status == "published"
    assert not list(Path("lake/scores_state/reports").glob("*.html"))
    score(daily())
    [page] = Path("lake/scores_state/reports").glob("*.html")
    assert "4,000 rows" in page.read_text()


def test_evidence_that_can_not_be_written_fails_no_run(daily, monkeypatch):
    give(NORMAL)
    said: list[str] = []
    monkeypatch.setattr(evidence, "finish", lambda *_: 1 / 0)
    result = score(daily(), say=lambda event, values: said.append(values.get("message", "")))
    assert result.status == "published"
    assert any("the run stands, but its report could not be written" in text for text in said)
    assert score(daily()).status == "unchanged"


@pytest.mark.long
@pytest.mark.slow
def test_the_readmes_view_of_the_current_quarantine(daily, spark, make_job, uri):
    """Rows of a run that a later one of the same slice superseded are left out."""
    import re

    [text] = re.findall(
        r"```sql\n(CREATE OR REPLACE TEMP VIEW current_quarantine.*?)```",
        (Path(__file__).parents[2] / "conf/README.md").read_text(),
        re.S,
    )
    text = text.replace("lake/quarantine/games", str(Path("lake/scores_quarantine").resolve()))
    text = text.replace("lake/state/runs", str(Path("lake/scores_state/runs").resolve()))

    def current() -> list[int]:
        spark.sql(text)
        return [row.id for row in spark.sql("SELECT id FROM current_quarantine ORDER BY id").collect()]

    loose = {"features": {"nulls": "quarantine"}, "checks": {"quarantine": {"max_fraction": 0.5}}}
    give(np.array([1.0, np.nan, 3.0]))
    write("lake/features", pa.table({"id": [0, 1, 2], "a": pa.array([1.0, None, 3.0])}), mode="overwrite")
    score(make_job(uri, predictions={"p": 0}, **loose))
    assert current() == [1]
    write("lake/features", pa.table({"id": [0, 1, 2], "a": pa.array([1.0, 2.0, None])}), mode="overwrite")
    score(make_job(uri, predictions={"p": 0}, **loose))
    assert current() == [2]
    rollback(make_job(uri, predictions={"p": 0}, **loose), Request("local", ledger.now(), new_run_id()))
    assert current() == [1]
