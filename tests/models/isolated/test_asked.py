"""What a model's files ask for: read as text, and refused where an installer would look or run code elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lakehouse.config.model import Isolation
from lakehouse.errors import ModelRefused
from lakehouse.models.isolated.asked import asked_of, lines_for

PLAIN = Isolation()
MARKERS = {"python_version": "3.12", "python_full_version": "3.12.1", "sys_platform": "linux", "extra": ""}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The files of a model that no library has to load."""
    described = {
        "flavors": {
            "python_function": {"loader_module": "mlflow.sklearn", "python_version": "3.12.1", "env": "c.yaml"}
        },
        "mlflow_version": "3.17.2",
    }
    (tmp_path / "MLmodel").write_text(yaml.safe_dump(described))
    return tmp_path


def requirements(model: Path, *lines: str) -> Path:
    (model / "requirements.txt").write_text("\n".join(lines))
    return model


def test_plain_requirements_are_taken_as_they_are(model):
    lines = ["mlflow==3.17.2", "# a remark", "scikit-learn==1.5.2  # why", "numpy<3; python_version >= '3.9'"]
    found = asked_of(requirements(model, *lines), PLAIN, "3.11")
    assert (found.minor, found.origin, found.notes) == ("3.12", "requirements.txt", ())
    assert found.lines == ("mlflow==3.17.2", "scikit-learn==1.5.2", "numpy<3; python_version >= '3.9'")


def test_what_the_process_needs_besides_is_added_and_said(model):
    found = asked_of(requirements(model, "scikit-learn==1.5.2", "PyArrow"), PLAIN, "3.11")
    assert found.lines == ("scikit-learn==1.5.2", "PyArrow", "mlflow-skinny==3.17.2", "pandas<3", "numpy")
    assert found.notes == (
        "its environment also gets mlflow-skinny==3.17.2, pandas<3, numpy, to load the model and feed it",
    )


def test_a_conda_file_does_where_there_are_no_requirements(model):
    listed = ["python=3.12.1", "pip<=23", "libgomp", {"pip": ["mlflow==3.17.2", "xgboost==3.0.0"]}]
    (model / "c.yaml").write_text(yaml.safe_dump({"dependencies": listed}))
    found = asked_of(model, PLAIN, "3.11")
    assert found.lines == ("mlflow==3.17.2", "xgboost==3.0.0")
    assert found.notes == ("its Conda file also lists libgomp, which pip does not install",)


def test_a_model_that_says_nothing_is_refused(model):
    with pytest.raises(ModelRefused, match="nothing says what its environment is"):
        asked_of(model, PLAIN, "3.11")


def test_a_python_that_is_too_old_for_the_process_is_refused(model):
    described = (model / "MLmodel").read_text().replace("3.12.1", "3.9.18")
    (model / "MLmodel").write_text(described)
    with pytest.raises(ModelRefused, match=r"needs 3\.11 or later"):
        asked_of(requirements(model, "mlflow==3.17.2"), PLAIN, "3.11")


@pytest.mark.parametrize(
    "line",
    ["--index-url https://elsewhere.example/simple", "--extra-index-url=https://elsewhere.example/simple",
     "-f https://elsewhere.example", "--find-links https://elsewhere.example", "git+https://elsewhere.example/x.git",
     "-e ./evil", "./evil", "/evil", "evil @ file:evil", "evil@https://elsewhere.example/evil.zip",
     "https://elsewhere.example/evil-1.0.tar.gz", "-r more.txt", "-c ../more.txt", "-c missing.txt", "--pre",
     "--trusted-host elsewhere.example", "evil; what", "num\\\npy @ https://elsewhere.example", "--no-binary :all:"],
)  # fmt: skip
def test_a_line_that_leads_elsewhere_is_refused(model, line):
    with pytest.raises(ModelRefused, match="environment: isolated: requirements.txt"):  # noqa: RUF043
        asked_of(requirements(model, "mlflow==3.17.2", line), PLAIN, "3.11")


