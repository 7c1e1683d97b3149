"""A job packaged as a function of a cloud: our own code, the prepared job, its models, and the libraries they need.

`kinds` says what the clouds take, `libraries` what models need, `trimming` what is kept of it, and `trying` runs the
package by itself before it is written. What a function does with one is in `serving.packaged`.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import lakehouse
from lakehouse.errors import ConfigError
from lakehouse.serving import packaged
from lakehouse.serving.packaged import MODELS, Settings
from lakehouse.serving.packaging import trimming
from lakehouse.serving.packaging.kinds import GLIBC, Kind
from lakehouse.serving.packaging.libraries import Library, libraries_of, modules_for, owner_of
from lakehouse.serving.packaging.trying import Missing, answers_here, try_package
from lakehouse.serving.prepared import Prepared

_NOT_SERVING = frozenset(
    [
        "api.py", "cli", "config", "connectors", "demo", "observe", "operations", "pipeline.py", "planning", "runs",
        "sinks", "sources", "views",
    ]
)  # fmt: skip
"""Of our own package: what reads job files, and runs them."""
_MODEL, _OWN, _REST = "the model", "lakehouse", "the rest"
_TURNS = 8
"""So many modules at most are found missing, one after the other."""
_SHOWN = 5
_ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Wanted:
    """What is to be packaged. `inside`: libraries go into the zip; `left_out`: those that don't, by name.

    `glibc`: that of where it runs, None for the cloud's own runtime; `job`: the job file's text.
    """

    kind: Kind
    settings: Settings
    inside: bool
    left_out: tuple[str, ...]
    glibc: GLIBC | None
    job: str


@dataclass(frozen=True)
class Packed:
    """A package that was made. `parts`: bytes of each part, unzipped and zipped, the largest first.

    `seconds`: until it could answer, in a process of its own on this machine.
    """

    zip: Path
    python: str
    architecture: str
    glibc: GLIBC | None
    libraries: Mapping[str, str]
    parts: Mapping[str, tuple[int, int]]
    seconds: float

    @property
    def sizes(self) -> tuple[int, int]:
        """All of it, unzipped and zipped."""
        return sum(size for size, _ in self.parts.values()), sum(size for _, size in self.parts.values())


@dataclass
class _Folder:
    """Where a package is put together. `of`: which part each of its files is of."""

    path: Path
    of: dict[PurePosixPath, str] = field(default_factory=dict)

    def sizes(self) -> Counter[str]:
        found = Counter[str]()
        for place, part in self.of.items():
            found[part] += (self.path / place).stat().st_size
        return found


def package(prepared: Prepared, wanted: Wanted, folder: Path, out: Path) -> Packed:
    """Make the package of a prepared job in an empty folder, try it, and write it as a zip.

    Raises ConfigError where its libraries can't run there and where it is too large, ModelRefused where it doesn't
    answer as the job does here.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    made = _Folder(folder)
    libraries = libraries_of(modules_for(prepared), wanted.left_out)
    if wanted.inside:
        _require_platform(wanted.kind, python)
    _write_own(made, wanted)
    for digest, model in prepared.folders.items():
        _write_tree(made, Path(str(model)), PurePosixPath(MODELS) / digest, _MODEL)
    seconds = _tried(made, prepared, wanted, libraries, python)
    parts = _zip(made, out)
    return Packed(
        out,
        python,
        _ARCHITECTURES.get(platform.machine(), platform.machine()),
        max(map(_needed, libraries.values())) if wanted.inside else None,
        {name: one.version for name, one in libraries.items()},
        parts,
        seconds,
    )


def _tried(made: _Folder, prepared: Prepared, wanted: Wanted, libraries: dict[str, Library], python: str) -> float:
    """Add the libraries, and those that are found missing, until the package answers; the seconds that takes."""
    expected = answers_here(prepared)
    for _ in range(_TURNS):
        _require_runs_there(wanted, libraries, python)
        if wanted.inside:
            _write_libraries(made, libraries)
        _write_about(made, prepared, wanted, libraries, python)
        _require_small(made, wanted)
        try:
            return try_package(made.path, expected, alone=wanted.inside)
        except Missing as missing:
            if missing.module == lakehouse.__name__:  # what serving imports is to be among what is packaged
                raise AssertionError(f"a part of our own that is left out is needed: {missing.said}") from missing
            owner = owner_of(missing.module)
            if owner is None or owner in libraries or owner in wanted.left_out:
                name = missing.module
                said = f"the package lacks {name}, which it needs to score: install it here, and don't leave it out"
                raise ConfigError(said) from None
            libraries.update(libraries_of([missing.module], wanted.left_out))
    raise ConfigError(f"the package lacks more than {_TURNS} modules: package with --libraries listed")


def _require_platform(kind: Kind, python: str) -> None:
    """Libraries are those of this environment, so that it has to be of the kind that the cloud runs."""
    here = f"{platform.python_implementation()} {python} on {platform.system()} {platform.machine()}"
    if (
        sys.platform != "linux"
        or platform.machine() not in _ARCHITECTURES
        or platform.python_implementation() != "CPython"
        or python not in kind.runtimes
    ):
        raise ConfigError(
            f"libraries are taken from this environment, {here}; {kind.name} runs CPython "
            f"{', '.join(kind.runtimes)} on Linux: package there, or with --libraries listed"
        )


