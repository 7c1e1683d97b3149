"""Loaded models that a process keeps where a run has many: as many as memory allows, those that were used last."""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lakehouse.models.flavors import Predictor
from lakehouse.models.isolated.calling import IsolatedFolder
from lakehouse.models.loading import load, load_here
from lakehouse.models.parameters import Frozen

MOST_BYTES = 256 << 20
"""Bytes of model files whose models are kept in memory."""
MOST = 4_096


@dataclass(frozen=True)
class _Kept:
    predictor: Predictor
    size: int


_kept: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()


def held(path: str | IsolatedFolder, digest: str, method: str | None, params: Frozen) -> Predictor:
    """What `load` gives, loaded unless this process still has it. At least the one that is asked for is kept."""
    if isinstance(path, IsolatedFolder):
        return load(path, digest, method, params)
    key = (digest, method, params)
    if (found := _kept.get(key)) is not None:
        _kept.move_to_end(key)
        return found.predictor
    with _description_read_once() if "mlflow.models" in sys.modules else nullcontext():
        predictor: Predictor = load_here.__wrapped__(path, digest, method, params)
    _kept[key] = _Kept(predictor, sum(p.stat().st_size for p in Path(path).rglob("*") if p.is_file()))
    while len(_kept) > 1 and (len(_kept) > MOST or sum(one.size for one in _kept.values()) > MOST_BYTES):
        _kept.popitem(last=False)
    return predictor


@contextmanager
def _description_read_once() -> Iterator[None]:
    """While a model is loaded: MLflow reads its description once instead of three times, by libyaml where there is one.

    Of hundreds of small models that is most of what loading them takes; what is read is the same.
    """
    from mlflow.models import Model

    own, parser, read = Model.__dict__["load"], yaml.SafeLoader, functools.cache(Model.load)
    Model.load = staticmethod(lambda path: read(str(path).removesuffix("/MLmodel")))  # type: ignore[method-assign]
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", parser)  # type: ignore[misc]  # what yaml.safe_load looks up
    try:
        yield
    finally:
        Model.load, yaml.SafeLoader = own, parser  # type: ignore[method-assign, misc]
