"""What a model's environment is to be made of: a Python, and packages, as the model's own files say; all read as text.

The model's `uv.lock` where MLflow stored one, else `requirements.txt`, else the pip list of its Conda file. Whatever
makes an installer look elsewhere than in the index, or run code of a place that the model names, is refused unless the
job accepts that very line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import ModelRefused
from lakehouse.models.environment import PYTHON, conda_requirements, recorded_environment
from lakehouse.models.flavors.calling import is_plain_name
from lakehouse.models.loading import read_description

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from lakehouse.config.model import Isolation

LOCK, REQUIREMENTS = "uv.lock", "requirements.txt"
_OLDEST = (3, 11)
_MINOR = re.compile(r"(\d+)\.(\d+)")
_INDEX = re.compile(r"^(-i|--index-url|--extra-index-url|-f|--find-links)(?:[\s=]+|$)(.*)$")
_CONSTRAINTS = re.compile(r"^(?:-c|--constraint)(?:[\s=]+)(\S+)$")
_HASHES = re.compile(r"\s+--hash[=\s]\S+")


@dataclass(frozen=True)
class Asked:
    """Lines for an installer. `origin`: the file they are of; `lock`: the text of a uv.lock, from which they are made
    for one interpreter. `minor`: of Python, as "3.12"; `notes`: what was added or assumed.
    """

    minor: str
    origin: str
    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    lock: str = ""
    notes: tuple[str, ...] = ()


def asked_of(path: Path, isolation: Isolation, here: str) -> Asked:
    """What the files of a fetched model ask for. `here`: this process's minor version, for a model that names none.

    Raises ModelRefused for a line that is not accepted, for one that can't be read, and where nothing is asked for.
    """
    minor, notes = _minor_of(path, here)
    if (text := _text_of(path / LOCK)) is not None:
        return Asked(minor, LOCK, lock=text, notes=notes)
    origin, lines = REQUIREMENTS, _lines_of(path / REQUIREMENTS)
    if lines is None:
        origin = "the pip list of its Conda file"
        lines, others = conda_requirements(path)
        notes += (f"its Conda file also lists {', '.join(others)}, which pip does not install",) if others else ()
    if not lines:
        raise ModelRefused(
            f"environment: isolated: the model has neither {LOCK} nor {REQUIREMENTS}, so that nothing says what its "
            "environment is: log it again with pip_requirements"
        )
    wanted, constraints = [], list[str]()
    for line in lines:
        if found := _CONSTRAINTS.match(line):
            constraints += _checked(_constraints(path, found[1], origin), isolation, found[1])
        else:
            wanted.append(line)
    required = _checked(wanted, isolation, origin)
    more = _missing(path, required)
    notes += (f"its environment also gets {', '.join(more)}, to load the model and feed it",) if more else ()
    return Asked(minor, origin, (*required, *more), tuple(constraints), notes=notes)


def _minor_of(path: Path, here: str) -> tuple[str, tuple[str, ...]]:
    version = recorded_environment(path).versions.get(PYTHON)
    if version is None:
        return here, (f"the model doesn't say which Python it was logged with: {here}, as here, is taken",)
    found = _MINOR.match(version)
    if not found:
        raise ModelRefused(f"environment: isolated: the model names Python {version!r}, which is no version")
    if (int(found[1]), int(found[2])) < _OLDEST:
        raise ModelRefused(
            f"environment: isolated: the model was logged with Python {version}, and its own process needs 3.11 or "
            "later: train it again with one of these"
        )
    return f"{found[1]}.{found[2]}", ()


def _text_of(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise ModelRefused(f"environment: isolated: the model's {file.name} can't be read: {error}") from error


def _lines_of(file: Path) -> list[str] | None:
    """The lines of a file of requirements, joined where they go on, without remarks."""
    text = _text_of(file)
    if text is None:
        return None
    joined = re.sub(r"\\\r?\n", " ", text)
    return [bare for line in joined.splitlines() if (bare := re.sub(r"(^|\s)#.*$", "", line).strip())]


def _constraints(path: Path, name: str, origin: str) -> list[str]:
    found = _lines_of(path / name) if is_plain_name(name) else None
    if found is None:
        raise ModelRefused(f"environment: isolated: {origin} names constraints {name!r}, which is no file of the model")
    return found


def _checked(lines: Sequence[str], isolation: Isolation, origin: str) -> list[str]:
    """The lines without those of an index that the job names, which is used anyway.

    Raises ModelRefused for a line that is neither a plain requirement nor accepted by the job.
    """
    kept = []
    for line in lines:
        if line in isolation.accept:
            kept.append(line)
        elif (found := _INDEX.match(line)) and "index" in found[1] and found[2].strip() == isolation.index:
            continue
        elif why := _is_foreign(line):
            raise ModelRefused(
                f"environment: isolated: {origin} has {shown(line)!r}, {why}: if you trust it, accept this line\n"
                f"    model: {{isolation: {{accept: [{shown(line)!r}]}}}}"
            )
        else:
            kept.append(line)
    return kept


def shown(line: str) -> str:
    """A line without what may be a password in its address."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", line)


