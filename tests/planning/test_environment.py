"""The environment verdict: what a model was logged with against what is here, before any row is read."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sklearn
import yaml
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from lakehouse import models
from lakehouse.engines import spark as engine
from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models.environment import PICKLE
from lakehouse.planning import environment
from lakehouse.schemas import Feature
from lakehouse.scoring import golden
from tests.command import run, tree
from tests.conftest import score, write

HERE = ".".join(map(str, sys.version_info[:2]))
SKLEARN = ".".join(sklearn.__version__.split(".")[:2])
X = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A model of two features as MLflow saves it, with an input example."""
    path = tmp_path_factory.mktemp("models") / "model"
    fitted = LinearRegression().fit(X, X["a"] * 2)
    mlflow.sklearn.save_model(
        fitted, path, signature=infer_signature(X, fitted.predict(X)), input_example=X.head(3),
        pip_requirements=["scikit-learn"], skops_trusted_types=["numpy.dtype"],
    )  # fmt: skip
    return path


@pytest.fixture
def model(saved, workspace) -> Path:
    """A copy of the model in the working directory, and forty rows."""
    write("lake/features", pa.table({"id": np.arange(40), **{c: X[c].to_numpy() for c in X}}))
    return Path(shutil.copytree(saved, workspace / "model"))


@pytest.fixture
def job(make_job, model) -> Callable[..., Any]:
    """The job over it; keywords are sections."""
    return lambda **sections: make_job("model", **{"predictions": {"p": "*"}, **sections})


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the description of a model."""
    content = yaml.safe_load((path / "MLmodel").read_text())
    change(content)
    (path / "MLmodel").write_text(yaml.safe_dump(content))


def other_python(content: dict[str, Any]) -> None:
    content["flavors"]["python_function"]["python_version"] = "3.9.18"


def other_sklearn(content: dict[str, Any]) -> None:
    content["flavors"]["sklearn"]["sklearn_version"] = "0.24.2"


OTHERS = [(other_python, "python", "3.9.18"), (other_sklearn, "scikit-learn", "0.24.2")]


def without_rows() -> None:
    """The input's log is there, its files are not: whoever reads a row fails."""
    for file in Path("lake/features").glob("*.parquet"):
        file.unlink()


def said(**request: Any) -> tuple[list[str], dict[str, Any]]:
    """Warnings as they come, and what a request needs to be told of them."""
    warnings: list[str] = []

    def say(event: str, values: Any) -> None:
        if event == "warning":
            warnings.append(values["message"])

    return warnings, {"say": say, **request}


@pytest.mark.parametrize(("change", "package", "recorded"), OTHERS)
def test_another_python_or_library_is_refused_before_a_row_is_read(job, model, change, package, recorded):
    edit(model, change)
    job = job()
    without_rows()
    with pytest.raises(ModelRefused) as refused:
        score(job)
    assert re.search(rf"^ +recorded +here\n +{package} +{recorded} +\d+\.\d+\.\d+$", str(refused.value), re.MULTILINE)
    assert str(refused.value).endswith("accept it: model: {environment: warn}")
    assert not Path("lake/scores").exists()


@pytest.mark.parametrize(("change", "package", "recorded"), OTHERS)
def test_check_says_the_same_before_a_row_is_read(job, model, capfd, change, package, recorded):
    edit(model, change)
    job()
    without_rows()
    before = tree(Path("lake"))
    done = run(capfd, "check", "conf/scores.yaml", "--json", "--engine", "local")
    (found,) = done.json["jobs"]
    assert (done.code, found["code"], found["steps"]["environment"]["status"]) == (4, 4, "failed")
    assert re.search(rf"{package} +{recorded}", found["message"])
    assert found["steps"]["input"]["status"] == "not looked at"
    assert tree(Path("lake")) == before


def test_the_job_may_let_it_pass_with_a_warning_that_is_recorded(job, model):
    edit(model, other_python)
    edit(model, other_sklearn)
    warnings, request = said()
    result = score(job(model={"environment": "warn"}), **request)
    assert (result.status, result.rows_scored) == ("published", 40)
    expected = f"environment: the model was logged with python 3.9.18 (here {sys.version.split()[0]}), "
    expected += f"scikit-learn 0.24.2 (here {sklearn.__version__})"
    assert [w for w in warnings if w.startswith("environment")] == [expected]
    facts = json.loads(next(Path("lake/scores_state/reports").glob("*.json")).read_text())
    assert facts["warnings"] == [expected]