def _require_runs_there(wanted: Wanted, libraries: Mapping[str, Library], python: str) -> None:
    """Raise ConfigError where the libraries can't be loaded by the system that the package is for."""
    if not wanted.inside:
        return
    if own := [one for one in libraries.values() if one.glibc is None]:
        raise ConfigError(
            f"{own[0].name} was built on this machine, and may run on no other: install its wheel for Linux in general "
            "(manylinux), or package with --libraries listed"
        )
    there = wanted.glibc or wanted.kind.runtimes[python]
    if newer := [one for one in libraries.values() if _needed(one) > there]:
        named = ", ".join(f"{one.name} {one.version} needs {_dotted(_needed(one))}" for one in newer[:_SHOWN])
        good = [version for version, has in wanted.kind.runtimes.items() if has >= max(map(_needed, newer))]
        instead = f"package with Python {' or '.join(good)}, or " if good and wanted.glibc is None else ""
        raise ConfigError(
            f"where Python {python} runs as a {wanted.kind.name} the C library is {_dotted(there)}, and {named}: "
            f"{instead}say by --glibc what it is where the package runs, such as in an image of your own"
        )


def _needed(library: Library) -> GLIBC:
    return library.glibc or (0, 0)


def _dotted(version: GLIBC) -> str:
    return "glibc {}.{}".format(*version)


def _require_small(made: _Folder, wanted: Wanted) -> None:
    sizes, most = made.sizes(), wanted.kind.most
    if most is None or not wanted.inside or sizes.total() <= most:
        return
    largest = ", ".join(f"{part} {size / 1e6:.0f} MB" for part, size in sizes.most_common(_SHOWN))
    raise ConfigError(
        f"the package has {sizes.total() / 1e6:.0f} MB unzipped, {wanted.kind.name} takes {most / 1e6:.0f} MB; the "
        f"largest parts: {largest}. Leave out what isn't needed (--leave-out NAME), or package with --libraries listed "
        "and run it as an image"
    )


def _write_own(made: _Folder, wanted: Wanted) -> None:
    root = Path(lakehouse.__file__).parent
    for source in sorted(root.rglob("*")):
        place = PurePosixPath(root.name) / source.relative_to(root).as_posix()
        if source.is_dir() or "__pycache__" in place.parts or place.parts[1] in _NOT_SERVING:
            continue
        _write(made, place, source, _OWN)
        if wanted.inside and source.suffix == ".py":
            cache = PurePosixPath(importlib.util.cache_from_source(str(place)))
            if trimming.compile_to(source, place, made.path / cache):
                made.of[cache] = _OWN
    for name, text in {wanted.kind.file: wanted.kind.text, "job.yaml": wanted.job}.items():
        (made.path / name).write_text(text, encoding="utf-8")
        made.of[PurePosixPath(name)] = _REST


def _write_tree(made: _Folder, source: Path, place: PurePosixPath, part: str) -> None:
    for file in sorted(p for p in source.rglob("*") if p.is_file()):
        _write(made, place / file.relative_to(source).as_posix(), file, part)


def _write(made: _Folder, place: PurePosixPath, source: Path, part: str) -> None:
    target = made.path / place
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    made.of[place] = part


def _write_libraries(made: _Folder, libraries: Mapping[str, Library]) -> None:
    """Copy those that aren't there yet."""
    there = set(made.of.values())
    for library in libraries.values():
        if library.name in there:
            continue
        for place, source in library.files.items():
            if trimming.is_kept(place) and source.is_file():
                made.of[trimming.copy(source, place, made.path)] = library.name


def _write_about(
    made: _Folder, prepared: Prepared, wanted: Wanted, libraries: Mapping[str, Library], python: str
) -> None:
    versions = {name: one.version for name, one in libraries.items()}
    about = {
        "job": prepared.job,
        "lakehouse": lakehouse.__version__,
        "models": dict.fromkeys(prepared.folders, prepared.model.get("name")),
        "model": {part: prepared.model.get(part) for part in ("name", "version", "digest")},
        "python": python,
        "libraries_inside": wanted.inside,
        "libraries": versions,
    }
    packaged.write(prepared, wanted.settings, about, made.path)
    names = [packaged.SERVED, packaged.ABOUT]
    if not wanted.inside:
        lines = [*wanted.kind.listed, *(f"{name}=={version}" for name, version in versions.items())]
        (made.path / "requirements.txt").write_text("\n".join(lines) + "\n")
        names.append("requirements.txt")
    made.of |= dict.fromkeys(map(PurePosixPath, names), _REST)


def _zip(made: _Folder, out: Path) -> dict[str, tuple[int, int]]:
    """Write the zip, the same for the same files; each part's bytes, unzipped and zipped."""
    sizes = dict[str, tuple[int, int]]()
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, part in sorted(made.of.items()):
            file = made.path / place
            info = zipfile.ZipInfo(str(place), (1980, 1, 1, 0, 0, 0))
            info.external_attr = (0o100755 if ".so" in place.suffixes else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, file.read_bytes())
            unzipped, zipped = sizes.get(part, (0, 0))
            sizes[part] = unzipped + info.file_size, zipped + info.compress_size
    return dict(sorted(sizes.items(), key=lambda one: -one[1][0]))
