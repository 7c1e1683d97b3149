"""Models that would run code, or read what is not theirs: each is refused before it is loaded, whatever its flavour.

What a model would do is to make a file. Where MLflow itself would let it (`fires`), the test shows that it does.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow
import numpy as np
import pyarrow as pa
import pytest
import yaml

from lakehouse import models
from lakehouse.config import Model, SignedBy
from lakehouse.errors import ConfigError
from tests.command import Outcome, run, tree
from tests.conftest import write

SIDES = {
    "inputs": json.dumps([{"name": name, "type": "double", "required": True} for name in "ab"]),
    "outputs": json.dumps([{"type": "double", "required": True}]),
}
Build = Callable[[Path, Path], None]
"""What writes a hostile model into a folder: (folder, the file that it would make)."""


def describe(folder: Path, flavor: str, own: Mapping[str, Any], function: Mapping[str, Any], **more: Any) -> None:
    """Write an MLmodel file."""
    called = {"loader_module": f"mlflow.{flavor}", "python_version": "3.11.0", **function}
    flavors = {"python_function": called, flavor: dict(own), **more}
    text = yaml.safe_dump({"flavors": flavors, "signature": SIDES, "mlflow_version": "3.17.2"})
    (folder / "MLmodel").write_text(text)


class Touching:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


# --- pickles, and code of its own -------------------------------------------------------------------------


def sklearn_pickle(folder: Path, ran: Path) -> None:
    (folder / "model.pkl").write_bytes(pickle.dumps(Touching(ran)))
    describe(folder, "sklearn", {"serialization_format": "pickle"}, {"model_path": "model.pkl"})


def sklearn_pickle_called_skops(folder: Path, ran: Path) -> None:
    """A pickle in a folder of its own, whose description MLflow reads instead of the model's."""
    (folder / "inner").mkdir()
    sklearn_pickle(folder / "inner", ran)
    own = {"serialization_format": "skops", "skops_trusted_types": []}
    describe(folder, "sklearn", own, {"model_path": "model.pkl", "data": "inner"})


def lightgbm_cloudpickle(folder: Path, ran: Path) -> None:
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(Touching(ran)))
    own = {"model_class": "lightgbm.sklearn.LGBMClassifier", "data": "model.pkl", "serialization_format": "cloudpickle"}
    describe(folder, "lightgbm", own, {"data": "model.pkl"})


def lightgbm_without_format(folder: Path, ran: Path) -> None:
    lightgbm_cloudpickle(folder, ran)
    own = {"model_class": "lightgbm.sklearn.LGBMClassifier", "data": "model.pkl"}
    describe(folder, "lightgbm", own, {"data": "model.pkl"})


def statsmodels_pickle(folder: Path, ran: Path) -> None:
    (folder / "model.statsmodels").write_bytes(pickle.dumps(Touching(ran)))
    describe(folder, "statsmodels", {"data": "model.statsmodels"}, {"data": "model.statsmodels"})


def pytorch_pickle(folder: Path, ran: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "model.pth").write_bytes(pickle.dumps(Touching(ran)))
    (folder / "data" / "pickle_module_info.txt").write_text("pickle")
    describe(folder, "pytorch", {"model_data": "data"}, {"data": "data", "pickle_module_name": "pickle"})


