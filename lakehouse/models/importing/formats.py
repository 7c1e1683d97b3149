"""Libraries' own formats, which are data: what each tells of itself, by a function each."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors import FLAVORS
from lakehouse.models.importing.inspected import KINDS, Inspected, recorded
from lakehouse.models.importing.machine import xgboost_version


def archive(path: Path) -> Inspected:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "config.json" in names and "metadata.json" in names:
                about = json.loads(archive.read("metadata.json"))
                config = json.loads(archive.read("config.json"))
                return keras(path, about, config)
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise ModelRefused(f"the archive can't be read, it may be cut off: {error}") from error
    if any(name.endswith("data.pkl") for name in names):
        raise ModelRefused("it is PyTorch's: a state or module that torch.save wrote; export it as ONNX")
    raise ModelRefused(f"it is an archive of {', '.join(names[:5])}, which is none of {KINDS}")


def keras(path: Path, about: Any, config: Any) -> Inspected:
    code = [reason for _, reason in FLAVORS["mlflow.keras"].needs({"data": path.stem}, {}, path.parent)]
    holds = f"{config.get('module')}.{config.get('class_name')}" if isinstance(config, dict) else ""
    version = str(about.get("keras_version", "")) if isinstance(about, dict) else ""
    return Inspected(
        path, "Keras 3 archive", "keras", path, holds, recorded(keras=version), ("keras",), objections=tuple(code),
        unknown=("which backend it was trained with",),
    )  # fmt: skip


def hdf5(path: Path) -> Inspected:
    raise ModelRefused("it is HDF5, as Keras 2 wrote it: save it again with Keras 3 as .keras")


def catboost(path: Path) -> Inspected:
    content = path.read_bytes()
    if int.from_bytes(content[4:8], "little") + 8 > len(content):
        raise ModelRefused("it is CatBoost's, and cut off")
    version = re.search(rb"CatBoost release (\d+(?:\.\d+)+)|tags/v(\d+(?:\.\d+)+)", content)
    text = next((part.decode() for part in version.groups() if part), "") if version else ""
    loss = re.search(rb'"loss_function":\{"type":"(\w+)"', content)
    holds = f"a CatBoost model (loss {loss[1].decode()})" if loss else "a CatBoost model"
    return Inspected(path, "CatBoost binary", "catboost", path, holds, recorded(catboost=text), ("catboost",))


def lightgbm(path: Path) -> Inspected:
    text = path.read_text(encoding="utf-8", errors="replace")
    if "end of trees" not in text:
        raise ModelRefused("it is LightGBM's, and cut off: there is no `end of trees` in it")
    objective = re.search(r"^objective=(.*)$", text, re.MULTILINE)
    return Inspected(
        path, "LightGBM text", "lightgbm", path, f"a Booster ({objective[1] if objective else 'no objective'})",
        recorded(lightgbm=""), ("lightgbm",), unknown=("which LightGBM wrote it: the text does not say",),
    )  # fmt: skip


def xgboost_json(path: Path) -> Inspected:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelRefused(f"it begins as JSON and is none, or is cut off: {error}") from error
    if not isinstance(content, dict) or "learner" not in content:
        raise ModelRefused(f"it is JSON, but not XGBoost's; known are {KINDS}")
    version = ".".join(map(str, content.get("version") or ()))
    return _xgboost(path, "XGBoost JSON", version, _kind_of_estimator(str(content["learner"].get("attributes"))))


def xgboost_ubj(path: Path) -> Inspected:
    content = path.read_bytes()
    if b"learner" not in content[:200]:
        raise ModelRefused(f"it is binary JSON, but not XGBoost's; known are {KINDS}")
    if not content.endswith(b"}"):
        raise ModelRefused("it is XGBoost's binary JSON, and cut off")
    return _xgboost(path, "XGBoost binary JSON", xgboost_version(content) or "", _kind_of_estimator(repr(content)))


def _xgboost(path: Path, kind: str, version: str, estimator: str) -> Inspected:
    holds = f"an XGB{estimator.capitalize()}" if estimator else "a Booster"
    return Inspected(path, kind, "xgboost", path, holds, recorded(xgboost=version), ("xgboost",))


def _kind_of_estimator(text: str) -> str:
    """What XGBoost's scikit-learn interface notes of itself: classifier, regressor or ranker."""
    found = re.search(r"_estimator_type\W+(classifier|regressor|ranker)", text)
    return found[1] if found else ""


def xgboost_old(path: Path) -> Inspected:
    raise ModelRefused(
        "it is XGBoost's old binary format, which XGBoost 3.1 dropped: load it with the XGBoost that wrote it and "
        "save_model it as .json"
    )


def onnx_graph(path: Path) -> Inspected | None:
    """An ONNX graph; None for another file that begins like one."""
    try:
        import onnx
    except ImportError as error:
        raise ModelRefused("it looks like ONNX, and to say more takes its library: pip install onnx") from error
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        return None
    if not model.HasField("graph") or not model.graph.node:
        return None
    needed = [reason for _, reason in FLAVORS["mlflow.onnx"].needs({}, {"data": path.name}, path.parent)]
    sets = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    writer = f"{model.producer_name} {model.producer_version}".strip()
    holds = f"a graph of {len(model.graph.node)} nodes, operators {sets}" + (f", written by {writer}" if writer else "")
    return Inspected(
        path, f"ONNX, IR {model.ir_version}", "onnx", path, holds, recorded(onnx="", onnxruntime=""),
        ("onnx", "onnxruntime"), objections=tuple(needed),
    )  # fmt: skip
