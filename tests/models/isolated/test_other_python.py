"""A model that another Python and another scikit-learn have made, scored: real packages, a real second interpreter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sklearn
import yaml

from lakehouse.config.model import Isolation
from lakehouse.errors import ModelRefused
from lakehouse.models.isolated import building, interpreters
from tests.conftest import read, score, write

pytestmark = pytest.mark.long

OTHER_SKLEARN = "1.5.2"
TRAIN = """
import site, sys
site.addsitedir(sys.argv[1])
import mlflow, numpy as np, pandas as pd, sklearn
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
x = pd.DataFrame({"a": np.linspace(-2, 2, 60), "b": np.cos(np.arange(60))})
fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, (x["a"] > 0.3).astype(int))
mlflow.sklearn.save_model(
    fitted, sys.argv[2], signature=infer_signature(x, fitted.predict(x)), skops_trusted_types=["numpy.dtype"],
    pip_requirements=[f"scikit-learn=={sklearn.__version__}", "skops", "numpy<2.3", "pandas<3", "mlflow-skinny==3.17.2"],
)
np.save(sys.argv[3], fitted.predict_proba(x)[:, 1])
"""


@pytest.fixture(scope="module")
def other() -> interpreters.Interpreter:
    """An interpreter of another minor version than this one's."""
    for minor in ("3.12", "3.11", "3.13"):
        if minor != interpreters.HERE:
            try:
                return interpreters.find(minor, None)
            except ModelRefused:
                continue
    pytest.fail(
        f"a second Python of 3.11 to 3.13 is needed beside {interpreters.HERE}: put it on PATH, uv python install 3.12"
    )


def test_it_scores_as_where_it_was_made_and_again_without_network(other, make_job, workspace, monkeypatch):
    asked = {
        "flavors": {"python_function": {"python_version": other.version, "loader_module": "mlflow.sklearn"}},
        "mlflow_version": "3.17.2",
    }
    Path("wanted").mkdir()
    Path("wanted/MLmodel").write_text(yaml.safe_dump(asked))
    Path("wanted/requirements.txt").write_text(
        f"scikit-learn=={OTHER_SKLEARN}\nskops\nnumpy<2.3\npandas<3\nmlflow-skinny==3.17.2\n"
    )
    maker = building.environment_for(Path("wanted"), Isolation(), workspace / "cache")
    command = [other.path, "-I", "-S", "-c", TRAIN, maker.environment.packages, "model", "answers.npy"]
    subprocess.run(command, check=True, capture_output=True)
    listed = Path("model/requirements.txt")  # without MLflow's own line for all of MLflow, which takes minutes more
    listed.write_text("\n".join(line for line in listed.read_text().splitlines() if not line.startswith("mlflow==")))

    ids = np.arange(60)
    columns = {"a": np.linspace(-2, 2, 60), "b": np.cos(np.arange(60))}
    write("lake/features", pa.table({"id": ids, **columns}))
    strict = make_job("model", predictions={"p": {"class": 1}}, model={"method": "predict_proba"})
    with pytest.raises(ModelRefused, match=r"(?s)python .*environment: isolated"):
        score(strict)

    section = {"method": "predict_proba", "environment": "isolated", "isolation": {"cache": "cache"}}
    job = make_job("model", predictions={"p": {"class": 1}}, model=section)
    result = score(job)
    assert result.status == "published"
    assert result.model is not None
    assert result.model["library"] == f"sklearn {OTHER_SKLEARN}" != f"sklearn {sklearn.__version__}"
    np.testing.assert_allclose(read("lake/scores")["p"].to_numpy(), np.load("answers.npy"), rtol=1e-14)

    for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    assert score(job, rescore=True).status == "published"


def test_pip_builds_it_where_there_is_no_uv(workspace, monkeypatch):
    described = {"flavors": {"python_function": {"python_version": ".".join(map(str, sys.version_info[:3]))}}}
    Path("MLmodel").write_text(yaml.safe_dump(described))
    Path("requirements.txt").write_text("mlflow-skinny\npandas\npyarrow\nnumpy\n")
    which = shutil.which
    monkeypatch.setattr(building.shutil, "which", lambda name, **more: None if name == "uv" else which(name, **more))
    lines = Path("requirements.txt").read_text().split()
    monkeypatch.setattr(building, "asked_of", lambda *_: building.Asked(interpreters.HERE, "x", tuple(lines[3:])))
    built = building.environment_for(Path(), Isolation(), workspace / "cache")
    assert set(built.versions) == {"numpy"}
    assert list(Path(built.environment.packages).rglob("*.pyc"))
    again = building.environment_for(Path(), Isolation(), workspace / "cache")
    assert (built.how, again.how) == ("built", "kept")


@pytest.mark.parametrize(
    ("line", "said"),
    [("numpy==0.0.1.dev999", "can't be built:"), ("lakehouse-no-such-package==99", "can't be built:")],
)
def test_what_can_not_be_resolved_is_told_in_few_lines(workspace, line, said):
    Path("MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": {}}}))
    Path("requirements.txt").write_text(f"mlflow\n{line}\n")
    with pytest.raises(ModelRefused, match=said) as refused:
        building.environment_for(Path(), Isolation(), workspace / "cache")
    assert len(str(refused.value).splitlines()) < 8