def custom_python(folder: Path, ran: Path) -> None:
    (folder / "python_model.pkl").write_bytes(cloudpickle.dumps(Touching(ran)))
    loader = {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl", "cloudpickle_version": "3"}
    describe(folder, "pyfunc", {}, loader)


def code_and_loader(folder: Path, ran: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "loader_of_mine.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    describe(folder, "mine", {}, {"loader_module": "loader_of_mine", "code": "code"})


def code_that_hides_a_library(folder: Path, ran: Path) -> None:
    """The loader is MLflow's own, what it imports is the model's."""
    (folder / "code" / "catboost").mkdir(parents=True)
    (folder / "code" / "catboost" / "__init__.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    (folder / "model.cb").write_bytes(b"")
    own = {"model_type": "CatBoostClassifier", "save_format": "cbm", "code": "code"}
    describe(folder, "catboost", own, {"data": "model.cb", "code": "code"})


def class_of_someone_else(folder: Path, ran: Path) -> None:
    """The class is installed here: nobody meant it to be called by a model."""
    (folder / "model.xgb").write_bytes(b"")
    describe(folder, "xgboost", {"model_class": "installed_here.Cleaner", "data": "model.xgb"}, {"data": "model.xgb"})


# --- skops ------------------------------------------------------------------------------------------------


def text(value: Any) -> dict[str, Any]:
    return {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": json.dumps(value)}


def several(kind: str, *parts: Any) -> dict[str, Any]:
    return {
        "__class__": kind, "__module__": "builtins", "__loader__": f"{kind.title()}Node", "content": list(parts),
    }  # fmt: skip


def mapping(**parts: Any) -> dict[str, Any]:
    strings = {"__class__": "str", "__module__": "builtins", "__loader__": "TypeNode"}
    keys = several("list", *[strings] * len(parts))
    return {
        "__class__": "dict", "__module__": "builtins", "__loader__": "DictNode", "content": parts, "key_types": keys,
    }  # fmt: skip


def made(loader: str, name: str, **more: Any) -> dict[str, Any]:
    module, _, kind = name.rpartition(".")
    return {"__class__": kind, "__module__": module, "__loader__": loader, **more}


def called(name: str, *arguments: Any) -> dict[str, Any]:
    """A node that calls a type with arguments."""
    return made("ConstructorFromReduceNode", name, content=several("tuple", *map(text, arguments)))


def skops(schema: Mapping[str, Any], *declared: str, flavor: str = "sklearn", protocol: int = 2) -> Build:
    def build(folder: Path, ran: Path) -> None:
        filled = json.loads(json.dumps(schema).replace("RAN", str(ran)))
        with zipfile.ZipFile(folder / "model.skops", "w") as archive:
            archive.writestr("schema.json", json.dumps({**filled, "protocol": protocol, "_skops_version": "0.16.0"}))
        own = {
            "serialization_format": "skops", "skops_trusted_types": list(declared),
            "model_class": "lightgbm.sklearn.LGBMClassifier", "data": "model.skops",
        }  # fmt: skip
        describe(folder, flavor, own, {"model_path" if flavor == "sklearn" else "data": "model.skops"})

    return build


def partial_of(function: dict[str, Any]) -> dict[str, Any]:
    content = {"func": function, "args": several("tuple"), "kwds": mapping(), "namespace": text(None)}
    return made("PartialNode", "functools.partial", content=content)


def transformer(function: dict[str, Any]) -> dict[str, Any]:
    name = "sklearn.preprocessing._function_transformer.FunctionTransformer"
    return made("ObjectNode", name, content=mapping(func=function, validate=text(False), kw_args=text(None)))


BOOSTER = "lightgbm.basic.Booster"
MAKES = called("os.mkdir", "RAN")


# --- files elsewhere --------------------------------------------------------------------------------------


def elsewhere(flavor: str, own: Mapping[str, Any], function: Mapping[str, Any]) -> Build:
    def build(folder: Path, ran: Path) -> None:
        (folder / "here").write_bytes(b"x")
        filled = json.loads(json.dumps([own, function]).replace("RAN", str(ran)))
        describe(folder, flavor, *filled)

    return build


# --- Keras ------------------------------------------------------------------------------------------------


def keras(layer: Mapping[str, Any], *, twice: bool = False, inside: str = "data", **more: Any) -> Build:
    """A `.keras` archive of one layer. `twice`: an innocent configuration stands before the other, under the same name."""

    def build(folder: Path, ran: Path) -> None:
        (folder / inside).mkdir()
        innocent = {"class_name": "Dense", "module": "keras.layers", "config": {"units": 1}, "registered_name": None}
        for_use = json.loads(json.dumps({"layer": layer, **more}).replace("RAN", str(ran)))
        compiled = for_use.pop("compile_config", None)
        whole = [
            {"class_name": "Sequential", "module": "keras", "registered_name": None, "compile_config": compiled,
             "config": {"name": "s", "layers": [part]}}
            for part in ([innocent] if twice else []) + [for_use["layer"]]
        ]  # fmt: skip
        with zipfile.ZipFile(folder / inside / "model.keras", "w") as archive:
            archive.writestr("metadata.json", "{}")
            for config in whole:
                archive.writestr("config.json", json.dumps(config))
        describe(folder, "keras", {"data": inside, "keras_backend": "jax", "save_exported_model": False}, {})

    return build


def layer(
    name: str, module: str | None = "keras.layers", registered: str | None = None, **config: Any
) -> dict[str, Any]:
    return {"class_name": name, "module": module, "registered_name": registered, "config": config}


def keras_with_a_model_inside(folder: Path, ran: Path) -> None:
    keras(layer("Dense", units=1))(folder, ran)
    describe(folder / "data", "keras", {"data": "other"}, {})


def keras_twice(folder: Path, ran: Path) -> None:
    with pytest.warns(UserWarning, match=r"Duplicate name: 'config\.json'"):
        keras(layer("Lambda", function="os.mkdir"), twice=True)(folder, ran)


# --- ONNX -------------------------------------------------------------------------------------------------


def onnx(change: Callable[[Any, Path], None] = lambda graph, ran: None, name: str = "model.onnx", **own: Any) -> Build:
    def build(folder: Path, ran: Path) -> None:
        from onnx import TensorProto, helper

        ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [None, 2]) for end in ("x", "y")]
        weights = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
        graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        change(model, ran)
        (folder / name).write_bytes(model.SerializeToString())
        describe(folder, "onnx", {"data": name, "providers": ["CPUExecutionProvider"], **own}, {"data": name})

    return build


def external(tensor: Any, location: str) -> None:
    from onnx import TensorProto

    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location


def hidden_in_a_function(model: Any, ran: Path) -> None:
    """A constant of a function that the graph defines itself, which the library's own list of tensors leaves out."""
    from onnx import TensorProto, helper

    constant = helper.make_node(
        "Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.FLOAT, [2], [1.0, 2.0])
    )
    external(constant.attribute[0].t, str(ran))
    function = helper.make_function("", "Mine", ["x"], ["c"], [constant], [helper.make_opsetid("", 17)])
    model.functions.append(function)


def of_another_domain(model: Any, ran: Path) -> None:
    model.graph.node[0].domain = "com.mine"
    entry = model.opset_import.add()
    entry.domain, entry.version = "com.mine", 1


def compiled_elsewhere(model: Any, ran: Path) -> None:
    model.graph.node[0].domain, model.graph.node[0].op_type = "com.microsoft", "EPContext"
    entry = model.opset_import.add()
    entry.domain, entry.version = "com.microsoft", 1


# --- all of them ------------------------------------------------------------------------------------------

SKOPS = "it is made of types that are no plain data"
ELSEWHERE = "not beside its description"
KERAS = "its layers run code of their own"
HOSTILE: dict[str, tuple[Build, str, bool]] = {
    "sklearn pickle": (sklearn_pickle, "is stored as pickle, which can run any code", True),
    "sklearn pickle inside": (sklearn_pickle_called_skops, "it holds descriptions of other models (inner/MLmodel)", True),
    "lightgbm cloudpickle": (lightgbm_cloudpickle, "is stored as cloudpickle", True),
    "lightgbm without a format": (lightgbm_without_format, "is stored as cloudpickle", True),
    "statsmodels pickle": (statsmodels_pickle, "'model.statsmodels' is a pickle", True),
    "pytorch pickle": (pytorch_pickle, "holds a pickle", False),
    "custom python": (custom_python, "it is a custom Python model (loader 'mlflow.pyfunc.model')", True),
    "code": (code_and_loader, "it brings Python code of its own (flavor python_function, folder 'code')", True),
    "code for a known loader": (code_that_hides_a_library, "it brings Python code of its own", False),
    "xgboost class": (class_of_someone_else, "it is loaded by 'installed_here.Cleaner'", True),
    "skops declared": (skops(MAKES, "os.mkdir"), f"{SKOPS} (os.mkdir)", True),
    "skops undeclared": (skops(MAKES), f"{SKOPS} (os.mkdir)", False),
    "skops only declared": (skops(text(1), "os.system"), f"{SKOPS} (os.system)", False),
    "skops of lightgbm": (skops(MAKES, "os.mkdir", flavor="lightgbm"), f"{SKOPS} (os.mkdir)", True),
    "skops of an old protocol": (skops(text(1), protocol=0), "its file is of skops before 0.10: log it again", False),
    "a known type called": (skops(called(BOOSTER, {}, None, "RAN"), BOOSTER), f"{SKOPS} ({BOOSTER})", False),
    "a known type as a loss": (
        skops(made("LossNode", BOOSTER, __reduce__={"args": several("tuple")}, content=mapping()), BOOSTER),
        f"{SKOPS} ({BOOSTER})", False,
    ),
    "a known type of a list": (skops(made("ListNode", BOOSTER, content=[]), BOOSTER), f"{SKOPS} ({BOOSTER})", False),
    "a known type as a function": (skops(made("FunctionNode", BOOSTER), BOOSTER), f"{SKOPS} ({BOOSTER})", False),
    "a function": (skops(transformer(made("FunctionNode", "os.mkdir")), "os.mkdir"), f"{SKOPS} (os.mkdir)", False),
    "a partial": (
        skops(transformer(partial_of(made("FunctionNode", "os.mkdir"))), "os.mkdir", "functools.partial"),
        f"{SKOPS} (functools.partial, os.mkdir)", False,
    ),
    "a method called by name": (
        skops(made("OperatorFuncNode", "operator.methodcaller", attrs=several("tuple", text("touch"))), "operator.methodcaller"),
        f"{SKOPS} (operator.methodcaller)", False,
    ),
    "a bound method": (
        skops(made("MethodNode", "builtins.dict", content={"func": "update", "obj": mapping()}), "builtins.dict.update"),
        f"{SKOPS} (builtins.dict, builtins.dict.update)", False,
    ),
    "a name that is none": (skops(called("os.system\n  x: y")), "which is the name of no type", False),
    "catboost elsewhere": (elsewhere("catboost", {}, {"data": "RAN"}), ELSEWHERE, False),
    "catboost above": (elsewhere("catboost", {}, {"data": "../here"}), ELSEWHERE, False),
    "catboost nowhere": (elsewhere("catboost", {"model_type": "CatBoost"}, {}), "it names no file", False),
    "xgboost elsewhere": (elsewhere("xgboost", {"data": "RAN"}, {"data": "here"}), ELSEWHERE, False),
    "xgboost nowhere": (elsewhere("xgboost", {}, {"data": "here"}), ELSEWHERE, False),
    "lightgbm elsewhere": (elsewhere("lightgbm", {"data": "../../here"}, {"data": "here"}), ELSEWHERE, False),
    "statsmodels elsewhere": (elsewhere("statsmodels", {}, {"data": "RAN"}), ELSEWHERE, False),
    "onnx elsewhere": (elsewhere("onnx", {"data": "here"}, {"data": "RAN"}), "RAN' can't be read", False),
    "sklearn elsewhere": (
        elsewhere("sklearn", {"serialization_format": "skops"}, {"model_path": "RAN"}), "not where MLflow puts it", False,
    ),
    "keras elsewhere": (elsewhere("keras", {"data": "../x"}, {}), "not where MLflow puts it", False),
    "a method of MLflow's": (
        elsewhere("catboost", {"model_type": "CatBoost"}, {"data": "here", "predict_fn": "get_raw_model"}),
        "it is called by 'get_raw_model'", False,
    ),
    "keras lambda": (keras(layer("Lambda", function={"class_name": "__lambda__", "config": {}})), f"{KERAS}: keras.layers.Lambda, __lambda__ (a Python lambda, which Keras itself does not load", False),
    "keras lambda of old": (keras(layer("Lambda", module=None)), f"{KERAS}: Lambda", False),
    "keras registered": (keras(layer("Mine", module=None, registered="my>Mine")), f"{KERAS}: Mine", False),
    "keras known under another name": (keras(layer("Dense", registered="my>Dense")), f"{KERAS}: keras.layers.Dense", False),
    "keras module": (keras(layer("system", module="os")), f"{KERAS}: os.system", False),
    "keras function": (keras(layer("Dense", activation=layer("function", module="os", registered="system"))), f"{KERAS}: os.function", False),
    "keras inside keras": (keras(layer("get_file", module="keras.utils")), f"{KERAS}: keras.utils.get_file", False),
    "keras saved graph": (keras(layer("TFSMLayer", filepath="RAN")), "keras.layers.TFSMLayer, a layer reads", False),
    "keras vocabulary": (keras(layer("StringLookup", vocabulary="RAN")), "a layer reads", False),
    "keras deep": (keras(layer("Bidirectional", layer=layer("Lambda"))), f"{KERAS}: keras.layers.Lambda", False),
    "keras loss": (keras(layer("Dense"), compile_config={"loss": layer("mine", module="os")}), f"{KERAS}: os.mine", False),
    "keras metric": (
        keras(layer("Dense"), compile_config={"metrics": [[layer("M", module="my", registered="my>M")]]}), f"{KERAS}: my.M", False,
    ),
    "keras twice": (keras_twice, f"{KERAS}: keras.layers.Lambda", False),
    "keras model inside": (keras_with_a_model_inside, "it holds descriptions of other models (data/MLmodel)", False),
    "onnx weights elsewhere": (onnx(lambda m, ran: external(m.graph.initializer[0], str(ran))), "which is no file of the model", False),
    "onnx weights above": (onnx(lambda m, ran: external(m.graph.initializer[0], "../MLmodel")), "which is no file of the model", False),
    "onnx weights in a function": (onnx(hidden_in_a_function), "which is no file of the model", False),
    "onnx domain": (onnx(of_another_domain), "it has operators of com.mine", False),
    "onnx context": (onnx(compiled_elsewhere), "it has operators EPContext", False),
    "onnx session": (
        onnx(onnx_session_options={"extra_session_config": {"session.use_env_allocators": "1"}}), "set extra_session_config", False,
    ),
    "onnx providers": (onnx(providers=[["CUDAExecutionProvider", {"x": "RAN"}]]), "its providers have options of their own", False),
    "onnx runtime's own format": (onnx(name="model.ort"), "'model.ort' is of ONNX Runtime's own format", False),
}  # fmt: skip


@pytest.fixture
def score(workspace: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """score(folder, trust, engine) scores three rows by the model in a folder."""
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [0.1, 0.2, 0.3], "b": [1.0, 2.0, 3.0]}))

    def go(folder: Path, trust: tuple[str, ...] = (), engine: str = "local") -> Outcome:
        job = {
            "job": "scores",
            "source": {"type": "delta", "table": "lake/features"},
            "model": {"uri": str(folder), "trust": list(trust)},
            "keys": ["id"],
            "sinks": [{"type": "delta", "table": "lake/scores"}],
        }
        Path("job.yaml").write_text(yaml.safe_dump(job))
        return run(capfd, "score", "job.yaml", "--engine", engine, "--json")

    return go