def test_the_setting_changes_no_fingerprint(job):
    assert score(job()).status == "published"
    assert score(job(model={"environment": "warn"})).status == "unchanged"


def test_what_was_logged_here_passes_without_a_word(job):
    warnings, request = said()
    assert score(job(), **request).status == "published"
    assert warnings == []


def test_patch_levels_are_said_once_in_a_line(job, model):
    edit(model, lambda content: content["flavors"]["sklearn"].update(sklearn_version=f"{SKLEARN}.99"))
    (model / "requirements.txt").write_text(
        "requests==1.0\nnumpy\nnot a requirement==\nsix==0.1 ; sys_platform == 'x'\n"
    )
    warnings, request = said()
    assert score(job(), **request).status == "published"
    (line,) = warnings
    assert line.startswith("environment: the model was logged with ")
    assert f"scikit-learn {SKLEARN}.99 (here {sklearn.__version__})" in line
    assert "requests 1.0 (here " in line
    assert "six" not in line


def test_a_library_that_is_missing_is_named_with_its_version(job, model):
    def pytorch(content: dict[str, Any]) -> None:
        content["flavors"]["python_function"]["loader_module"] = "mlflow.pytorch"
        content["flavors"]["pytorch"] = {"pytorch_version": "2.7.1"}

    if models.environment_here(["torch"])["torch"]:
        pytest.skip("it is here")
    edit(model, pytorch)
    with pytest.raises(ModelRefused, match=r"torch +2\.7\.1 +missing\npip install torch==2\.7\.1, train it again"):
        score(job(model={"trust": ["pickle"]}))


def test_a_model_that_says_nothing_is_unknown_and_not_refused(job, model, capfd):
    edit(model, lambda content: content["flavors"]["python_function"].pop("python_version"))
    edit(model, lambda content: content["flavors"]["sklearn"].pop("sklearn_version"))
    for name in ("python_env.yaml", "conda.yaml", "requirements.txt"):
        (model / name).unlink()
    assert score(job()).status == "published"
    done = run(capfd, "check", "conf/scores.yaml", "--json", "--engine", "local")
    assert (done.code, done.json["jobs"][0]["steps"]["environment"]["status"]) == (0, "unknown")


def test_python_is_taken_from_the_files_beside_where_the_description_lacks_it(model):
    edit(model, lambda content: content["flavors"]["python_function"].pop("python_version"))
    assert models.recorded_environment(model).versions["python"] == sys.version.split()[0]
    (model / "python_env.yaml").unlink()
    (model / "conda.yaml").write_text("dependencies: [python=3.8.1, {pip: ['scikit_learn==0.1', numpy]}]")
    recorded = models.recorded_environment(model).versions
    assert (recorded["python"], recorded["scikit-learn"]) == ("3.8.1", sklearn.__version__)


@pytest.mark.parametrize("name", ["../outside.yaml", "/etc/hosts"])
def test_files_outside_the_model_are_not_read(model, name):
    (model.parent / "outside.yaml").write_text("python: 1.2.3")
    edit(model, lambda content: content["flavors"]["python_function"].update(env={"virtualenv": name}))
    edit(model, lambda content: content["flavors"]["python_function"].pop("python_version"))
    assert "python" not in models.recorded_environment(model).versions


@pytest.mark.parametrize(
    ("package", "recorded", "here", "decides"),
    [
        ("python", "3.11.2", "3.11.9", False),
        ("python", "3.11.2", "3.12.2", True),
        ("scikit-learn", "1.7.0", "1.7.2", False),
        ("scikit-learn", "1.7", "1.8.0", True),
        ("scikit-learn", "1.7.0", "2.7.0", True),
        ("numpy", "1.26.4", "1.25.0", False),
        ("numpy", "1.26.4", "2.0.0", True),
        ("pandas", "2.2.0", "3.0.0", True),
        ("cloudpickle", "2.1.0", "3.1.0", True),
        ("xgboost", "2.0.0", "3.0.0", True),
        ("requests", "2.0.0", "3.0.0", False),
        ("scikit-learn", "1.7.0", None, True),
        ("requests", "2.0.0", None, False),
        ("scikit-learn", "1.7.0", "unknown", None),
    ],
)  # fmt: skip
def test_what_decides(model, package, recorded, here, decides):
    (model / "model.pkl").write_bytes(b"\x80\x05.")
    (model / "requirements.txt").write_text("xgboost==2.0.0")
    known = models.recorded_environment(model)
    found = models.differences(models.Recorded({package: recorded}, known.parts, 5), {package: here, PICKLE: "5"})
    assert [(d.package, d.decides) for d in found] == ([] if decides is None else [(package, decides)])


