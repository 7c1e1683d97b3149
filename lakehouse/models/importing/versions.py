"""The versions that a model's file records against those that are installed here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util

from lakehouse.errors import ModelRefused
from lakehouse.models.importing.inspected import PICKLED, Inspected
from lakehouse.models.importing.known_modules import LIBRARIES

_PYTHON = "Python"


@dataclass(frozen=True)
class Compared:
    """A library's recorded version and the one here, "" where there is none; `wrong`: why they don't go together."""

    library: str
    recorded: str
    here: str
    wrong: str = ""


def installed(module: str) -> tuple[str, str]:
    """What is installed for a module, and its version; the version is "" where the module is not there."""
    name = LIBRARIES.get(module, module)
    if util.find_spec(module) is None:
        return name, ""
    try:
        return name, metadata.version(name)
    except metadata.PackageNotFoundError:  # builds such as xgboost-cpu; it takes most of a second to look through all
        name = metadata.packages_distributions()[module][0]
        return name, metadata.version(name)


def compare(inspected: Inspected) -> list[Compared]:
    """Every library that the file needs, and Python where its code has one."""
    rows = []
    for module in inspected.needs:
        name = LIBRARIES.get(module, module)
        here = installed(module)[1]
        recorded = inspected.versions.get(name, ())
        wrong = next(filter(None, (_wrong(name, one, here, inspected.format) for one in recorded or ("",))), "")
        rows.append(Compared(name, ", ".join(recorded), here, wrong))
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for compiled in inspected.code_of:
        wrong = "" if _admits(compiled, here) else "its functions are another Python's bytecode"
        rows.append(Compared(_PYTHON, compiled, here, wrong))
    return rows


def _wrong(library: str, recorded: str, here: str, format_: str) -> str:
    if not here:
        return "not installed"
    if not recorded or format_ != PICKLED:
        return ""  # formats of their own are read by later versions
    return "" if _minor(recorded) == _minor(here) else "a pickle is only good for the version that wrote it"


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _admits(compiled: str, here: str) -> bool:
    """Whether this Python is one of those that code may have been compiled by, in `machine`'s words."""
    if " or later" in compiled:
        return True
    if " to " in compiled or compiled.startswith("before"):
        return False
    return here in compiled.split(" or ")


def require_fitting(inspected: Inspected) -> None:
    """Raise ModelRefused, with a table recorded/here and what to do, where a version does not fit."""
    rows = compare(inspected)
    wrong = [row for row in rows if row.wrong]
    if not wrong:
        return
    lines = [
        f"{row.library:<16} {row.recorded or 'not recorded':<14} {row.here or '-':<10} {row.wrong}" for row in wrong
    ]
    head = f"{'library':<16} {'recorded':<14} {'here':<10}"
    raise ModelRefused(
        f"{inspected.path} was not written with what is installed here:\n  {head}\n  "
        + "\n  ".join(lines)
        + f"\n{_remedy(wrong)}"
    )


def _remedy(wrong: list[Compared]) -> str:
    pins = [
        f"'{row.library}=={row.recorded}'" if row.recorded else row.library for row in wrong if row.library != _PYTHON
    ]
    python = next((row.recorded for row in wrong if row.library == _PYTHON), "")
    first = f"import and score it in an environment of its own: {'Python ' + python if python else ''}"
    first += f"{' with ' if python and pins else ''}{'pip install ' + ' '.join(pins) if pins else ''}"
    return f"{first}; or train it again here; or export it there as ONNX, XGBoost JSON or the like, and import that"


def requirements(modules: tuple[str, ...]) -> Iterator[str]:
    """What to install for these modules and for MLflow, pinned to what is here."""
    for module in dict.fromkeys(("mlflow", *modules, "numpy", "pandas")):
        name, version = installed(module)
        yield f"{name}=={version}"