@pytest.fixture
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a hostile model would make."""
    return tmp_path_factory.mktemp("ran") / "RAN"


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def installed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: Path) -> None:
    """A library on this machine with a class that does something when it is called."""
    home = tmp_path / "site"
    home.mkdir()
    (home / "installed_here.py").write_text(
        f"class Cleaner:\n    def __init__(self):\n        open({str(ran)!r}, 'w').close()\n"
    )
    monkeypatch.syspath_prepend(str(home))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("installed_here")
def test_a_hostile_model_is_refused_and_has_not_run(
    score: Callable[..., Outcome], folder: Path, ran: Path, name: str
) -> None:
    build, said, fires = HOSTILE[name]
    build(folder, ran)
    before = tree(Path("lake"))
    done = score(folder)
    assert (done.code, said in done.json["message"]) == (4, True), done.json["message"]
    assert (ran.exists(), tree(Path("lake"))) == (False, before)
    if fires:
        _load_as_mlflow_does(folder)
        assert ran.exists()


def _load_as_mlflow_does(folder: Path) -> None:
    path, before = list(sys.path), os.environ.get("MLFLOW_ALLOW_PICKLE_DESERIALIZATION")
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "true"
    try:
        mlflow.pyfunc.load_model(str(folder))
    except AttributeError:  # what was made is no model, or its loader has no function; what counts is what it did
        pass
    finally:
        sys.path[:] = path
        del os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"]
        if before is not None:
            os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = before


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["sklearn pickle", "skops declared", "custom python", "code", "onnx weights elsewhere"]
)
def test_no_executor_runs_a_hostile_model(
    score: Callable[..., Outcome], folder: Path, ran: Path, spark: Any, name: str
) -> None:
    build, said, _ = HOSTILE[name]
    build(folder, ran)
    done = score(folder, engine="spark")
    assert (done.code, said in done.json["message"]) == (4, True), done.json["message"]
    assert not ran.exists()


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_link_is_not_followed(score: Callable[..., Outcome], folder: Path, ran: Path, where: str) -> None:
    ran.parent.joinpath("inner").mkdir()
    sklearn_pickle(ran.parent / "inner", ran)
    skops(text(1))(folder, ran)
    (folder / "model.skops").unlink()
    (folder / "model.skops").symlink_to(ran.parent / "inner" / ("model.pkl" if where == "file" else ""))
    done = score(folder)
    assert (done.code, "symbolic links" in done.json["message"]) == (4, True), done.json["message"]
    assert not ran.exists()


def test_the_line_of_a_refusal_names_the_types_and_lets_it_run(
    score: Callable[..., Outcome], folder: Path, ran: Path
) -> None:
    import skops.io
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    x = np.arange(8.0).reshape(4, 2)
    model = make_pipeline(FunctionTransformer(np.nan_to_num), LinearRegression()).fit(x, x[:, 0])
    skops.io.dump(model, folder / "model.skops")
    types = skops.io.get_untrusted_types(file=folder / "model.skops")
    own = {"serialization_format": "skops", "skops_trusted_types": types}
    describe(folder, "sklearn", own, {"model_path": "model.skops"})
    said = score(folder).json["message"]
    lines = [yaml.safe_load(line) for line in said.splitlines() if line.startswith("    model: ")]
    assert lines[0] == {"model": {"trust": [f"type:{name}" for name in types]}}
    assert types == ["numpy.nan_to_num"]
    for trust in (["type:numpy.nan_to_numbers"], ["type:numpy.nan"], ["code"]):
        assert score(folder, tuple(trust)).code == 4
    done = score(folder, tuple(lines[0]["model"]["trust"]))
    assert (done.code, done.json["status"]) == (0, "published"), done.json
    assert score(folder, ("pickle",)).code == 0  # as in job files of before


def test_trusting_one_type_trusts_no_other(score: Callable[..., Outcome], folder: Path, ran: Path) -> None:
    skops(several("list", MAKES, made("FunctionNode", "os.rmdir")), "os.mkdir", "os.rmdir")(folder, ran)
    done = score(folder, ("type:os.rmdir",))
    assert (done.code, ran.exists()) == (4, False)
    lines = [line for line in done.json["message"].splitlines() if line.startswith("    model: ")]
    assert lines[0] == '    model: {trust: ["type:os.rmdir", "type:os.mkdir"]}'


def test_a_signature_can_not_be_asked_for_without_its_library(folder: Path, tmp_path: Path, monkeypatch) -> None:
    skops(text(1))(folder, tmp_path)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    config = Model(uri=str(folder), signed_by=SignedBy(key="team.pub"))
    (tmp_path / "to").mkdir()
    with pytest.raises(ConfigError, match=r"model\.signed_by needs model-signing: pip install 'lakehouse\[signing\]'"):
        models.fetch(config, models.resolve(config), tmp_path / "to")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, of JAX
@pytest.mark.parametrize("link", ["external link", "soft link", "external data"])
def test_weights_of_keras_that_lie_elsewhere(
    score: Callable[..., Outcome], folder: Path, ran: Path, link: str, monkeypatch
) -> None:
    import h5py

    monkeypatch.setenv("KERAS_BACKEND", "jax")
    import keras as keras_library

    model = keras_library.Sequential([keras_library.Input((2,)), keras_library.layers.Dense(1)])
    (folder / "data").mkdir()
    model.save(folder / "data" / "model.keras")
    describe(folder, "keras", {"data": "data", "keras_backend": "jax", "save_exported_model": False}, {})
    assert score(folder).code == 0
    archive = folder / "data" / "model.keras"
    with zipfile.ZipFile(archive) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    other = ran.parent / "other.h5"
    other.write_bytes(files["model.weights.h5"])
    weights = io.BytesIO(files["model.weights.h5"])
    with h5py.File(weights, "a") as opened:
        layers = opened["layers"]
        name = "layers/dense/vars"
        if link == "external data":
            raw = ran.parent / "raw"
            raw.write_bytes(np.ones(2, "f4").tobytes())
            shape = opened[f"{name}/0"].shape
            del opened[f"{name}/0"]
            opened.create_dataset(f"{name}/0", shape, "f4", external=[(str(raw), 0, 8)])
        else:
            del layers["dense"]
            layers["dense"] = (
                h5py.ExternalLink(str(other), "/layers/dense")
                if link == "external link"
                else h5py.SoftLink("/layers/x")
            )
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in {**files, "model.weights.h5": weights.getvalue()}.items():
            opened.writestr(name, content)
    done = score(folder)
    assert done.code == 4, done.json
