"""The environment that a model was logged in, held against one that is here: Python, libraries, pickles.

What decides: the minor version of Python, major and minor of the model's own library, the major version of numpy; for a
model that holds pickles also the libraries of other flavours that it names, and the major versions of pandas and
cloudpickle. All else is worth a remark at most. Versions are read from the packages' metadata, so nothing is imported.
"""

from __future__ import annotations

import functools
import importlib.util
import pickle
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from lakehouse.models.flavors import FLAVORS, flavor_of, python
from lakehouse.models.flavors.calling import is_plain_name
from lakehouse.models.loading import parse_yaml, read_description

PYTHON, PICKLE = "python", "pickle protocol"
_MAJOR, _MINOR = 1, 2
"""How many parts of two versions must be the same."""
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "onnxruntime": "onnx"}
"""What a flavour's version is of, where that is not called as the module that it imports."""
_PIN = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*===?\s*([0-9][^\s;,#]*)\s*(?:#.*)?$")
_UNKNOWN = "unknown"
_SHOWN = 5


@dataclass(frozen=True)
class Recorded:
    """What a model says of the environment that it was logged in.

    `versions`: by package, Python's under "python"; `parts`: of those that decide, whether recorded or not, how many
    parts of the version must be the same; `protocol`: the highest pickle protocol of its files, 0 where it holds none.
    """

    versions: Mapping[str, str]
    parts: Mapping[str, int]
    protocol: int = 0

    @property
    def is_known(self) -> bool:
        """Whether it says anything that decides."""
        return any(name in self.versions for name in self.parts)

    @property
    def packages(self) -> tuple[str, ...]:
        """All packages that there is something to say of."""
        return tuple(dict.fromkeys([*self.parts, *self.versions]))


@dataclass(frozen=True)
class Difference:
    """A package whose version is another here; `found` None: it is missing. `decides`: the model may not be used."""

    package: str
    recorded: str
    found: str | None
    decides: bool


def recorded_environment(path: Path) -> Recorded:
    """What a fetched model's own files say of its environment; nothing of the model is imported.

    Raises ModelRefused where its MLmodel file can't be read.
    """
    mlmodel = read_description(path)
    described = mlmodel.get("flavors") or {}
    function = described.get("python_function") or {}
    flavor, protocol = flavor_of(mlmodel), _protocol_in(path)
    versions = dict(_pinned(path, function.get("env")))
    parts = {PYTHON: _MINOR}
    if version := _version_in(function, "python_version"):
        versions[PYTHON] = version
    if flavor is not python:
        own = _distribution(flavor.LIBRARY[0])
        parts[own] = _MINOR
        if version := _version_in(described.get(flavor.NAME), flavor.LIBRARY[1]):
            versions[own] = version
    parts["numpy"] = _MAJOR
    if protocol:
        others = (_distribution(known.LIBRARY[0]) for known in FLAVORS.values())
        parts |= {name: _MINOR for name in others if name in versions}
        parts |= {"pandas": _MAJOR, "cloudpickle": _MAJOR}
    return Recorded(versions, parts, protocol)


def _version_in(section: Any, key: str) -> str | None:
    """A version that is written there; None for what is none. Without quotes YAML makes 3.1 of 3.10, so that neither
    would be known."""
    version = section.get(key) if isinstance(section, Mapping) else None
    return version if isinstance(version, str) and re.match(r"[0-9]", version) else None


def _distribution(module: str) -> str:
    return _DISTRIBUTIONS.get(module, module)


def _pinned(path: Path, env: Any) -> Iterator[tuple[str, str]]:
    """Packages of exactly one version in the model's own lists of what it needs; of its Conda file Python's too."""
    conda, virtual = _files(path, env)
    if version := _version_in(virtual, "python"):
        yield PYTHON, version
    listed = conda.get("dependencies")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, str) and (found := re.fullmatch(r"\s*python\s*={1,3}\s*([0-9][^\s,]*)\s*", entry)):
            yield PYTHON, found[1]
        if isinstance(entry, Mapping):
            yield from _pins(entry.get("pip"))
    try:
        lines = (path / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        lines = []
    yield from _pins(lines)


def _files(path: Path, env: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What a model's Conda file says, and its python_env.yaml."""
    named = env if isinstance(env, Mapping) else {"conda": env}
    return _mapping(path, named.get("conda")), _mapping(path, named.get("virtualenv"))


def conda_requirements(path: Path) -> tuple[list[str], list[str]]:
    """The pip list of a fetched model's Conda file, and what else that file lists but Python and pip."""
    function = (read_description(path).get("flavors") or {}).get("python_function") or {}
    listed = _files(path, function.get("env"))[0].get("dependencies")
    pip, others = list[str](), list[str]()
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping):
            pip += [str(line) for line in entry.get("pip") or ()]
        elif not re.match(r"\s*(python|pip)\b(?!-)", str(entry)):
            others.append(str(entry))
    return pip, others


def _pins(lines: Any) -> Iterator[tuple[str, str]]:
    for line in lines if isinstance(lines, list) else ():
        if isinstance(line, str) and (found := _PIN.match(line)) and "*" not in found[2]:
            yield re.sub(r"[-_.]+", "-", found[1]).lower(), found[2]


def _mapping(path: Path, name: Any) -> Mapping[str, Any]:
    """A YAML file beside the model's description; nothing where there is none that can be read."""
    if not isinstance(name, str) or not is_plain_name(name):
        return {}
    try:
        parsed = parse_yaml((path / name).read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError):
        return {}
    return parsed if isinstance(parsed, Mapping) else {}


def _protocol_in(path: Path) -> int:
    """The highest protocol of the model's files that begin as a pickle does; those of PyTorch are in archives."""
    found = 0
    for file in (p for p in path.rglob("*") if p.is_file()):
        with open(file, "rb") as stream:
            head = stream.read(3)
        if len(head) == 3 and head[0] == 0x80 and head[1] < 0x20:
            found = max(found, head[1])
    return found


def environment_here(packages: Iterable[str]) -> dict[str, str | None]:
    """The versions of packages in this process's Python, None for one that is missing; and what pickles it reads."""
    found = {name: platform.python_version() if name == PYTHON else _version_of(name) for name in packages}
    return {**found, PICKLE: str(pickle.HIGHEST_PROTOCOL)}


@functools.cache
def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        pass
    modules = [module for module, name in _DISTRIBUTIONS.items() if name == package] or [package.replace("-", "_")]
    try:  # builds such as xgboost-cpu have the module under another package's name
        return _UNKNOWN if importlib.util.find_spec(modules[0]) else None
    except (ImportError, ValueError):
        return None


def differences(recorded: Recorded, found: Mapping[str, str | None]) -> list[Difference]:
    """What is another here than was recorded, what decides first; `found`: as `environment_here` gives it."""
    differing = []
    for package, version in recorded.versions.items():
        here = found.get(package)
        if here in (version, _UNKNOWN):
            continue
        parts = recorded.parts.get(package, 0)
        decides = bool(parts) and (here is None or _release(version, parts) != _release(here, parts))
        differing.append(Difference(package, version, here, decides))
    highest = int(found.get(PICKLE) or recorded.protocol)
    if recorded.protocol > highest:
        differing.append(Difference(PICKLE, str(recorded.protocol), str(highest), True))
    order = list(recorded.packages)
    return sorted(differing, key=lambda d: (not d.decides, order.index(d.package) if d.package in order else -1))


def _release(version: str, parts: int) -> tuple[str, ...]:
    return tuple([*re.findall(r"\d+", version.partition("+")[0]), "0", "0"][:parts])


def expected_environment(recorded: Recorded, driver: Mapping[str, str | None]) -> Recorded:
    """What executors are held against: what was recorded, and where nothing was, what the driver has."""
    known = {name: version for name, version in driver.items() if version not in (None, _UNKNOWN) and name != PICKLE}
    said = {name: str(known[name]) for name in recorded.parts if name in known}
    return Recorded({**said, **recorded.versions}, recorded.parts, recorded.protocol)


def environment_refusal(differing: Sequence[Difference], columns: Mapping[str, Mapping[str, str | None]]) -> str:
    """Why a model may not be used: what differs as a table, and what to do. `columns`: by place what is found there."""
    decisive = [d for d in differing if d.decides]
    table = _table(decisive, columns)
    return (
        f"the model was logged in another environment than it would run in:\n{table}\n"
        f"{_install(decisive)}train it again in this environment, have it run in one of its own: model: "
        "{environment: isolated}, or accept it: model: {environment: warn}"
    )


def _table(differing: Sequence[Difference], columns: Mapping[str, Mapping[str, str | None]]) -> str:
    rows = [["", "recorded", *columns]]
    for d in differing:
        rows.append([d.package, d.recorded, *(found.get(d.package) or "missing" for found in columns.values())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "    " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _install(decisive: Sequence[Difference]) -> str:
    """The packages to install, and the Python to run, to have the recorded environment."""
    pins = " ".join(f"{d.package}=={d.recorded}" for d in decisive if d.package not in (PYTHON, PICKLE))
    runs = next((f"run Python {'.'.join(_release(d.recorded, 2))}" for d in decisive if d.package == PYTHON), "")
    steps = [step for step in (runs, f"pip install {pins}" if pins else "") if step]
    return f"{' and '.join(steps)}, " if steps else ""


def versions_in(packages: Iterable[str], installed: Mapping[str, str], python: str) -> dict[str, str | None]:
    """As `environment_here`, of an environment that another process runs in: its packages, and its Python's version."""
    found = {name: python if name == PYTHON else installed.get(name) for name in packages}
    for name in [name for name, version in found.items() if version is None]:
        # Builds such as xgboost-cpu have the module under another package's name.
        found[name] = next((_UNKNOWN for other in installed if other.startswith(f"{name}-")), None)
    return {**found, PICKLE: str(pickle.HIGHEST_PROTOCOL)}


def isolation_refusal(decisive: Sequence[Difference], there: Mapping[str, str | None]) -> str:
    """Why an isolated model may not be used: its own requirements make another environment than it was logged in."""
    table = _table(decisive, {"its environment": there})
    pins = " ".join(f"{d.package}=={d.recorded}" for d in decisive if d.package not in (PYTHON, PICKLE))
    return (
        "environment: isolated: the model's own requirements make another environment than it was logged in:\n"
        f"{table}\nlog it again with these versions pinned (pip_requirements){f': {pins}' if pins else ''}"
    )


def environment_summary(differing: Sequence[Difference]) -> str:
    """Differences in one line; empty where there are none."""
    named = ", ".join(f"{d.package} {d.recorded} (here {d.found or 'missing'})" for d in differing[:_SHOWN])
    return named + (f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else "")
