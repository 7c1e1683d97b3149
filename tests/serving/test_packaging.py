"""What a package is made of: libraries that its model needs, what is kept of them, and why one is refused."""

from __future__ import annotations

import ctypes
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest
from skops.io import _trusted_types

from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models.libraries import modules_of
from lakehouse.serving import packaging, preparing
from lakehouse.serving.limits import Limits
from lakehouse.serving.packaged import Settings, open_package
from lakehouse.serving.packaging import libraries, trimming, trying
from lakehouse.serving.packaging.kinds import KINDS
from lakehouse.serving.prepared import JobFile, Prepared
from tests.command import run
from tests.serving.conftest import Place, features, model

WANTED = packaging.Wanted(KINDS["function"], Settings(Limits(rows=7)), False, (), None, "job: likes\n")
HERE = (99, 0)


def test_what_a_package_leaves_out_of_our_own_is_imported_by_none_of_the_rest():
    left_out = sorted(name.removesuffix(".py") for name in packaging._NOT_SERVING)
    without = f"import sys; sys.modules.update(dict.fromkeys('lakehouse.' + name for name in {left_out!r}))\n"
    for module in ("aws_lambda", "cloud_function", "sample"):
        command = [sys.executable, "-c", f"{without}import lakehouse.serving.{module}"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr


def packed_values(prepared: Prepared) -> list[float]:
    """The values of the feature b that are found in what is packaged of a job."""
    packed = pickle.dumps(prepared, protocol=5)
    return [value for value in features().column("b").to_pylist() if struct.pack("<d", value) in packed]


def test_of_the_input_one_row_is_packaged(prepared):
    assert packed_values(prepared) == prepared.row.column("b").to_pylist()


def test_and_so_many_as_a_linear_model_is_explained_by(place, tmp_path, register, tracking_uri):
    made = Place(place.folder, str(tmp_path / "explained.yaml"))
    made.write_job(register(*model(), name="explained"), tracking_uri, explanations={"top": 2})
    prepared = preparing.prepare(JobFile(made.conf), tmp_path / "models", datetime.now(UTC), lambda _: None)
    assert packed_values(prepared) == prepared.explaining.others.column("b").to_pylist()


def test_a_model_on_a_matrix_needs_its_own_library_and_neither_frames_nor_mlflow(prepared):
    assert set(libraries.modules_for(prepared)) == {
        "numpy", "pyarrow", "yaml", "jinja2", "orjson", "sklearn", "skops",
    }  # fmt: skip
    assert "pandas" in libraries.modules_for(replace(prepared, direct=False))
    found = libraries.libraries_of(libraries.modules_for(prepared))
    assert {"scikit-learn", "scipy", "joblib", "numpy", "pyarrow", "pyyaml", "jinja2", "markupsafe"} <= set(found)
    assert not {
        "pandas",
        "mlflow",
        "mlflow-skinny",
        "pyspark",
        "deltalake",
        "pydantic",
        "sqlglot",
        "prettytable",
    } & set(found)
    assert "scipy" not in libraries.libraries_of(["sklearn"], ["SciPy"])


def test_mlflow_is_needed_where_no_flavour_loads_the_model_without_it(tmp_path):
    described = "flavors:\n  statsmodels: {statsmodels_version: '0.14'}\n  python_function: {loader_module: mlflow.statsmodels}\n"
    (tmp_path / "MLmodel").write_text(described)
    assert modules_of(tmp_path, ()) == ("statsmodels", "mlflow")
    assert libraries.owner_of("mlflow") == "mlflow-skinny"
    described = "flavors:\n  lightgbm: {model_class: lightgbm.sklearn.LGBMRegressor, serialization_format: skops}\n"
    (tmp_path / "MLmodel").write_text(described + "  python_function: {loader_module: mlflow.lightgbm}\n")
    assert modules_of(tmp_path, ()) == ("lightgbm", "skops", "sklearn")
    assert modules_of(tmp_path, (("raw_score", True),))[-1] == "mlflow"


@pytest.mark.parametrize(
    ("tags", "needed"),
    [
        (["any"], (0, 0)),
        (["manylinux_2_28_x86_64"], (2, 28)),
        (["manylinux_2_27_x86_64.manylinux_2_28_x86_64"], (2, 27)),
        (["manylinux2014_x86_64", "manylinux_2_17_x86_64"], (2, 17)),
        (["manylinux1_x86_64"], (2, 5)),
        (["linux_x86_64"], None),
    ],
)
def test_a_wheels_tags_say_the_c_library_that_it_needs(tags, needed):
    assert libraries._glibc(tags) == needed


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ("numpy/core.py", True), ("numpy/tests/test_core.py", False), ("tests.py", True), ("numpy/distutils/log.py", False),
        ("pyarrow/libarrow.so.2500", True), ("pyarrow/libarrow_flight.so.2500", False),
        ("pyarrow/libarrow_python.so.2500", True), ("pyarrow/libarrow_python.so.2500.1.0", False),
        ("pyarrow/include/arrow/api.h", False), ("scipy/linalg/_cythonized.pyx", False), ("a/b.pyi", False),
        ("x-1.0.dist-info/METADATA", True), ("x-1.0.dist-info/licenses/LICENSE", True), ("x-1.0.dist-info/RECORD", False),
    ],
)  # fmt: skip
def test_what_does_not_run_stays_behind(place, kept):
    assert trimming.is_kept(PurePosixPath(place)) is kept


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no ELF")
def test_machine_code_without_its_symbol_table_is_smaller_and_still_loads(tmp_path):
    files = metadata.distribution("pyyaml").files or ()
    [source] = [Path(str(file.locate())) for file in files if ".so" in file.name]
    copied = trimming.copy(source, PurePosixPath("yaml") / source.name, tmp_path)
    target = tmp_path / copied
    assert target.stat().st_size < source.stat().st_size
    assert ctypes.CDLL(str(target)).PyInit__yaml
    assert trimming.without_symbols(b"\x7fELF other") == b"\x7fELF other"