def _is_foreign(line: str) -> str:
    """Why a line may not be handed to an installer; empty for a plain requirement from the index."""
    if line.startswith("-"):
        return "which makes the installer look elsewhere" if _INDEX.match(line) else "an option for the installer"
    requirement = _parsed(_HASHES.sub("", line))
    if requirement is None:
        return "which is no package of an index by its name"
    return "which is taken from an address of its own" if requirement.url else ""


def _parsed(line: str) -> Requirement | None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _missing(path: Path, lines: Sequence[str]) -> tuple[str, ...]:
    """What a model's process needs besides: MLflow as it was logged with, and what rows come and are made into."""
    have = {canonical(found.name) for line in lines if (found := _parsed(_HASHES.sub("", line)))}
    version = read_description(path).get("mlflow_version")
    more = []
    if not have & {"mlflow", "mlflow-skinny"}:
        more.append(f"mlflow-skinny=={version}" if re.fullmatch(r"[0-9.]+", str(version)) else "mlflow-skinny")
    if "mlflow" in have:  # it brings the rest
        return tuple(more)
    return (*more, *(name for name in ("pandas<3", "pyarrow", "numpy") if name.partition("<")[0] not in have))


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lines_for(asked: Asked, markers: Mapping[str, str], isolation: Isolation) -> Asked:
    """What is asked for with the packages of its lock file that one interpreter needs, pinned with their digests.

    `markers`: what the interpreter says of itself, as environment markers name it.
    """
    if not asked.lock:
        return asked
    lines = tuple(sorted(_locked(asked.lock, markers, isolation)))
    have = {re.split(r"[=\s]", line)[0] for line in lines}
    lacks = [n for n in ("numpy", "pandas", "pyarrow") if n not in have]
    lacks += [] if have & {"mlflow", "mlflow-skinny"} else ["mlflow"]
    if lacks:
        raise ModelRefused(
            f"environment: isolated: the model's {LOCK} has no {', '.join(lacks)}, without which it can't be loaded or "
            "fed: add them to that project and log the model again"
        )
    return replace(asked, lines=lines)


def _locked(text: str, markers: Mapping[str, str], isolation: Isolation) -> Iterator[str]:
    """`name==version --hash=…` of every package that the project of a uv.lock needs on an interpreter."""
    import tomllib

    try:
        packages = tomllib.loads(text).get("package", [])
        roots = [p for p in packages if set(p.get("source", {})) & {"virtual", "editable", "directory"}]
        if len(roots) != 1:
            raise ModelRefused(
                f"environment: isolated: the model's {LOCK} is of {len(roots)} projects; one is understood"
            )
        known: dict[str, list[Any]] = {}
        for package in packages:
            known.setdefault(package["name"], []).append(package)
        seen: dict[tuple[str, str], Any] = {}
        waiting, root = list(_needed(roots[0], (), markers)), roots[0]["name"]
        while waiting:
            need = waiting.pop()
            if need["name"] == root:
                continue
            package = _package(known, need)
            key = (package["name"], ",".join(sorted(need.get("extra", ()))))
            if key not in seen:
                seen[key] = package
                waiting += _needed(package, need.get("extra", ()), markers)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ModelRefused(f"environment: isolated: the model's {LOCK} can't be read: {error!r}") from error
    for package in {p["name"]: p for p in seen.values()}.values():
        yield _pinned(package, isolation)


def _needed(package: Mapping[str, Any], extras: Sequence[str], markers: Mapping[str, str]) -> Iterator[Any]:
    from packaging.markers import Marker

    needs = list(package.get("dependencies", ()))
    for extra in extras:
        needs += package.get("optional-dependencies", {}).get(extra, ())
    for need in needs:
        if "marker" not in need or Marker(need["marker"]).evaluate(dict(markers)):
            yield need


def _package(known: Mapping[str, list[Any]], need: Mapping[str, Any]) -> Any:
    found = [p for p in known.get(need["name"], ()) if need.get("version") in (None, p.get("version"))]
    if len(found) != 1:
        raise ModelRefused(f"environment: isolated: the model's {LOCK} has {len(found)} packages {need['name']!r}")
    return found[0]


_PYPI = "https://pypi.org/simple"


def _pinned(package: Mapping[str, Any], isolation: Isolation) -> str:
    """A package of an index as a line; the index is the job's whatever the lock names, so it must be one of these."""
    name, source = str(package["name"]), package.get("source", {})
    line = f"{name}=={package['version']}"
    if _parsed(line) is None:
        raise ModelRefused(f"environment: isolated: the model's {LOCK} has {line!r}, which is no package")
    place = str(source.get("registry", "")).rstrip("/")
    accepted = {_PYPI, (isolation.index or _PYPI).rstrip("/"), *(a.rstrip("/") for a in isolation.accept)}
    if place not in accepted:
        where = shown(place or ", ".join(f"{kind} {value}" for kind, value in source.items()))
        raise ModelRefused(
            f"environment: isolated: the model's {LOCK} takes {name} from {where!r}: if you trust it, name it as the "
            "index\n    model: {isolation: {index: …}}"
        )
    files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else [])]
    hashes = " ".join(f"--hash={file['hash']}" for file in files if re.fullmatch(r"\w+:[0-9a-f]+", file["hash"]))
    return f"{line} {hashes}".strip()
