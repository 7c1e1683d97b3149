"""ONNX: a graph of standard operators, run by ONNX Runtime."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors import calling, native
from lakehouse.models.flavors.calling import Predictor, Trained

NAME, LIBRARY = "onnx", ("onnxruntime", "onnx_version")

settings = calling.no_settings

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft")
"""The sets of operators that ONNX Runtime brings itself."""
_OUTSIDE = ("EPContext", "PythonOp", "PythonOpGrad", "ATen", "ExternalOp")
"""Operators of those sets that run something of their own, or read it from a file."""
_CPU, _USUAL = ["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]
_SESSION_OPTIONS = ("inter_op_num_threads", "intra_op_num_threads", "execution_mode", "graph_optimization_level")


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """Options that name libraries or files, and what the graph itself takes from outside the model's folder."""
    options = description.get("onnx_session_options") or {}
    extra = sorted(set(options) - set(_SESSION_OPTIONS)) if isinstance(options, Mapping) else [str(options)]
    if extra:
        yield "python_function", f"its onnx_session_options set {', '.join(extra)}, which may name libraries to load"
    providers = description.get("providers") or ()
    if not isinstance(providers, str) and not all(isinstance(p, str) for p in providers):
        yield "python_function", f"its providers have options of their own ({providers}), which may name libraries"
    yield from _needs_of_graph(path / str(function.get("data")))


def _needs_of_graph(file: Path) -> Iterator[tuple[str, str]]:
    try:
        import onnx
    except ImportError as error:
        raise ModelRefused("it is an ONNX model: pip install onnx onnxruntime") from error
    if file.suffix == ".ort":
        raise ModelRefused(f"its graph {file.name!r} is of ONNX Runtime's own format, which can't be looked into")
    try:
        graph = onnx.load(str(file), load_external_data=False)
    except Exception as error:
        raise ModelRefused(f"its graph {file.name!r} can't be read: {type(error).__name__}: {error}") from error
    foreign = sorted({entry.domain for entry in graph.opset_import} - set(_DOMAINS))
    if foreign:
        yield "python_function", f"it has operators of {', '.join(foreign)}, which need a library of their own"
    parts = list(_parts_of(graph))
    outside = sorted({part.op_type for part in parts if isinstance(part, onnx.NodeProto)} & set(_OUTSIDE))
    if outside:
        yield "python_function", f"it has operators {', '.join(outside)}, which run what is not in the graph"
    for tensor in parts:
        if isinstance(tensor, onnx.TensorProto) and tensor.external_data:
            named = next((e.value for e in tensor.external_data if e.key == "location"), "")
            place = PurePosixPath(named)
            if place.is_absolute() or ".." in place.parts or "\\" in named or not (file.parent / named).is_file():
                raise ModelRefused(f"its graph takes {tensor.name!r} from {named!r}, which is no file of the model")


def _parts_of(message: Any) -> Iterator[Any]:
    """A message and all those in it: tensors lie in graphs, in the attributes of nodes and in functions."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _parts_of(part)


def load_native(path: Path, description: Mapping[str, Any], function: Mapping[str, Any]) -> native.Loaded | None:
    file, options = str(function.get("data") or ""), description.get("onnx_session_options")
    if not calling.is_plain_name(file) or options or description.get("providers", _CPU) not in (_CPU, _USUAL):
        return None
    import onnxruntime

    if _USUAL[0] in onnxruntime.get_available_providers():
        return None
    options = onnxruntime.SessionOptions()
    if calling.one_thread():
        _keep_to_one_thread(options)
    session = onnxruntime.InferenceSession(str(path / file), options, providers=_CPU)
    return native.Loaded(session, functools.partial(_run, session), native.Metadata({NAME: description}))


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    """ONNX Runtime called as MLflow does, but for frames: MLflow makes one column of each output, which fails for
    outputs that are matrices."""
    calling.refuse_method(method, "an ONNX model")
    session = _session_in_time(calling.native_of(loaded))
    return Predictor(lambda data: _run(session(), data), None, called="InferenceSession.run")


def _session_in_time(loaded: Any) -> Callable[[], Any]:
    """Gives the session, or where this process is kept to one thread another of the same graph that has no more.

    How many a session has is settled when it is made, whatever libraries are told later.
    """
    options, made = loaded.get_session_options(), list[Any]()
    single = options.intra_op_num_threads == options.inter_op_num_threads == 1

    def session() -> Any:
        if single or not calling.one_thread():
            return loaded
        if not made:
            made.append(_of_one_thread(loaded, options))
        return made[0]

    return session


def _of_one_thread(session: Any, options: Any) -> Any:
    """Another session of the same file and with the same options."""
    import onnxruntime

    if session._model_path is None:
        return session
    _keep_to_one_thread(options)
    return onnxruntime.InferenceSession(session._model_path, options, providers=session.get_providers())


def _keep_to_one_thread(options: Any) -> None:
    options.intra_op_num_threads = options.inter_op_num_threads = 1


def trained_on(native: Any) -> Trained:
    """The names of a graph's inputs, to which columns go by name; of its one matrix how many columns it has."""
    inputs = native.get_inputs()
    if len(inputs) > 1:
        return Trained(tuple(given.name for given in inputs), len(inputs), by_name=True)
    shape = inputs[0].shape
    return Trained(count=shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None)


def _run(session: Any, data: Any) -> Any:
    """The outputs by their names. Float64 goes to float32 inputs rounded, as MLflow does."""
    import pandas as pd

    inputs = session.get_inputs()
    if isinstance(data, Mapping):
        feeds = dict(data)
    elif isinstance(data, pd.DataFrame) and len(inputs) > 1:
        feeds = {given.name: _shaped(data[given.name].to_numpy(), given.shape) for given in inputs}
    else:
        feeds = {inputs[0].name: data.to_numpy() if isinstance(data, pd.DataFrame) else data}
    for given in inputs:
        if given.type == "tensor(float)" and feeds[given.name].dtype == np.float64:
            feeds[given.name] = feeds[given.name].astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    return {name: _maps(part) for name, part in zip(names, session.run(names, feeds), strict=True)}


def _maps(part: Any) -> Any:
    """An output as it is, but a map a row, as of a converter's zipmap, with keys that are numbers: an Arrow array."""
    if isinstance(part, list) and part and isinstance(part[0], dict) and not any(isinstance(k, str) for k in part[0]):
        return pa.array([list(row.items()) for row in part], pa.map_(pa.int64(), pa.float32()))
    return part


def _shaped(column: Any, shape: Any) -> Any:
    """A column as the input takes it: some converters make an input of each column, with a second dimension of 1."""
    return column.reshape(-1, 1) if len(shape) == 2 else column