def test_what_only_pickles_need_does_not_decide_for_data(model):
    assert set(models.recorded_environment(model).parts) == {"python", "scikit-learn", "numpy"}


def test_a_pickle_of_a_protocol_that_is_not_known_here_is_refused(model):
    (model / "model.pkl").write_bytes(b"\x80\x06.")
    known = models.recorded_environment(model)
    found = models.differences(known, models.environment_here(known.packages))[0]
    assert (found.package, found.recorded, found.found, found.decides) == (PICKLE, "6", "5", True)


# Golden rows.

HOST = """
import os
import mlflow

class ByHost(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if os.environ.get("GOLDEN") == "random":
            import random
            return [random.random() for _ in range(len(model_input))]
        return model_input["a"].to_numpy() * float(os.environ.get("GOLDEN", "1"))

mlflow.models.set_model(ByHost())
"""


@pytest.fixture
def by_host(job, model, monkeypatch) -> Callable[..., Any]:
    """A job whose model answers as the environment variable GOLDEN says, as one does that is another elsewhere."""
    monkeypatch.delenv("GOLDEN", raising=False)
    Path("by_host.py").write_text(HOST)
    shutil.rmtree(model)
    mlflow.pyfunc.save_model(
        model, python_model="by_host.py", signature=infer_signature(X, X["a"]), pip_requirements=["mlflow"]
    )

    def make(**section: Any) -> Any:
        return job(model={"trust": ["python_function"], **section})

    return make


def stored() -> dict[str, Any]:
    (file,) = Path("lake/scores_state/golden").iterdir()
    assert file.name.startswith("scores-")
    return dict(json.loads(file.read_text()))


def test_the_input_example_is_what_is_scored(job, model):
    score(job())
    assert (stored()["format"], stored()["origin"]) == (1, "the model's input example")
    kept = environment._batch(stored()["rows"])
    assert kept.to_pydict() == X.head(3).to_dict("list")
    (p,) = environment._batch(stored()["answers"]).columns
    assert p.to_pylist() == pytest.approx((X["a"] * 2).head(3))


def test_without_an_example_a_few_rows_of_the_input_are(job, model):
    edit(model, lambda content: content.pop("saved_input_example_info"))
    score(job())
    assert stored()["origin"] == "a sample of lake/features"
    kept = environment._batch(stored()["rows"])
    assert (kept.schema.names, kept.num_rows) == (["a", "b"], 40)


@pytest.mark.parametrize(
    "content", ["[1, 2]", "{", '{"columns": ["a"], "data": [[1]]}', '{"inputs": [["x", "y"]]}', "9"]
)
def test_an_example_that_makes_no_features_is_passed_over(job, model, content):
    (model / "input_example.json").write_text(content)
    score(job())
    assert stored()["origin"] == "a sample of lake/features"


def test_an_example_outside_the_model_is_not_read(model):
    edit(model, lambda content: content["saved_input_example_info"].update(artifact_path="../example.json"))
    shutil.copy(model / "input_example.json", model.parent / "example.json")
    features = [Feature(n, n, pa.float64(), True) for n in ("a", "b")]
    assert models.input_example(model, features, 64) is None


EXAMPLES = [
    ({"inputs": [[1, 2.5], [3, None]]}, {"a": pa.float64(), "b": pa.float64()}, {"a": [1.0, 3.0], "b": [2.5, None]}),
    ({"inputs": [[1, 2], [3, 4]]}, {"v": pa.list_(pa.float64(), 2)}, {"v": [[1.0, 2.0], [3.0, 4.0]]}),
    ({"a": [1], "b": ["x"]}, {"b": pa.string(), "a": pa.int64()}, {"b": ["x"], "a": [1]}),
    ({"columns": ["t"], "data": [["2026-01-02T03:04:05.000006"]]}, {"t": pa.timestamp("ns")},
     {"t": [pd.Timestamp("2026-01-02 03:04:05.000006")]}),
    ({"columns": ["a"], "data": [[1.5]]}, {"a": pa.int64()}, None),
    ({"columns": ["a"], "data": [[1]]}, {"a": pa.string()}, {"a": ["1"]}),
    ({"columns": ["a"], "data": [[None]]}, {"a": pa.string()}, None),
    ({"columns": ["a"], "data": []}, {"a": pa.string()}, None),
]  # fmt: skip


