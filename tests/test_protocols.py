"""Modules that are found by their names have all that their protocol lists, which the type checker can't see."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from types import ModuleType

import pytest

from lakehouse import sinks, sources
from lakehouse.config.systems import Receiver, Sink, Source, models_of
from lakehouse.models import flavors
from lakehouse.observe import notify, watching
from lakehouse.views.sql import dialects

FOUND = [
    *((sources.SourceModule, sources.of(name)) for name in models_of(Source)),
    *((sources.TakingModule, sources.of(name)) for name, model in models_of(Source).items() if model.TAKES),
    *((sinks.SinkModule, sinks.of(name)) for name in models_of(Sink)),
    *((flavors.Flavor, flavor) for flavor in (*flavors.FLAVORS.values(), flavors.python)),
    *((watching.Observer, module) for module in watching.modules()),
    *((notify.ReceiverModule, import_module(f"lakehouse.observe.{name}")) for name in models_of(Receiver)),
    *((dialects.Dialect, dialects.of(name)) for name in dialects.names()),
]


@pytest.mark.parametrize(("protocol", "module"), FOUND, ids=lambda value: value.__name__)
def test_a_module_has_what_its_protocol_lists(protocol: type, module: ModuleType):
    values = set(protocol.__annotations__)
    functions = {name: value for name, value in vars(protocol).items() if not name.startswith("_")}
    assert {name for name in {*values, *functions} if not hasattr(module, name)} == set()
    for name, listed in functions.items():
        given, (_, *wanted) = (list(signature(f).parameters.values()) for f in (getattr(module, name), listed))
        assert [(p.name, p.kind) for p in given] == [(p.name, p.kind) for p in wanted], name
        left_out = [p.name for p, w in zip(given, wanted, strict=True) if w.default != w.empty and p.default == p.empty]
        assert left_out == [], f"{name} can be called without them"


@pytest.mark.parametrize("name", dialects.names())
def test_a_dialects_module_has_its_name(name):
    assert name == dialects.of(name).NAME
