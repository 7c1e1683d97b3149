"""The command that packages a job as a function of a cloud."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.command import Answer
from lakehouse.cli.options import (
    AsJson,
    Conf,
    MaxBody,
    MaxRows,
    Overrides,
    ProjectDir,
    Rate,
    Target,
    Timeout,
)
from lakehouse.cli.outputs import Writes
from lakehouse.errors import ConfigError, nearest

if TYPE_CHECKING:
    from lakehouse.serving.packaging import Packed
    from lakehouse.serving.packaging.kinds import Kind

_PLACES = ("inside", "listed")


def package(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="lambda for AWS Lambda, function for Google's Cloud Functions")
    ],
    conf: Conf,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="ZIP", help="the zip to write; default: <job>-<kind>.zip"), Writes()
    ] = None,
    libraries: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="inside: in the zip, as lambda takes them; listed: in its requirements.txt, as function installs them",
        ),
    ] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option("--leave-out", metavar="NAME", help="a library that the package does without")
    ] = None,
    glibc: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="of the system that it runs on, if that is none of the cloud's runtimes"),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="REF", help="where the function finds API keys: env:NAME or file:PATH"),
    ] = None,
    answers: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="where scores of messages go: sqs:URL, kinesis:STREAM, pubsub:projects/…/topics/…, or env:NAME",
        ),
    ] = None,
    max_body: MaxBody = 16,
    max_rows: MaxRows = 10_000,
    timeout: Timeout = 30.0,
    queue: Annotated[int, typer.Option(metavar="N", min=1, help="requests that may wait in a process")] = 16,
    rate: Rate = None,
    target: Target = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    project_dir: ProjectDir = None,
) -> Answer:
    """Package a job with its model and libraries as a function of a cloud: a zip with only what serving needs.

    The model is judged and tried first, and the package tried in a process of its own. Exit codes: 0 written,
    2 configuration, or too large, 4 model refused, 5 an outside system is unavailable, 6 no row to try the model on.
    """
    from datetime import UTC, datetime

    from lakehouse.cli import jobs, outputs
    from lakehouse.engines import scratch
    from lakehouse.serving.limits import Limits
    from lakehouse.serving.packaged import Settings
    from lakehouse.serving.packaging import Wanted
    from lakehouse.serving.packaging import package as make
    from lakehouse.serving.packaging.kinds import KINDS
    from lakehouse.serving.prepared import JobFile
    from lakehouse.serving.preparing import prepare

    chosen = KINDS.get(kind)
    if chosen is None:
        raise ConfigError(f"there is no kind of package {kind!r}: {nearest(kind, KINDS)}")
    if libraries not in (None, *_PLACES):
        raise ConfigError(f"--libraries {libraries}: {nearest(str(libraries), _PLACES)}")
    needs = _version(glibc)
    _require_references(keys, answers, chosen)
    name = jobs.without_date(conf, target, overrides).job
    zip_file = out or Path(f"{name}-{kind}.zip")
    outputs.require("--out", zip_file)
    if zip_file.is_file() and zip_file.stat().st_size and not zipfile.is_zipfile(zip_file):
        raise ConfigError(f"--out {zip_file} is there, and is no zip: name another file")
    inside = chosen.inside if libraries is None else libraries == _PLACES[0]
    settings = Settings(Limits(max_body << 20, max_rows, timeout, queue, rate), keys, answers)
    wanted = Wanted(chosen, settings, inside, tuple(leave_out or ()), needs, Path(conf).read_text())
    file, notes = JobFile(conf, target, tuple(overrides or ())), list[str]()
    with scratch.folder() as folder:
        prepared = prepare(file, folder / "models", datetime.now(UTC), notes.append)
        (folder / "package").mkdir()
        packed = make(prepared, wanted, folder / "package", zip_file)
    if answers is None:
        notes.append("no --answers: the function answers requests, but messages have nowhere to send their scores")
    content = _content(packed, chosen, prepared.job, prepared.model)
    return Answer(content, lambda: _text(content, chosen), notes=[note for note in notes if note])


def _require_references(keys: str | None, answers: str | None, kind: Kind) -> None:
    """What is only there where the function runs is judged by how it is named. Raises ConfigError."""
    from lakehouse.references import is_reference
    from lakehouse.serving.access import NO_REFERENCE

    if keys is not None and not is_reference(keys):
        raise ConfigError(NO_REFERENCE)
    if answers is not None and not re.fullmatch("env:.+", answers):
        kind.answers_place(answers)


def _version(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)\.(\d+)", text)
    if found is None:
        raise ConfigError(f"--glibc {text}: name a version such as 2.34")
    return int(found[1]), int(found[2])


def _content(packed: Packed, kind: Kind, job: str, model: Any) -> dict[str, Any]:
    unzipped, zipped = packed.sizes
    return {
        "job": job,
        "kind": kind.name,
        "zip": str(packed.zip),
        "entry": kind.entry,
        "model": {part: model[part] for part in ("name", "version", "digest")},
        "python": packed.python,
        "architecture": packed.architecture,
        "glibc": "{}.{}".format(*packed.glibc) if packed.glibc else None,
        "unzipped": unzipped,
        "zipped": zipped,
        "limit": kind.most,
        "parts": [{"name": n, "unzipped": u, "zipped": z} for n, (u, z) in packed.parts.items()],
        "libraries": dict(packed.libraries),
        "seconds": round(packed.seconds, 2),
    }


def _text(content: dict[str, Any], kind: Kind) -> str:
    from lakehouse.views.terminal import table_text

    whole = {"name": "all", "unzipped": content["unzipped"], "zipped": content["zipped"]}
    cells = [
        [part["name"], content["libraries"].get(part["name"], ""), _mb(part["unzipped"]), _mb(part["zipped"])]
        for part in [*content["parts"], whole]
    ]
    made = f"Python {content['python']}"
    if content["glibc"]:
        made += f", Linux {content['architecture']}, glibc {content['glibc']} or later"
    model = content["model"]
    lines = [
        f"{content['zip']}: {model['name']} v{model['version']}, for {made}; entry {content['entry']}",
        *table_text(["part", "version", "MB unzipped", "MB zipped"], cells),
    ]
    if kind.most is not None:
        lines.append(f"{kind.name} takes {_mb(kind.most)} MB unzipped")
    if kind.zipped is not None and content["zipped"] > kind.zipped:
        lines.append(f"above {_mb(kind.zipped)} MB zipped it is sent by way of a bucket")
    lines.append(f"tried in a process of its own: it could answer after {content['seconds']:.2f} s")
    return "\n".join(lines)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"
