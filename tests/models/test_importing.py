"""Models' files: what is found without loading them, what is refused, and that a registered copy answers as the file."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from lakehouse import models
from lakehouse.config import Model
from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models.importing import files, opening, registering
from lakehouse.models.importing.inspected import Inspected
from lakehouse.models.importing.versions import require_fitting
from tests.conftest import write

X = pd.DataFrame({"a": np.linspace(-1, 1, 40), "b": np.cos(np.arange(40)), "c": np.sin(np.arange(40))})
Y = (X["a"] > 0).astype(int)


class Hostile:
    """Its pickle makes a file when it is loaded."""

    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


def logistic(x: Any = X) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x, Y)


def looked_into(path: Path) -> Inspected:
    folder = path.parent / "scratch"
    folder.mkdir(exist_ok=True)
    return files.inspect(path, folder)


# --- reading without loading ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_any_protocol_tells_its_estimator_and_its_version(workspace: Path, protocol: int) -> None:
    path = workspace / "m.pkl"
    path.write_bytes(pickle.dumps(logistic(), protocol))
    found = looked_into(path)
    assert found.holds == "sklearn.pipeline.Pipeline with StandardScaler, LogisticRegression"
    assert found.versions["scikit-learn"] == (__import__("sklearn").__version__,)
    assert (found.objections, [word for word, _ in found.trust]) == ((), ["pickle"])


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)], ids=str)
def test_joblibs_containers_are_followed_through_their_arrays(workspace: Path, compress: Any) -> None:
    named = np.array([["x", "y"]] * 3, dtype=object)  # object arrays are pickles within
    joblib.dump(logistic().set_params(logisticregression__class_weight={"x": named}), workspace / "m.joblib", compress)
    found = looked_into(workspace / "m.joblib")
    assert found.kind.startswith("joblib")
    assert found.objections == ()
    assert found.holds.startswith("sklearn.pipeline.Pipeline")


def test_functions_in_a_pickle_hint_at_their_python(workspace: Path) -> None:
    model = make_pipeline(FunctionTransformer(lambda x: x * 2), LogisticRegression()).fit(X, Y)
    (workspace / "m.pkl").write_bytes(cloudpickle.dumps(model))
    found = looked_into(workspace / "m.pkl")
    assert (found.kind, found.objections, len(found.code_of)) == ("cloudpickle, protocol 5", (), 1)


def stack_global_by_memo() -> bytes:
    """os.system named by texts from the memo, in another order than they were written."""
    return b"\x80\x04\x8c\x06system\x94\x8c\x02os\x940h\x01h\x00\x93\x8c\x0ctouch canary\x85R."


def extension() -> bytes:
    return b"\x80\x02\x82\x01)R."


def nested() -> bytes:
    inner = pickle.dumps(Hostile())
    return pickle.dumps({"model": inner, "more": logistic()})


def protocol_0() -> bytes:
    return b"cos\nsystem\n(S'touch canary'\ntR."


def computed() -> bytes:
    """A name that is only known once a call was made."""
    return b"\x80\x04\x8c\x02os\x8c\x08builtins\x8c\x03str\x93\x8c\x06system\x85R\x93\x8c\x0ctouch canary\x85R."


def through_joblib() -> bytes:
    out = io.BytesIO()
    joblib.dump([np.arange(5.0), Hostile()], out, compress=("zlib", 3))
    return out.getvalue()


def hidden_behind_an_array() -> bytes:
    out = io.BytesIO()
    joblib.dump([np.array([Hostile()], dtype=object)], out)
    return out.getvalue()


def imported_by_code() -> bytes:
    import subprocess

    def run(x: Any) -> Any:
        subprocess.run(["touch", "canary"], check=False)
        return x

    run.__module__ = "__main__"
    return cloudpickle.dumps(make_pipeline(FunctionTransformer(run), LogisticRegression()))


SYSTEM = f"{os.system.__module__}.system at byte"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pickle.dumps(Hostile()), f"{SYSTEM} "), (stack_global_by_memo, "os.system at byte 21 runs commands"),
        (extension, "copyreg's registry of extensions"), (nested, "of the bytes at byte"),
        (protocol_0, "os.system at byte 0 runs commands"), (computed, "is computed while it is read"),
        (through_joblib, SYSTEM), (hidden_behind_an_array, SYSTEM), (imported_by_code, "imports subprocess"),
        (lambda: b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval at byte 0 runs code"),
        (lambda: b"cnumpy\nload\n(S'x'\ntR.", "numpy.load at byte 0 is a function of numpy"),
        (lambda: b"cacme.models\nSecret\n(tR.", "acme.models.Secret at byte 0 lies outside the known"),
        (lambda: b"\x80\x04\x8c\x07sklearn\x8c\x09os.system\x93\x8c\x0ctouch canary\x85R.", "sklearn.os.system at"),
    ],
)  # fmt: skip
def test_a_hostile_pickle_is_refused_by_name_and_place_and_nothing_runs(
    workspace: Path, make: Callable[[], bytes], said: str
) -> None:
    (workspace / "m.pkl").write_bytes(make())
    found = looked_into(workspace / "m.pkl")
    assert said in " | ".join(found.objections)
    with pytest.raises(ModelRefused, match="is not loaded, whoever made it"):
        opening.open_file(found, ("pickle", "code", "python_function"))
    assert not Path("canary").exists()


def test_an_old_pickle_is_refused_with_what_is_recorded_and_what_is_here(workspace: Path) -> None:
    import sklearn

    (workspace / "m.pkl").write_bytes(pickle.dumps(Stand("0.24.2")))
    found = looked_into(workspace / "m.pkl")
    assert "0.24.2" in found.versions["scikit-learn"]
    with pytest.raises(ModelRefused, match=rf"(?s)0\.24\.2 +{sklearn.__version__}.*pip install 'scikit-learn==0\.24"):
        opening.open_file(found, ("pickle",))


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        (("0.24.2", "0.24.10", "0.24.1"), r"pip install 'scikit-learn==0\.24\.10'; or train"),
        (("0.24.2", "1.0.1"), r"\nno environment has scikit-learn 0\.24\.2 and 1\.0\.1 at once: train it again"),
        (("0.24'; touch canary; '",), r"pip install scikit-learn; or"),
    ],
)  # fmt: skip
def test_of_several_recorded_versions_what_pip_is_told_is_one_that_it_takes(
    workspace: Path, versions: tuple[str, ...], said: str
) -> None:
    (workspace / "m.pkl").write_bytes(pickle.dumps([Stand(version) for version in versions]))
    with pytest.raises(ModelRefused, match=said):
        require_fitting(looked_into(workspace / "m.pkl"))


class Stand:
    """Its pickle is one of a logistic regression of another version."""

    def __init__(self, version: str) -> None:
        self.version = version

    def __reduce__(self) -> Any:
        return LogisticRegression, (), {"C": 1.0, "_sklearn_version": self.version}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"), (b"hello, world\n", "no model of a known kind"),
        (pickle.dumps(logistic())[:200], "no whole pickle"), (b"\x80\x04\x93.", "lacks what it works on"),
        (b'{"learner": ', "is cut off"), (b"tree\nversion=v4\n", "cut off"), (b"PK\x03\x04rubbish", "cut off"),
        (b"\x1f\x8b\x08\x00rubbish", "can't be decompressed"), (b"CBM1\xff\xff\x00\x00", "cut off"),
        (b"\x89HDF\r\n", "save it again with Keras 3"), (b"\x80\x04X\xff\xff\xff\x7fab.", "no whole pickle"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_whole_model_is_refused(workspace: Path, content: bytes, said: str) -> None:
    (workspace / "m").write_bytes(content)
    with pytest.raises(ModelRefused, match=said):
        looked_into(workspace / "m")


def test_a_name_that_is_a_value_is_no_instruction(workspace: Path) -> None:
    """What is only a text is not named: a model may know the word `os`."""
    model = logistic().set_params(logisticregression__class_weight={"os": "system"})
    (workspace / "m.pkl").write_bytes(pickletools.optimize(pickle.dumps(model)))
    assert looked_into(workspace / "m.pkl").objections == ()


# --- import -----------------------------------------------------------------------------------------------


def boosted(kind: str, path: Path) -> None:
    if kind.startswith("xgboost"):
        import xgboost

        model = xgboost.XGBClassifier(n_estimators=3).fit(X, Y)
        (model if kind != "xgboost.bst" else model.get_booster()).save_model(path)
    elif kind == "lightgbm.txt":
        import lightgbm

        lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(X, Y).booster_.save_model(path)
    elif kind == "catboost.cbm":
        import catboost

        catboost.CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False).fit(X, Y).save_model(str(path))
    elif kind == "model.onnx":
        from skl2onnx import to_onnx

        path.write_bytes(to_onnx(logistic(), X.to_numpy(np.float32), options={"zipmap": False}).SerializeToString())
    elif kind == "model.keras":
        os.environ.setdefault("KERAS_BACKEND", "jax")
        import keras

        keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")]).save(path)
    else:
        joblib.dump(logistic(), path, compress=3)


def bring_in(path: Path, tracking_uri: str, **wish: Any) -> registering.Imported:
    name = wish.pop("name", path.stem + "_" + path.suffix[1:])
    folder = Path(tempfile.mkdtemp(dir=path.parent))
    wanted = registering.Wish(name, wish.pop("table", "lake/features"), **wish)
    return registering.register(
        files.inspect(path, folder), wanted, Model(uri=f"models:/{name}", tracking_uri=tracking_uri), folder
    )


@pytest.fixture
def lake(workspace: Path) -> None:
    write("lake/features", pa.Table.from_pandas(X.assign(id=range(40)), preserve_index=False))


KINDS = [
    "xgboost.json",
    "xgboost.ubj",
    "xgboost.bst",
    "lightgbm.txt",
    "catboost.cbm",
    "model.onnx",
    "model.keras",
    "model.joblib",
]


@pytest.mark.filterwarnings("ignore")  # what libraries say while they train is not ours
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.quick("model.joblib", "xgboost.ubj")
def test_every_kind_is_registered_and_answers_as_its_file(
    lake: None, workspace: Path, tracking_uri: str, kind: str
) -> None:
    boosted(kind, workspace / kind)
    done = bring_in(workspace / kind, tracking_uri, excluded=("id",), trust=("pickle",))
    config = Model(uri=f"models:/{done.name}/{done.version}", tracking_uri=tracking_uri)
    (workspace / "fetched").mkdir()
    fetched = models.fetch(config, models.resolve(config), workspace / "fetched")
    original = opening.predictor_of(opening.open_file(looked_into(workspace / kind), ("pickle",)), None)
    loaded = models.load(fetched.path, fetched.digest, None, ())
    assert [name for name, _, _ in models.inputs_of(fetched)] == ["a", "b", "c"]
    assert done.trust == ()
    assert registering.differ(original.predict(X), loaded.predict(X)) is None


def test_a_pickle_is_not_loaded_without_a_word(lake: None, workspace: Path, tracking_uri: str) -> None:
    (workspace / "m.pkl").write_bytes(pickle.dumps(logistic()))
    with pytest.raises(ModelRefused, match="If you trust whoever made it: --trust pickle"):
        bring_in(workspace / "m.pkl", tracking_uri)


def test_a_model_without_names_takes_all_columns_if_they_are_as_many(
    lake: None, workspace: Path, tracking_uri: str
) -> None:
    (workspace / "arrays.pkl").write_bytes(pickle.dumps(logistic(X.to_numpy())))
    with pytest.raises(
        ConfigError, match="3 features without names, lake/features has 4 columns for them: a, b, c, id"
    ):
        bring_in(workspace / "arrays.pkl", tracking_uri, trust=("pickle",))
    done = bring_in(workspace / "arrays.pkl", tracking_uri, trust=("pickle",), excluded=("id",))
    assert done.features == ("a", "b", "c")
    assert "in the table's order, a, b, c" in done.notes[0]


def test_a_registration_that_fails_leaves_nothing_behind(
    lake: None, workspace: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "m.pkl").write_bytes(pickle.dumps(logistic()))
    client = mlflow.MlflowClient(tracking_uri, registry_uri=tracking_uri)
    wanted: dict[str, Any] = {"name": "taken_back", "trust": ("pickle",)}
    with pytest.raises(ConfigError, match="alias name 'v1' is reserved"):  # the last step of all
        bring_in(workspace / "m.pkl", tracking_uri, alias="v1", **wanted)
    experiment = client.get_experiment_by_name("imported-models").experiment_id
    ours = "name = 'taken_back'"
    assert client.search_logged_models([experiment], filter_string=ours) == []
    assert client.search_registered_models(ours) == []
    assert [run.info.status for run in client.search_runs([experiment], "tags.`mlflow.runName` = 'taken_back'")] == [
        "FAILED"
    ]
    assert bring_in(workspace / "m.pkl", tracking_uri, **wanted).version == "1"
    with pytest.raises(ConfigError, match="reserved"):
        bring_in(workspace / "m.pkl", tracking_uri, alias="v1", **wanted)
    assert [found.version for found in client.search_model_versions(ours)] == [1]
    assert len(client.search_logged_models([experiment], filter_string=ours)) == 1

    monkeypatch.setattr(mlflow.MlflowClient, "delete_logged_model", lambda *_: exec("raise OSError"))
    with pytest.raises(
        ConfigError, match=r"reserved.*; what was made could not be taken back: logged model m-[0-9a-f]+$"
    ):
        bring_in(workspace / "m.pkl", tracking_uri, alias="v1", **wanted)


def test_a_type_that_would_be_made_in_another_way_is_not_vouched_for(
    lake: None, workspace: Path, tracking_uri: str
) -> None:
    """As a class, not as an object of it: what the job's policy would not take, the import does not store as skops."""
    model = logistic().set_params(logisticregression__class_weight={"x": KFold})
    (workspace / "m.pkl").write_bytes(pickle.dumps(model))
    done = bring_in(workspace / "m.pkl", tracking_uri, name="other_way", trust=("pickle",))
    assert (done.stored, done.trust) == ("cloudpickle", ("pickle",))
    assert "stored as cloudpickle: skops can't vouch for sklearn.model_selection._split.KFold" in done.notes


