"""What a function of a cloud serves with: a folder that `lakehouse package` has filled, with one job and its models.

It needs no registry and no lake: the model's version is the packaged one, and published scores are not looked up.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lakehouse import formats
from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.serving.access import read_keys
from lakehouse.serving.counting import Metrics
from lakehouse.serving.limits import Limits, Rates
from lakehouse.serving.prepared import JobFile, Prepared
from lakehouse.serving.server import LOG, Server, server_for

ABOUT, SERVED, MODELS = "package.json", "package.pickle", "models"
"""In the folder: what it is, in words; the prepared jobs; the models, each below its digest."""

NO_FIGURES = "a function keeps no figures: its cloud counts requests, and its log has a line for each"


@dataclass(frozen=True)
class Settings:
    """How a package is served, settled when it is made. `keys`: where API keys are, `env:NAME` or `file:PATH`.

    `answers`: where the scores of messages go to, such as `sqs:URL`, or the variable that says so, `env:NAME`.
    """

    limits: Limits
    keys: str | None = None
    answers: str | None = None


@dataclass(frozen=True)
class Package:
    """An opened package. `server`: for requests over HTTP; `inside`: the same for whoever the cloud itself lets in.

    `is_stuck`: a call of the model goes on, for which nobody waits any more, so that no other can be made.
    """

    job: str
    server: Server
    inside: Server
    answers: str | None
    is_stuck: Callable[[], bool]

    @property
    def path(self) -> str:
        """Where rows are scored."""
        return f"/v1/{self.job}/score"


def write(prepared: Prepared, settings: Settings, about: Mapping[str, Any], folder: Path) -> None:
    """Write a prepared job and what there is to say of it; its models are copied by whoever calls this."""
    file = JobFile(Path(prepared.file.conf).name, prepared.file.target)  # no path of this machine, no override
    resolved = replace(prepared.resolved, origin="", members=(), notice="", files="")
    placed = {digest: f"{MODELS}/{digest}" for digest in prepared.folders}
    lean = replace(prepared, file=file, resolved=resolved, folders=placed, notes=())
    (folder / SERVED).write_bytes(pickle.dumps(lean, protocol=5))
    told = {**about, "settings": asdict(settings)}
    (folder / ABOUT).write_text(json.dumps(formats.with_version(formats.PACKAGE, told), indent=1) + "\n")


def open_package(folder: Path, *, alone: bool = False) -> Package:
    """Load a package's model into this process, after its digest is checked, and warm it up.

    `alone`: only to be tried, without keys and a place for answers.
    Raises ModelRefused for a model with other bytes than were judged, ConfigError for another Python than the
    libraries beside it are for, and where the API keys are not there.
    """
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    formats.require(formats.PACKAGE, about, str(folder / ABOUT))
    _require_python(about)
    said = about["settings"]
    settings = Settings(Limits(**said["limits"]), *((None, None) if alone else (said["keys"], said["answers"])))
    with open(folder / SERVED, "rb") as stream:
        stored: Prepared = pickle.load(stream)  # this package's own, as its code is
    prepared = replace(stored, folders={digest: str(folder / place) for digest, place in _folders(stored)})
    if {*prepared.folders} != {*about["models"]}:
        raise ModelRefused(f"{folder}: its models are not those that {ABOUT} names: package the job again")
    keys, waits = read_keys(settings.keys), list[bool]()
    if not keys and not alone:
        LOG.warning("no API keys: whoever reaches the function may ask")
    if settings.answers is None and not alone:
        LOG.warning("no --answers: messages have nowhere to send their scores, and fail; requests are answered")
    figures = Metrics(NO_FIGURES)
    server = server_for([prepared], settings.limits, keys, lambda: waits.append(True), figures, looks_up=False)
    inside = replace(server, keys={}, rates=Rates(None))
    return Package(
        prepared.job, server, inside, _answers(settings.answers), lambda: bool(waits) and server.gate.inside > 0
    )


def _folders(prepared: Prepared) -> list[tuple[str, str]]:
    return [(digest, place) for digest, place in prepared.folders.items() if isinstance(place, str)]


def _require_python(about: Mapping[str, Any]) -> None:
    """Libraries that lie in a package are compiled for one Python."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if about["libraries_inside"] and about["python"] != here:
        raise ConfigError(
            f"the package's libraries are for Python {about['python']}, this is {here}: choose the runtime of that "
            "Python, or package the job again with this one"
        )


def _answers(reference: str | None) -> str | None:
    """The place that a reference names; None for none. Raises ConfigError for a variable that is not set."""
    if reference is None or not reference.startswith("env:"):
        return reference
    place = os.environ.get(reference.removeprefix("env:"))
    if place is None:
        raise ConfigError(f"--answers {reference}: the environment variable is not set")
    return place