def test_a_line_is_taken_that_the_job_accepts(model):
    line = "evil @ https://user:secret@elsewhere.example/evil.zip"
    with pytest.raises(ModelRefused) as refused:
        asked_of(requirements(model, "mlflow==3.17.2", line), PLAIN, "3.11")
    assert "secret" not in str(refused.value)
    assert line in asked_of(model, Isolation(accept=(line,)), "3.11").lines


def test_constraints_beside_the_requirements_are_looked_through_too(model):
    (model / "constraints.txt").write_text("numpy==2.0.0\n")
    found = asked_of(requirements(model, "mlflow==3.17.2", "-c constraints.txt"), PLAIN, "3.11")
    assert found.constraints == ("numpy==2.0.0",)
    (model / "constraints.txt").write_text("--index-url https://elsewhere.example\n")
    with pytest.raises(ModelRefused, match="elsewhere"):
        asked_of(model, PLAIN, "3.11")


LOCK = """
version = 1
requires-python = ">=3.11"

[[package]]
name = "project"
version = "0.1.0"
source = { virtual = "." }
dependencies = [
    { name = "mlflow" },
    { name = "backport", marker = "python_full_version < '3.12'" },
    { name = "numpy", version = "1.26.4", source = { registry = "https://pypi.org/simple" }, marker = "python_full_version < '3.12'" },
    { name = "numpy", version = "2.2.0", source = { registry = "https://pypi.org/simple" }, marker = "python_full_version >= '3.12'" },
    { name = "tool", extra = ["more"] },
]

[package.dev-dependencies]
dev = [{ name = "pytest" }]

[[package]]
name = "mlflow"
version = "3.17.2"
source = { registry = "https://pypi.org/simple" }
dependencies = [{ name = "pandas" }, { name = "pyarrow" }]
wheels = [{ url = "https://files.example/mlflow.whl", hash = "sha256:01", size = 1 }]
""" + "".join(
    f"""
[[package]]
name = "{name}"
version = "{version}"
source = {{ registry = "https://pypi.org/simple" }}
{more}
"""
    for name, version, more in [
        ("backport", "1", ""), ("numpy", "1.26.4", ""), ("numpy", "2.2.0", ""), ("pandas", "2.2.3", ""),
        ("pyarrow", "19.0.0", ""), ("pytest", "9", ""), ("extra", "5", ""),
        ("tool", "4", 'optional-dependencies = { more = [{ name = "extra" }], other = [{ name = "pytest" }] }'),
    ]
)  # fmt: skip


def locked(model: Path, text: str, isolation: Isolation = PLAIN) -> tuple[str, ...]:
    (model / "uv.lock").write_text(text)
    return lines_for(asked_of(requirements(model, "other==1"), isolation, "3.11"), MARKERS, isolation).lines


def test_a_uv_lock_comes_first_and_gives_what_one_interpreter_needs(model):
    assert locked(model, LOCK) == (
        "extra==5", "mlflow==3.17.2 --hash=sha256:01", "numpy==2.2.0", "pandas==2.2.3", "pyarrow==19.0.0", "tool==4",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('{ virtual = "." }', '{ git = "https://elsewhere.example" }', "of 0 projects"),
        ('"5"\nsource = { registry = "https://pypi.org/simple" }', '"5"\nsource = { path = "../x" }', "path ../x"),
        ("https://pypi.org/simple", "https://elsewhere.example", "takes .* from 'https://elsewhere.example'"),
        ('name = "pandas"\n', 'name = "panda"\n', "has 0 packages 'pandas'"),
        ('{ name = "pyarrow" }', "", "has no pyarrow"),
        ("[[package]]", "[[package", "can't be read"),
        ('"4"', '"4 @ https://elsewhere.example"', "no package"),
    ],
)
def test_a_uv_lock_that_leads_elsewhere_or_is_none_is_refused(model, before, after, said):
    assert before in LOCK
    with pytest.raises(ModelRefused, match=said):
        locked(model, LOCK.replace(before, after))


def test_a_uv_lock_of_the_index_that_the_job_names_is_taken(model):
    own = "https://elsewhere.example/simple"
    assert locked(model, LOCK.replace("https://pypi.org/simple", own), Isolation(index=own))
