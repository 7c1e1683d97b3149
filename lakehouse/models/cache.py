"""Model versions that were fetched before, in a folder of this machine: by the digest of their bytes.

    <folder>/<name>-<key>/<digest>/            the files of a version, as they were judged
    <folder>/<name>-<key>/version-<key>.json   which of these a version was, rewritten by each run with it
    <folder>/<name>-<key>/uri-<key>.json       the version that a URI was last resolved to, and when

The key of a model is of its registry too. Files come to their places whole, so that any number of processes share the
folder; what is not there, or is not what it was, is not kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse import formats
from lakehouse.models.connection import addresses, without_secrets
from lakehouse.models.loading import digest_of
from lakehouse.models.registry import FetchedModel, Resolved
from lakehouse.storage import locate, write_durably

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig

VERSIONS = 5
"""Versions of a model that are kept: those that were used last."""
_NEW = ".new-"
_A_DAY = 86400


@dataclass(frozen=True)
class Kept:
    """A version that is kept. `asked`: the job's URI; `at`: when it was looked up (UTC, ISO 8601)."""

    asked: str
    uri: str
    name: str
    version: str
    origin: str
    digest: str
    at: str

    @property
    def resolved(self) -> Resolved:
        """The version that it is."""
        return Resolved(self.uri, self.name, self.version, self.origin)


def home_of(config: ModelConfig, root: Path) -> Path:
    """The folder of a job's model: of what it is called, and of the servers that know it by that name."""
    tracking, registry = addresses(config)
    name = re.split(r"[@]|/\d+$", config.uri.partition(":")[2].strip("/"))[0]
    key = _key("\n".join([_place(tracking), _place(registry), config.uri.partition(":")[0], name]))
    return root / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:60]}-{key}"


def _place(uri: str) -> str:
    """An address that means one server wherever, and as whoever, it is asked from."""
    if uri.startswith("databricks"):
        return " ".join([uri, *(os.environ.get(n, "") for n in ("DATABRICKS_HOST", "DATABRICKS_CONFIG_PROFILE"))])
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return without_secrets(uri) if ":" in uri else str(Path(uri).absolute())


def last_of(config: ModelConfig, root: Path) -> Kept | None:
    """What this very URI was last resolved to. Raises ConfigError where a newer program has written it."""
    return _read(_uri_file(home_of(config, root), config.uri))


def version_of(config: ModelConfig, root: Path, resolved: Resolved) -> Kept | None:
    """A version that was fetched before, if its registry says the same of it as then."""
    kept = _read(_version_file(home_of(config, root), resolved.uri))
    return kept if kept and resolved.origin and kept.origin == resolved.origin else None


def take(config: ModelConfig, root: Path, kept: Kept, folder: Path) -> Path | None:
    """A copy of the version's files below `folder`, None where they are not there or not what they were."""
    place = home_of(config, root) / kept.digest
    copy = folder / f"kept-{kept.digest[:16]}"
    try:
        shutil.copytree(place, copy, symlinks=True)
    except OSError:  # never there, or another process has just taken it away
        return None
    if digest_of(copy) == kept.digest:
        return copy
    _remove(place)
    return None


def keep(config: ModelConfig, root: Path, resolved: Resolved, model: FetchedModel, at: datetime) -> None:
    """Keep a version that was looked up at this time, and of its model no more than `VERSIONS`."""
    home = home_of(config, root)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = Kept(
        config.uri, resolved.uri, resolved.name, resolved.version, resolved.origin, model.digest,
        at.isoformat(timespec="seconds"),
    )  # fmt: skip
    # The version's file comes first: a folder that no such file names may be taken away at any time.
    _write(_version_file(home, resolved.uri), kept)
    if not (home / model.digest).is_dir():
        with tempfile.TemporaryDirectory(dir=home, prefix=_NEW, ignore_cleanup_errors=True) as new:
            made = shutil.copytree(model.path, Path(new) / "model", symlinks=True)
            with suppress(OSError):  # another process was faster
                made.rename(home / model.digest)
    _write(_uri_file(home, config.uri), kept)
    _prune(home)


def _prune(home: Path) -> None:
    """Take away what was not used for longest, and what nobody knows of any more."""
    folders = [path for path in home.iterdir() if path.is_dir()]  # before the versions: see `keep`
    versions = sorted(home.glob("version-*.json"), key=_changed, reverse=True)
    for path in versions[VERSIONS:]:
        path.unlink(missing_ok=True)
    named = {kept.digest for path in versions[:VERSIONS] if (kept := _read(path))}
    for path in folders:
        if path.name.startswith(_NEW):
            if time.time() - _changed(path) > _A_DAY:
                shutil.rmtree(path, ignore_errors=True)
        elif path.name not in named:
            _remove(path)
    for path in home.glob("uri-*.json"):
        if (kept := _read(path)) and not (home / kept.digest).is_dir():
            path.unlink(missing_ok=True)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(place: Path) -> None:
    """Take a folder away at once, so that nobody finds half of it."""
    gone = place.with_name(f"{_NEW}{os.getpid()}-{place.name}")
    with suppress(OSError):
        place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _uri_file(home: Path, uri: str) -> Path:
    return home / f"uri-{_key(uri)}.json"


def _version_file(home: Path, uri: str) -> Path:
    return home / f"version-{_key(uri)}.json"


def _write(path: Path, kept: Kept) -> None:
    write_durably(locate(str(path)), json.dumps(formats.with_version(formats.MODEL, asdict(kept))).encode())


def _read(path: Path) -> Kept | None:
    try:
        said: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(said, dict):
        return None
    formats.require(formats.MODEL, said, str(path))
    try:
        return Kept(**formats.known_fields(Kept, said))
    except TypeError:  # a key is missing: not ours
        return None