@pytest.mark.parametrize(("content", "kinds", "expected"), EXAMPLES)
def test_an_example_is_read_as_json_in_the_features_types(model, content, kinds, expected):
    (model / "input_example.json").write_text(json.dumps(content))
    found = models.input_example(model, [Feature(name, name, kind, True) for name, kind in kinds.items()], 64)
    assert (None if found is None else found.to_pydict()) == expected
    assert found is None or found.schema.types == list(kinds.values())


@pytest.mark.quick("local")
@pytest.mark.parametrize("engine", ["local", "spark"])
def test_other_answers_than_the_first_time_are_refused_and_published_where_the_job_says_so(
    by_host, monkeypatch, request, engine
):
    if engine == "spark":
        request.getfixturevalue("spark")
    assert score(by_host()).status == "published"
    monkeypatch.setenv("GOLDEN", "1.001")
    with pytest.raises(
        ModelRefused, match=r"golden rows differently than .*: p in 39 of 40 rows \(0\.1025.* and 0\.10"
    ):
        score(by_host(), engine, rescore=True)
    if engine == "local":
        warnings, told = said(rescore=True)
        assert score(by_host(environment="warn"), **told).status == "published"
        assert [w for w in warnings if "golden rows differently" in w] == warnings
    monkeypatch.setenv("GOLDEN", "1.0000000000000002")  # the last place
    assert score(by_host(), engine, rescore=True).status == "published"


def test_a_dry_run_keeps_none(by_host):
    score(by_host(), dry_run=True)
    assert not Path("lake").joinpath("scores_state").exists()


def test_a_random_model_is_said_to_be_one(by_host, monkeypatch):
    monkeypatch.setenv("GOLDEN", "random")
    warnings, told = said()
    assert score(by_host(), **told).status == "published"
    assert [w for w in warnings if "differ from call to call" in w] == warnings
    assert len(warnings) == 1


def test_a_model_that_became_random_is_not_refused(by_host, monkeypatch):
    score(by_host())
    monkeypatch.setenv("GOLDEN", "random")
    warnings, told = said(rescore=True)
    assert score(by_host(), **told).status == "published"
    assert "differ from call to call" in warnings[0]


def test_another_method_makes_others(job, model):
    score(job())
    first = stored()
    score(job(model={"method": "predict"}))
    assert (stored()["key"] != first["key"], stored()["answers"]) == (True, first["answers"])


@pytest.mark.parametrize("version", [3.1, 3, ["3.9"], {}, "unknown", ""])
def test_a_version_that_is_none_is_not_compared(model, version):
    (model / "python_env.yaml").write_text(yaml.safe_dump({"python": version}))
    (model / "requirements.txt").write_text("")
    (model / "conda.yaml").unlink()
    edit(model, lambda content: content["flavors"]["python_function"].update(python_version=version))
    edit(model, lambda content: content["flavors"]["sklearn"].update(sklearn_version=version))
    assert models.recorded_environment(model).versions == {}


def test_golden_rows_of_a_newer_format_are_refused_by_name(job):
    score(job())
    (file,) = Path("lake/scores_state/golden").iterdir()
    file.write_text(json.dumps({**stored(), "format": 2}))
    with pytest.raises(ConfigError, match="holds golden rows of format 2, written by a newer lakehouse"):
        score(job(), rescore=True)


@pytest.mark.parametrize("change", ["{", "", "[]", "{}", {"rows": "AAAA"}, {"answers": None}, {"rows": "x"}])
def test_golden_rows_that_are_damaged_are_told_and_not_made_afresh(job, change):
    score(job())
    (file,) = Path("lake/scores_state/golden").iterdir()
    file.write_text(change if isinstance(change, str) else json.dumps({**stored(), **change}))
    held = file.read_text()
    with pytest.raises(ConfigError, match=r"golden/scores-.*\.json, golden rows, can't be read \(.*move it away"):
        score(job(), rescore=True)
    assert file.read_text() == held