def test_features_may_lie_in_a_folder_of_parquet_files(workspace: Path, tracking_uri: str) -> None:
    for part in range(2):
        Path(f"lake/parquet/day={part}").mkdir(parents=True)
        rows = pa.Table.from_pandas(X.assign(id=range(40)), preserve_index=False)
        pq.write_table(rows.slice(20 * part, 20), f"lake/parquet/day={part}/part.parquet")
    (workspace / "m.pkl").write_bytes(pickle.dumps(logistic()))
    wanted: dict[str, Any] = {"name": "of_parquet", "trust": ("pickle",), "table": "lake/parquet"}
    done = bring_in(workspace / "m.pkl", tracking_uri, **wanted)
    assert (done.rows, done.features) == (40, ("a", "b", "c"))
    with pytest.raises(ConfigError, match="lake/parquet has no column 'idd' to leave out, did you mean 'id'"):
        bring_in(workspace / "m.pkl", tracking_uri, excluded=("idd",), **wanted)
    with pytest.raises(ConfigError, match=r"^--features: .*lake/nothing"):
        bring_in(workspace / "m.pkl", tracking_uri, **{**wanted, "table": "lake/nothing"})


def test_answers_that_differ_are_told() -> None:
    assert registering.differ(np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-9])) is not None
    assert registering.differ(np.array([1.0, np.nan]), np.array([1.0, np.nan])) is None
    assert registering.differ(np.array(["a"]), np.array(["b"])) is not None
    assert registering.differ(np.zeros((2, 1)), np.zeros(2)) == "shape (2,) instead of (2, 1)"


def test_answers_are_compared_by_their_columns() -> None:
    one = pd.DataFrame({"label": ["a", "b"], "share": [0.1, 0.2]})
    assert registering.differ(one, one.assign(share=[0.1, 0.2 + 1e-17])) is None
    assert (
        registering.differ(one, one.assign(share=[0.1, 0.3]))
        == "share: at (1,) np.float64(0.3) instead of np.float64(0.2)"
    )
    assert registering.differ({"x": np.zeros(2)}, {"x": np.ones(2)}).startswith("x: at (0,)")  # type: ignore[union-attr]
    gaps = np.array([None, np.nan, "a"], dtype=object)
    assert registering.differ(gaps, gaps.copy()) is None
    assert registering.differ(np.float32([1, 2]), np.array([1.0, 2 + 1e-6])) is None  # the narrower of the two decides
    small = np.array([[1.0, 1e9], [1e-17, 0.0]])  # what is a last place in one column is not in another
    assert registering.differ(small, small + np.array([[0.0, 0.0], [1e-17, 1e-8]])) is None
    assert registering.differ(small, small + np.array([[0.0, 0.0], [1e-9, 0.0]])) is not None
