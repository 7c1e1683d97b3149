"""Environments of models: built once as a folder of packages, and kept under the digest of what they are made of.

    <folder>/<key>/packages/       what the installer put there, compiled
    <folder>/<key>/manifest.json   what was asked for, for which Python, and what was installed

A folder comes to its place whole, so that any number of processes share it; one without a manifest is never there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import formats
from lakehouse.errors import ModelRefused, Unavailable
from lakehouse.models.isolated import archives, interpreters
from lakehouse.models.isolated.asked import Asked, asked_of, canonical, lines_for, shown
from lakehouse.models.isolated.calling import Environment
from lakehouse.models.isolated.interpreters import Interpreter

if TYPE_CHECKING:
    from lakehouse.config.model import Isolation

PACKAGES, MANIFEST = "packages", "manifest.json"
_NEW = ".new-"
_A_DAY = 86_400
_NETWORK_SECONDS = "8"
_LAST_LINES, _LONGEST = 4, 1_500
_NO_NETWORK = re.compile(
    r"failed to fetch|error sending request|dns error|connection (refused|reset|timed out|error)|timed out|timeout|"
    r"newconnectionerror|name resolution|network is unreachable|could not connect|max retries|proxyerror",
    re.IGNORECASE,
)
_NO_WHEEL = re.compile(
    r"no usable wheels|building from source is disabled|no (compatible|matching) wheels?", re.IGNORECASE
)


@dataclass(frozen=True)
class Built:
    """An environment that is there. `versions`: of its packages, by name; `how`: "kept", "fetched" or "built"."""

    environment: Environment
    versions: Mapping[str, str]
    python: str
    how: str
    notes: tuple[str, ...] = ()


def environment_for(
    path: Path, isolation: Isolation, folder: Path, say: Callable[[str], None] = lambda message: None
) -> Built:
    """The environment of a fetched model, from the folder, from `isolation.cache` or built anew.

    `say` is told before something is done that takes long. Raises ModelRefused for what the job does not accept, what
    can't be resolved or installed, and where the Python isn't here; Unavailable where the index can't be reached.
    """
    asked = asked_of(path, isolation, interpreters.HERE)
    interpreter = interpreters.find(asked.minor, isolation.python)
    asked = lines_for(asked, dict(interpreter.markers), isolation)
    key = key_of(asked, interpreter, isolation)
    root, shared = archives.places(isolation.cache, folder)
    how, notes = "kept", asked.notes
    installed = _installed(root / key)
    if installed is None:
        _set_aside(root, key)
        what = f"the environment of Python {asked.minor} and {len(asked.lines)} packages by {asked.origin}"
        how = "fetched" if shared is not None and archives.take(shared, root, key, say) else "built"
    if how == "built":
        say(f"building {what}, which is done once")
        _build(asked, interpreter, isolation, root, key)
        if shared is not None:
            notes += (archives.keep(root / key, shared, key),)
    if installed is None and (installed := _installed(root / key)) is None:
        raise ModelRefused(f"environment: isolated: what was put into {root / key} can't be read: remove that folder")
    environment = Environment(key, str(root / key / PACKAGES), interpreter.path, interpreter.minor)
    return Built(environment, installed, interpreter.version, how, tuple(filter(None, notes)))


def key_of(asked: Asked, interpreter: Interpreter, isolation: Isolation) -> str:
    """The digest of all that decides what is installed."""
    said = [
        formats.ENVIRONMENT.version, interpreter.platform, asked.minor, sorted(asked.lines), sorted(asked.constraints),
        bool(asked.lock), isolation.index, isolation.builds,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _installed(place: Path) -> dict[str, str] | None:
    """The packages of an environment that is kept, by their names; None where it isn't there as a whole.

    Raises ConfigError where a newer program has written it.
    """
    file = place / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not (place / PACKAGES).is_dir():
        return None
    installed = formats.without_version(formats.ENVIRONMENT, content, str(file)).get("installed")
    return dict(installed) if isinstance(installed, dict) else None


def _set_aside(root: Path, key: str) -> None:
    """Take away what stands in an environment's place and is none, such as one that somebody deleted in part."""
    gone = root / f"{_NEW}{os.getpid()}-{key[:16]}"
    with suppress(OSError):
        (root / key).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _build(asked: Asked, interpreter: Interpreter, isolation: Isolation, root: Path, key: str) -> None:
    """Install into a new folder beside the place, and move it there; where another process was faster, its is taken."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in root.glob(f"{_NEW}*"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > _A_DAY:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=_NEW, ignore_cleanup_errors=True) as made:
        whole, work = Path(made) / "environment", Path(made) / "work"
        packages = whole / PACKAGES
        packages.mkdir(parents=True)
        work.mkdir()
        by = _install(asked, interpreter, isolation, packages, work)
        installed = installed_in(packages)
        manifest = {
            "key": key, "python": asked.minor, "platform": interpreter.platform, "origin": asked.origin, "by": by,
            "asked": [shown(line) for line in asked.lines], "installed": installed,
        }  # fmt: skip
        content = json.dumps(formats.with_version(formats.ENVIRONMENT, manifest), indent=1)
        (whole / MANIFEST).write_text(content, encoding="utf-8")
        with suppress(OSError):  # another process was faster
            whole.rename(root / key)


def installed_in(packages: Path) -> dict[str, str]:
    """The versions of the packages in a folder, by their names."""
    found = metadata.distributions(path=[str(packages)])
    return dict(sorted((canonical(d.metadata["Name"]), d.version) for d in found if d.metadata["Name"]))


def _install(asked: Asked, interpreter: Interpreter, isolation: Isolation, packages: Path, work: Path) -> str:
    """Have uv, or pip where there is no uv, install what is asked for; the installer's name."""
    wanted, limits = work / "requirements.txt", work / "constraints.txt"
    wanted.write_text("\n".join(asked.lines) + "\n", encoding="utf-8")
    limits.write_text("\n".join(asked.constraints) + "\n", encoding="utf-8")
    name, command = _installer(interpreter)
    command += ["--target", str(packages), "--requirement", str(wanted)]
    command += ["--constraint", str(limits)] if asked.constraints else []
    command += ["--require-hashes", "--no-deps"] if asked.lock else []
    command += ["--index-url", isolation.index] if isolation.index else []
    command += [] if isolation.builds == "allowed" else ["--only-binary", ":all:"]
    # Compiled files that don't go by the time of their sources are as good in an unpacked archive.
    settings = {
        "PYC_INVALIDATION_MODE": "UNCHECKED_HASH", "UV_HTTP_TIMEOUT": _NETWORK_SECONDS, "UV_HTTP_RETRIES": "1",
        "UV_HTTP_CONNECT_TIMEOUT": _NETWORK_SECONDS,
    }  # fmt: skip
    _run(command, {**os.environ, **settings}, work, asked)
    if name == "pip":
        compiled = [interpreter.path, "-I", "-S", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode"]
        subprocess.run([*compiled, "unchecked-hash", str(packages)], capture_output=True, check=False)
    return name


def _installer(interpreter: Interpreter) -> tuple[str, list[str]]:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        return "uv", [uv, "pip", "install", "--no-progress", "--compile-bytecode", "--python", interpreter.path]
    quick = ["--retries", "1", "--timeout", _NETWORK_SECONDS, "--disable-pip-version-check", "--no-input"]
    install = ["install", "--no-compile", "--progress-bar", "off", *quick]
    for has_pip in dict.fromkeys([sys.executable, interpreter.path, getattr(sys, "_base_executable", sys.executable)]):
        pip = [has_pip, "-I", "-m", "pip"]
        if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode == 0:
            return "pip", [*pip, "--python", interpreter.path, *install]
    raise ModelRefused(
        "environment: isolated: neither uv nor pip is here to build it: pip install 'lakehouse[isolated]', or put "
        "uv on PATH"
    )


def _run(command: list[str], environ: Mapping[str, str], work: Path, asked: Asked) -> None:
    try:
        done = subprocess.run(
            command, env=environ, cwd=work, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise ModelRefused(f"environment: isolated: {command[0]} can't be run: {error.strerror}") from error
    if done.returncode == 0:
        return
    said = _what_matters(done.stderr or done.stdout)
    what = f"Python {asked.minor} with the packages of {asked.origin}"
    if _NO_NETWORK.search(done.stderr):
        raise Unavailable(f"environment: isolated: {what} can't be built, the package index is not reached:\n{said}")
    if _NO_WHEEL.search(done.stderr):
        raise ModelRefused(
            f"environment: isolated: {what} can't be built of wheels alone:\n{said}\nif you trust what it would build: "
            "model: {isolation: {builds: allowed}}"
        )
    remedy = f"see the model's {asked.origin}; an index of your own is named by model: {{isolation: {{index: …}}}}"
    raise ModelRefused(f"environment: isolated: {what} can't be built:\n{said}\n{remedy}")


def _what_matters(text: str) -> str:
    """The lines of an installer's output that say why, without what may be a password."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    marked = [n for n, line in enumerate(lines) if re.match(r"\s*(error|ERROR|×|╰)", line)]
    chosen = lines[marked[0] :] if marked else lines
    return "\n".join(f"    {shown(line).strip()}" for line in chosen[:_LAST_LINES])[:_LONGEST]