def batch(values: Any, kind: pa.DataType | None = None) -> pa.RecordBatch:
    return pa.record_batch({"p": pa.array(values, kind)})


@pytest.mark.parametrize(
    ("one", "other", "rows"),
    [
        (batch([1.0, None, float("nan"), float("inf")]), batch([1.0 + 1e-13, None, float("nan"), float("inf")]), 0),
        (batch([1.0, None, float("nan"), float("inf")]), batch([1.0 + 1e-11, 2.0, None, -float("inf")]), 4),
        (batch([1.0, 1e-17]), batch([1.0, -1e-17]), 0),
        (batch([1.0], pa.float32()), batch([1.000001], pa.float32()), 0),
        (batch([1.0], pa.float32()), batch([1.0001], pa.float32()), 1),
        (batch([2**60, 2]), batch([2**60 + 1, 2]), 1),
        (batch(["a", None]), batch(["b", None]), 1),
        (batch([True, False]), batch([True, True]), 1),
        (batch([1]), batch(["1"]), 1),
        (batch([[1.0, 2.0], None, []]), batch([[1.0, 2.0 + 1e-13], None, []]), 0),
        (batch([[1.0, 2.0], None, []]), batch([[1.0], [], [1.0]]), 3),
        (batch([{"a": 1.0}, {"a": float("nan")}]), batch([{"a": 2.0}, {"a": float("nan")}]), 1),
    ],
)
def test_what_is_equal(one, other, rows):
    said = golden.describe_differences(one, other)
    assert said.partition(" (")[0] == (f"p in {rows} of {len(one)} rows" if rows else "")


# Executors.


