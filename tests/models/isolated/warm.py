"""Environments that need no download: this process's own packages, kept as if they had been built for a model."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

from lakehouse import formats
from lakehouse.config.model import Isolation
from lakehouse.models.isolated import interpreters
from lakehouse.models.isolated.asked import asked_of, lines_for
from lakehouse.models.isolated.building import MANIFEST, PACKAGES, installed_in, key_of
from lakehouse.models.isolated.calling import Environment

HERE = Path(sysconfig.get_path("purelib"))
TESTS = Path(__file__).parents[3]
"""Some models are pickles of what is defined in the tests."""


def environment(folder: Path, key: str = "here") -> Environment:
    """An environment of the interpreter that runs the tests, with its packages."""
    packages = folder / key / PACKAGES
    packages.mkdir(parents=True, exist_ok=True)
    (packages / "here.pth").write_text(f"{HERE}\n{TESTS}\n")
    found = interpreters.find(interpreters.HERE, None)
    return Environment(key, str(packages), found.path, found.minor)


def keep(folder: Path, model: Path, isolation: Isolation | None = None) -> str:
    """Keep such an environment in a folder as the one that the model asks for; its key."""
    isolation = isolation or Isolation()
    asked = asked_of(model, isolation, interpreters.HERE)
    found = interpreters.find(asked.minor, isolation.python)
    key = key_of(lines_for(asked, dict(found.markers), isolation), found, isolation)
    environment(folder, key)
    manifest = {"key": key, "python": asked.minor, "origin": asked.origin, "installed": installed_in(HERE)}
    (folder / key / MANIFEST).write_text(json.dumps(formats.with_version(formats.ENVIRONMENT, manifest)))
    return key
