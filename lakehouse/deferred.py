"""Packages that import a module when something of it is first asked for.

Executors, servers and functions use a part of `models` and of `checks`, and start the sooner the less they import.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def names_of(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a package: for each of its modules the names that the package has of it, with blanks between.

    `here=there` is a name that the module has as `there`. The package's `TYPE_CHECKING` block says the same to tools.
    """
    places = {
        here: (f"{package}.{module}", there or here)
        for module, names in modules.items()
        for here, _, there in (name.partition("=") for name in names.split())
    }

    def of(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, there = places[name]
        found = getattr(importlib.import_module(module), there)
        setattr(sys.modules[package], name, found)  # so that it is asked for once
        return found

    return of