@pytest.fixture(params=["probe", "task"])
def executors(spark, request, workspace, monkeypatch) -> Callable[..., None]:
    """Give Spark's Python workers variables of their own: a probe asks them, or the tasks that score find out."""
    if request.param == "probe":
        monkeypatch.setattr(engine, "one_machine", lambda session: False)

    def give(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setitem(spark.sparkContext.environment, name, value)

    return give


def other_metadata() -> str:
    """A folder that has another scikit-learn, as far as its metadata say, for a worker's PYTHONPATH."""
    folder = Path("elsewhere/scikit_learn-0.24.2.dist-info").absolute()
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 0.24.2\n")
    return str(folder.parent)


@pytest.mark.quick("probe")
def test_an_executor_with_another_library_is_shown(job, executors, request):
    executors(PYTHONPATH=other_metadata())
    with pytest.raises(ModelRefused) as refused:
        score(job(), "spark")
    columns = " +driver" if "probe" in request.node.name else ""
    here = rf" +{sklearn.__version__}" if columns else ""
    host = re.escape(f"executor {socket.gethostname()}")
    assert re.search(
        rf" +recorded{columns} +{host}\n +scikit-learn +{sklearn.__version__}{here} +0\.24\.2", str(refused.value)
    )
    assert not Path("lake/scores/_delta_log").exists()


@pytest.mark.long
def test_an_executor_with_another_library_may_score_where_the_job_says_so(job, executors, request):
    executors(PYTHONPATH=other_metadata())
    warnings, told = said()
    assert score(job(model={"environment": "warn"}), "spark", **told).status == "published"
    if "probe" in request.node.name:
        assert warnings == [
            f"environment of executors: scikit-learn {sklearn.__version__} (here 0.24.2)"
        ]  # fmt: skip


@pytest.mark.long
def test_an_executor_that_answers_otherwise_than_the_driver_is_refused(by_host, executors):
    executors(GOLDEN="1.5")
    with pytest.raises(ModelRefused, match=r"differently than on the driver: executor .*: p in 39 of 40 rows \(0\.10"):
        score(by_host(), "spark")
    assert not Path("lake/scores/_delta_log").exists()


@pytest.mark.long
def test_executors_that_are_alike_score(job, executors):
    warnings, told = said()
    assert score(job(), "spark", **told).status == "published"
    assert warnings == []


@pytest.mark.long
@pytest.mark.parametrize("executors", ["probe"], indirect=True)
def test_a_dry_run_asks_executors_too(by_host, executors):
    executors(GOLDEN="1.5")
    before = tree(Path("lake"))
    with pytest.raises(ModelRefused, match="differently than on the driver"):
        score(by_host(), "spark", dry_run=True)
    assert {k for k, v in tree(Path("lake")).items() if v} == {k for k, v in before.items() if v}


# The command.


def test_check_of_a_folder_goes_on_past_a_broken_job(job, model, capfd):
    job()
    Path("conf/lakehouse.yaml").write_text("defaults: {keep: []}")
    Path("conf/broken.yaml").write_text("job: broken\nsuorce: {}\n")
    good = yaml.safe_load(Path("conf/scores.yaml").read_text())
    Path("conf/dated.yaml").write_text(yaml.safe_dump({**good, "job": "dated", "slice": {"day": "{date}"}}))
    shutil.copytree(model, "other")
    edit(Path("other"), other_python)
    other = {**good, "job": "refused", "model": {"uri": "other"}}
    Path("conf/refused.yaml").write_text(yaml.safe_dump(other))
    before = tree(Path("lake"))
    done = run(capfd, "check", "conf", "--engine", "local", "--json")
    assert {found["job"]: found["code"] for found in done.json["jobs"]} == {
        "broken": 2, "dated": 2, "refused": 4, "scores": 0
    }  # fmt: skip
    assert (done.code, done.json["code"], done.json["status"]) == (4, 4, "failed")
    assert tree(Path("lake")) == before
    with_date = run(capfd, "check", "conf/dated.yaml", "conf/scores.yaml", "--date", "2026-01-02", "--engine", "local")
    assert with_date.code == 0
    assert with_date.out.rstrip().endswith("2 jobs: all could be run")
    assert re.search(r"environment +ok +python \S+, scikit-learn", with_date.out)


def test_check_warns_of_jobs_that_publish_to_the_same_rows(job, capfd):
    job()
    good = yaml.safe_load(Path("conf/scores.yaml").read_text())
    sinks = [{"type": "delta", "table": "./lake//scores/"}]
    for file, change in (
        ("copy", {}), ("other", {"job": "other", "sinks": sinks}), ("slice", {"job": "apart", "slice": {"day": "x"}})
    ):  # fmt: skip
        Path(f"conf/{file}.yaml").write_text(yaml.safe_dump({**good, **change}))
    files = [f"conf/{name}.yaml" for name in ("scores", "copy", "other", "slice")]
    done = run(capfd, "check", *files, "--engine", "local", "--json")
    own = ", give each a table or a slice of its own"
    same = f"publishes to lake/scores too: as the same job they replace each other's scores{own}"
    second = f"publishes to ./lake//scores/ too: whichever runs second is refused{own}"
    assert [found["warnings"] for found in done.json["jobs"]] == [
        [], [f"conf/scores.yaml {same}"], [f"conf/scores.yaml {second}", f"conf/copy.yaml {second}"], []
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "step", "code"),
    [
        ({"model": {"uri": "models:/nothing_such/1"}}, "model", 2),
        ({"features": {"rename": {"a": "nothing"}}}, "signature", 2),
        ({"source": {"table": "lake/nothing"}}, "input", 2),
        ({"predictions": {"p": "nothing"}}, "predictions", 4),
        ({"state": "model/MLmodel"}, "sinks", 2),
        ({"checks": {"features": "suite.yaml"}}, "suites", 2),
    ],
)
def test_check_names_the_step_that_fails(job, capfd, sections, step, code):
    Path("suite.yaml").write_text(
        "name: s\nexpectations: [{type: expect_column_to_exist, kwargs: {column: x}}, {type: no}]"
    )
    job(**sections)
    done = run(capfd, "check", "conf/scores.yaml", "--engine", "local", "--json")
    (found,) = done.json["jobs"]
    assert (done.code, [name for name, said in found["steps"].items() if said["status"] == "failed"]) == (code, [step])


def test_check_names_trust_as_what_fails(by_host, capfd):
    by_host(trust=[])
    done = run(capfd, "check", "conf/scores.yaml", "--engine", "local", "--json")
    assert (done.code, done.json["jobs"][0]["steps"]["trust"]["status"]) == (4, "failed")
    steps = done.json["jobs"][0]["steps"]
    assert (steps["model"]["status"], steps["environment"]["status"]) == ("ok", "not looked at")


def test_check_of_a_folder_without_jobs(workspace, capfd):
    Path("empty").mkdir()
    done = run(capfd, "check", "empty")
    assert (done.code, done.err) == (2, "failed: empty: there is no job file (*.yaml) in this folder\n")