def test_pythons_files_are_compiled_and_what_is_none_is_copied(tmp_path):
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "bad.py").write_text("print 1\n")
    out = tmp_path / "out"
    assert trimming.copy(tmp_path / "good.py", PurePosixPath("p/good.py"), out) == PurePosixPath("p/good.pyc")
    assert trimming.copy(tmp_path / "bad.py", PurePosixPath("p/bad.py"), out) == PurePosixPath("p/bad.py")
    assert not (out / "p/good.py").exists()
    first = (out / "p/good.pyc").read_bytes()
    (tmp_path / "good.py").touch()
    trimming.copy(tmp_path / "good.py", PurePosixPath("p/good.py"), out)
    assert (out / "p/good.pyc").read_bytes() == first


def test_what_a_module_computes_at_each_import_is_packaged_as_it_is_here(tmp_path):
    place = PurePosixPath("skops/io/_trusted_types.py")
    source = Path(str(metadata.distribution("skops").locate_file(str(place))))
    made = tmp_path / trimming.copy(source, place, tmp_path)
    code = f"import runpy; print({{n: v for n, v in runpy.run_path({str(made)!r}).items() if n.isupper()}})"
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    here = {name: value for name, value in vars(_trusted_types).items() if name.isupper() and name[0] != "_"}
    assert found.strip() == str(here)
    assert len(_trusted_types.SKLEARN_ESTIMATOR_TYPE_NAMES) > 100
    assert trimming.constants_of("logging") is None  # levels are no lists of names


@pytest.fixture(scope="module")
def listed(prepared, tmp_path_factory):
    """The zip of a package whose libraries are listed."""
    folder = tmp_path_factory.mktemp("package")
    return packaging.package(prepared, WANTED, folder, folder.parent / "likes.zip").zip


@pytest.fixture
def folder(listed, tmp_path):
    """It, unzipped."""
    with zipfile.ZipFile(listed) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def test_a_package_that_lists_its_libraries_opens_and_has_its_settings(listed, folder, caplog):
    with zipfile.ZipFile(listed) as archive:
        dates = {info.date_time[0] for info in archive.infolist()}
    assert dates == {1980}
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert lines[0].startswith("functions-framework")
    assert f"scikit-learn=={metadata.version('scikit-learn')}" in lines
    assert {part.name for part in folder.iterdir()} == {
        "lakehouse", "main.py", "models", "job.yaml", "package.json", "package.pickle", "requirements.txt",
    }  # fmt: skip
    assert not (folder / "lakehouse/cli").exists()
    opened = open_package(folder)
    assert "no --answers: messages have nowhere to send their scores" in caplog.text
    assert (opened.job, opened.server.limits.rows, opened.server.jobs["likes"].published) == ("likes", 7, None)
    assert b"/likes.yaml" not in (folder / "package.pickle").read_bytes()  # no path of this machine


def test_a_package_with_another_models_files_is_refused(folder):
    about = folder / "package.json"
    said = json.loads(about.read_text())
    about.write_text(json.dumps({**said, "models": {"0" * 64: "likes"}}))
    with pytest.raises(ModelRefused, match=r"not those that package\.json names"):
        open_package(folder)
    about.write_text(json.dumps({**said, "libraries_inside": True, "python": "3.9"}))
    with pytest.raises(ConfigError, match=r"for Python 3\.9"):
        open_package(folder)
    about.write_text(json.dumps({**said, "format": 99}))
    with pytest.raises(ConfigError, match="upgrade lakehouse"):
        open_package(folder)


