"""Which libraries a package needs, as they are installed here, and for which systems those files are made."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

import pyarrow as pa

from lakehouse.errors import ConfigError
from lakehouse.models.libraries import MLFLOW, modules_of, recorded_packages
from lakehouse.serving.prepared import Prepared

_ALWAYS = ("numpy", "pyarrow", "yaml", "jinja2")
"""Modules that every package needs: rows, what an MLmodel file says, the page."""
_FASTER = ("orjson",)
"""Taken where they are installed here."""
_FRAMES = "pandas"
_LEAN = {MLFLOW: "mlflow-skinny"}
"""Distributions that have all of a module that models need, and less besides."""
_UNUSED = {"skops": ("prettytable",)}
"""By a distribution what it requires for something that no function does: cards of models."""
_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_TAG = re.compile(r"^Tag: \S+?-\S+?-(\S+)$", re.MULTILINE)
_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_")


@dataclass(frozen=True)
class Library:
    """An installed distribution. `files`: by their places below where packages are, those on this machine.

    `glibc`: the version of the C library that it needs at least, (0, 0) for one without machine code; None for one
    that was built on this machine, for whatever it has.
    """

    name: str
    version: str
    files: Mapping[PurePosixPath, Path]
    glibc: tuple[int, int] | None


def modules_for(prepared: Prepared) -> tuple[str, ...]:
    """The modules that serving a prepared job imports, besides our own. Raises ConfigError for an isolated model."""
    found = dict.fromkeys([*_ALWAYS, *(module for module in _FASTER if owner_of(module))])
    for folder in prepared.folders.values():
        if not isinstance(folder, str):
            raise ConfigError(
                f"{prepared.job}: its model has an environment of its own, which no package holds: serve it in a "
                "container, by lakehouse serve"
            )
        found |= dict.fromkeys(modules_of(Path(folder), prepared.params))
        found |= dict.fromkeys(_modules_in(recorded_packages(Path(folder))))
    if MLFLOW in found or not _takes_matrix(prepared):
        found[_FRAMES] = None
    return tuple(found)


def _takes_matrix(prepared: Prepared) -> bool:
    """Whether every request's rows reach the model as a matrix, so that no frame is ever made of them."""
    kinds = {feature.type for feature in prepared.scoring.features}
    return (
        prepared.direct
        and prepared.explaining is None
        and prepared.scoring.route is None
        and kinds in ({pa.float64()}, {pa.float32()})
    )


def _modules_in(packages: Iterable[str]) -> list[str]:
    """A module of each of these packages that is installed."""
    by_package = {normal(package): module for module, owners in _owners().items() for package in owners}
    return [by_package[name] for name in map(normal, packages) if name in by_package]


@functools.cache
def _owners() -> Mapping[str, Sequence[str]]:
    return metadata.packages_distributions()


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def owner_of(module: str) -> str | None:
    """The distribution that an installed module is of; None where there is none."""
    owners = [normal(owner) for owner in _owners().get(module, ())]
    lean = _LEAN.get(module)
    return lean if lean in owners else owners[0] if owners else None


def libraries_of(modules: Iterable[str], left_out: Iterable[str] = ()) -> dict[str, Library]:
    """The distributions of these modules and all that they require here, by their names, without those left out.

    Raises ConfigError for a module that is not installed.
    """
    without = {normal(name) for name in left_out}
    wanted = []
    for module in modules:
        owner = owner_of(module)
        if owner is None:
            raise ConfigError(f"the package needs {module}, which is not installed here: pip install it")
        wanted.append(owner)
    found: dict[str, Library] = {}
    while wanted:
        name = wanted.pop()
        if name in found or name in without:
            continue
        distribution = metadata.distribution(name)
        found[name] = _library(name, distribution)
        wanted += [one for one in _required(distribution) if one not in _UNUSED.get(name, ())]
    return dict(sorted(found.items()))


def _required(distribution: metadata.Distribution) -> list[str]:
    """What a distribution requires here, of which what is not installed is not missed."""
    from packaging.requirements import Requirement

    names = []
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            names.append(normal(requirement.name))
    return [name for name in names if _is_installed(name)]


@functools.cache
def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _library(name: str, distribution: metadata.Distribution) -> Library:
    files = {}
    for file in distribution.files or ():
        place = PurePosixPath(file.as_posix())
        if ".." not in place.parts and not place.is_absolute():
            files[place] = Path(str(file.locate()))
    wheel = distribution.read_text("WHEEL") or ""
    return Library(name, distribution.version, files, _glibc(_TAG.findall(wheel)))


def _glibc(platforms: Sequence[str]) -> tuple[int, int] | None:
    """The least version of glibc of a wheel's platforms; None for those of no manylinux."""
    if not platforms or "any" in platforms:
        return (0, 0)
    needed = []
    for platform in ".".join(platforms).split("."):
        found = _MANYLINUX.match(platform)
        legacy = next((version for old, version in _LEGACY.items() if platform.startswith(f"{old}_")), None)
        if found:
            needed.append((int(found[1]), int(found[2])))
        elif legacy:
            needed.append(legacy)
    return min(needed, default=None)
