"""Interpreters of a wanted minor version of Python on this machine, asked what they are before they are used."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lakehouse.errors import ConfigError, ModelRefused

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
_SECONDS = 20
_ASK = """
import json, os, platform, sys, sysconfig
info = sys.implementation.version
full = "{}.{}.{}".format(info.major, info.minor, info.micro)
print(json.dumps({
    "minor": "{}.{}".format(*sys.version_info[:2]),
    "platform": sysconfig.get_platform() + "-" + (sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag),
    "markers": {
        "implementation_name": sys.implementation.name, "implementation_version": full, "os_name": os.name,
        "platform_machine": platform.machine(), "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(), "platform_system": platform.system(),
        "platform_version": platform.version(), "python_full_version": platform.python_version(),
        "python_version": "{}.{}".format(*sys.version_info[:2]), "sys_platform": sys.platform, "extra": "",
    },
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python: its path, minor version, platform and ABI in one text, and the values of environment markers."""

    path: str
    minor: str
    platform: str
    markers: tuple[tuple[str, str], ...]

    @property
    def version(self) -> str:
        """The whole version, as "3.12.1"."""
        return dict(self.markers)["python_full_version"]


def find(minor: str, named: str | None, first: str = "") -> Interpreter:
    """An interpreter of this minor version. `named`: the path that the job says; `first`: where one may be.

    Else this very one, one on PATH, one that uv knows, or one that lies beside this one's installation.
    Raises ConfigError where the named one is none or of another version, ModelRefused where there is none.
    """
    if named is not None:
        return _named(named, minor)
    for path in (*([first] if first else ()), *_candidates(minor)):
        found = _asked(path)
        if found is not None and found.minor == minor:
            return found
    raise ModelRefused(
        f"environment: isolated: the model was logged with Python {minor}, and there is none here: install it (uv "
        f"python install {minor}), or name one: model: {{isolation: {{python: /path/to/python{minor}}}}}"
    )


def _named(named: str, minor: str) -> Interpreter:
    path = shutil.which(os.path.expanduser(named))
    found = _asked(path) if path else None
    if found is None:
        raise ConfigError(f"model.isolation.python: {named!r} is no Python that runs here")
    if found.minor != minor:
        raise ConfigError(
            f"model.isolation.python: {named} is Python {found.version}, the model was logged with {minor}"
        )
    return found


def _candidates(minor: str) -> Iterator[str]:
    if minor == HERE:
        yield sys.executable
    name = f"python{minor}"
    for folder in os.get_exec_path():
        for file in (Path(folder) / name, Path(folder) / "python3"):
            if os.access(file, os.X_OK):
                yield str(file)
    for file in sorted(Path(sys.base_prefix).parent.glob(f"*{minor}*/bin/{name}"), reverse=True):
        yield str(file)
    if uv := shutil.which("uv"):
        said = _run([uv, "python", "find", "--no-python-downloads", "--no-project", minor])
        if said:
            yield said.strip()


@functools.cache
def _asked(path: str) -> Interpreter | None:
    """What a Python says of itself; None for a file that is none, such as a version manager's that names no version."""
    said = _run([path, "-I", "-S", "-c", _ASK])
    try:
        found = json.loads(said)
        return Interpreter(path, found["minor"], found["platform"], tuple(sorted(found["markers"].items())))
    except (ValueError, KeyError, TypeError):
        return None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeError):
        return ""
    return done.stdout if done.returncode == 0 else ""