def test_a_package_that_is_too_large_is_refused_before_it_is_tried_and_the_largest_parts_are_named(
    prepared, tmp_path, monkeypatch
):
    def few(modules, left_out=()):
        return {"pyyaml": found["pyyaml"]}

    found = libraries.libraries_of(["yaml"])
    monkeypatch.setattr(packaging, "libraries_of", few)
    kind = replace(KINDS["lambda"], most=1_000_000)
    wanted = replace(WANTED, kind=kind, inside=True, glibc=HERE)
    with pytest.raises(ConfigError, match=r"lambda takes 1 MB; the largest parts: lakehouse \d MB"):
        packaging.package(prepared, wanted, tmp_path, tmp_path.parent / "large.zip")
    assert not (tmp_path.parent / "large.zip").exists()


def library(name, glibc):
    return libraries.Library(name, "1.0", {}, glibc)


@pytest.mark.parametrize(
    ("glibc", "python", "wheel", "said"),
    [
        (None, "3.11", (2, 28), r"is glibc 2\.26, and big 1\.0 needs glibc 2\.28: package with Python 3\.12 or 3\.13"),
        (None, "3.13", (2, 39), r"is glibc 2\.34, and big 1\.0 needs glibc 2\.39: say by --glibc"),
        ((2, 36), "3.11", (2, 39), r"is glibc 2\.36"),
        ((2, 36), "3.11", None, "big was built on this machine"),
        ((2, 36), "3.11", (2, 28), ""),
        (None, "3.12", (2, 34), ""),
    ],
)
def test_libraries_that_the_clouds_system_cant_load_are_refused(glibc, python, wheel, said):
    wanted = replace(WANTED, kind=KINDS["lambda"], inside=True, glibc=glibc)
    given = {"small": library("small", (0, 0)), "big": library("big", wheel)}
    if not said:
        return packaging._require_runs_there(wanted, given, python)
    with pytest.raises(ConfigError, match=said):
        packaging._require_runs_there(wanted, given, python)
    return packaging._require_runs_there(replace(wanted, inside=False), given, python)


def test_a_package_that_does_not_answer_as_the_job_does_is_refused(prepared, folder):
    expected = trying.answers_here(prepared)
    assert expected.keys() == {"JSON", "Arrow", "CSV"}
    other = {**expected, "CSV": {**expected["CSV"], "status": 418}}
    with pytest.raises(ModelRefused, match=r"answers CSV with .*instead of .*418"):
        trying.try_package(folder, other, alone=False)
    with pytest.raises(trying.Missing) as missing:
        trying.try_package(folder, expected, alone=True)
    assert missing.value.module in ("numpy", "pyarrow")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["package", "lamda", "{}"], "did you mean 'lambda'"),
        (["package", "lambda", "{}", "--libraries", "outside"], "inside"),
        (["package", "lambda", "{}", "--glibc", "new"], r"--glibc new: name a version such as 2.34"),
        (["package", "lambda", "gone.yaml"], "gone.yaml: no such file"),
        (["package", "function", "gone.yaml", "--out", "x.zip"], "gone.yaml: no such file"),
        (["package", "lambda", "{}", "--out", "{}"], "likes.yaml is there, and is no zip"),
        (["package", "lambda", "{}", "--out", "."], "it is a folder"),
        (["package", "lambda", "{}"], "--out likes-lambda.zip can't be written: it is a folder"),
        (["package", "lambda", "{}", "--keys", "correct-horse-battery"], "env:NAME or file:PATH, not the keys"),
        (["package", "lambda", "{}", "--answers", "queue"], "--answers queue: name a queue or a stream"),
        (["package", "lambda", "{}", "--answers", "sqs:queue"], "--answers sqs:queue: name a queue or a stream"),
        (["package", "function", "{}", "--answers", "sqs:https://a/b"], "name a topic, pubsub:projects/"),
    ],
)
def test_what_the_command_cant_use_is_refused_before_the_model_is_fetched(
    place: Place, options, said, capfd, tmp_path, monkeypatch
):
    (tmp_path / "likes-lambda.zip").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preparing, "prepare", lambda *_: pytest.fail("the model was fetched"))
    ended = run(capfd, *(option.format(place.conf) for option in options))
    assert ended.code == 2
    assert said in ended.err


@pytest.mark.long
def test_a_model_that_is_not_trusted_is_not_packaged(place, tmp_path, register, tracking_uri, capfd):
    mine = Place(tmp_path, str(tmp_path / "pickled.yaml"))
    uri = register(*model(), name="pickled_package", serialization_format="cloudpickle")
    mine.write_job(uri, tracking_uri, source={"type": "delta", "table": place.table("features")}, checks={})
    ended = run(capfd, "package", "lambda", mine.conf, "--out", str(tmp_path / "out.zip"))
    assert ended.code == 4
    assert "the model is not safe to load" in ended.err
    assert not (tmp_path / "out.zip").exists()
